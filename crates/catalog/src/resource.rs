//! Registered resources.

use provault_domain::{AccountId, Arn, AssignableResource, Resource};
use sqlx::{AnyConnection, Row};

use crate::absence;
use crate::error::{CatalogError, Result};
use crate::page::{Listed, Page, Select, body, micros, readable, to_body};
use crate::pool::{Catalog, any, transact};

impl Catalog {
    /// Registers a resource. `identity` is what its driver calls the thing itself (a canonical
    /// path, …): the same thing cannot be registered twice in an account, nor can two resources
    /// bear one name.
    pub async fn insert_resource(&self, resource: &Resource, identity: &str) -> Result<()> {
        transact!(self, |tx| { insert(tx, resource, identity).await })
    }

    /// The resource with this ARN.
    pub async fn resource(&self, arn: &Arn) -> Result<Option<Resource>> {
        Select::new("SELECT body FROM resources").and("arn =", arn).one(&self.read).await
    }

    /// The account's resource of this name.
    pub async fn resource_by_name(
        &self,
        account: &AccountId,
        name: &str,
    ) -> Result<Option<Resource>> {
        Select::new("SELECT body FROM resources")
            .and("account =", account)
            .and("name =", name)
            .one(&self.read)
            .await
    }

    /// The account's resources in the order they were registered.
    pub async fn list_resources(
        &self,
        account: &AccountId,
        page: Page,
    ) -> Result<Listed<Resource>> {
        Select::new("SELECT created_at, arn AS page_id, body FROM resources")
            .and("account =", account)
            .page("arn", &page)
            .listed(&self.read, &page)
            .await
    }

    /// The same for what looks after all of them as time passes: one that cannot be read is told of and
    /// does not hold up the others.
    pub async fn readable_resources(&self, account: &AccountId) -> Result<Vec<Resource>> {
        let rows = in_order(account).rows(&self.read).await?;
        Ok(readable(&rows, "a resource", body))
    }

    /// The same with what their assignment to plans needs alone, which reads faster where there are many.
    pub async fn assignable_resources(
        &self,
        account: &AccountId,
    ) -> Result<Vec<AssignableResource>> {
        let rows = in_order(account).rows(&self.read).await?;
        Ok(readable(&rows, "a resource", body))
    }

    /// Forgets a resource, unless an unfinished job works on it. Its recovery points stay.
    pub async fn delete_resource(&self, arn: &Arn) -> Result<()> {
        transact!(self, |tx| {
            let what = format!("resource {arn}");
            let open = "SELECT 1 FROM jobs WHERE resource_arn = $1 AND done = 0 LIMIT 1";
            if any(tx, open, &[arn.as_str()]).await? {
                return Err(CatalogError::in_use(what, "an unfinished job works on it."));
            }
            let deleted = sqlx::query("DELETE FROM resources WHERE arn = $1")
                .bind(arn.to_string())
                .execute(&mut *tx)
                .await?;
            if deleted.rows_affected() == 0 {
                return Err(CatalogError::not_found(what));
            }
            sqlx::query("DELETE FROM mutants WHERE resource_arn = $1")
                .bind(arn.to_string())
                .execute(&mut *tx)
                .await?;
            absence::forget(tx, arn).await
        })
    }

    /// Reads a resource, lets `change` alter it and writes it back, all in one transaction.
    /// ARN, account, kind and date of creation stay as they were, whatever `change` does; a new
    /// name must be free. `change` runs once: when somebody else altered the resource behind it,
    /// the answer is [`CatalogError::Conflict`].
    pub async fn update_resource(
        &self,
        arn: &Arn,
        change: impl FnOnce(&mut Resource) + Send,
    ) -> Result<Resource> {
        let mut change = Some(change);
        let mut changed: Option<(i64, Resource)> = None;
        let written: Option<Resource> = transact!(self, |tx| {
            let row = Select::new("SELECT version, body FROM resources")
                .and("arn =", arn)
                .row(&mut *tx)
                .await?
                .ok_or_else(|| CatalogError::not_found(format!("resource {arn}")))?;
            let version: i64 = row.try_get("version")?;
            if let Some(change) = change.take() {
                let old: Resource = body(&row)?;
                let mut new = old.clone();
                change(&mut new);
                new.arn = old.arn;
                new.account = old.account;
                new.kind = old.kind;
                new.created_at = old.created_at;
                changed = Some((version, new));
            }
            let Some((_, new)) = changed.as_ref().filter(|(seen, _)| *seen == version) else {
                return Ok(None);
            };
            let taken = "SELECT 1 FROM resources WHERE account = $1 AND name = $2 AND arn <> $3";
            if any(tx, taken, &[new.account.as_str(), &new.name, arn.as_str()]).await? {
                return Err(CatalogError::exists(format!("a resource named {}", new.name)));
            }
            let updated = sqlx::query(
                "UPDATE resources SET name = $1, body = $2, keep_at_most = $3, \
                 version = version + 1 WHERE arn = $4 AND version = $5",
            )
            .bind(new.name.clone())
            .bind(to_body(new)?)
            .bind(new.retention.keep_at_most.map(i64::from))
            .bind(arn.to_string())
            .bind(version)
            .execute(&mut *tx)
            .await?;
            Ok((updated.rows_affected() == 1).then(|| new.clone()))
        })?;
        written.ok_or_else(|| CatalogError::conflict(format!("resource {arn}")))
    }
}

fn in_order(account: &AccountId) -> Select {
    Select::new("SELECT body FROM resources")
        .and("account =", account)
        .then("ORDER BY created_at, arn")
}

pub(crate) async fn insert(
    tx: &mut AnyConnection,
    resource: &Resource,
    identity: &str,
) -> Result<()> {
    let (arn, account) = (resource.arn.as_str(), resource.account.as_str());
    let kind = resource.kind.as_str();
    if any(tx, "SELECT 1 FROM resources WHERE arn = $1", &[arn]).await? {
        return Err(CatalogError::exists(format!("resource {arn}")));
    }
    let same_name = "SELECT 1 FROM resources WHERE account = $1 AND name = $2";
    if any(tx, same_name, &[account, &resource.name]).await? {
        return Err(CatalogError::exists(format!("a resource named {}", resource.name)));
    }
    let same_thing = "SELECT 1 FROM resources WHERE account = $1 AND kind = $2 AND identity = $3";
    if any(tx, same_thing, &[account, kind, identity]).await? {
        return Err(CatalogError::exists(format!("a {kind} resource for {identity}")));
    }
    sqlx::query(
        "INSERT INTO resources (arn, account, name, kind, identity, created_at, version, \
         keep_at_most, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(arn.to_owned())
    .bind(account.to_owned())
    .bind(resource.name.clone())
    .bind(kind.to_owned())
    .bind(identity.to_owned())
    .bind(micros(resource.created_at))
    .bind(1_i64)
    .bind(resource.retention.keep_at_most.map(i64::from))
    .bind(to_body(resource)?)
    .execute(&mut *tx)
    .await?;
    Ok(())
}

//! Recovery points.

use jiff::Timestamp;
use provault_domain::recovery_point::present;
use provault_domain::{AccountId, Arn, Kind, RecoveryPoint, RecoveryPointStatus, Tags};
use sqlx::AnyConnection;

use crate::error::{CatalogError, Result};
use crate::page::{Listed, Page, Select, micros, to_body};
use crate::pool::{Catalog, any, transact};
use crate::{protected_resource, tag, vault};

/// Which recovery points are wanted; everything given must hold. Intervals include their ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PointFilter {
    /// Of this tenant; `None` for all, which only the server itself may ask.
    pub account: Option<AccountId>,
    /// In this vault.
    pub vault_name: Option<String>,
    /// Of this resource.
    pub resource_arn: Option<Arn>,
    /// Of resources of this kind.
    pub kind: Option<Kind>,
    /// Created at this moment or later.
    pub created_after: Option<Timestamp>,
    /// Created at this moment or earlier.
    pub created_before: Option<Timestamp>,
    /// Made by this plan.
    pub plan_id: Option<String>,
    /// Only those that may be restored.
    pub restorable_only: bool,
}

/// [`RecoveryPoint::is_restorable`] as a condition.
const RESTORABLE: &str = "status <> 'DELETING'";

impl Catalog {
    /// An account's recovery point.
    pub async fn recovery_point(
        &self,
        account: &AccountId,
        arn: &Arn,
    ) -> Result<Option<RecoveryPoint>> {
        Select::new("SELECT body FROM recovery_points")
            .and("arn =", arn)
            .and("account =", account)
            .one(&self.read)
            .await
    }

    /// Recovery points in the order their jobs were created.
    pub async fn list_recovery_points(
        &self,
        filter: &PointFilter,
        page: Page,
    ) -> Result<Listed<RecoveryPoint>> {
        let mut query = Select::new("SELECT created_at, arn AS page_id, body FROM recovery_points")
            .and_if("account =", filter.account.as_ref())
            .and_if("vault_name =", filter.vault_name.as_ref())
            .and_if("resource_arn =", filter.resource_arn.as_ref())
            .and_if("kind =", filter.kind.map(Kind::as_str))
            .and_if("created_at >=", filter.created_after)
            .and_if("created_at <=", filter.created_before)
            .and_if("plan_id =", filter.plan_id.as_ref());
        if filter.restorable_only {
            query = query.only(RESTORABLE);
        }
        query.page("arn", &page).listed(&self.read, &page).await
    }

    /// The resource's restorable recovery point whose data is newest at `now`. One from the future is
    /// the answer only where there is no other.
    pub async fn newest_recovery_point(
        &self,
        account: &AccountId,
        resource_arn: &Arn,
        now: Timestamp,
    ) -> Result<Option<RecoveryPoint>> {
        let query = restorable_of(account, resource_arn).and("captured_at <=", present(now));
        match query.then(NEWEST_FIRST).one(&self.read).await? {
            Some(point) => Ok(Some(point)),
            None => newest(&self.read, account, resource_arn).await,
        }
    }

    /// Takes a recovery point and its tags out of the catalog: the last act of its deletion, so
    /// it must be DELETING, else [`CatalogError::Conflict`].
    pub async fn remove_recovery_point(&self, arn: &Arn) -> Result<()> {
        let removed = transact!(self, |tx| {
            let query = Select::new("SELECT body FROM recovery_points").and("arn =", arn);
            let Some(point): Option<RecoveryPoint> = query.one(&mut *tx).await? else {
                return Err(CatalogError::not_found(format!("recovery point {arn}")));
            };
            if point.status != RecoveryPointStatus::Deleting {
                return Ok(false);
            }
            sqlx::query("DELETE FROM recovery_points WHERE arn = $1")
                .bind(arn.to_string())
                .execute(&mut *tx)
                .await?;
            tag::remove_all(tx, arn).await?;
            protected_resource::refresh(tx, &point.account, &point.resource_arn).await?;
            Ok(true)
        })?;
        if removed { Ok(()) } else { Err(CatalogError::conflict(format!("recovery point {arn}"))) }
    }

    /// Every account's recovery points in a status, for reconcilers.
    pub async fn points_with_status(
        &self,
        status: RecoveryPointStatus,
    ) -> Result<Vec<RecoveryPoint>> {
        Select::new("SELECT body FROM recovery_points")
            .and("status =", status.as_str())
            .then("ORDER BY created_at, arn")
            .all(&self.read)
            .await
    }
}

pub(crate) async fn newest<'e, E>(
    executor: E,
    account: &AccountId,
    resource_arn: &Arn,
) -> Result<Option<RecoveryPoint>>
where
    E: sqlx::Executor<'e, Database = sqlx::Any>,
{
    restorable_of(account, resource_arn).then(NEWEST_FIRST).one(executor).await
}

const NEWEST_FIRST: &str = "ORDER BY captured_at DESC, arn DESC LIMIT 1";

fn restorable_of(account: &AccountId, resource_arn: &Arn) -> Select {
    Select::new("SELECT body FROM recovery_points")
        .and("account =", account)
        .and("resource_arn =", resource_arn)
        .only(RESTORABLE)
}

pub(crate) async fn insert(
    tx: &mut AnyConnection,
    point: &RecoveryPoint,
    tags: &Tags,
) -> Result<()> {
    let arn = point.arn.as_str();
    if any(tx, "SELECT 1 FROM recovery_points WHERE arn = $1", &[arn]).await? {
        return Err(CatalogError::exists(format!("recovery point {arn}")));
    }
    // The foreign key would refuse it too, without saying what is missing.
    if vault::by_name(&mut *tx, &point.account, &point.vault_name).await?.is_none() {
        return Err(CatalogError::not_found(format!("backup vault {}", point.vault_name)));
    }
    sqlx::query(
        "INSERT INTO recovery_points (arn, account, vault_name, resource_arn, kind, plan_id, \
         status, created_at, captured_at, delete_at, body) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(arn.to_owned())
    .bind(point.account.to_string())
    .bind(point.vault_name.clone())
    .bind(point.resource_arn.to_string())
    .bind(point.kind.as_str())
    .bind(point.created_by.as_ref().map(|by| by.plan_id.clone()))
    .bind(point.status.as_str())
    .bind(micros(point.created_at))
    .bind(micros(point.captured_at))
    .bind(point.lifecycle.delete_at(point.created_at).map(micros))
    .bind(to_body(point)?)
    .execute(&mut *tx)
    .await?;
    tag::put(tx, &point.arn, tags).await?;
    protected_resource::refresh(tx, &point.account, &point.resource_arn).await
}

/// Reads, alters and writes a recovery point; `None` when there is none. Only its status and
/// what happened to it later may be altered, never what it holds.
pub(crate) async fn alter(
    tx: &mut AnyConnection,
    arn: &Arn,
    change: impl FnOnce(&mut RecoveryPoint) + Send,
) -> Result<Option<RecoveryPoint>> {
    let query = Select::new("SELECT body FROM recovery_points").and("arn =", arn);
    let Some(mut point): Option<RecoveryPoint> = query.one(&mut *tx).await? else {
        return Ok(None);
    };
    change(&mut point);
    write(tx, &point).await?;
    Ok(Some(point))
}

/// Writes back a recovery point that was read in the same transaction.
pub(crate) async fn write(tx: &mut AnyConnection, point: &RecoveryPoint) -> Result<()> {
    sqlx::query("UPDATE recovery_points SET status = $1, body = $2 WHERE arn = $3")
        .bind(point.status.as_str())
        .bind(to_body(point)?)
        .bind(point.arn.to_string())
        .execute(tx)
        .await?;
    Ok(())
}

/// Every recovery point of a resource, whatever its status.
pub(crate) async fn of_resource<'e, E>(
    executor: E,
    account: &AccountId,
    resource_arn: &Arn,
) -> Result<Vec<RecoveryPoint>>
where
    E: sqlx::Executor<'e, Database = sqlx::Any>,
{
    Select::new("SELECT body FROM recovery_points")
        .and("account =", account)
        .and("resource_arn =", resource_arn)
        .then("ORDER BY captured_at, arn")
        .all(executor)
        .await
}

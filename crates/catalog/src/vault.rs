//! Backup vaults.

use provault_domain::vault::VaultNotifications;
use provault_domain::{AccountId, Arn, BackupVault, Tags};
use sqlx::{AnyConnection, Row};

use crate::error::{CatalogError, Result};
use crate::page::{Listed, Page, Select, body, micros, to_body};
use crate::pool::{Catalog, any, transact};
use crate::{care, tag, unsettled};

impl Catalog {
    /// Adds a vault with its tags; its name in the account must be new, and its key must be there
    /// (a vault whose key is gone can never be read).
    pub async fn insert_vault(&self, vault: &BackupVault, tags: &Tags) -> Result<()> {
        transact!(self, |tx| { insert(tx, vault, tags).await })
    }

    /// Enters a vault whose making was noted by [`begin_vault`](Self::begin_vault), and strikes
    /// the note out. Not found: the note is gone, for somebody took what was made for left over.
    pub async fn insert_made_vault(&self, vault: &BackupVault, tags: &Tags) -> Result<()> {
        transact!(self, |tx| {
            unsettled::end_making(tx, vault).await?;
            insert(tx, vault, tags).await
        })
    }

    /// The vault of this name.
    pub async fn vault(&self, account: &AccountId, name: &str) -> Result<Option<BackupVault>> {
        by_name(&self.read, account, name).await
    }

    /// The account's vaults in the order they were made.
    pub async fn list_vaults(
        &self,
        account: &AccountId,
        page: Page,
    ) -> Result<Listed<BackupVault>> {
        Select::new("SELECT created_at, name AS page_id, body FROM vaults")
            .and("account =", account)
            .page("name", &page)
            .listed(&self.read, &page)
            .await
    }

    /// Every vault of every account: what the reconcilers go through.
    pub async fn all_vaults(&self) -> Result<Vec<BackupVault>> {
        let rows = Select::new("SELECT body FROM vaults")
            .then("ORDER BY created_at, name")
            .rows(&self.read)
            .await?;
        rows.iter().map(body).collect()
    }

    /// How many recovery points the vault holds, in whatever status.
    pub async fn recovery_point_count(&self, account: &AccountId, name: &str) -> Result<u64> {
        let row = Select::new("SELECT COUNT(*) AS points FROM recovery_points")
            .and("account =", account)
            .and("vault_name =", name)
            .row(&self.read)
            .await?;
        let count: i64 = row.map(|row| row.try_get("points")).transpose()?.unwrap_or(0);
        Ok(count.unsigned_abs())
    }

    /// Removes an empty vault and its tags. Recovery points and unfinished jobs in it forbid it;
    /// one that is added at the same moment either forbids it or finds the vault gone. That its
    /// repository is to be removed is noted, unless it was imported; see
    /// [`vault_is_settled`](Self::vault_is_settled).
    pub async fn delete_vault(&self, account: &AccountId, name: &str) -> Result<()> {
        transact!(self, |tx| {
            let what = format!("backup vault {name}");
            let Some(vault) = by_name(&mut *tx, account, name).await? else {
                return Err(CatalogError::not_found(what));
            };
            let args = [account.as_str(), name];
            let points =
                "SELECT 1 FROM recovery_points WHERE account = $1 AND vault_name = $2 LIMIT 1";
            if any(tx, points, &args).await? {
                return Err(CatalogError::in_use(what, "it holds recovery points."));
            }
            let jobs =
                "SELECT 1 FROM jobs WHERE account = $1 AND vault_name = $2 AND done = 0 LIMIT 1";
            if any(tx, jobs, &args).await? {
                return Err(CatalogError::in_use(what, "an unfinished job uses it."));
            }
            sqlx::query("DELETE FROM vaults WHERE account = $1 AND name = $2")
                .bind(account.to_string())
                .bind(name.to_owned())
                .execute(&mut *tx)
                .await?;
            if !vault.imported {
                unsettled::begin_removing(tx, &vault).await?;
            }
            care::remove_all(tx, &vault.arn).await?;
            tag::remove_all(tx, &vault.arn).await
        })
    }

    /// Changes a vault's settings or place; its name, ARN and key stay what they are.
    pub async fn update_vault(&self, vault: &BackupVault) -> Result<()> {
        transact!(self, |tx| {
            let Some(mut now) = by_name(&mut *tx, &vault.account, &vault.name).await? else {
                return Err(CatalogError::not_found(format!("backup vault {}", vault.name)));
            };
            now.care = vault.care.clone();
            now.location.clone_from(&vault.location);
            sqlx::query("UPDATE vaults SET body = $1 WHERE account = $2 AND name = $3")
                .bind(to_body(&now)?)
                .bind(vault.account.to_string())
                .bind(vault.name.clone())
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
    }

    /// Sets or takes away where the vault's events go; the topic must exist.
    pub async fn set_vault_notifications(
        &self,
        account: &AccountId,
        name: &str,
        notifications: Option<VaultNotifications>,
    ) -> Result<()> {
        transact!(self, |tx| {
            let Some(mut vault) = by_name(&mut *tx, account, name).await? else {
                return Err(CatalogError::not_found(format!("backup vault {name}")));
            };
            vault.notifications.clone_from(&notifications);
            let topic = vault.notifications.as_ref().map(|n| &n.topic_arn);
            require_topic(tx, topic).await?;
            sqlx::query(
                "UPDATE vaults SET topic_arn = $1, body = $2 WHERE account = $3 AND name = $4",
            )
            .bind(topic.map(Arn::to_string))
            .bind(to_body(&vault)?)
            .bind(account.to_string())
            .bind(name.to_owned())
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
    }
}

async fn insert(tx: &mut AnyConnection, vault: &BackupVault, tags: &Tags) -> Result<()> {
    let args = [vault.arn.as_str(), vault.account.as_str(), &vault.name];
    let taken = "SELECT 1 FROM vaults WHERE arn = $1 OR (account = $2 AND name = $3)";
    if any(tx, taken, &args).await? {
        return Err(CatalogError::exists(format!("backup vault {}", vault.name)));
    }
    let key = &vault.encryption_key_arn;
    if !any(tx, "SELECT 1 FROM keys WHERE arn = $1", &[key.as_str()]).await? {
        return Err(CatalogError::not_found(format!("key {key}")));
    }
    let topic = vault.notifications.as_ref().map(|n| &n.topic_arn);
    require_topic(tx, topic).await?;
    sqlx::query(
        "INSERT INTO vaults (arn, account, name, key_arn, topic_arn, created_at, body) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(vault.arn.to_string())
    .bind(vault.account.to_string())
    .bind(vault.name.clone())
    .bind(key.to_string())
    .bind(topic.map(Arn::to_string))
    .bind(micros(vault.created_at))
    .bind(to_body(vault)?)
    .execute(&mut *tx)
    .await?;
    tag::put(tx, &vault.arn, tags).await
}

/// The vault of this name, in or outside a transaction.
pub(crate) async fn by_name<'e, E>(
    executor: E,
    account: &AccountId,
    name: &str,
) -> Result<Option<BackupVault>>
where
    E: sqlx::Executor<'e, Database = sqlx::Any>,
{
    Select::new("SELECT body FROM vaults")
        .and("account =", account)
        .and("name =", name)
        .one(executor)
        .await
}

async fn require_topic(tx: &mut AnyConnection, topic: Option<&Arn>) -> Result<()> {
    let Some(topic) = topic else { return Ok(()) };
    if any(tx, "SELECT 1 FROM topics WHERE arn = $1", &[topic.as_str()]).await? {
        return Ok(());
    }
    Err(CatalogError::not_found(format!("topic {topic}")))
}

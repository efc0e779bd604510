//! Protected resources: those that something can be restored of.

use jiff::Timestamp;
use provault_domain::{AccountId, Arn, Kind};
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use crate::error::Result;
use crate::page::{Listed, Page, Select, micros, to_body};
use crate::pool::{Catalog, any};
use crate::recovery_point;

/// A resource with at least one restorable recovery point, registered still or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProtectedResource {
    /// The resource.
    pub resource_arn: Arn,
    /// Its name at its newest backup.
    pub resource_name: String,
    /// Its kind.
    pub kind: Kind,
    /// When the newest recovery point became restorable.
    pub last_backup_at: Timestamp,
    /// The vault that holds it.
    pub last_vault_arn: Arn,
    /// The newest recovery point.
    pub last_recovery_point_arn: Arn,
}

impl Catalog {
    /// The account's protected resources in the order of their first backup.
    pub async fn list_protected_resources(
        &self,
        account: &AccountId,
        page: Page,
    ) -> Result<Listed<ProtectedResource>> {
        Select::new("SELECT created_at, resource_arn AS page_id, body FROM protected_resources")
            .and("account =", account)
            .page("resource_arn", &page)
            .listed(&self.read, &page)
            .await
    }

    /// The resource's protection; `None` when nothing can be restored of it.
    pub async fn protected_resource(
        &self,
        account: &AccountId,
        resource_arn: &Arn,
    ) -> Result<Option<ProtectedResource>> {
        Select::new("SELECT body FROM protected_resources")
            .and("account =", account)
            .and("resource_arn =", resource_arn)
            .one(&self.read)
            .await
    }
}

/// Makes the row say what the recovery points say, after they changed.
pub(crate) async fn refresh(
    tx: &mut AnyConnection,
    account: &AccountId,
    resource_arn: &Arn,
) -> Result<()> {
    let Some(point) = recovery_point::newest(&mut *tx, account, resource_arn).await? else {
        sqlx::query("DELETE FROM protected_resources WHERE account = $1 AND resource_arn = $2")
            .bind(account.to_string())
            .bind(resource_arn.to_string())
            .execute(tx)
            .await?;
        return Ok(());
    };
    let row = ProtectedResource {
        resource_arn: resource_arn.clone(),
        resource_name: point.resource_name,
        kind: point.kind,
        last_backup_at: point.completed_at,
        last_vault_arn: point.vault_arn,
        last_recovery_point_arn: point.arn,
    };
    let known = "SELECT 1 FROM protected_resources WHERE account = $1 AND resource_arn = $2";
    let sql = if any(tx, known, &[account.as_str(), resource_arn.as_str()]).await? {
        // The place in the list stays that of the first backup.
        "UPDATE protected_resources SET body = $3 WHERE account = $1 AND resource_arn = $2"
    } else {
        "INSERT INTO protected_resources (account, resource_arn, body, created_at) \
         VALUES ($1, $2, $3, $4)"
    };
    let query = sqlx::query(sql)
        .bind(account.to_string())
        .bind(resource_arn.to_string())
        .bind(to_body(&row)?);
    let query =
        if sql.starts_with("INSERT") { query.bind(micros(point.created_at)) } else { query };
    query.execute(tx).await?;
    Ok(())
}

//! Access keys: who may sign requests.

use jiff::Timestamp;
use provault_domain::{AccountId, Arn};
use serde::{Deserialize, Serialize};

use crate::error::{CatalogError, Result};
use crate::page::{Select, micros, to_body};
use crate::pool::{Catalog, any, transact};

/// One access key. The secret is sealed by the server's own key, as signing needs it in clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeyRow {
    /// `AKIA…`, unique everywhere.
    pub access_key_id: String,
    /// Tenant.
    pub account: AccountId,
    /// Whom it makes the request come from.
    pub principal_arn: Arn,
    /// The secret access key, sealed.
    pub sealed_secret: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether it may be used.
    pub active: bool,
    /// When a request was signed with it, to the hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
}

impl Catalog {
    /// Adds a key; its id must be new.
    pub async fn insert_access_key(&self, row: &AccessKeyRow) -> Result<()> {
        transact!(self, |tx| {
            let id = row.access_key_id.as_str();
            if any(tx, "SELECT 1 FROM access_keys WHERE access_key_id = $1", &[id]).await? {
                return Err(CatalogError::exists(format!("access key {id}")));
            }
            sqlx::query(
                "INSERT INTO access_keys (access_key_id, account, principal, created_at, body) \
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(row.access_key_id.clone())
            .bind(row.account.to_string())
            .bind(row.principal_arn.to_string())
            .bind(micros(row.created_at))
            .bind(to_body(row)?)
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
    }

    /// The key with this id, active or not.
    pub async fn access_key(&self, access_key_id: &str) -> Result<Option<AccessKeyRow>> {
        Select::new("SELECT body FROM access_keys")
            .and("access_key_id =", access_key_id)
            .one(&self.read)
            .await
    }

    /// Every key of an account, oldest first.
    pub async fn list_access_keys(&self, account: &AccountId) -> Result<Vec<AccessKeyRow>> {
        Select::new("SELECT body FROM access_keys")
            .and("account =", account)
            .then("ORDER BY created_at, access_key_id")
            .all(&self.read)
            .await
    }

    /// Lets a key be used, or not.
    pub async fn set_access_key_active(&self, access_key_id: &str, active: bool) -> Result<()> {
        self.alter_access_key(access_key_id, |row| row.active = active).await
    }

    /// A request was signed with a key.
    pub async fn access_key_used(&self, access_key_id: &str, at: Timestamp) -> Result<()> {
        self.alter_access_key(access_key_id, |row| row.last_used_at = Some(at)).await
    }

    async fn alter_access_key(
        &self,
        access_key_id: &str,
        alter: impl Fn(&mut AccessKeyRow) + Send + Sync,
    ) -> Result<()> {
        transact!(self, |tx| {
            let query =
                Select::new("SELECT body FROM access_keys").and("access_key_id =", access_key_id);
            let row: Option<AccessKeyRow> = query.one(&mut *tx).await?;
            let Some(mut row) = row else {
                return Err(CatalogError::not_found(format!("access key {access_key_id}")));
            };
            alter(&mut row);
            sqlx::query("UPDATE access_keys SET body = $1 WHERE access_key_id = $2")
                .bind(to_body(&row)?)
                .bind(access_key_id.to_owned())
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
    }

    /// Removes a key for good.
    pub async fn delete_access_key(&self, access_key_id: &str) -> Result<()> {
        transact!(self, |tx| {
            let gone = sqlx::query("DELETE FROM access_keys WHERE access_key_id = $1")
                .bind(access_key_id.to_owned())
                .execute(&mut *tx)
                .await?;
            if gone.rows_affected() == 0 {
                return Err(CatalogError::not_found(format!("access key {access_key_id}")));
            }
            Ok(())
        })
    }
}

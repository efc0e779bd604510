//! Keys: what an `EncryptionKeyArn` may name.

use provault_domain::{AccountId, Arn, Key};

use crate::error::{CatalogError, Result};
use crate::page::{Select, micros, to_body};
use crate::pool::{Catalog, any, transact};

impl Catalog {
    /// Adds a key; its ARN, and its name in the account, must be new.
    pub async fn insert_key(&self, key: &Key) -> Result<()> {
        transact!(self, |tx| {
            let args = [key.arn.as_str(), key.account.as_str(), &key.name];
            let taken = "SELECT 1 FROM keys WHERE arn = $1 OR (account = $2 AND name = $3)";
            if any(tx, taken, &args).await? {
                return Err(CatalogError::exists(format!("key {}", key.name)));
            }
            sqlx::query(
                "INSERT INTO keys (arn, account, name, created_at, body) \
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(key.arn.to_string())
            .bind(key.account.to_string())
            .bind(key.name.clone())
            .bind(micros(key.created_at))
            .bind(to_body(key)?)
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
    }

    /// The key with this ARN.
    pub async fn key(&self, arn: &Arn) -> Result<Option<Key>> {
        Select::new("SELECT body FROM keys").and("arn =", arn).one(&self.read).await
    }

    /// Every key of an account, by name.
    pub async fn list_keys(&self, account: &AccountId) -> Result<Vec<Key>> {
        Select::new("SELECT body FROM keys")
            .and("account =", account)
            .then("ORDER BY created_at, name")
            .all(&self.read)
            .await
    }

    /// Removes a key, unless a vault is sealed by it.
    pub async fn delete_key(&self, arn: &Arn) -> Result<()> {
        transact!(self, |tx| {
            let what = format!("key {arn}");
            if any(tx, "SELECT 1 FROM vaults WHERE key_arn = $1 LIMIT 1", &[arn.as_str()]).await? {
                return Err(CatalogError::in_use(what, "a backup vault is sealed by it."));
            }
            let deleted = sqlx::query("DELETE FROM keys WHERE arn = $1")
                .bind(arn.to_string())
                .execute(&mut *tx)
                .await?;
            if deleted.rows_affected() == 0 {
                return Err(CatalogError::not_found(what));
            }
            Ok(())
        })
    }
}

//! Users: who may sign requests, besides the root of the account.

use provault_domain::{AccountId, Arn, User};

use crate::error::{CatalogError, Result};
use crate::page::{Select, micros, to_body};
use crate::pool::{Catalog, any, transact};

impl Catalog {
    /// Adds a user; its name in the account must be new.
    pub async fn insert_user(&self, user: &User) -> Result<()> {
        transact!(self, |tx| {
            let args = [user.account.as_str(), &user.name];
            if any(tx, "SELECT 1 FROM users WHERE account = $1 AND name = $2", &args).await? {
                return Err(CatalogError::exists(format!("user {}", user.name)));
            }
            sqlx::query(
                "INSERT INTO users (arn, account, name, created_at, body) \
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(user.arn.to_string())
            .bind(user.account.to_string())
            .bind(user.name.clone())
            .bind(micros(user.created_at))
            .bind(to_body(user)?)
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
    }

    /// The account's user of this name.
    pub async fn user_by_name(&self, account: &AccountId, name: &str) -> Result<Option<User>> {
        Select::new("SELECT body FROM users")
            .and("account =", account)
            .and("name =", name)
            .one(&self.read)
            .await
    }

    /// Every user of an account, oldest first.
    pub async fn list_users(&self, account: &AccountId) -> Result<Vec<User>> {
        Select::new("SELECT body FROM users")
            .and("account =", account)
            .then("ORDER BY created_at, name")
            .all(&self.read)
            .await
    }

    /// Writes what a user may do. Name, account and date of creation stay.
    pub async fn set_user_policies(&self, user: &User) -> Result<()> {
        transact!(self, |tx| {
            let written = sqlx::query("UPDATE users SET body = $1 WHERE arn = $2 AND name = $3")
                .bind(to_body(user)?)
                .bind(user.arn.to_string())
                .bind(user.name.clone())
                .execute(&mut *tx)
                .await?;
            if written.rows_affected() == 0 {
                return Err(CatalogError::not_found(format!("user {}", user.name)));
            }
            Ok(())
        })
    }

    /// Removes a user and every access key of it.
    pub async fn delete_user(&self, arn: &Arn) -> Result<()> {
        transact!(self, |tx| {
            let gone = sqlx::query("DELETE FROM users WHERE arn = $1")
                .bind(arn.to_string())
                .execute(&mut *tx)
                .await?;
            if gone.rows_affected() == 0 {
                return Err(CatalogError::not_found(format!("user {arn}")));
            }
            sqlx::query("DELETE FROM access_keys WHERE principal = $1")
                .bind(arn.to_string())
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
    }
}

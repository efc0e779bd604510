//! Roles: what an `IamRoleArn` may name.

use provault_domain::{AccountId, Arn, Role};

use crate::error::{CatalogError, Result};
use crate::page::{Select, micros, to_body};
use crate::pool::{Catalog, any, transact};

impl Catalog {
    /// Adds a role; its ARN, and its name in the account, must be new.
    pub async fn insert_role(&self, role: &Role) -> Result<()> {
        transact!(self, |tx| {
            let args = [role.arn.as_str(), role.account.as_str(), &role.name];
            let taken = "SELECT 1 FROM roles WHERE arn = $1 OR (account = $2 AND name = $3)";
            if any(tx, taken, &args).await? {
                return Err(CatalogError::exists(format!("role {}", role.name)));
            }
            sqlx::query(
                "INSERT INTO roles (arn, account, name, created_at, body) \
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(role.arn.to_string())
            .bind(role.account.to_string())
            .bind(role.name.clone())
            .bind(micros(role.created_at))
            .bind(to_body(role)?)
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
    }

    /// The role with this ARN.
    pub async fn role(&self, arn: &Arn) -> Result<Option<Role>> {
        Select::new("SELECT body FROM roles").and("arn =", arn).one(&self.read).await
    }

    /// Every role of an account, by name.
    pub async fn list_roles(&self, account: &AccountId) -> Result<Vec<Role>> {
        Select::new("SELECT body FROM roles")
            .and("account =", account)
            .then("ORDER BY created_at, name")
            .all(&self.read)
            .await
    }

    /// Removes a role, unless a selection or an unfinished job works under it.
    pub async fn delete_role(&self, arn: &Arn) -> Result<()> {
        transact!(self, |tx| {
            let what = format!("role {arn}");
            if any(tx, "SELECT 1 FROM selections WHERE role_arn = $1 LIMIT 1", &[arn.as_str()])
                .await?
            {
                return Err(CatalogError::in_use(what, "a backup selection names it."));
            }
            let tested = "SELECT 1 FROM restore_testing_selections WHERE role_arn = $1 LIMIT 1";
            if any(tx, tested, &[arn.as_str()]).await? {
                return Err(CatalogError::in_use(what, "a restore testing selection names it."));
            }
            let open = "SELECT 1 FROM jobs WHERE role_arn = $1 AND done = 0 LIMIT 1";
            if any(tx, open, &[arn.as_str()]).await? {
                return Err(CatalogError::in_use(what, "an unfinished job works under it."));
            }
            let deleted = sqlx::query("DELETE FROM roles WHERE arn = $1")
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

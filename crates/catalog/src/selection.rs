//! Backup selections.

use provault_domain::{AccountId, BackupSelection};

use crate::error::{CatalogError, Result};
use crate::page::{Listed, Page, Select, micros, to_body};
use crate::pool::{Catalog, any, transact};

impl Catalog {
    /// Adds a selection to a plan that exists and is not deleted. Name and request id must be
    /// new in the plan.
    pub async fn insert_selection(&self, selection: &BackupSelection) -> Result<()> {
        transact!(self, |tx| {
            let plan = selection.plan_id.as_str();
            let open = "SELECT 1 FROM plans WHERE account = $1 AND id = $2 AND deleted_at IS NULL";
            if !any(tx, open, &[selection.account.as_str(), plan]).await? {
                return Err(CatalogError::not_found(format!("backup plan {plan}")));
            }
            if any(tx, "SELECT 1 FROM selections WHERE id = $1", &[&selection.id]).await? {
                return Err(CatalogError::exists(format!("backup selection {}", selection.id)));
            }
            if let Some(request) = &selection.creator_request_id {
                let same = "SELECT 1 FROM selections WHERE plan_id = $1 AND request_id = $2";
                if any(tx, same, &[plan, request]).await? {
                    let what = format!("a backup selection with the creator request id {request}");
                    return Err(CatalogError::exists(what));
                }
            }
            let same = "SELECT 1 FROM selections WHERE plan_id = $1 AND name = $2";
            if any(tx, same, &[plan, &selection.name]).await? {
                let what = format!("a backup selection named {} in this plan", selection.name);
                return Err(CatalogError::exists(what));
            }
            sqlx::query(
                "INSERT INTO selections \
                 (id, account, plan_id, name, request_id, role_arn, created_at, body) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            )
            .bind(selection.id.clone())
            .bind(selection.account.to_string())
            .bind(selection.plan_id.clone())
            .bind(selection.name.clone())
            .bind(selection.creator_request_id.clone())
            .bind(selection.role_arn.to_string())
            .bind(micros(selection.created_at))
            .bind(to_body(selection)?)
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
    }

    /// A selection of a plan.
    pub async fn selection(
        &self,
        account: &AccountId,
        plan_id: &str,
        id: &str,
    ) -> Result<Option<BackupSelection>> {
        Select::new("SELECT body FROM selections")
            .and("id =", id)
            .and("plan_id =", plan_id)
            .and("account =", account)
            .one(&self.read)
            .await
    }

    /// The selection that an earlier request with this id made in the plan.
    pub async fn selection_by_request_id(
        &self,
        plan_id: &str,
        request_id: &str,
    ) -> Result<Option<BackupSelection>> {
        Select::new("SELECT body FROM selections")
            .and("plan_id =", plan_id)
            .and("request_id =", request_id)
            .one(&self.read)
            .await
    }

    /// A plan's selections in the order they were made.
    pub async fn list_selections(
        &self,
        account: &AccountId,
        plan_id: &str,
        page: Page,
    ) -> Result<Listed<BackupSelection>> {
        Select::new("SELECT created_at, id AS page_id, body FROM selections")
            .and("plan_id =", plan_id)
            .and("account =", account)
            .page("id", &page)
            .listed(&self.read, &page)
            .await
    }

    /// Removes a selection; jobs it led to go on.
    pub async fn delete_selection(
        &self,
        account: &AccountId,
        plan_id: &str,
        id: &str,
    ) -> Result<()> {
        transact!(self, |tx| {
            let deleted = sqlx::query(
                "DELETE FROM selections WHERE id = $1 AND plan_id = $2 AND account = $3",
            )
            .bind(id.to_owned())
            .bind(plan_id.to_owned())
            .bind(account.to_string())
            .execute(&mut *tx)
            .await?;
            if deleted.rows_affected() == 0 {
                return Err(CatalogError::not_found(format!("backup selection {id}")));
            }
            Ok(())
        })
    }
}

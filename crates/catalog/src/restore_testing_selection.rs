//! Restore testing selections.

use provault_domain::{Arn, RestoreTestingSelection};

use crate::error::{CatalogError, Result};
use crate::page::{Listed, Page, Select, micros, to_body};
use crate::pool::{Catalog, any, transact};

const HEAD: &str = "SELECT created_at, name AS page_id, body FROM restore_testing_selections";

impl Catalog {
    /// Adds a selection to a plan that exists. Name and request id must be new in the plan.
    pub async fn insert_restore_testing_selection(
        &self,
        selection: &RestoreTestingSelection,
    ) -> Result<()> {
        transact!(self, |tx| {
            let plan = selection.plan_arn.as_str();
            let there = "SELECT 1 FROM restore_testing_plans WHERE arn = $1 AND account = $2";
            if !any(tx, there, &[plan, selection.account.as_str()]).await? {
                let what = format!("restore testing plan {}", selection.plan_name);
                return Err(CatalogError::not_found(what));
            }
            if let Some(request) = &selection.creator_request_id {
                let same = "SELECT 1 FROM restore_testing_selections \
                     WHERE plan_arn = $1 AND request_id = $2";
                if any(tx, same, &[plan, request]).await? {
                    let what = format!(
                        "a restore testing selection with the creator request id {request}"
                    );
                    return Err(CatalogError::exists(what));
                }
            }
            let same = "SELECT 1 FROM restore_testing_selections WHERE plan_arn = $1 AND name = $2";
            if any(tx, same, &[plan, &selection.name]).await? {
                let what = format!("restore testing selection {}", selection.name);
                return Err(CatalogError::exists(what));
            }
            sqlx::query(
                "INSERT INTO restore_testing_selections \
                 (plan_arn, name, account, request_id, role_arn, created_at, body) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(selection.plan_arn.to_string())
            .bind(selection.name.clone())
            .bind(selection.account.to_string())
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
    pub async fn restore_testing_selection(
        &self,
        plan_arn: &Arn,
        name: &str,
    ) -> Result<Option<RestoreTestingSelection>> {
        let query = Select::new(HEAD).and("plan_arn =", plan_arn).and("name =", name);
        query.one(&self.read).await
    }

    /// The selection that an earlier request with this id made in the plan.
    pub async fn restore_testing_selection_by_request_id(
        &self,
        plan_arn: &Arn,
        request_id: &str,
    ) -> Result<Option<RestoreTestingSelection>> {
        let query = Select::new(HEAD).and("plan_arn =", plan_arn).and("request_id =", request_id);
        query.one(&self.read).await
    }

    /// A plan's selections in the order they were made.
    pub async fn list_restore_testing_selections(
        &self,
        plan_arn: &Arn,
        page: Page,
    ) -> Result<Listed<RestoreTestingSelection>> {
        Select::new(HEAD)
            .and("plan_arn =", plan_arn)
            .page("name", &page)
            .listed(&self.read, &page)
            .await
    }

    /// Changes a selection from what the caller read to something new; [`CatalogError::Conflict`]
    /// when it was changed since. Name, plan and request id stay.
    pub async fn update_restore_testing_selection(
        &self,
        old: &RestoreTestingSelection,
        new: &RestoreTestingSelection,
    ) -> Result<()> {
        transact!(self, |tx| {
            let what = format!("restore testing selection {}", old.name);
            let query = Select::new(HEAD).and("plan_arn =", &old.plan_arn).and("name =", &old.name);
            let found: Option<RestoreTestingSelection> = query.one(&mut *tx).await?;
            let Some(found) = found else { return Err(CatalogError::not_found(what)) };
            if found != *old {
                return Err(CatalogError::conflict(what));
            }
            sqlx::query(
                "UPDATE restore_testing_selections SET body = $1, role_arn = $2 \
                 WHERE plan_arn = $3 AND name = $4",
            )
            .bind(to_body(new)?)
            .bind(new.role_arn.to_string())
            .bind(old.plan_arn.to_string())
            .bind(old.name.clone())
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
    }

    /// Removes a selection; tests it led to go on.
    pub async fn delete_restore_testing_selection(&self, plan_arn: &Arn, name: &str) -> Result<()> {
        transact!(self, |tx| {
            let deleted = sqlx::query(
                "DELETE FROM restore_testing_selections WHERE plan_arn = $1 AND name = $2",
            )
            .bind(plan_arn.to_string())
            .bind(name.to_owned())
            .execute(&mut *tx)
            .await?;
            if deleted.rows_affected() == 0 {
                return Err(CatalogError::not_found(format!("restore testing selection {name}")));
            }
            Ok(())
        })
    }
}

//! Restore testing plans, and how far each has been carried out.

use jiff::Timestamp;
use provault_domain::{AccountId, Arn, RestoreTest, RestoreTestingPlan, Tags};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::error::{CatalogError, Result};
use crate::job_store;
use crate::page::{Listed, Page, Select, body, micros, moment, readable, to_body};
use crate::pool::{Catalog, any, transact};
use crate::tag;

const HEAD: &str = "SELECT created_at, name AS page_id, mark, last_execution_at, body \
     FROM restore_testing_plans";

impl Catalog {
    /// Adds a plan with its tags; its name and its request id must be new in the account. Its
    /// schedule counts from its creation.
    pub async fn insert_restore_testing_plan(
        &self,
        plan: &RestoreTestingPlan,
        tags: &Tags,
    ) -> Result<()> {
        transact!(self, |tx| {
            let account = plan.account.as_str();
            if let Some(request) = &plan.creator_request_id {
                let same =
                    "SELECT 1 FROM restore_testing_plans WHERE account = $1 AND request_id = $2";
                if any(tx, same, &[account, request]).await? {
                    let what =
                        format!("a restore testing plan with the creator request id {request}");
                    return Err(CatalogError::exists(what));
                }
            }
            let same = "SELECT 1 FROM restore_testing_plans WHERE account = $1 AND name = $2";
            if any(tx, same, &[account, &plan.name]).await? {
                return Err(CatalogError::exists(format!("restore testing plan {}", plan.name)));
            }
            sqlx::query(
                "INSERT INTO restore_testing_plans \
                 (arn, account, name, request_id, created_at, mark, last_execution_at, body) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            )
            .bind(plan.arn.to_string())
            .bind(plan.account.to_string())
            .bind(plan.name.clone())
            .bind(plan.creator_request_id.clone())
            .bind(micros(plan.created_at))
            .bind(micros(plan.created_at))
            .bind(plan.last_execution_at.map(micros))
            .bind(to_body(plan)?)
            .execute(&mut *tx)
            .await?;
            tag::put(tx, &plan.arn, tags).await
        })
    }

    /// The account's plan of this name.
    pub async fn restore_testing_plan(
        &self,
        account: &AccountId,
        name: &str,
    ) -> Result<Option<RestoreTestingPlan>> {
        let query = Select::new(HEAD).and("account =", account).and("name =", name);
        query.row(&self.read).await?.as_ref().map(plan_of).transpose()
    }

    /// The account's plan with this ARN.
    pub async fn restore_testing_plan_by_arn(
        &self,
        account: &AccountId,
        arn: &Arn,
    ) -> Result<Option<RestoreTestingPlan>> {
        let query = Select::new(HEAD).and("account =", account).and("arn =", arn);
        query.row(&self.read).await?.as_ref().map(plan_of).transpose()
    }

    /// The plan that an earlier request with this id made, unless it was deleted since.
    pub async fn restore_testing_plan_by_request_id(
        &self,
        account: &AccountId,
        request_id: &str,
    ) -> Result<Option<RestoreTestingPlan>> {
        let query = Select::new(HEAD).and("account =", account).and("request_id =", request_id);
        query.row(&self.read).await?.as_ref().map(plan_of).transpose()
    }

    /// The account's plans in the order they were made.
    pub async fn list_restore_testing_plans(
        &self,
        account: &AccountId,
        page: Page,
    ) -> Result<Listed<RestoreTestingPlan>> {
        Select::new(HEAD)
            .and("account =", account)
            .page("name", &page)
            .listed_as(&self.read, &page, plan_of)
            .await
    }

    /// Changes a plan from what the caller read to something new; [`CatalogError::Conflict`] when
    /// it was changed since. Name, ARN, request id and tags stay. A new schedule counts from `now`:
    /// what it would have done before is not made up for.
    pub async fn update_restore_testing_plan(
        &self,
        old: &RestoreTestingPlan,
        new: &RestoreTestingPlan,
        now: Timestamp,
    ) -> Result<()> {
        transact!(self, |tx| {
            let what = format!("restore testing plan {}", old.name);
            let query = Select::new(HEAD).and("account =", &old.account).and("arn =", &old.arn);
            let Some(row) = query.row(&mut *tx).await? else {
                return Err(CatalogError::not_found(what));
            };
            let found = RestoreTestingPlan {
                // An execution in between is no change of the plan.
                last_execution_at: old.last_execution_at,
                ..plan_of(&row)?
            };
            if found != *old {
                return Err(CatalogError::conflict(what));
            }
            let rescheduled = old.schedule != new.schedule || old.timezone != new.timezone;
            let mark = if rescheduled { micros(now) } else { row.try_get("mark")? };
            sqlx::query("UPDATE restore_testing_plans SET body = $1, mark = $2 WHERE arn = $3")
                .bind(to_body(new)?)
                .bind(mark)
                .bind(old.arn.to_string())
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
    }

    /// Deletes a plan without selections, and its tags. Tests that it made go on.
    pub async fn delete_restore_testing_plan(&self, account: &AccountId, name: &str) -> Result<()> {
        transact!(self, |tx| {
            let what = format!("restore testing plan {name}");
            let query = Select::new(HEAD).and("account =", account).and("name =", name);
            let Some(row) = query.row(&mut *tx).await? else {
                return Err(CatalogError::not_found(what));
            };
            let plan = plan_of(&row)?;
            let has = "SELECT 1 FROM restore_testing_selections WHERE plan_arn = $1 LIMIT 1";
            if any(tx, has, &[plan.arn.as_str()]).await? {
                return Err(CatalogError::in_use(what, "it has restore testing selections."));
            }
            sqlx::query("DELETE FROM restore_testing_plans WHERE arn = $1")
                .bind(plan.arn.to_string())
                .execute(&mut *tx)
                .await?;
            tag::remove_all(tx, &plan.arn).await
        })
    }

    /// Every account's plans, each with the moment up to which it has been carried out: what the
    /// scheduler goes through. One that cannot be read is told of and does not hold up the others.
    pub async fn all_restore_testing_plans(&self) -> Result<Vec<(RestoreTestingPlan, Timestamp)>> {
        let rows =
            Select::new(HEAD).then("ORDER BY created_at, name, arn").rows(&self.read).await?;
        let plan = |row: &AnyRow| Ok((plan_of(row)?, moment(row.try_get("mark")?)?));
        Ok(readable(&rows, "a restore testing plan", plan))
    }

    /// The moment up to which a plan has been carried out; `None` when there is no such plan.
    pub async fn restore_testing_mark(&self, plan_arn: &Arn) -> Result<Option<Timestamp>> {
        let query = Select::new("SELECT mark FROM restore_testing_plans").and("arn =", plan_arn);
        let row = query.row(&self.read).await?;
        row.map(|row| moment(row.try_get("mark")?)).transpose()
    }

    /// Moves a plan's mark from `from` to `to` and inserts the tests that became due in between,
    /// together or not at all. `false` when nothing was done: the mark is no longer at `from`,
    /// because another server was faster or the schedule was changed, or the plan is gone. With
    /// tests, the plan's last execution becomes `to`.
    pub async fn advance_restore_testing(
        &self,
        plan_arn: &Arn,
        from: Timestamp,
        to: Timestamp,
        tests: &[RestoreTest],
    ) -> Result<bool> {
        transact!(self, |tx| {
            let moved = sqlx::query(
                "UPDATE restore_testing_plans SET mark = $1 WHERE arn = $2 AND mark = $3",
            )
            .bind(micros(to))
            .bind(plan_arn.to_string())
            .bind(micros(from))
            .execute(&mut *tx)
            .await?;
            if moved.rows_affected() == 0 {
                return Ok(false);
            }
            for test in tests {
                job_store::insert(tx, test).await?;
            }
            if !tests.is_empty() {
                sqlx::query(
                    "UPDATE restore_testing_plans SET last_execution_at = $1 WHERE arn = $2",
                )
                .bind(micros(to))
                .bind(plan_arn.to_string())
                .execute(&mut *tx)
                .await?;
            }
            Ok(true)
        })
    }
}

fn plan_of(row: &AnyRow) -> Result<RestoreTestingPlan> {
    let last: Option<i64> = row.try_get("last_execution_at")?;
    Ok(RestoreTestingPlan { last_execution_at: last.map(moment).transpose()?, ..body(row)? })
}

//! Backup plans and their versions.

use jiff::Timestamp;
use provault_domain::{AccountId, BackupPlan, Tags};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::error::{CatalogError, Result};
use crate::page::{Listed, Page, Select, body, micros, moment, readable, to_body};
use crate::pool::{Catalog, any, transact};
use crate::{schedule, tag};

/// What a plan has once, whatever its version, stands in its own row.
const NEWEST: &str =
    "SELECT created_at, id AS page_id, deleted_at, last_execution_at, body FROM plans";

impl Catalog {
    /// Adds a plan with its first version and its tags. Names may repeat, as in AWS Backup; the
    /// request id may not.
    pub async fn insert_plan(&self, plan: &BackupPlan, tags: &Tags) -> Result<()> {
        transact!(self, |tx| {
            if any(tx, "SELECT 1 FROM plans WHERE id = $1", &[&plan.id]).await? {
                return Err(CatalogError::exists(format!("backup plan {}", plan.id)));
            }
            if let Some(request) = &plan.creator_request_id {
                let same = "SELECT 1 FROM plans WHERE account = $1 AND request_id = $2";
                if any(tx, same, &[plan.account.as_str(), request]).await? {
                    let what = format!("a backup plan with the creator request id {request}");
                    return Err(CatalogError::exists(what));
                }
            }
            sqlx::query(
                "INSERT INTO plans \
                 (id, account, request_id, created_at, deleted_at, last_execution_at, body) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(plan.id.clone())
            .bind(plan.account.to_string())
            .bind(plan.creator_request_id.clone())
            .bind(micros(plan.created_at))
            .bind(plan.deleted_at.map(micros))
            .bind(plan.last_execution_at.map(micros))
            .bind(to_body(plan)?)
            .execute(&mut *tx)
            .await?;
            insert_version(tx, plan).await?;
            schedule::begin(tx, plan).await?;
            tag::put(tx, &plan.arn, tags).await
        })
    }

    /// The plan that an earlier request with this id made, unless it was deleted since.
    pub async fn plan_by_request_id(
        &self,
        account: &AccountId,
        request_id: &str,
    ) -> Result<Option<BackupPlan>> {
        let query = Select::new(NEWEST).and("account =", account).and("request_id =", request_id);
        query.row(&self.read).await?.as_ref().map(newest).transpose()
    }

    /// A version of a plan, the newest when none is named. Deleted plans stay readable.
    pub async fn plan(
        &self,
        account: &AccountId,
        id: &str,
        version: Option<&str>,
    ) -> Result<Option<BackupPlan>> {
        let query = Select::new(NEWEST).and("account =", account).and("id =", id);
        let Some(row) = query.row(&self.read).await? else { return Ok(None) };
        let Some(version) = version else { return newest(&row).map(Some) };
        let query = Select::new("SELECT body FROM plan_versions")
            .and("plan_id =", id)
            .and("version_id =", version);
        let Some(old) = query.row(&self.read).await? else { return Ok(None) };
        with_plan_row(body(&old)?, &row).map(Some)
    }

    /// Adds a version to a plan that is not deleted; it becomes the newest, and its schedules begin
    /// with it. What the version before it was due for has to be carried out first. The request id
    /// and the tags of the plan stay.
    pub async fn update_plan(&self, plan: &BackupPlan) -> Result<()> {
        transact!(self, |tx| {
            let query = Select::new(NEWEST)
                .and("account =", &plan.account)
                .and("id =", &plan.id)
                .only("deleted_at IS NULL");
            if query.row(&mut *tx).await?.is_none() {
                return Err(CatalogError::not_found(format!("backup plan {}", plan.id)));
            }
            let same = "SELECT 1 FROM plan_versions WHERE plan_id = $1 AND version_id = $2";
            if any(tx, same, &[&plan.id, &plan.version_id]).await? {
                let what = format!("version {} of backup plan {}", plan.version_id, plan.id);
                return Err(CatalogError::exists(what));
            }
            insert_version(tx, plan).await?;
            schedule::begin(tx, plan).await?;
            sqlx::query("UPDATE plans SET body = $1 WHERE id = $2")
                .bind(to_body(plan)?)
                .bind(plan.id.clone())
                .execute(&mut *tx)
                .await?;
            Ok(())
        })
    }

    /// Deletes a plan without selections: it stops being carried out, its versions stay readable,
    /// its tags go and its request id may be used again. Answers with the newest version.
    pub async fn delete_plan(
        &self,
        account: &AccountId,
        id: &str,
        now: Timestamp,
    ) -> Result<BackupPlan> {
        transact!(self, |tx| {
            let what = format!("backup plan {id}");
            let query = Select::new(NEWEST)
                .and("account =", account)
                .and("id =", id)
                .only("deleted_at IS NULL");
            let Some(row) = query.row(&mut *tx).await? else {
                return Err(CatalogError::not_found(what));
            };
            if any(tx, "SELECT 1 FROM selections WHERE plan_id = $1 LIMIT 1", &[id]).await? {
                return Err(CatalogError::in_use(what, "it has backup selections."));
            }
            sqlx::query(
                "UPDATE plans SET deleted_at = $1, request_id = NULL, testing = NULL WHERE id = $2",
            )
            .bind(micros(now))
            .bind(id.to_owned())
            .execute(&mut *tx)
            .await?;
            sqlx::query("DELETE FROM schedule_marks WHERE plan_id = $1")
                .bind(id.to_owned())
                .execute(&mut *tx)
                .await?;
            let mut plan = newest(&row)?;
            tag::remove_all(tx, &plan.arn).await?;
            plan.deleted_at = Some(moment(micros(now))?);
            Ok(plan)
        })
    }

    /// The newest version of each of the account's plans, in the order the plans were made.
    pub async fn list_plans(
        &self,
        account: &AccountId,
        include_deleted: bool,
        page: Page,
    ) -> Result<Listed<BackupPlan>> {
        let mut query = Select::new(NEWEST).and("account =", account);
        if !include_deleted {
            query = query.only("deleted_at IS NULL");
        }
        query.page("id", &page).listed_as(&self.read, &page, newest).await
    }

    /// Every version of a plan, oldest first; none when there is no such plan.
    pub async fn list_plan_versions(
        &self,
        account: &AccountId,
        id: &str,
        page: Page,
    ) -> Result<Listed<BackupPlan>> {
        let query = Select::new(NEWEST).and("account =", account).and("id =", id);
        let Some(plan) = query.row(&self.read).await? else {
            return Ok(Listed { items: Vec::new(), next: None });
        };
        Select::new("SELECT created_at, version_id AS page_id, body FROM plan_versions")
            .and("plan_id =", id)
            .page("version_id", &page)
            .listed_as(&self.read, &page, |row| with_plan_row(body(row)?, &plan))
            .await
    }

    /// The newest version of every plan of every account that is not deleted: what the scheduler
    /// goes through. One that cannot be read is told of and does not hold up the others.
    pub async fn all_active_plans(&self) -> Result<Vec<BackupPlan>> {
        let rows = Select::new(NEWEST)
            .only("deleted_at IS NULL")
            .then("ORDER BY created_at, id")
            .rows(&self.read)
            .await?;
        Ok(readable(&rows, "a backup plan", newest))
    }
}

fn newest(row: &AnyRow) -> Result<BackupPlan> {
    with_plan_row(body(row)?, row)
}

fn with_plan_row(mut plan: BackupPlan, row: &AnyRow) -> Result<BackupPlan> {
    let at = |column: &str| -> Result<Option<Timestamp>> {
        row.try_get::<Option<i64>, _>(column)?.map(moment).transpose()
    };
    plan.deleted_at = at("deleted_at")?;
    plan.last_execution_at = at("last_execution_at")?;
    Ok(plan)
}

async fn insert_version(tx: &mut AnyConnection, plan: &BackupPlan) -> Result<()> {
    sqlx::query(
        "INSERT INTO plan_versions (plan_id, version_id, created_at, body) \
         VALUES ($1, $2, $3, $4)",
    )
    .bind(plan.id.clone())
    .bind(plan.version_id.clone())
    .bind(micros(plan.created_at))
    .bind(to_body(plan)?)
    .execute(tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_row_that_cannot_be_read_holds_up_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("catalog.db").display());
        let catalog = Catalog::open(&url).await.unwrap();
        let written: Result<()> = transact!(&catalog, |tx| {
            for sql in [
                "INSERT INTO plans (id, account, created_at, body) VALUES ('p', '1', 0, '{')",
                "INSERT INTO restore_testing_plans (arn, account, name, created_at, mark, body) \
                 VALUES ('a', '1', 'n', 0, 0, '{')",
                "INSERT INTO resources (arn, account, name, kind, identity, created_at, version, \
                 body) VALUES ('a', '111122223333', 'n', 'k', 'i', 0, 1, '{')",
            ] {
                sqlx::query(sql).execute(&mut *tx).await?;
            }
            Ok(())
        });
        written.unwrap();
        assert_eq!(catalog.all_active_plans().await.unwrap(), []);
        assert_eq!(catalog.all_restore_testing_plans().await.unwrap(), []);
        let account: AccountId = "111122223333".parse().unwrap();
        assert_eq!(catalog.readable_resources(&account).await.unwrap(), []);
    }
}

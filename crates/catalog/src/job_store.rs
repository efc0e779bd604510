//! Adding and finding jobs of all three types.

use jiff::Timestamp;
use provault_domain::{AccountId, Arn};
use sqlx::AnyConnection;

use crate::error::{CatalogError, Result};
use crate::job::Job;
use crate::page::{Listed, Page, Select, body, micros, readable, to_body};
use crate::pool::{Catalog, any, transact};

/// Which jobs are wanted; everything given must hold. Intervals include their ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Of this tenant; `None` for all, which only the server itself may ask.
    pub account: Option<AccountId>,
    /// In one of these states; empty for any.
    pub states: Vec<String>,
    /// About this resource.
    pub resource_arn: Option<Arn>,
    /// With this vault.
    pub vault_name: Option<String>,
    /// That made or read this recovery point.
    pub recovery_point_arn: Option<Arn>,
    /// Made for this restore testing plan.
    pub testing_plan_arn: Option<Arn>,
    /// Created at this moment or later.
    pub created_after: Option<Timestamp>,
    /// Created at this moment or earlier.
    pub created_before: Option<Timestamp>,
    /// Ended at this moment or later; leaves out what has not ended.
    pub completed_after: Option<Timestamp>,
    /// Ended at this moment or earlier; leaves out what has not ended.
    pub completed_before: Option<Timestamp>,
    /// Not ended.
    pub unfinished_only: bool,
}

impl Catalog {
    /// Adds a job. Its id must be new, and so must its idempotency token among the account's
    /// jobs of its type. [`CatalogError::Conflict`] when it reads a recovery point that is being
    /// deleted.
    pub async fn insert_job<J: Job>(&self, job: &J) -> Result<()> {
        transact!(self, |tx| { insert(tx, job).await })
    }

    /// An account's job by its id.
    pub async fn job<J: Job>(&self, account: &AccountId, id: &str) -> Result<Option<J>> {
        Select::new("SELECT body FROM jobs")
            .and("id =", id)
            .and("type =", J::TYPE)
            .and("account =", account)
            .one(&self.read)
            .await
    }

    /// The job that an earlier request with this idempotency token made.
    pub async fn job_by_token<J: Job>(
        &self,
        account: &AccountId,
        token: &str,
    ) -> Result<Option<J>> {
        Select::new("SELECT body FROM jobs")
            .and("account =", account)
            .and("type =", J::TYPE)
            .and("token =", token)
            .one(&self.read)
            .await
    }

    /// Jobs in the order they were created.
    pub async fn list_jobs<J: Job>(&self, filter: &JobFilter, page: Page) -> Result<Listed<J>> {
        list_query::<J>(filter, &page).listed(&self.read, &page).await
    }

    /// All of these jobs that can be read, in the order they were created; the others are told of.
    pub async fn readable_jobs<J: Job>(&self, filter: &JobFilter) -> Result<Vec<J>> {
        let rows = list_query::<J>(filter, &Page::all()).rows(&self.read).await?;
        Ok(readable(&rows, J::NAME, body))
    }
}

fn list_query<J: Job>(filter: &JobFilter, page: &Page) -> Select {
    let mut query = Select::new("SELECT created_at, id AS page_id, body FROM jobs")
        .and("type =", J::TYPE)
        .and_if("account =", filter.account.as_ref())
        .and_in("state", &filter.states)
        .and_if("resource_arn =", filter.resource_arn.as_ref())
        .and_if("vault_name =", filter.vault_name.as_ref())
        .and_if("recovery_point_arn =", filter.recovery_point_arn.as_ref())
        .and_if("testing_plan_arn =", filter.testing_plan_arn.as_ref())
        .and_if("created_at >=", filter.created_after)
        .and_if("created_at <=", filter.created_before)
        .and_if("completed_at >=", filter.completed_after)
        .and_if("completed_at <=", filter.completed_before);
    if filter.unfinished_only {
        query = query.only("done = 0");
    }
    query.page("id", page)
}

/// Who backs the resource up at this moment: the resource itself, or nobody. A unique index on
/// the column makes sure of it whatever the code does.
pub(crate) fn slot<J: Job>(job: &J) -> Option<String> {
    let working = J::ONE_PER_RESOURCE && !job.is_final() && job.state_name() != J::WAITING;
    working.then(|| job.resource_arn().to_string())
}

pub(crate) async fn insert<J: Job>(tx: &mut AnyConnection, job: &J) -> Result<()> {
    // Who reads a point protects it from deletion, but not from one that has begun.
    if let Some(point) = job.recovery_point_arn().filter(|_| !job.is_final()) {
        let going = "SELECT 1 FROM recovery_points WHERE arn = $1 AND status = 'DELETING'";
        if any(tx, going, &[point.as_str()]).await? {
            return Err(CatalogError::conflict(format!("recovery point {point}")));
        }
    }
    if any(tx, "SELECT 1 FROM jobs WHERE id = $1", &[job.id()]).await? {
        return Err(CatalogError::exists(format!("{} {}", J::NAME, job.id())));
    }
    if let Some(token) = job.idempotency_token() {
        let same = "SELECT 1 FROM jobs WHERE account = $1 AND type = $2 AND token = $3";
        if any(tx, same, &[job.account().as_str(), J::TYPE, token]).await? {
            let what = format!("a {} with the idempotency token {token}", J::NAME);
            return Err(CatalogError::exists(what));
        }
    }
    sqlx::query(
        "INSERT INTO jobs (id, type, account, resource_arn, vault_name, recovery_point_arn, \
         role_arn, token, state, done, test_owned, created_at, completed_at, owner, generation, \
         lease_until, slot, events, version, body, testing_plan_arn) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, NULL, 0, 0, $14, 0, 1, \
         $15, $16)",
    )
    .bind(job.id().to_owned())
    .bind(J::TYPE)
    .bind(job.account().to_string())
    .bind(job.resource_arn().to_string())
    .bind(job.vault_name().map(str::to_owned))
    .bind(job.recovery_point_arn().map(Arn::to_string))
    .bind(job.role_arn().map(Arn::to_string))
    .bind(job.idempotency_token().map(str::to_owned))
    .bind(job.state_name())
    .bind(i64::from(job.is_final()))
    .bind(i64::from(job.driven_by_test()))
    .bind(micros(job.created_at()))
    .bind(job.completed_at().map(micros))
    .bind(slot(job))
    .bind(to_body(job)?)
    .bind(job.testing_plan_arn().map(Arn::to_string))
    .execute(tx)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use provault_domain::{BackupJob, RestoreTest};
    use sqlx::Row;

    use super::*;
    use crate::page::Cursor;

    /// Of a list of a million jobs a page must cost what it shows: every question is answered
    /// from an index that has the order already, never by a scan or a sort. `SQLite`'s own
    /// account of its plan says so.
    #[tokio::test]
    async fn a_page_of_jobs_is_read_from_an_index_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("catalog.db").display());
        let catalog = Catalog::open(&url).await.unwrap();
        let account: AccountId = "111122223333".parse().unwrap();
        let arn: Arn = "arn:aws:backup:us-east-1:111122223333:recovery-point:x".parse().unwrap();
        let mine = JobFilter { account: Some(account), ..JobFilter::default() };
        let filters = [
            ("jobs_everywhere", JobFilter::default()),
            ("jobs_in_order", mine.clone()),
            ("jobs_by_state", JobFilter { states: vec!["FAILED".to_owned()], ..mine.clone() }),
            ("jobs_by_resource", JobFilter { resource_arn: Some(arn.clone()), ..mine.clone() }),
            ("jobs_by_vault", JobFilter { vault_name: Some("v".to_owned()), ..mine.clone() }),
            (
                "jobs_by_testing_plan",
                JobFilter { testing_plan_arn: Some(arn.clone()), ..mine.clone() },
            ),
            ("jobs_by_point", JobFilter { recovery_point_arn: Some(arn), ..mine.clone() }),
            ("jobs_open", JobFilter { unfinished_only: true, ..JobFilter::default() }),
        ];
        let after = Some(Cursor { created_at: Timestamp::UNIX_EPOCH, id: "x".to_owned() });
        for page in [Page::first(10), Page { after, limit: 10 }] {
            for (index, filter) in &filters {
                for mut query in [
                    list_query::<BackupJob>(filter, &page),
                    list_query::<RestoreTest>(filter, &page),
                ] {
                    query.sql.insert_str(0, "EXPLAIN QUERY PLAN ");
                    let rows = query.rows(&catalog.read).await.unwrap();
                    let plan: Vec<String> =
                        rows.iter().map(|row| row.try_get("detail").unwrap()).collect();
                    let plan = plan.join("; ");
                    assert!(plan.contains(&format!("INDEX {index} ")), "{index}: {plan}");
                    assert!(!plan.contains("TEMP B-TREE"), "{index} sorts: {plan}");
                }
            }
        }
    }
}

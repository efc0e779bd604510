//! What time is measured by: the newest verdict about a resource, and its first backup since a moment.
//!
//! Both are asked of the jobs, whose rows stay when recovery points go.

use jiff::Timestamp;
use provault_domain::recovery_point::{PointVerdict, present};
use provault_domain::{AccountId, Arn, BackupJob, BackupJobState, RestoreTest};
use sqlx::Row;

use crate::error::Result;
use crate::job::Job;
use crate::page::{Select, micros, moment};
use crate::pool::Catalog;

impl Catalog {
    /// What the newest restore test of a resource said that has ended by `now`, of whatever recovery
    /// point, or of none where it found none. A verdict from the future does not count, nor does the record of
    /// a point that was left out on purpose.
    pub async fn newest_verdict(
        &self,
        account: &AccountId,
        resource_arn: &Arn,
        now: Timestamp,
    ) -> Result<Option<PointVerdict>> {
        let test: Option<RestoreTest> = Select::new("SELECT body FROM jobs")
            .and("type =", RestoreTest::TYPE)
            .and("account =", account)
            .and("resource_arn =", resource_arn)
            .and("completed_at <=", present(now))
            // As the row's document has it; no other member of it has this name and value.
            .only("body NOT LIKE '%\"verdict\":\"NOT_TESTED\"%'")
            .then("ORDER BY completed_at DESC LIMIT 1")
            .one(&self.read)
            .await?;
        Ok(test.and_then(|test| {
            let (verdict, at) = (test.verdict?, test.completed_at?);
            Some(PointVerdict::of(verdict, &test.id, at))
        }))
    }

    /// When the first backup of a resource that made a recovery point after a moment, or at all, was
    /// completed.
    pub async fn first_backup(
        &self,
        account: &AccountId,
        resource_arn: &Arn,
        after: Option<Timestamp>,
    ) -> Result<Option<Timestamp>> {
        let query = Select::new("SELECT completed_at FROM jobs")
            .and("type =", BackupJob::TYPE)
            .and("account =", account)
            .and("resource_arn =", resource_arn)
            .and("completed_at >", after.map_or(i64::MIN, micros))
            .and_in("state", &MADE.map(|state| state.as_str().to_owned()))
            .then("ORDER BY completed_at LIMIT 1");
        let row = query.row(&self.read).await?;
        row.map(|row| moment(row.try_get("completed_at")?)).transpose()
    }
}

/// The ends of a backup job that leave a recovery point.
const MADE: [BackupJobState; 2] = [BackupJobState::Completed, BackupJobState::Partial];

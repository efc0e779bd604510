//! The first backup of a resource since a moment: asked of the jobs, whose rows stay when recovery points go.

use jiff::Timestamp;
use provault_domain::{AccountId, Arn, BackupJob, BackupJobState};
use sqlx::Row;

use crate::error::Result;
use crate::job::Job;
use crate::page::{Select, micros, moment};
use crate::pool::Catalog;

impl Catalog {
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

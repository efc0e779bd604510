//! The log of a job: every state and step it went through.

use provault_catalog::JobEvent;
use provault_domain::backup_job::SkippedPath;
use provault_domain::{BackupJob, CareRun, RestoreJob, RestoreTest};

use crate::{App, AppError, Caller, Result};

/// Which table of the API a job stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobType {
    /// A backup job.
    Backup,
    /// A restore job.
    Restore,
    /// A restore test.
    RestoreTest,
    /// A care run of a vault.
    Care,
}

impl JobType {
    /// `BACKUP`, `RESTORE`, `RESTORE_TEST` or `CARE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "BACKUP",
            Self::Restore => "RESTORE",
            Self::RestoreTest => "RESTORE_TEST",
            Self::Care => "CARE",
        }
    }
}

/// All a job went through.
#[derive(Debug, Clone)]
pub struct JobLog {
    /// What it is.
    pub job_type: JobType,
    /// In order.
    pub events: Vec<JobEvent>,
    /// Paths a backup could not read.
    pub skipped: Vec<SkippedPath>,
}

impl App {
    /// `provault:GetJobLog`, of a job of any type.
    pub async fn job_log(&self, caller: &Caller, id: &str) -> Result<JobLog> {
        self.permit(caller, "provault:GetJobLog", "*")?;
        let (catalog, account) = (self.catalog(), caller.account());
        let (job_type, skipped) = if let Some(job) = catalog.job::<BackupJob>(account, id).await? {
            (JobType::Backup, job.skipped)
        } else if catalog.job::<RestoreJob>(account, id).await?.is_some() {
            (JobType::Restore, Vec::new())
        } else if catalog.job::<RestoreTest>(account, id).await?.is_some() {
            (JobType::RestoreTest, Vec::new())
        } else if catalog.job::<CareRun>(account, id).await?.is_some() {
            (JobType::Care, Vec::new())
        } else {
            return Err(AppError::not_found(format!(
                "There is no job '{id}'; see `provault jobs` for those there are."
            )));
        };
        let events = catalog.job_log(account, id).await?;
        Ok(JobLog { job_type, events, skipped })
    }
}

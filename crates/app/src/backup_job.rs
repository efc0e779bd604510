//! Backup jobs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use provault_catalog::{CatalogError, JobFilter};
use provault_domain::plan::{
    DEFAULT_COMPLETION_WINDOW_MINUTES, DEFAULT_START_WINDOW_MINUTES, MAX_WINDOW_MINUTES,
    MIN_START_WINDOW_MINUTES, add_minutes,
};
use provault_domain::resource::validate_tags;
use provault_domain::{Arn, BackupJob, BackupJobState, Lifecycle, Resource, Tags};

use crate::paging::List;
use crate::{App, AppError, Caller, Listing, Paging, Result, lifecycle, new_id};

/// An on-demand backup as its caller asks for it.
#[derive(Debug, Clone, Default)]
pub struct StartBackup {
    /// Where the recovery point goes.
    pub vault_name: String,
    /// What is backed up.
    pub resource_arn: String,
    /// Under which role.
    pub role_arn: String,
    /// The caller's token.
    pub idempotency_token: Option<String>,
    /// Minutes it may wait to start: 480 when absent, at least 60.
    pub start_window_minutes: Option<i64>,
    /// Minutes it may take, waiting included.
    pub complete_window_minutes: Option<i64>,
    /// Retention.
    pub lifecycle: Lifecycle,
    /// Tags of the recovery point.
    pub recovery_point_tags: Tags,
}

/// Which backup jobs are wanted; what is absent does not narrow.
#[derive(Debug, Clone, Default)]
pub struct BackupJobFilter {
    /// In this state.
    pub state: Option<String>,
    /// Into this vault.
    pub vault_name: Option<String>,
    /// Of this resource.
    pub resource_arn: Option<String>,
    /// Of resources of this AWS resource type.
    pub resource_type: Option<String>,
    /// Created after.
    pub created_after: Option<Timestamp>,
    /// Created before.
    pub created_before: Option<Timestamp>,
    /// Ended after.
    pub completed_after: Option<Timestamp>,
    /// Ended before.
    pub completed_before: Option<Timestamp>,
    /// Of this account; `*` for all the caller may see.
    pub account: Option<String>,
    /// Children of this job; no job here has any.
    pub parent_job_id: Option<String>,
    /// `SUCCESS`, or `*`.
    pub message_category: Option<String>,
}

/// A backup job and the key of its vault.
#[derive(Debug, Clone)]
pub struct BackupJobView {
    /// The job.
    pub job: BackupJob,
    /// The key that seals the vault, while that exists.
    pub encryption_key_arn: Option<Arn>,
}

impl BackupJobView {
    /// AWS's `MessageCategory`: `SUCCESS` for a job that ended with nothing to report.
    pub fn message_category(&self) -> Option<&'static str> {
        (self.job.state == BackupJobState::Completed).then_some("SUCCESS")
    }
}

/// AWS's rule for windows, on demand.
fn windows(start: Option<i64>, complete: Option<i64>) -> Result<(i64, i64)> {
    for (member, minutes) in [("StartWindowMinutes", start), ("CompleteWindowMinutes", complete)] {
        if let Some(minutes) = minutes
            && !(MIN_START_WINDOW_MINUTES..=MAX_WINDOW_MINUTES).contains(&minutes)
        {
            return Err(AppError::invalid(
                member,
                format!(
                    "{minutes} is not possible; use {MIN_START_WINDOW_MINUTES} minutes to a \
                     hundred years ({MAX_WINDOW_MINUTES})."
                ),
            ));
        }
    }
    if let (Some(start), Some(complete)) = (start, complete)
        && complete < start.saturating_add(60)
    {
        return Err(AppError::invalid(
            "CompleteWindowMinutes",
            format!(
                "{complete} is too short; it must be at least 60 minutes longer than \
                 StartWindowMinutes ({start})."
            ),
        ));
    }
    let default_complete = DEFAULT_COMPLETION_WINDOW_MINUTES
        .max(start.unwrap_or(0).saturating_add(60))
        .min(MAX_WINDOW_MINUTES);
    let complete = complete.unwrap_or(default_complete);
    // On demand both windows count from the creation: to start after the end makes no sense.
    let start = start.unwrap_or(DEFAULT_START_WINDOW_MINUTES.min(complete));
    Ok((start, complete))
}

impl App {
    /// A registered resource that has to exist.
    pub(crate) async fn registered(&self, caller: &Caller, arn: &str) -> Result<Resource> {
        let unknown = || {
            AppError::not_found(format!(
                "'{arn}' is not registered with this server; register it with `provault resource \
                 add filesystem PATH`, and see `provault resource list` for the ARNs there are."
            ))
        };
        let parsed: Arn = arn.parse().map_err(|_| unknown())?;
        match self.catalog().resource(&parsed).await? {
            Some(resource) if resource.account == *caller.account() => Ok(resource),
            _ => Err(unknown()),
        }
    }

    /// `StartBackupJob`. A repetition with the same token gives the same job.
    pub async fn start_backup_job(&self, caller: &Caller, ask: StartBackup) -> Result<BackupJob> {
        const ACTION: &str = "backup:StartBackupJob";
        let vault_arn = self.vault_arn(caller, &ask.vault_name);
        self.audited(caller, ACTION, &vault_arn, async {
            self.permit(caller, ACTION, &vault_arn)?;
            self.permit_named(caller, ACTION, &ask.resource_arn)?;
            lifecycle::check("", &ask.lifecycle)?;
            validate_tags(&ask.recovery_point_tags)?;
            let (start, complete) = windows(ask.start_window_minutes, ask.complete_window_minutes)?;
            check_token(ask.idempotency_token.as_deref())?;
            let vault = self.vault_named(caller, &ask.vault_name).await?;
            let resource = self.registered(caller, &ask.resource_arn).await?;
            if resource.imported {
                return Err(AppError::refused(format!(
                    "Resource '{}' is known from an imported vault alone, and may have lived on \
                     another host; it is restored and tested, not backed up. Register the directory \
                     with `provault resource add filesystem PATH` to back it up.",
                    resource.name
                )));
            }
            let role_arn = self.role_of(caller, "IamRoleArn", &ask.role_arn).await?;
            let now = self.now();
            let job = BackupJob {
                id: new_id(),
                account: caller.account().clone(),
                region: self.region().clone(),
                vault_name: vault.name,
                vault_arn: vault.arn,
                resource_arn: resource.arn,
                resource_name: resource.name,
                kind: resource.kind,
                role_arn,
                lifecycle: ask.lifecycle,
                recovery_point_tags: ask.recovery_point_tags.clone(),
                created_by: None,
                idempotency_token: ask.idempotency_token.clone(),
                // The resource's own setting may allow it; a caller of this API cannot.
                created_at: now,
                start_by: add_minutes(now, start),
                completion_window_minutes: complete,
                started_at: None,
                interruptions: 0,
                completed_at: None,
                state: BackupJobState::Created,
                status_message: None,
                bytes_transferred: 0,
                bytes_expected: None,
                backup_size_bytes: None,
                bytes_stored: None,
                recovery_point_arn: None,
                skipped: Vec::new(),
            };
            if let Some(existing) = self.repeated_backup(caller, &job).await? {
                return Ok(existing);
            }
            match self.catalog().insert_job(&job).await {
                Ok(()) => {
                    self.engine().wake();
                    Ok(job)
                }
                // The same request, twice at once.
                Err(error @ CatalogError::AlreadyExists { .. }) => {
                    match self.repeated_backup(caller, &job).await? {
                        Some(existing) => Ok(existing),
                        None => Err(error.into()),
                    }
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// The job that an earlier request with the same token made.
    async fn repeated_backup(&self, caller: &Caller, job: &BackupJob) -> Result<Option<BackupJob>> {
        let Some(token) = &job.idempotency_token else { return Ok(None) };
        let found = self.catalog().job_by_token::<BackupJob>(caller.account(), token).await?;
        let Some(existing) = found else { return Ok(None) };
        let window = |job: &BackupJob| job.start_by.duration_since(job.created_at);
        let same = existing.vault_arn == job.vault_arn
            && existing.resource_arn == job.resource_arn
            && existing.role_arn == job.role_arn
            && existing.lifecycle == job.lifecycle
            && existing.recovery_point_tags == job.recovery_point_tags
            && existing.completion_window_minutes == job.completion_window_minutes
            && window(&existing).as_mins() == window(job).as_mins();
        if same {
            Ok(Some(existing))
        } else {
            Err(AppError::token_reused(token, "backup job", &existing.id))
        }
    }

    async fn backup_job_of(&self, caller: &Caller, id: &str) -> Result<BackupJob> {
        self.catalog().job::<BackupJob>(caller.account(), id).await?.ok_or_else(|| {
            AppError::not_found(format!(
                "There is no backup job '{id}'; see list-backup-jobs for those there are."
            ))
        })
    }

    /// `StopBackupJob`: ABORTING, and ABORTED when its worker has cleaned up.
    pub async fn stop_backup_job(&self, caller: &Caller, id: &str) -> Result<()> {
        const ACTION: &str = "backup:StopBackupJob";
        self.audited(caller, ACTION, id, async {
            self.permit(caller, ACTION, "*")?;
            self.backup_job_of(caller, id).await?;
            let reason = format!("Stopped by {}.", caller.principal());
            self.engine().stop_backup_job(caller.account(), id, &reason).await?;
            Ok(())
        })
        .await
    }

    /// `DescribeBackupJob`.
    pub async fn describe_backup_job(&self, caller: &Caller, id: &str) -> Result<BackupJobView> {
        self.permit(caller, "backup:DescribeBackupJob", "*")?;
        let job = self.backup_job_of(caller, id).await?;
        let vault = self.catalog().vault(&job.account, &job.vault_name).await?;
        Ok(BackupJobView { job, encryption_key_arn: vault.map(|vault| vault.encryption_key_arn) })
    }

    /// `ListBackupJobs`.
    pub async fn list_backup_jobs(
        &self,
        caller: &Caller,
        filter: &BackupJobFilter,
        paging: &Paging,
    ) -> Result<Listing<BackupJobView>> {
        self.permit(caller, "backup:ListBackupJobs", "*")?;
        caller.check_own_account("ByAccountId", filter.account.as_deref())?;
        if let Some(category) = filter.message_category.as_deref()
            && !matches!(category, "SUCCESS" | "*")
        {
            return Err(AppError::invalid(
                "ByMessageCategory",
                format!("'{category}' is not known to this server; use SUCCESS, or leave it out."),
            ));
        }
        let list = List::new(caller, "ListBackupJobs", filter);
        let page = self.page(&list, paging)?;
        let Some(wanted) = job_filter(caller, &JobQuery::from(filter))? else {
            return Ok(Listing::empty());
        };
        let mut listed = self.catalog().list_jobs::<BackupJob>(&wanted, page).await?;
        // Dropped after the page is read: a page may then be shorter than asked for and still have a
        // next one, as AWS allows.
        listed.items.retain(|job| {
            let kind =
                filter.resource_type.as_deref().is_none_or(|t| t == job.kind.resource_type());
            let success = filter.message_category.as_deref() != Some("SUCCESS")
                || job.state == BackupJobState::Completed;
            kind && success
        });
        let mut keys: BTreeMap<String, Option<Arn>> = BTreeMap::new();
        for job in &listed.items {
            if !keys.contains_key(&job.vault_name) {
                let vault = self.catalog().vault(&job.account, &job.vault_name).await?;
                keys.insert(job.vault_name.clone(), vault.map(|vault| vault.encryption_key_arn));
            }
        }
        let listing = self.listing(&list, listed)?;
        Ok(listing.map(|job| {
            let encryption_key_arn = keys.get(&job.vault_name).cloned().flatten();
            BackupJobView { job, encryption_key_arn }
        }))
    }
}

/// The model does not limit `IdempotencyToken`; what is longer than any client makes is a mistake.
pub(crate) fn check_token(token: Option<&str>) -> Result<()> {
    match token {
        Some(token) if !(1..=256).contains(&token.len()) => {
            Err(AppError::invalid("IdempotencyToken", "use 1 to 256 characters."))
        }
        _ => Ok(()),
    }
}

/// What the filters of backup and restore jobs have in common.
pub(crate) struct JobQuery<'a> {
    pub(crate) state: Option<&'a str>,
    pub(crate) vault_name: Option<&'a str>,
    pub(crate) resource_arn: Option<&'a str>,
    pub(crate) parent_job_id: Option<&'a str>,
    pub(crate) created: (Option<Timestamp>, Option<Timestamp>),
    pub(crate) completed: (Option<Timestamp>, Option<Timestamp>),
}

impl<'a> From<&'a BackupJobFilter> for JobQuery<'a> {
    fn from(filter: &'a BackupJobFilter) -> Self {
        Self {
            state: filter.state.as_deref(),
            vault_name: filter.vault_name.as_deref(),
            resource_arn: filter.resource_arn.as_deref(),
            parent_job_id: filter.parent_job_id.as_deref(),
            created: (filter.created_after, filter.created_before),
            completed: (filter.completed_after, filter.completed_before),
        }
    }
}

/// The catalog's filter, or `None` where nothing can match.
pub(crate) fn job_filter(caller: &Caller, query: &JobQuery<'_>) -> Result<Option<JobFilter>> {
    if query.parent_job_id.is_some() {
        return Ok(None);
    }
    let resource_arn = match query.resource_arn {
        None => None,
        Some(text) => Some(text.parse::<Arn>().map_err(|why| {
            AppError::invalid("ByResourceArn", why.message.trim_start_matches("Arn: "))
        })?),
    };
    Ok(Some(JobFilter {
        account: Some(caller.account().clone()),
        states: query.state.map(str::to_owned).into_iter().collect(),
        resource_arn,
        vault_name: query.vault_name.map(str::to_owned),
        created_after: query.created.0,
        created_before: query.created.1,
        completed_after: query.completed.0,
        completed_before: query.completed.1,
        ..JobFilter::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_awss() {
        assert_eq!(windows(None, None).unwrap(), (480, 10_080));
        assert_eq!(windows(Some(60), None).unwrap(), (60, 10_080));
        assert_eq!(windows(None, Some(120)).unwrap(), (120, 120));
        assert_eq!(windows(Some(20_000), None).unwrap(), (20_000, 20_060));
        for (start, complete, member) in [
            (Some(59), None, "StartWindowMinutes"),
            (Some(-1), None, "StartWindowMinutes"),
            (None, Some(0), "CompleteWindowMinutes"),
            (Some(60), Some(119), "CompleteWindowMinutes"),
            (Some(i64::MAX), None, "StartWindowMinutes"),
        ] {
            let error = windows(start, complete).unwrap_err();
            assert_eq!(error.member.as_deref(), Some(member), "{start:?} {complete:?}");
        }
    }
}

//! Restore jobs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use provault_catalog::{CatalogError, JobFilter, Page};
use provault_domain::restore_job::ValidationStatus;
use provault_domain::role::DEFAULT_ROLE;
use provault_domain::{
    Arn, RecoveryPoint, RestoreJob, RestoreJobEvent, RestoreJobState, RestoreTest, RestoreTestState,
};
use provault_driver::RestorePreview;

use crate::backup_job::{JobQuery, check_token, job_filter};
use crate::paging::List;
use crate::{App, AppError, Caller, Listing, Paging, Result, new_id};

/// A restore as its caller asks for it.
#[derive(Debug, Clone, Default)]
pub struct StartRestore {
    /// What is restored.
    pub recovery_point_arn: String,
    /// How; the driver of its kind knows the keys.
    pub metadata: BTreeMap<String, String>,
    /// Under which role; the default role when absent.
    pub role_arn: Option<String>,
    /// The caller's token.
    pub idempotency_token: Option<String>,
    /// What the caller believes the point to be.
    pub resource_type: Option<String>,
}

/// Which restore jobs are wanted; what is absent does not narrow.
#[derive(Debug, Clone, Default)]
pub struct RestoreJobFilter {
    /// In this state.
    pub status: Option<String>,
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
    /// Of this restore testing plan.
    pub testing_plan_arn: Option<String>,
    /// Children of this job; no job here has any.
    pub parent_job_id: Option<String>,
}

/// Which restore jobs of a resource are wanted; what is absent does not narrow.
#[derive(Debug, Clone, Default)]
pub struct RestoreJobByResourceFilter {
    /// In this state.
    pub status: Option<String>,
    /// Of recovery points created at this moment or later.
    pub point_created_after: Option<Timestamp>,
    /// Of recovery points created at this moment or earlier.
    pub point_created_before: Option<Timestamp>,
}

/// What somebody outside found out about a restored copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidationResult {
    /// `VALIDATING`, `SUCCESSFUL`, `FAILED` or `TIMED_OUT`.
    pub status: String,
    /// In the reporter's words.
    pub message: Option<String>,
}

/// Characters of a validation's message.
const LONGEST_MESSAGE: usize = 1024;

/// A restore job and what it restores from.
#[derive(Debug, Clone)]
pub struct RestoreJobView {
    /// The job.
    pub job: RestoreJob,
    /// The vault.
    pub vault_arn: Arn,
    /// When the recovery point was created, while that exists.
    pub recovery_point_created_at: Option<Timestamp>,
}

/// To write over what is there, and delete it: in the source itself, decided on the resource.
const IN_PLACE: &str = "provault:RestoreInPlace";
/// The same in any other directory of the host that the server may write to.
const ELSEWHERE: &str = "provault:RestoreInPlaceElsewhere";

impl App {
    /// `StartRestoreJob`. A repetition with the same token gives the same job.
    pub async fn start_restore_job(
        &self,
        caller: &Caller,
        ask: StartRestore,
    ) -> Result<RestoreJob> {
        const ACTION: &str = "backup:StartRestoreJob";
        self.audited(caller, ACTION, &ask.recovery_point_arn, async {
            check_token(ask.idempotency_token.as_deref())?;
            let point = self.point_to_restore(caller, ACTION, &ask).await?;
            let role_arn = match &ask.role_arn {
                Some(arn) => self.role_of(caller, "IamRoleArn", arn).await?,
                None => Arn::role(caller.account(), DEFAULT_ROLE),
            };
            let job = RestoreJob {
                id: new_id(),
                account: caller.account().clone(),
                region: self.region().clone(),
                recovery_point_arn: point.arn.clone(),
                vault_name: point.vault_name.clone(),
                source_resource_arn: point.resource_arn.clone(),
                kind: point.kind,
                role_arn,
                metadata: ask.metadata.clone(),
                idempotency_token: ask.idempotency_token.clone(),
                test_token: None,
                testing_plan_arn: None,
                created_at: self.now(),
                started_at: None,
                completed_at: None,
                state: RestoreJobState::Pending,
                status_message: None,
                stop_requested: None,
                attempts: 0,
                backup_size_bytes: point.backup_size_bytes,
                bytes_restored: 0,
                created_resource_arn: None,
                validation: None,
                validation_message: None,
                deletion: None,
                deletion_message: None,
            };
            // Before the target is looked at: to a repetition it exists already.
            if let Some(existing) = self.repeated_restore(caller, &job).await? {
                return Ok(existing);
            }
            self.check_restore(&point, &ask).await?;
            match self.catalog().insert_job(&job).await {
                Ok(()) => {
                    self.engine().wake();
                    Ok(job)
                }
                // The same request, twice at once.
                Err(error @ CatalogError::AlreadyExists { .. }) => {
                    match self.repeated_restore(caller, &job).await? {
                        Some(existing) => Ok(existing),
                        None => Err(error.into()),
                    }
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// The recovery point that is asked for, when the caller may do this with it.
    async fn point_to_restore(
        &self,
        caller: &Caller,
        action: &str,
        ask: &StartRestore,
    ) -> Result<RecoveryPoint> {
        let point = self.permitted_point(caller, action, &ask.recovery_point_arn).await?;
        self.permit_in_place(caller, &point, ask).await?;
        if let Some(wanted) = &ask.resource_type
            && wanted != point.kind.resource_type()
        {
            return Err(AppError::invalid(
                "ResourceType",
                format!(
                    "'{wanted}' does not fit: the recovery point is of type {}; use that, or \
                     leave it out.",
                    point.kind.resource_type()
                ),
            ));
        }
        Ok(point)
    }

    /// A restore that may write over what exists is decided once more. The source is where the resource
    /// is registered now: what the request or an imported record calls so may be anything here.
    async fn permit_in_place(
        &self,
        caller: &Caller,
        point: &RecoveryPoint,
        ask: &StartRestore,
    ) -> Result<()> {
        let driver = self.engine().driver(point.kind)?;
        let Some(target) = driver.writes_over(&ask.metadata)? else { return Ok(()) };
        let resource = self.catalog().resource(&point.resource_arn).await?;
        let into_source = resource.is_some_and(|resource| {
            !resource.imported && driver.identity(&resource.config) == target
        });
        if into_source {
            self.permit(caller, IN_PLACE, &point.resource_arn)
        } else {
            self.permit(caller, ELSEWHERE, "*")
        }
    }

    /// Refuses what could not be restored, before anything is made of it.
    async fn check_restore(&self, point: &RecoveryPoint, ask: &StartRestore) -> Result<()> {
        if !point.is_restorable() {
            return Err(AppError::refused(format!(
                "Recovery point {} is {} and can no longer be restored; choose another one.",
                point.arn, point.status
            )));
        }
        // The key that names the source in AWS's metadata has to name this point's.
        let source = point.kind.source_key();
        if let Some(recorded) = point.restore_metadata.get(source)
            && ask.metadata.get(source).is_some_and(|asked| asked != recorded)
        {
            return Err(AppError::invalid(
                format!("Metadata.{source}"),
                format!("the recovery point was made of {recorded}; give that."),
            ));
        }
        let driver = self.engine().driver(point.kind)?;
        let metadata = ask.metadata.clone();
        blocking(move || driver.check_restore(&metadata)).await??;
        Ok(())
    }

    /// `provault:PreviewRestore`: what `StartRestoreJob` would do now with the same request. Writes
    /// nothing, and makes no job.
    pub async fn preview_restore(
        &self,
        caller: &Caller,
        ask: StartRestore,
    ) -> Result<RestorePreview> {
        const ACTION: &str = "provault:PreviewRestore";
        let point = self.point_to_restore(caller, ACTION, &ask).await?;
        self.check_restore(&point, &ask).await?;
        Ok(self.engine().preview_restore(&point, ask.metadata).await?)
    }

    /// The job that an earlier request with the same token made.
    async fn repeated_restore(
        &self,
        caller: &Caller,
        job: &RestoreJob,
    ) -> Result<Option<RestoreJob>> {
        let Some(token) = &job.idempotency_token else { return Ok(None) };
        let found = self.catalog().job_by_token::<RestoreJob>(caller.account(), token).await?;
        let Some(existing) = found else { return Ok(None) };
        let same = existing.recovery_point_arn == job.recovery_point_arn
            && existing.role_arn == job.role_arn
            && existing.metadata == job.metadata;
        if same {
            Ok(Some(existing))
        } else {
            Err(AppError::token_reused(token, "restore job", &existing.id))
        }
    }

    async fn restore_job_of(&self, caller: &Caller, id: &str) -> Result<RestoreJob> {
        self.catalog().job::<RestoreJob>(caller.account(), id).await?.ok_or_else(|| {
            AppError::not_found(format!(
                "There is no restore job '{id}'; see list-restore-jobs for those there are."
            ))
        })
    }

    async fn restore_view(&self, job: RestoreJob) -> Result<RestoreJobView> {
        let point = self.catalog().recovery_point(&job.account, &job.recovery_point_arn).await?;
        Ok(RestoreJobView {
            vault_arn: Arn::backup_vault(&job.region, &job.account, &job.vault_name),
            recovery_point_created_at: point.map(|point| point.created_at),
            job,
        })
    }

    /// `DescribeRestoreJob`.
    pub async fn describe_restore_job(&self, caller: &Caller, id: &str) -> Result<RestoreJobView> {
        self.permit(caller, "backup:DescribeRestoreJob", "*")?;
        self.restore_view(self.restore_job_of(caller, id).await?).await
    }

    /// `ListRestoreJobs`: operators' own and those of restore tests.
    pub async fn list_restore_jobs(
        &self,
        caller: &Caller,
        filter: &RestoreJobFilter,
        paging: &Paging,
    ) -> Result<Listing<RestoreJobView>> {
        self.permit(caller, "backup:ListRestoreJobs", "*")?;
        caller.check_own_account("ByAccountId", filter.account.as_deref())?;
        let list = List::new(caller, "ListRestoreJobs", filter);
        let page = self.page(&list, paging)?;
        let query = JobQuery {
            state: filter.status.as_deref(),
            vault_name: None,
            resource_arn: None,
            parent_job_id: filter.parent_job_id.as_deref(),
            created: (filter.created_after, filter.created_before),
            completed: (filter.completed_after, filter.completed_before),
        };
        let Some(mut wanted) = job_filter(caller, &query)? else { return Ok(Listing::empty()) };
        if let Some(text) = &filter.testing_plan_arn {
            let arn = text.parse::<Arn>().map_err(|_| {
                AppError::invalid("ByRestoreTestingPlanArn", format!("'{text}' is not an ARN."))
            })?;
            wanted.testing_plan_arn = Some(arn);
        }
        let mut listed = self.catalog().list_jobs::<RestoreJob>(&wanted, page).await?;
        listed.items.retain(|job| {
            filter.resource_type.as_deref().is_none_or(|t| t == job.kind.resource_type())
        });
        let listing = self.listing(&list, listed)?;
        let mut items = Vec::with_capacity(listing.items.len());
        for job in listing.items {
            items.push(self.restore_view(job).await?);
        }
        Ok(Listing { items, next_token: listing.next_token })
    }

    /// `ListRestoreJobsByProtectedResource`: operators' own and those of restore tests.
    pub async fn list_restore_jobs_by_resource(
        &self,
        caller: &Caller,
        resource: &str,
        filter: &RestoreJobByResourceFilter,
        paging: &Paging,
    ) -> Result<Listing<RestoreJobView>> {
        const ACTION: &str = "backup:ListRestoreJobsByProtectedResource";
        let arn = resource.parse::<Arn>().map_err(|_| {
            AppError::invalid("ResourceArn", format!("'{resource}' is not an ARN."))
        })?;
        self.permit(caller, ACTION, &arn)?;
        let list = List::new(caller, "ListRestoreJobsByProtectedResource", &(&arn, filter));
        let page = self.page(&list, paging)?;
        let wanted = JobFilter {
            account: Some(caller.account().clone()),
            states: filter.status.iter().cloned().collect(),
            resource_arn: Some(arn),
            ..JobFilter::default()
        };
        let listed = self.catalog().list_jobs::<RestoreJob>(&wanted, page).await?;
        let listing = self.listing(&list, listed)?;
        let mut items = Vec::with_capacity(listing.items.len());
        for job in listing.items {
            items.push(self.restore_view(job).await?);
        }
        // A point that is gone by now lies in no interval.
        items.retain(|view| {
            let created = view.recovery_point_created_at;
            filter.point_created_after.is_none_or(|from| created.is_some_and(|at| at >= from))
                && filter.point_created_before.is_none_or(|to| created.is_some_and(|at| at <= to))
        });
        Ok(Listing { items, next_token: listing.next_token })
    }

    /// `PutRestoreValidationResult`: what somebody outside says of an operator's own restore, once
    /// that is COMPLETED, or of the copy that a restore test keeps for that. A final result stays; to
    /// report it again is no error. Any other restore test gives its own verdict on its restore.
    pub async fn put_restore_validation_result(
        &self,
        caller: &Caller,
        id: &str,
        result: ValidationResult,
    ) -> Result<()> {
        const ACTION: &str = "backup:PutRestoreValidationResult";
        self.audited(caller, ACTION, id, async {
            self.permit(caller, ACTION, "*")?;
            let status: ValidationStatus = result.status.parse().map_err(|_| {
                AppError::invalid(
                    "ValidationStatus",
                    format!(
                        "'{}' is none of FAILED, SUCCESSFUL, TIMED_OUT and VALIDATING.",
                        result.status
                    ),
                )
            })?;
            let said = result.message.as_deref().unwrap_or_default();
            if said.chars().count() > LONGEST_MESSAGE || said.contains(char::is_control) {
                return Err(AppError::invalid(
                    "ValidationStatusMessage",
                    format!("use at most {LONGEST_MESSAGE} characters on one line."),
                ));
            }
            let job = self.restore_job_of(caller, id).await?;
            if job.test_token.is_some() {
                return self.report_on_test(caller, &job, status, result.message).await;
            }
            let event = RestoreJobEvent::ValidationReported { status, message: result.message };
            let account = caller.account();
            let now = self.now();
            let catalog = self.catalog();
            catalog.step_job::<RestoreJob>(account, id, None, event, now, Vec::new()).await?;
            Ok(())
        })
        .await
    }

    /// What somebody outside says of the copy of a restore test, while that is kept for it.
    async fn report_on_test(
        &self,
        caller: &Caller,
        job: &RestoreJob,
        status: ValidationStatus,
        message: Option<String>,
    ) -> Result<()> {
        let filter = JobFilter {
            account: Some(caller.account().clone()),
            recovery_point_arn: Some(job.recovery_point_arn.clone()),
            ..JobFilter::default()
        };
        let tests = self.catalog().list_jobs::<RestoreTest>(&filter, Page::all()).await?.items;
        let test = tests.into_iter().find(|test| test.restore_job_id.as_deref() == Some(&job.id));
        let asked = test.as_ref().and_then(|test| test.findings.validation.as_ref());
        match (&test, asked) {
            (Some(test), Some(_)) if test.state == RestoreTestState::Validating => {
                Ok(self.engine().report_validation(test, status, message).await?)
            }
            (Some(_), Some(asked))
                if asked.status == status && status != ValidationStatus::Validating =>
            {
                Ok(())
            }
            (Some(test), Some(asked)) => Err(AppError::refused(format!(
                "Restore test {} no longer waits for a validation result: the last word on restore \
                 job {} was {}, and its copy was kept until {} at the latest.",
                test.id, job.id, asked.status, asked.until
            ))),
            _ => Err(AppError::refused(format!(
                "Restore job {} belongs to a restore test, which gives its own verdict on it. A \
                 restore testing selection with ValidationWindowHours keeps the copies of its tests for \
                 others to look at, once the test itself is done.",
                job.id
            ))),
        }
    }

    /// `provault:StopRestoreJob`, for an operator's own restore.
    pub async fn stop_restore_job(&self, caller: &Caller, id: &str) -> Result<()> {
        const ACTION: &str = "provault:StopRestoreJob";
        self.audited(caller, ACTION, id, async {
            self.permit(caller, ACTION, "*")?;
            self.restore_job_of(caller, id).await?;
            let reason = format!("Stopped by {}.", caller.principal());
            self.engine().stop_restore_job(caller.account(), id, &reason).await?;
            Ok(())
        })
        .await
    }
}

/// Runs what looks at the disk on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| AppError::fault(&error))
}

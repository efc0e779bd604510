//! Restore jobs.

use provault_app::{
    App, AppError, Caller, RestoreJobByResourceFilter, RestoreJobFilter, RestoreJobView,
    StartRestore, ValidationResult,
};
use provault_wire::NoOutput;
use provault_wire::enums::{RestoreDeletionStatus, RestoreJobStatus, RestoreValidationStatus};
use provault_wire::types::{
    DescribeRestoreJobInput, DescribeRestoreJobOutput, ListRestoreJobsByProtectedResourceInput,
    ListRestoreJobsByProtectedResourceOutput, ListRestoreJobsInput, ListRestoreJobsOutput,
    PutRestoreValidationResultInput, RestoreJobCreator, RestoreJobsListMember,
    StartRestoreJobInput, StartRestoreJobOutput,
};

use crate::convert::{arn, moment, needed, page, paging, percent, size, time, unsupported};

pub(crate) async fn start(
    app: &App,
    caller: &Caller,
    input: StartRestoreJobInput,
) -> Result<StartRestoreJobOutput, AppError> {
    unsupported(
        "CopySourceTagsToRestoredResource",
        input.copy_source_tags_to_restored_resource == Some(true),
    )?;
    let ask = StartRestore {
        recovery_point_arn: needed("RecoveryPointArn", input.recovery_point_arn)?,
        metadata: needed("Metadata", input.metadata)?,
        role_arn: input.iam_role_arn,
        idempotency_token: input.idempotency_token,
        resource_type: input.resource_type,
    };
    let job = app.start_restore_job(caller, ask).await?;
    Ok(StartRestoreJobOutput { restore_job_id: Some(job.id) })
}

/// The members that the two shapes of a restore job share.
macro_rules! wire {
    ($shape:ident, $view:expr) => {{
        let RestoreJobView { job, vault_arn, recovery_point_created_at } = $view;
        $shape {
            account_id: Some(job.account.to_string()),
            backup_size_in_bytes: size(job.backup_size_bytes),
            backup_vault_arn: arn(&vault_arn),
            completion_date: job.completed_at.and_then(time),
            created_by: job
                .testing_plan_arn
                .as_ref()
                .map(|plan| RestoreJobCreator { restore_testing_plan_arn: arn(plan) }),
            created_resource_arn: job.created_resource_arn.as_ref().and_then(arn),
            creation_date: time(job.created_at),
            deletion_status: job.deletion.map(|d| RestoreDeletionStatus::from(d.as_str())),
            iam_role_arn: arn(&job.role_arn),
            is_parent: Some(false),
            percent_done: percent(job.percent_done()),
            recovery_point_arn: arn(&job.recovery_point_arn),
            recovery_point_creation_date: recovery_point_created_at.and_then(time),
            resource_type: Some(job.kind.resource_type().to_owned()),
            source_resource_arn: arn(&job.source_resource_arn),
            status: Some(RestoreJobStatus::from(job.state.as_str())),
            validation_status: job.validation.map(|v| RestoreValidationStatus::from(v.as_str())),
            restore_job_id: Some(job.id),
            deletion_status_message: job.deletion_message,
            status_message: job.status_message,
            validation_status_message: job.validation_message,
            ..$shape::default()
        }
    }};
}

pub(crate) async fn describe(
    app: &App,
    caller: &Caller,
    input: DescribeRestoreJobInput,
) -> Result<DescribeRestoreJobOutput, AppError> {
    let id = needed("RestoreJobId", input.restore_job_id)?;
    Ok(wire!(DescribeRestoreJobOutput, app.describe_restore_job(caller, &id).await?))
}

pub(crate) async fn list(
    app: &App,
    caller: &Caller,
    input: ListRestoreJobsInput,
) -> Result<ListRestoreJobsOutput, AppError> {
    let filter = RestoreJobFilter {
        status: input.by_status.map(|status| status.as_str().to_owned()),
        resource_type: input.by_resource_type,
        created_after: moment("ByCreatedAfter", input.by_created_after)?,
        created_before: moment("ByCreatedBefore", input.by_created_before)?,
        completed_after: moment("ByCompleteAfter", input.by_complete_after)?,
        completed_before: moment("ByCompleteBefore", input.by_complete_before)?,
        account: input.by_account_id,
        testing_plan_arn: input.by_restore_testing_plan_arn,
        parent_job_id: input.by_parent_job_id,
    };
    let paging = paging(input.max_results, input.next_token);
    let listing = app.list_restore_jobs(caller, &filter, &paging).await?;
    let (restore_jobs, next_token) = page(listing, |view| wire!(RestoreJobsListMember, view));
    Ok(ListRestoreJobsOutput { next_token, restore_jobs })
}

pub(crate) async fn list_by_resource(
    app: &App,
    caller: &Caller,
    input: ListRestoreJobsByProtectedResourceInput,
) -> Result<ListRestoreJobsByProtectedResourceOutput, AppError> {
    let resource = needed("ResourceArn", input.resource_arn)?;
    let filter = RestoreJobByResourceFilter {
        status: input.by_status.map(|status| status.as_str().to_owned()),
        point_created_after: moment(
            "ByRecoveryPointCreationDateAfter",
            input.by_recovery_point_creation_date_after,
        )?,
        point_created_before: moment(
            "ByRecoveryPointCreationDateBefore",
            input.by_recovery_point_creation_date_before,
        )?,
    };
    let paging = paging(input.max_results, input.next_token);
    let listing = app.list_restore_jobs_by_resource(caller, &resource, &filter, &paging).await?;
    let (restore_jobs, next_token) = page(listing, |view| wire!(RestoreJobsListMember, view));
    Ok(ListRestoreJobsByProtectedResourceOutput { next_token, restore_jobs })
}

pub(crate) async fn validation_result(
    app: &App,
    caller: &Caller,
    input: PutRestoreValidationResultInput,
) -> Result<NoOutput, AppError> {
    let id = needed("RestoreJobId", input.restore_job_id)?;
    let result = ValidationResult {
        status: needed("ValidationStatus", input.validation_status)?.as_str().to_owned(),
        message: input.validation_status_message,
    };
    app.put_restore_validation_result(caller, &id, result).await?;
    Ok(NoOutput {})
}

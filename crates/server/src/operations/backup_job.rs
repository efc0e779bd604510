//! Backup jobs.

use provault_app::{App, AppError, BackupJobFilter, BackupJobView, Caller, StartBackup};
use provault_wire::NoOutput;
use provault_wire::enums::{BackupJobState, Index};
use provault_wire::types::{
    BackupJob, DescribeBackupJobInput, DescribeBackupJobOutput, ListBackupJobsInput,
    ListBackupJobsOutput, StartBackupJobInput, StartBackupJobOutput, StopBackupJobInput,
};

use crate::convert::{
    arn, creator, lifecycle, map, moment, needed, page, paging, percent, size, time, unsupported,
    wire_lifecycle,
};

pub(crate) async fn start(
    app: &App,
    caller: &Caller,
    input: StartBackupJobInput,
) -> Result<StartBackupJobOutput, AppError> {
    let options = input.backup_options.is_some_and(|options| !options.is_empty());
    unsupported("BackupOptions", options)?;
    unsupported("Index", input.index.is_some_and(|index| index != Index::Disabled))?;
    unsupported(
        "LogicallyAirGappedBackupVaultArn",
        input.logically_air_gapped_backup_vault_arn.is_some(),
    )?;
    let ask = StartBackup {
        vault_name: needed("BackupVaultName", input.backup_vault_name)?,
        resource_arn: needed("ResourceArn", input.resource_arn)?,
        role_arn: needed("IamRoleArn", input.iam_role_arn)?,
        idempotency_token: input.idempotency_token,
        start_window_minutes: input.start_window_minutes,
        complete_window_minutes: input.complete_window_minutes,
        lifecycle: lifecycle("", input.lifecycle)?,
        recovery_point_tags: map(input.recovery_point_tags),
    };
    let job = app.start_backup_job(caller, ask).await?;
    Ok(StartBackupJobOutput {
        backup_job_id: Some(job.id),
        creation_date: time(job.created_at),
        is_parent: Some(false),
        recovery_point_arn: job.recovery_point_arn.as_ref().and_then(arn),
    })
}

pub(crate) async fn stop(
    app: &App,
    caller: &Caller,
    input: StopBackupJobInput,
) -> Result<NoOutput, AppError> {
    app.stop_backup_job(caller, &needed("BackupJobId", input.backup_job_id)?).await?;
    Ok(NoOutput {})
}

/// The members that the two shapes of a backup job share.
macro_rules! wire {
    ($shape:ident, $view:expr) => {{
        let view: BackupJobView = $view;
        let message_category = view.message_category().map(str::to_owned);
        let job = view.job;
        $shape {
            account_id: Some(job.account.to_string()),
            backup_size_in_bytes: job.backup_size_bytes.and_then(size),
            backup_vault_arn: arn(&job.vault_arn),
            bytes_transferred: size(job.bytes_transferred),
            completion_date: job.completed_at.and_then(time),
            created_by: creator(job.created_by.as_ref()),
            creation_date: time(job.created_at),
            encryption_key_arn: view.encryption_key_arn.as_ref().and_then(arn),
            iam_role_arn: arn(&job.role_arn),
            initiation_date: time(job.created_at),
            is_encrypted: Some(true),
            is_parent: Some(false),
            message_category,
            percent_done: percent(job.percent_done()),
            recovery_point_arn: job.recovery_point_arn.as_ref().and_then(arn),
            recovery_point_lifecycle: wire_lifecycle(&job.lifecycle),
            resource_arn: arn(&job.resource_arn),
            resource_type: Some(job.kind.resource_type().to_owned()),
            start_by: time(job.start_by),
            state: Some(BackupJobState::from(job.state.as_str())),
            vault_lock_state: Some("UNLOCKED".to_owned()),
            vault_type: Some("BACKUP_VAULT".to_owned()),
            backup_job_id: Some(job.id),
            backup_vault_name: Some(job.vault_name),
            resource_name: Some(job.resource_name),
            status_message: job.status_message,
            ..$shape::default()
        }
    }};
}

pub(crate) async fn describe(
    app: &App,
    caller: &Caller,
    input: DescribeBackupJobInput,
) -> Result<DescribeBackupJobOutput, AppError> {
    let id = needed("BackupJobId", input.backup_job_id)?;
    Ok(wire!(DescribeBackupJobOutput, app.describe_backup_job(caller, &id).await?))
}

pub(crate) async fn list(
    app: &App,
    caller: &Caller,
    input: ListBackupJobsInput,
) -> Result<ListBackupJobsOutput, AppError> {
    let filter = BackupJobFilter {
        state: input.by_state.map(|state| state.as_str().to_owned()),
        vault_name: input.by_backup_vault_name,
        resource_arn: input.by_resource_arn,
        resource_type: input.by_resource_type,
        created_after: moment("ByCreatedAfter", input.by_created_after)?,
        created_before: moment("ByCreatedBefore", input.by_created_before)?,
        completed_after: moment("ByCompleteAfter", input.by_complete_after)?,
        completed_before: moment("ByCompleteBefore", input.by_complete_before)?,
        account: input.by_account_id,
        parent_job_id: input.by_parent_job_id,
        message_category: input.by_message_category,
    };
    let paging = paging(input.max_results, input.next_token);
    let listing = app.list_backup_jobs(caller, &filter, &paging).await?;
    let (backup_jobs, next_token) = page(listing, |view| wire!(BackupJob, view));
    Ok(ListBackupJobsOutput { backup_jobs, next_token })
}

//! Running a restore job: open the recovery point, let the driver write it back, record the end.
//!
//! The driver stages what it writes and moves it into place as its last act, so a crash leaves
//! either the target whole or nothing but a staging directory that bears the job's id, which the
//! reconciler has the driver discard.

use std::sync::Arc;

use provault_catalog::{CatalogError, Change, Claim, Claimed};
use provault_domain::recovery_point::Payload;
use provault_domain::verdict::{Failure, Fault};
use provault_domain::{
    AccountId, Arn, BackupVault, RecoveryPoint, Resource, RestoreJob, RestoreJobEvent,
    RetentionSettings,
};
use provault_driver::{CancelFlag, DriverError, RestoreOutcome, RestoreRequest, WorkContext};

use crate::heartbeat::{Heartbeat, Progress};
use crate::pause::pause;
use crate::shared::{Shared, blocking};
use crate::source::SnapshotSource;
use crate::{EngineError, Result};

/// A restore that did not end well.
pub(crate) enum Failed {
    /// Stopped on request; nothing is left.
    Stopped,
    /// Could not be done; nothing is left.
    Driver(DriverError),
    /// Did not come as far as the driver.
    Engine(EngineError),
}

impl From<EngineError> for Failed {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl From<CatalogError> for Failed {
    fn from(error: CatalogError) -> Self {
        Self::Engine(error.into())
    }
}

impl Failed {
    pub(crate) fn failure(&self, step: &str) -> Failure {
        let fault = match self {
            Self::Driver(error) => error.fault(),
            // A vault that shows damage already when it is opened is damaged data too.
            Self::Engine(EngineError::Repository { source, .. }) if source.is_damage() => {
                Fault::Data
            }
            Self::Stopped | Self::Engine(_) => Fault::Host,
        };
        Failure { fault, step: step.to_owned(), message: self.to_string() }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopped => f.write_str("it was stopped on request."),
            Self::Driver(error) => error.fmt(f),
            Self::Engine(error) => error.fmt(f),
        }
    }
}

/// The recovery point and its vault, or why it cannot be restored.
pub(crate) async fn find_point(
    shared: &Shared,
    account: &AccountId,
    arn: &Arn,
) -> Result<(RecoveryPoint, BackupVault)> {
    let point =
        shared.catalog.recovery_point(account, arn).await?.filter(RecoveryPoint::is_restorable);
    let point = point.ok_or_else(|| {
        EngineError::Refused(format!(
            "the recovery point {arn} does not exist or is being deleted."
        ))
    })?;
    let vault = shared.catalog.vault(account, &point.vault_name).await?.ok_or_else(|| {
        EngineError::Internal(format!("vault {} of {arn} is not in the catalog", point.vault_name))
    })?;
    Ok((point, vault))
}

/// Opens a recovery point for reading, on a thread that may block.
pub(crate) async fn open_point(
    shared: &Arc<Shared>,
    point: &RecoveryPoint,
    vault: &BackupVault,
    cancel: &CancelFlag,
) -> std::result::Result<SnapshotSource, Failed> {
    let repository = shared.repository(vault).await?;
    let Payload::Stored { snapshot_id, tree_path, .. } = point.payload.clone();
    let cancel = cancel.clone();
    blocking(move || SnapshotSource::open(&repository, &snapshot_id, &tree_path, &cancel))
        .await?
        .map_err(|error| Failed::Driver(error.into()))
}

/// Runs an operator's restore job to its end.
pub(crate) async fn run(shared: &Arc<Shared>, claimed: Claimed<RestoreJob>) {
    let Claimed { job, claim } = claimed;
    let entered = shared.enter(&job.id);
    let outcome = perform(shared, &job, &claim, &entered.cancel).await;
    let (event, changes) = match outcome {
        Ok(outcome) => finished(shared, &job, outcome),
        Err(Failed::Stopped) => {
            let message = format!(
                "{} What was written is removed again.",
                shared.stop_reason(&job.id).unwrap_or_else(|| "Stopped on request.".to_owned())
            );
            (RestoreJobEvent::Aborted { message }, Vec::new())
        }
        Err(failed) => (RestoreJobEvent::Failed { message: failed.to_string() }, Vec::new()),
    };
    if let Err(error) = end(shared, &job, &claim, event, changes).await {
        tracing::error!(job = job.id, %error, "the restore's end was not recorded; the reconciler will end it");
    }
    shared.bell.notify_waiters();
}

async fn end(
    shared: &Shared,
    job: &RestoreJob,
    claim: &Claim,
    mut event: RestoreJobEvent,
    mut changes: Vec<Change>,
) -> Result<()> {
    let step = |event, changes| {
        let now = shared.now();
        shared.catalog.step_job::<RestoreJob>(
            &job.account,
            &job.id,
            Some(claim),
            event,
            now,
            changes,
        )
    };
    match step(event.clone(), changes.clone()).await {
        // The target was registered before, under a name of the operator's: that stays.
        Err(CatalogError::AlreadyExists { .. }) => {
            changes.retain(|change| !matches!(change, Change::InsertResource(..)));
            if let RestoreJobEvent::Completed { created_resource_arn, .. } = &mut event {
                *created_resource_arn = None;
            }
            step(event, changes).await?;
        }
        other => drop(other?),
    }
    Ok(())
}

/// Starts the job and lets the driver write; the end of the job is the caller's to record.
pub(crate) async fn perform(
    shared: &Arc<Shared>,
    job: &RestoreJob,
    claim: &Claim,
    cancel: &CancelFlag,
) -> std::result::Result<RestoreOutcome, Failed> {
    shared
        .catalog
        .step_job::<RestoreJob>(
            &job.account,
            &job.id,
            Some(claim),
            RestoreJobEvent::Started,
            shared.now(),
            Vec::new(),
        )
        .await?;
    let progress = Arc::new(Progress::default());
    let _beat = Heartbeat::start::<RestoreJob>(shared, &job.account, claim, cancel, &progress);
    if job.test_token.is_none() {
        blocking(|| pause("restore:started")).await?;
    }
    let began = shared.begin();
    let (point, vault) = find_point(shared, &job.account, &job.recovery_point_arn).await?;
    let source = open_point(shared, &point, &vault, cancel).await?;
    let driver = shared.driver(job.kind)?;
    let outcome = {
        let (job, cancel) = (job.clone(), cancel.clone());
        blocking(move || {
            let report = |done, total| progress.set(done, total);
            let context = WorkContext { cancel: &cancel, progress: &report };
            let request = RestoreRequest { job_id: &job.id, metadata: &job.metadata };
            let outcome = driver.restore(&request, &source, &context);
            if outcome.is_ok() && job.test_token.is_none() {
                pause("restore:written");
            }
            outcome
        })
        .await?
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) if error.is_cancelled() => return Err(Failed::Stopped),
        Err(error) => return Err(Failed::Driver(error)),
    };
    let detail =
        format!("{} files, {} bytes. {}", outcome.files, outcome.bytes, outcome.notes.join(" "));
    let step = shared.step_record("restore", began, true, detail.trim_end().to_owned());
    if let Err(error) = shared.catalog.log_step(&job.id, Some(claim), &step).await {
        tracing::warn!(job = job.id, %error, "a step was not logged");
    }
    Ok(outcome)
}

fn finished(
    shared: &Shared,
    job: &RestoreJob,
    outcome: RestoreOutcome,
) -> (RestoreJobEvent, Vec<Change>) {
    let now = shared.now();
    let mut changes = vec![Change::PointRestored(job.recovery_point_arn.clone(), now)];
    let mut created_resource_arn = None;
    if let Some(created) = outcome.created
        && let Ok(driver) = shared.driver(job.kind)
    {
        let resource = Resource {
            arn: new_resource_arn(job),
            account: job.account.clone(),
            region: job.region.clone(),
            kind: job.kind,
            name: created.name,
            tags: [("provault:restored-from".to_owned(), job.recovery_point_arn.to_string())]
                .into(),
            service: None,
            probes: Vec::new(),
            rpo_seconds: None,
            rto_seconds: None,
            testing: None,
            retention: RetentionSettings::default(),
            created_at: now,
            imported: false,
            config: created.config,
        };
        created_resource_arn = Some(resource.arn.clone());
        let identity = driver.identity(&resource.config);
        changes.push(Change::InsertResource(Box::new(resource), identity));
    }
    let event = RestoreJobEvent::Completed {
        created_resource_arn,
        bytes_restored: outcome.bytes,
        message: (!outcome.notes.is_empty()).then(|| outcome.notes.join(" ")),
    };
    (event, changes)
}

/// The ARN of what a restore creates; the same for the same job, however often it is asked for.
pub(crate) fn new_resource_arn(job: &RestoreJob) -> Arn {
    let id: String = job.id.chars().filter(char::is_ascii_hexdigit).take(17).collect();
    Arn::resource_of(job.kind, &job.region, &job.account, &id)
}

//! Running a restore job: open the recovery point, let the driver write it back, record the end.
//!
//! The driver stages what it writes and moves it into place as its last act, so a crash leaves
//! either the target whole or nothing but a staging directory that bears the job's id. The job stays
//! RUNNING then, as it does when the server is told to stop: a worker of the next start claims it and
//! has the driver take up what was left. While its vault is away it waits for that, as a backup does. One that
//! was begun [`MAX_RESTORE_ATTEMPTS`] times without an end is given up, and what was left is discarded. One that somebody stopped bears that in its row, so
//! that it ends whatever becomes of its server, and is not gone on with. Where a target is written over as the
//! driver goes, as a device is, whatever ends the restore early says that the target is not to be used.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use provault_catalog::{Catalog, CatalogError, Change, Claim, Claimed, JobFilter, Page};
use provault_domain::recovery_point::Payload;
use provault_domain::restore_job::MAX_RESTORE_ATTEMPTS;
use provault_domain::verdict::{Failure, Fault};
use provault_domain::{
    AccountId, Arn, BackupVault, Exemption, RecoveryPoint, Resource, RestoreJob, RestoreJobEvent,
    RestoreJobState, RetentionSettings,
};
use provault_driver::{
    BrokenOff, CancelFlag, DriverError, RestoreOutcome, RestoreRequest, WorkContext,
};

use crate::heartbeat::{Heartbeat, Progress};
use crate::pause::pause;
use crate::shared::{Shared, blocking};
use crate::source::SnapshotSource;
use crate::{EngineError, Result, waiting};

/// A restore that did not end well.
pub(crate) enum Failed {
    /// Stopped on request; nothing is left.
    Stopped,
    /// Could not be done, or was stopped in the middle of a target that it writes over. Nothing is left but
    /// such a target, which the error names.
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
    /// Whether it ended because it was to stop.
    fn is_stopped(&self) -> bool {
        match self {
            Self::Stopped => true,
            Self::Driver(error) => error.is_cancelled(),
            Self::Engine(_) => false,
        }
    }

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

/// How long a restored copy that became a resource needs no backup of its own.
const COPY_EXEMPT: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The next restore to carry out: one that lost its worker, else the oldest that waits.
pub(crate) async fn claim(shared: &Arc<Shared>) -> Result<Option<Claimed<RestoreJob>>> {
    for job in shared.catalog.abandoned_jobs::<RestoreJob>(shared.now()).await? {
        // A restore test brings its own restore to an end; and a suspended machine wakes with every
        // lease over and every worker alive.
        if job.test_token.is_some() || shared.is_running(&job.id) {
            continue;
        }
        let (now, until) = (shared.now(), shared.lease_until());
        let claimed = shared.catalog.claim_job_by_id(&job.id, &shared.owner, now, until).await?;
        if claimed.is_some() {
            return Ok(claimed);
        }
    }
    Ok(shared.catalog.claim_job(&shared.owner, shared.now(), shared.lease_until()).await?)
}

/// Runs an operator's restore job to its end, or as far as this server goes on.
pub(crate) async fn run(shared: &Arc<Shared>, claimed: Claimed<RestoreJob>) {
    let Claimed { job, claim } = claimed;
    let entered = shared.enter(&job.id);
    let outcome = if job.stop_requested.is_some() {
        Err(Failed::Stopped)
    } else if job.state == RestoreJobState::Running && job.is_worn_out() {
        Err(Failed::Engine(EngineError::Refused(format!(
            "The server ended {MAX_RESTORE_ATTEMPTS} times while this restore ran, so it is not begun \
             again. See the server's log for what it died of, then restore again."
        ))))
    } else {
        match wait_for_vault(shared, &job, &claim).await {
            Ok(Wait::None) => perform(shared, &job, &claim, &entered.cancel).await,
            Ok(Wait::Refused) => Err(Failed::Stopped),
            // An error: it is another worker's, or is found again when its lease is over.
            Ok(Wait::Begun) | Err(_) => return,
        }
    };
    // What is staged is that worker's, too.
    if let Err(Failed::Engine(EngineError::Catalog(CatalogError::Fenced { .. }))) = &outcome {
        tracing::warn!(job = job.id, "another worker has the job; it is left to that one");
        return;
    }
    let interruption = shared.interruption(&job.id);
    // The row tells: the server may have been told to stop in the same moment.
    let stopped = match shared.catalog.job::<RestoreJob>(&job.account, &job.id).await {
        Ok(now) => now.and_then(|now| now.stop_requested),
        // Then it is suspended or failed; the next to find it ends it.
        Err(error) => {
            tracing::warn!(job = job.id, %error, "whether a restore is to stop is not known");
            None
        }
    };
    let interruption = interruption.filter(|_| stopped.is_none());
    let partly = outcome.as_ref().err().and_then(|failed| partly_written(shared, &job, failed));
    let (event, changes) = match (outcome, interruption) {
        (Ok(outcome), _) => finished(shared, &job, outcome),
        // What failed while everything was going down is tried again before it is believed.
        (Err(_), Some(reason)) => {
            let mut reason =
                format!("{} The next start of the server goes on with it.", reason.trim());
            if let Some((target, _)) = partly {
                reason = format!("{reason} Until it is done, do not use {}.", target.display());
            }
            (RestoreJobEvent::Suspended { reason }, Vec::new())
        }
        (Err(failed), _) => {
            let left = discard(shared, &job).await;
            let partly = partly.map(|(target, broken_off)| broken_off.told(&target));
            // One that was to stop is not begun again, which the catalog says.
            let is_stopped =
                failed.is_stopped() || (stopped.is_some() && matches!(failed, Failed::Engine(_)));
            let event = if is_stopped {
                let reason = stopped.or_else(|| shared.stop_reason(&job.id));
                let reason = reason.unwrap_or_else(|| "Stopped on request.".to_owned());
                let left = partly.unwrap_or(left);
                RestoreJobEvent::Aborted { message: format!("{reason} {left}") }
            } else {
                let mut message = failed.to_string();
                if let Some(partly) = partly
                    && !message.contains(&partly)
                {
                    message = format!("{message} {partly}");
                }
                RestoreJobEvent::Failed { message }
            };
            (event, Vec::new())
        }
    };
    if let Err(error) = end(shared, &job, &claim, event, changes).await {
        tracing::error!(job = job.id, %error, "the restore's end was not recorded; it is taken up again");
    }
    shared.bell.notify_waiters();
}

/// The target that a restore which did not end well has left written over in part: as its driver says, or as
/// an earlier attempt may have left it that nobody heard of any more.
fn partly_written(
    shared: &Shared,
    job: &RestoreJob,
    failed: &Failed,
) -> Option<(PathBuf, BrokenOff)> {
    if let Failed::Driver(error) = failed
        && let Some((target, broken_off)) = error.partly_written()
    {
        return Some((target.to_owned(), broken_off));
    }
    // As it was claimed: it had begun before.
    if job.state != RestoreJobState::Running {
        return None;
    }
    let target = shared.driver(job.kind).ok()?.writes_in_place(&job.metadata)?;
    Some((target, BrokenOff::Unknown))
}

/// Whether a restore has to wait.
enum Wait {
    /// It has not.
    None,
    /// It was given back.
    Begun,
    /// It has, and somebody stopped it.
    Refused,
}

/// Gives back a restore that is taken up again and whose vault is away. Of one that begins somebody hears at
/// once, and asks again; one that an interruption broke off nobody watches any more.
async fn wait_for_vault(
    shared: &Arc<Shared>,
    job: &RestoreJob,
    claim: &Claim,
) -> std::result::Result<Wait, CatalogError> {
    if job.state != RestoreJobState::Running {
        return Ok(Wait::None);
    }
    let opened = async {
        let (_, vault) = find_point(shared, &job.account, &job.recovery_point_arn).await?;
        waiting::open_vault(shared, &vault).await
    };
    let Err(error) = opened.await else { return Ok(Wait::None) };
    if !waiting::may_help(&error) {
        return Ok(Wait::None);
    }
    tracing::warn!(job = job.id, %error, "the vault of a restore is away");
    let event = RestoreJobEvent::PutOff { reason: error.to_string() };
    let put = waiting::put_off::<RestoreJob>(shared, &job.account, job.created_at, claim, event);
    Ok(if put.await? { Wait::Begun } else { Wait::Refused })
}

/// Ends every restore that a catalog from an older time has as unfinished: whoever asked for one saw
/// its end long ago, and to go on with it now would write over what was done since.
pub(crate) async fn give_up_all(catalog: &Catalog, now: Timestamp) -> Result<()> {
    let filter = JobFilter { unfinished_only: true, ..JobFilter::default() };
    for job in catalog.list_jobs::<RestoreJob>(&filter, Page::all()).await?.items {
        if job.test_token.is_some() {
            continue;
        }
        let message = "The catalog was brought back from a copy of an earlier time, in which this \
                       restore was unfinished. It is not gone on with; restore again if need be. A device \
                       that it was writing onto may be partly written."
            .to_owned();
        let event = RestoreJobEvent::Failed { message };
        catalog.step_job::<RestoreJob>(&job.account, &job.id, None, event, now, Vec::new()).await?;
    }
    Ok(())
}

/// Removes what a job that has come to its end left unfinished; says so. Mostly the driver has done it
/// already.
async fn discard(shared: &Arc<Shared>, job: &RestoreJob) -> String {
    let discarded = async {
        let driver = shared.driver(job.kind)?;
        let job = job.clone();
        blocking(move || driver.discard_partial(&RestoreRequest::new(&job.id, &job.metadata))).await
    };
    let trouble = match discarded.await {
        Ok(Ok(())) => return "What was written and not in place yet is removed again.".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::error!(job = job.id, trouble, "cannot remove what an unfinished restore left");
    format!("What it had staged could not be removed: {trouble}")
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
            changes
                .retain(|change| !matches!(change, Change::InsertResource(..) | Change::Exempt(_)));
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
    let again = job.state == RestoreJobState::Running;
    let event = if again { RestoreJobEvent::Resumed } else { RestoreJobEvent::Started };
    shared
        .catalog
        .step_job::<RestoreJob>(&job.account, &job.id, Some(claim), event, shared.now(), Vec::new())
        .await?;
    let progress = Arc::new(Progress::default());
    let _beat = Heartbeat::start::<RestoreJob>(shared, &job.account, claim, cancel, &progress);
    if job.test_token.is_none() {
        blocking(|| pause("restore:started")).await?;
    }
    let began = shared.begin();
    let (point, vault) = find_point(shared, &job.account, &job.recovery_point_arn).await?;
    let source =
        open_point(shared, &point, &vault, cancel).await.map_err(|failed| match failed {
            Failed::Driver(error) if error.is_cancelled() => Failed::Stopped,
            failed => failed,
        })?;
    let driver = shared.driver(job.kind)?;
    let outcome = {
        let (job, cancel) = (job.clone(), cancel.clone());
        blocking(move || {
            let report = |done, total| progress.set(done, total);
            let context = WorkContext { cancel: &cancel, progress: &report };
            let request = RestoreRequest {
                began_at: job.started_at,
                ..RestoreRequest::new(&job.id, &job.metadata)
            };
            let outcome = if again {
                driver.resume(&request, &source, &context)
            } else {
                driver.restore(&request, &source, &context)
            };
            if outcome.is_ok() && job.test_token.is_none() {
                pause("restore:written");
            }
            outcome
        })
        .await?
    };
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) if error.is_cancelled() && error.partly_written().is_none() => {
            return Err(Failed::Stopped);
        }
        Err(error) => {
            let step = shared.step_record("restore", began, false, error.to_string());
            if let Err(error) = shared.catalog.log_step(&job.id, Some(claim), &step).await {
                tracing::warn!(job = job.id, %error, "a step was not logged");
            }
            return Err(Failed::Driver(error));
        }
    };
    let detail = format!("{} files, {} bytes. {}", outcome.files, outcome.bytes, told(&outcome));
    let step = shared.step_record("restore", began, true, detail.trim_end().to_owned());
    if let Err(error) = shared.catalog.log_step(&job.id, Some(claim), &step).await {
        tracing::warn!(job = job.id, %error, "a step was not logged");
    }
    Ok(outcome)
}

/// What there is to say of a restore, in sentences.
fn told(outcome: &RestoreOutcome) -> String {
    let mut sentences = Vec::new();
    if let Some(counts) = &outcome.in_place {
        let gone = match counts.deleted.entries {
            0 => String::new(),
            n => format!(", {n} deleted"),
        };
        let kept = match counts.kept.entries + counts.kept_newer.entries {
            0 => String::new(),
            n => format!(", {n} left although they differ"),
        };
        sentences.push(format!(
            "In place: {} created, {} overwritten, {} set right, {} as they were{kept}{gone}.",
            counts.created.entries,
            counts.overwritten.entries,
            counts.updated.entries,
            counts.same.entries,
        ));
    }
    if let Some(verified) = &outcome.verified {
        sentences.push(format!(
            "Verified: {} entries read back, {} files among them, {} bytes hashed, all as in the recovery point.",
            verified.entries, verified.files, verified.bytes
        ));
    }
    sentences.extend(outcome.notes.iter().cloned());
    sentences.join(" ")
}

fn finished(
    shared: &Shared,
    job: &RestoreJob,
    outcome: RestoreOutcome,
) -> (RestoreJobEvent, Vec<Change>) {
    let now = shared.now();
    let message = Some(told(&outcome)).filter(|message| !message.is_empty());
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
        let exemption = exemption(&resource, job, now);
        changes.push(Change::InsertResource(Box::new(resource), identity));
        changes.push(Change::Exempt(Box::new(exemption)));
    }
    let event =
        RestoreJobEvent::Completed { created_resource_arn, bytes_restored: outcome.bytes, message };
    (event, changes)
}

/// A copy is looked at, and mostly removed: for a while nobody need be told that nothing backs it up.
fn exemption(resource: &Resource, job: &RestoreJob, now: Timestamp) -> Exemption {
    Exemption {
        resource_arn: resource.arn.clone(),
        account: resource.account.clone(),
        reason: format!("restored from {}", job.recovery_point_arn),
        owner: format!("restore job {}", job.id),
        until: now.checked_add(COPY_EXEMPT).unwrap_or(Timestamp::MAX),
        created_at: now,
    }
}

/// The ARN of what a restore creates; the same for the same job, however often it is asked for.
pub(crate) fn new_resource_arn(job: &RestoreJob) -> Arn {
    let id: String = job.id.chars().filter(char::is_ascii_hexdigit).take(17).collect();
    Arn::resource_of(job.kind, &job.region, &job.account, &id)
}

//! Running a backup job: capture → store → commit.
//!
//! Order of commitment: the job is still this worker's; blobs, packs, index, snapshot (all inside
//! [`SnapshotWriter::finish`]); then one catalog transaction with the job's end and the recovery point. A crash before the
//! snapshot leaves unreferenced packs; one after it leaves a snapshot that bears the job's id, and
//! the reconciler finishes the job from the record inside it.
//!
//! [`SnapshotWriter::finish`]: provault_repository::SnapshotWriter::finish

use std::sync::Arc;

use jiff::Timestamp;
use provault_catalog::{CatalogError, Change, Claim, Claimed};
use provault_domain::backup_job::{BackupResult, SkippedPath};
use provault_domain::recovery_point::Payload;
use provault_domain::{
    Arn, BackupJob, BackupJobEvent, BackupVault, RecoveryPoint, RecoveryPointStatus, Resource,
    RestoreTest, RestoreTestState,
};
use provault_driver::{CancelFlag, DriverError, WorkContext};
use provault_repository::{
    BackupOptions, CommittedSnapshot, Repository, RootComponent, SnapshotWriter,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::backup_ready::{Ready, get_ready};
use crate::heartbeat::{Heartbeat, Progress};
use crate::lineage::Ancestry;
use crate::pause::pause;
use crate::reads::{self, Reading};
use crate::reconcile::{self, Committed};
use crate::shared::{Shared, blocking};
use crate::sink::SnapshotSink;
use crate::{EngineError, Result, backup_testing, lineage, waiting};

/// What a snapshot says about itself, in `/.provault/recovery-point.json`: enough to enter its
/// recovery point in a catalog that knows nothing of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PointRecord {
    pub(crate) job: BackupJob,
    pub(crate) resource: Resource,
    /// Where the resource's tree begins in the snapshot.
    pub(crate) tree_path: String,
    pub(crate) captured_at: Timestamp,
    pub(crate) restore_metadata: std::collections::BTreeMap<String, String>,
    pub(crate) backup_size_bytes: u64,
    pub(crate) bytes_transferred: u64,
    pub(crate) bytes_stored: u64,
    pub(crate) files: u64,
    pub(crate) skipped: Vec<SkippedPath>,
    pub(crate) notes: Vec<String>,
}

/// The tag that ties a snapshot to its job.
pub(crate) fn job_tag(job_id: &str) -> String {
    format!("provault-job-{job_id}")
}

/// What is said of a job that ended without its reader.
const HUNG: &str = "The source did not answer in time after the job was to stop: the read of it still hangs, and is \
     gone without. No recovery point was made. No other backup of the resource begins until the read comes back; \
     see to it that the source's mount answers, or start the server again.";

pub(crate) enum Failure {
    /// Nothing was begun, and another try may help.
    NotYet(String),
    /// Nothing was begun, and its start window has closed meanwhile.
    TooLate,
    /// Nothing was committed.
    Before(String),
    /// Stopped, and nothing was committed.
    Stopped,
    /// As [`Failure::Stopped`], but for the reader, which has not come back and commits nothing any more.
    Hung,
    /// The snapshot is there, the catalog does not know it yet: the reconciler's work.
    After(EngineError),
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::Before(error.to_string())
    }
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        Self::Before(error.to_string())
    }
}

/// Runs a claimed job to its end.
pub(crate) async fn run(shared: &Arc<Shared>, claimed: Claimed<BackupJob>) {
    let Claimed { job, claim } = claimed;
    let entered = shared.enter(&job.id);
    let outcome = attempt(shared, &job, &claim, &entered.cancel).await;
    let interruption = shared.interruption(&job.id);
    let hung = matches!(outcome, Err(Failure::Hung));
    let event = match outcome {
        Ok(()) => {
            lineage::give_back(shared, &job).await;
            return;
        }
        Err(Failure::NotYet(reason)) => {
            tracing::warn!(job = job.id, reason, "the backup could not begin");
            let (account, event) = (&job.account, BackupJobEvent::PutOff { reason });
            // Where it could not be given back it is somebody else's, or tried again later.
            let put = waiting::put_off::<BackupJob>(shared, account, job.created_at, &claim, event);
            drop(put.await);
            return;
        }
        Err(Failure::TooLate) => BackupJobEvent::StartWindowClosed,
        Err(Failure::After(error)) => {
            tracing::error!(job = job.id, %error, "the backup is stored but not yet entered; it will be adopted");
            return;
        }
        // What failed while everything was going down is tried again before it is believed.
        Err(Failure::Before(_) | Failure::Stopped | Failure::Hung) if interruption.is_some() => {
            BackupJobEvent::Suspended { reason: interruption.clone().unwrap_or_default() }
        }
        Err(Failure::Before(message)) => BackupJobEvent::Failed { message },
        // ABORTED where somebody stopped it.
        Err(Failure::Hung) => BackupJobEvent::Failed { message: HUNG.to_owned() },
        Err(Failure::Stopped) => {
            let current = shared.catalog.job::<BackupJob>(&job.account, &job.id).await;
            match current {
                Ok(Some(job)) if job.state == provault_domain::BackupJobState::Aborting => {
                    BackupJobEvent::Stopped
                }
                _ => BackupJobEvent::Failed {
                    message: format!(
                        "The job was broken off: {}. No recovery point was made.",
                        shared
                            .stop_reason(&job.id)
                            .unwrap_or_else(|| "it was asked to stop".to_owned())
                    ),
                },
            }
        }
    };
    let ended = shared
        .catalog
        .step_job::<BackupJob>(&job.account, &job.id, Some(&claim), event, shared.now(), Vec::new())
        .await;
    match ended {
        // It had not begun when the server was told to stop, and waits for the next start.
        Err(CatalogError::Illegal(_)) if interruption.is_some() => {}
        // It was stopped, or its window closed, before it had begun; where it was not, nothing is given back at
        // a source that does not answer: the next backup does it.
        Err(CatalogError::Illegal(_)) | Ok(_) if hung => {}
        Err(CatalogError::Fenced { .. }) => {
            tracing::warn!(job = job.id, "another worker has the job; it is left to that one");
        }
        Err(error) => {
            tracing::error!(job = job.id, %error, "the job's end was not recorded; the reconciler will end it");
        }
        Ok(_) => lineage::give_back(shared, &job).await,
    }
    shared.bell.notify_waiters();
}

async fn attempt(
    shared: &Arc<Shared>,
    job: &BackupJob,
    claim: &Claim,
    cancel: &CancelFlag,
) -> std::result::Result<(), Failure> {
    let progress = Arc::new(Progress::default());
    let _beat = Heartbeat::start::<BackupJob>(shared, &job.account, claim, cancel, &progress);
    // Before the start: what is not there yet may come within the start window.
    let ready = get_ready(shared, job, cancel).await;
    let now = shared.now();
    // One that goes on after an interruption started within its window.
    if job.started_at.is_none() && job.start_by <= now {
        return Err(Failure::TooLate);
    }
    let Ready { resource, vault, repository } = ready?;
    // An earlier attempt may have come further than it was told: no job makes two snapshots. Looked for before
    // the start, so that a storage that does not answer now is asked again: what it holds may be whole.
    let earlier = if job.is_interrupted() {
        let found = reconcile::find_committed(shared, &vault, &job.id).await;
        found.map_err(|error| Failure::NotYet(error.to_string()))?
    } else {
        Committed::Nothing
    };
    let started = shared
        .catalog
        .step_job::<BackupJob>(
            &job.account,
            &job.id,
            Some(claim),
            BackupJobEvent::Started,
            now,
            Vec::new(),
        )
        .await;
    let job = match started {
        // It was stopped while it waited for its vault.
        Err(CatalogError::Illegal(_) | CatalogError::Fenced { .. }) => return Ok(()),
        started => started?,
    };
    blocking(|| pause("backup:started")).await?;

    match earlier {
        Committed::Whole(snapshot_id, record) => {
            tracing::info!(job = job.id, "stored before the interruption: adopted");
            return enter(shared, &record, &snapshot_id, &vault, Some(claim))
                .await
                .map_err(Failure::After);
        }
        Committed::Hurt(why) => {
            return Err(Failure::Before(format!(
                "The snapshot of an earlier attempt is not whole: {why}. No recovery point was \
                 made; start the backup again, and check the vault."
            )));
        }
        Committed::Nothing => {}
    }
    let ancestry = Ancestry::of(shared, &job).await?;

    let began = shared.begin();
    let captured = {
        let (shared, job, resource, cancel) =
            (Arc::clone(shared), job.clone(), resource.clone(), cancel.clone());
        let (of, flag, claim) = (job.clone(), cancel.clone(), claim.clone());
        reads::read(&shared.clone(), &of, &flag, move |reading| {
            let job = (&job, &claim);
            capture(&shared, &repository, job, &resource, ancestry, &cancel, &progress, reading)
        })
        .await?
    };
    let (record, committed) = match captured {
        Some(Ok(captured)) => captured,
        Some(Err(error)) if error.is_cancelled() => return Err(Failure::Stopped),
        Some(Err(error)) => return Err(Failure::Before(error.to_string())),
        None => return Err(Failure::Hung),
    };
    let detail = format!(
        "{} files, {} bytes, of which {} bytes were read and {} bytes added to the vault; {} paths skipped",
        record.files,
        record.backup_size_bytes,
        record.bytes_transferred,
        record.bytes_stored,
        record.skipped.len()
    );
    let step = shared.step_record("capture and store", began, true, detail);
    // The log is for people: that it lacks a line is no reason to lose the backup.
    if let Err(error) = shared.catalog.log_step(&job.id, Some(claim), &step).await {
        tracing::warn!(job = job.id, %error, "a step was not logged");
    }
    blocking(|| pause("backup:committed")).await?;
    enter(shared, &record, &committed.id.to_string(), &vault, Some(claim))
        .await
        .map_err(Failure::After)
}

#[allow(clippy::too_many_arguments)] // one call, one caller
fn capture(
    shared: &Shared,
    repository: &Repository,
    (job, claim): (&BackupJob, &Claim),
    resource: &Resource,
    ancestry: Ancestry,
    cancel: &CancelFlag,
    progress: &Progress,
    reading: &Reading,
) -> std::result::Result<(PointRecord, CommittedSnapshot), DriverError> {
    let store = |error: provault_repository::Error| match error {
        provault_repository::Error::Cancelled => DriverError::Cancelled,
        other => DriverError::Sink(provault_driver::SinkError::Store(Box::new(other))),
    };
    let driver = shared
        .driver(resource.kind)
        .map_err(|error| DriverError::Sink(provault_driver::SinkError::Store(Box::new(error))))?;
    // Before the capture: what it holds is at least as new as this.
    let captured_at = shared.now();
    let capture = driver.capture(resource, cancel)?;
    pause("backup:captured");

    let identity = driver.identity(&resource.config);
    let (parents, root) = place_in_tree(&identity);
    let tree_path = tree_path(&parents, &root);
    let Ancestry { parent, lineage } = ancestry;
    let parent = parent.and_then(|id| id.parse().ok());
    let mut writer = repository
        .backup(BackupOptions {
            parent,
            root_path: parents,
            paths: vec![identity],
            hostname: shared.hostname.clone(),
            username: "provault".to_owned(),
            tags: vec![job_tag(&job.id)],
            time: captured_at,
            program_version: format!("provault {}", env!("CARGO_PKG_VERSION")),
            cancel: provault_repository::CancelFlag::from_shared(cancel.as_shared()),
            progress: None,
        })
        .map_err(store)?;
    let report_progress = |done, total| progress.set(done, total);
    let context = WorkContext { cancel, progress: &report_progress };
    let report = {
        let mut sink =
            SnapshotSink::new(&mut writer, root, &report_progress).after(parent, lineage);
        capture.read_into(&mut sink, &context)
    };
    let read = report.and_then(|report| {
        pause("backup:read");
        // What is read may still be on its way; the record inside the snapshot tells what it weighs.
        Ok((report, writer.settled_stats().map_err(store)?))
    });
    let (report, stats) = match read {
        Ok(read) => read,
        Err(error) => {
            if shared.interruption(&job.id).is_some() {
                keep_for_next_attempt(job, writer);
            }
            return Err(error);
        }
    };
    let record = PointRecord {
        job: job.clone(),
        tree_path,
        restore_metadata: driver.restore_metadata(resource),
        resource: resource.clone(),
        captured_at,
        backup_size_bytes: report.bytes,
        bytes_transferred: stats.bytes_read,
        bytes_stored: stats.bytes_stored,
        files: report.files,
        skipped: report.skipped,
        notes: report.notes,
    };
    let json = serde_json::to_vec_pretty(&record)
        .map_err(|error| DriverError::Sink(provault_driver::SinkError::Store(Box::new(error))))?;
    // Whoever has the job now makes its snapshot; a second one nobody would adopt. What the catalog does not
    // say is no reason to throw away what was read: the reconcilers remove what turns out to be too much.
    let held = shared.catalog.renew_lease(claim, shared.now(), shared.lease_until());
    if let Err(CatalogError::Fenced { .. }) = Handle::current().block_on(held) {
        shared.interrupt(&job.id, "its lease was lost to another worker");
        keep_for_next_attempt(job, writer);
        return Err(DriverError::Cancelled);
    }
    if !reading.may_store() {
        return Err(DriverError::Cancelled);
    }
    let committed = writer.finish(Some(&json)).map_err(store)?;
    // The record inside the snapshot could not yet know what its own last packs weigh.
    let record = PointRecord { bytes_stored: committed.stats.bytes_stored, ..record };
    Ok((record, committed))
}

/// Makes durable what an interrupted attempt has stored, so that the next one finds it. What cannot be
/// kept is read again.
fn keep_for_next_attempt(job: &BackupJob, writer: SnapshotWriter) {
    match writer.keep() {
        Ok(stats) => tracing::info!(
            job = job.id,
            bytes_read = stats.bytes_read,
            bytes_stored = stats.bytes_stored,
            "the backup is interrupted; what it has stored is kept for its next attempt"
        ),
        Err(error) => {
            tracing::warn!(job = job.id, %error, "not all is kept that an interrupted backup has stored");
        }
    }
}

/// Ends the job as COMPLETED or PARTIAL and enters its recovery point, in one transaction. Called
/// by the runner and, after a crash, by the reconciler.
pub(crate) async fn enter(
    shared: &Arc<Shared>,
    record: &PointRecord,
    snapshot_id: &str,
    vault: &BackupVault,
    claim: Option<&Claim>,
) -> Result<()> {
    let job = &record.job;
    let now = shared.now();
    let point = recovery_point(record, snapshot_id, vault, now);
    let mut tags = record.resource.tags.clone();
    tags.extend(job.recovery_point_tags.clone());
    let arn = point.arn.clone();
    // An import may have entered it already, after a catalog was put back that is older.
    let known = shared.catalog.recovery_point(&job.account, &arn).await?.is_some();
    let mut changes = Vec::new();
    if !known {
        changes.push(Change::InsertRecoveryPoint(Box::new(point), tags));
    }
    if !known {
        let test = backup_testing::test_after(shared, job, &arn, now).await?;
        changes.extend(test.map(|test| {
            // Who is told, however early the test ends.
            let test = RestoreTest { vault_name: Some(vault.name.clone()), ..test };
            Change::TestAfterBackup(Box::new(test))
        }));
    }
    let result = BackupResult {
        recovery_point_arn: arn,
        backup_size_bytes: record.backup_size_bytes,
        bytes_transferred: record.bytes_transferred,
        bytes_stored: record.bytes_stored,
        skipped: record.skipped.clone(),
        message: (!record.notes.is_empty()).then(|| record.notes.join(" ")),
    };
    shared
        .catalog
        .step_job::<BackupJob>(
            &job.account,
            &job.id,
            claim,
            BackupJobEvent::Completed(Box::new(result)),
            now,
            changes,
        )
        .await?;
    shared.bell.notify_waiters();
    Ok(())
}

pub(crate) fn recovery_point(
    record: &PointRecord,
    snapshot_id: &str,
    vault: &BackupVault,
    now: Timestamp,
) -> RecoveryPoint {
    let job = &record.job;
    RecoveryPoint {
        // One job makes one point: the same id keeps an adopted point from being entered twice.
        arn: Arn::recovery_point(&job.region, &job.account, &job.id),
        account: job.account.clone(),
        region: job.region.clone(),
        vault_name: vault.name.clone(),
        vault_arn: vault.arn.clone(),
        resource_arn: job.resource_arn.clone(),
        resource_name: job.resource_name.clone(),
        kind: job.kind,
        backup_job_id: job.id.clone(),
        role_arn: job.role_arn.clone(),
        created_by: job.created_by.clone(),
        encryption_key_arn: vault.encryption_key_arn.clone(),
        status: if record.skipped.is_empty() {
            RecoveryPointStatus::Completed
        } else {
            RecoveryPointStatus::Partial
        },
        status_message: None,
        captured_at: record.captured_at,
        // A job that had to wait makes a point that is kept as long as any other.
        created_at: job.created_at.max(record.captured_at),
        completed_at: now,
        backup_size_bytes: record.backup_size_bytes,
        lifecycle: job.lifecycle,
        payload: Payload::Stored {
            snapshot_id: snapshot_id.to_owned(),
            tree_path: record.tree_path.clone(),
            bytes_stored: record.bytes_stored,
            files: record.files,
        },
        restore_metadata: record.restore_metadata.clone(),
        last_restore_at: None,
        last_verdict: None,
        condition: None,
        shrunk: None,
        hold: None,
    }
}

/// Where a resource goes in its snapshot: below the names of its path, as `restic` has it, so that
/// stock tools restore it to where people look for it. The directories above it are not part of
/// the resource; they get plain metadata.
pub(crate) fn place_in_tree(identity: &str) -> (Vec<RootComponent>, Vec<u8>) {
    let mut names: Vec<&str> = identity.split('/').filter(|name| !name.is_empty()).collect();
    // A whole host has no name of its own.
    let root = names.pop().unwrap_or("root").as_bytes().to_vec();
    let plain = provault_repository::Metadata { mode: 0o755, ..Default::default() };
    let parents = names
        .into_iter()
        .map(|name| RootComponent { name: name.as_bytes().to_vec(), metadata: plain.clone() })
        .collect();
    (parents, root)
}

fn tree_path(parents: &[RootComponent], root: &[u8]) -> String {
    let names: Vec<String> = parents
        .iter()
        .map(|parent| parent.name.as_slice())
        .chain([root])
        // They come from a `str` split at `/`, so nothing is lost here.
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    names.join("/")
}

/// A restore test of `resource` that waits for its turn.
pub(crate) fn new_test(
    resource: &Resource,
    requested_point: Option<Arn>,
    after_backup_job: Option<String>,
    now: Timestamp,
) -> RestoreTest {
    RestoreTest {
        id: uuid::Uuid::new_v4().to_string(),
        account: resource.account.clone(),
        region: resource.region.clone(),
        token: uuid::Uuid::new_v4().to_string(),
        resource_arn: resource.arn.clone(),
        resource_name: resource.name.clone(),
        kind: resource.kind,
        requested_point,
        after_backup_job,
        planned: None,
        budget: None,
        waiting: None,
        created_at: now,
        started_at: None,
        interruptions: 0,
        completed_at: None,
        state: RestoreTestState::Pending,
        recovery_point_arn: None,
        vault_name: None,
        restore_job_id: None,
        created_resource_arn: None,
        findings: provault_domain::verdict::Findings::default(),
        steps: Vec::new(),
        verdict: None,
        reason: None,
        cleaned_up: None,
    }
}

//! Reconcilers: they take no input but the state, and bring every half-done thing to a truthful
//! end. They run when the engine starts, before anything else, and from time to time after.
//!
//! | found | done |
//! |---|---|
//! | a backup job without a worker, its snapshot whole in the vault | adopted: COMPLETED or PARTIAL |
//! | a backup job without a worker, no snapshot | waits for its next attempt; FAILED after the last one, ABORTED when it was being stopped |
//! | a backup job without a worker, a snapshot that is not whole | FAILED, or ABORTED when it was being stopped |
//! | a backup job without a worker, a vault that does not answer | asked again; ended like the one above an hour after its completion window |
//! | a restore job without a worker | left to a worker, who takes it up ([`crate::restore::claim`]) |
//! | a restore test without a worker | reaped by its token, begun anew; INCONCLUSIVE after the last attempt |
//! | a restore test that waits for somebody outside | left, and its copy: no worker holds it |
//! | a care run without a worker | waits for its next attempt; FAILED after the last one, ABORTED when it was being stopped |
//! | a recovery point that is DELETING | deleted |
//! | a snapshot of ours whose job ended without a recovery point | forgotten |
//! | a second snapshot of a job whose recovery point names another one that is there | forgotten |
//! | a copy under test that no unfinished test owns | reaped by its token |
//! | a vault that was being made or removed | its repository removed, if nothing of others is in it |
//! | an empty repository that no vault names, below the data directory | removed |

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use provault_catalog::{Claimed, Job, Page, PointFilter};
use provault_domain::plan::add_minutes;
use provault_domain::recovery_point::Payload;
use provault_domain::{
    BackupJob, BackupJobEvent, BackupVault, RecoveryPoint, RecoveryPointStatus, RestoreTest,
};
use provault_repository::{CancelFlag, Snapshot};
use tokio::task::JoinSet;

use crate::backup::{self, PointRecord, job_tag};
use crate::shared::{DIED, Shared, blocking};
use crate::vaults::{DELETED, is_unused_repository};
use crate::{EngineError, Result, care, expiry, restore_test, unsettled};

/// One round of all reconcilers. Each goes on when another fails.
pub(crate) async fn tick(shared: &Arc<Shared>) {
    let told = |what: &str, outcome: Result<()>| {
        if let Err(error) = outcome {
            tracing::error!(%error, "reconciling {what} failed; it is tried again");
        }
    };
    told("backup jobs", each_abandoned(shared, backup_job).await);
    told("restore tests", each_abandoned(shared, restore_test::give_back_abandoned).await);
    told("care runs", each_abandoned(shared, care::give_back_abandoned).await);
    told("deletions", deletions(shared).await);
    told("copies under test", copies(shared).await);
}

/// What only the start of a server has the quiet for.
pub(crate) async fn at_start(shared: &Arc<Shared>) {
    // All of it is safe beside a server at work, so that one storage that does not answer need not
    // hold up a start, which other vaults wait for.
    in_time(shared, "what an earlier process left half done", |shared| async move {
        tick(&shared).await;
    })
    .await;
    if let Err(error) = crate::catalog_backup::reap(shared).await {
        tracing::error!(%error, "old copies of the catalog are left");
    }
    if let Err(error) = orphans(shared).await {
        tracing::error!(%error, "looking for orphans failed; it is tried again at the next start");
    }
}

/// Waits for a part of the start, but no longer than a storage may keep silent; then it goes on
/// by itself.
async fn in_time<F>(shared: &Arc<Shared>, what: &str, part: impl FnOnce(Arc<Shared>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let part = tokio::spawn(part(Arc::clone(shared)));
    match tokio::time::timeout(shared.storage_timeout, part).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "looking after {what} broke down"),
        Err(_) => {
            tracing::warn!("a storage keeps silent; {what} is looked after while others work");
        }
    }
}

/// Claims each job of a type that has no worker, and brings it to its end or gives it back. One with
/// which that cannot be done now, in a vault that is not mounted say, must not hold up the others.
async fn each_abandoned<J: Job>(
    shared: &Arc<Shared>,
    end: impl AsyncFn(&Arc<Shared>, Claimed<J>) -> Result<()>,
) -> Result<()> {
    for job in shared.catalog.abandoned_jobs::<J>(shared.now()).await? {
        // A suspended machine wakes with every lease over and every worker alive.
        if shared.is_running(job.id()) || job.driven_by_test() || job.is_on_hold() {
            continue;
        }
        let ended = async {
            let claimed = shared
                .catalog
                .claim_job_by_id::<J>(job.id(), &shared.owner, shared.now(), shared.lease_until())
                .await?;
            match claimed {
                Some(claimed) => end(shared, claimed).await,
                None => Ok(()),
            }
        };
        if let Err(error) = ended.await {
            tracing::error!(job = job.id(), %error, "a job without a worker could not be ended; it is tried again");
        }
    }
    Ok(())
}

async fn backup_job(shared: &Arc<Shared>, claimed: Claimed<BackupJob>) -> Result<()> {
    let job = &claimed.job;
    let mut event = BackupJobEvent::Interrupted { reason: DIED.to_owned() };
    if let Some(vault) = shared.catalog.vault(&job.account, &job.vault_name).await? {
        match find_committed(shared, &vault, &job.id).await {
            Ok(Committed::Whole(snapshot_id, record)) => {
                tracing::info!(job = job.id, "stored before the server stopped: adopted");
                let claim = Some(&claimed.claim);
                return backup::enter(shared, &record, &snapshot_id, &vault, claim).await;
            }
            Ok(Committed::Hurt(why)) => {
                tracing::error!(
                    job = job.id,
                    why,
                    "stored before the server stopped, and not whole"
                );
                // Another attempt would make another snapshot of the same job.
                event = BackupJobEvent::Failed {
                    message: format!(
                        "{DIED} Its snapshot is not whole: {why}. No recovery point was made; start \
                         the backup again, and check the vault."
                    ),
                };
            }
            Ok(Committed::Nothing) => {}
            // One whose vault is gone for good must not hold its resource for ever.
            Err(error) if add_minutes(job.complete_by(), ASKED_FOR_MINUTES) <= shared.now() => {
                event = BackupJobEvent::Failed {
                    message: format!(
                        "{DIED} Whether it was stored cannot be found out: {error}. Its completion \
                         window closed at {}. No recovery point was made, and what was stored goes when \
                         the vault is back; see to the vault, then start the backup again.",
                        job.complete_by()
                    ),
                };
            }
            Err(error) => return Err(error),
        }
    }
    shared
        .catalog
        .step_job::<BackupJob>(
            &job.account,
            &job.id,
            Some(&claimed.claim),
            event,
            shared.now(),
            Vec::new(),
        )
        .await?;
    Ok(())
}

/// What a job left in its vault.
pub(crate) enum Committed {
    Nothing,
    /// A snapshot of which all is there, and the record inside it.
    Whole(String, Box<PointRecord>),
    /// One of which something is missing, and what.
    Hurt(String),
}

/// How long after its completion window the vault of a job without a worker is asked what it left.
const ASKED_FOR_MINUTES: i64 = 60;

/// The snapshot that a job committed. Before it counts, what its writer does last is done once more:
/// a prune that ran beside may have taken out of the index what the snapshot needs.
pub(crate) async fn find_committed(
    shared: &Arc<Shared>,
    vault: &BackupVault,
    job_id: &str,
) -> Result<Committed> {
    let repository = shared.repository(vault).await?;
    let tag = job_tag(job_id);
    let name = vault.name.clone();
    blocking(move || {
        let failed = EngineError::repository(&name);
        let Some(snapshot) = repository.find_snapshot_by_tag(&tag).map_err(&failed)? else {
            return Ok(Committed::Nothing);
        };
        let record = repository.list_needed(&snapshot, &CancelFlag::new()).and_then(|_| {
            let reader = repository.reader()?;
            reader.recovery_point_record(&snapshot)
        });
        let json = match record {
            Ok(Some(json)) => json,
            Ok(None) => return Ok(Committed::Hurt("its record is missing".to_owned())),
            Err(error) if error.is_damage() => return Ok(Committed::Hurt(error.to_string())),
            Err(error) => return Err(failed(error)),
        };
        let record = serde_json::from_slice(&json).map_err(|error| {
            EngineError::Internal(format!(
                "the record in snapshot {} is unreadable: {error}",
                snapshot.id
            ))
        })?;
        Ok(Committed::Whole(snapshot.id.to_string(), Box::new(record)))
    })
    .await?
}

async fn deletions(shared: &Arc<Shared>) -> Result<()> {
    let points = shared.catalog.points_with_status(RecoveryPointStatus::Deleting).await?;
    expiry::finish_all(shared, points).await;
    Ok(())
}

/// Copies whose test is over, or that no test here knows.
async fn copies(shared: &Arc<Shared>) -> Result<()> {
    let root = shared.restore_tests_root();
    let leftovers = {
        let root = root.clone();
        blocking(move || provault_proof::leftovers(&root)).await?
    };
    let leftovers = leftovers.map_err(|error| EngineError::Refused(error.to_string()))?;
    if leftovers.is_empty() {
        return Ok(());
    }
    let filter = provault_catalog::JobFilter { unfinished_only: true, ..Default::default() };
    let tests = shared.catalog.list_jobs::<RestoreTest>(&filter, Page::all()).await?.items;
    let owned: HashSet<String> = tests.into_iter().map(|test| test.token).collect();
    for token in leftovers.into_iter().filter(|token| !owned.contains(token)) {
        let root = root.clone();
        let reaped = blocking(move || provault_proof::reap(&root, &token)).await?;
        if let Err(error) = reaped {
            tracing::error!(%error, "a leftover copy under test could not be removed");
        }
    }
    Ok(())
}

/// Snapshots of ours that no recovery point names, and repositories that no vault names.
async fn orphans(shared: &Arc<Shared>) -> Result<()> {
    // By the last name of its path alone: a path may be written in several ways, and no two vaults
    // made here have the same name there.
    let mut named = HashSet::new();
    let vaults = shared.catalog.all_vaults().await?;
    for vault in &vaults {
        if let Some(path) = shared.vaults.place(vault).directory() {
            named.extend(path.file_name().map(OsStr::to_owned));
        }
    }
    in_time(shared, "the snapshots of the vaults", |shared| all_orphaned_snapshots(shared, vaults))
        .await;
    in_time(shared, "vaults half made or half removed", |shared| async move {
        unsettled::settle_all(&shared).await;
    })
    .await;
    let root = shared.data_dir.join("vaults");
    // A start does not wait for a dead mount. What lies there is left for the next one: from now on
    // there may be a repository that is about to become a vault.
    let too_late = Arc::new(AtomicBool::new(false));
    let late = Arc::clone(&too_late);
    let looked = blocking(move || orphaned_repositories(&root, &named, &late));
    if let Ok(looked) = tokio::time::timeout(shared.storage_timeout, looked).await {
        return looked;
    }
    too_late.store(true, Ordering::Release);
    Err(EngineError::Refused(
        "the directory of the vaults was not looked through in time. Is its disk well?".to_owned(),
    ))
}

/// All vaults at a time: those that do not answer must not add up.
async fn all_orphaned_snapshots(shared: Arc<Shared>, vaults: Vec<BackupVault>) {
    let mut looks = JoinSet::new();
    for vault in vaults {
        let shared = Arc::clone(&shared);
        looks.spawn(async move {
            if let Err(error) = orphaned_snapshots(&shared, &vault).await {
                tracing::error!(vault = vault.name, %error, "the vault could not be looked through");
            }
        });
    }
    looks.join_all().await;
}

pub(crate) async fn orphaned_snapshots(shared: &Arc<Shared>, vault: &BackupVault) -> Result<()> {
    let filter = PointFilter {
        account: Some(vault.account.clone()),
        vault_name: Some(vault.name.clone()),
        ..PointFilter::default()
    };
    let points = shared.catalog.list_recovery_points(&filter, Page::all()).await?.items;
    let known: HashSet<&str> = points
        .iter()
        .map(|point| match &point.payload {
            Payload::Stored { snapshot_id, .. } => snapshot_id.as_str(),
        })
        .collect();
    let repository = shared.repository(vault).await?;
    let listing = repository.clone();
    let snapshots = blocking(move || listing.snapshots())
        .await?
        .map_err(EngineError::repository(&vault.name))?
        .snapshots;
    let there: HashSet<String> = snapshots.iter().map(|s| s.id.to_string()).collect();
    for snapshot in snapshots {
        if known.contains(snapshot.id.to_string().as_str()) {
            continue;
        }
        // Only what bears the tag of a job of this catalog that is over is ours to forget: a
        // snapshot somebody made with another tool is not.
        let Some(job_id) = snapshot.tags.iter().find_map(|tag| tag.strip_prefix("provault-job-"))
        else {
            continue;
        };
        let job = shared.catalog.job::<BackupJob>(&vault.account, job_id).await?;
        let Some(job) = job.filter(|job| job.state.is_final()) else { continue };
        if let Some(arn) = &job.recovery_point_arn {
            let point = points.iter().find(|point| point.arn == *arn);
            if !point.is_some_and(|point| is_spare(&snapshot, point, &there)) {
                continue;
            }
        }
        tracing::info!(snapshot = %snapshot.id, job = job_id, "a snapshot without recovery point: forgotten");
        let repository = repository.clone();
        blocking(move || repository.forget(&[snapshot.id]))
            .await?
            .map_err(EngineError::repository(&vault.name))?;
    }
    Ok(())
}

/// Whether a snapshot is one too many of a job that was claimed twice: a worker that had lost the job without
/// knowing it wrote another. Only where the one that counts is there and well, and not what somebody made of
/// it with another tool.
fn is_spare(snapshot: &Snapshot, point: &RecoveryPoint, there: &HashSet<String>) -> bool {
    let Payload::Stored { snapshot_id, .. } = &point.payload;
    point.is_restorable()
        && point.condition.is_none()
        && snapshot.original.is_none()
        && there.contains(snapshot_id)
}

/// A crash between making a repository and entering its vault, or while the repository of a
/// deleted vault is removed, leaves one that nobody names. Removed is only what cannot be anything
/// else: what its name says is being deleted, and a repository into which nothing was stored.
fn orphaned_repositories(root: &Path, named: &HashSet<OsString>, too_late: &AtomicBool) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let deleted =
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(DELETED));
        let is_named = path.file_name().is_some_and(|name| named.contains(name));
        if is_named || !(deleted || is_unused_repository(&path)) {
            continue;
        }
        if too_late.load(Ordering::Acquire) {
            return;
        }
        match std::fs::remove_dir_all(&path) {
            Ok(()) => {
                tracing::warn!(path = %path.display(), "removed a repository that no vault names");
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "a repository that no vault names could not be removed");
            }
        }
    }
}

//! PRUNE: freeing the space of what no snapshot needs any more.

use std::fmt::Write as _;

use provault_catalog::{JobFilter, Page};
use provault_domain::care::CareReport;
use provault_domain::{BackupJob, RecoveryPoint};
use provault_repository::{Error, PruneOptions, PrunePlan, PruneReport, Repository, SnapshotId};

use crate::care::{Done, Work};
use crate::care_report::{bytes, count, figures, listed, snapshot_of};
use crate::missing::{gone, points_of};
use crate::shared::blocking;
use crate::verification::sync;
use crate::{EngineError, Result};

/// Prunes a vault beside running jobs, or tells what would go.
pub(crate) async fn prune(work: &Work) -> Result<Done> {
    let repository = work.shared.repository(&work.vault).await?;
    if work.run.options.dry_run {
        let plan = expecting_all(work, &repository, Repository::plan_prune).await?;
        return Ok((planned(&plan), Vec::new()));
    }
    let done = expecting_all(work, &repository, Repository::prune).await?;
    // What is gone is not verified any more, and what was copied is new.
    sync(&work.shared, &work.vault, &repository).await?;
    if !done.postponed.is_empty() {
        return Err(EngineError::Refused(postponed(&done)));
    }
    Ok((pruned(&done), Vec::new()))
}

/// So often a list of recovery points may be out of date before it was looked for.
const TRIES: usize = 3;

/// Prunes, or plans to, only if the snapshot of every recovery point is there. One that another
/// program removed, or that lies on a disk that is not mounted, would take its data with it, and
/// putting its file back would not help any more.
async fn expecting_all<T: Send + 'static>(
    work: &Work,
    repository: &Repository,
    act: fn(&Repository, &PruneOptions) -> provault_repository::Result<T>,
) -> Result<T> {
    let mut tries = 0;
    loop {
        let points = points_of(&work.shared, &work.vault).await?;
        let options = PruneOptions {
            cancel: work.cancel_flag(),
            expected: points.iter().map(snapshot_id).collect::<Result<_>>()?,
            allow_empty: points.is_empty() && was_used(work).await?,
            ..PruneOptions::default()
        };
        let opened = repository.clone();
        match blocking(move || act(&opened, &options)).await? {
            Ok(done) => return Ok(done),
            Err(Error::PruneRefused { first, .. })
                if matches!(*first, Error::SnapshotNotFound(_)) && tries < TRIES =>
            {
                let missing = gone(&work.shared, &work.vault, repository, &points).await?;
                if let Some(first) = missing.first() {
                    return Err(EngineError::Refused(not_whole(work, missing.len(), first)));
                }
                // What was missing was deleted in an orderly way meanwhile.
                tries += 1;
            }
            Err(error @ Error::NoSnapshots { .. }) => {
                return Err(EngineError::Refused(format!(
                    "vault {}: {error}. If everything was removed on purpose, prune it with \
                     `provault repository prune --allow-empty` and its exported password.",
                    work.vault.name
                )));
            }
            Err(error) => return Err(work.failed(error)),
        }
    }
}

fn snapshot_id(point: &RecoveryPoint) -> Result<SnapshotId> {
    snapshot_of(point).parse().map_err(|_| {
        EngineError::Internal(format!("{} names a snapshot by what is no id", point.arn))
    })
}

/// Whether this catalog has backed up into the vault, so that it knows what has to be there, and a
/// vault without recovery points is one whose recovery points were deleted. A catalog that was
/// made anew may know nothing of a vault that is full.
async fn was_used(work: &Work) -> Result<bool> {
    if work.vault.imported {
        return Ok(false);
    }
    let filter = JobFilter {
        account: Some(work.vault.account.clone()),
        vault_name: Some(work.vault.name.clone()),
        ..JobFilter::default()
    };
    let first = Page::first(1);
    Ok(!work.shared.catalog.list_jobs::<BackupJob>(&filter, first).await?.items.is_empty())
}

fn not_whole(work: &Work, missing: usize, first: &RecoveryPoint) -> String {
    format!(
        "the snapshots of {} of vault {} are not there, and nothing was deleted, for a prune would \
         take their data as well; the first is {}. Put their files back into `snapshots/` of the \
         vault's repository (is its disk mounted?), or delete those recovery points; then prune \
         again.",
        count(missing as u64, "recovery point"),
        work.vault.name,
        first.arn,
    )
}

/// Why nothing was taken out of the index. That is no success: whoever waits for the space waits on.
fn postponed(done: &PruneReport) -> String {
    let swept = if done.deleted_packs > 0 {
        format!("{} of earlier prunes deleted; ", bytes(done.deleted_bytes))
    } else {
        String::new()
    };
    format!(
        "{swept}nothing more can go while other programs are at work in the vault's repository: {}. \
         Prune again when they have ended.",
        done.postponed.join("; ")
    )
}

fn planned(plan: &PrunePlan) -> CareReport {
    let mut summary = format!(
        "{} would be freed: {} deleted, {} copied without what is not needed, {} of earlier prunes \
         deleted.",
        bytes(plan.frees),
        count(plan.delete.len() as u64, "pack"),
        count(plan.repack.len() as u64, "pack"),
        count(plan.sweep.len() as u64, "pack"),
    );
    if !plan.foreign.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(
            summary,
            " Nothing can go while other programs are at work: {}.",
            plan.foreign.join("; ")
        );
    }
    let waiting: u64 = plan.waiting.iter().map(|pack| pack.size).sum();
    CareReport {
        clean: true,
        summary: waits(summary, plan.waiting.len() as u64, waiting, &plan.waiting_for),
        figures: figures(&[
            ("snapshots", plan.snapshots),
            ("packs", plan.packs),
            ("neededBytes", plan.needed_bytes),
            ("unusedBytes", plan.unused_bytes),
            ("unusedBytesAfter", plan.unused_after),
            ("freedBytes", plan.frees),
            ("packsToDelete", plan.delete.len() as u64),
            ("packsToCopy", plan.repack.len() as u64),
            ("waitingPacks", plan.waiting.len() as u64),
            ("waitingBytes", waiting),
        ]),
        ..CareReport::default()
    }
}

/// Adds what has to wait for jobs that may still read it.
fn waits(mut summary: String, packs: u64, size: u64, jobs: &[String]) -> String {
    if packs > 0 {
        // Writing to a String cannot fail.
        let _ = write!(
            summary,
            " {} ({}) may still be read, and go with the next prune after these have ended: {}.",
            count(packs, "pack"),
            bytes(size),
            jobs.join("; ")
        );
    }
    summary
}

fn pruned(done: &PruneReport) -> CareReport {
    let mut summary = format!(
        "{} freed: {} deleted, of {} what is needed copied first.",
        bytes(done.deleted_bytes.saturating_sub(done.repacked_bytes)),
        count(done.deleted_packs, "pack"),
        count(done.repacked_packs, "pack"),
    );
    if done.deleted_packs == 0 && done.waiting_packs == 0 {
        "Nothing had to go.".clone_into(&mut summary);
    }
    summary = waits(summary, done.waiting_packs, done.waiting_bytes, &done.waiting_for);
    if done.out_of_space {
        summary.push_str(" The storage was too full for all of it; run it again.");
    }
    if !done.damaged.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(
            summary,
            " {} stayed because of damage; check the vault, then repair it.",
            count(done.damaged.len() as u64, "pack")
        );
    }
    let problems = done
        .damaged
        .iter()
        .map(|(pack, error)| format!("pack {pack} stays, for it is damaged: {error}"));
    CareReport {
        clean: done.damaged.is_empty(),
        summary,
        figures: figures(&[
            ("snapshots", done.plan.snapshots),
            ("packs", done.plan.packs),
            ("neededBytes", done.plan.needed_bytes),
            ("unusedBytes", done.plan.unused_bytes),
            ("deletedPacks", done.deleted_packs),
            ("deletedBytes", done.deleted_bytes),
            ("copiedPacks", done.repacked_packs),
            ("copiedBytes", done.repacked_bytes),
            ("waitingPacks", done.waiting_packs),
            ("waitingBytes", done.waiting_bytes),
            ("relistedPacks", done.taken_back),
            ("leftoverFiles", done.leftovers),
        ]),
        problems: listed(problems, done.damaged.len() as u64),
        problems_total: done.damaged.len() as u64,
        hurt: Vec::new(),
    }
}

//! Prune: takes out of the storage what no snapshot needs.
//!
//! It runs beside backups, restores and checks of ours, and is never exclusive. It works in two
//! phases.
//!
//! 1. *Mark.* All snapshots are gone through, and every blob that one of them needs is marked in a
//!    sorted copy of the index (48 bytes a blob). Packs that hold nothing needed are to go; packs
//!    that hold so much else that it pays are copied, blob by blob, sealed as they are but verified,
//!    into new packs. Then the index is switched: file by file it is written anew without the packs
//!    that are to go, and the old file deleted. From then on nobody who begins can rely on them.
//!    Who still may is whoever holds a lock now; their names go into a *mark*,
//!    `provault/prune/ID`, with the packs.
//! 2. *Sweep.* When none of those is alive, and only then, the packs of the mark are deleted: at
//!    once if nobody was at work, else by a later prune. Before, all is looked at anew: a pack that
//!    is in the index again stays, and one that a snapshot needs although no index lists it is taken
//!    back.
//!
//! A pack that no index lists, left by a crashed job or about to be listed by a running one, goes
//! the same way: never without a mark that outlived everybody who was there.
//!
//! A running backup that has found its chunks in a pack that is marked meanwhile lists the pack
//! again before it commits (`relist`). Stock restic would not; so while a lock of another program is
//! there, nothing is switched, and if one appears during the switch, all is put back.
//!
//! Whatever ends a prune, the next one goes on: copied packs are in the index (the ones they were
//! copied from hold nothing needed then), a mark without names is an unfinished switch and is made
//! anew, and a sweep deletes what is left of it.
//!
//! Files that a writer had begun and did not end, because its machine died, are deleted at the end,
//! when they are so old that nobody can still be at it.
//!
//! On a full disk the reserve is given up for lock, mark and index (`reserve`); nothing is
//! copied; index files that shrink most go first. What is deleted then makes room for the rest.

mod decide;
pub(crate) mod execute;
pub(crate) mod ledger;
mod mark;
pub(crate) mod repack;
pub(crate) mod survey;

use std::sync::Arc;
use std::time::Duration;

use crate::cancel::CancelFlag;
use crate::error::{Error, Result};
use crate::id::{Id, SnapshotId};
use crate::lock::{begin_job, begin_prune_job};
use crate::repository::Repository;

/// How much may stay that no snapshot needs, within packs that hold something needed as well.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// This many percent of what the repository holds afterwards; 100 and more is unlimited.
    Percent(f64),
    /// This many bytes.
    Bytes(u64),
    /// Any amount: nothing is copied for it.
    Unlimited,
}

/// What a prune is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrunePhase {
    /// Reading index files; counted in files.
    ReadIndex,
    /// Going through the trees of all snapshots; counted in trees, without a total.
    FindNeeded,
    /// Copying what is needed out of packs; counted in packs.
    Repack,
    /// Writing the index anew; counted in files.
    SwitchIndex,
    /// Deleting packs; counted in packs.
    Delete,
}

/// Called with the phase, how much of it is done, and how much there is (0 if unknown).
pub type PruneProgressFn = dyn Fn(PrunePhase, u64, u64) + Send + Sync;

/// How to prune.
#[derive(Clone)]
pub struct PruneOptions {
    /// What may stay unused. 5 % by default, as in restic.
    pub max_unused: MaxUnused,
    /// At most this many bytes are copied, the most useful first; `None` is no limit.
    pub max_repack: Option<u64>,
    /// Whether many small packs are copied into few large ones.
    pub merge_small: bool,
    /// Stops it; the next one goes on.
    pub cancel: CancelFlag,
    /// Hears how it goes.
    pub progress: Option<Arc<PruneProgressFn>>,
    /// Begun and never ended files of this age are deleted. Nothing else tells a dead writer from
    /// one that is slow, so it is a day unless it is known that nobody writes.
    pub leftovers_after: Duration,
    /// Snapshots that have to be there: a repository alone cannot tell a snapshot that was forgotten
    /// from one that was lost, a catalog can. If one is not there, nothing is deleted, so that
    /// putting its file back still helps. It is up to the caller that none of them is being
    /// forgotten.
    pub expected: Vec<SnapshotId>,
    /// Whether everything may go because there is no snapshot at all. Without it that is refused: a
    /// `snapshots/` that is not mounted, or was emptied, must not cost all that it names.
    pub allow_empty: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            max_unused: MaxUnused::Percent(5.0),
            max_repack: None,
            merge_small: true,
            leftovers_after: Duration::from_hours(24),
            expected: Vec::new(),
            allow_empty: false,
            cancel: CancelFlag::new(),
            progress: None,
        }
    }
}

impl std::fmt::Debug for PruneOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PruneOptions")
            .field("max_unused", &self.max_unused)
            .field("max_repack", &self.max_repack)
            .field("merge_small", &self.merge_small)
            .finish_non_exhaustive()
    }
}

impl PruneOptions {
    pub(crate) fn report(&self, phase: PrunePhase, done: u64, total: u64) {
        if let Some(progress) = &self.progress {
            progress(phase, done, total);
        }
    }
}

/// Why a pack is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PackReason {
    /// Nothing in it is needed: it is deleted.
    Unused,
    /// It is in no index, left by a job that did not end; it is deleted.
    Unlisted,
    /// Its file is gone or damaged, and all that is needed of it lies elsewhere too; it is deleted.
    Damaged,
    /// So much of it is not needed that copying the rest pays.
    PartlyUsed,
    /// It is one of many small ones, which are copied into few.
    Small,
}

/// A pack that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedPack {
    /// The pack.
    pub id: Id,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of it that are needed, and copied first.
    pub needed: u64,
    /// Why it goes.
    pub reason: PackReason,
}

/// What a prune would do. Sizes are in bytes.
#[derive(Debug, Clone, Default)]
pub struct PrunePlan {
    /// Snapshots gone through.
    pub snapshots: u64,
    /// Packs in the index.
    pub packs: u64,
    /// Places of blobs in the index.
    pub blobs: u64,
    /// Blobs that some snapshot needs.
    pub needed_blobs: u64,
    /// What these take.
    pub needed_bytes: u64,
    /// What else the packs of the index take.
    pub unused_bytes: u64,
    /// Packs to be deleted.
    pub delete: Vec<PlannedPack>,
    /// Packs to be copied, without what is not needed, and deleted.
    pub repack: Vec<PlannedPack>,
    /// By how much the repository shrinks when all of this is done, the former marks' included.
    pub frees: u64,
    /// What is not needed and stays nevertheless.
    pub unused_after: u64,
    /// Packs that an earlier prune marked and that can be deleted now.
    pub sweep: Vec<PlannedPack>,
    /// Packs that an earlier prune marked, and that somebody may still rely on.
    pub waiting: Vec<PlannedPack>,
    /// Who that is.
    pub waiting_for: Vec<String>,
    /// Packs that some snapshot needs and no index lists: they are listed again.
    pub take_back: u64,
    /// Index files.
    pub index_files: u64,
    /// Other programs at work: while they are, nothing can be pruned.
    pub foreign: Vec<String>,
}

/// What a prune did. Sizes are in bytes.
#[derive(Debug, Clone, Default)]
pub struct PruneReport {
    /// What it had planned.
    pub plan: PrunePlan,
    /// Packs whose needed blobs were copied.
    pub repacked_packs: u64,
    /// Bytes that were copied.
    pub repacked_bytes: u64,
    /// Packs deleted.
    pub deleted_packs: u64,
    /// Their size.
    pub deleted_bytes: u64,
    /// Packs that are out of the index and wait for jobs to end; a later prune deletes them.
    pub waiting_packs: u64,
    /// Their size.
    pub waiting_bytes: u64,
    /// The jobs they wait for.
    pub waiting_for: Vec<String>,
    /// Packs that a snapshot needed and no index listed any more: they are in the index again.
    pub taken_back: u64,
    /// Files deleted that a writer had begun and never ended.
    pub leftovers: u64,
    /// Who kept it from taking anything out of the index: other programs than this one. Try again
    /// when they have ended.
    pub postponed: Vec<String>,
    /// Packs that stay because a blob in them, or the other copy of one, turned out to be damaged:
    /// run a check, and repair.
    pub damaged: Vec<(Id, Error)>,
    /// Whether the storage was too full for all of it; run it again.
    pub out_of_space: bool,
    /// Size of the reserve that is there now for a full disk; 0 if there was no room for it.
    pub reserve: u64,
}

impl Repository {
    /// What [`prune`](Self::prune) would do now. Changes nothing.
    pub fn plan_prune(&self, options: &PruneOptions) -> Result<PrunePlan> {
        self.plan_prune_without(&[], options)
    }

    /// What a prune would do if these snapshots were forgotten first. Changes nothing.
    pub fn plan_prune_without(
        &self,
        forgotten: &[SnapshotId],
        options: &PruneOptions,
    ) -> Result<PrunePlan> {
        let job = begin_job(&self.inner)?;
        let alive = job.others()?;
        let survey = survey::Survey::without(forgotten, &self.inner, &job, options)?;
        let marks = mark::Marks::load(&self.inner, &alive)?;
        let decided = decide::decide(survey, &marks, &alive).map(|decided| decided.plan);
        job.settled()?;
        decided
    }

    /// Takes out of the storage what no snapshot needs, beside running jobs.
    ///
    /// An error changes nothing that matters: every snapshot stays whole at every step, and the
    /// next prune goes on where this one ended. [`Error::PruneRefused`] tells of damage, and
    /// [`Error::NoSnapshots`] of a repository without snapshots: nothing is deleted on incomplete
    /// knowledge.
    pub fn prune(&self, options: &PruneOptions) -> Result<PruneReport> {
        let job = begin_prune_job(&self.inner)?;
        job.settled()?;
        let mut report = execute::round(&self.inner, &job, options)?;
        // A full disk has room now for what did not fit before.
        let mut freed = report.deleted_bytes;
        for _ in 0..8 {
            if !report.out_of_space || freed == 0 {
                break;
            }
            let next = execute::round(&self.inner, &job, options)?;
            freed = next.deleted_bytes;
            report.add(next);
        }
        match self.inner.storage.reap_leftovers(options.leftovers_after) {
            Ok(reaped) => report.leftovers = reaped,
            // They cost room and nothing else; the next prune looks again.
            Err(error) => tracing::warn!(%error, "cannot delete what broken-off writes have left"),
        }
        Ok(report)
    }
}

impl PruneReport {
    /// Adds what another round did.
    fn add(&mut self, next: Self) {
        let plan = std::mem::take(&mut self.plan);
        *self = Self {
            plan,
            repacked_packs: self.repacked_packs + next.repacked_packs,
            repacked_bytes: self.repacked_bytes + next.repacked_bytes,
            deleted_packs: self.deleted_packs + next.deleted_packs,
            deleted_bytes: self.deleted_bytes + next.deleted_bytes,
            taken_back: self.taken_back + next.taken_back,
            ..next
        };
    }
}

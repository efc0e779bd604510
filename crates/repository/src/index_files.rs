//! The index files, and what is known of them in memory.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::{Gathered, IndexFile, IndexPack, Location, MemoryIndex};
use crate::lock::{JobGuard, LockManager};
use crate::pack::{BlobKind, PackedBlob};
use crate::repository::{FileKind, Inner};

/// Blobs in one index file, so that it stays below restic's 8 MiB.
pub(crate) const INDEX_FILE_BLOBS: usize = 40_000;
/// A listing may lag behind what was deleted; then the index is read again so many times.
const TRIES: usize = 20;

/// What is known of where blobs lie.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) memory: MemoryIndex,
    loaded: HashSet<Id>,
    /// Packs that are durable and in `memory`, but in no index file yet.
    unindexed: Vec<Arc<IndexPack>>,
    /// Packs that have left the index while jobs were running.
    pub(crate) departed: Vec<Departed>,
    /// How often all of this was forgotten because a lock was lost or given up.
    epoch: u64,
}

/// Packs that a prune took out of the index. No job that begins now may rely on them; but those
/// that were running then may still read them, or have relied on them already.
pub(crate) struct Departed {
    /// The job that began last before they left.
    pub(crate) newest_job: u64,
    pub(crate) memory: MemoryIndex,
}

impl Index {
    /// The places of a blob for a reader that may have begun before a prune.
    pub(crate) fn places(&self, kind: BlobKind, id: &Id) -> Vec<Location> {
        let mut places = self.memory.locations(kind, id);
        for departed in &self.departed {
            places.extend(departed.memory.locations(kind, id));
        }
        places
    }
}

impl Inner {
    /// Brings the index up to what the storage holds now. To be called by every job once its lock
    /// is held, for others may have written, or pruned, since the last one.
    ///
    /// A damaged index file is left out with a warning: what it lists cannot be read, all else
    /// can, and a backup stores again what it misses. `check` reports it.
    pub(crate) fn refresh_index(&self) -> Result<()> {
        // A prune replaces index files: the new one is there before the old one goes.
        for _ in 0..TRIES {
            if self.refresh_index_once()? {
                break;
            }
        }
        Ok(())
    }

    /// Returns whether every file that was listed was there.
    fn refresh_index_once(&self) -> Result<bool> {
        let _files = self.index_files.lock().unwrap_or_else(PoisonError::into_inner);
        self.delete_untrusted()?;
        // Jobs that begin from here on look at the index themselves. Who may rely on what is in
        // memory does not change while this is done, one at a time.
        let (newest, newest_job) = self.lock.newest_jobs();
        let listed: HashSet<Id> = self.list(FileKind::Index)?.into_iter().map(|f| f.0).collect();
        let (fresh, missing, epoch) = {
            let index = self.index();
            // A file that is gone took entries with it: begin anew.
            let gone = index.loaded.iter().any(|id| !listed.contains(id));
            let missing = listed.iter().filter(|id| gone || !index.loaded.contains(id));
            (gone, missing.copied().collect::<Vec<_>>(), index.epoch)
        };
        let mut all_there = true;
        let mut loaded = Vec::new();
        let mut gathered = Gathered::default();
        for id in missing {
            match self.load_index_file(&id) {
                Ok(file) => {
                    loaded.push(id);
                    // At once: parsed, a file takes more room than its entries do.
                    gathered.add(&file.packs);
                }
                Err(Error::Storage(error)) if error.is_not_found() => all_there = false,
                Err(error) if error.is_lost() => tracing::warn!(%error, "index file left out"),
                Err(error) => return Err(error),
            }
        }
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if index.epoch != epoch {
            // All was forgotten meanwhile; what was loaded now is but a part.
            return Ok(false);
        }
        let former = fresh.then(|| {
            let unindexed = std::mem::take(&mut index.unindexed);
            let departed = std::mem::take(&mut index.departed);
            let epoch = index.epoch;
            let former = std::mem::replace(&mut *index, Index { epoch, ..Index::default() }).memory;
            index.memory.add(unindexed.iter().map(Arc::as_ref));
            index.unindexed = unindexed;
            index.departed = departed;
            former
        });
        index.memory.absorb(gathered);
        index.loaded.extend(loaded);
        if let (Some(former), Some(newest_job)) = (former, newest_job) {
            let gone = former.packs_not_in(&index.memory);
            if !gone.is_empty() {
                let mut memory = MemoryIndex::default();
                memory.add(&gone);
                index.departed.push(Departed { newest_job, memory });
            }
        }
        drop(index);
        self.lock.index_was_seen(newest);
        Ok(all_there)
    }

    /// The index files that are loaded, sorted.
    pub(crate) fn index_files(&self) -> Vec<Id> {
        let mut files: Vec<Id> = self.index().loaded.iter().copied().collect();
        files.sort_unstable();
        files
    }

    pub(crate) fn load_index_file(&self, id: &Id) -> Result<IndexFile> {
        let json = self.load_unpacked(FileKind::Index, id)?;
        serde_json::from_slice(&json)
            .map_err(|error| Error::damaged(FileKind::Index.name(id), error))
    }

    pub(crate) fn index(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the blobs of a durable pack known to all jobs; returns how many blobs wait to be
    /// written into an index file. Nothing if the pack was begun before a lock was lost: others may
    /// have deleted it already.
    pub(crate) fn publish(&self, pack: Id, blobs: &[PackedBlob], epoch: u64) -> Option<usize> {
        let pack = Arc::new(IndexPack::new(pack, blobs));
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if index.epoch != epoch {
            return None;
        }
        index.memory.add([pack.as_ref()]);
        index.unindexed.push(pack);
        Some(index.unindexed.iter().map(|pack| pack.blobs.len()).sum())
    }

    /// What [`publish`](Self::publish) asks for; to be taken before the pack is stored.
    pub(crate) fn epoch(&self) -> u64 {
        self.index().epoch
    }

    /// Writes index files for all durable packs that have none, whichever job made them. Some job
    /// has to hold its lock, before and after: else the packs may be gone, and whoever found them
    /// in the index would rely on them.
    pub(crate) fn flush_index(&self) -> Result<()> {
        let _files = self.index_files.lock().unwrap_or_else(PoisonError::into_inner);
        self.delete_untrusted()?;
        loop {
            let mut blobs = 0;
            let index = self.index();
            let epoch = index.epoch;
            let batch: Vec<_> = index
                .unindexed
                .iter()
                .take_while(|pack| {
                    let first = blobs == 0;
                    blobs += pack.blobs.len();
                    first || blobs <= INDEX_FILE_BLOBS
                })
                .cloned()
                .collect();
            drop(index);
            if batch.is_empty() {
                return Ok(());
            }
            let packs: Vec<&IndexPack> = batch.iter().map(Arc::as_ref).collect();
            let file = crate::index::to_json(&packs)?;
            LockManager::held(self)?;
            self.same_epoch(epoch)?;
            let id = self.save_unpacked(FileKind::Index, &file)?;
            LockManager::held(self).inspect_err(|_| self.take_back(&[id]))?;
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            if index.epoch != epoch {
                drop(index);
                self.take_back(&[id]);
                return self.same_epoch(epoch);
            }
            index.loaded.insert(id);
            // Others only append, or forget all.
            index.unindexed.drain(..batch.len());
        }
    }

    /// An error if all was forgotten since: whoever holds a lock now knows nothing of before.
    fn same_epoch(&self, epoch: u64) -> Result<()> {
        if self.epoch() == epoch {
            return Ok(());
        }
        Err(Error::LockLost("what it stored was given up".to_owned()))
    }

    /// Deletes index files again of which it is not known that a lock was held when they were
    /// written. What cannot be deleted now is before anything else is done with the index.
    fn take_back(&self, files: &[Id]) {
        self.untrusted.lock().unwrap_or_else(PoisonError::into_inner).extend(files);
        if let Err(error) = self.delete_untrusted() {
            tracing::error!(%error, "an index file that may be wrong is deleted later");
        }
    }

    fn delete_untrusted(&self) -> Result<()> {
        let mut untrusted = self.untrusted.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(id) = untrusted.last() {
            match self.storage.delete(&FileKind::Index.name(id)) {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => untrusted.pop(),
            };
        }
        Ok(())
    }

    /// Writes index files that list these packs. The job has to hold its lock, before and after.
    pub(crate) fn save_index(&self, job: &JobGuard, packs: &[&IndexPack]) -> Result<Vec<Id>> {
        let mut files = Vec::new();
        if packs.is_empty() {
            return Ok(files);
        }
        job.holds()?;
        let mut rest = packs;
        while !rest.is_empty() {
            let mut blobs = 0;
            let fits = |pack: &&&IndexPack| {
                blobs += pack.blobs.len();
                blobs <= INDEX_FILE_BLOBS
            };
            let batch = rest.iter().take_while(fits).count().max(1);
            files.push(
                self.save_unpacked(FileKind::Index, &crate::index::to_json(&rest[..batch])?)?,
            );
            rest = &rest[batch..];
        }
        job.holds().inspect_err(|_| self.take_back(&files))?;
        Ok(files)
    }

    /// Lists packs again that have left the index, for all jobs to see.
    pub(crate) fn list_again(&self, job: &JobGuard, packs: &[IndexPack]) -> Result<()> {
        let _files = self.index_files.lock().unwrap_or_else(PoisonError::into_inner);
        let files = self.save_index(job, &packs.iter().collect::<Vec<_>>())?;
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.memory.add(packs);
        index.loaded.extend(files);
        Ok(())
    }

    pub(crate) fn index_batch_is_full(waiting: usize) -> bool {
        waiting >= INDEX_FILE_BLOBS
    }

    /// Whether there are durable packs that no index file lists.
    pub(crate) fn has_unindexed(&self) -> bool {
        !self.index().unindexed.is_empty()
    }

    /// Called when the last job ends, while its lock is still there: gives up unfinished packs, and
    /// forgets about finished ones that could not be listed. A prune finds them.
    pub(crate) fn settle(&self) {
        self.packer.discard();
        if self.has_unindexed() {
            self.forget_unlisted();
        }
    }

    /// Forgets what no index file lists: finished packs, packs that are being filled or stored. And
    /// all else with it; whoever comes next reads the index anew.
    pub(crate) fn forget_unlisted(&self) {
        if !self.packer.discard() && !self.has_unindexed() {
            return;
        }
        tracing::warn!("packs without an index file are left to be pruned");
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        *index = Index { epoch: index.epoch + 1, ..Index::default() };
    }

    /// Forgets what left the index before the job with this number began, the oldest one alive.
    pub(crate) fn forget_departed(&self, oldest: u64) {
        if self.index().departed.iter().any(|departed| departed.newest_job < oldest) {
            let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
            index.departed.retain(|departed| departed.newest_job >= oldest);
        }
    }
}

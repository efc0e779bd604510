//! Copying snapshots from another repository: another key, perhaps another chunker.
//!
//! Every tree is gone through, also one that is here already, for a copy that broke off may have
//! left a tree without what it refers to. A blob that is here is not copied again. What is copied
//! keeps its compression, and is verified by MAC, length and hash before it is sealed anew. A
//! snapshot is written when all it needs is durable and in the index; so a copy that broke off goes
//! on where it was.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Map, Value};

use crate::blobs::BlobWriter;
use crate::cancel::CancelFlag;
use crate::error::{Error, Result};
use crate::go_json;
use crate::id::{Id, SnapshotId};
use crate::index::Location;
use crate::lock::{JobGuard, begin_job};
use crate::opener::BlobOpener;
use crate::pack::{BlobKind, PackedBlob};
use crate::packer::SealedBlob;
use crate::prune::repack::read_sealed;
use crate::prune::survey::workers;
use crate::refs::TreeRefs;
use crate::relist;
use crate::repository::{FileKind, Inner, Repository};
use crate::snapshot::Snapshot;

/// Chunks that are looked for at a time, so that memory is bounded whatever a snapshot holds.
const BATCH: usize = 50_000;

/// Called with the counts so far.
pub type CopyProgressFn = dyn Fn(&CopyStats) + Send + Sync;

/// How to copy.
#[derive(Clone, Default)]
pub struct CopyOptions {
    /// Stops the copy; the next one goes on.
    pub cancel: CancelFlag,
    /// Hears how it goes.
    pub progress: Option<Arc<CopyProgressFn>>,
}

/// What a copy has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyStats {
    /// Snapshots that are here now, those that were here before included.
    pub snapshots: u64,
    /// Trees gone through.
    pub trees: u64,
    /// Blobs copied.
    pub blobs: u64,
    /// Bytes that they take here.
    pub bytes: u64,
}

/// What came of a copy.
#[derive(Debug, Clone, Default)]
pub struct CopyReport {
    /// Each snapshot that was copied, and what it is called here.
    pub copied: Vec<(SnapshotId, SnapshotId)>,
    /// Each that was here already, and what it is called here.
    pub present: Vec<(SnapshotId, SnapshotId)>,
    /// Those that are not whole there, with what is damaged or missing. The others are copied.
    pub failed: Vec<(SnapshotId, Error)>,
    /// The counts.
    pub stats: CopyStats,
}

impl Repository {
    /// Copies snapshots of another repository to this one. A copy names the snapshot that it was
    /// made of as its `original`, as restic's does; all else of it stays, but for its parent.
    pub fn copy_from(
        &self,
        other: &Self,
        snapshots: &[SnapshotId],
        options: &CopyOptions,
    ) -> Result<CopyReport> {
        let there = begin_job(&other.inner)?;
        other.inner.refresh_index()?;
        let job = begin_job(&self.inner)?;
        self.inner.refresh_index()?;
        let mut here: HashMap<Id, Vec<Snapshot>> = HashMap::new();
        for snapshot in self.snapshots()?.snapshots {
            here.entry(snapshot.original.unwrap_or(snapshot.id)).or_default().push(snapshot);
        }
        let mut copy = Copy {
            from: &other.inner,
            to: &self.inner,
            there: &there,
            job: &job,
            options,
            blobs: BlobWriter::new(&self.inner, options.cancel.clone())?,
            seen: HashSet::new(),
            report: CopyReport::default(),
        };
        for id in snapshots {
            let snapshot = other.snapshot(*id)?;
            let original = snapshot.original.unwrap_or(*id);
            let here = here.entry(original).or_default();
            if let Some(present) = here.iter().find(|present| is_same(present, &snapshot)) {
                copy.report.present.push((*id, present.id));
            } else {
                match copy.snapshot(&snapshot) {
                    Ok(copied) => {
                        here.push(Snapshot { id: copied, ..snapshot });
                        copy.report.copied.push((*id, copied));
                    }
                    Err(error) if error.is_damage() => copy.report.failed.push((*id, error)),
                    Err(error) => return Err(error),
                }
            }
            copy.report.stats.snapshots =
                (copy.report.copied.len() + copy.report.present.len()) as u64;
            copy.tell();
        }
        // A lock of ours that did not hold there may have let what we read be deleted: then it
        // would not have been whole, and not have been copied.
        Ok(copy.report)
    }
}

/// Whether one is a copy of the other, given that both stem from the same. A snapshot that was
/// changed (`restic rewrite`, `restic tag`) stems from the one that it was before, and may be there
/// beside it. The same is compared as by restic's copy.
fn is_same(one: &Snapshot, other: &Snapshot) -> bool {
    (one.tree, one.time) == (other.tree, other.time)
        && one.hostname == other.hostname
        && one.username == other.username
        && one.paths == other.paths
        && one.tags == other.tags
}

struct Copy<'a> {
    from: &'a Arc<Inner>,
    to: &'a Arc<Inner>,
    there: &'a JobGuard,
    job: &'a JobGuard,
    options: &'a CopyOptions,
    blobs: BlobWriter,
    /// Trees of snapshots that were copied whole.
    seen: HashSet<Id>,
    report: CopyReport,
}

impl Copy<'_> {
    fn go_on(&self) -> Result<()> {
        self.options.cancel.check()?;
        self.there.check()?;
        self.job.check()
    }

    fn tell(&self) {
        if let Some(progress) = &self.options.progress {
            progress(&self.report.stats);
        }
    }

    fn snapshot(&mut self, snapshot: &Snapshot) -> Result<SnapshotId> {
        let mut trees = HashSet::from([snapshot.tree]);
        let mut pending = vec![snapshot.tree];
        let mut wanted: HashSet<Id> = HashSet::new();
        let mut worker = self.blobs.worker()?;
        while let Some(id) = pending.pop() {
            if self.seen.contains(&id) {
                continue;
            }
            self.go_on()?;
            let json = self.from.read_blob(BlobKind::Tree, &id)?;
            let refs = TreeRefs::parse(&id, &json)?;
            let content = refs.content.into_iter();
            wanted.extend(content.filter(|blob| !self.blobs.knows(BlobKind::Data, blob)));
            if wanted.len() >= BATCH {
                self.chunks(std::mem::take(&mut wanted))?;
            }
            let stored = self.blobs.store(&mut worker, BlobKind::Tree, &json)?;
            self.report.stats.trees += 1;
            self.count(stored.added);
            pending.extend(refs.subtrees.into_iter().filter(|subtree| trees.insert(*subtree)));
        }
        self.chunks(wanted)?;
        self.blobs.commit(self.job)?;
        relist::before_commit(self.to, self.job, &snapshot.tree, &self.options.cancel)?;
        self.go_on()?;

        // As it is there, with fields that we do not know.
        let json = self.from.load_unpacked(FileKind::Snapshot, &snapshot.id)?;
        let mut fields: Map<String, Value> = serde_json::from_slice(&json)
            .map_err(|error| Error::damaged(FileKind::Snapshot.name(&snapshot.id), error))?;
        fields.remove("parent");
        let original = snapshot.original.unwrap_or(snapshot.id);
        fields.insert("original".to_owned(), Value::String(original.to_string()));
        self.job.holds()?;
        let id = self.to.save_unpacked(FileKind::Snapshot, &go_json::to_vec(&fields)?)?;
        relist::after_commit(self.to, self.job, &snapshot.tree, &id)?;
        self.seen.extend(trees);
        Ok(id)
    }

    fn count(&mut self, added: Option<u64>) {
        self.report.stats.blobs += u64::from(added.is_some());
        self.report.stats.bytes += added.unwrap_or(0);
    }

    /// Copies chunks in the order in which they lie there, with a few threads.
    fn chunks(&mut self, wanted: HashSet<Id>) -> Result<()> {
        let mut packs: BTreeMap<Id, Vec<PackedBlob>> = BTreeMap::new();
        for id in wanted {
            let missing = Error::MissingBlob { kind: BlobKind::Data, blob: id, path: None };
            let places = self.from.index().places(BlobKind::Data, &id);
            let place = places.first().ok_or(missing)?;
            packs.entry(place.pack).or_default().push(place.blob);
        }
        let packs: Vec<(Id, Vec<PackedBlob>)> = packs
            .into_iter()
            .map(|(pack, mut blobs)| {
                blobs.sort_by_key(|blob| blob.offset);
                (pack, blobs)
            })
            .collect();
        let next = AtomicUsize::new(0);
        let (copy, next) = (&*self, &next);
        let work = || -> Result<(u64, u64)> {
            let (mut blobs, mut bytes) = (0, 0);
            while let Some((pack, wanted)) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                copy.go_on()?;
                for added in copy.pack(*pack, wanted)? {
                    blobs += 1;
                    bytes += added;
                }
            }
            Ok((blobs, bytes))
        };
        let results: Vec<Result<(u64, u64)>> = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..workers().min(packs.len())).map(|_| scope.spawn(work)).collect();
            let died = || Error::Internal("a thread that copies chunks died".to_owned());
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(died())))
                .collect()
        });
        for result in results {
            let (blobs, bytes) = result?;
            self.report.stats.blobs += blobs;
            self.report.stats.bytes += bytes;
        }
        self.tell();
        Ok(())
    }

    /// Copies chunks of one pack; returns what each new one takes here.
    fn pack(&self, pack: Id, wanted: &[PackedBlob]) -> Result<Vec<u64>> {
        let mut added = Vec::with_capacity(wanted.len());
        let (mut worker, mut opener) = (self.blobs.worker()?, BlobOpener::new()?);
        match read_sealed(self.from, pack, wanted) {
            Ok(blobs) => {
                for (blob, sealed) in blobs {
                    let place = Location { pack, blob };
                    let stored = if self.to.config.compresses() || blob.uncompressed.is_none() {
                        let bad = |error| crate::repository::damaged(&place, error);
                        let body = self.from.key.open(&sealed).map_err(bad)?;
                        self.blobs.add(&SealedBlob {
                            kind: blob.kind,
                            id: blob.id,
                            sealed: &self.to.key.seal(&body),
                            uncompressed: blob.uncompressed,
                        })?
                    } else {
                        let plain = opener.open(&self.from.key, &place, &sealed)?;
                        self.blobs.store(&mut worker, blob.kind, plain)?
                    };
                    added.extend(stored.added);
                }
            }
            // One by one, each from wherever it is whole.
            Err(error) if error.is_damage() => {
                for blob in wanted {
                    let plain = self.from.read_blob(blob.kind, &blob.id)?;
                    added.extend(self.blobs.store(&mut worker, blob.kind, &plain)?.added);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(added)
    }
}

#[cfg(test)]
mod tests {
    use crate::key::Password;
    use crate::storage::LocalStorage;
    use crate::{BackupOptions, Metadata, Options};

    use super::*;

    fn repository(directory: &std::path::Path) -> Repository {
        let storage = Arc::new(LocalStorage::local(directory).unwrap());
        let options = Options { lock_settle: std::time::Duration::ZERO, ..Options::default() };
        Repository::init(storage, &Password::generate(), options).unwrap()
    }

    fn backup(repository: &Repository, content: &'static [u8]) -> SnapshotId {
        let mut writer = repository.backup(BackupOptions::default()).unwrap();
        let metadata = Metadata { mode: 0o644, size: content.len() as u64, ..Metadata::default() };
        writer
            .add_file(b"file", &metadata, &mut || {
                Ok(Box::new(content) as Box<dyn std::io::Read + Send>)
            })
            .unwrap();
        writer.finish(None).unwrap().id
    }

    /// As `restic rewrite` and `restic tag` change a snapshot: the new one names the old one.
    #[test]
    fn a_changed_snapshot_is_copied_beside_the_one_that_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let source = repository(&directory.path().join("source"));
        let first = backup(&source, b"all of it");
        let changed = |id: SnapshotId, name: &str, value: Value| {
            let json = source.inner.load_unpacked(FileKind::Snapshot, &id).unwrap();
            let mut fields: Map<String, Value> = serde_json::from_slice(&json).unwrap();
            fields.insert("original".to_owned(), Value::String(first.to_string()));
            fields.insert(name.to_owned(), value);
            let json = go_json::to_vec(&fields).unwrap();
            source.inner.save_unpacked(FileKind::Snapshot, &json).unwrap()
        };
        let less = backup(&source, b"some");
        let tree = source.snapshot(less).unwrap().tree;
        let rewritten = changed(first, "tree", Value::String(tree.to_string()));
        let tagged = changed(first, "tags", Value::Array(vec!["kept".into()]));
        let all = [first, rewritten, tagged];
        for start in 0..all.len() {
            let mut order = all;
            order.rotate_left(start);
            let target = repository(&directory.path().join(format!("target {start}")));
            let options = CopyOptions::default();
            let report = target.copy_from(&source, &order, &options).unwrap();
            assert_eq!((report.copied.len(), report.present.len()), (3, 0), "{report:?}");
            for (from, to) in &report.copied {
                let (from, to) = (source.snapshot(*from).unwrap(), target.snapshot(*to).unwrap());
                assert_eq!((from.tree, from.tags), (to.tree, to.tags));
            }
            let again = target.copy_from(&source, &order, &options).unwrap();
            assert_eq!((again.copied, again.present), (Vec::new(), report.copied));
        }
    }
}

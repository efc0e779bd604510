//! The look around before anything is decided: snapshots, packs, index, and what is needed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::error::{Error, Result};
use crate::id::{Id, SnapshotId};
use crate::index::{IndexFile, IndexPack, Location};
use crate::limits;
use crate::lock::JobGuard;
use crate::opener::BlobOpener;
use crate::pack::{self, BlobKind};
use crate::prune::ledger::{Ledger, Slot};
use crate::prune::{PruneOptions, PrunePhase};
use crate::refs::TreeRefs;
use crate::repository::{FileKind, Inner, Repository};
use crate::storage::StorageError;

/// Trees that lie together are read in one go up to this many bytes.
const RUN: u64 = 4 << 20;
/// Reading over a gap of this size is cheaper than asking twice.
const GAP: u64 = 64 << 10;
/// The end of a pack that is read at once to find its header.
const TAIL: u64 = 64 << 10;

/// The storages of one machine are quick to answer, and those over a network slow: a few requests
/// at a time serve both.
pub(crate) fn workers() -> usize {
    thread::available_parallelism().map_or(2, NonZero::get).clamp(2, 8)
}

pub(crate) struct Survey<'a> {
    pub(crate) inner: &'a Arc<Inner>,
    pub(crate) job: &'a JobGuard,
    pub(crate) options: &'a PruneOptions,
    /// Snapshots that are taken to be forgotten already.
    forgotten: HashSet<SnapshotId>,
    /// The snapshots that were looked into.
    pub(crate) snapshots: HashSet<SnapshotId>,
    /// The pack files that are there, with their sizes.
    pub(crate) stored: HashMap<Id, u64>,
    pub(crate) ledger: Ledger,
    /// Packs that some snapshot needs and no index file lists.
    pub(crate) unlisted: HashSet<u32>,
    index_files: HashSet<Id>,
    /// Whether what is wrong is only noted.
    tolerant: bool,
    /// What is needed and in no index.
    pub(crate) missing: BTreeSet<(BlobKind, Id)>,
    /// What else is wrong.
    pub(crate) problems: Vec<Error>,
    /// Trees that do not open where the index has them.
    pub(crate) unreadable: Vec<Id>,
    /// Packs that no index file lists and that are not enough for what is missing.
    pub(crate) leftover: Vec<IndexPack>,
    /// Packs that were read and found damaged, whatever their size.
    pub(crate) bad: HashSet<Id>,
}

impl<'a> Survey<'a> {
    /// Looks around. Incomplete knowledge is an error: [`Error::PruneRefused`].
    pub(crate) fn new(
        inner: &'a Arc<Inner>,
        job: &'a JobGuard,
        options: &'a PruneOptions,
    ) -> Result<Self> {
        Self::look_around(inner, job, options, &[], false)
    }

    /// Looks around as if these snapshots were forgotten already. To plan, and for nothing else.
    pub(crate) fn without(
        forgotten: &[SnapshotId],
        inner: &'a Arc<Inner>,
        job: &'a JobGuard,
        options: &'a PruneOptions,
    ) -> Result<Self> {
        Self::look_around(inner, job, options, forgotten, false)
    }

    /// Looks around in a repository that may be damaged: what is wrong is noted.
    pub(crate) fn tolerant(
        inner: &'a Arc<Inner>,
        job: &'a JobGuard,
        options: &'a PruneOptions,
    ) -> Result<Self> {
        Self::look_around(inner, job, options, &[], true)
    }

    fn look_around(
        inner: &'a Arc<Inner>,
        job: &'a JobGuard,
        options: &'a PruneOptions,
        forgotten: &[SnapshotId],
        tolerant: bool,
    ) -> Result<Self> {
        let mut survey = Self {
            inner,
            job,
            options,
            forgotten: forgotten.iter().copied().collect(),
            snapshots: HashSet::new(),
            stored: HashMap::new(),
            ledger: Ledger::default(),
            unlisted: HashSet::new(),
            index_files: HashSet::new(),
            tolerant,
            missing: BTreeSet::new(),
            problems: Vec::new(),
            unreadable: Vec::new(),
            leftover: Vec::new(),
            bad: HashSet::new(),
        };
        // Snapshots, then packs, then the index: what a snapshot needs was listed before it was
        // there, and a pack that was there before the index was read is unlisted only if it is.
        let mut roots = survey.new_snapshots()?;
        roots.extend(survey.expected_snapshots()?);
        survey.stored = inner.list(FileKind::Pack)?.into_iter().collect();
        survey.read_index()?;
        survey.look_for_any_snapshot()?;
        survey.find_packs()?;
        survey.walk(roots)?;
        survey.complete()?;
        Ok(survey)
    }

    /// Looks into what others have added since; returns the packs that are dropped and yet needed
    /// by it.
    pub(crate) fn look_again(&mut self) -> Result<HashSet<u32>> {
        let roots = self.new_snapshots()?;
        self.read_index()?;
        if roots.is_empty() {
            return Ok(HashSet::new());
        }
        for (id, size) in self.inner.list(FileKind::Pack)? {
            self.stored.insert(id, size);
        }
        self.find_packs()?;
        self.walk(roots)?;
        self.complete()?;
        Ok(self.ledger.dropped_but_needed())
    }

    /// Takes in packs that this prune has written and listed.
    pub(crate) fn take_in(&mut self, file: IndexFile) -> Result<()> {
        self.ledger.add(vec![(Id([0; 32]), 0, file)])?;
        self.ledger.files.pop();
        Ok(())
    }

    pub(crate) fn go_on(&self) -> Result<()> {
        self.options.cancel.check()?;
        self.job.check()
    }

    fn new_snapshots(&mut self) -> Result<Vec<Id>> {
        let list = Repository { inner: Arc::clone(self.inner) }.snapshots()?;
        let damaged = list.damaged.into_iter().filter(|(id, _)| !self.forgotten.contains(id));
        self.problems.extend(damaged.map(|(_, error)| error));
        let mut roots = Vec::new();
        for snapshot in list.snapshots {
            if !self.forgotten.contains(&snapshot.id) && self.snapshots.insert(snapshot.id) {
                roots.push(snapshot.tree);
            }
        }
        Ok(roots)
    }

    /// Looks for the snapshots that have to be there. Those that a listing does not have yet, and
    /// that are there when they are asked for by name, are gone into like the others.
    ///
    /// Once is enough: from then on all that they need is kept, even if they are forgotten, or lost,
    /// while this prune runs.
    fn expected_snapshots(&mut self) -> Result<Vec<Id>> {
        let (mut roots, mut missing) = (Vec::new(), Vec::new());
        for id in self.options.expected.iter().collect::<BTreeSet<_>>() {
            let name = FileKind::Snapshot.name(id);
            let told = |problem: &Error| matches!(problem, Error::DamagedFile { name: damaged, .. } if *damaged == name);
            let known = self.snapshots.contains(id) || self.forgotten.contains(id);
            if known || self.problems.iter().any(told) {
                continue;
            }
            match self.inner.read_snapshot(*id) {
                Ok(snapshot) => {
                    self.snapshots.insert(*id);
                    roots.push(snapshot.tree);
                }
                Err(error @ Error::SnapshotNotFound(_)) => missing.push(error),
                Err(error) if error.is_damage() => self.problems.push(error),
                Err(error) => return Err(error),
            }
        }
        // First of all, for this is to be told: what they need is not seen by the rest of the look.
        self.problems.splice(..0, missing);
        Ok(roots)
    }

    /// Without any snapshot nothing is needed, and a prune would take everything. That is what
    /// somebody may want who has forgotten all of them; it is also what a `snapshots/` looks like
    /// that is not mounted.
    fn look_for_any_snapshot(&self) -> Result<()> {
        let asked_for = self.options.allow_empty || !self.forgotten.is_empty();
        let packs = self.stored.len().max(self.ledger.packs.len()) as u64;
        let any = !self.snapshots.is_empty() || !self.problems.is_empty();
        if self.tolerant || asked_for || any || packs == 0 {
            return Ok(());
        }
        Err(Error::NoSnapshots { packs })
    }

    fn read_index(&mut self) -> Result<()> {
        let listed = self.inner.list(FileKind::Index)?;
        let total = listed.len() as u64;
        let mut files = Vec::new();
        for (number, (id, size)) in listed.into_iter().enumerate() {
            if !self.index_files.insert(id) {
                continue;
            }
            self.go_on()?;
            self.options.report(PrunePhase::ReadIndex, number as u64, total);
            let mut read = self.inner.load_index_file(&id);
            if self.tolerant && read.as_ref().is_err_and(Error::is_lost) {
                // To mend means to do without it: not for a single bad reading.
                read = self.inner.load_index_file(&id);
            }
            match read {
                Ok(file) => files.push((id, size, file)),
                Err(error) if self.is_noted(&error) => self.problems.push(error),
                Err(error) => return Err(error),
            }
        }
        self.ledger.add(files)
    }

    /// Whether the survey goes on after an error: damage is told in the end. What the disk cannot
    /// read, only who mends it takes for damage.
    fn is_noted(&self, error: &Error) -> bool {
        error.is_damage() || self.tolerant && error.is_lost()
    }

    /// Which packs of the index are there.
    fn find_packs(&mut self) -> Result<()> {
        for pack in &mut self.ledger.packs {
            let size = match self.stored.get(&pack.id) {
                Some(size) => Some(*size),
                // It may be younger than the listing.
                None => match self.inner.storage.size(&FileKind::Pack.name(&pack.id)) {
                    Ok(size) => Some(size),
                    Err(error) if error.is_not_found() => None,
                    Err(error) => return Err(error.into()),
                },
            };
            pack.present = size == Some(pack.size) && !self.bad.contains(&pack.id);
        }
        Ok(())
    }

    /// Finds what is missing; refuses if anything stays missing.
    fn complete(&mut self) -> Result<()> {
        if !self.missing.is_empty() && (self.tolerant || self.problems.is_empty()) {
            self.find_missing()?;
        }
        if self.tolerant {
            return Ok(());
        }
        let missing = std::mem::take(&mut self.missing).into_iter().chain(self.ledger.lost());
        let missing = missing.map(|(kind, blob)| Error::MissingBlob { kind, blob, path: None });
        self.problems.extend(missing);
        match self.problems.first() {
            None => Ok(()),
            Some(first) => Err(Error::PruneRefused {
                problems: self.problems.len() as u64,
                first: Box::new(first.clone()),
            }),
        }
    }

    /// Finds what is missing in packs that no index file lists.
    fn find_missing(&mut self) -> Result<()> {
        let mut headers = self.unlisted_headers()?;
        while !self.missing.is_empty() {
            let missing = std::mem::take(&mut self.missing);
            let (mut found, mut rest) = (Vec::new(), Vec::new());
            for pack in headers {
                let has = self.has_whole(&pack, &missing)?;
                if has { &mut found } else { &mut rest }.push(pack);
            }
            headers = rest;
            if found.is_empty() {
                self.missing = missing;
                break;
            }
            let ids: Vec<Id> = found.iter().map(|pack| pack.id).collect();
            self.take_in(IndexFile { packs: found })?;
            self.unlisted.extend(ids.iter().filter_map(|id| self.ledger.pack(id)));
            let mut pending = Vec::new();
            for (kind, id) in missing {
                self.reach(kind, &id, &mut pending);
            }
            self.walk_on(pending)?;
        }
        self.leftover = headers;
        Ok(())
    }

    /// Whether a pack has something that is missing, and all that it has of it is whole.
    fn has_whole(&self, pack: &IndexPack, missing: &BTreeSet<(BlobKind, Id)>) -> Result<bool> {
        let mut has = false;
        for blob in pack.packed().filter(|blob| missing.contains(&(blob.kind, blob.id))) {
            match self.inner.load_from(&Location { pack: pack.id, blob }) {
                Ok(_) => has = true,
                Err(error) if self.is_noted(&error) => {
                    tracing::warn!(%error, "a pack that no index lists is damaged");
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(has)
    }

    /// Marks all that a tree refers to, which was found elsewhere.
    pub(crate) fn reach_refs(&mut self, refs: &TreeRefs) -> Result<()> {
        let mut pending = Vec::new();
        for subtree in &refs.subtrees {
            self.reach(BlobKind::Tree, subtree, &mut pending);
        }
        for blob in &refs.content {
            self.reach(BlobKind::Data, blob, &mut pending);
        }
        self.walk_on(pending)
    }

    /// What the packs that no index file lists hold, by their own headers.
    fn unlisted_headers(&self) -> Result<Vec<IndexPack>> {
        let mut found = Vec::new();
        for (id, size) in &self.stored {
            if self.ledger.pack(id).is_some() {
                continue;
            }
            self.go_on()?;
            match read_header(self.inner, id, *size) {
                Ok(pack) => found.push(pack),
                Err(Error::Storage(error)) if error.is_not_found() => {}
                Err(error) if self.is_noted(&error) => {
                    tracing::warn!(%error, "a pack that no index lists is not readable");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Marks everything that is needed below these trees.
    fn walk(&mut self, roots: Vec<Id>) -> Result<()> {
        let mut pending = Vec::new();
        for root in roots {
            self.reach(BlobKind::Tree, &root, &mut pending);
        }
        self.walk_on(pending)
    }

    fn reach(&mut self, kind: BlobKind, id: &Id, pending: &mut Vec<Slot>) {
        match self.ledger.find(kind, id) {
            None => {
                self.missing.insert((kind, *id));
            }
            Some(slot) => {
                if self.ledger.need(slot) && kind == BlobKind::Tree {
                    pending.push(slot);
                }
            }
        }
    }

    /// Level by level, so that the trees of one level can be read in the order of their places.
    fn walk_on(&mut self, mut pending: Vec<Slot>) -> Result<()> {
        let mut trees = 0;
        while !pending.is_empty() {
            let mut places: Vec<Location> = Vec::with_capacity(pending.len());
            for slot in std::mem::take(&mut pending) {
                // One without a place is found to be lost later.
                places.extend(self.ledger.places(slot).first());
            }
            places.sort_by_key(|place| (place.pack, place.blob.offset));
            let inner = Arc::clone(self.inner);
            read_trees(&inner, &places, |place, refs| {
                self.go_on()?;
                trees += 1;
                self.options.report(PrunePhase::FindNeeded, trees, 0);
                let refs = match refs {
                    Ok(refs) => refs,
                    Err(error) if self.is_noted(&error) => {
                        let Some(refs) = self.another_copy(place) else {
                            self.problems.push(error);
                            self.unreadable.push(place.blob.id);
                            return Ok(());
                        };
                        refs
                    }
                    Err(error) => return Err(error),
                };
                for subtree in &refs.subtrees {
                    self.reach(BlobKind::Tree, subtree, &mut pending);
                }
                for blob in &refs.content {
                    self.reach(BlobKind::Data, blob, &mut pending);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn another_copy(&self, bad: &Location) -> Option<TreeRefs> {
        let slot = self.ledger.find(BlobKind::Tree, &bad.blob.id)?;
        self.ledger.places(slot).iter().filter(|place| *place != bad).find_map(|place| {
            let json = self.inner.load_from(place).ok()?;
            TreeRefs::parse(&place.blob.id, &json).ok()
        })
    }
}

/// What a pack holds, by its own header.
pub(crate) fn read_header(inner: &Inner, id: &Id, size: u64) -> Result<IndexPack> {
    let name = FileKind::Pack.name(id);
    let bad = |reason: String| Error::damaged(&name, reason);
    let end = |length: u64| {
        let start = size.saturating_sub(length);
        inner.storage.get_range(&name, start, size - start)
    };
    let mut tail = end(TAIL)?;
    let length = tail.last_chunk::<4>().copied().map(u32::from_le_bytes);
    let length = u64::from(length.ok_or_else(|| bad("shorter than a header length".to_owned()))?);
    if length > limits::PACK_HEADER {
        return Err(bad(format!("its header would take {length} bytes")));
    }
    if length + 4 > tail.len() as u64 && length + 4 <= size {
        tail = end(length + 4)?;
    }
    let blobs = pack::parse_end(&inner.key, &tail, size).map_err(bad)?;
    Ok(IndexPack::new(*id, &blobs))
}

/// Reads and parses trees with a few threads; `places` are sorted by pack and offset.
fn read_trees(
    inner: &Inner,
    places: &[Location],
    mut each: impl FnMut(&Location, Result<TreeRefs>) -> Result<()>,
) -> Result<()> {
    let mut runs: Vec<&[Location]> = Vec::new();
    let mut start = 0;
    for next in 1..=places.len() {
        let together = places.get(next).is_some_and(|place| {
            let (first, last) = (&places[start], &places[next - 1]);
            let end =
                |place: &Location| u64::from(place.blob.offset) + u64::from(place.blob.length);
            place.pack == first.pack
                && u64::from(place.blob.offset) <= end(last) + GAP
                && end(place) - u64::from(first.blob.offset) <= RUN
        });
        if !together {
            runs.push(&places[start..next]);
            start = next;
        }
    }
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (done, results) = mpsc::sync_channel(64);
        for _ in 0..workers().min(runs.len()) {
            let (runs, next, done) = (&runs, &next, done.clone());
            scope.spawn(move || {
                while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for result in read_run(inner, run) {
                        if done.send(result).is_err() {
                            return;
                        }
                    }
                }
            });
        }
        drop(done);
        // Dropping the receiver on an error ends the threads.
        results.into_iter().try_for_each(|(place, refs)| each(&place, refs))
    })
}

fn read_run(inner: &Inner, run: &[Location]) -> Vec<(Location, Result<TreeRefs>)> {
    let (first, last) = (&run[0], &run[run.len() - 1]);
    let start = u64::from(first.blob.offset);
    let end = u64::from(last.blob.offset) + u64::from(last.blob.length);
    let name = FileKind::Pack.name(&first.pack);
    let bytes = inner.storage.get_range(&name, start, end - start);
    if run.len() > 1 && bytes.as_ref().is_err_and(StorageError::is_unreadable) {
        // A bad sector in one of them, or between them, says nothing of the others.
        return run.chunks(1).flat_map(|one| read_run(inner, one)).collect();
    }
    let mut opener = BlobOpener::new();
    let mut read = |place: &Location| {
        let opener = opener.as_mut().map_err(|error| error.clone())?;
        let bytes = match &bytes {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => {
                return Err(crate::repository::damaged(place, "the pack file is gone"));
            }
            Err(error) => return Err(error.clone().into()),
        };
        let from = usize::try_from(u64::from(place.blob.offset) - start).unwrap_or(usize::MAX);
        let sealed = bytes.get(from..).unwrap_or_default();
        let sealed = &sealed[..sealed.len().min(place.blob.length as usize)];
        TreeRefs::parse(&place.blob.id, opener.open(&inner.key, place, sealed)?)
    };
    run.iter().map(|place| (*place, read(place))).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::{ObjectStorage, Options, Password};

    /// Whoever can write to the storage can make such a pack without the password.
    #[test]
    fn a_header_is_not_read_because_a_pack_says_that_it_is_large() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Arc::new(ObjectStorage::local(directory.path()).unwrap());
        let password = Password::from_text("a password");
        let repository = Repository::init(storage, &password, Options::default()).unwrap();
        let (id, size) = (Id([5; 32]), 5_u64 << 30);
        let path = directory.path().join(FileKind::Pack.name(&id));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::File::create(path).unwrap();
        file.set_len(size - 4).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
        file.write_all(&u32::MAX.to_le_bytes()).unwrap();
        let error = read_header(&repository.inner, &id, size).err().unwrap();
        assert!(error.is_damage() && error.to_string().contains("header would take"), "{error}");
    }
}

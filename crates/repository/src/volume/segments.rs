//! The work on the segments of a volume, by several threads.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::blobs::{BlobWorker, BlobWriter};
use crate::cancel::CancelFlag;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::BlobKind;
use crate::pipeline::Counts;
use crate::repository::Inner;

use super::base::Base;
use super::layout::{self, GROUP_SEGMENTS, Geometry, SEGMENT_SIZE};
use super::plan::{Cursor, Plan, Task};
use super::range::ByteRange;
use super::source::{Extent, VolumeSource};
use super::writer::VolumeStats;
use super::zero::is_zero;

/// Why the work on segments ended early.
pub(crate) enum Failure {
    Source(io::Error),
    Repository(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Repository(error)
    }
}

/// The work on one volume.
pub(crate) struct Job<'a> {
    inner: &'a Inner,
    blobs: &'a BlobWriter,
    counts: &'a Counts,
    source: &'a dyn VolumeSource,
    geometry: Geometry,
    base: Option<Base>,
    plan: Plan,
    cancel: &'a CancelFlag,
    report: &'a (dyn Fn(&VolumeStats) + Sync),
    zeros: Zeros,
    progress: Mutex<Progress>,
    stats: Mutex<VolumeStats>,
    failure: Mutex<Option<Failure>>,
    stop: AtomicBool,
}

#[derive(Default)]
struct Progress {
    cursor: Cursor,
    open: HashMap<u64, Arc<Group>>,
    done: HashMap<u64, Id>,
}

/// A group that is being put together.
struct Group {
    number: u64,
    /// Its segments in the base; none if there is no base, or it does not reach so far.
    old: Mutex<Option<Arc<Vec<Id>>>>,
    new: Mutex<NewSegments>,
}

#[derive(Default)]
struct NewSegments {
    written: HashMap<u64, Id>,
    /// Tasks that are being worked on.
    running: usize,
    /// No more tasks come.
    closed: bool,
}

/// What is known of blocks of zeros.
struct Zeros {
    whole: Id,
    /// The last block of the volume may be shorter.
    last: Id,
    /// Whether each is known to be stored.
    stored: [AtomicBool; 2],
    /// The tree of a whole segment of zeros.
    segment: OnceLock<Id>,
}

struct Worker {
    blobs: BlobWorker,
    block: Vec<u8>,
    stats: VolumeStats,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn source_error(at: u64, error: &io::Error) -> Failure {
    Failure::Source(io::Error::new(error.kind(), format!("at byte {at}: {error}")))
}

impl<'a> Job<'a> {
    #[expect(clippy::too_many_arguments, reason = "one caller, which has all of them at hand")]
    pub(crate) fn new(
        inner: &'a Inner,
        (blobs, counts): (&'a BlobWriter, &'a Counts),
        source: &'a dyn VolumeSource,
        geometry: Geometry,
        base: Option<Base>,
        plan: Plan,
        cancel: &'a CancelFlag,
        report: &'a (dyn Fn(&VolumeStats) + Sync),
    ) -> Self {
        let mut zeros = vec![0; geometry.block_size as usize];
        let whole = Id::hash(&zeros);
        let last = geometry.size % u64::from(geometry.block_size);
        zeros.truncate(usize::try_from(last).unwrap_or(usize::MAX));
        let zeros = Zeros {
            whole,
            last: Id::hash(&zeros),
            stored: [AtomicBool::new(false), AtomicBool::new(false)],
            segment: OnceLock::new(),
        };
        Self {
            inner,
            blobs,
            counts,
            source,
            geometry,
            base,
            plan,
            cancel,
            report,
            zeros,
            progress: Mutex::default(),
            stats: Mutex::default(),
            failure: Mutex::default(),
            stop: AtomicBool::new(false),
        }
    }

    /// Does it; returns the ids of the groups.
    pub(crate) fn run(
        &self,
        threads: usize,
    ) -> std::result::Result<(Vec<Id>, VolumeStats), Failure> {
        std::thread::scope(|scope| {
            let mut running = Vec::new();
            for number in 0..threads {
                let thread = std::thread::Builder::new().name(format!("volume-{number}"));
                match thread.spawn_scoped(scope, || self.work()) {
                    Ok(thread) => running.push(thread),
                    // Those that there are do it all.
                    Err(_) if number > 0 => break,
                    Err(error) => {
                        self.fail(Error::Internal(format!("no thread: {error}")).into());
                        break;
                    }
                }
            }
            for thread in running {
                if thread.join().is_err() {
                    self.fail(Error::Internal("a thread of the backup died".to_owned()).into());
                }
            }
        });
        if let Some(failure) = lock(&self.failure).take() {
            return Err(failure);
        }
        self.cancel.check()?;
        let groups = self.all_groups()?;
        Ok((groups, *lock(&self.stats)))
    }

    fn fail(&self, failure: Failure) {
        // The reason first: others that are stopped by it must not give theirs.
        lock(&self.failure).get_or_insert(failure);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The groups that were written, and those that are taken over.
    fn all_groups(&self) -> Result<Vec<Id>> {
        let progress = lock(&self.progress);
        let old = self.base.as_ref().map_or(&[][..], |base| &base.groups);
        let mut groups = Vec::new();
        for number in 0..self.geometry.groups() {
            let kept = || usize::try_from(number).ok().and_then(|number| old.get(number));
            groups.push(match progress.done.get(&number) {
                Some(id) => *id,
                None => self.kept_tree(kept())?,
            });
        }
        Ok(groups)
    }

    /// A tree that is taken over unseen has to be there at least.
    fn kept_tree(&self, id: Option<&Id>) -> Result<Id> {
        let id = id.ok_or_else(|| {
            Error::Internal("a part of the volume was neither written nor taken over".to_owned())
        })?;
        if self.blobs.knows(BlobKind::Tree, id) {
            return Ok(*id);
        }
        Err(Error::MissingBlob { kind: BlobKind::Tree, blob: *id, path: None })
    }

    fn work(&self) {
        let done = self.blobs.worker().map_err(Failure::from).and_then(|blobs| {
            let block = vec![0; self.geometry.block_size as usize];
            self.work_as(&mut Worker { blobs, block, stats: VolumeStats::default() })
        });
        if let Err(failure) = done {
            self.fail(failure);
        }
    }

    fn work_as(&self, worker: &mut Worker) -> std::result::Result<(), Failure> {
        while !self.stop.load(Ordering::Relaxed) {
            self.cancel.check()?;
            let Some((task, group)) = self.take() else { return Ok(()) };
            let id = self.segment(worker, &task, &group)?;
            self.give_back(worker, &task, &group, id)?;
            worker.stats.segments_visited += 1;
            let mut stats = lock(&self.stats);
            stats.add(&std::mem::take(&mut worker.stats));
            (self.report)(&stats);
        }
        Ok(())
    }

    fn take(&self) -> Option<(Task, Arc<Group>)> {
        let mut progress = lock(&self.progress);
        let task = self.plan.next(&mut progress.cursor)?;
        let number = task.segment / GROUP_SEGMENTS;
        let group = progress.open.entry(number).or_insert_with(|| {
            Arc::new(Group { number, old: Mutex::default(), new: Mutex::default() })
        });
        let group = Arc::clone(group);
        let mut new = lock(&group.new);
        new.running += 1;
        new.closed |= task.last_of_group;
        drop(new);
        Some((task, group))
    }

    /// Enters a segment into its group, and stores the group if it was the last.
    fn give_back(&self, worker: &mut Worker, task: &Task, group: &Group, id: Id) -> Result<()> {
        let mut new = lock(&group.new);
        new.written.insert(task.segment % GROUP_SEGMENTS, id);
        new.running -= 1;
        if new.running > 0 || !new.closed {
            return Ok(());
        }
        let count = self.geometry.segments_in(group.number);
        let mut segments = Vec::with_capacity(count);
        for number in (0..).take(count) {
            let id = if let Some(id) = new.written.get(&number) {
                *id
            } else {
                let old = self.old_segments(group)?;
                let id = usize::try_from(number).ok().and_then(|number| old.get(number));
                self.kept_tree(id)?
            };
            segments.push(id);
        }
        let id = self.store_list(worker, &layout::group_tree(&segments)?)?;
        let mut progress = lock(&self.progress);
        progress.done.insert(group.number, id);
        progress.open.remove(&group.number);
        Ok(())
    }

    fn old_segments(&self, group: &Group) -> Result<Arc<Vec<Id>>> {
        let mut old = lock(&group.old);
        if let Some(old) = &*old {
            return Ok(Arc::clone(old));
        }
        let loaded = match &self.base {
            Some(base) => base.segments(self.inner, group.number)?,
            None => Vec::new(),
        };
        Ok(Arc::clone(old.insert(Arc::new(loaded))))
    }

    fn store_list(&self, worker: &mut Worker, json: &[u8]) -> Result<Id> {
        let stored = self.blobs.store(&mut worker.blobs, BlobKind::Tree, json)?;
        self.counts.add(BlobKind::Tree, json.len(), &stored);
        if let Some(bytes) = stored.added {
            worker.stats.lists_new += 1;
            worker.stats.list_bytes_stored += bytes;
            worker.stats.bytes_new += json.len() as u64;
        }
        Ok(stored.id)
    }

    /// Looks into a segment and returns the id of its tree.
    fn segment(
        &self,
        worker: &mut Worker,
        task: &Task,
        group: &Group,
    ) -> std::result::Result<Id, Failure> {
        let segment = task.segment;
        let (offset, length) = (segment * SEGMENT_SIZE, self.geometry.segment_length(segment));
        let all = ByteRange { offset, length };
        let mut parts = self.plan.parts(task, all);
        let old = if parts == [all] { None } else { self.old_blocks(segment, group)? };
        if old.is_none() {
            parts = vec![all];
        }
        let mut extents = Vec::new();
        for part in parts {
            extents.extend(self.extents(part)?);
        }
        if extents.iter().all(|extent| extent.zero)
            && old.is_none()
            && length == SEGMENT_SIZE
            && let Some(id) = self.zeros.segment.get()
        {
            let blocks = self.geometry.segment_blocks();
            worker.stats.blocks += blocks;
            worker.stats.blocks_zero += blocks;
            return Ok(*id);
        }
        let first = segment * self.geometry.segment_blocks();
        let mut blocks = Vec::with_capacity(self.geometry.blocks_in(segment));
        let mut extents = extents.as_slice();
        for number in first..first + self.geometry.blocks_in(segment) as u64 {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Cancelled.into());
            }
            self.cancel.check()?;
            let range = self.block_range(number);
            while extents.first().is_some_and(|extent| extent.range.end() <= range.offset) {
                extents = &extents[1..];
            }
            let here =
                extents.iter().take_while(|extent| extent.range.offset < range.end()).count();
            let old =
                usize::try_from(number - first).ok().and_then(|at| old.as_ref()?.get(at).copied());
            blocks.push(self.block(worker, range, &extents[..here], old)?);
        }
        let zero = |id: &Id| *id == self.zeros.whole || *id == self.zeros.last;
        let tree = layout::segment_tree(&self.geometry, segment, &blocks, &zero)?;
        let id = self.store_list(worker, &tree)?;
        if length == SEGMENT_SIZE && blocks.iter().all(|block| *block == self.zeros.whole) {
            let _ = self.zeros.segment.set(id);
        }
        Ok(id)
    }

    /// The blocks of a segment in the base. If they cannot be told, the segment is read anew.
    fn old_blocks(&self, segment: u64, group: &Group) -> Result<Option<Vec<Id>>> {
        let Some(base) = &self.base else { return Ok(None) };
        let old = self.old_segments(group)?;
        let number = usize::try_from(segment % GROUP_SEGMENTS).ok();
        let Some(id) = number.and_then(|number| old.get(number)) else { return Ok(None) };
        match base.blocks(self.inner, segment, id) {
            Err(error) if error.is_damage() => {
                tracing::warn!(%error, segment, "reading a whole segment, its base is damaged");
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn block_range(&self, number: u64) -> ByteRange {
        let offset = number * u64::from(self.geometry.block_size);
        ByteRange { offset, length: self.geometry.block_length(number) as u64 }
    }

    /// What the source says of a range, seen to be without gaps: a gap would be taken for data
    /// that has not changed.
    fn extents(&self, range: ByteRange) -> std::result::Result<Vec<Extent>, Failure> {
        let mut extents =
            self.source.extents(range).map_err(|error| source_error(range.offset, &error))?;
        extents.retain(|extent| extent.range.length > 0);
        let mut at = range.offset;
        for extent in &extents {
            if extent.range.offset != at {
                break;
            }
            at = extent.range.end();
        }
        if at != range.end() || extents.last().is_some_and(|last| last.range.end() != at) {
            let error = io::Error::new(io::ErrorKind::InvalidData, "its map of holes has gaps");
            return Err(source_error(range.offset, &error));
        }
        Ok(extents)
    }

    /// The id of a block, of which `extents` were asked for.
    fn block(
        &self,
        worker: &mut Worker,
        range: ByteRange,
        extents: &[Extent],
        old: Option<Id>,
    ) -> std::result::Result<Id, Failure> {
        let parts = || {
            extents.iter().filter_map(|extent| {
                Some(Extent { range: extent.range.intersect(range)?, zero: extent.zero })
            })
        };
        let asked: u64 = parts().map(|part| part.range.length).sum();
        if asked == range.length {
            return self.filled(worker, range, parts());
        }
        if let Some(old) = old {
            if asked == 0 {
                // An index that lacks the block has lost it.
                if self.blobs.knows(BlobKind::Data, &old) {
                    return Ok(old);
                }
            } else if self.load_old(worker, range, &old)? {
                return self.filled(worker, range, parts());
            }
        }
        let all = self.extents(range)?;
        self.filled(worker, range, all.into_iter())
    }

    /// Puts a block of the base into the buffer. If it is damaged, the source has to be read.
    fn load_old(&self, worker: &mut Worker, range: ByteRange, old: &Id) -> Result<bool> {
        let length = usize::try_from(range.length).unwrap_or(usize::MAX);
        if *old == self.zeros.whole || *old == self.zeros.last {
            worker.block[..length].fill(0);
            return Ok(true);
        }
        match self.inner.load_blob(BlobKind::Data, old) {
            Ok(plain) if plain.len() == length => {
                worker.block[..length].copy_from_slice(&plain);
                worker.stats.base_bytes_read += range.length;
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.is_damage() => {
                tracing::warn!(%error, "reading a whole block, its base is damaged");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Reads `parts` of a block, the rest of which is in the buffer already, and stores it.
    fn filled(
        &self,
        worker: &mut Worker,
        range: ByteRange,
        parts: impl Iterator<Item = Extent>,
    ) -> std::result::Result<Id, Failure> {
        let length = usize::try_from(range.length).unwrap_or(usize::MAX);
        let mut known_zeros = 0;
        for part in parts {
            let start = usize::try_from(part.range.offset - range.offset).unwrap_or(usize::MAX);
            let end = start + usize::try_from(part.range.length).unwrap_or(usize::MAX);
            let place = &mut worker.block[start..end];
            if part.zero {
                place.fill(0);
                known_zeros += part.range.length;
            } else {
                self.source
                    .read_at(part.range.offset, place)
                    .map_err(|error| source_error(part.range.offset, &error))?;
                worker.stats.bytes_read += part.range.length;
            }
        }
        worker.stats.blocks += 1;
        if known_zeros == range.length || is_zero(&worker.block[..length]) {
            worker.stats.blocks_zero += 1;
            return Ok(self.zero_block(worker, length)?);
        }
        self.store_block(worker, length).map_err(Failure::from)
    }

    fn store_block(&self, worker: &mut Worker, length: usize) -> Result<Id> {
        let Worker { blobs, block, stats } = worker;
        let stored = self.blobs.store(blobs, BlobKind::Data, &block[..length])?;
        self.counts.add(BlobKind::Data, length, &stored);
        if let Some(bytes) = stored.added {
            stats.blocks_new += 1;
            stats.block_bytes_stored += bytes;
            stats.bytes_new += length as u64;
        }
        Ok(stored.id)
    }

    /// The id of a block of zeros. It is stored once; the buffer holds it.
    fn zero_block(&self, worker: &mut Worker, length: usize) -> Result<Id> {
        let short = length < self.geometry.block_size as usize;
        let stored = &self.zeros.stored[usize::from(short)];
        if !stored.load(Ordering::Acquire) {
            self.store_block(worker, length)?;
            stored.store(true, Ordering::Release);
        }
        Ok(if short { self.zeros.last } else { self.zeros.whole })
    }
}

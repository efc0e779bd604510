//! Restoring a whole volume: in the order of the packs, by several threads, every block verified.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::cancel::CancelFlag;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::Location;
use crate::opener::BlobOpener;
use crate::pack::BlobKind;
use crate::repository::FileKind;

use super::layout::SEGMENT_SIZE;
use super::range::ByteRange;
use super::reader::VolumeReader;
use super::target::VolumeTarget;

/// Bytes of one pack that are read in one go at most.
const RUN: u64 = 4 << 20;
/// Reading over a gap of this size is cheaper than asking twice.
const GAP: u64 = 64 << 10;
/// Damaged ranges that are listed; of the others only the bytes are counted.
const LISTED: usize = 10_000;

/// Called with the bytes done so far, zeros included, and the volume's size.
type Progress<'a> = dyn Fn(u64, u64) + Sync + 'a;

/// How a volume is restored.
#[derive(Default)]
pub struct VolumeRestoreOptions<'a> {
    /// Threads that work at a time; by default one for each processor, eight at most.
    pub threads: Option<usize>,
    /// Stops the restore.
    pub cancel: CancelFlag,
    /// Hears the bytes done so far, zeros included, and the volume's size.
    pub progress: Option<&'a Progress<'a>>,
}

impl std::fmt::Debug for VolumeRestoreOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VolumeRestoreOptions")
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

/// A range that could not be restored.
#[derive(Debug, Clone)]
pub struct DamagedRange {
    /// Where it is. Nothing was written there.
    pub range: ByteRange,
    /// Why: the error of its first block.
    pub error: Error,
}

/// How a restore went.
#[derive(Debug, Clone, Default)]
pub struct VolumeRestore {
    /// Bytes of data written.
    pub bytes_written: u64,
    /// Bytes that were zeros.
    pub bytes_zero: u64,
    /// Bytes that could not be restored. Unless this is 0 the target is not the volume.
    pub bytes_damaged: u64,
    /// Where these are, in ascending order; at most 10,000 ranges are listed.
    pub damaged: Vec<DamagedRange>,
}

impl VolumeRestore {
    /// Whether the target holds all of the volume.
    pub fn is_whole(&self) -> bool {
        self.bytes_damaged == 0
    }
}

/// A block that is wanted.
struct Want {
    place: Location,
    block: u64,
}

struct Work<'a> {
    volume: &'a VolumeReader,
    target: &'a dyn VolumeTarget,
    options: &'a VolumeRestoreOptions<'a>,
    next: AtomicU64,
    stop: AtomicBool,
    outcome: Mutex<VolumeRestore>,
    failure: Mutex<Option<Error>>,
}

impl VolumeReader {
    /// Restores the volume. Damaged blocks are reported, and all others are restored; an error of
    /// the target, or of the storage, ends it. The target is synced at the end.
    ///
    /// Each thread holds one run of a pack (4 MiB) and one segment's list at a time.
    pub fn restore(
        &self,
        target: &dyn VolumeTarget,
        options: &VolumeRestoreOptions<'_>,
    ) -> Result<VolumeRestore> {
        let threads = options.threads.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8)
        });
        let work = Work {
            volume: self,
            target,
            options,
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            outcome: Mutex::default(),
            failure: Mutex::default(),
        };
        std::thread::scope(|scope| {
            let mut running = Vec::new();
            for _ in 1..threads.clamp(1, 64) {
                let thread = std::thread::Builder::new().name("volume-restore".to_owned());
                running.extend(thread.spawn_scoped(scope, || work.run()).ok());
            }
            work.run();
            for thread in running {
                if thread.join().is_err() {
                    work.fail(Error::Internal("a thread of the restore died".to_owned()));
                }
            }
        });
        if let Some(error) = lock(&work.failure).take() {
            return Err(error);
        }
        target.sync().map_err(|error| self.target_error(error))?;
        let mut outcome = work.outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.damaged.sort_by_key(|damaged| damaged.range.offset);
        outcome.damaged.dedup_by(|next, last| {
            let joined = last.range.end() == next.range.offset;
            if joined {
                last.range.length += next.range.length;
            }
            joined
        });
        Ok(outcome)
    }

    fn target_error(&self, error: io::Error) -> Error {
        let path = String::from_utf8_lossy(self.path()).into_owned();
        Error::Sink { path, source: Arc::new(error) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Work<'_> {
    fn fail(&self, error: Error) {
        lock(&self.failure).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    fn run(&self) {
        match BlobOpener::new() {
            Ok(mut opener) => self.run_with(&mut opener),
            Err(error) => self.fail(error),
        }
    }

    fn run_with(&self, opener: &mut BlobOpener) {
        while !self.stop.load(Ordering::Relaxed) {
            let segment = self.next.fetch_add(1, Ordering::Relaxed);
            if segment >= self.volume.geometry().segments() {
                return;
            }
            if let Err(error) = self.segment(segment, opener) {
                self.fail(error);
            }
        }
    }

    fn segment(&self, segment: u64, opener: &mut BlobOpener) -> Result<()> {
        let volume = self.volume;
        self.options.cancel.check()?;
        volume.reader().check_lock()?;
        let start = segment * SEGMENT_SIZE;
        let all = ByteRange { offset: start, length: volume.geometry().segment_length(segment) };
        let blocks = match volume.segment_blocks(segment) {
            Ok(blocks) => blocks,
            Err(error) if error.is_damage() => {
                self.damaged(all, error);
                self.progress(0, 0);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let first = segment * volume.geometry().segment_blocks();
        let (mut wanted, mut written, mut zeros) = (Vec::new(), 0, 0);
        for (block, id) in (first..).zip(blocks.iter()) {
            if volume.is_zero(id) {
                continue;
            }
            match volume.reader().locate(id, volume.path()) {
                Ok(place) => wanted.push(Want { place, block }),
                Err(error) if error.is_damage() => self.damaged(self.range(block), error),
                Err(error) => return Err(error),
            }
        }
        for hole in runs_of_zeros(volume, first, &blocks) {
            self.target.write_zeros(hole).map_err(|error| volume.target_error(error))?;
            zeros += hole.length;
        }
        wanted.sort_by_key(|want| (want.place.pack, want.place.blob.offset));
        let mut rest = wanted.as_slice();
        while let Some(run) = next_run(rest) {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.options.cancel.check()?;
            written += self.restore_run(&rest[..run], opener)?;
            rest = &rest[run..];
        }
        self.progress(written, zeros);
        Ok(())
    }

    fn progress(&self, written: u64, zeros: u64) {
        let mut outcome = lock(&self.outcome);
        outcome.bytes_written += written;
        outcome.bytes_zero += zeros;
        let done = outcome.bytes_written + outcome.bytes_zero + outcome.bytes_damaged;
        if let Some(progress) = self.options.progress {
            progress(done, self.volume.size());
        }
    }

    fn range(&self, block: u64) -> ByteRange {
        let geometry = self.volume.geometry();
        ByteRange {
            offset: block * u64::from(geometry.block_size),
            length: geometry.block_length(block) as u64,
        }
    }

    fn damaged(&self, range: ByteRange, error: Error) {
        let mut outcome = lock(&self.outcome);
        outcome.bytes_damaged += range.length;
        if outcome.damaged.len() < LISTED {
            outcome.damaged.push(DamagedRange { range, error });
        }
    }

    /// Restores blocks that lie together in a pack; returns the bytes written.
    fn restore_run(&self, run: &[Want], opener: &mut BlobOpener) -> Result<u64> {
        let (volume, inner) = (self.volume, &self.volume.reader().inner);
        let [first, .., last] = run else {
            return run.first().map_or(Ok(0), |want| self.restore_block(want, None, opener));
        };
        let start = u64::from(first.place.blob.offset);
        let end = u64::from(last.place.blob.offset) + u64::from(last.place.blob.length);
        let name = FileKind::Pack.name(&first.place.pack);
        // Without it each block is asked for by itself, and tells why it is not to be had.
        let bytes = inner.storage.get_range(&name, start, end - start).unwrap_or_default();
        let mut written = 0;
        for want in run {
            volume.reader().check_lock()?;
            let offset = usize::try_from(u64::from(want.place.blob.offset) - start);
            let sealed = offset.ok().and_then(|offset| {
                let end = offset.checked_add(want.place.blob.length as usize)?;
                (end <= bytes.len()).then(|| bytes.slice(offset..end))
            });
            written += self.restore_block(want, sealed, opener)?;
        }
        Ok(written)
    }

    fn restore_block(
        &self,
        want: &Want,
        sealed: Option<Bytes>,
        opener: &mut BlobOpener,
    ) -> Result<u64> {
        let inner = &self.volume.reader().inner;
        if let Some(sealed) = sealed
            && let Ok(plain) = opener.open(&inner.key, &want.place, &sealed)
        {
            return self.write(want, plain);
        }
        // By itself, and from another place if it lies in two.
        match inner.read_blob(BlobKind::Data, &want.place.blob.id) {
            Ok(plain) => self.write(want, &plain),
            Err(error) if error.is_damage() => {
                self.damaged(self.range(want.block), error.at_path(self.volume.path()));
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    fn write(&self, want: &Want, plain: &[u8]) -> Result<u64> {
        let range = self.range(want.block);
        if let Err(error) = self.volume.check_block(want.block, plain.len()) {
            self.damaged(range, error);
            return Ok(0);
        }
        let written = self.target.write_at(range.offset, plain);
        written.map_err(|error| self.volume.target_error(error))?;
        Ok(range.length)
    }
}

/// How many of the first blocks lie together; none if there are none.
fn next_run(wanted: &[Want]) -> Option<usize> {
    let first = wanted.first()?;
    let start = u64::from(first.place.blob.offset);
    let end_of =
        |want: &Want| u64::from(want.place.blob.offset) + u64::from(want.place.blob.length);
    let more = wanted.windows(2).take_while(|pair| {
        pair[1].place.pack == first.place.pack
            && u64::from(pair[1].place.blob.offset) <= end_of(&pair[0]) + GAP
            && end_of(&pair[1]) - start <= RUN
    });
    Some(1 + more.count())
}

/// The ranges of zeros in a segment.
fn runs_of_zeros(volume: &VolumeReader, first: u64, blocks: &[Id]) -> Vec<ByteRange> {
    let geometry = volume.geometry();
    let step = u64::from(geometry.block_size);
    let mut runs: Vec<ByteRange> = Vec::new();
    for (block, id) in (first..).zip(blocks) {
        if !volume.is_zero(id) {
            continue;
        }
        let (offset, length) = (block * step, geometry.block_length(block) as u64);
        match runs.last_mut() {
            Some(last) if last.end() == offset => last.length += length,
            _ => runs.push(ByteRange { offset, length }),
        }
    }
    runs
}

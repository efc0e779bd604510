//! From files to blobs, on several threads.
//!
//! The walker's thread reads files into slabs and cuts them; worker threads hash, look up, compress
//! and seal the chunks. Small files are read into one slab and handed over together. What a file's
//! chunks are called is known later: its [`Content`] is a promise that the thread that builds trees
//! waits for. Memory is bounded by the slabs: who reads faster than the others store waits for one.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::blobs::{BlobWorker, BlobWriter, StoredBlob};
use crate::cancel::CancelFlag;
use crate::chunker;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::BlobKind;
use crate::repository::Inner;
use crate::slab::{Slab, SlabPool};

/// Slabs for small files, which are one chunk each.
const SMALL: usize = 1 << 20;
/// So many small slabs: enough that a worker always finds one.
const SMALLS: usize = 12;
/// So many slabs that hold the largest chunk.
const LARGES: usize = 5;
/// Small files are handed over when they are so many bytes together, or so many files.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_FILES: usize = 256;

/// What all threads of a backup count.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) bytes_added: AtomicU64,
    pub(crate) bytes_stored: AtomicU64,
    pub(crate) data_blobs: AtomicU64,
    pub(crate) tree_blobs: AtomicU64,
}

impl Counts {
    pub(crate) fn add(&self, kind: BlobKind, length: usize, stored: &StoredBlob) {
        let Some(sealed) = stored.added else { return };
        self.bytes_added.fetch_add(length as u64, Ordering::Relaxed);
        self.bytes_stored.fetch_add(sealed, Ordering::Relaxed);
        let blobs = match kind {
            BlobKind::Data => &self.data_blobs,
            BlobKind::Tree => &self.tree_blobs,
        };
        blobs.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why a file was not read.
pub(crate) enum ReadError {
    /// The source's own error: only this file is lost.
    Source(io::Error),
    /// The backup cannot go on.
    Backup(Error),
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Backup(error)
    }
}

/// The chunks of a file that are being stored.
#[derive(Default)]
pub(crate) struct Content(Vec<(Arc<Outcome>, usize)>);

impl Content {
    /// Waits until all are handed to a pack: their ids.
    pub(crate) fn wait(&self) -> Result<Vec<Id>> {
        self.0.iter().map(|(outcome, index)| outcome.wait(*index)).collect()
    }
}

/// What became of chunks that were handed over together.
#[derive(Default)]
struct Outcome {
    result: Mutex<Option<Result<Vec<Id>>>>,
    ready: Condvar,
}

impl Outcome {
    fn lock(&self) -> MutexGuard<'_, Option<Result<Vec<Id>>>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, index: usize) -> Result<Id> {
        let mut result = self.lock();
        loop {
            match &*result {
                Some(Ok(ids)) => {
                    let id = ids.get(index).copied();
                    return id.ok_or_else(|| Error::Internal("a chunk without an id".to_owned()));
                }
                Some(Err(error)) => return Err(error.clone()),
                None => {}
            }
            result = self.ready.wait(result).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn set(&self, result: Result<Vec<Id>>) {
        self.lock().get_or_insert(result);
        self.ready.notify_all();
    }
}

/// Chunks on their way to a worker. Whatever happens to it, whoever waits is told.
struct Work {
    slab: Arc<Slab>,
    chunks: Vec<Range<usize>>,
    outcome: Arc<Outcome>,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.outcome.set(Err(Error::Internal("a thread of the backup died".to_owned())));
    }
}

/// Small files that are not handed over yet.
struct Batch {
    slab: Slab,
    chunks: Vec<Range<usize>>,
    outcome: Arc<Outcome>,
}

/// Reads files and has their chunks stored.
pub(crate) struct Pipeline {
    inner: Arc<Inner>,
    cancel: CancelFlag,
    batch: Option<Batch>,
    smalls: Arc<SlabPool>,
    larges: Arc<SlabPool>,
    queue: Option<SyncSender<Work>>,
    threads: Vec<JoinHandle<()>>,
    /// Raised when the backup is given up, so that nothing more is stored in vain.
    given_up: Arc<AtomicBool>,
}

impl Pipeline {
    pub(crate) fn start(
        inner: &Arc<Inner>,
        blobs: &Arc<BlobWriter>,
        counts: &Arc<Counts>,
        cancel: &CancelFlag,
    ) -> Result<Self> {
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let (queue, work) = sync_channel(2 * workers);
        let work = Arc::new(Mutex::new(work));
        let mut pipeline = Self {
            inner: Arc::clone(inner),
            cancel: cancel.clone(),
            batch: None,
            smalls: SlabPool::new(SMALL, SMALLS),
            larges: SlabPool::new(chunker::MAX, LARGES),
            queue: Some(queue),
            threads: Vec::new(),
            given_up: Arc::default(),
        };
        for _ in 0..workers {
            let worker = Worker {
                blobs: Arc::clone(blobs),
                tools: blobs.worker()?,
                counts: Arc::clone(counts),
                cancel: cancel.clone(),
                given_up: Arc::clone(&pipeline.given_up),
            };
            let work = Arc::clone(&work);
            let thread = std::thread::Builder::new()
                .name("repository-store".to_owned())
                .spawn(move || worker.run(&work))
                .map_err(|error| Error::Internal(format!("no thread to store chunks: {error}")))?;
            pipeline.threads.push(thread);
        }
        Ok(pipeline)
    }

    /// Reads a file to its end: how many bytes, and what they will be stored as. `expected` is a
    /// guess at its size.
    pub(crate) fn read(
        &mut self,
        reader: &mut dyn Read,
        expected: u64,
    ) -> std::result::Result<(u64, Content), ReadError> {
        if expected <= chunker::MIN as u64 { self.small(reader) } else { self.large(&[], reader) }
    }

    /// A file that is one chunk, as far as can be told.
    fn small(&mut self, reader: &mut dyn Read) -> std::result::Result<(u64, Content), ReadError> {
        let mut batch = match self.batch.take() {
            Some(batch) => batch,
            None => Batch {
                slab: self.smalls.take(&|| self.cancel.check())?,
                chunks: Vec::new(),
                outcome: Arc::default(),
            },
        };
        // There is room for the largest chunk of this kind and a byte more: see `hand_over`.
        let start = batch.slab.filled().len();
        let mut ended = false;
        while !ended && batch.slab.filled().len() - start <= chunker::MIN {
            match read_some(reader, batch.slab.room()) {
                Ok(0) => ended = true,
                Ok(count) => batch.slab.advance(count),
                Err(error) => {
                    batch.slab.truncate(start);
                    self.batch = Some(batch);
                    return Err(ReadError::Source(error));
                }
            }
        }
        let end = batch.slab.filled().len();
        if !ended {
            // It has grown since it was looked at.
            let head = batch.slab.filled()[start..].to_vec();
            batch.slab.truncate(start);
            self.batch = Some(batch);
            return self.large(&head, reader);
        }
        if start == end {
            self.batch = Some(batch);
            return Ok((0, Content::default()));
        }
        let content = Content(vec![(Arc::clone(&batch.outcome), batch.chunks.len())]);
        batch.chunks.push(start..end);
        let full = end >= BATCH_BYTES || batch.chunks.len() >= BATCH_FILES;
        self.batch = Some(batch);
        if full {
            self.flush()?;
        }
        Ok(((end - start) as u64, content))
    }

    /// A file that is cut where its content says so. `head` was read from it already.
    fn large(
        &mut self,
        head: &[u8],
        reader: &mut dyn Read,
    ) -> std::result::Result<(u64, Content), ReadError> {
        let mut reader = head.chain(reader);
        let (mut size, mut content) = (0, Content::default());
        let mut ended = false;
        let mut rest: Option<(Arc<Slab>, usize)> = None;
        loop {
            let mut slab = self.larges.take(&|| self.cancel.check())?;
            if let Some((last, from)) = rest.take() {
                // Shorter than the largest chunk, and so than a slab.
                let rest = &last.filled()[from..];
                slab.room()[..rest.len()].copy_from_slice(rest);
                slab.advance(rest.len());
            }
            while !ended && !slab.room().is_empty() {
                self.cancel.check()?;
                match read_some(&mut reader, slab.room()) {
                    Ok(0) => ended = true,
                    Ok(count) => slab.advance(count),
                    Err(error) => return Err(ReadError::Source(error)),
                }
            }
            let slab = Arc::new(slab);
            let mut start = 0;
            while start < slab.filled().len() {
                let left = &slab.filled()[start..];
                let length = self.inner.chunker.cut(left);
                if length == left.len() && !ended && length < chunker::MAX {
                    break;
                }
                let outcome = Arc::new(Outcome::default());
                content.0.push((Arc::clone(&outcome), 0));
                let chunk = start..start + length;
                self.hand_over(Work { slab: Arc::clone(&slab), chunks: vec![chunk], outcome })?;
                size += length as u64;
                start += length;
            }
            if ended {
                return Ok((size, content));
            }
            rest = Some((slab, start));
        }
    }

    /// Hands over what was read so far.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let Some(Batch { slab, chunks, outcome }) = self.batch.take() else { return Ok(()) };
        if chunks.is_empty() {
            return Ok(());
        }
        self.hand_over(Work { slab: Arc::new(slab), chunks, outcome })
    }

    fn hand_over(&self, work: Work) -> Result<()> {
        let died = || Error::Internal("the threads that store chunks died".to_owned());
        self.queue.as_ref().ok_or_else(died)?.send(work).map_err(|_| died())
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
        // Whoever builds trees may be waiting for files that nobody will hand over any more.
        if let Some(batch) = self.batch.take() {
            batch.outcome.set(Err(Error::Cancelled));
        }
        self.queue = None;
        for thread in self.threads.drain(..) {
            // Its panic, if any, was told to whoever waited for its chunks.
            let _ = thread.join();
        }
    }
}

fn read_some(reader: &mut dyn Read, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(room) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

struct Worker {
    blobs: Arc<BlobWriter>,
    tools: BlobWorker,
    counts: Arc<Counts>,
    cancel: CancelFlag,
    given_up: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self, queue: &Mutex<Receiver<Work>>) {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(work) = next else { return };
            let result = self.store(&work);
            work.outcome.set(result);
        }
    }

    fn store(&mut self, work: &Work) -> Result<Vec<Id>> {
        let mut ids = Vec::with_capacity(work.chunks.len());
        for chunk in &work.chunks {
            self.cancel.check()?;
            if self.given_up.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let plain = &work.slab.filled()[chunk.clone()];
            let stored = self.blobs.store(&mut self.tools, BlobKind::Data, plain)?;
            self.counts.add(BlobKind::Data, plain.len(), &stored);
            ids.push(stored.id);
        }
        Ok(ids)
    }
}

//! Storing blobs from many threads: hash, look up, compress, seal, pack.
//!
//! One [`BlobWriter`] belongs to a job. Its threads share it, each with a [`BlobWorker`] of its own
//! for what is costly to make. Full packs go to a few uploading threads, so that who hashes and
//! compresses does not wait for a disk; they hold back when the storage is slower.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::cancel::CancelFlag;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::lock::JobGuard;
use crate::pack::BlobKind;
use crate::packer::{self, Added, Dependencies, OpenPack, Packer, SealedBlob};
use crate::repository::Inner;

/// Stores the blobs of one job. Dropping it waits for uploads that have begun.
pub(crate) struct BlobWriter {
    inner: Arc<Inner>,
    dependencies: Mutex<Dependencies>,
    cancel: CancelFlag,
    uploads: Uploads,
}

/// What one thread needs to store blobs.
pub(crate) struct BlobWorker {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    compressed: Vec<u8>,
    sealed: Vec<u8>,
}

/// A blob that is on its way into the repository, or was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredBlob {
    pub(crate) id: Id,
    /// Bytes that it takes in its pack; `None` when it was known.
    pub(crate) added: Option<u64>,
}

impl BlobWriter {
    pub(crate) fn new(inner: &Arc<Inner>, cancel: CancelFlag) -> Result<Self> {
        Ok(Self {
            inner: Arc::clone(inner),
            dependencies: Mutex::default(),
            cancel,
            uploads: Uploads::start(inner)?,
        })
    }

    /// What a thread needs to call [`store`](Self::store).
    pub(crate) fn worker(&self) -> Result<BlobWorker> {
        let level = self.inner.options.compression_level;
        let compressor = self
            .inner
            .config
            .compresses()
            .then(|| zstd::bulk::Compressor::new(level))
            .transpose()
            .map_err(|error| Error::Internal(error.to_string()))?;
        Ok(BlobWorker { compressor, compressed: Vec::new(), sealed: Vec::new() })
    }

    /// Stores a blob unless it is known. It is durable after [`commit`](Self::commit).
    pub(crate) fn store(
        &self,
        worker: &mut BlobWorker,
        kind: BlobKind,
        plain: &[u8],
    ) -> Result<StoredBlob> {
        let id = Id::hash(plain);
        if self.knows(kind, &id) {
            return Ok(StoredBlob { id, added: None });
        }
        let length = u32::try_from(plain.len())
            .map_err(|_| Error::Limit("a blob of more than 4 GiB".to_owned()))?;
        let compressed = worker.compress(plain)?;
        worker.sealed.clear();
        let body = if compressed { worker.compressed.as_slice() } else { plain };
        self.inner.key.seal_into(body, &mut worker.sealed);
        let uncompressed = compressed.then_some(length);
        self.add(&SealedBlob { kind, id, sealed: &worker.sealed, uncompressed })
    }

    /// Adds a blob that is sealed already, unless it is known.
    pub(crate) fn add(&self, blob: &SealedBlob<'_>) -> Result<StoredBlob> {
        let added = Some(blob.sealed.len() as u64);
        match Packer::add(&self.inner, blob, &self.dependencies)? {
            Added::Known => return Ok(StoredBlob { id: blob.id, added: None }),
            Added::New => {}
            Added::Full(pack) => self.uploads.store(&self.inner, pack)?,
        }
        Ok(StoredBlob { id: blob.id, added })
    }

    /// Whether the blob is stored or being stored; the job depends on that then.
    pub(crate) fn knows(&self, kind: BlobKind, id: &Id) -> bool {
        Packer::knows(&self.inner, kind, id, &self.dependencies)
    }

    /// Waits until every blob of this job is durable and listed in an index file.
    pub(crate) fn commit(&self, job: &JobGuard) -> Result<()> {
        self.commit_unless(&self.cancel, job)
    }

    /// The same for a job that was cancelled and ends with this.
    pub(crate) fn keep(&self, job: &JobGuard) -> Result<()> {
        self.commit_unless(&CancelFlag::new(), job)
    }

    fn commit_unless(&self, cancelled: &CancelFlag, job: &JobGuard) -> Result<()> {
        // Packs are given up when the lock is lost, and that is what has to be told then.
        Packer::commit(&self.inner, &self.dependencies, cancelled)
            .or_else(|error| job.check().and(Err(error)))?;
        job.settled()?;
        self.inner.flush_index()
    }
}

impl BlobWorker {
    /// Compresses `plain` if that makes it smaller.
    fn compress(&mut self, plain: &[u8]) -> Result<bool> {
        let Some(compressor) = &mut self.compressor else { return Ok(false) };
        if looks_random(plain) {
            return Ok(false);
        }
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        let length = compressor
            .compress_to_buffer(plain, &mut self.compressed)
            .map_err(|error| Error::Internal(error.to_string()))?;
        Ok(length < plain.len())
    }
}

/// A guess that compressing is in vain, from the frequency of bytes in samples: what is encrypted
/// or compressed uses all of them alike. It may be wrong about data that repeats itself at a
/// distance, and costs some space then.
fn looks_random(plain: &[u8]) -> bool {
    const SAMPLES: usize = 16;
    const SAMPLE: usize = 1024;
    /// In bits a byte; so few samples of true noise show about 7.989.
    const NOISE: f64 = 7.95;
    if plain.len() < 4 * SAMPLES * SAMPLE {
        return false;
    }
    let mut counts = [0u32; 256];
    let stride = plain.len() / SAMPLES;
    for sample in plain.chunks(stride) {
        for byte in &sample[..SAMPLE.min(sample.len())] {
            counts[usize::from(*byte)] += 1;
        }
    }
    let total: u32 = counts.iter().sum();
    let entropy: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / f64::from(total);
            -share * share.log2()
        })
        .sum();
    entropy > NOISE
}

/// The threads that store full packs.
struct Uploads {
    packs: Option<SyncSender<OpenPack>>,
    threads: Vec<JoinHandle<()>>,
}

impl Uploads {
    fn start(inner: &Arc<Inner>) -> Result<Self> {
        // Without room in between: a pack that waits costs as much memory as one under way.
        let (packs, receiver) = sync_channel(0);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut uploads = Self { packs: Some(packs), threads: Vec::new() };
        for _ in 0..inner.options.uploads.max(1) {
            let (inner, receiver) = (Arc::clone(inner), Arc::clone(&receiver));
            let thread = std::thread::Builder::new()
                .name("repository-upload".to_owned())
                .spawn(move || upload(&inner, &receiver))
                .map_err(|error| Error::Internal(format!("no thread to store packs: {error}")))?;
            uploads.threads.push(thread);
        }
        Ok(uploads)
    }

    fn store(&self, inner: &Inner, pack: OpenPack) -> Result<()> {
        let pack = match &self.packs {
            Some(packs) => match packs.send(pack) {
                Ok(()) => return Ok(()),
                Err(unsent) => unsent.0,
            },
            None => pack,
        };
        // All its threads have died. The caller can do it too.
        packer::store(inner, pack)
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        self.packs = None;
        for thread in self.threads.drain(..) {
            // Its panic, if any, has failed the ticket of its pack.
            let _ = thread.join();
        }
    }
}

fn upload(inner: &Inner, packs: &Mutex<Receiver<OpenPack>>) {
    loop {
        let next = packs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(pack) = next else { return };
        // Whoever depends on the pack learns of its failure by its ticket.
        if let Err(error) = packer::store(inner, pack) {
            tracing::debug!(%error, "a pack was not stored");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_told_from_what_can_be_compressed() {
        let mut state = 1u64;
        let noise: Vec<u8> = (0..200_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        assert!(looks_random(&noise));
        assert!(!looks_random(&noise[..1000]), "too little to tell");
        let hex: Vec<u8> =
            noise.iter().map(|byte| b"0123456789abcdef"[usize::from(byte >> 4)]).collect();
        assert!(!looks_random(&hex));
        assert!(!looks_random(&vec![0; 200_000]));
    }
}

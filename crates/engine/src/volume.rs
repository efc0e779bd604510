//! A driver's volumes over those of a repository.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use provault_driver::{
    BlockRange, BlockSink, BlockSource, CancelFlag, DriverError, SourceError, StoredVolume,
};
use provault_repository as repository;

use crate::source::refused;

/// What a driver captured, for the repository to read.
pub(crate) struct Captured<'a> {
    blocks: &'a dyn BlockSource,
    progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
    read: AtomicU64,
}

impl<'a> Captured<'a> {
    pub(crate) fn new(
        blocks: &'a dyn BlockSource,
        progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
    ) -> Self {
        Self { blocks, progress, read: AtomicU64::new(0) }
    }
}

impl repository::VolumeSource for Captured<'_> {
    fn size(&self) -> u64 {
        self.blocks.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.blocks.read_at(offset, buffer)?;
        let length = buffer.len() as u64;
        let read = self.read.fetch_add(length, Ordering::Relaxed) + length;
        (self.progress)(read, Some(self.blocks.size()));
        Ok(())
    }

    fn extents(&self, range: repository::ByteRange) -> io::Result<Vec<repository::Extent>> {
        let extents = self.blocks.extents(driven(range))?;
        let stored = extents
            .into_iter()
            .map(|extent| repository::Extent { range: stored(extent.range), zero: extent.zero });
        Ok(stored.collect())
    }
}

pub(crate) fn stored(range: BlockRange) -> repository::ByteRange {
    repository::ByteRange { offset: range.offset, length: range.length }
}

fn driven(range: repository::ByteRange) -> BlockRange {
    BlockRange { offset: range.offset, length: range.length }
}

/// A volume in a snapshot.
pub(crate) struct Stored {
    pub(crate) volume: repository::VolumeReader,
    pub(crate) cancel: CancelFlag,
}

impl StoredVolume for Stored {
    fn size(&self) -> u64 {
        self.volume.size()
    }

    fn block_size(&self) -> u32 {
        self.volume.block_size()
    }

    fn block_hash(&self, number: u64) -> Result<[u8; 32], SourceError> {
        self.volume.block_hash(number).map(|id| id.0).map_err(refused)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        self.volume.read_at(offset, buffer).map_err(refused)
    }

    fn copy_to(
        &self,
        out: &dyn BlockSink,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), DriverError> {
        let target = Forward { out, failed: Mutex::new(None) };
        let report = |done: u64, _: u64| progress(done);
        let options = repository::VolumeRestoreOptions {
            threads: None,
            cancel: repository::CancelFlag::from_shared(self.cancel.as_shared()),
            progress: Some(&report),
        };
        let restored = self.volume.restore(&target, &options);
        let refusal = target.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = refusal {
            return Err(error);
        }
        let outcome = restored.map_err(refused)?;
        match outcome.damaged.first() {
            None if outcome.is_whole() => Ok(()),
            first => {
                let place = first.map_or_else(String::new, |damaged| {
                    format!(", the first at {}: {}", damaged.range.offset, damaged.error)
                });
                Err(SourceError::Damaged {
                    path: "the volume".to_owned(),
                    message: format!("{} bytes are lost{place}", outcome.bytes_damaged),
                }
                .into())
            }
        }
    }
}

/// Hands bytes on and keeps the first refusal with its full meaning.
struct Forward<'a> {
    out: &'a dyn BlockSink,
    failed: Mutex<Option<DriverError>>,
}

impl Forward<'_> {
    fn keep(&self, result: Result<(), DriverError>) -> io::Result<()> {
        result.map_err(|error| {
            let text = error.to_string();
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(error);
            io::Error::other(text)
        })
    }
}

impl repository::VolumeTarget for Forward<'_> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.keep(self.out.write_at(offset, bytes))
    }

    fn write_zeros(&self, range: repository::ByteRange) -> io::Result<()> {
        self.keep(self.out.write_zeros(driven(range)))
    }

    /// The driver makes durable what it wrote, when it puts it in place.
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

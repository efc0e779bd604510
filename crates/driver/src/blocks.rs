//! Volumes: bytes by their place, rather than files by their names.
//!
//! A capture of a volume hands a [`BlockSource`] to its sink, which reads from it at random and by
//! several threads; a restore takes a [`StoredVolume`] from its source and has it written into a
//! [`BlockSink`].

use std::io;

use crate::{DriverError, SourceError};

/// A range of a volume's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRange {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

impl BlockRange {
    /// The range from `start` up to `end`, which is not in it; empty when `end` is before `start`.
    pub fn between(start: u64, end: u64) -> Self {
        Self { offset: start, length: end.saturating_sub(start) }
    }

    /// The first byte behind it.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }
}

/// A part of a volume that is all data or all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockExtent {
    /// Where it is.
    pub range: BlockRange,
    /// Known to be zeros, so that it need not be read.
    pub zero: bool,
}

/// A volume that stands still while it is read. Several threads read at a time.
pub trait BlockSource: Sync {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on, all of which lie within the volume.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// What is known of `range`, in ascending order and without gaps. Whatever is not known to be
    /// zeros is data.
    fn extents(&self, range: BlockRange) -> io::Result<Vec<BlockExtent>>;
}

/// What became of a volume handed to a sink.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeOutcome {
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Whether only the changed ranges that the driver named were read.
    pub incremental: bool,
    /// Why the named ranges could not be used and everything was read, for people.
    pub full_because: Option<String>,
}

/// Which job a capture belongs to, and what its increments may count from. A driver ties what it
/// keeps for the next increment to the id of the job, and so to the one recovery point it makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage {
    /// The job of this capture. Nothing where there is none that could be counted from.
    pub job_id: Option<String>,
    /// The job that made the recovery point which this capture is an increment upon.
    pub base: Option<String>,
    /// Jobs whose recovery points a later increment may count from, `base` among them: the newest
    /// of each vault. What is kept for any other is of no more use.
    pub kept: Vec<String>,
}

/// A stored volume. Several threads read at a time.
pub trait StoredVolume: Sync {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Bytes in a block; the last one may be shorter.
    fn block_size(&self) -> u32;

    /// SHA-256 of the block of this number, counted from the start.
    fn block_hash(&self, number: u64) -> Result<[u8; 32], SourceError>;

    /// Fills `buffer` with the bytes from `offset` on, every one verified against its hash.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError>;

    /// Writes all of it, verified, in whatever order is quick. Damage anywhere is an error.
    /// `progress` hears the bytes done, zeros included.
    fn copy_to(
        &self,
        out: &dyn BlockSink,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), DriverError>;
}

/// Where the bytes of a restored volume go. Several threads write at a time, each range once.
pub trait BlockSink: Sync {
    /// Writes `bytes` from `offset` on.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DriverError>;

    /// Makes `range` read as zeros, without using space if that is possible.
    fn write_zeros(&self, range: BlockRange) -> Result<(), DriverError>;
}

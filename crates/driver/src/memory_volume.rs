//! Volumes of the sink and source in memory.
//!
//! Reading is as strict as that of files: what a driver calls zeros is read and has to be zeros, and
//! what it leaves out of a list of changes has to be as it was in the parent.

use std::io;

use sha2::{Digest, Sha256};

use crate::{
    BlockRange, BlockSink, BlockSource, DriverError, SourceError, StoredVolume, VolumeOutcome,
};

/// Bytes in a block of a volume in memory.
const BLOCK: usize = 64 << 10;

/// A volume in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryVolume {
    pub(crate) content: Vec<u8>,
    hashes: Vec<[u8; 32]>,
}

/// Why a volume was not taken.
pub(crate) enum Unfit {
    /// It could not be read.
    Read(io::Error),
    /// The driver broke a promise.
    Promise(String),
}

fn hash(block: &[u8]) -> [u8; 32] {
    Sha256::digest(block).into()
}

impl MemoryVolume {
    /// Reads a volume; with `changed` only that, and the rest is `base`'s.
    pub(crate) fn read(
        blocks: &dyn BlockSource,
        base: Option<&Self>,
        changed: Option<&[BlockRange]>,
    ) -> Result<(Self, VolumeOutcome), Unfit> {
        let size = blocks.size();
        let length = usize::try_from(size)
            .map_err(|_| Unfit::Promise(format!("{size} bytes do not fit into memory")))?;
        let mut whole = vec![0; length];
        blocks.read_at(0, &mut whole).map_err(Unfit::Read)?;
        check_extents(blocks, &whole)?;
        let mut outcome = VolumeOutcome { bytes_read: size, ..VolumeOutcome::default() };
        if let (Some(base), Some(changed)) = (base, changed) {
            outcome.bytes_read = changed.iter().map(|range| range.length).sum();
            outcome.incremental = true;
            for (at, (old, new)) in base.content.iter().zip(&whole).enumerate() {
                let at = at as u64;
                let named = |range: &BlockRange| range.offset <= at && at < range.end();
                if old != new && !changed.iter().any(named) {
                    return Err(Unfit::Promise(format!("the change at {at} was not named")));
                }
            }
        }
        let hashes = whole.chunks(BLOCK).map(hash).collect();
        Ok((Self { content: whole, hashes }, outcome))
    }

    /// How many blocks both have at the same place.
    pub(crate) fn shared_with(&self, other: &Self) -> u64 {
        self.hashes.iter().zip(&other.hashes).filter(|(a, b)| a == b).count() as u64
    }

    /// Flips a bit behind the back of the hashes.
    pub(crate) fn damage(&mut self) {
        if let Some(byte) = self.content.first_mut() {
            *byte ^= 1;
        }
    }

    /// The blocks that a range touches, verified.
    fn verify(&self, offset: usize, length: usize) -> Result<(), SourceError> {
        let blocks = self.content.chunks(BLOCK).zip(&self.hashes).enumerate();
        let touched = blocks.skip(offset / BLOCK).take_while(|(n, _)| n * BLOCK < offset + length);
        for (number, (block, expected)) in touched {
            if hash(block) != *expected {
                return Err(SourceError::Damaged {
                    path: "the volume".to_owned(),
                    message: format!("block {number} does not match its hash"),
                });
            }
        }
        Ok(())
    }
}

fn check_extents(blocks: &dyn BlockSource, whole: &[u8]) -> Result<(), Unfit> {
    let all = BlockRange { offset: 0, length: whole.len() as u64 };
    let mut at = 0;
    for extent in blocks.extents(all).map_err(Unfit::Read)? {
        if extent.range.offset != at || extent.range.length == 0 {
            return Err(Unfit::Promise(format!("the map of holes has a gap at {at}")));
        }
        at = extent.range.end();
        let bounds = usize::try_from(extent.range.offset).ok().zip(usize::try_from(at).ok());
        let part = bounds.and_then(|(from, to)| whole.get(from..to));
        match part {
            None => return Err(Unfit::Promise("the map of holes passes the end".to_owned())),
            Some(part) if extent.zero && part.iter().any(|byte| *byte != 0) => {
                return Err(Unfit::Promise("the map of holes hides data".to_owned()));
            }
            Some(_) => {}
        }
    }
    if at == all.length {
        return Ok(());
    }
    Err(Unfit::Promise("the map of holes ends early".to_owned()))
}

impl StoredVolume for &MemoryVolume {
    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    fn block_size(&self) -> u32 {
        64 << 10
    }

    fn block_hash(&self, number: u64) -> Result<[u8; 32], SourceError> {
        let found = usize::try_from(number).ok().and_then(|number| self.hashes.get(number));
        found.copied().ok_or_else(|| SourceError::Unavailable(format!("no block {number}")))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = self.content.get(from..).and_then(|rest| rest.get(..buffer.len()));
        let part = part.ok_or_else(|| SourceError::Unavailable("behind the end".to_owned()))?;
        self.verify(from, buffer.len())?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    /// The last block first.
    fn copy_to(
        &self,
        out: &dyn BlockSink,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), DriverError> {
        let mut done = 0;
        for (number, block) in self.content.chunks(BLOCK).enumerate().rev() {
            let offset = (number * BLOCK) as u64;
            self.verify(number * BLOCK, block.len())?;
            if block.iter().all(|byte| *byte == 0) {
                out.write_zeros(BlockRange { offset, length: block.len() as u64 })?;
            } else {
                out.write_at(offset, block)?;
            }
            done += block.len() as u64;
            progress(done);
        }
        Ok(())
    }
}

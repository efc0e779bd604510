//! A read-only NBD server over stored volumes.
//!
//! The protocol is the public one of the Network Block Device project (`doc/proto.md`): the fixed
//! newstyle handshake, simple and structured replies, and the context `base:allocation`, by which
//! clients learn where the holes are. What would change an export is refused.
//!
//! There is neither encryption nor a password in it, so it listens on a Unix socket that only its
//! owner may open, or on loopback. A client can hold up itself only: its requests are limited in
//! length, its handshake and what it does not fetch in time, and clients in number.

mod handshake;
mod server;
mod transmission;
mod wire;

use std::io;

use super::range::ByteRange;
use super::reader::{VolumeExtent, VolumeReader};

pub use server::{NbdAddress, NbdLimits, NbdServer};

/// Something that can be exported.
pub trait NbdExport: Send + Sync {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// The size of requests that suits it best: a power of two.
    fn preferred_block_size(&self) -> u32;

    /// Fills `buffer` with the bytes from `offset` on, all of which are within the export.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// The first parts of `range`, at most `most`, that are all data or all zeros, without gaps.
    fn extents(&self, range: ByteRange, most: usize) -> io::Result<Vec<VolumeExtent>>;
}

impl NbdExport for VolumeReader {
    fn size(&self) -> u64 {
        Self::size(self)
    }

    fn preferred_block_size(&self) -> u32 {
        self.block_size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        Self::read_at(self, offset, buffer).map_err(io::Error::other)
    }

    fn extents(&self, range: ByteRange, most: usize) -> io::Result<Vec<VolumeExtent>> {
        self.extents_up_to(range, most).map_err(io::Error::other)
    }
}

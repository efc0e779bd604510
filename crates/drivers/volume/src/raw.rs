//! Raw images and block devices, opened for reading.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Whence, lseek};
use provault_driver::{BlockExtent, BlockRange, BlockSource};

/// An image or a device. Holes are found by `SEEK_DATA` and `SEEK_HOLE`, where the file system knows
/// them.
#[derive(Debug)]
pub(crate) struct RawBlocks {
    pub file: File,
    size: u64,
}

impl RawBlocks {
    /// Opens it for reading. With `alone`, a device that anything in the kernel uses (a mount, swap,
    /// another device upon it) is refused with `EBUSY`, and nothing can begin to while it is open.
    pub fn open(path: &Path, alone: bool) -> io::Result<Self> {
        let exclusive = if alone { OFlag::O_EXCL } else { OFlag::empty() };
        let open = |flags: OFlag| {
            OpenOptions::new().read(true).custom_flags((exclusive | flags).bits()).open(path)
        };
        // Only the owner may read without a trace.
        let file = open(OFlag::O_NOATIME).or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => open(OFlag::empty()),
            _ => Err(error),
        })?;
        Self::of(file)
    }

    /// Reads from an open file of the size that it has now.
    pub fn of(mut file: File) -> io::Result<Self> {
        // The size of a block device stands in no metadata, but its end can be found.
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, size })
    }

    /// The first place from `offset` on that `whence` looks for, or the end.
    fn seek(&self, offset: u64, whence: Whence) -> io::Result<u64> {
        let at = i64::try_from(offset).map_err(io::Error::other)?;
        // The file's position moves, which no positioned read minds.
        match lseek(self.file.as_fd(), at, whence) {
            Ok(found) => Ok(u64::try_from(found).unwrap_or(self.size).min(self.size)),
            Err(Errno::ENXIO) => Ok(self.size),
            Err(error) => Err(error.into()),
        }
    }
}

impl BlockSource for RawBlocks {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn extents(&self, range: BlockRange) -> io::Result<Vec<BlockExtent>> {
        let mut extents = Vec::new();
        let mut at = range.offset;
        while at < range.end() {
            let data = match self.seek(at, Whence::SeekData) {
                Ok(data) => data.clamp(at, range.end()),
                // This kind of file knows no holes.
                Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => at,
                Err(error) => return Err(error),
            };
            if data > at {
                extents.push(BlockExtent { range: BlockRange::between(at, data), zero: true });
                at = data;
                continue;
            }
            let hole = match self.seek(at, Whence::SeekHole) {
                Ok(hole) if hole > at => hole.min(range.end()),
                _ => range.end(),
            };
            extents.push(BlockExtent { range: BlockRange::between(at, hole), zero: false });
            at = hole;
        }
        Ok(extents)
    }
}

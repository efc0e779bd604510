//! Where the bytes of a volume come from.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::range::ByteRange;

/// A part of a volume that is all data or all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it is.
    pub range: ByteRange,
    /// Known to be zeros, so that it need not be read: a hole, or an extent that was never written.
    pub zero: bool,
}

/// A volume that stands still while it is read. Several threads read at a time.
pub trait VolumeSource: Sync {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on, all of which lie within the volume.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// What is known of `range`, in ascending order and without gaps. Whatever is not known to be
    /// zeros is data. By default all of it is.
    fn extents(&self, range: ByteRange) -> io::Result<Vec<Extent>> {
        Ok(vec![Extent { range, zero: false }])
    }
}

/// A raw image or a block device. Holes are found by `SEEK_DATA` and `SEEK_HOLE`, where the file
/// system knows them.
#[derive(Debug)]
pub struct RawImage {
    file: File,
    size: u64,
}

impl RawImage {
    /// Opens an image or a device for reading.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::from_file(OpenOptions::new().read(true).open(path)?)
    }

    /// Reads from an open file. Its size is the one it has now.
    pub fn from_file(mut file: File) -> io::Result<Self> {
        // The size of a block device stands in no metadata, but its end can be found.
        let size = file.seek(SeekFrom::End(0))?;
        Ok(Self { file, size })
    }

    /// The first place from `offset` on that `whence` looks for, or the end of the file.
    fn seek(&self, offset: u64, whence: Whence) -> io::Result<u64> {
        let at = i64::try_from(offset).map_err(io::Error::other)?;
        // The file's position moves, which no positioned read minds.
        match lseek(self.file.as_fd(), at, whence) {
            Ok(found) => Ok(u64::try_from(found).unwrap_or(self.size).min(self.size)),
            // No data up to the end.
            Err(Errno::ENXIO) => Ok(self.size),
            Err(error) => Err(error.into()),
        }
    }
}

impl VolumeSource for RawImage {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn extents(&self, range: ByteRange) -> io::Result<Vec<Extent>> {
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
                extents.push(Extent { range: ByteRange::between(at, data), zero: true });
                at = data;
                continue;
            }
            let hole = match self.seek(at, Whence::SeekHole) {
                Ok(hole) if hole > at => hole.min(range.end()),
                _ => range.end(),
            };
            extents.push(Extent { range: ByteRange::between(at, hole), zero: false });
            at = hole;
        }
        Ok(extents)
    }
}

//! Where the bytes of a restored volume go.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};

use super::range::ByteRange;

/// A place that takes a volume. Several threads write at a time, each range once.
pub trait VolumeTarget: Sync {
    /// Writes `bytes` from `offset` on.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes `range` read as zeros, without using space if that is possible.
    fn write_zeros(&self, range: ByteRange) -> io::Result<()>;

    /// Returns once everything is durable.
    fn sync(&self) -> io::Result<()>;
}

/// A raw image or a block device.
#[derive(Debug)]
pub struct RawTarget {
    file: File,
    /// The directory of a new image, all of which reads as zeros already.
    fresh_in: Option<File>,
}

impl RawTarget {
    /// Makes a new image of `size` bytes, all of it a hole. A file that exists is refused.
    pub fn create(path: &Path, size: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        file.set_len(size)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = File::open(parent.unwrap_or(Path::new(".")))?;
        Ok(Self { file, fresh_in: Some(directory) })
    }

    /// Opens an image or a block device that exists and whose content is to be replaced. It must
    /// have room for `size` bytes; what it has behind them stays as it is. A device that is in use,
    /// by a mount for example, is refused by the system.
    pub fn overwrite(path: &Path, size: u64) -> io::Result<Self> {
        let kind = std::fs::metadata(path)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            let reason = "it is neither a regular file nor a block device";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        if kind.is_block_device() {
            // For devices this means: nobody else uses it.
            options.custom_flags(OFlag::O_EXCL.bits());
        }
        let mut file = options.open(path)?;
        let room = file.seek(SeekFrom::End(0))?;
        if room < size {
            let reason = format!("it has {room} bytes, the volume has {size}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        Ok(Self { file, fresh_in: None })
    }
}

impl VolumeTarget for RawTarget {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn write_zeros(&self, range: ByteRange) -> io::Result<()> {
        if self.fresh_in.is_some() {
            return Ok(());
        }
        let number = |value: u64| i64::try_from(value).map_err(io::Error::other);
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        // On a block device this discards or writes zeros, whichever makes it read as zeros.
        match fallocate(&self.file, flags, number(range.offset)?, number(range.length)?) {
            Ok(()) => return Ok(()),
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {}
            Err(error) => return Err(error.into()),
        }
        let zeros = vec![0; 1 << 20];
        let mut at = range.offset;
        while at < range.end() {
            let length = usize::try_from(range.end() - at).unwrap_or(usize::MAX).min(zeros.len());
            self.file.write_all_at(&zeros[..length], at)?;
            at += length as u64;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()?;
        // Without its name a new file is not there after a crash.
        self.fresh_in.as_ref().map_or(Ok(()), File::sync_all)
    }
}

//! How what is on disk differs from what a recovery point holds.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::stat::SFlag;
use nix::unistd::geteuid;
use provault_driver::entry::printable;
use provault_driver::{CancelFlag, DriverError, Entry, Metadata, NodeKind};
use sha2::{Digest, Sha256};

use crate::at::{self, Stat};
use crate::capture::{check, io_error};

/// Names of attributes that a user sets, and that a restore therefore also takes away.
const SETTABLE: [&[u8]; 3] = [b"user.", b"system.posix_acl_access", b"system.posix_acl_default"];

/// Whether an attribute is one that users set.
pub(crate) fn is_settable(name: &[u8]) -> bool {
    SETTABLE.iter().any(|prefix| name.starts_with(prefix))
}

/// What is not looked at because it could not be set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leniency {
    /// Owners, and the bits that give their rights away.
    pub owners: bool,
    pub xattrs: bool,
}

impl Default for Leniency {
    /// Who is not root gives files to nobody.
    fn default() -> Self {
        Self { owners: !geteuid().is_root(), xattrs: false }
    }
}

/// Compares content; holds the buffer.
#[derive(Debug)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
    /// Bytes read so far.
    pub bytes: u64,
}

impl Reader {
    pub fn new() -> Self {
        Self { buffer: vec![0; 256 << 10], bytes: 0 }
    }

    /// Where the content of an open file first differs from the entry's: between these two bytes.
    pub fn difference(
        &mut self,
        file: &File,
        entry: &Entry,
        shown: &Path,
        cancel: &CancelFlag,
    ) -> Result<Option<(u64, u64)>, DriverError> {
        let mut from = 0_u64;
        for chunk in &entry.chunks {
            check(cancel)?;
            let to = from.saturating_add(chunk.length);
            let (mut at, mut hash) = (from, Sha256::new());
            while at < to {
                let most = usize::try_from(to - at).unwrap_or(usize::MAX).min(self.buffer.len());
                let read = file
                    .read_at(&mut self.buffer[..most], at)
                    .map_err(io_error("reading", &shown.join(printable(&entry.path))))?;
                if read == 0 {
                    return Ok(Some((from, to)));
                }
                hash.update(&self.buffer[..read]);
                at += read as u64;
                self.bytes += read as u64;
            }
            if <[u8; 32]>::from(hash.finalize()) != chunk.sha256 {
                return Ok(Some((from, to)));
            }
            from = to;
        }
        Ok(None)
    }
}

/// Lets what is read next from a file come from its disk. A hint: where it is not taken, the memory
/// is compared.
pub(crate) fn forget_cached(file: &File) {
    if let Err(error) = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED) {
        tracing::trace!(%error, "the cache of a file could not be dropped");
    }
}

/// Whether what is on disk is of the entry's kind; a device also has to be the same one.
pub(crate) fn same_kind(entry: &Entry, stat: &Stat) -> bool {
    let (kind, rdev) = match &entry.kind {
        NodeKind::Directory => (SFlag::S_IFDIR, None),
        NodeKind::File => (SFlag::S_IFREG, None),
        NodeKind::Symlink { .. } => (SFlag::S_IFLNK, None),
        NodeKind::BlockDevice { rdev } => (SFlag::S_IFBLK, Some(*rdev)),
        NodeKind::CharDevice { rdev } => (SFlag::S_IFCHR, Some(*rdev)),
        NodeKind::Fifo => (SFlag::S_IFIFO, None),
        NodeKind::Socket => (SFlag::S_IFSOCK, None),
    };
    stat.kind == kind && rdev.is_none_or(|rdev| rdev == stat.rdev)
}

/// How owner, mode, time or attributes of `name` in `dir` differ from what was recorded; `dir`
/// itself where the name is empty.
pub(crate) fn metadata_difference(
    dir: &File,
    name: &[u8],
    stat: &Stat,
    wanted: &Metadata,
    lenient: Leniency,
) -> Option<String> {
    let owned = (stat.uid, stat.gid) == (wanted.uid, wanted.gid);
    if !owned && !lenient.owners {
        return Some(format!(
            "belongs to {}:{} instead of {}:{}",
            stat.uid, stat.gid, wanted.uid, wanted.gid
        ));
    }
    let mask = if owned { 0o7777 } else { 0o1777 };
    let (found, mode) = (stat.mode & mask, wanted.mode & mask);
    if stat.kind != SFlag::S_IFLNK && found != mode {
        return Some(format!("has mode {found:04o} instead of {mode:04o}"));
    }
    if !same_time(stat.mtime, wanted.mtime) {
        return Some(format!("was changed at {} instead of {}", stat.mtime, wanted.mtime));
    }
    if lenient.xattrs {
        return None;
    }
    let (found, trouble) =
        if name.is_empty() { at::xattrs_of(dir) } else { at::xattrs_at(dir, name) };
    if let Some(error) = trouble {
        return Some(format!("has extended attributes that cannot be read ({error})"));
    }
    let missing = wanted.xattrs.iter().find(|pair| !found.contains(pair));
    if let Some((name, _)) = missing {
        return Some(format!("lacks the attribute {}", printable(name)));
    }
    let extra = found.iter().find(|(name, _)| {
        is_settable(name) && wanted.xattrs.iter().all(|(known, _)| known != name)
    });
    extra.map(|(name, _)| format!("has an attribute {} too many", printable(name)))
}

/// Equal, or as near as a file system that counts no nanoseconds can keep it.
fn same_time(found: Timestamp, wanted: Timestamp) -> bool {
    if found == wanted {
        return true;
    }
    let off = wanted.duration_since(found);
    let coarse = found.subsec_nanosecond() % 100 == 0;
    coarse && off > SignedDuration::ZERO && off < SignedDuration::from_secs(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_coarse_file_systems_are_the_same_and_others_are_not() {
        let at = |nanos| Timestamp::new(1_000_000_001, nanos).unwrap();
        let even = Timestamp::new(1_000_000_000, 0).unwrap();
        assert!(same_time(at(5), at(5)));
        assert!(same_time(at(0), at(999_999_999)), "whole seconds");
        assert!(same_time(even, at(999_999_999)), "every other second");
        assert!(!same_time(at(123), at(124)), "a nanosecond off, and nanoseconds are kept");
        assert!(!same_time(at(500), at(0)), "later than it was");
    }
}

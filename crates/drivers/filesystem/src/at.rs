//! Looking at files relative to an open directory.
//!
//! Nothing here takes a path of more than one name, and nothing follows a symbolic link: whoever
//! swaps a directory for a link while the tree is walked cannot lead the walk elsewhere.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{Whence, lseek};
use xattr::FileExt as _;

/// Permission to create what only we may look into.
pub(crate) const PRIVATE_DIR: Mode = Mode::S_IRWXU;

/// What `stat` tells, in types that are the same on every machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub kind: SFlag,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub blocks: u64,
    pub mtime: Timestamp,
    pub atime: Timestamp,
    pub ctime: Timestamp,
    pub inode: u64,
    pub device: u64,
    pub links: u64,
    pub rdev: u64,
}

impl Stat {
    /// Of `name` in `dir`; of a link itself, not of its target.
    pub fn at(dir: &File, name: &[u8]) -> nix::Result<Self> {
        fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(|s| Self::from(&s))
    }

    /// Of an open file.
    pub fn of(file: &File) -> nix::Result<Self> {
        fstat(file).map(|s| Self::from(&s))
    }

    /// Whether both are one inode.
    pub fn is_same_inode(&self, other: &Stat) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether both are one inode with one content, as far as `stat` can tell.
    pub fn is_same_content(&self, other: &Stat) -> bool {
        self.is_same_inode(other)
            && (self.size, self.mtime, self.ctime) == (other.size, other.mtime, other.ctime)
    }

    pub fn is_dir(&self) -> bool {
        self.kind == SFlag::S_IFDIR
    }
}

impl From<&FileStat> for Stat {
    // The fields' types differ between architectures; on this one some conversions do nothing.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast, clippy::cast_sign_loss)]
    fn from(stat: &FileStat) -> Self {
        Self {
            kind: SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size as u64,
            blocks: stat.st_blocks as u64,
            mtime: timestamp(stat.st_mtime.into(), stat.st_mtime_nsec.into()),
            atime: timestamp(stat.st_atime.into(), stat.st_atime_nsec.into()),
            ctime: timestamp(stat.st_ctime.into(), stat.st_ctime_nsec.into()),
            inode: stat.st_ino as u64,
            device: stat.st_dev as u64,
            links: stat.st_nlink as u64,
            rdev: stat.st_rdev as u64,
        }
    }
}

/// Times before the year -9999 or after 9999 become the nearest that can be told.
fn timestamp(seconds: i64, nanoseconds: i64) -> Timestamp {
    let nanoseconds = i32::try_from(nanoseconds).unwrap_or(0);
    Timestamp::new(seconds, nanoseconds).unwrap_or(if seconds < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// Opens a directory without changing its access time, where that is permitted.
pub(crate) fn open_dir(dir: &File, name: &[u8]) -> nix::Result<File> {
    open_quietly(dir, name, OFlag::O_DIRECTORY)
}

/// Opens a file to read it. Never waits, even when it has become a pipe meanwhile.
pub(crate) fn open_file(dir: &File, name: &[u8]) -> nix::Result<File> {
    open_quietly(dir, name, OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
}

fn open_quietly(dir: &File, name: &[u8], flags: OFlag) -> nix::Result<File> {
    let flags = flags | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // Only the owner of a file and root may ask for O_NOATIME.
    openat(dir, name, flags | OFlag::O_NOATIME, Mode::empty())
        .or_else(|error| match error {
            Errno::EPERM => openat(dir, name, flags, Mode::empty()),
            _ => Err(error),
        })
        .map(File::from)
}

/// Names in a directory, sorted by their bytes, without `.` and `..`.
pub(crate) fn names(dir: &File) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    let mut listing = nix::dir::Dir::from_fd(dir.try_clone()?.into())?;
    for entry in listing.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The bytes of a link.
pub(crate) fn link_target(dir: &File, name: &[u8]) -> nix::Result<Vec<u8>> {
    readlinkat(dir, name).map(OsStringExt::into_vec)
}

/// Names and values of extended attributes, sorted, and what could not be read.
pub(crate) type Xattrs = (Vec<(Vec<u8>, Vec<u8>)>, Option<io::Error>);

/// Extended attributes of `name` in `dir`, of a link itself.
pub(crate) fn xattrs_at(dir: &File, name: &[u8]) -> Xattrs {
    let path = proc_path(dir, name);
    collect(xattr::list(&path), |attribute| xattr::get(&path, attribute))
}

/// Extended attributes of an open directory.
pub(crate) fn xattrs_of(file: &File) -> Xattrs {
    collect(file.list_xattr(), |attribute| file.get_xattr(attribute))
}

fn collect(
    list: io::Result<xattr::XAttrs>,
    get: impl Fn(&std::ffi::OsStr) -> io::Result<Option<Vec<u8>>>,
) -> Xattrs {
    let mut found = Vec::new();
    let mut trouble = None;
    match list {
        Ok(list) => {
            for attribute in list {
                match get(&attribute) {
                    Ok(Some(value)) => found.push((attribute.as_bytes().to_vec(), value)),
                    // It was removed since it was listed.
                    Ok(None) => {}
                    Err(error) => trouble = Some(error),
                }
            }
        }
        Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {}
        Err(error) => trouble = Some(error),
    }
    found.sort_unstable();
    (found, trouble)
}

/// A path to `name` through the open directory: the system calls for extended attributes know
/// no directory descriptors. The first part is resolved by the kernel to `dir` itself.
pub(crate) fn proc_path(dir: &File, name: &[u8]) -> PathBuf {
    let mut path = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    path.push(std::ffi::OsStr::from_bytes(name));
    path
}

/// More extents than this are not recorded.
const MAX_EXTENTS: usize = 1 << 16;

/// Where the data of a file is.
pub(crate) enum Extents {
    /// Everywhere, or the file system cannot tell.
    Everywhere,
    /// Here; the rest is hole.
    At(Vec<(u64, u64)>),
    /// In too many places to record.
    TooMany,
}

/// Finds the holes of an open file of `size` bytes; its offset is moved.
pub(crate) fn extents(file: &File, size: u64) -> nix::Result<Extents> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    while at < size {
        let data = match seek(file, at, Whence::SeekData) {
            Ok(data) => data,
            Err(Errno::ENXIO) => break,
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(Extents::Everywhere),
            Err(error) => return Err(error),
        };
        if data >= size {
            break;
        }
        let hole = seek(file, data, Whence::SeekHole)?.min(size);
        if hole <= data {
            break;
        }
        if found.len() == MAX_EXTENTS {
            return Ok(Extents::TooMany);
        }
        found.push((data, hole - data));
        at = hole;
    }
    Ok(if found == [(0, size)] || size == 0 { Extents::Everywhere } else { Extents::At(found) })
}

fn seek(file: &File, at: u64, whence: Whence) -> nix::Result<u64> {
    let at = i64::try_from(at).map_err(|_| Errno::EOVERFLOW)?;
    lseek(file, at, whence).and_then(|to| u64::try_from(to).map_err(|_| Errno::EOVERFLOW))
}

//! What is mounted in a tree, bind mounts of directories and of single files included.
//!
//! A bind mount of the same file system has the device of what is around it, so devices do not tell.
//! The kernel's list of mounts does, and an opening that is asked not to cross one.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use provault_driver::DriverError;

use crate::at::{self, Stat};
use crate::capture::io_error;

/// The mounts that this thread sees, and the same where the kernel is too old to know threads.
const TABLES: [&str; 2] = ["/proc/thread-self/mountinfo", "/proc/self/mountinfo"];

/// Where something is mounted below a directory.
#[derive(Debug, Default)]
pub(crate) struct Mounts(BTreeSet<Vec<u8>>);

impl Mounts {
    /// Below the directory that is open.
    pub fn below(root: &File) -> io::Result<Self> {
        let real = link_of(root)?;
        let real = real.as_os_str().as_bytes();
        let real = if real == b"/" { b"" } else { real };
        let mut found = BTreeSet::new();
        each(|mounted| {
            let below = mounted.strip_prefix(real).and_then(|rest| rest.strip_prefix(b"/"));
            found.extend(below.filter(|path| !path.is_empty()).map(<[u8]>::to_vec));
        })?;
        Ok(Self(found))
    }

    /// Whether something is mounted exactly at `path`, relative to the directory.
    pub fn is_at(&self, path: &[u8]) -> bool {
        self.0.contains(path)
    }

    /// One of the places.
    pub fn first(&self) -> Option<&[u8]> {
        self.0.first().map(Vec::as_slice)
    }
}

/// Whether something is mounted exactly here.
pub(crate) fn is_mount_point(root: &File, path: &Path) -> Result<bool, DriverError> {
    let name = real_path(root, path)?;
    let mut found = false;
    each(|mounted| found |= mounted == name.as_os_str().as_bytes())
        .map_err(io_error("reading the mounts of", path))?;
    Ok(found)
}

/// The kernel's own name for the open directory, free of symbolic links.
pub(crate) fn real_path(root: &File, path: &Path) -> Result<PathBuf, DriverError> {
    link_of(root).map_err(io_error("looking up", path))
}

fn link_of(root: &File) -> io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd()))
}

/// Hands over where each mount is.
fn each(mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let [this, all] = TABLES;
    let table = std::fs::read(this).or_else(|_| std::fs::read(all))?;
    for line in table.split(|b| *b == b'\n') {
        if let Some(mounted) = line.split(|b| *b == b' ').nth(4) {
            take(&unescape(mounted));
        }
    }
    Ok(())
}

/// Opens a directory unless something is mounted on it, which is `EXDEV`.
pub(crate) fn open_same_mount(dir: &File, name: &[u8]) -> nix::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_XDEV);
    match openat2(dir, name, how) {
        Ok(opened) => Ok(File::from(opened)),
        // A kernel before 5.6, or a container that lets nobody ask. Then the device and the list tell.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let opened = at::open_dir(dir, name)?;
            let mounted = Mounts::below(dir)
                .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?
                .is_at(name);
            if mounted || Stat::of(&opened)?.device != Stat::of(dir)?.device {
                return Err(Errno::EXDEV);
            }
            Ok(opened)
        }
        Err(error) => Err(error),
    }
}

/// `mountinfo` writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| byte == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(value) = octal {
            plain.push(value);
            rest = &after[3..];
        } else {
            plain.push(byte);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_table_fields_are_unescaped() {
        assert_eq!(unescape(br"/a\040b\134c\011"), b"/a b\\c\t");
        assert_eq!(unescape(br"/plain\"), br"/plain\");
        assert_eq!(unescape(br"\999"), br"\999");
    }

    #[test]
    fn what_is_mounted_below_the_root_is_found_and_not_entered() {
        let root = File::open("/").unwrap();
        let mounts = Mounts::below(&root).unwrap();
        assert!(mounts.is_at(b"proc") && !mounts.is_at(b""));
        assert_eq!(open_same_mount(&root, b"proc").unwrap_err(), Errno::EXDEV);
        assert!(is_mount_point(&File::open("/proc").unwrap(), Path::new("/proc")).unwrap());
    }
}

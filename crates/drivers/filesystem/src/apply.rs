//! Putting owners, modes, attributes and times onto restored files.

use std::fs::File;
use std::io;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, futimens, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat};
use provault_driver::Metadata;
use provault_driver::entry::printable;
use xattr::FileExt as _;

use crate::at::{self, Stat};
use crate::compare::{Leniency, is_settable};

/// Set-user-id and set-group-id.
const PRIVILEGE_BITS: u32 = 0o6000;

/// So many paths are named in a note.
const NAMED: usize = 20;

/// The first of them, for a note.
pub(crate) fn named(paths: &[Vec<u8>]) -> String {
    let shown: Vec<_> = paths.iter().take(NAMED).map(|path| printable(path)).collect();
    let more = if paths.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// What could not be put back as it was. None of it ends a restore: the content is there.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    owners: u64,
    stripped: u64,
    xattrs: u64,
    xattr_reason: Option<String>,
    /// Nodes that only root may make.
    pub nodes: Vec<Vec<u8>>,
    /// Names of one inode whose content differed.
    pub parted: u64,
}

impl Tally {
    /// As sentences.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.owners > 0 {
            notes.push(format!(
                "Ownership could not be restored for {} files; run the server as root for that.",
                self.owners
            ));
        }
        if self.stripped > 0 {
            notes.push(format!(
                "Set-user-id or set-group-id was left off {} of them, which would have given the rights of another owner.",
                self.stripped
            ));
        }
        if let Some(reason) = &self.xattr_reason {
            notes.push(format!(
                "{} extended attributes could not be restored, the first because: {reason}.",
                self.xattrs
            ));
        }
        if !self.nodes.is_empty() {
            notes.push(format!(
                "{} device nodes could not be made, which only root may do: {}.",
                self.nodes.len(),
                named(&self.nodes)
            ));
        }
        if self.parted > 0 {
            notes.push(format!(
                "{} hard links became files of their own: they had changed between the readings of their names.",
                self.parted
            ));
        }
        notes
    }

    /// What cannot be as it was, because it could not be set.
    pub fn leniency(&self) -> Leniency {
        let usual = Leniency::default();
        Leniency { owners: usual.owners || self.owners > 0, xattrs: self.xattrs > 0 }
    }

    fn xattr(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.xattrs += 1;
            self.xattr_reason.get_or_insert_with(|| error.to_string());
        }
    }

    /// The mode to set after the owner was set or not. A program with set-user-id that could not
    /// be given to its owner would run with the rights of whoever restored it.
    fn mode(&mut self, metadata: &Metadata, owned: bool) -> Mode {
        let mut mode = metadata.mode & 0o7777;
        if !owned {
            self.owners += 1;
            if mode & PRIVILEGE_BITS != 0 {
                self.stripped += 1;
                mode &= !PRIVILEGE_BITS;
            }
        }
        Mode::from_bits_truncate(mode)
    }
}

/// Sets everything on an open file or directory. The order matters: a change of owner clears
/// set-user-id bits and capabilities, attributes need the write permission that the mode may take
/// away, and everything changes times.
pub(crate) fn to_open(file: &File, metadata: &Metadata, tally: &mut Tally) -> nix::Result<()> {
    // Most files are root's own and were made by root. To ask costs less than to change the inode once
    // more.
    let made = Stat::of(file)?;
    let owned = (made.uid, made.gid) == (metadata.uid, metadata.gid)
        || owner(metadata, |uid, gid| fchown(file, uid, gid))?;
    for (name, value) in &metadata.xattrs {
        tally.xattr(file.set_xattr(os(name), value));
    }
    fchmod(file, tally.mode(metadata, owned))?;
    let (atime, mtime) = times(metadata);
    futimens(file, &atime, &mtime)
}

/// The same on what existed before: attributes that users set and that were not recorded go first.
pub(crate) fn to_existing(file: &File, metadata: &Metadata, tally: &mut Tally) -> nix::Result<()> {
    let (found, _) = at::xattrs_of(file);
    for (name, _) in found {
        if is_settable(&name) && metadata.xattrs.iter().all(|(known, _)| *known != name) {
            tally.xattr(file.remove_xattr(os(&name)));
        }
    }
    to_open(file, metadata, tally)
}

/// Sets everything on what cannot be opened without consequences: links, pipes, devices.
pub(crate) fn to_named(
    dir: &File,
    name: &[u8],
    metadata: &Metadata,
    is_link: bool,
    tally: &mut Tally,
) -> nix::Result<()> {
    let owned =
        owner(metadata, |uid, gid| fchownat(dir, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW))?;
    let path = at::proc_path(dir, name);
    for (attribute, value) in &metadata.xattrs {
        tally.xattr(xattr::set(&path, os(attribute), value));
    }
    let mode = tally.mode(metadata, owned);
    if !is_link {
        // A link has no mode of its own; what is not a link cannot be followed.
        fchmodat(dir, name, mode, FchmodatFlags::FollowSymlink)?;
    }
    let (atime, mtime) = times(metadata);
    utimensat(dir, name, &atime, &mtime, UtimensatFlags::NoFollowSymlink)
}

/// Sets owner and group, or at least the group; false when the owner could not be set.
fn owner(
    metadata: &Metadata,
    chown: impl Fn(Option<Uid>, Option<Gid>) -> nix::Result<()>,
) -> nix::Result<bool> {
    let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
    // EINVAL: an id that does not exist in our user namespace.
    let refused = |e: Errno| matches!(e, Errno::EPERM | Errno::EINVAL | Errno::EOPNOTSUPP);
    match chown(Some(uid), Some(gid)) {
        Ok(()) => Ok(true),
        Err(error) if refused(error) => match chown(None, Some(gid)) {
            Ok(()) => Ok(false),
            Err(error) if refused(error) => Ok(false),
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn os(name: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name)
}

/// Sets the times that a directory had.
pub(crate) fn times_of(dir: &File, stat: &Stat) -> nix::Result<()> {
    futimens(dir, &time(stat.atime), &time(stat.mtime))
}

fn times(metadata: &Metadata) -> (TimeSpec, TimeSpec) {
    (time(metadata.atime), time(metadata.mtime))
}

/// `Timestamp` counts a fraction before 1970 backwards, the system always forwards.
fn time(at: Timestamp) -> TimeSpec {
    let (mut seconds, mut nanoseconds) = (at.as_second(), i64::from(at.subsec_nanosecond()));
    if nanoseconds < 0 {
        seconds -= 1;
        nanoseconds += 1_000_000_000;
    }
    TimeSpec::new(seconds, nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_keep_their_fraction() {
        let at = Timestamp::new(-10, 250_000_000).unwrap();
        let spec = time(at);
        assert_eq!((spec.tv_sec(), spec.tv_nsec()), (-10, 250_000_000));
    }
}

//! Giving a file its name, whatever the file system can do for it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::deadline::is_awaited;

/// What hung until its caller gave up must not appear later: others have since acted on its not
/// being there. To be asked at the last moment before each call that makes it appear.
fn check_awaited() -> io::Result<()> {
    if is_awaited() { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
}

/// Gives a file its name, unless that name is taken.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    check_awaited()?;
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => return Ok(()),
        // Not every file system can; nearly all of those (NFS, say) have hard links.
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP) => {}
        Err(error) => return Err(error.into()),
    }
    check_awaited()?;
    match std::fs::hard_link(from, to) {
        // A network file system may lose the answer, ask again, and find what it did itself.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let (from, to) = (from.metadata()?, to.metadata()?);
            if (from.dev(), from.ino()) == (to.dev(), to.ino()) { Ok(()) } else { Err(error) }
        }
        // Without links, nothing is left but to look first. Names are hashes of what is in the
        // file, so two writers at a time do no harm.
        Err(error)
            if is_unsupported(&error) || error.raw_os_error() == Some(Errno::EPERM as i32) =>
        {
            if to.try_exists()? {
                return Err(io::Error::from_raw_os_error(Errno::EEXIST as i32));
            }
            check_awaited()?;
            std::fs::rename(from, to)
        }
        other => other,
    }
}

/// Whether the file system does not know such a thing.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EINVAL | Errno::ENOSYS | Errno::ENOTSUP | Errno::EBADF)
    )
}

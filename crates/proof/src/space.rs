//! How much room there is for a copy.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;

use crate::ProofError;

/// A file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What a process without privileges may still write.
    pub free: u64,
    /// How large it is.
    pub total: u64,
}

/// [`Room::free`] where `directory` is.
pub fn free_bytes(directory: &Path) -> Result<u64, ProofError> {
    room(directory).map(|room| room.free)
}

/// The file system where `directory` is or, as long as it is not there, where the nearest directory
/// above it is: `f_bavail` and `f_blocks` times `f_frsize` of POSIX `statvfs`. Quotas are not looked
/// at, and the answer is as old as the call: others write, too.
pub fn room(directory: &Path) -> Result<Room, ProofError> {
    let mut at = directory;
    loop {
        // Above a relative name is the working directory.
        let path = if at.as_os_str().is_empty() { Path::new(".") } else { at };
        match statvfs(path) {
            Ok(found) => {
                let unit = found.fragment_size();
                return Ok(Room {
                    free: found.blocks_available().saturating_mul(unit),
                    total: found.blocks().saturating_mul(unit),
                });
            }
            Err(Errno::EINTR) => {}
            Err(errno) => match at.parent() {
                Some(parent) if errno == Errno::ENOENT => at = parent,
                _ => return Err(ProofError::io("asking for the room in", directory)(errno.into())),
            },
        }
    }
}

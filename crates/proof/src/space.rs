//! How much room there is for a copy.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::statvfs;

use crate::ProofError;

/// Bytes that a process without privileges may still write to the file system where `directory`
/// is or, as long as it is not there, where the nearest directory above it is: `f_bavail` times
/// `f_frsize` of POSIX `statvfs`. Quotas are not looked at, and the answer is as old as the call:
/// others write, too.
pub fn free_bytes(directory: &Path) -> Result<u64, ProofError> {
    let mut at = directory;
    loop {
        // Above a relative name is the working directory.
        let path = if at.as_os_str().is_empty() { Path::new(".") } else { at };
        match statvfs(path) {
            Ok(found) => return Ok(found.blocks_available().saturating_mul(found.fragment_size())),
            Err(Errno::EINTR) => {}
            Err(errno) => match at.parent() {
                Some(parent) if errno == Errno::ENOENT => at = parent,
                _ => return Err(ProofError::io("asking for the room in", directory)(errno.into())),
            },
        }
    }
}

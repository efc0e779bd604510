//! Removing locks by hand.

use crate::error::Result;
use crate::id::Id;
use crate::lock_file::LockFile;
use crate::repository::{FileKind, Repository};

/// A lock that lies in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockInfo {
    /// Its id.
    pub id: Id,
    /// Who holds it, since when, for people.
    pub holder: String,
    /// Whether it excludes all others.
    pub exclusive: bool,
    /// Whether anybody may remove it: its program is gone, or it is older than 30 minutes.
    pub stale: bool,
}

impl Repository {
    /// All locks. One that cannot be read is told as stale, for it holds up everybody and nobody
    /// holds it.
    pub fn locks(&self) -> Result<Vec<LockInfo>> {
        let mut locks = Vec::new();
        for (id, _) in self.inner.list(FileKind::Lock)? {
            let info = match LockFile::load(&self.inner, &id) {
                Ok(lock) => LockInfo {
                    id,
                    holder: lock.holder(),
                    exclusive: lock.exclusive,
                    stale: lock.is_stale(&self.inner.options.hostname),
                },
                Err(crate::Error::Storage(error)) if error.is_not_found() => continue,
                Err(error) if error.is_damage() => {
                    let holder = format!("unreadable: {error}");
                    LockInfo { id, holder, exclusive: false, stale: true }
                }
                Err(error) => return Err(error),
            };
            locks.push(info);
        }
        Ok(locks)
    }

    /// Removes the stale locks, or all of them; tells which. To remove a lock that is not stale is
    /// safe only when its program is known to be gone: it may be on another machine.
    pub fn unlock(&self, all: bool) -> Result<Vec<LockInfo>> {
        let mut removed = Vec::new();
        for lock in self.locks()?.into_iter().filter(|lock| all || lock.stale) {
            match self.inner.storage.delete(&FileKind::Lock.name(&lock.id)) {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => removed.push(lock),
            }
        }
        Ok(removed)
    }
}

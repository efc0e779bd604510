//! The locks that lie in a repository.

use std::collections::HashSet;
use std::sync::PoisonError;

use crate::error::{Error, Result};
use crate::id::Id;
use crate::lock::is_left_by_us;
use crate::lock_file::LockFile;
use crate::repository::{FileKind, Inner};

/// The locks that are not stale, and whether each that was listed could be read; stale ones are
/// removed on the way.
pub(crate) fn locks(inner: &Inner) -> Result<(Vec<(Id, LockFile)>, bool)> {
    let listed = inner.list(FileKind::Lock)?;
    let mut cache = inner.lock.read.lock().unwrap_or_else(PoisonError::into_inner);
    let ids: HashSet<Id> = listed.iter().map(|(id, _)| *id).collect();
    cache.retain(|id, _| ids.contains(id));
    let (mut found, mut all_read) = (Vec::new(), true);
    for (id, size) in listed {
        // Some storages leave an empty file where an upload broke off.
        if size == 0 {
            continue;
        }
        if !cache.contains_key(&id)
            && let Some(lock) = read(inner, &id)?
        {
            cache.insert(id, lock);
        }
        let Some(lock) = cache.get(&id).cloned() else {
            all_read = false;
            continue;
        };
        if lock.is_stale(&inner.options.hostname) || is_left_by_us(&lock) {
            tracing::info!(lock = %id, host = lock.hostname, pid = lock.pid, "removing a stale lock");
            match inner.storage.delete(&FileKind::Lock.name(&id)) {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        } else {
            found.push((id, lock));
        }
    }
    Ok((found, all_read))
}

/// A lock file, or nothing if it is gone.
fn read(inner: &Inner, id: &Id) -> Result<Option<LockFile>> {
    let once = || match LockFile::load(inner, id) {
        Ok(lock) => Ok(Some(lock)),
        Err(Error::Storage(error)) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    };
    match once() {
        // A second look, should it be in the making.
        Err(Error::DamagedFile { .. }) => once(),
        other => other,
    }
}

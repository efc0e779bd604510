//! The reserve: a file that is deleted when the disk is full, so that it can be pruned.
//!
//! Deleting is what makes room, but not what comes first: a lock, a mark and the index without the
//! packs that are to go must be written before. `provault/reserve` keeps the room for that. It is
//! made with the repository (1 MiB) and by every prune, which knows how much the next one may need:
//! twice the largest index file, and at most 16 MiB. Its content is random, for some file systems
//! store zeros in no space at all. Whoever only reads needs a lock too, and borrows the room for it.

use bytes::Bytes;

use crate::error::Result;
use crate::repository::Inner;
use crate::storage::Storage;

/// The file's name below the repository's root.
pub(crate) const NAME: &str = "provault/reserve";
/// Its size in a new repository, and at least, in bytes.
pub(crate) const SMALLEST: u64 = 1 << 20;
/// Its size at most, in bytes.
pub(crate) const LARGEST: u64 = 16 << 20;

/// Makes the reserve, or makes it larger. A storage that is too full for it is no failure: then
/// the old one stays if it can. Returns its size.
pub(crate) fn ensure(storage: &dyn Storage, size: u64) -> u64 {
    let size = size.clamp(SMALLEST, LARGEST);
    let there = match storage.size(NAME) {
        Ok(there) => there,
        Err(error) if error.is_not_found() => 0,
        Err(error) => {
            tracing::warn!(%error, "cannot look at the reserve for a full disk");
            return 0;
        }
    };
    if there >= size {
        return there;
    }
    for size in [size, there.max(SMALLEST)] {
        if there > 0
            && let Err(error) = storage.delete(NAME)
            && !error.is_not_found()
        {
            tracing::warn!(%error, "cannot replace the reserve for a full disk");
            return there;
        }
        match storage.put(NAME, noise(size)) {
            Ok(()) => return size,
            Err(error) => tracing::warn!(%error, size, "cannot make the reserve for a full disk"),
        }
    }
    0
}

fn noise(size: u64) -> Bytes {
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    rand::fill(&mut bytes[..]);
    Bytes::from(bytes)
}

/// What the reserve lends to a job that reads: room for the lock files of many, in bytes.
const LENT: u64 = 64 << 10;

/// Makes the reserve a little smaller, so that there is room for a lock; returns whether there was
/// anything to lend. A restore is what the storage is there for, full or not; the next prune makes
/// the reserve whole again.
pub(crate) fn lend(inner: &Inner) -> Result<bool> {
    let storage = inner.storage.as_ref();
    let size = match storage.size(NAME) {
        Ok(size) => size,
        Err(error) if error.is_not_found() => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let left = size.saturating_sub(LENT);
    if !release(inner)? {
        return Ok(false);
    }
    if left > 0
        && let Err(error) = storage.put(NAME, noise(left))
    {
        tracing::warn!(%error, "the reserve for a full disk is gone; it is made again by a prune");
    }
    Ok(true)
}

/// Gives up the reserve; returns whether there was one.
pub(crate) fn release(inner: &Inner) -> Result<bool> {
    match inner.storage.delete(NAME) {
        Ok(()) => {
            tracing::warn!("the storage is full; the reserve was given up to make room");
            Ok(true)
        }
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

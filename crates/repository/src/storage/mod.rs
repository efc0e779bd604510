//! Where the files of a repository lie.
//!
//! [`Storage`] is small and blocking, so that tests can put faults beneath the repository.
//! [`LocalStorage`] is a directory, [`S3Storage`] a bucket; [`open_storage`] puts limits, deadlines
//! and retries around them.

mod deadline;
mod error;
mod http;
mod limits;
mod local;
mod location;
mod options;
mod rename;
mod retry;
mod s3;
mod walk;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

pub use error::{StorageError, StorageErrorKind};
pub use limits::{Bounds, LiveBounds};
pub use local::LocalStorage;
pub use location::{guard_storage, local_directory, open_directory, open_storage, real_directory};
pub use options::{S3Options, StorageOptions};
pub use s3::S3Storage;

/// The earlier name of [`LocalStorage`].
pub type ObjectStorage = LocalStorage;

/// An object found by [`Storage::list`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// Name below the repository's root, such as `index/1f…`.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
}

/// Storage of whole, never changing objects under relative names with `/` in them.
///
/// All methods block, and belong on plain threads and tokio's `spawn_blocking` threads. Within an
/// async task they work too, but hold up its thread.
pub trait Storage: Send + Sync + fmt::Debug {
    /// The whole object.
    fn get(&self, name: &str) -> Result<Bytes, StorageError>;
    /// `length` bytes from `offset`; fewer (or none) where the object ends earlier.
    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StorageError>;
    /// Creates the object, all or nothing, and returns once it is durable. Never overwrites: an
    /// existing name is [`StorageErrorKind::AlreadyExists`], and what is there is durable.
    fn put(&self, name: &str, content: Bytes) -> Result<(), StorageError>;
    /// Every object below the directory `prefix`, at any depth, in no particular order.
    fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, StorageError>;
    /// The object's size in bytes.
    fn size(&self, name: &str) -> Result<u64, StorageError>;
    /// Deletes the object, durably.
    fn delete(&self, name: &str) -> Result<(), StorageError>;

    /// Deletes many objects, durably once it returns; what is gone already is no error. Cheaper
    /// than one [`delete`](Self::delete) each. An error may leave some of them deleted.
    fn delete_many(&self, names: &[String]) -> Result<(), StorageError> {
        for name in names {
            match self.delete(name) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the object is there.
    fn exists(&self, name: &str) -> Result<bool, StorageError> {
        match self.size(name) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes what interrupted writes left behind, if older than `min_age`; returns how many.
    /// Such leftovers are never listed. A storage without leftovers has nothing to do.
    fn reap_leftovers(&self, min_age: Duration) -> Result<u64, StorageError> {
        let _ = min_age;
        Ok(0)
    }
}

/// Refuses what is no relative name, or leads out of the repository, or begins with a dot like the
/// files that are being written.
fn check_name(operation: &'static str, name: &str) -> Result<(), StorageError> {
    let good = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('\0');
    if name.split('/').all(good) {
        return Ok(());
    }
    Err(StorageError::other(operation, name, "it is not a name of an object"))
}

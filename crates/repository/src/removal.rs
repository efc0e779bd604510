//! Removing a whole repository from a storage that cannot rename it first.

use crate::error::Result;
use crate::pause::pause;
use crate::repository::Repository;
use crate::storage::Storage;

/// The directories of a repository, in the order in which they go.
const DIRECTORIES: [&str; 6] = ["snapshots", "index", "data", "locks", "provault", "keys"];

impl Repository {
    /// Removes a repository with all that is in it. The caller has made sure that nobody wants it.
    ///
    /// `config` goes first. From then on nothing opens the place as a repository, neither we nor
    /// restic, however little of it is gone: there is no moment at which a vault opens and lacks
    /// some of its data. What a crash leaves is removed by doing it again. Objects that are no
    /// part of a repository stay. Returns how many were deleted beside `config`.
    pub fn remove(storage: &dyn Storage) -> Result<u64> {
        match storage.delete("config") {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        pause("remove:begun");
        let mut deleted = 0;
        for directory in DIRECTORIES {
            let objects = storage.list(directory)?;
            let names: Vec<String> = objects.into_iter().map(|object| object.name).collect();
            storage.delete_many(&names)?;
            deleted += names.len() as u64;
        }
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;

    use super::*;
    use crate::error::Error;
    use crate::key::Password;
    use crate::repository::Options;
    use crate::storage::{StorageError, StorageErrorKind, StoredObject};

    type Stored<T> = std::result::Result<T, StorageError>;

    /// A bucket in memory, which breaks after so many deletions.
    #[derive(Debug, Default)]
    struct Bucket {
        objects: Mutex<BTreeMap<String, Bytes>>,
        deletions_left: Mutex<u32>,
    }

    fn missing(operation: &'static str, name: &str) -> StorageError {
        StorageError::new(operation, name, StorageErrorKind::NotFound, "it is not there")
    }

    impl Storage for Bucket {
        fn get(&self, name: &str) -> Stored<Bytes> {
            let found = self.objects.lock().unwrap().get(name).cloned();
            found.ok_or_else(|| missing("get", name))
        }
        fn get_range(&self, name: &str, offset: u64, length: u64) -> Stored<Bytes> {
            let whole = self.get(name)?;
            let at = |n: u64| usize::try_from(n).unwrap().min(whole.len());
            Ok(whole.slice(at(offset)..at(offset + length)))
        }
        fn put(&self, name: &str, content: Bytes) -> Stored<()> {
            self.objects.lock().unwrap().insert(name.to_owned(), content);
            Ok(())
        }
        fn list(&self, prefix: &str) -> Stored<Vec<StoredObject>> {
            let objects = self.objects.lock().unwrap();
            let below = objects.iter().filter(|(name, _)| name.starts_with(&format!("{prefix}/")));
            let object = |(name, content): (&String, &Bytes)| StoredObject {
                name: name.clone(),
                size: content.len() as u64,
            };
            Ok(below.map(object).collect())
        }
        fn size(&self, name: &str) -> Stored<u64> {
            Ok(self.get(name)?.len() as u64)
        }
        fn delete(&self, name: &str) -> Stored<()> {
            let mut left = self.deletions_left.lock().unwrap();
            *left = left.checked_sub(1).ok_or_else(|| {
                StorageError::new("delete", name, StorageErrorKind::Unavailable, "it broke")
            })?;
            let gone = self.objects.lock().unwrap().remove(name);
            gone.map(drop).ok_or_else(|| missing("delete", name))
        }
    }

    #[test]
    fn a_removal_that_breaks_off_leaves_nothing_that_opens() {
        for breaks_after in 0.. {
            let bucket = Arc::new(Bucket::default());
            let password = Password::generate();
            let storage = || Arc::<Bucket>::clone(&bucket);
            Repository::init(storage(), &password, Options::default()).unwrap();
            for name in ["data/00/aa", "index/bb", "snapshots/cc", "locks/dd", "letter"] {
                bucket.put(name, Bytes::from_static(b"x")).unwrap();
            }
            let before = bucket.objects.lock().unwrap().len();
            *bucket.deletions_left.lock().unwrap() = breaks_after;
            let removed = Repository::remove(bucket.as_ref());
            let opened = Repository::open(storage(), &password, Options::default());
            if breaks_after == 0 {
                assert!(removed.is_err() && opened.is_ok(), "nothing has happened yet");
                assert_eq!(bucket.objects.lock().unwrap().len(), before);
            } else {
                assert!(matches!(opened, Err(Error::NotARepository)), "{breaks_after}");
            }
            // Again, to its end; what is no part of a repository is not ours to delete.
            *bucket.deletions_left.lock().unwrap() = u32::MAX;
            Repository::remove(bucket.as_ref()).unwrap();
            let left: Vec<String> = bucket.objects.lock().unwrap().keys().cloned().collect();
            assert_eq!(left, ["letter"]);
            assert_eq!(Repository::remove(bucket.as_ref()).unwrap(), 0);
            if removed.is_ok() {
                assert_eq!(breaks_after as usize, before - 1);
                return;
            }
        }
    }
}

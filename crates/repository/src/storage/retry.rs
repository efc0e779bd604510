//! Trying again what failed for a reason that passes.
//!
//! An answer may be lost although the work was done. So what finds its work done on a second try
//! counts as done, after a look that it is ours.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Storage, StorageError, StorageErrorKind, StorageOptions, StoredObject};

/// A storage that is asked again.
#[derive(Debug)]
pub(super) struct Retries {
    inner: Arc<dyn Storage>,
    options: StorageOptions,
}

impl Retries {
    pub(super) fn new(inner: Arc<dyn Storage>, options: &StorageOptions) -> Self {
        Self { inner, options: options.clone() }
    }

    /// Does it until it works, fails for good, or the time is up. `attempt` is told whether it is
    /// a retry, before which the same may have been done without our knowing.
    fn run<T>(
        &self,
        mut attempt: impl FnMut(&dyn Storage, bool) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut since = None;
        let mut pause = self.options.first_pause;
        loop {
            let error = match attempt(self.inner.as_ref(), since.is_some()) {
                Err(error) if error.is_transient() => error,
                other => return other,
            };
            let shortened = pause.mul_f64(rand::random_range(0.5..=1.0));
            let elapsed = since.get_or_insert_with(Instant::now).elapsed();
            if elapsed + shortened > self.options.retry_for {
                return Err(error);
            }
            tracing::warn!(%error, pause = shortened.as_secs_f32(), "storage trouble, trying again");
            thread::sleep(shortened);
            pause = (pause * 2).min(self.options.longest_pause);
        }
    }
}

impl Storage for Retries {
    fn get(&self, name: &str) -> Result<Bytes, StorageError> {
        self.run(|inner, _| inner.get(name))
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        self.run(|inner, _| inner.get_range(name, offset, length))
    }

    fn put(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        let mut maybe_done = false;
        self.run(|inner, retry| {
            maybe_done |= retry;
            match inner.put(name, content.clone()) {
                // The try before may have done it. It is so if what is there is what we have.
                Err(error) if maybe_done && error.kind == StorageErrorKind::AlreadyExists => {
                    // Never more of it than can be ours.
                    if inner.get_range(name, 0, content.len() as u64 + 1)? == content {
                        Ok(())
                    } else {
                        Err(error)
                    }
                }
                other => other,
            }
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, StorageError> {
        self.run(|inner, _| inner.list(prefix))
    }

    fn size(&self, name: &str) -> Result<u64, StorageError> {
        self.run(|inner, _| inner.size(name))
    }

    fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.run(|inner, retry| match inner.delete(name) {
            Err(error) if retry && error.is_not_found() => Ok(()),
            other => other,
        })
    }

    fn delete_many(&self, names: &[String]) -> Result<(), StorageError> {
        self.run(|inner, _| inner.delete_many(names))
    }

    fn reap_leftovers(&self, min_age: Duration) -> Result<u64, StorageError> {
        self.run(|inner, _| inner.reap_leftovers(min_age))
    }
}

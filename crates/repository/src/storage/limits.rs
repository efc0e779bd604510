//! Bounds on bandwidth and on operations at a time, shared by all jobs on a storage.

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Storage, StorageError, StorageOptions, StoredObject};

/// A storage that is used within bounds.
#[derive(Debug)]
pub(super) struct Limits {
    inner: Arc<dyn Storage>,
    upload: Option<Meter>,
    download: Option<Meter>,
    places: Option<Places>,
}

impl Limits {
    /// The storage itself when the options set no bounds.
    pub(super) fn around(inner: Arc<dyn Storage>, options: &StorageOptions) -> Arc<dyn Storage> {
        let (upload, download) = (options.upload_limit, options.download_limit);
        if upload.is_none() && download.is_none() && options.concurrency.is_none() {
            return inner;
        }
        Arc::new(Self {
            inner,
            upload: upload.map(Meter::new),
            download: download.map(Meter::new),
            places: options.concurrency.map(Places::new),
        })
    }

    fn within<T>(
        &self,
        operation: impl FnOnce(&dyn Storage) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let _place = self.places.as_ref().map(Places::take);
        operation(self.inner.as_ref())
    }

    fn read(
        &self,
        operation: impl FnOnce(&dyn Storage) -> Result<Bytes, StorageError>,
    ) -> Result<Bytes, StorageError> {
        // How much comes is known afterwards: it is the next one that waits for it.
        if let Some(meter) = &self.download {
            meter.wait_for(0);
        }
        let read = self.within(operation)?;
        if let Some(meter) = &self.download {
            meter.charge(Instant::now(), read.len() as u64);
        }
        Ok(read)
    }
}

impl Storage for Limits {
    fn get(&self, name: &str) -> Result<Bytes, StorageError> {
        self.read(|inner| inner.get(name))
    }
    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        self.read(|inner| inner.get_range(name, offset, length))
    }
    fn put(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        if let Some(meter) = &self.upload {
            meter.wait_for(content.len() as u64);
        }
        self.within(|inner| inner.put(name, content))
    }
    fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, StorageError> {
        self.within(|inner| inner.list(prefix))
    }
    fn size(&self, name: &str) -> Result<u64, StorageError> {
        self.within(|inner| inner.size(name))
    }
    fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.within(|inner| inner.delete(name))
    }
    fn delete_many(&self, names: &[String]) -> Result<(), StorageError> {
        self.within(|inner| inner.delete_many(names))
    }
    fn reap_leftovers(&self, min_age: Duration) -> Result<u64, StorageError> {
        self.within(|inner| inner.reap_leftovers(min_age))
    }
}

/// A rate, kept on average: who moves bytes takes up the line for as long as they last at that
/// rate, and the next one waits.
#[derive(Debug)]
struct Meter {
    rate: NonZeroU64,
    free_at: Mutex<Option<Instant>>,
}

impl Meter {
    fn new(rate: NonZeroU64) -> Self {
        Self { rate, free_at: Mutex::default() }
    }

    /// Takes up the line from when it is free; returns how long to wait until then.
    fn charge(&self, now: Instant, bytes: u64) -> Duration {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let start = free_at.map_or(now, |free_at| free_at.max(now));
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.rate.get());
        let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        *free_at = start.checked_add(takes);
        start - now
    }

    fn wait_for(&self, bytes: u64) {
        thread::sleep(self.charge(Instant::now(), bytes));
    }
}

/// So many at a time.
#[derive(Debug)]
struct Places {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Places {
    fn new(places: NonZeroUsize) -> Self {
        Self { free: Mutex::new(places.get()), freed: Condvar::new() }
    }

    /// Waits for a place. Each is given back, because every operation ends by its deadline.
    fn take(&self) -> Place<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free =
            self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Place(self)
    }
}

struct Place<'a>(&'a Places);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_rate_holds_on_average() {
        let meter = Meter::new(NonZeroU64::new(1000).unwrap());
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let wait = |now, bytes| meter.charge(now, bytes).as_millis();
        assert_eq!(wait(at(0), 500), 0);
        assert_eq!(wait(at(0), 2000), 500);
        assert_eq!(wait(at(1000), 1), 1500);
        // An idle time is not saved up.
        assert_eq!(wait(at(60_000), 1000), 0);
        assert_eq!(wait(at(60_000), 0), 1000);
        assert_eq!(wait(at(60_000), u64::MAX), 1000);
    }

    #[test]
    fn no_more_than_the_places_at_a_time() {
        let places = Places::new(NonZeroUsize::new(3).unwrap());
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let _place = places.take();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::sleep(Duration::from_micros(200));
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!((most.into_inner(), *places.free.lock().unwrap()), (3, 3));
    }
}

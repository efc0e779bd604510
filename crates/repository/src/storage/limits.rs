//! Bounds on bandwidth and on operations at a time, shared by all jobs on a storage.

use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Storage, StorageError, StorageOptions, StoredObject};

/// How often who waits for a place looks whether there are more of them now.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Bounds on what all jobs of a storage take together; none by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes per second written on average; as fast as it goes by default.
    pub upload: Option<NonZeroU64>,
    /// Bytes per second read on average; as fast as it goes by default.
    pub download: Option<NonZeroU64>,
    /// Operations at a time; as many as the jobs ask for by default.
    pub concurrency: Option<NonZeroUsize>,
}

/// Bounds that can be changed while storages are open under them. Clones are the same ones: a change
/// holds for every operation that begins after it.
#[derive(Debug, Clone, Default)]
pub struct LiveBounds(Arc<RwLock<Bounds>>);

impl LiveBounds {
    /// Bounds to begin with.
    pub fn new(bounds: Bounds) -> Self {
        Self(Arc::new(RwLock::new(bounds)))
    }

    /// The bounds in force.
    pub fn get(&self) -> Bounds {
        // They are replaced as a whole: a panic elsewhere leaves nothing half done.
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts others in their place.
    pub fn set(&self, bounds: Bounds) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = bounds;
    }
}

/// A storage that is used within bounds.
#[derive(Debug)]
pub(super) struct Limits {
    inner: Arc<dyn Storage>,
    bounds: LiveBounds,
    upload: Meter,
    download: Meter,
    places: Places,
}

impl Limits {
    pub(super) fn around(inner: Arc<dyn Storage>, options: &StorageOptions) -> Arc<dyn Storage> {
        Arc::new(Self {
            inner,
            bounds: options.bounds.clone(),
            upload: Meter::default(),
            download: Meter::default(),
            places: Places::default(),
        })
    }

    fn within<T>(
        &self,
        operation: impl FnOnce(&dyn Storage) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let _place = self.places.take(|| self.bounds.get().concurrency);
        operation(self.inner.as_ref())
    }

    fn read(
        &self,
        operation: impl FnOnce(&dyn Storage) -> Result<Bytes, StorageError>,
    ) -> Result<Bytes, StorageError> {
        // How much comes is known afterwards: it is the next one that waits for it.
        if let Some(rate) = self.bounds.get().download {
            self.download.wait_for(0, rate);
        }
        let read = self.within(operation)?;
        if let Some(rate) = self.bounds.get().download {
            self.download.charge(Instant::now(), read.len() as u64, rate);
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
        if let Some(rate) = self.bounds.get().upload {
            self.upload.wait_for(content.len() as u64, rate);
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
#[derive(Debug, Default)]
struct Meter {
    free_at: Mutex<Option<Instant>>,
}

impl Meter {
    /// Takes up the line from when it is free; returns how long to wait until then.
    fn charge(&self, now: Instant, bytes: u64, rate: NonZeroU64) -> Duration {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let start = free_at.map_or(now, |free_at| free_at.max(now));
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
        let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        *free_at = start.checked_add(takes);
        start - now
    }

    fn wait_for(&self, bytes: u64, rate: NonZeroU64) {
        thread::sleep(self.charge(Instant::now(), bytes, rate));
    }
}

/// So many at a time.
#[derive(Debug, Default)]
struct Places {
    taken: Mutex<usize>,
    freed: Condvar,
}

impl Places {
    /// Waits for a place among so many, where that is bounded. Each is given back, because every
    /// operation ends by its deadline.
    fn take(&self, most: impl Fn() -> Option<NonZeroUsize>) -> Place<'_> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while most().is_some_and(|most| *taken >= most.get()) {
            let waited = self.freed.wait_timeout(taken, LOOK_UP);
            taken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *taken += 1;
        Place(self)
    }
}

struct Place<'a>(&'a Places);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_rate_holds_on_average() {
        let meter = Meter::default();
        let rate = |rate| NonZeroU64::new(rate).unwrap();
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let wait = |now, bytes| meter.charge(now, bytes, rate(1000)).as_millis();
        assert_eq!(wait(at(0), 500), 0);
        assert_eq!(wait(at(0), 2000), 500);
        assert_eq!(wait(at(1000), 1), 1500);
        // An idle time is not saved up.
        assert_eq!(wait(at(60_000), 1000), 0);
        assert_eq!(wait(at(60_000), 0), 1000);
        // Another rate holds from the next one on.
        assert_eq!(meter.charge(at(60_000), 500, rate(500)).as_millis(), 1000);
        assert_eq!(wait(at(60_000), 0), 2000);
        assert_eq!(wait(at(60_000), u64::MAX), 2000);
    }

    #[test]
    fn no_more_than_the_places_at_a_time() {
        let (places, three) = (Places::default(), || NonZeroUsize::new(3));
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let _place = places.take(three);
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::sleep(Duration::from_micros(200));
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!((most.into_inner(), *places.taken.lock().unwrap()), (3, 0));
    }

    #[test]
    fn more_places_are_seen_by_those_who_wait() {
        let bounds =
            LiveBounds::new(Bounds { concurrency: NonZeroUsize::new(1), ..Bounds::default() });
        let places = Places::default();
        let most = || bounds.get().concurrency;
        let _held = places.take(most);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(places.take(most)));
            bounds.set(Bounds::default());
            waiting.join().unwrap();
        });
    }
}

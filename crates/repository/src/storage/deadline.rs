//! A storage that answers in time, or is told to have failed.
//!
//! A system call that hangs, on a network mount whose server is gone, cannot be called off. So it
//! is made on another thread, which is left behind when its time is up: what it was asked may
//! still be done later, as with any lost answer.

use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use super::{Storage, StorageError, StorageErrorKind, StorageOptions, StoredObject};

/// Threads that hang at a time, at most. More would only hang too.
const MOST_HANGING: usize = 64;
/// Threads that are kept for the next operation.
const MOST_IDLE: usize = 16;
/// Objects are no larger than this when their size is not known, in bytes: twice the largest pack.
const LARGEST: u64 = 256 << 20;

/// Which thread reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// The caller's own, for a storage whose reads end by themselves.
    Direct,
    /// Another, with a deadline.
    Watched,
}

type Work = Box<dyn FnOnce() + Send>;

/// Deadlines for a storage that has none.
pub(super) struct Deadlines {
    inner: Arc<dyn Storage>,
    options: StorageOptions,
    reads: Reads,
    pool: Arc<Pool>,
}

#[derive(Default)]
struct Pool {
    /// Where threads that have nothing to do wait for work. They end when this is dropped.
    idle: Mutex<Vec<Sender<Work>>>,
    /// Threads whose callers have given up.
    hanging: Mutex<usize>,
}

impl fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Deadlines {
    pub(super) fn new(inner: Arc<dyn Storage>, options: &StorageOptions, reads: Reads) -> Self {
        Self { inner, options: options.clone(), reads, pool: Arc::default() }
    }

    fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &str,
        bytes: u64,
        work: impl FnOnce(&dyn Storage) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let deadline = self.options.deadline(bytes);
        let failed = |kind, message: String| StorageError::new(operation, name, kind, message);
        let hanging = self.pool.hanging();
        if hanging >= MOST_HANGING {
            let message = format!("{hanging} operations before it were never answered");
            return Err(failed(StorageErrorKind::TimedOut, message));
        }
        // The answer is handed over under a lock, so that a thread knows whether it was awaited.
        let (answer, awaited) = sync_channel(1);
        let given_up = Arc::new(Mutex::new(false));
        let inner = Arc::clone(&self.inner);
        let (pool, late) = (Arc::clone(&self.pool), Arc::clone(&given_up));
        let task = Box::new(move || {
            let result = work(inner.as_ref());
            let late = late.lock().unwrap_or_else(PoisonError::into_inner);
            if *late {
                pool.add_hanging(-1);
            } else {
                // Never full, and the receiver waits.
                let _ = answer.try_send(result);
            }
        });
        let thread = self.pool.start(task).map_err(|error| {
            let message = format!("no thread to do it: {error}");
            failed(StorageErrorKind::Unavailable, message)
        })?;
        match awaited.recv_timeout(deadline) {
            Ok(result) => {
                self.pool.keep(thread);
                result
            }
            Err(RecvTimeoutError::Disconnected) => {
                Err(StorageError::other(operation, name, "the thread that did it died"))
            }
            Err(RecvTimeoutError::Timeout) => {
                let mut given_up = given_up.lock().unwrap_or_else(PoisonError::into_inner);
                // At the last moment.
                if let Ok(result) = awaited.try_recv() {
                    return result;
                }
                *given_up = true;
                self.pool.add_hanging(1);
                let message = format!("no answer within {} s", deadline.as_secs_f32());
                Err(failed(StorageErrorKind::TimedOut, message))
            }
        }
    }

    fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &str,
        bytes: u64,
        work: impl FnOnce(&dyn Storage) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        match self.reads {
            Reads::Direct => work(self.inner.as_ref()),
            Reads::Watched => self.run(operation, name, bytes, work),
        }
    }
}

impl Pool {
    fn hanging(&self) -> usize {
        *self.hanging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_hanging(&self, change: isize) {
        let mut hanging = self.hanging.lock().unwrap_or_else(PoisonError::into_inner);
        *hanging = hanging.saturating_add_signed(change);
    }

    /// Hands the work to an idle thread, or to a new one. The thread ends after it, unless it is
    /// kept.
    fn start(&self, work: Work) -> std::io::Result<Sender<Work>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let work = match idle {
            Some(thread) => match thread.send(work) {
                Ok(()) => return Ok(thread),
                // It has panicked.
                Err(unsent) => unsent.0,
            },
            None => work,
        };
        let (thread, tasks) = channel::<Work>();
        thread::Builder::new().name("storage".to_owned()).spawn(move || {
            while let Ok(work) = tasks.recv() {
                work();
            }
        })?;
        // It has just been started, and waits for it.
        let _ = thread.send(work);
        Ok(thread)
    }

    fn keep(&self, thread: Sender<Work>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MOST_IDLE {
            idle.push(thread);
        }
    }
}

impl Storage for Deadlines {
    fn get(&self, name: &str) -> Result<Bytes, StorageError> {
        let owned = name.to_owned();
        self.read("get", name, LARGEST, move |inner| inner.get(&owned))
    }
    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        let owned = name.to_owned();
        let bytes = length.min(LARGEST);
        self.read("get", name, bytes, move |inner| inner.get_range(&owned, offset, length))
    }
    fn put(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        let owned = name.to_owned();
        self.run("put", name, content.len() as u64, move |inner| inner.put(&owned, content))
    }
    fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, StorageError> {
        let owned = prefix.to_owned();
        // A listing of millions of names takes its time, and does not tell how it gets on.
        self.run("list", prefix, LARGEST, move |inner| inner.list(&owned))
    }
    fn size(&self, name: &str) -> Result<u64, StorageError> {
        let owned = name.to_owned();
        self.read("size", name, 0, move |inner| inner.size(&owned))
    }
    fn delete(&self, name: &str) -> Result<(), StorageError> {
        let owned = name.to_owned();
        self.run("delete", name, 0, move |inner| inner.delete(&owned))
    }
    fn delete_many(&self, names: &[String]) -> Result<(), StorageError> {
        let Some(first) = names.first() else { return Ok(()) };
        let owned = names.to_vec();
        self.run("delete", first, LARGEST, move |inner| inner.delete_many(&owned))
    }
    fn reap_leftovers(&self, min_age: Duration) -> Result<u64, StorageError> {
        self.run("reap leftovers", "", LARGEST, move |inner| inner.reap_leftovers(min_age))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;

    use super::*;

    /// Hangs in every operation until it is let go.
    #[derive(Debug, Default)]
    struct Hanging {
        open: Mutex<bool>,
        changed: Condvar,
    }

    impl Hanging {
        fn hang(&self) {
            let open = self.open.lock().unwrap();
            drop(self.changed.wait_while(open, |open| !*open).unwrap());
        }

        fn let_go(&self) {
            *self.open.lock().unwrap() = true;
            self.changed.notify_all();
        }
    }

    impl Storage for Hanging {
        fn get(&self, _: &str) -> Result<Bytes, StorageError> {
            self.hang();
            Ok(Bytes::new())
        }
        fn get_range(&self, _: &str, _: u64, _: u64) -> Result<Bytes, StorageError> {
            self.get("")
        }
        fn put(&self, _: &str, _: Bytes) -> Result<(), StorageError> {
            self.get("").map(drop)
        }
        fn list(&self, _: &str) -> Result<Vec<StoredObject>, StorageError> {
            self.get("").map(|_| Vec::new())
        }
        fn size(&self, _: &str) -> Result<u64, StorageError> {
            self.get("").map(|_| 0)
        }
        fn delete(&self, _: &str) -> Result<(), StorageError> {
            self.get("").map(drop)
        }
    }

    #[test]
    fn whatever_hangs_is_told_to_have_failed() {
        let hanging = Arc::new(Hanging::default());
        let options = StorageOptions {
            timeout: Duration::from_millis(5),
            slowest: std::num::NonZeroU64::MAX,
            ..StorageOptions::default()
        };
        let storage = Deadlines::new(hanging.clone(), &options, Reads::Watched);
        let content = Bytes::from_static(b"x");
        let errors = [
            storage.get("a").unwrap_err(),
            storage.get_range("a", 0, 1).unwrap_err(),
            storage.put("a", content).unwrap_err(),
            storage.list("a").unwrap_err(),
            storage.size("a").unwrap_err(),
            storage.delete("a").unwrap_err(),
            storage.delete_many(&["a".to_owned()]).unwrap_err(),
        ];
        assert!(errors.iter().all(|error| error.kind == StorageErrorKind::TimedOut), "{errors:?}");
        assert_eq!(storage.pool.hanging(), errors.len());
        // Threads are not started without end.
        for _ in errors.len()..MOST_HANGING {
            storage.size("a").unwrap_err();
        }
        let error = storage.size("a").unwrap_err();
        assert!(error.message.contains("never answered"), "{error}");
        assert_eq!(storage.pool.hanging(), MOST_HANGING);
        // It comes back, and so do the threads.
        hanging.let_go();
        while storage.pool.hanging() > 0 {
            thread::yield_now();
        }
        let patient = Deadlines::new(hanging, &StorageOptions::default(), Reads::Watched);
        for _ in 0..100 {
            patient.size("a").unwrap();
        }
        assert_eq!(patient.pool.idle.lock().unwrap().len(), 1);
    }
}

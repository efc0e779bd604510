//! A storage that answers in time, or is told to have failed.
//!
//! A system call that hangs, on a network mount whose server is gone, cannot be called off. So it
//! is made on another thread, which is left behind when its time is up: what it was asked may
//! still be done later, as with any lost answer. What can be stopped asks whether it
//! [`is_awaited`] before it does what cannot be undone.
//!
//! What takes long because there is much of it (a listing of a million names, a large pack over a
//! slow line) tells that it [`gets_on`], so that silence can be told from work.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Storage, StorageError, StorageErrorKind, StorageOptions, StoredObject};

/// Threads that hang at a time, at most. More would only hang too.
const MOST_HANGING: usize = 64;
/// Threads that are kept for the next operation.
const MOST_IDLE: usize = 16;
/// Objects are no larger than this when their size is not known, in bytes: twice the largest pack.
const LARGEST: u64 = 256 << 20;

/// The threads of the directories that are in use, by path. A dead mount that is opened again and
/// again takes no more threads than one that is opened once.
static POOLS: LazyLock<Mutex<HashMap<PathBuf, Weak<Pool>>>> = LazyLock::new(Mutex::default);

thread_local! {
    /// Signs of life that the operation of this thread has given.
    static SIGNS: RefCell<Option<Arc<AtomicU64>>> = const { RefCell::new(None) };
    /// Whether the caller of this thread's operation has given it up.
    static GIVEN_UP: RefCell<Option<Arc<Mutex<bool>>>> = const { RefCell::new(None) };
}

/// Says that the storage operation of this thread gets on. Costs next to nothing where nobody
/// listens.
pub(super) fn gets_on() {
    SIGNS.with_borrow(|signs| {
        if let Some(signs) = signs {
            signs.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// Whether somebody still waits for the storage operation of this thread. Where nobody does, its
/// caller has said that it failed.
pub(super) fn is_awaited() -> bool {
    GIVEN_UP.with_borrow(|given_up| {
        given_up
            .as_ref()
            .is_none_or(|given_up| !*given_up.lock().unwrap_or_else(PoisonError::into_inner))
    })
}

/// How long an operation may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From its beginning to its end.
    whole: Duration,
    /// Without a sign that it gets on, if it gives any.
    silence: Option<Duration>,
}

impl Patience {
    pub(super) fn whole(whole: Duration) -> Self {
        Self { whole, silence: None }
    }
}

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
    /// Whether the storage tells that it gets on.
    tells: bool,
    pool: Arc<Pool>,
}

/// Threads that do what may hang.
#[derive(Default)]
pub(super) struct Pool {
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
    pub(super) fn new(inner: Arc<dyn Storage>, options: &StorageOptions) -> Self {
        let pool = Arc::default();
        Self { inner, options: options.clone(), reads: Reads::Watched, tells: false, pool }
    }

    /// Deadlines for a storage that [`gets_on`], on the threads of a pool.
    pub(super) fn telling(
        inner: Arc<dyn Storage>,
        options: &StorageOptions,
        reads: Reads,
        pool: Arc<Pool>,
    ) -> Self {
        Self { inner, options: options.clone(), reads, tells: true, pool }
    }

    /// What says nothing before its end.
    fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &str,
        bytes: u64,
        work: impl FnOnce(&dyn Storage) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.within(Patience::whole(self.options.deadline(bytes)), operation, name, work)
    }

    /// What consists of many steps.
    fn run_telling<T: Send + 'static>(
        &self,
        operation: &'static str,
        name: &str,
        bytes: u64,
        work: impl FnOnce(&dyn Storage) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let whole = self.options.deadline(bytes);
        let silence = self.tells.then_some(self.options.timeout);
        self.within(Patience { whole, silence }, operation, name, work)
    }

    fn within<T: Send + 'static>(
        &self,
        patience: Patience,
        operation: &'static str,
        name: &str,
        work: impl FnOnce(&dyn Storage) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let inner = Arc::clone(&self.inner);
        self.pool.run(patience, operation, name, move || work(inner.as_ref()))
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
            Reads::Watched => self.run_telling(operation, name, bytes, work),
        }
    }
}

impl Pool {
    /// The threads of a directory.
    pub(super) fn of(directory: &Path) -> Arc<Self> {
        let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread that hangs holds its pool, so one that is gone has none.
        pools.retain(|_, pool| pool.strong_count() > 0);
        let known = pools.get(directory).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let pool = Arc::default();
            pools.insert(directory.to_owned(), Arc::downgrade(&pool));
            pool
        })
    }

    /// Does the work on another thread, and leaves that behind when its time is up.
    pub(super) fn run<T: Send + 'static>(
        self: &Arc<Self>,
        patience: Patience,
        operation: &'static str,
        name: &str,
        work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let failed = |kind, message: String| StorageError::new(operation, name, kind, message);
        let hanging = self.hanging();
        if hanging >= MOST_HANGING {
            let message = format!("{hanging} operations before it were never answered");
            return Err(failed(StorageErrorKind::TimedOut, message));
        }
        // The answer is handed over under a lock, so that a thread knows whether it was awaited.
        let (answer, awaited) = sync_channel(1);
        let given_up = Arc::new(Mutex::new(false));
        let signs = Arc::new(AtomicU64::new(0));
        let (pool, late, given) = (Arc::clone(self), Arc::clone(&given_up), Arc::clone(&signs));
        let task = Box::new(move || {
            SIGNS.set(Some(given));
            GIVEN_UP.set(Some(Arc::clone(&late)));
            let result = work();
            SIGNS.set(None);
            GIVEN_UP.set(None);
            let late = late.lock().unwrap_or_else(PoisonError::into_inner);
            if *late {
                pool.add_hanging(-1);
            } else {
                // Never full, and the receiver waits.
                let _ = answer.try_send(result);
            }
        });
        let thread = self.start(task).map_err(|error| {
            let message = format!("no thread to do it: {error}");
            failed(StorageErrorKind::Unavailable, message)
        })?;
        let (begun, mut seen) = (Instant::now(), 0);
        loop {
            let left = patience.whole.saturating_sub(begun.elapsed());
            let wait = patience.silence.map_or(left, |silence| silence.min(left));
            match awaited.recv_timeout(wait) {
                Ok(result) => {
                    self.keep(thread);
                    return result;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(StorageError::other(
                        operation,
                        name,
                        "the thread that did it died",
                    ));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let given = signs.load(Ordering::Relaxed);
            let limit = match patience.silence {
                Some(silence) if begun.elapsed() < patience.whole => {
                    if given != seen {
                        seen = given;
                        continue;
                    }
                    silence
                }
                _ => patience.whole,
            };
            let mut given_up = given_up.lock().unwrap_or_else(PoisonError::into_inner);
            // At the last moment.
            if let Ok(result) = awaited.try_recv() {
                return result;
            }
            *given_up = true;
            self.add_hanging(1);
            let message = format!("no answer within {} s", limit.as_secs_f32());
            return Err(failed(StorageErrorKind::TimedOut, message));
        }
    }

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
        // A listing of millions of names takes its time.
        self.run_telling("list", prefix, LARGEST, move |inner| inner.list(&owned))
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
        self.run_telling("delete", first, LARGEST, move |inner| inner.delete_many(&owned))
    }
    fn reap_leftovers(&self, min_age: Duration) -> Result<u64, StorageError> {
        self.run_telling("reap leftovers", "", LARGEST, move |inner| inner.reap_leftovers(min_age))
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
        let storage = Deadlines::new(hanging.clone(), &options);
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
        let patient = Deadlines::new(hanging, &StorageOptions::default());
        for _ in 0..100 {
            patient.size("a").unwrap();
        }
        assert_eq!(patient.pool.idle.lock().unwrap().len(), 1);
    }

    /// Lists in so many steps, of which each takes a while; then it hangs.
    #[derive(Debug)]
    struct Stepping {
        steps: u32,
        then: Option<Hanging>,
    }

    impl Storage for Stepping {
        fn get(&self, _: &str) -> Result<Bytes, StorageError> {
            unreachable!()
        }
        fn get_range(&self, _: &str, _: u64, _: u64) -> Result<Bytes, StorageError> {
            unreachable!()
        }
        fn put(&self, _: &str, _: Bytes) -> Result<(), StorageError> {
            unreachable!()
        }
        fn list(&self, _: &str) -> Result<Vec<StoredObject>, StorageError> {
            for _ in 0..self.steps {
                thread::sleep(Duration::from_millis(1));
                gets_on();
            }
            if let Some(hanging) = &self.then {
                hanging.hang();
            }
            Ok(Vec::new())
        }
        fn size(&self, _: &str) -> Result<u64, StorageError> {
            unreachable!()
        }
        fn delete(&self, _: &str) -> Result<(), StorageError> {
            unreachable!()
        }
    }

    #[test]
    fn what_gets_on_is_waited_for_and_what_stops_is_not() {
        // Far more time than one step needs, and less than all of them take.
        let options =
            StorageOptions { timeout: Duration::from_millis(500), ..StorageOptions::default() };
        let telling = |steps, then| {
            let inner = Arc::new(Stepping { steps, then });
            Deadlines::telling(inner, &options, Reads::Watched, Arc::default())
        };
        telling(800, None).list("a").unwrap();
        let error = telling(10, Some(Hanging::default())).list("a").unwrap_err();
        assert_eq!(error.kind, StorageErrorKind::TimedOut);
        assert!(error.message.contains("0.5 s"), "{error}");
    }

    #[test]
    fn a_directory_that_is_opened_again_has_the_same_threads() {
        let path = Path::new("/a/directory/of/this/test");
        let first = Pool::of(path);
        assert!(Arc::ptr_eq(&first, &Pool::of(path)));
        assert!(!Arc::ptr_eq(&first, &Pool::of(Path::new("/another"))));
        drop(first);
        let _ = Pool::of(Path::new("/another"));
        assert!(!POOLS.lock().unwrap().contains_key(path));
    }
}

//! A storage that gives trouble: the same for the same seed, of one kind at a time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use provault_repository::{Storage, StorageError, StorageErrorKind, StoredObject};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The system's error number, in reading and writing.
    Errno(i32),
    /// The system's error number, in writing alone.
    WriteErrno(i32),
    /// The storage is too busy and does nothing.
    Busy,
    /// The work is done and nobody is told.
    LostAnswer,
    /// It takes a little longer.
    Slow,
    /// No answer until [`Unruly::release`], and then the work is done after all.
    Hangs,
    /// New objects are not listed at first, and deleted ones still are.
    LaggingLists,
}

/// Gives trouble in about one of `one_in` operations, while it is switched on.
#[derive(Debug)]
pub struct Unruly {
    inner: Arc<dyn Storage>,
    trouble: Trouble,
    one_in: u64,
    on: AtomicBool,
    state: AtomicU64,
    given: AtomicU64,
    /// How many more listings lack, or still have, an object.
    lag: Mutex<HashMap<String, (bool, u64, u32)>>,
    released: Mutex<bool>,
    changed: Condvar,
}

impl Unruly {
    pub fn new(inner: Arc<dyn Storage>, trouble: Trouble, one_in: u64, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            inner,
            trouble,
            one_in,
            on: true.into(),
            state: AtomicU64::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            given: AtomicU64::default(),
            lag: Mutex::default(),
            released: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// Switches the trouble on or off.
    pub fn switch(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
    }

    /// How often there was trouble.
    pub fn given(&self) -> u64 {
        self.given.load(Ordering::SeqCst)
    }

    /// Lets everything go on that hangs, now and later.
    pub fn release(&self) {
        *self.released.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn strikes(&self, writes: bool) -> bool {
        if !self.on.load(Ordering::SeqCst)
            || self.trouble == Trouble::LaggingLists
            || matches!(self.trouble, Trouble::WriteErrno(_)) && !writes
        {
            return false;
        }
        let state = self.state.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst);
        // The last step of splitmix64.
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let strikes = (mixed ^ (mixed >> 27)).is_multiple_of(self.one_in);
        self.given.fetch_add(u64::from(strikes), Ordering::SeqCst);
        strikes
    }

    fn run<T>(
        &self,
        operation: &'static str,
        name: &str,
        work: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        if !self.strikes(operation == "put") {
            return work();
        }
        match self.trouble {
            Trouble::Errno(number) | Trouble::WriteErrno(number) => {
                let error = std::io::Error::from_raw_os_error(number);
                Err(StorageError::io(operation, name, &error))
            }
            Trouble::Busy => {
                let kind = StorageErrorKind::Unavailable;
                Err(StorageError::new(operation, name, kind, "503 Slow Down"))
            }
            Trouble::LostAnswer => {
                drop(work());
                let kind = StorageErrorKind::TimedOut;
                Err(StorageError::new(operation, name, kind, "no answer"))
            }
            Trouble::Slow => {
                thread::sleep(Duration::from_millis(2));
                work()
            }
            Trouble::Hangs => {
                let released = self.released.lock().unwrap();
                drop(self.changed.wait_while(released, |released| !*released).unwrap());
                work()
            }
            Trouble::LaggingLists => work(),
        }
    }

    fn changed(&self, name: &str, there: bool, size: u64) {
        if self.trouble == Trouble::LaggingLists && self.on.load(Ordering::SeqCst) {
            self.lag.lock().unwrap().insert(name.to_owned(), (there, size, 2));
        }
    }
}

impl Storage for Unruly {
    fn get(&self, name: &str) -> Result<Bytes, StorageError> {
        self.run("get", name, || self.inner.get(name))
    }
    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        self.run("get", name, || self.inner.get_range(name, offset, length))
    }
    fn put(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        let size = content.len() as u64;
        let result = self.run("put", name, || self.inner.put(name, content));
        if result.is_ok() {
            self.changed(name, true, size);
        }
        result
    }
    fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, StorageError> {
        let mut found = self.run("list", prefix, || self.inner.list(prefix))?;
        let mut lag = self.lag.lock().unwrap();
        let below = format!("{prefix}/");
        for (name, (there, size, left)) in lag.iter_mut() {
            if *left == 0 || !name.starts_with(&below) {
                continue;
            }
            *left -= 1;
            self.given.fetch_add(1, Ordering::SeqCst);
            if *there {
                found.retain(|object| object.name != *name);
            } else if found.iter().all(|object| object.name != *name) {
                found.push(StoredObject { name: name.clone(), size: *size });
            }
        }
        Ok(found)
    }
    fn size(&self, name: &str) -> Result<u64, StorageError> {
        self.run("size", name, || self.inner.size(name))
    }
    fn delete(&self, name: &str) -> Result<(), StorageError> {
        let size = self.inner.size(name).unwrap_or_default();
        let result = self.run("delete", name, || self.inner.delete(name));
        if result.is_ok() {
            self.changed(name, false, size);
        }
        result
    }
}

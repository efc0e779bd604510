//! Where the files of a repository lie.
//!
//! [`Storage`] is small and blocking, so that tests can put faults beneath the repository.
//! [`ObjectStorage`] is the real one, over the `object_store` crate.

use std::fmt;
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::runtime::{Builder, Runtime};

/// Why a storage operation failed, as far as the repository cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageErrorKind {
    /// The object is not there.
    NotFound,
    /// The object is there already, and objects are never overwritten.
    AlreadyExists,
    /// Anything else: no space, no permission, an I/O error, a network fault.
    Other,
}

/// A failed storage operation.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{operation} {name}: {message}")]
pub struct StorageError {
    /// What was tried, such as `put`.
    pub operation: &'static str,
    /// The object's name below the repository's root.
    pub name: String,
    /// The class of the failure.
    pub kind: StorageErrorKind,
    /// The storage's own words.
    pub message: String,
}

impl StorageError {
    /// An error of [`StorageErrorKind::Other`].
    pub fn other(operation: &'static str, name: &str, message: impl fmt::Display) -> Self {
        let message = message.to_string();
        Self { operation, name: name.to_owned(), kind: StorageErrorKind::Other, message }
    }

    /// Whether there is no room left for it.
    pub fn is_no_space(&self) -> bool {
        ["os error 28", "os error 122"].iter().any(|errno| self.message.contains(errno))
    }

    /// Whether the object is simply not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == StorageErrorKind::NotFound
    }
}

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
    /// existing name is [`StorageErrorKind::AlreadyExists`].
    fn put(&self, name: &str, content: Bytes) -> Result<(), StorageError>;
    /// Every object below the directory `prefix`, at any depth, in no particular order.
    fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, StorageError>;
    /// The object's size in bytes.
    fn size(&self, name: &str) -> Result<u64, StorageError>;
    /// Deletes the object.
    fn delete(&self, name: &str) -> Result<(), StorageError>;

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

/// Storage through the `object_store` crate.
#[derive(Debug)]
pub struct ObjectStorage {
    store: Arc<dyn ObjectStore>,
    local_root: Option<PathBuf>,
}

/// One runtime for all storages of the process. It is never dropped, because a tokio runtime
/// panics when it is dropped inside an async context, and a repository may well be.
fn runtime() -> Result<&'static Runtime, StorageError> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("repository-io")
                .enable_all()
                .build()
                .map_err(|error| error.to_string())
        })
        .as_ref()
        .map_err(|message| StorageError::other("start", "storage runtime", message))
}

/// Waits for a future whose work the runtime does. Tokio's own `block_on` panics within async code,
/// where a reader or writer that is dropped deletes its lock file; this one only blocks there.
fn block_on<F: Future>(runtime: &Runtime, future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let _context = runtime.enter();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

impl ObjectStorage {
    /// A local directory, made (mode 0700) if it is missing. Writes are synced to disk, files and
    /// directories both, before they count as done.
    pub fn local(root: &FsPath) -> Result<Self, StorageError> {
        let failed =
            |error: &dyn fmt::Display| StorageError::other("open", &root.to_string_lossy(), error);
        if !root.exists() {
            use std::os::unix::fs::DirBuilderExt;
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(root)
                .map_err(|error| failed(&error))?;
        }
        let store = LocalFileSystem::new_with_prefix(root)
            .map_err(|error| failed(&error))?
            .with_fsync(true);
        Ok(Self { store: Arc::new(store), local_root: Some(root.to_owned()) })
    }

    fn run<T>(
        operation: &'static str,
        name: &str,
        future: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StorageError> {
        block_on(runtime()?, future).map_err(|error| {
            let kind = match &error {
                object_store::Error::NotFound { .. } => StorageErrorKind::NotFound,
                object_store::Error::AlreadyExists { .. } => StorageErrorKind::AlreadyExists,
                _ => StorageErrorKind::Other,
            };
            StorageError { operation, name: name.to_owned(), kind, message: error.to_string() }
        })
    }

    fn path(operation: &'static str, name: &str) -> Result<Path, StorageError> {
        Path::parse(name).map_err(|error| StorageError::other(operation, name, error))
    }
}

impl Storage for ObjectStorage {
    fn get(&self, name: &str) -> Result<Bytes, StorageError> {
        let path = Self::path("get", name)?;
        Self::run("get", name, async { self.store.get(&path).await?.bytes().await })
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let path = Self::path("get", name)?;
        let end = offset.saturating_add(length);
        match Self::run("get", name, self.store.get_range(&path, offset..end)) {
            // Beyond the end is not an error of ours to tell apart by its words; ask the size.
            Err(error) if !error.is_not_found() => match self.size(name) {
                Ok(size) if size <= offset => Ok(Bytes::new()),
                Ok(size) if size < end => self.get_range(name, offset, size - offset),
                _ => Err(error),
            },
            other => other,
        }
    }

    fn put(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        let path = Self::path("put", name)?;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let payload = PutPayload::from_bytes(content);
        Self::run("put", name, self.store.put_opts(&path, payload, options)).map(drop)
    }

    fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, StorageError> {
        let mut found = Vec::new();
        let mut pending = vec![Self::path("list", prefix)?];
        while let Some(directory) = pending.pop() {
            let listing =
                match Self::run("list", prefix, self.store.list_with_delimiter(Some(&directory))) {
                    Ok(listing) => listing,
                    Err(error) if error.is_not_found() => continue,
                    Err(error) => return Err(error),
                };
            pending.extend(listing.common_prefixes);
            found.extend(listing.objects.into_iter().map(|object| StoredObject {
                name: object.location.to_string(),
                size: object.size,
            }));
        }
        Ok(found)
    }

    fn size(&self, name: &str) -> Result<u64, StorageError> {
        let path = Self::path("size", name)?;
        Self::run("size", name, self.store.head(&path)).map(|meta| meta.size)
    }

    fn delete(&self, name: &str) -> Result<(), StorageError> {
        let path = Self::path("delete", name)?;
        Self::run("delete", name, self.store.delete(&path))
    }

    fn reap_leftovers(&self, min_age: Duration) -> Result<u64, StorageError> {
        let Some(root) = &self.local_root else { return Ok(0) };
        let mut reaped = 0;
        reap(root, 0, SystemTime::now() - min_age, &mut reaped).map_err(|error| {
            StorageError::other("reap leftovers below", &root.to_string_lossy(), error)
        })?;
        Ok(reaped)
    }
}

/// `object_store` stages a local write as `NAME#1` beside its target and never lists such names.
fn is_staged(name: &str) -> bool {
    name.split_once('#').is_some_and(|(target, number)| {
        (target == "config"
            || target == "reserve"
            || target.len() == 64 && target.bytes().all(|c| c.is_ascii_hexdigit()))
            && !number.is_empty()
            && number.bytes().all(|c| c.is_ascii_digit())
    })
}

fn reap(directory: &FsPath, depth: u8, before: SystemTime, reaped: &mut u64) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && depth < 2 {
            reap(&entry.path(), depth + 1, before, reaped)?;
        } else if kind.is_file() && entry.file_name().to_str().is_some_and(is_staged) {
            // A writer may finish meanwhile, then its staged file is gone: no error.
            let modified = entry.metadata().and_then(|meta| meta.modified());
            let old = modified.is_ok_and(|modified| modified <= before);
            if old && std::fs::remove_file(entry.path()).is_ok() {
                *reaped += 1;
            }
        }
    }
    Ok(())
}

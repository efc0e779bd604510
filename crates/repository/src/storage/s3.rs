//! A repository in a bucket of an S3-compatible store.
//!
//! S3 makes an object whole or not at all, and durable before it answers. What it does not do
//! everywhere is refuse to overwrite: some stores ignore `If-None-Match: *`, and nothing in their
//! answers says so. So before its first write this storage writes an object twice and sees whether
//! the second is refused. Where it is not, it looks before it writes: two writers of one name at
//! a time could then both succeed. Names are hashes of what is written, so that this matters to
//! `config` alone, which two `init`s at a time would have to write.

use std::collections::HashSet;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};

use super::http::{Http, Trouble};
use super::{Storage, StorageError, StorageErrorKind, StorageOptions, StoredObject, check_name};

/// Where the objects lie that are written to see whether overwriting is refused.
const PROBES: &str = "provault/probe";

/// A listing ends before it holds more objects: with packs of 16 MiB, so many are more than 1 PiB.
const MOST_OBJECTS: usize = 100_000_000;
/// Some stores give pages without objects, for what was deleted; so many are without sense.
const MOST_EMPTY_PAGES: u32 = 1000;

/// Storage in a bucket, below a prefix. Its operations have deadlines, and are tried once.
pub struct S3Storage {
    store: AmazonS3,
    /// The same, for stores that delete one object a request.
    deletes_singly: AmazonS3,
    single: AtomicBool,
    bucket: String,
    prefix: String,
    /// Whether the store refuses to overwrite, once that is known.
    refuses: Mutex<Option<bool>>,
}

impl fmt::Debug for S3Storage {
    /// Without the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Storage(s3://{}/{})", self.bucket, self.prefix)
    }
}

impl S3Storage {
    /// A bucket, which must exist, and a prefix in it, which may be empty. Nothing is asked yet.
    pub fn open(
        bucket: &str,
        prefix: &str,
        options: &StorageOptions,
    ) -> Result<Self, StorageError> {
        let invalid = |message: String| {
            let name = format!("s3://{bucket}/{prefix}");
            StorageError::new("open", &name, StorageErrorKind::Invalid, message)
        };
        let s3 = &options.s3;
        let has = |name: &str| s3.get(name).is_some();
        let static_key = has("AWS_ACCESS_KEY_ID") || has("AWS_SECRET_ACCESS_KEY");
        let role = has("AWS_WEB_IDENTITY_TOKEN_FILE") && has("AWS_ROLE_ARN");
        let container = has("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
            || has("AWS_CONTAINER_CREDENTIALS_FULL_URI");
        let no_metadata = s3.get("AWS_EC2_METADATA_DISABLED").is_some_and(|v| v == "true");
        // Otherwise the metadata service of a cloud machine is asked; elsewhere there is none.
        if !static_key && !role && !container && (no_metadata || s3.endpoint().is_some()) {
            return Err(invalid(
                "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY \
                 (profiles in ~/.aws are not read)"
                    .to_owned(),
            ));
        }
        let mut builder = AmazonS3Builder::new().with_bucket_name(bucket);
        for (name, value) in s3.iter() {
            if ["AWS_CA_BUNDLE", "AWS_EC2_METADATA_DISABLED"].contains(&name) {
                continue;
            }
            let key: AmazonS3ConfigKey = name
                .to_ascii_lowercase()
                .parse()
                .map_err(|error: object_store::Error| invalid(error.to_string()))?;
            builder = builder.with_config(key, value);
        }
        // Retries are ours, for they know what a lost answer means; and these would need a runtime.
        let no_retries =
            RetryConfig { max_retries: 0, retry_timeout: Duration::ZERO, ..RetryConfig::default() };
        builder = builder.with_retry(no_retries).with_http_connector(Http::new(options)?);
        let build =
            |builder: AmazonS3Builder| builder.build().map_err(|error| invalid(error.to_string()));
        let singly = builder.clone().with_config(AmazonS3ConfigKey::DisableBulkDelete, "true");
        Ok(Self {
            store: build(builder)?,
            deletes_singly: build(singly)?,
            single: AtomicBool::new(false),
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            refuses: Mutex::default(),
        })
    }

    fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    fn path(&self, operation: &'static str, name: &str) -> Result<Path, StorageError> {
        check_name(operation, name)?;
        Path::parse(self.key(name)).map_err(|error| StorageError::other(operation, name, error))
    }

    fn run<T>(
        operation: &'static str,
        name: &str,
        future: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StorageError> {
        block_on(future).map_err(|error| failed(operation, name, &error))
    }

    fn put_as(&self, name: &str, content: Bytes, mode: PutMode) -> Result<(), StorageError> {
        let path = self.path("put", name)?;
        let options = PutOptions { mode, ..PutOptions::default() };
        let payload = PutPayload::from_bytes(content);
        Self::run("put", name, self.store.put_opts(&path, payload, options)).map(drop)
    }

    /// Whether the store refuses to overwrite: tried out at first, then remembered.
    fn refuses_to_overwrite(&self) -> Result<bool, StorageError> {
        let mut known = self.refuses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refuses) = *known {
            return Ok(refuses);
        }
        let name = format!("{PROBES}/{:016x}", rand::random::<u64>());
        let content = Bytes::from_static(b"Provault looks whether this store can refuse.");
        let refuses = match self.put_as(&name, content.clone(), PutMode::Create) {
            Ok(()) => match self.put_as(&name, content, PutMode::Create) {
                Ok(()) => Ok(false),
                Err(error) if error.kind == StorageErrorKind::AlreadyExists => Ok(true),
                Err(error) => Err(error),
            },
            // It may not know the condition at all.
            Err(error) if error.kind == StorageErrorKind::Other => {
                self.put_as(&name, content, PutMode::Overwrite).map(|()| false)
            }
            Err(error) => Err(error),
        };
        // One that stays is reaped.
        if let Err(error) = self.delete(&name) {
            tracing::debug!(%error, "a probe is left behind");
        }
        let refuses = refuses?;
        if !refuses {
            tracing::warn!(
                storage = ?self,
                "this store overwrites although told not to; looking before each write instead"
            );
        }
        *known = Some(refuses);
        Ok(refuses)
    }

    /// Every object whose key begins with a directory's name.
    fn list_all(
        &self,
        operation: &'static str,
        name: &str,
    ) -> Result<Vec<ObjectMeta>, StorageError> {
        self.path(operation, name)?;
        let prefix = format!("{}/", self.key(name));
        let (mut found, mut page_token) = (Vec::new(), None);
        let mut pages = Pages::default();
        loop {
            let options = PaginatedListOptions { page_token, ..PaginatedListOptions::default() };
            let page =
                Self::run(operation, name, self.store.list_paginated(Some(&prefix), options))?;
            let Some(token) = page.page_token else {
                found.extend(page.result.objects);
                return Ok(found);
            };
            pages
                .turn(&page.result.objects, &token, found.len())
                .map_err(|message| StorageError::other(operation, name, message))?;
            found.extend(page.result.objects);
            page_token = Some(token);
        }
    }

    fn name_of<'a>(&self, key: &'a str) -> Option<&'a str> {
        if self.prefix.is_empty() {
            return Some(key);
        }
        key.strip_prefix(&self.prefix)?.strip_prefix('/')
    }

    fn delete_with(&self, store: &AmazonS3, names: &[String]) -> Result<(), StorageError> {
        let paths = names.iter().map(|name| self.path("delete", name));
        let paths: Vec<_> = paths.collect::<Result<_, _>>()?;
        let first = names.first().map_or("", String::as_str);
        Self::run("delete", first, async {
            let mut deleted = store.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
            while let Some(result) = deleted.next().await {
                match result {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }
}

/// Tells a listing that never ends from a long one.
#[derive(Default)]
struct Pages {
    tokens: HashSet<String>,
    /// The first object of each.
    firsts: HashSet<Path>,
    empty: u32,
}

impl Pages {
    /// Before the next page, with the token that this one ended with.
    fn turn(&mut self, page: &[ObjectMeta], token: &str, found: usize) -> Result<(), &'static str> {
        let fresh = if let Some(first) = page.first() {
            self.firsts.insert(first.location.clone())
        } else {
            self.empty += 1;
            self.empty <= MOST_EMPTY_PAGES
        };
        if !fresh || !self.tokens.insert(token.to_owned()) {
            return Err("the server's listing goes round and round");
        }
        if found + page.len() > MOST_OBJECTS {
            return Err("the server lists more objects than any repository has");
        }
        Ok(())
    }
}

impl Storage for S3Storage {
    fn get(&self, name: &str) -> Result<Bytes, StorageError> {
        let path = self.path("get", name)?;
        Self::run("get", name, async { self.store.get(&path).await?.bytes().await })
    }

    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let path = self.path("get", name)?;
        let end = offset.saturating_add(length);
        match Self::run("get", name, self.store.get_range(&path, offset..end)) {
            // Beyond the end is not an error of ours to tell apart by its words; ask the size.
            Err(error) if error.kind == StorageErrorKind::Other => match self.size(name) {
                Ok(size) if size <= offset => Ok(Bytes::new()),
                Ok(size) if size < end => self.get_range(name, offset, size - offset),
                _ => Err(error),
            },
            other => other,
        }
    }

    fn put(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        self.path("put", name)?;
        if self.refuses_to_overwrite()? {
            return self.put_as(name, content, PutMode::Create);
        }
        if self.exists(name)? {
            let kind = StorageErrorKind::AlreadyExists;
            return Err(StorageError::new("put", name, kind, "it is there already"));
        }
        self.put_as(name, content, PutMode::Overwrite)
    }

    fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, StorageError> {
        let found = self.list_all("list", prefix)?;
        let objects = found.iter().filter_map(|meta| {
            let name = self.name_of(meta.location.as_ref())?.to_owned();
            Some(StoredObject { name, size: meta.size })
        });
        Ok(objects.collect())
    }

    fn size(&self, name: &str) -> Result<u64, StorageError> {
        let path = self.path("size", name)?;
        Self::run("size", name, self.store.head(&path)).map(|meta| meta.size)
    }

    /// S3 does not tell whether the object was there: that it is not is no error.
    fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.delete_with(&self.deletes_singly, &[name.to_owned()])
    }

    fn delete_many(&self, names: &[String]) -> Result<(), StorageError> {
        if names.len() > 1 && !self.single.load(Ordering::Relaxed) {
            match self.delete_with(&self.store, names) {
                // Not every store can delete many at once.
                Err(error) if error.kind == StorageErrorKind::Other => {
                    tracing::debug!(%error, "deleting one by one");
                    self.single.store(true, Ordering::Relaxed);
                }
                other => return other,
            }
        }
        self.delete_with(&self.deletes_singly, names)
    }

    fn reap_leftovers(&self, min_age: Duration) -> Result<u64, StorageError> {
        let before = SystemTime::now().checked_sub(min_age).unwrap_or(SystemTime::UNIX_EPOCH);
        let probes: Vec<String> = self
            .list_all("reap leftovers", PROBES)?
            .iter()
            .filter(|meta| SystemTime::from(meta.last_modified) <= before)
            .filter_map(|meta| self.name_of(meta.location.as_ref()).map(str::to_owned))
            .collect();
        self.delete_many(&probes)?;
        Ok(probes.len() as u64)
    }
}

fn failed(operation: &'static str, name: &str, error: &object_store::Error) -> StorageError {
    if let Some(trouble) = Trouble::beneath(error) {
        return StorageError::new(operation, name, trouble.kind, trouble);
    }
    let kind = match error {
        object_store::Error::NotFound { .. } => StorageErrorKind::NotFound,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
            StorageErrorKind::AlreadyExists
        }
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => StorageErrorKind::PermissionDenied,
        _ => StorageErrorKind::Other,
    };
    // A missing bucket is not a missing object: nothing in it can be told to be lost.
    let message = error.to_string();
    if message.contains("NoSuchBucket") {
        return StorageError::new(operation, name, StorageErrorKind::Invalid, message);
    }
    StorageError::new(operation, name, kind, message)
}

/// Waits for a future that does its work in this thread. Works in async code too, where tokio's
/// own panics, and where a reader or writer that is dropped deletes its lock file.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

//! From a path or a URL to a storage.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::deadline::{Deadlines, Patience, Pool, Reads};
use super::limits::Limits;
use super::retry::Retries;
use super::s3::S3Storage;
use super::{LocalStorage, Storage, StorageError, StorageErrorKind, StorageOptions};

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Location {
    Directory(PathBuf),
    S3 { bucket: String, prefix: String },
}

/// Opens the storage at a path, a `file:///PATH` or an `s3://BUCKET/PREFIX`, with the limits,
/// deadlines and retries of the options around it. Nothing is made or asked for yet.
pub fn open_storage(
    location: &str,
    options: &StorageOptions,
) -> Result<Arc<dyn Storage>, StorageError> {
    match parse(location)? {
        Location::Directory(path) => open_directory(&path, options),
        Location::S3 { bucket, prefix } => {
            // Its requests have deadlines of their own.
            Ok(wrap(Arc::new(S3Storage::open(&bucket, &prefix, options)?), options))
        }
    }
}

/// The directory that [`open_storage`] would open, or nothing for a bucket.
pub fn local_directory(location: &str) -> Result<Option<PathBuf>, StorageError> {
    Ok(match parse(location)? {
        Location::Directory(path) => Some(path),
        Location::S3 { .. } => None,
    })
}

/// [`open_storage`] of a local directory.
pub fn open_directory(
    path: &Path,
    options: &StorageOptions,
) -> Result<Arc<dyn Storage>, StorageError> {
    let ((storage, reads), pool) = at_directory(path, options, |path| {
        let storage = LocalStorage::local(path)?;
        // A read from a local disk is over sooner than another thread has begun it, and the kernel
        // gives up on a dead disk by itself. It may wait for a dead server for ever.
        let reads = if storage.is_remote() { Reads::Watched } else { Reads::Direct };
        Ok((storage, reads))
    })?;
    Ok(wrap(Arc::new(Deadlines::telling(Arc::new(storage), options, reads, pool)), options))
}

/// The directory with all links on the way to it followed; as it is if it is not there.
pub fn real_directory(path: &Path, options: &StorageOptions) -> Result<PathBuf, StorageError> {
    let (real, _) = at_directory(path, options, |path| {
        Ok(path.canonicalize().unwrap_or_else(|_| path.to_owned()))
    })?;
    Ok(real)
}

/// Looks at a directory on a thread of its own pool, for even that hangs on a dead mount.
fn at_directory<T: Send + 'static>(
    path: &Path,
    options: &StorageOptions,
    look: impl FnOnce(&Path) -> Result<T, StorageError> + Send + 'static,
) -> Result<(T, Arc<Pool>), StorageError> {
    let shown = path.to_string_lossy();
    let path =
        std::path::absolute(path).map_err(|error| StorageError::io("open", &shown, &error))?;
    let pool = Pool::of(&path);
    let seen = pool.run(Patience::whole(options.timeout), "open", &shown, move || look(&path))?;
    Ok((seen, pool))
}

/// Puts the limits, deadlines and retries of the options around any storage.
pub fn guard_storage(storage: Arc<dyn Storage>, options: &StorageOptions) -> Arc<dyn Storage> {
    wrap(Arc::new(Deadlines::new(storage, options)), options)
}

fn wrap(storage: Arc<dyn Storage>, options: &StorageOptions) -> Arc<dyn Storage> {
    // Inside the retries, so that what is sent again counts again, and a pause holds no place.
    let limited = Limits::around(storage, options);
    Arc::new(Retries::new(limited, options))
}

fn parse(location: &str) -> Result<Location, StorageError> {
    let invalid = |message: &str| {
        // What stands before an @ may be a password that somebody put into the URL.
        let shown = location
            .rsplit_once('@')
            .map_or_else(|| location.to_owned(), |(_, rest)| format!("…@{rest}"));
        StorageError::new("open", &shown, StorageErrorKind::Invalid, message)
    };
    if location.is_empty() {
        return Err(invalid("no location is given: a path, file:///PATH or s3://BUCKET/PREFIX"));
    }
    let Some(scheme) = scheme(location) else {
        return Ok(Location::Directory(PathBuf::from(location)));
    };
    match (scheme, location[scheme.len() + 1..].strip_prefix("//")) {
        ("file", Some(rest)) if rest.starts_with('/') => {
            let path = percent_decode_str(rest).decode_utf8();
            let path = path.map_err(|_| invalid("the path is not UTF-8"))?;
            Ok(Location::Directory(PathBuf::from(path.as_ref())))
        }
        ("file", _) => Err(invalid("a file URL has three slashes: file:///PATH")),
        ("s3", Some(rest)) => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.contains(['@', ':']) {
                return Err(invalid(
                    "credentials and endpoints do not belong into the URL: set \
                     AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL",
                ));
            }
            let good = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(good) {
                return Err(invalid("the bucket's name is missing or no name: s3://BUCKET/PREFIX"));
            }
            let prefix = prefix.trim_end_matches('/');
            let bad = |part: &str| ["", ".", ".."].contains(&part) || part.contains(['?', '#']);
            if !prefix.is_empty() && prefix.split('/').any(bad) {
                return Err(invalid("the prefix must be names with single slashes between them"));
            }
            Ok(Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
        }
        ("s3", None) => {
            Err(invalid("write s3://BUCKET/PREFIX, and the endpoint into AWS_ENDPOINT_URL"))
        }
        _ => Err(invalid(
            "there is no such storage: a path (./NAME if it has a colon), file:///PATH and \
             s3://BUCKET/PREFIX are understood",
        )),
    }
}

/// What stands before a colon, when that can be a scheme and not the beginning of a path.
fn scheme(location: &str) -> Option<&str> {
    let (scheme, _) = location.split_once(':')?;
    let good = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(good))
        .then_some(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(bucket: &str, prefix: &str) -> Location {
        Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() }
    }

    #[test]
    fn paths_and_urls() {
        let directory = |path: &str| Location::Directory(PathBuf::from(path));
        for (text, expected) in [
            ("/srv/repo", directory("/srv/repo")),
            ("relative/a:b", directory("relative/a:b")),
            ("./a:b", directory("./a:b")),
            ("file:///srv/my%20repo", directory("/srv/my repo")),
            ("s3://bucket", s3("bucket", "")),
            ("s3://bucket/", s3("bucket", "")),
            ("s3://my.bucket-1/one/two/", s3("my.bucket-1", "one/two")),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "file:/srv",
            "file://host/srv",
            "s3:bucket",
            "s3:http://localhost:9000/bucket",
            "s3://",
            "s3://ab",
            "s3://localhost:9000/bucket",
            "s3://bucket/a//b",
            "s3://bucket/../b",
            "s3://bucket/a?versionId=1",
            "sftp:host:/srv",
            "https://host/x",
            "gs://bucket/x",
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind, StorageErrorKind::Invalid, "{text}: {error}");
        }
        let error = parse("s3://key:secret@bucket/x").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

//! Where a repository is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use provault_engine::VaultPlace;
use provault_repository::{S3Options, Storage, StorageErrorKind, StorageOptions, local_directory};

use super::failure::Failure;
use super::usage;
use crate::storage_limits::StorageLimits;

/// A place for a repository: the same as a vault's, but that a person may write it in more ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location(VaultPlace);

impl Location {
    /// From `--repo`, else the environment.
    pub(crate) fn of(option: Option<&str>) -> Result<Self, Failure> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let text = option
            .map(str::to_owned)
            .or_else(|| variable("PROVAULT_REPOSITORY"))
            .or_else(|| variable("RESTIC_REPOSITORY"))
            .ok_or_else(|| {
                usage("say where the repository is: --repo PATH|URL, or PROVAULT_REPOSITORY")
            })?;
        Self::parse(&text)
    }

    /// A path, or a URL of a kind that we know.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let given = text;
        // restic's way of writing a path.
        let text = text.strip_prefix("local:").unwrap_or(text);
        if text.is_empty() {
            return Err(usage("--repo is empty; say where the repository is"));
        }
        let directory = if given == text {
            local_directory(text).map_err(|error| usage(error.to_string()))?
        } else {
            Some(PathBuf::from(text))
        };
        let Some(path) = directory else {
            return Ok(Self(VaultPlace::Bucket(text.trim_end_matches('/').to_owned())));
        };
        let path = std::path::absolute(&path)
            .map_err(|error| usage(format!("'{text}' is no usable path: {error}")))?;
        Ok(Self(VaultPlace::Directory(path)))
    }

    /// The directory, for a repository in one.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.0.directory()
    }

    /// Whether both are the same place, however it is written.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self.directory(), other.directory()) {
            (Some(one), Some(other)) => {
                let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
                real(one) == real(other)
            }
            _ => self == other,
        }
    }

    /// The storage of a repository that must be there already: nothing is made.
    pub(crate) fn existing(&self, limits: StorageLimits) -> Result<Arc<dyn Storage>, Failure> {
        if let Some(path) = self.directory()
            && let Err(error) = std::fs::metadata(path.join("config"))
        {
            let path = path.display();
            if error.kind() != std::io::ErrorKind::NotFound {
                return Err(Failure::Failed(format!("cannot open {path}: {error}")));
            }
            return Err(Failure::NoRepository(format!(
                "there is no repository at {path}: its file 'config' is missing. Is the disk \
                 mounted? A new repository is made with 'provault repository init'"
            )));
        }
        self.storage(limits)
    }

    /// The storage, made where it is missing, with deadlines, retries and limits.
    pub(crate) fn storage(&self, limits: StorageLimits) -> Result<Arc<dyn Storage>, Failure> {
        let options =
            StorageOptions { s3: S3Options::from_environment(), ..StorageOptions::default() };
        self.0.open(&limits.applied_to(options)).map_err(|error| match error.kind {
            StorageErrorKind::Invalid => usage(error.to_string()),
            _ => Failure::Failed(error.to_string()),
        })
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_urls() {
        let directory = |text: &str| Location::parse(text).unwrap().directory().map(Path::to_owned);
        assert_eq!(directory("/srv/repo"), Some("/srv/repo".into()));
        assert_eq!(directory("local:/srv/repo"), Some("/srv/repo".into()));
        assert_eq!(directory("file:///srv/repo"), Some("/srv/repo".into()));
        assert_eq!(directory("file:///srv/my%20repo"), Some("/srv/my repo".into()));
        assert_eq!(directory("s3://bucket/prefix"), None);
        let bucket = |text: &str| Location::parse(text).unwrap();
        assert!(bucket("s3://bucket/a/").is_same(&bucket("s3://bucket/a")));
        assert!(!bucket("s3://bucket/a").is_same(&bucket("s3://bucket/b")));
        assert!(bucket("/tmp/../tmp").is_same(&bucket("file:///tmp")));
        assert_eq!(directory("/srv/a:b"), Some("/srv/a:b".into()));
        assert_eq!(directory("./a:b"), Some(std::env::current_dir().unwrap().join("a:b")));
        for bad in ["", "file:relative", "file://host/path", "sftp:host:/repo", "a:b", "s3:x/y"] {
            let error = Location::parse(bad).unwrap_err();
            assert!(matches!(error, Failure::Usage(_)), "{bad}: {error}");
        }
    }
}

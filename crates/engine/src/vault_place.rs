//! Where the repository of a vault lies.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use provault_repository::{
    Storage, StorageError, StorageOptions, local_directory, open_directory, open_storage,
    real_directory,
};

/// Begins the location of a vault in a bucket.
pub(crate) const BUCKET: &str = "s3://";

/// Where the repository of a vault lies, or a root that vaults are made below.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum VaultPlace {
    /// A directory of the server's machine.
    Directory(PathBuf),
    /// `s3://BUCKET/PREFIX`, without a slash at the end. Where the store is and who we are there
    /// is not part of the place: the server's environment says it.
    Bucket(String),
}

impl VaultPlace {
    /// A place that a person named: an absolute path, `file:///PATH` or `s3://BUCKET/PREFIX`. The
    /// error says what is wrong with it, and no secret that somebody wrote into a URL.
    pub fn named(text: &str) -> Result<Self, String> {
        if text.contains(char::is_control) {
            return Err("the location holds control characters.".to_owned());
        }
        let Some(path) = local_directory(text).map_err(|error| error.message)? else {
            return Ok(Self::Bucket(text.trim_end_matches('/').to_owned()));
        };
        if !path.is_absolute() {
            return Err(format!(
                "'{}' is neither an absolute path on the server's machine nor s3://BUCKET/PREFIX.",
                path.display()
            ));
        }
        if path.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(format!("'{}' holds '..'; write the path without it.", path.display()));
        }
        Ok(Self::Directory(path.components().collect()))
    }

    /// The place of a location in the catalog: a path relative to the data directory or absolute,
    /// or a URL.
    pub(crate) fn of(location: &str, data_dir: &Path) -> Self {
        if location.starts_with(BUCKET) {
            return Self::Bucket(location.to_owned());
        }
        // `join` keeps an absolute location as it is.
        Self::Directory(data_dir.join(location))
    }

    /// The place of this name below it.
    pub(crate) fn below(&self, name: &str) -> Self {
        match self {
            Self::Directory(path) => Self::Directory(path.join(name)),
            Self::Bucket(url) => Self::Bucket(format!("{url}/{name}")),
        }
    }

    /// The directory, where it is one.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Bucket(_) => None,
        }
    }

    /// The storage there, with its deadlines. Nothing is asked of a bucket yet.
    pub fn open(&self, options: &StorageOptions) -> Result<Arc<dyn Storage>, StorageError> {
        match self {
            Self::Directory(path) => open_directory(path, options),
            Self::Bucket(url) => open_storage(url, options),
        }
    }

    /// The same place without links on the way to it. One that does not answer stays as it is
    /// written.
    pub(crate) fn real(self, options: &StorageOptions) -> Self {
        match self {
            Self::Directory(path) => {
                Self::Directory(real_directory(&path, options).unwrap_or(path))
            }
            Self::Bucket(_) => self,
        }
    }

    /// What to look after when no repository is there.
    pub(crate) fn absence(&self) -> &'static str {
        match self {
            Self::Directory(_) => "it has no file config. Is its disk mounted?",
            Self::Bucket(_) => {
                "it has no object config. Are the bucket, the prefix and the endpoint \
                 (AWS_ENDPOINT_URL_S3) those of the vault?"
            }
        }
    }
}

impl fmt::Display for VaultPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Bucket(url) => url.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_people_name() {
        let directory = |path: &str| Ok(VaultPlace::Directory(path.into()));
        let bucket = |url: &str| Ok(VaultPlace::Bucket(url.into()));
        for (text, place) in [
            ("/srv/vaults", directory("/srv/vaults")),
            ("/srv//vaults/./x/", directory("/srv/vaults/x")),
            ("file:///srv/my%20vaults", directory("/srv/my vaults")),
            ("s3://bucket", bucket("s3://bucket")),
            ("s3://bucket/", bucket("s3://bucket")),
            ("s3://bucket/a/b/", bucket("s3://bucket/a/b")),
        ] {
            assert_eq!(VaultPlace::named(text), place, "{text}");
        }
        for text in [
            "",
            "srv/vaults",
            "/srv/../etc",
            "s3://",
            "s3://b",
            "s3:bucket",
            "s3://bucket//a",
            "s3://bucket/../a",
            "s3://bucket/a\n",
            "s3://localhost:9000/bucket",
            "gs://bucket/a",
            "https://bucket/a",
            "file://host/a",
        ] {
            assert!(VaultPlace::named(text).is_err(), "{text}");
        }
        let error = VaultPlace::named("s3://key:hidden@bucket/a").unwrap_err();
        assert!(error.contains("AWS_ACCESS_KEY_ID") && !error.contains("hidden"), "{error}");
    }

    #[test]
    fn a_location_of_the_catalog_is_shown_as_it_can_be_named() {
        let data_dir = Path::new("/var/lib/provault");
        for (location, shown) in [
            ("vaults/a-01234567", "/var/lib/provault/vaults/a-01234567"),
            ("/srv/a", "/srv/a"),
            ("s3://bucket/a-01234567", "s3://bucket/a-01234567"),
        ] {
            let place = VaultPlace::of(location, data_dir);
            assert_eq!(place.to_string(), shown);
            assert_eq!(VaultPlace::named(shown), Ok(place), "a kit names it so");
        }
        let root = VaultPlace::named("s3://bucket").unwrap();
        assert_eq!(root.below("a").to_string(), "s3://bucket/a");
        assert_eq!(root.directory(), None);
        assert_eq!(VaultPlace::of("v", data_dir).below("a").to_string(), "/var/lib/provault/v/a");
    }

    #[test]
    fn the_same_place_behind_a_link() {
        let options = StorageOptions::default();
        let sandbox = tempfile::tempdir().unwrap();
        let (there, link) = (sandbox.path().join("there"), sandbox.path().join("link"));
        std::fs::create_dir(&there).unwrap();
        std::os::unix::fs::symlink(&there, &link).unwrap();
        let real = |path: PathBuf| VaultPlace::Directory(path).real(&options);
        assert_eq!(real(link), real(there));
        let bucket = VaultPlace::Bucket("s3://bucket/a".to_owned());
        assert_eq!(bucket.clone().real(&options), bucket);
    }
}

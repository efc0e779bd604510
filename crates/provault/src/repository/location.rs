//! Where a repository is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use provault_repository::{LocalStorage, Storage};

use super::failure::Failure;
use super::usage;

/// A place for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// A directory of this machine, absolute.
    Directory(PathBuf),
}

impl Location {
    /// From `--repo`, else the environment.
    pub(crate) fn of(option: Option<&str>) -> Result<Self, Failure> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let text = option
            .map(str::to_owned)
            .or_else(|| variable("PROVAULT_REPOSITORY"))
            .or_else(|| variable("RESTIC_REPOSITORY"))
            .ok_or_else(|| {
                usage("say where the repository is: --repo PATH, or PROVAULT_REPOSITORY")
            })?;
        Self::parse(&text)
    }

    /// A path, or a URL of a kind that we know.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let path = match text.split_once(':') {
            Some(("local", path)) => path,
            Some(("file", path)) => path
                .strip_prefix("//")
                .filter(|path| path.starts_with('/'))
                .ok_or_else(|| usage(format!("'{text}' is no URL of a file: file:///PATH")))?,
            // A name with a colon in it is still a path when it is written as one.
            Some((scheme, _)) if !scheme.contains('/') && !scheme.is_empty() => {
                return Err(usage(format!(
                    "'{text}': there is no storage called '{scheme}'; use a path (./{text} if it is one)"
                )));
            }
            _ => text,
        };
        if path.is_empty() {
            return Err(usage("--repo is empty; say where the repository is"));
        }
        let path = std::path::absolute(path)
            .map_err(|error| usage(format!("'{path}' is no usable path: {error}")))?;
        Ok(Self::Directory(path))
    }

    /// The directory, for a repository in one.
    #[allow(clippy::unnecessary_wraps)] // Only one kind of place is a directory.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
        }
    }

    /// The storage of a repository that must be there already: nothing is made.
    pub(crate) fn existing(&self) -> Result<Arc<dyn Storage>, Failure> {
        match self {
            Self::Directory(path) => {
                if let Err(error) = std::fs::metadata(path.join("config")) {
                    let path = path.display();
                    if error.kind() != std::io::ErrorKind::NotFound {
                        return Err(Failure::Failed(format!("cannot open {path}: {error}")));
                    }
                    return Err(Failure::NoRepository(format!(
                        "there is no repository at {path}: its file 'config' is missing. Is the \
                         disk mounted? A new repository is made with 'provault repository init'"
                    )));
                }
                self.storage()
            }
        }
    }

    /// The storage, made where it is missing.
    pub(crate) fn storage(&self) -> Result<Arc<dyn Storage>, Failure> {
        match self {
            Self::Directory(path) => {
                let storage = LocalStorage::local(path)
                    .map_err(|error| Failure::Failed(error.to_string()))?;
                Ok(Arc::new(storage))
            }
        }
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
        }
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
        assert_eq!(directory("/srv/a:b"), Some("/srv/a:b".into()));
        assert_eq!(directory("./a:b"), Some(std::env::current_dir().unwrap().join("a:b")));
        for bad in ["", "file:relative", "file://host/path", "sftp:host:/repo", "a:b"] {
            let error = Location::parse(bad).unwrap_err();
            assert!(matches!(error, Failure::Usage(_)), "{bad}: {error}");
        }
    }
}

//! The server's own data directories, which are neither backed up nor restored into.
//!
//! They hold the vaults, the keys that open them and the catalog as it is being written. A backup
//! of them would put a vault into itself and hand its keys to whoever may restore it.
//!
//! A directory is known by its device and inode, so that a symbolic link or a bind mount is no way
//! around, and by its name, so that one that is not there yet is known too. Both are looked up
//! when they are needed: the directories may be made, or moved, after the driver.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use provault_domain::Invalid;

use crate::at::Stat;

/// Directories that nobody may back up or restore into.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reserved {
    directories: Vec<PathBuf>,
}

impl Reserved {
    pub const fn none() -> Self {
        Self { directories: Vec::new() }
    }

    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories }
    }

    pub fn is_empty(&self) -> bool {
        self.directories.is_empty()
    }

    /// The reserved directory that `path` is, or lies in. Nothing needs to be at `path` yet.
    pub fn holding(&self, path: &Path) -> Option<&Path> {
        if self.is_empty() {
            return None;
        }
        let real = resolve(path);
        let above: Vec<_> = real.ancestors().filter_map(identity).collect();
        let holds = |directory: &Path| {
            real.starts_with(resolve(directory))
                || identity(directory).is_some_and(|known| above.contains(&known))
        };
        self.directories.iter().map(PathBuf::as_path).find(|directory| holds(directory))
    }

    /// Refuses a source that is a reserved directory or lies in one.
    pub fn refuse_source(&self, path: &Path) -> Result<(), Invalid> {
        let Some(directory) = self.holding(path) else { return Ok(()) };
        Err(Invalid::new(
            "path",
            format!(
                "{} is, or lies in, this server's own data directory {}; backing that up would put the vaults and their keys into a vault. Choose a directory outside of it.",
                path.display(),
                directory.display()
            ),
        ))
    }

    /// Refuses a place to restore to, `member` of a request, that is a reserved directory or lies
    /// in one.
    pub fn refuse_target(&self, member: &str, path: &Path) -> Result<(), Invalid> {
        let Some(directory) = self.holding(path) else { return Ok(()) };
        Err(Invalid::new(
            member,
            format!(
                "{} is, or lies in, this server's own data directory {}, where restored files would get among its vaults and keys. Choose a targetPath outside of it.",
                path.display(),
                directory.display()
            ),
        ))
    }

    /// What to leave out of a tree whose root is really at `root`.
    pub fn fence(&self, root: &Path) -> Fence {
        let below = |directory: &PathBuf| {
            let real = resolve(directory);
            real.strip_prefix(root).ok().map(|path| path.as_os_str().as_bytes().to_vec())
        };
        Fence {
            inodes: self.directories.iter().filter_map(|d| identity(d)).collect(),
            paths: self.directories.iter().filter_map(below).collect(),
        }
    }
}

/// The reserved directories as a walk through a tree meets them.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    inodes: Vec<(u64, u64)>,
    /// Relative to the root of the tree.
    paths: Vec<Vec<u8>>,
}

impl Fence {
    /// Whether the directory `stat` at `path`, relative to the root, is a reserved one.
    pub fn encloses(&self, path: &[u8], stat: &Stat) -> bool {
        self.inodes.contains(&(stat.device, stat.inode)) || self.paths.iter().any(|p| p == path)
    }
}

/// Device and inode of what is at `path`, links followed.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// The path without symbolic links, as far as it exists.
fn resolve(path: &Path) -> PathBuf {
    // Only an empty path and a working directory that is gone have no absolute form.
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for ancestor in whole.ancestors() {
        if let Ok(mut real) = ancestor.canonicalize() {
            real.extend(whole.strip_prefix(ancestor).into_iter().flatten());
            return real;
        }
    }
    whole
}

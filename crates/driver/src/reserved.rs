//! The server's own data directories, which are neither backed up nor restored into.
//!
//! They hold the vaults, the keys that open them and the catalog as it is being written. A backup
//! of them would put a vault into itself and hand its keys to whoever may restore it.
//!
//! A directory is known by its device and inode, so that a symbolic link or a bind mount is no way
//! around, and by its name, so that one that is not there yet is known too. Both are looked up
//! when they are needed: the directories may be made, or moved, after the driver.
//!
//! Those in which vaults lie elsewhere are known by their names alone: one may be on a mount whose
//! server is gone, and a look at it would hang in backups that have nothing to do with it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use provault_domain::Invalid;

/// Directories that nobody may back up or restore into.
#[derive(Debug, Clone, Default)]
pub struct Reserved {
    directories: Vec<PathBuf>,
    /// Known by their names alone, without links; never looked at. Clones are the same list.
    names: Arc<RwLock<Vec<PathBuf>>>,
}

impl Reserved {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reserves directories, which need not exist yet.
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, ..Self::default() }
    }

    /// Reserves more directories, which are not looked at.
    pub fn by_name(&self, names: Vec<PathBuf>) {
        let mut known = self.names.write().unwrap_or_else(PoisonError::into_inner);
        known.extend(names);
    }

    fn names(&self) -> RwLockReadGuard<'_, Vec<PathBuf>> {
        // It only grows: a panic elsewhere leaves nothing half done.
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.directories.is_empty() && self.names().is_empty()
    }

    /// The reserved directory that `path` is, or lies in. Nothing needs to be at `path` yet.
    pub fn holding(&self, path: &Path) -> Option<PathBuf> {
        if self.is_empty() {
            return None;
        }
        let real = resolve(path);
        let above: Vec<_> = real.ancestors().filter_map(identity).collect();
        let holds = |directory: &Path| {
            real.starts_with(resolve(directory))
                || identity(directory).is_some_and(|known| above.contains(&known))
        };
        let known = self.directories.iter().find(|known| holds(known)).cloned();
        known.or_else(|| self.names().iter().find(|name| real.starts_with(name)).cloned())
    }

    /// Whether the directory at `path`, which is written without links, is a reserved one.
    pub fn is(&self, path: &Path, found: &std::fs::Metadata) -> bool {
        let here = Some((found.dev(), found.ino()));
        self.names().iter().any(|name| name == path)
            || self.directories.iter().any(|known| known == path || identity(known) == here)
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

    /// Those that are known by device and inode as well.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// Those that are known by their names alone.
    pub fn named(&self) -> Vec<PathBuf> {
        self.names().clone()
    }
}

/// Device and inode of what is at `path`, links followed.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// The path without symbolic links, as far as it exists.
pub fn resolve(path: &Path) -> PathBuf {
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

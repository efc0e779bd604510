//! The server's own data directories, as a walk through a tree meets them.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use provault_driver::reserved::{Reserved, identity, resolve};

use crate::at::Stat;

/// The reserved directories as a walk through a tree meets them.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    inodes: Vec<(u64, u64)>,
    /// Relative to the root of the tree.
    paths: Vec<Vec<u8>>,
}

impl Fence {
    /// What to leave out of a tree whose root is really at `root`.
    pub fn of(reserved: &Reserved, root: &Path) -> Self {
        let below = |directory: &PathBuf| {
            let real = resolve(directory);
            real.strip_prefix(root).ok().map(|path| path.as_os_str().as_bytes().to_vec())
        };
        let named = |name: &PathBuf| {
            name.strip_prefix(root).ok().map(|path| path.as_os_str().as_bytes().to_vec())
        };
        let known = reserved.directories().iter().filter_map(below);
        Self {
            inodes: reserved.directories().iter().filter_map(|d| identity(d)).collect(),
            paths: known.chain(reserved.named().iter().filter_map(named)).collect(),
        }
    }

    /// Whether the directory `stat` at `path`, relative to the root, is a reserved one.
    pub fn encloses(&self, path: &[u8], stat: &Stat) -> bool {
        self.inodes.contains(&(stat.device, stat.inode)) || self.paths.iter().any(|p| p == path)
    }
}

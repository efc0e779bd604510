//! A place for one test.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A temporary directory that is removed with everything in it.
pub struct Sandbox(TempDir);

impl Sandbox {
    /// An empty place.
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("provault-e2e-").tempdir().unwrap();
        // The program works with real paths, and tests compare them as text.
        assert_eq!(directory.path().canonicalize().unwrap(), directory.path(), "TMPDIR is a link");
        Self(directory)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path of a directory in it that is made now.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Itself.
    pub fn root(&self) -> &Path {
        self.0.path()
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

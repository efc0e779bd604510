//! A read-only file system over the snapshots of a repository, by FUSE.
//!
//! Either one snapshot is the root, or all of them are there: `ids/` by id and `snapshots/` by
//! time, with `latest`. Beside each stored volume (`disk.volume/`) stands the volume as one file,
//! `disk.raw`, with its holes. Nothing is read before somebody asks for it; what was read is kept
//! in bounded caches. Every byte is verified; damage is an I/O error of the file that is hurt.
//!
//! The mount holds the repository's shared lock: a prune waits for it.

mod filesystem;
mod tree;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use provault_repository::{CancelFlag, Repository, Snapshot};

use filesystem::SnapshotFilesystem;
use tree::Tree;

/// How often a mount looks whether it is to end.
const LOOK_UP: Duration = Duration::from_millis(100);
/// Requests that are served at a time.
const THREADS: usize = 4;

/// What is mounted.
#[derive(Debug, Default)]
pub(crate) struct MountOptions {
    /// The snapshot that is the root; without one all are there.
    pub(crate) snapshot: Option<Snapshot>,
    /// Other users may look too, as far as the files' owners and modes let them.
    pub(crate) allow_other: bool,
}

/// Why nothing was mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// The repository could not be read.
    #[error(transparent)]
    Repository(#[from] provault_repository::Error),
    /// The place is not an empty directory.
    #[error("{0} is not an empty directory; what is in it would be hidden")]
    NotEmpty(PathBuf),
    /// The place cannot be looked at.
    #[error("{directory}: {error}")]
    Directory {
        /// The place.
        directory: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// The system refused.
    #[error(
        "cannot mount at {directory}: {error}; it takes /dev/fuse, and the program fusermount3 \
         (Debian's package fuse3) unless you are root"
    )]
    Refused {
        /// The place.
        directory: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

/// A mounted file system. It goes when this is dropped.
pub(crate) struct Mounted {
    directory: PathBuf,
    session: Option<BackgroundSession>,
}

/// Mounts snapshots at an empty directory.
pub(crate) fn mount(
    repository: &Repository,
    options: MountOptions,
    directory: &Path,
) -> Result<Mounted, MountError> {
    let trouble = |error| MountError::Directory { directory: directory.to_owned(), error };
    // A relative path would lead elsewhere once the mount is to go.
    let directory = directory.canonicalize().map_err(trouble)?;
    let mut entries = std::fs::read_dir(&directory).map_err(trouble)?;
    if entries.next().is_some() {
        return Err(MountError::NotEmpty(directory));
    }
    drop(entries);
    let tree = Tree::new(repository, options.snapshot)?;
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::FSName("provault".to_owned()),
        MountOption::Subtype("provault".to_owned()),
    ];
    if options.allow_other {
        // Without this everybody could read what was somebody's own.
        config.mount_options.push(MountOption::DefaultPermissions);
        config.acl = SessionACL::All;
    }
    config.n_threads = Some(THREADS);
    let session = fuser::spawn_mount(SnapshotFilesystem::new(tree), &directory, &config)
        .map_err(|error| MountError::Refused { directory: directory.clone(), error })?;
    Ok(Mounted { directory, session: Some(session) })
}

impl Mounted {
    /// Waits until it is unmounted from outside, or `cancel` is raised.
    pub(crate) fn wait(mut self, cancel: &CancelFlag) -> io::Result<()> {
        while let Some(session) = &self.session {
            if session.guard.is_finished() {
                return match self.session.take() {
                    Some(session) => session.join(),
                    None => Ok(()),
                };
            }
            if cancel.is_cancelled() {
                return self.unmount();
            }
            std::thread::sleep(LOOK_UP);
        }
        Ok(())
    }

    /// Unmounts it, also while it is in use: then it is out of sight at once.
    pub(crate) fn unmount(&mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        if session.guard.is_finished() {
            return session.join();
        }
        let detached = nix::mount::umount2(&self.directory, nix::mount::MntFlags::MNT_DETACH);
        if detached.is_err() {
            // Users other than root have a helper for it.
            let helper = Command::new("fusermount3").arg("-uz").arg(&self.directory).output()?;
            if !helper.status.success() {
                let said = String::from_utf8_lossy(&helper.stderr).into_owned();
                return Err(io::Error::other(format!("fusermount3 -uz: {}", said.trim())));
            }
        }
        // Its thread ends with the last open file, or with this process.
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            let directory = self.directory.display();
            tracing::warn!(%error, %directory, "cannot unmount; umount -l does it by hand");
        }
    }
}

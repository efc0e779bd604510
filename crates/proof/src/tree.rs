//! Walking a copy without leaving it.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::ProofError;

/// Whether a walk may make a directory of ours accessible that its owner locked himself out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locked {
    Refuse,
    Open,
}

/// Calls `visit` with everything below `root`, a directory before what is in it. Links are not
/// followed; another file system mounted below is an error before it is entered.
pub(crate) fn walk(
    root: &Path,
    locked: Locked,
    visit: &mut dyn FnMut(&Path, &Metadata) -> Result<(), ProofError>,
) -> Result<(), ProofError> {
    let device = directory(root)?.dev();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        for child in list(&path, locked)? {
            let metadata =
                fs::symlink_metadata(&child).map_err(ProofError::io("reading", &child))?;
            if metadata.dev() != device {
                return Err(ProofError::Mounted { path: child });
            }
            visit(&child, &metadata)?;
            if metadata.is_dir() {
                open.push(child);
            }
        }
    }
    Ok(())
}

/// The metadata of what has to be a directory itself, not a link to one.
pub(crate) fn directory(path: &Path) -> Result<Metadata, ProofError> {
    let metadata = fs::symlink_metadata(path).map_err(ProofError::io("opening", path))?;
    if metadata.is_dir() {
        Ok(metadata)
    } else {
        let error = io::Error::from(io::ErrorKind::NotADirectory);
        Err(ProofError::io("opening", path)(error))
    }
}

fn list(path: &Path, locked: Locked) -> Result<Vec<PathBuf>, ProofError> {
    let read = || -> io::Result<Vec<PathBuf>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect()
    };
    if locked == Locked::Open {
        unlock(path)?;
    }
    read().map_err(ProofError::io("listing", path))
}

/// Gives the owner every right to a directory, so that what is in it can be changed.
fn unlock(path: &Path) -> Result<(), ProofError> {
    let mode = directory(path)?.mode();
    if mode & 0o700 == 0o700 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode((mode & 0o7777) | 0o700))
        .map_err(ProofError::io("making writable", path))
}

/// Removes everything in `root` but `keep`, never following a link and never entering another
/// file system. Stops at the first thing that cannot be removed and names it.
pub(crate) fn empty(root: &Path, keep: Option<&Path>) -> Result<u64, ProofError> {
    let device = directory(root)?.dev();
    let mut removed = 0;
    // A directory is met twice: first to list it, then, when it is empty, to remove it.
    let mut todo = vec![(root.to_owned(), false)];
    while let Some((path, listed)) = todo.pop() {
        if listed {
            if path != root {
                fs::remove_dir(&path).map_err(ProofError::io("removing", &path))?;
                removed += 1;
            }
            continue;
        }
        todo.push((path.clone(), true));
        for child in list(&path, Locked::Open)? {
            if keep == Some(child.as_path()) {
                continue;
            }
            let metadata =
                fs::symlink_metadata(&child).map_err(ProofError::io("reading", &child))?;
            if metadata.dev() != device {
                return Err(ProofError::Mounted { path: child });
            }
            if metadata.is_dir() {
                todo.push((child, false));
            } else {
                fs::remove_file(&child).map_err(ProofError::io("removing", &child))?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

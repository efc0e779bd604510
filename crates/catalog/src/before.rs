//! The copy of a catalog from before its schema was changed: `catalog-before-NNNN.db` beside it, where
//! NNNN is the first version of the schema that it does not have.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::{CatalogError, Result};
use crate::pool::Catalog;

const PREFIX: &str = "catalog-before-";
const SUFFIX: &str = ".db";
/// Where a copy is made before it gets its name.
const UNFINISHED: &str = ".catalog-before.new";
/// Copies that are kept, the newest ones.
const KEPT: usize = 3;

/// A copy that is whole and on disk.
pub(crate) struct CopyBefore(PathBuf);

impl CopyBefore {
    pub(crate) fn place(&self) -> String {
        self.0.display().to_string()
    }
}

/// Copies the catalog at `file`, for its owner alone. Either there is a whole copy afterwards, or an error.
pub(crate) async fn copy(catalog: &Catalog, file: &Path, version: i64) -> Result<CopyBefore> {
    let target = file.with_file_name(format!("{PREFIX}{version:04}{SUFFIX}"));
    let refused = |error: &dyn std::fmt::Display| CatalogError::NoCopy {
        place: target.display().to_string(),
        message: error.to_string(),
    };
    let unfinished = file.with_file_name(UNFINISHED);
    let begun = unfinished.clone();
    // SQLite writes into an empty file that is there, and so with its mode.
    blocking(move || empty(&begun)).await.map_err(|error| refused(&error))?;
    let copied = catalog.copy_to(&unfinished).await;
    let (from, to) = (unfinished.clone(), target.clone());
    let settled = match copied {
        Ok(()) => blocking(move || settle(&from, &to)).await.map_err(|error| refused(&error)),
        Err(error) => Err(refused(&error)),
    };
    if let Err(error) = settled {
        // What is left of it would take the room that may be missing.
        let _ = blocking(move || fs::remove_file(unfinished)).await;
        return Err(error);
    }
    Ok(CopyBefore(target))
}

fn empty(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

/// Puts a copy in its place, on disk.
fn settle(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    fs::rename(from, to)?;
    match to.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => File::open(directory)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Removes the oldest copies beside the catalog at `file`. One that cannot be removed is told of and left.
pub(crate) fn keep_newest(file: Option<&Path>) {
    let Some(file) = file else { return };
    for path in copies(file).into_iter().rev().skip(KEPT) {
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "an old copy of the catalog is left");
        }
    }
}

/// The copies beside the catalog at `file`, the oldest first.
pub(crate) fn copies(file: &Path) -> Vec<PathBuf> {
    let directory = match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<(i64, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
            let digits = version.bytes().all(|byte| byte.is_ascii_digit());
            let version = version.parse().ok().filter(|_| digits)?;
            Some((version, entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

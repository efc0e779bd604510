//! `CATALOG_BACKUP`: a copy of the catalog as a snapshot in a vault.
//!
//! The copy is made by the database itself and is one consistent state. It lies in the snapshot as
//! `/provault-catalog/catalog.db`, so that stock restic restores it as any file, and it bears a tag
//! of its own, by which an import passes it by. What it holds of passwords and secrets is sealed
//! by keys that it does not hold.

use std::path::PathBuf;
use std::sync::Arc;

use provault_catalog::Catalog;
use provault_domain::care::CareReport;
use provault_repository::{
    BackupOptions, Metadata, Repository, RootComponent, Snapshot, SnapshotId,
};

use crate::care::{Done, Work};
use crate::care_report::count;
use crate::shared::{Shared, blocking};
use crate::{EngineError, Result};

/// Names the snapshots that hold the catalog.
pub(crate) const TAG: &str = "provault-catalog";
/// The directory in the snapshot.
const DIRECTORY: &str = "provault-catalog";
/// The file in it.
const FILE: &str = "catalog.db";
/// Copies that a vault keeps, the newest ones.
const KEPT: usize = 14;

/// Where copies lie on their way into a vault.
fn staging(shared: &Shared) -> PathBuf {
    shared.data_dir.join("catalog-copies")
}

/// Removes what a crash left of copies on their way.
pub(crate) async fn reap(shared: &Arc<Shared>) -> Result<()> {
    let directory = staging(shared);
    let removed = blocking(move || std::fs::remove_dir_all(directory)).await?;
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(EngineError::Refused(
            format!("old copies of the catalog cannot be removed: {error}"),
        )),
        _ => Ok(()),
    }
}

/// Stores a copy of the catalog in a vault, and forgets the oldest ones.
pub(crate) async fn back_up(work: &Work) -> Result<Done> {
    let shared = &work.shared;
    if work.vault.imported {
        return Err(EngineError::Refused(format!(
            "vault {} was imported, and nothing is added to somebody's repository without being \
             asked; copies of the catalog go into vaults that were made here.",
            work.vault.name
        )));
    }
    let repository = shared.repository(&work.vault).await?;
    let directory = staging(shared);
    let copy = directory.join(format!("{}.db", work.run.id));
    let made = {
        let directory = directory.clone();
        blocking(move || make_private(&directory)).await?
    };
    made.map_err(|error| EngineError::Refused(format!("{}: {error}", directory.display())))?;
    let copied = copy_and_store(work, &repository, &copy).await;
    let removed = blocking(move || std::fs::remove_file(&copy)).await?;
    let (snapshot, bytes) = copied?;
    if let Err(error) = removed {
        tracing::warn!(%error, "a copy of the catalog was left in the data directory");
    }
    let forgotten = forget_old(work, &repository).await?;
    let report = CareReport {
        clean: true,
        summary: format!("The catalog ({bytes} bytes) is stored as snapshot {snapshot}."),
        figures: [("bytes", bytes), ("forgotten", forgotten)]
            .into_iter()
            .map(|(name, n)| (name.to_owned(), n))
            .collect(),
        ..CareReport::default()
    };
    Ok((report, Vec::new()))
}

fn make_private(directory: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

async fn copy_and_store(
    work: &Work,
    repository: &Repository,
    copy: &std::path::Path,
) -> Result<(SnapshotId, u64)> {
    let shared = &work.shared;
    shared.catalog.copy_to(copy).await?;
    let options = BackupOptions {
        root_path: vec![RootComponent {
            name: DIRECTORY.as_bytes().to_vec(),
            metadata: Metadata { mode: 0o700, ..Metadata::default() },
        }],
        paths: vec![format!("/{DIRECTORY}")],
        hostname: shared.hostname.clone(),
        username: "provault".to_owned(),
        tags: vec![TAG.to_owned()],
        time: shared.now(),
        program_version: format!("provault {}", env!("CARGO_PKG_VERSION")),
        cancel: work.cancel_flag(),
        ..BackupOptions::default()
    };
    let (repository, copy) = (repository.clone(), copy.to_owned());
    let stored = blocking(move || {
        let size = std::fs::metadata(&copy).map_or(0, |meta| meta.len());
        let metadata = Metadata { mode: 0o600, size, ..Metadata::default() };
        let mut writer = repository.backup(options)?;
        writer.add_file(FILE.as_bytes(), &metadata, &mut || {
            Ok(Box::new(std::fs::File::open(&copy)?) as Box<dyn std::io::Read + Send>)
        })?;
        writer.finish(None).map(|committed| (committed.id, size))
    });
    stored.await?.map_err(|error| work.failed(error))
}

/// Forgets all copies but the newest; the next prune frees what they took.
async fn forget_old(work: &Work, repository: &Repository) -> Result<u64> {
    let repository = repository.clone();
    let forgotten = blocking(move || {
        let mut copies = copies_in(&repository)?;
        let old: Vec<SnapshotId> =
            copies.split_off(KEPT.min(copies.len())).iter().map(|s| s.id).collect();
        if !old.is_empty() {
            repository.forget(&old)?;
        }
        Ok(old.len() as u64)
    });
    let forgotten = forgotten.await?.map_err(|error| work.failed(error))?;
    if forgotten > 0 {
        tracing::info!(
            vault = work.vault.name,
            "{} of the catalog forgotten",
            count(forgotten, "old copy")
        );
    }
    Ok(forgotten)
}

/// The copies of the catalog that a repository holds, newest first.
pub(crate) fn copies_in(repository: &Repository) -> provault_repository::Result<Vec<Snapshot>> {
    let mut copies = repository.snapshots()?.snapshots;
    copies.retain(|snapshot| snapshot.has_tag(TAG));
    copies.reverse();
    Ok(copies)
}

/// Writes the catalog that a copy holds to `target`, which must not exist.
pub(crate) fn extract(
    repository: &Repository,
    copy: &Snapshot,
    target: &std::path::Path,
) -> provault_repository::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let reader = repository.reader()?;
    let entry = reader.entry(copy, format!("{DIRECTORY}/{FILE}").as_bytes())?;
    let sink_error = |source: std::io::Error| provault_repository::Error::Sink {
        path: target.display().to_string(),
        source: Arc::new(source),
    };
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
        .map_err(sink_error)?;
    reader.read_file(&entry, &mut |_, bytes| out.write_all(bytes))?;
    out.sync_all().map_err(sink_error)
}

/// Whether a catalog can be copied like this: one in a file of its own.
pub(crate) fn is_possible(catalog: &Catalog) -> bool {
    catalog.is_a_file()
}

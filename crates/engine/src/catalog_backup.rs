//! `CATALOG_BACKUP`: a copy of the catalog as a snapshot in a vault.
//!
//! The copy is made by the database itself and is one consistent state. It lies in the snapshot as
//! `/provault-catalog/catalog.db`, so that stock restic restores it as any file, and it bears a tag
//! of its own, by which an import passes it by. What it holds of passwords and secrets is sealed
//! by keys that it does not hold.

use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
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
/// Clocks differ by so much without any of them being wrong.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_hours(1);

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
    let forgotten = forget_old(work, &repository, snapshot).await?;
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

/// Whether something is dated so far after `now` that the clock it was made by was ahead.
pub(crate) fn is_ahead(time: Timestamp, now: Timestamp) -> bool {
    time.duration_since(now) > CLOCKS_DIFFER
}

/// Forgets all copies but the one that was just made and the newest others; the next prune frees
/// what they took.
async fn forget_old(work: &Work, repository: &Repository, made: SnapshotId) -> Result<u64> {
    let (repository, now) = (repository.clone(), work.shared.now());
    let forgotten = blocking(move || {
        let copies = copies_in(&repository)?;
        let old = old_ones(copies.iter().map(|copy| (copy.id, copy.time)).collect(), made, now);
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

/// Which copies are one too many. Copies of a clock that was ahead go first: they would be the
/// newest for as long as it was ahead, and every copy that is made meanwhile would go at once.
fn old_ones(
    mut copies: Vec<(SnapshotId, Timestamp)>,
    made: SnapshotId,
    now: Timestamp,
) -> Vec<SnapshotId> {
    copies.retain(|(id, _)| *id != made);
    copies.sort_by_key(|(id, time)| (is_ahead(*time, now), Reverse(*time), *id));
    copies.into_iter().skip(KEPT - 1).map(|(id, _)| id).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn copies(days: std::ops::Range<i64>) -> Vec<(SnapshotId, Timestamp)> {
        let copy = |day: i64| {
            let id = provault_repository::Id::hash(&day.to_le_bytes());
            (id, Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * day))
        };
        days.map(copy).collect()
    }

    fn ids(copies: &[(SnapshotId, Timestamp)]) -> Vec<SnapshotId> {
        let mut ids: Vec<_> = copies.iter().map(|(id, _)| *id).collect();
        ids.sort();
        ids
    }

    fn old(all: &[(SnapshotId, Timestamp)], made: (SnapshotId, Timestamp)) -> Vec<SnapshotId> {
        let mut old = old_ones(all.to_vec(), made.0, made.1);
        old.sort();
        old
    }

    #[test]
    fn the_oldest_copies_go() {
        let all = copies(1000..1020);
        assert_eq!(old(&all, all[19]), ids(&all[..6]));
        assert!(old(&all[..14], all[13]).is_empty());
    }

    #[test]
    fn copies_of_a_clock_that_was_ahead_go_before_those_of_a_right_one() {
        let mut all = copies(5000..5014);
        let made = copies(1000..1001)[0];
        all.push(made);
        assert_eq!(old(&all, made), ids(&all[..1]), "never the copy that was just made");
        all.extend(copies(990..1000));
        assert_eq!(
            old(&all, made),
            ids(&all[..11]),
            "the right ones stay, and the last of the others"
        );
        // By a clock that is behind, all others seem to be ahead.
        let made = copies(1..2)[0];
        let mut all = copies(1000..1014);
        all.push(made);
        assert_eq!(old(&all, made), ids(&all[..1]));
    }
}

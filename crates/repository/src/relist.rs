//! A prune beside a backup: the writer's side.
//!
//! A backup may find a chunk stored already, in a pack that nothing needs any more, and a prune may
//! take that pack out of the index before the backup commits. The prune does not delete it while
//! the backup's lock is there (see `prune`), but nobody who comes later would find it. So before a
//! snapshot is committed, and once more when it is there, the writer looks whether packs have left
//! the index since it began; this is rare, and only then does it go through the new snapshot's
//! trees. What they need and no index lists is listed again.

use std::collections::HashSet;

use crate::cancel::CancelFlag;
use crate::error::{Error, Result};
use crate::id::{Id, SnapshotId};
use crate::index::Location;
use crate::lock::JobGuard;
use crate::pack::{BlobKind, file_size};
use crate::refs::TreeRefs;
use crate::repository::{FileKind, Inner};

/// Makes sure that the index lists all that is needed below the tree `root`, which a snapshot of
/// this job is about to name.
pub(crate) fn before_commit(
    inner: &Inner,
    job: &JobGuard,
    root: &Id,
    cancel: &CancelFlag,
) -> Result<()> {
    inner.refresh_index()?;
    let left = |newest: u64| newest >= job.number();
    if !inner.index().departed.iter().any(|departed| left(departed.newest_job)) {
        return Ok(());
    }
    let packs = needed_packs(inner, root, cancel)?;
    if packs.is_empty() {
        return Ok(());
    }
    tracing::info!(packs = packs.len(), "listing packs again that a prune took out of the index");
    let mut again = Vec::new();
    for departed in &inner.index().departed {
        again.extend(departed.memory.packs(&packs));
    }
    again.sort_by_key(|pack| pack.id);
    again.dedup_by_key(|pack| pack.id);
    for pack in &again {
        let blobs: Vec<_> = pack.packed().collect();
        let name = FileKind::Pack.name(&pack.id);
        let lost = |why: &dyn std::fmt::Display| {
            Err(Error::LockLost(format!("{name}, which this job relied on, {why}")))
        };
        match inner.storage.size(&name) {
            Ok(size) if size == file_size(&blobs) => {}
            Ok(size) => return lost(&format_args!("has {size} bytes now")),
            Err(error) if error.is_not_found() => return lost(&"is gone"),
            Err(error) => return Err(error.into()),
        }
    }
    inner.list_again(job, &again)
}

/// Looks once more after the snapshot is there, for a prune may have begun in between. When the
/// lock was lost, others may have deleted what the snapshot needs, and it is taken back.
pub(crate) fn after_commit(
    inner: &Inner,
    job: &JobGuard,
    root: &Id,
    snapshot: &SnapshotId,
) -> Result<()> {
    let looked = before_commit(inner, job, root, &CancelFlag::new()).and_then(|()| job.holds());
    // It is not known to be whole, whatever the error is.
    if looked.is_err() {
        inner.storage.delete(&FileKind::Snapshot.name(snapshot))?;
    }
    looked
}

/// The packs that are in no index any more and hold something that is needed below the tree.
fn needed_packs(inner: &Inner, root: &Id, cancel: &CancelFlag) -> Result<HashSet<Id>> {
    let mut packs = HashSet::new();
    let mut need = |kind: BlobKind, id: &Id| -> Result<()> {
        let index = inner.index();
        if index.memory.contains(kind, id) {
            return Ok(());
        }
        let places: Vec<Location> = index.places(kind, id);
        let place = places.first();
        let place = place.ok_or(Error::MissingBlob { kind, blob: *id, path: None })?;
        packs.insert(place.pack);
        Ok(())
    };
    let (mut seen, mut pending) = (HashSet::from([*root]), vec![*root]);
    while let Some(tree) = pending.pop() {
        cancel.check()?;
        need(BlobKind::Tree, &tree)?;
        let refs = TreeRefs::parse(&tree, &inner.read_blob(BlobKind::Tree, &tree)?)?;
        for blob in &refs.content {
            need(BlobKind::Data, blob)?;
        }
        pending.extend(refs.subtrees.into_iter().filter(|subtree| seen.insert(*subtree)));
    }
    Ok(packs)
}

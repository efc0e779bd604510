//! A snapshot whose writer died right after it had written it.
//!
//! A prune may take packs out of the index while a backup relies on them; the backup lists them
//! again, the last time when its snapshot is there (`relist`). One that dies before leaves a snapshot
//! of which parts are in no index, although nothing of it is lost. Whoever takes such a snapshot for
//! a backup that was completed does first what its writer did not come to.

use std::collections::HashSet;

use crate::cancel::CancelFlag;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::{IndexPack, Location};
use crate::lock::begin_job;
use crate::pack::BlobKind;
use crate::prune::survey::read_header;
use crate::refs::TreeRefs;
use crate::repository::{FileKind, Inner, Repository};
use crate::snapshot::Snapshot;

type Blobs = HashSet<(BlobKind, Id)>;

impl Repository {
    /// Makes sure that the index lists all that a snapshot needs; gives how many packs had to be
    /// listed again. Every directory of it is read. [`Error::is_damage`] tells that something is
    /// missing or damaged, and cannot be found in packs that no index lists either.
    pub fn list_needed(&self, snapshot: &Snapshot, cancel: &CancelFlag) -> Result<u64> {
        let inner = &self.inner;
        let job = begin_job(inner)?;
        inner.refresh_index()?;
        let (mut listed, mut unlisted) = (0, None);
        loop {
            let missing = missing_below(inner, &snapshot.tree, cancel)?;
            let Some((kind, blob)) = missing.iter().min() else { break };
            let packs = match unlisted.take() {
                Some(packs) => packs,
                None => unlisted_packs(inner, cancel)?,
            };
            let (mut found, mut rest) = (Vec::new(), Vec::new());
            for pack in packs {
                let has = has_whole(inner, &pack, &missing)?;
                if has { &mut found } else { &mut rest }.push(pack);
            }
            if found.is_empty() {
                // Only a lock that held makes it true.
                job.holds()?;
                return Err(Error::MissingBlob { kind: *kind, blob: *blob, path: None });
            }
            tracing::info!(packs = found.len(), snapshot = %snapshot.id, "listing packs again");
            job.settled()?;
            inner.list_again(&job, &found)?;
            listed += found.len() as u64;
            unlisted = Some(rest);
        }
        job.settled()?;
        Ok(listed)
    }
}

/// What is needed below a tree, as far as its trees can be found, and in no index.
fn missing_below(inner: &Inner, root: &Id, cancel: &CancelFlag) -> Result<Blobs> {
    let mut missing = Blobs::new();
    let (mut seen, mut pending) = (HashSet::from([*root]), vec![*root]);
    while let Some(tree) = pending.pop() {
        cancel.check()?;
        if !inner.index().memory.contains(BlobKind::Tree, &tree) {
            missing.insert((BlobKind::Tree, tree));
            continue;
        }
        let refs = TreeRefs::parse(&tree, &inner.read_blob(BlobKind::Tree, &tree)?)?;
        let index = inner.index();
        for blob in refs.content {
            if !index.memory.contains(BlobKind::Data, &blob) {
                missing.insert((BlobKind::Data, blob));
            }
        }
        pending.extend(refs.subtrees.into_iter().filter(|subtree| seen.insert(*subtree)));
    }
    Ok(missing)
}

/// What the packs hold that no index lists, by their own headers.
fn unlisted_packs(inner: &Inner, cancel: &CancelFlag) -> Result<Vec<IndexPack>> {
    let listed: HashSet<Id> = inner.index().memory.pack_ids().iter().copied().collect();
    let mut found = Vec::new();
    for (id, size) in inner.list(FileKind::Pack)? {
        if listed.contains(&id) {
            continue;
        }
        cancel.check()?;
        match read_header(inner, &id, size) {
            Ok(pack) => found.push(pack),
            Err(Error::Storage(error)) if error.is_not_found() => {}
            Err(error) if error.is_damage() => {
                tracing::warn!(%error, "a pack that no index lists is not readable");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Whether a pack has something that is missing, and all that it has of it is whole.
fn has_whole(inner: &Inner, pack: &IndexPack, missing: &Blobs) -> Result<bool> {
    let mut has = false;
    for blob in pack.packed().filter(|blob| missing.contains(&(blob.kind, blob.id))) {
        match inner.load_from(&Location { pack: pack.id, blob }) {
            Ok(_) => has = true,
            Err(error) if error.is_damage() => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(has)
}

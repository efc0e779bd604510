//! Reading packs one by one, to see that they are whole: what rotating verification is made of.
//!
//! Which pack is read when, and what was found earlier, is the caller's to know; here each pack is
//! read to its last byte and every blob in it opened. Memory is that of one pack.
//!
//! No lock is taken, so that verification holds up nobody, not even a prune: a pack that is gone
//! is damage only if an index lists it still, and whoever prunes takes it from the index first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::Location;
use crate::limits;
use crate::opener::BlobOpener;
use crate::pack;
use crate::repository::{FileKind, Inner, Repository};

/// What reading a pack showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackVerdict {
    /// Every byte of it is as it was written.
    Whole {
        /// Its size in bytes.
        bytes: u64,
    },
    /// It is not, or it is missing though an index lists it.
    Damaged {
        /// Bytes that could be read.
        bytes: u64,
        /// What is wrong.
        reason: String,
    },
    /// No index lists it any more: a prune dropped it.
    Dropped,
}

/// Reads packs.
pub struct Verifier {
    inner: Arc<Inner>,
}

impl Repository {
    /// Brings the index up to date, for reading packs.
    pub fn verifier(&self) -> Result<Verifier> {
        self.inner.refresh_index()?;
        Ok(Verifier { inner: Arc::clone(&self.inner) })
    }
}

impl Verifier {
    /// Every pack that an index lists, with its size in bytes; 0 for one that is missing.
    pub fn packs(&self) -> Result<Vec<(Id, u64)>> {
        let stored: HashMap<Id, u64> = self.inner.list(FileKind::Pack)?.into_iter().collect();
        // The index once more, behind the listing: what a prune took away in between is in neither.
        self.inner.refresh_index()?;
        let index = self.inner.index();
        let listed: HashSet<Id> = index.memory.pack_ids().iter().copied().collect();
        let mut packs: Vec<_> =
            listed.into_iter().map(|id| (id, stored.get(&id).copied().unwrap_or(0))).collect();
        packs.sort_unstable();
        Ok(packs)
    }

    /// Reads one pack to its last byte. What the disk cannot read is damaged. An error means that
    /// the storage could not be asked, and says nothing about the pack.
    pub fn verify(&self, id: Id) -> Result<PackVerdict> {
        let damaged = |bytes, reason: String| Ok(PackVerdict::Damaged { bytes, reason });
        let Some(size) = self.foretold(&id)? else { return Ok(PackVerdict::Dropped) };
        let file = match limits::get_pack(self.inner.storage.as_ref(), &id, size) {
            Ok(file) => file,
            Err(Error::Storage(error)) if error.is_not_found() => {
                self.inner.refresh_index()?;
                return if self.inner.index().memory.pack_size(&id).is_some() {
                    damaged(0, "the pack file is gone".to_owned())
                } else {
                    Ok(PackVerdict::Dropped)
                };
            }
            Err(Error::DamagedFile { reason, .. }) => return damaged(0, reason),
            // A disk that cannot read it does not get better by asking for ever.
            Err(Error::Storage(error)) if error.is_unreadable() => {
                return damaged(0, error.to_string());
            }
            Err(error) => return Err(error),
        };
        let bytes = file.len() as u64;
        if Id::hash(&file) != id {
            return damaged(bytes, "its content does not match its name".to_owned());
        }
        let header = match pack::parse(&self.inner.key, &file) {
            Ok(header) => header,
            Err(reason) => return damaged(bytes, reason),
        };
        let mut opener = BlobOpener::new()?;
        for blob in header {
            let start = blob.offset as usize;
            let Some(sealed) = file.get(start..start + blob.length as usize) else {
                return damaged(bytes, format!("blob {} lies outside of it", blob.id));
            };
            let place = Location { pack: id, blob };
            match opener.open(&self.inner.key, &place, sealed).map(drop) {
                Err(error) if error.is_damage() => return damaged(bytes, error.to_string()),
                other => other?,
            }
        }
        Ok(PackVerdict::Whole { bytes })
    }

    /// What a pack has to have by the index, in bytes; nothing if no index lists it.
    fn foretold(&self, id: &Id) -> Result<Option<u64>> {
        let known = || self.inner.index().memory.pack_size(id);
        if let Some(size) = known() {
            return Ok(Some(size));
        }
        // It may be newer than what we know.
        self.inner.refresh_index()?;
        Ok(known())
    }
}

impl Repository {
    /// Ids of all snapshots, without reading them. [`Error::NotARepository`] where the place is
    /// empty: a disk that is not mounted must not look like a vault that lost everything.
    pub fn snapshot_ids(&self) -> Result<HashSet<Id>> {
        let there = |inner: &Inner| inner.storage.exists("config");
        if !there(&self.inner)? {
            return Err(Error::NotARepository);
        }
        let ids = self.inner.list(FileKind::Snapshot)?.into_iter().map(|(id, _)| id).collect();
        // It may have been taken away while it was listed.
        if there(&self.inner)? { Ok(ids) } else { Err(Error::NotARepository) }
    }
}

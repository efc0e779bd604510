//! What a check does with index files: can they be read, and do they agree with each other?

use std::collections::HashSet;
use std::hash::BuildHasher as _;

use super::Check;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::IndexPack;
use crate::pack::{BlobKind, PackedBlob, file_size};
use crate::repository::FileKind;

/// How an index file lists a pack.
#[derive(Clone, Copy)]
pub(super) struct Listing {
    /// The size that the pack has by it, in bytes.
    pub(super) size: u64,
    /// Number of blobs.
    pub(super) blobs: usize,
    /// Stands for all that it says of them. It is made with a key of this process, so that nobody
    /// can write two that are the same and yet not.
    digest: u64,
    /// Which of the index files that were read it is.
    file: usize,
}

impl Check<'_> {
    pub(super) fn indexes(&mut self) -> Result<()> {
        let mut seen = HashSet::new();
        // A prune replaces index files: the new one is there before the old one goes.
        for _ in 0..20 {
            if self.index_files(&mut seen)? {
                break;
            }
        }
        self.report.packs = self.packs.len() as u64;
        self.report.blobs = self.index.len() as u64;
        Ok(())
    }

    /// Reads the index files that were not read yet; returns whether all that were listed were there.
    fn index_files(&mut self, seen: &mut HashSet<Id>) -> Result<bool> {
        let mut all_there = true;
        for (id, _) in self.inner.list(FileKind::Index)? {
            self.go_on()?;
            if seen.contains(&id) {
                continue;
            }
            match self.inner.load_index_file(&id) {
                Ok(file) => {
                    self.files.push(id);
                    for pack in &file.packs {
                        self.take_in(pack);
                    }
                    self.index.add(&file.packs);
                }
                Err(Error::Storage(error)) if error.is_not_found() => {
                    all_there = false;
                    continue;
                }
                Err(error) if error.is_outage() => return Err(error),
                Err(error) => self.problem(FileKind::Index.name(&id), error),
            }
            seen.insert(id);
        }
        Ok(all_there)
    }

    /// A pack may be listed again and again, but never otherwise: who reads the one listing would
    /// find other blobs in it than who reads the other, and the first that is read counts.
    fn take_in(&mut self, pack: &IndexPack) {
        let file = self.files.len() - 1;
        let mut blobs: Vec<PackedBlob> = pack.packed().collect();
        // Programs list them in any order.
        blobs.sort_unstable_by_key(|blob| (blob.offset, blob.length, blob.id));
        let said = |blob: &PackedBlob| {
            let tree = blob.kind == BlobKind::Tree;
            (blob.id.0, tree, blob.offset, blob.length, blob.uncompressed)
        };
        let digest = self.packs.hasher().hash_one(blobs.iter().map(said).collect::<Vec<_>>());
        let listing = Listing { size: file_size(&blobs), blobs: blobs.len(), digest, file };
        let first = *self.packs.entry(pack.id).or_insert(listing);
        if first.digest == digest {
            return;
        }
        let name = |file: usize| FileKind::Index.name(&self.files[file]);
        let (object, other) = (name(file), name(first.file));
        let where_else = if first.file == file { "elsewhere in itself" } else { other.as_str() };
        let reason =
            format!("it lists pack {} otherwise than it is listed in {where_else}", pack.id);
        self.problem(object.clone(), Error::damaged(object, reason));
        // Which of them lies shows in what lies where they say.
        self.suspects.insert(pack.id);
    }
}

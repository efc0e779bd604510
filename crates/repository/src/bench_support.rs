//! What the measurement of the index needs (`examples/index_scale.rs`); no part of the interface.

use crate::error::Result;
use crate::id::Id;
use crate::index::{IndexPack, to_json};
use crate::pack::{BlobKind, PackedBlob};
use crate::repository::{FileKind, Repository};

/// Entries of an index file, as other programs write them too.
const ENTRIES: u64 = 40_000;
/// Blobs of a pack: 16 MiB of half a mebibyte each.
const PACK: u64 = 32;

/// The id of the `number`-th blob.
fn blob_id(number: u64) -> Id {
    Id::hash(&number.to_le_bytes())
}

/// Writes index files that list `blobs` blobs in packs that do not exist.
pub fn fill_index(repository: &Repository, blobs: u64) -> Result<()> {
    let mut next = 0;
    while next < blobs {
        let end = (next + ENTRIES).min(blobs);
        let mut packs = Vec::new();
        while next < end {
            let last = (next + PACK).min(end);
            let listed: Vec<PackedBlob> = (next..last)
                .zip(0..)
                .map(|(number, at): (u64, u32)| PackedBlob {
                    id: blob_id(number),
                    kind: BlobKind::Data,
                    offset: at << 19,
                    length: 1 << 19,
                    uncompressed: Some(1 << 20),
                })
                .collect();
            packs.push(IndexPack::new(Id::hash(&last.to_be_bytes()), &listed));
            next = last;
        }
        repository
            .inner
            .save_unpacked(FileKind::Index, &to_json(&packs.iter().collect::<Vec<_>>())?)?;
    }
    Ok(())
}

/// Loads the index; how many blobs it lists.
pub fn load_index(repository: &Repository) -> Result<u64> {
    repository.inner.refresh_index()?;
    Ok(repository.inner.index().memory.len() as u64)
}

/// The ids of `count` blobs from the `first` on. They are hashes, so their order has no pattern. The
/// first ones are those that [`fill_index`] wrote.
pub fn ids(first: u64, count: u64) -> Vec<Id> {
    (first..first + count).map(blob_id).collect()
}

/// How many of these blobs the index lists.
pub fn look_up(repository: &Repository, ids: &[Id]) -> usize {
    let index = repository.inner.index();
    ids.iter().filter(|id| index.memory.contains(BlobKind::Data, id)).count()
}

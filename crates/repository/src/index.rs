//! The index: which blob lies where.
//!
//! On disk it is a set of JSON files. In memory it is sorted arrays of 48 bytes a blob, merged
//! like the levels of a log-structured tree, so that adding stays cheap and a lookup is a binary
//! search in a handful of arrays.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::{BlobKind, PackedBlob, file_size};

#[derive(Deserialize)]
pub(crate) struct IndexFile {
    #[serde(default)]
    pub(crate) packs: Vec<IndexPack>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct IndexPack {
    pub(crate) id: Id,
    pub(crate) blobs: Vec<IndexBlob>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct IndexBlob {
    id: Id,
    #[serde(rename = "type")]
    kind: BlobKind,
    offset: u32,
    length: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uncompressed_length: Option<u32>,
}

impl IndexPack {
    pub(crate) fn new(id: Id, blobs: &[PackedBlob]) -> Self {
        let blobs = blobs
            .iter()
            .map(|blob| IndexBlob {
                id: blob.id,
                kind: blob.kind,
                offset: blob.offset,
                length: blob.length,
                uncompressed_length: blob.uncompressed,
            })
            .collect();
        Self { id, blobs }
    }

    pub(crate) fn packed(&self) -> impl Iterator<Item = PackedBlob> {
        self.blobs.iter().map(|blob| PackedBlob {
            id: blob.id,
            kind: blob.kind,
            offset: blob.offset,
            length: blob.length,
            // Go leaves out a zero, so both mean "not compressed".
            uncompressed: blob.uncompressed_length.filter(|length| *length != 0),
        })
    }
}

/// The JSON of an index file that lists these packs.
pub(crate) fn to_json(packs: &[&IndexPack]) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    struct File<'a> {
        packs: &'a [&'a IndexPack],
    }
    serde_json::to_vec(&File { packs }).map_err(|error| Error::Internal(error.to_string()))
}

/// Where a blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack file.
    pub pack: Id,
    /// The place within it.
    pub blob: PackedBlob,
}

#[derive(Clone, Copy)]
struct Entry {
    id: Id,
    /// Number of the pack, shifted left by one; the lowest bit is set for a tree.
    pack_and_kind: u32,
    offset: u32,
    length: u32,
    /// Plaintext length, or 0 for a blob that is not compressed.
    uncompressed: u32,
}

impl Entry {
    fn kind(&self) -> BlobKind {
        if self.pack_and_kind & 1 == 0 { BlobKind::Data } else { BlobKind::Tree }
    }
}

/// The last number that a pack can have in an entry.
const MOST_PACKS: u32 = u32::MAX >> 1;

/// What is on its way into the index: of many files it is sorted once, when all are there.
#[derive(Default)]
pub(crate) struct Gathered {
    /// With the sizes of their files, in bytes.
    packs: Vec<(Id, u64)>,
    /// In no order; the numbers of packs are places in `packs`.
    entries: Vec<Entry>,
}

impl Gathered {
    /// Adds packs, which may be there already.
    pub(crate) fn add<'a>(&mut self, packs: impl IntoIterator<Item = &'a IndexPack>) {
        for pack in packs {
            let number = u32::try_from(self.packs.len()).ok();
            let Some(number) = number.filter(|number| *number <= MOST_PACKS) else { continue };
            let blobs: Vec<PackedBlob> = pack.packed().collect();
            self.packs.push((pack.id, file_size(&blobs)));
            self.entries.extend(blobs.iter().map(|blob| Entry {
                id: blob.id,
                pack_and_kind: number << 1 | u32::from(blob.kind == BlobKind::Tree),
                offset: blob.offset,
                length: blob.length,
                uncompressed: blob.uncompressed.unwrap_or(0),
            }));
        }
    }
}

/// The index in memory.
#[derive(Default)]
pub(crate) struct MemoryIndex {
    packs: Vec<Id>,
    /// Of each of them, what its file has to have, in bytes.
    sizes: Vec<u64>,
    numbers: HashMap<Id, u32>,
    /// Sorted by id, each at least twice as long as the next.
    levels: Vec<Vec<Entry>>,
}

impl MemoryIndex {
    /// Adds packs. A pack that is known already is not added twice.
    pub(crate) fn add<'a>(&mut self, packs: impl IntoIterator<Item = &'a IndexPack>) {
        let mut more = Gathered::default();
        more.add(packs);
        self.absorb(more);
    }

    /// Adds what was gathered.
    pub(crate) fn absorb(&mut self, gathered: Gathered) {
        let Gathered { packs, mut entries } = gathered;
        let numbers: Vec<Option<u32>> =
            packs.iter().map(|(pack, size)| self.number(pack, *size)).collect();
        entries.retain_mut(|entry| {
            let number = numbers[(entry.pack_and_kind >> 1) as usize];
            let kind = entry.pack_and_kind & 1;
            number.map(|number| entry.pack_and_kind = number << 1 | kind).is_some()
        });
        // In place: of millions, a second array would be as large as all the rest.
        entries.sort_unstable_by_key(|entry| entry.id);
        entries.shrink_to_fit();
        if entries.is_empty() {
            return;
        }
        let mut merged = false;
        while self.levels.last().is_some_and(|level| level.len() < 2 * entries.len()) {
            if let Some(level) = self.levels.pop() {
                entries.extend(level);
                merged = true;
            }
        }
        if merged {
            // A stable sort, which merges runs that are sorted already.
            entries.sort_by_key(|entry| entry.id);
            entries.shrink_to_fit();
        }
        self.levels.push(entries);
    }

    /// A number for a pack; none if it is known already.
    fn number(&mut self, pack: &Id, size: u64) -> Option<u32> {
        if self.numbers.contains_key(pack) {
            return None;
        }
        // 2^31 packs would be 30 PiB; beyond that, blobs are stored again rather than lost.
        let number = u32::try_from(self.packs.len()).ok().filter(|number| *number <= MOST_PACKS)?;
        self.packs.push(*pack);
        self.sizes.push(size);
        self.numbers.insert(*pack, number);
        Some(number)
    }

    fn find(&self, kind: BlobKind, id: &Id) -> impl Iterator<Item = &Entry> {
        let id = *id;
        self.levels.iter().flat_map(move |level| {
            let start = level.partition_point(|entry| entry.id < id);
            level[start..]
                .iter()
                .take_while(move |entry| entry.id == id)
                .filter(move |entry| entry.kind() == kind)
        })
    }

    pub(crate) fn contains(&self, kind: BlobKind, id: &Id) -> bool {
        self.find(kind, id).next().is_some()
    }

    /// Every place where the blob lies: usually one, more if two programs stored it at a time.
    pub(crate) fn locations(&self, kind: BlobKind, id: &Id) -> Vec<Location> {
        self.find(kind, id).map(|entry| self.location(entry)).collect()
    }

    /// One of the places where the blob lies.
    pub(crate) fn first(&self, kind: BlobKind, id: &Id) -> Option<Location> {
        self.find(kind, id).next().map(|entry| self.location(entry))
    }

    fn location(&self, entry: &Entry) -> Location {
        let blob = PackedBlob {
            id: entry.id,
            kind: entry.kind(),
            offset: entry.offset,
            length: entry.length,
            uncompressed: (entry.uncompressed != 0).then_some(entry.uncompressed),
        };
        Location { pack: self.packs[(entry.pack_and_kind >> 1) as usize], blob }
    }

    /// These packs, as far as they are known, with their blobs in the order of their places.
    pub(crate) fn packs(&self, packs: &HashSet<Id>) -> Vec<IndexPack> {
        let wanted: Vec<bool> = self.packs.iter().map(|pack| packs.contains(pack)).collect();
        self.listed(&wanted)
    }

    /// The packs that `other` does not have, with their blobs in the order of their places.
    pub(crate) fn packs_not_in(&self, other: &Self) -> Vec<IndexPack> {
        let gone: Vec<bool> =
            self.packs.iter().map(|pack| !other.numbers.contains_key(pack)).collect();
        self.listed(&gone)
    }

    fn listed(&self, wanted: &[bool]) -> Vec<IndexPack> {
        if !wanted.contains(&true) {
            return Vec::new();
        }
        let mut blobs: HashMap<u32, Vec<PackedBlob>> = HashMap::new();
        for entry in self.levels.iter().flatten() {
            let number = entry.pack_and_kind >> 1;
            if wanted[number as usize] {
                blobs.entry(number).or_default().push(self.location(entry).blob);
            }
        }
        let packs = blobs.into_iter().map(|(number, mut blobs)| {
            blobs.sort_by_key(|blob| blob.offset);
            IndexPack::new(self.packs[number as usize], &blobs)
        });
        packs.collect()
    }

    /// The blobs that lie in any of these packs.
    pub(crate) fn blobs_in(&self, packs: &HashSet<Id>) -> Vec<(BlobKind, Id)> {
        let entries = self.levels.iter().flatten();
        entries
            .filter(|entry| packs.contains(&self.packs[(entry.pack_and_kind >> 1) as usize]))
            .map(|entry| (entry.kind(), entry.id))
            .collect()
    }

    /// Every pack it knows.
    pub(crate) fn pack_ids(&self) -> &[Id] {
        &self.packs
    }

    /// What the file of a pack has to have, in bytes; nothing for one that it does not know.
    pub(crate) fn pack_size(&self, pack: &Id) -> Option<u64> {
        self.sizes.get(*self.numbers.get(pack)? as usize).copied()
    }

    /// Number of blobs, counting each place.
    pub(crate) fn len(&self) -> usize {
        self.levels.iter().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the plainest of models, whatever the order and size of the additions.
        #[test]
        fn finds_what_was_added(batches in prop::collection::vec(
            prop::collection::vec((0u16..500, any::<bool>()), 0..60), 0..30)) {
            let mut index = MemoryIndex::default();
            let mut model: Vec<(BlobKind, Id, Id, u32)> = Vec::new();
            for (number, batch) in batches.iter().enumerate() {
                let pack = Id::hash(&number.to_le_bytes());
                let blobs: Vec<_> = batch.iter().zip(0u32..).map(|((blob, tree), at)| PackedBlob {
                    id: Id::hash(&blob.to_le_bytes()),
                    kind: if *tree { BlobKind::Tree } else { BlobKind::Data },
                    offset: at * 100,
                    length: 100,
                    uncompressed: (at % 3 != 0).then_some(at + 1),
                }).collect();
                model.extend(blobs.iter().map(|blob| (blob.kind, blob.id, pack, blob.offset)));
                index.add([&IndexPack::new(pack, &blobs), &IndexPack::new(pack, &blobs)]);
                let known = (!blobs.is_empty()).then(|| file_size(&blobs));
                prop_assert_eq!(index.pack_size(&pack).filter(|_| !blobs.is_empty()), known);
            }
            prop_assert_eq!(index.len(), model.len());
            for blob in 0u16..500 {
                let id = Id::hash(&blob.to_le_bytes());
                for kind in [BlobKind::Data, BlobKind::Tree] {
                    let mut found: Vec<_> = index.locations(kind, &id).iter()
                        .map(|place| (place.pack, place.blob.offset)).collect();
                    let mut expected: Vec<_> = model.iter()
                        .filter(|entry| entry.0 == kind && entry.1 == id)
                        .map(|entry| (entry.2, entry.3)).collect();
                    found.sort();
                    expected.sort();
                    prop_assert_eq!(index.contains(kind, &id), !expected.is_empty());
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}

//! What a prune knows of packs and blobs: every entry of the index in 48 bytes, with a mark on those
//! that some snapshot needs.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::{IndexFile, IndexPack, Location};
use crate::pack::{BlobKind, PackedBlob, file_size};

/// One place of one blob.
#[derive(Clone, Copy)]
struct Row {
    id: Id,
    /// Number of the pack, shifted left by two; then whether the blob is needed (kept in the first
    /// row of a blob only); then whether it is a tree.
    bits: u32,
    offset: u32,
    length: u32,
    uncompressed: u32,
}

const NEEDED: u32 = 2;

impl Row {
    fn kind(&self) -> BlobKind {
        if self.bits & 1 == 0 { BlobKind::Data } else { BlobKind::Tree }
    }

    fn pack(&self) -> u32 {
        self.bits >> 2
    }

    fn key(&self) -> (Id, u32) {
        (self.id, self.bits & 1)
    }

    fn blob(&self) -> PackedBlob {
        PackedBlob {
            id: self.id,
            kind: self.kind(),
            offset: self.offset,
            length: self.length,
            uncompressed: (self.uncompressed != 0).then_some(self.uncompressed),
        }
    }
}

/// What is known of one pack.
#[derive(Debug, Clone)]
pub(crate) struct PackRow {
    pub(crate) id: Id,
    /// Size of the file in bytes, as the index foretells it.
    pub(crate) size: u64,
    pub(crate) blobs: u32,
    /// Blobs that are needed and for which this is the place to read them.
    pub(crate) needed: u32,
    /// Bytes of these, sealed, with their lines in the header.
    pub(crate) needed_bytes: u64,
    pub(crate) has_trees: bool,
    /// Whether its file is there, in the right size.
    pub(crate) present: bool,
    /// Whether it is out of the index, or about to be.
    pub(crate) dropped: bool,
}

/// An index file, and the packs it lists.
#[derive(Debug, Clone)]
pub(crate) struct IndexRow {
    pub(crate) id: Id,
    pub(crate) size: u64,
    pub(crate) packs: Vec<u32>,
}

/// A blob, named by the place of its first row. Not to be kept over an [`add`](Ledger::add).
pub(crate) type Slot = usize;

#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) packs: Vec<PackRow>,
    numbers: HashMap<Id, u32>,
    /// Sorted by blob.
    rows: Vec<Row>,
    pub(crate) files: Vec<IndexRow>,
}

impl Ledger {
    /// Takes in index files; a pack that is listed again is not dropped any more.
    pub(crate) fn add(&mut self, files: Vec<(Id, u64, IndexFile)>) -> Result<()> {
        let before = self.rows.len();
        for (id, size, file) in files {
            let mut packs = Vec::with_capacity(file.packs.len());
            for pack in &file.packs {
                packs.push(self.add_pack(pack)?);
            }
            self.files.push(IndexRow { id, size, packs });
        }
        if self.rows.len() > before {
            // A stable sort, which merges runs that are sorted already; the first row of a blob,
            // which bears its mark, stays the first.
            self.rows.sort_by_key(Row::key);
        }
        Ok(())
    }

    fn add_pack(&mut self, pack: &IndexPack) -> Result<u32> {
        if let Some(number) = self.numbers.get(&pack.id) {
            self.packs[*number as usize].dropped = false;
            return Ok(*number);
        }
        let number = u32::try_from(self.packs.len())
            .ok()
            .filter(|number| *number < 1 << 30)
            .ok_or_else(|| Error::Limit("a repository has at most 2^30 packs".to_owned()))?;
        let blobs: Vec<PackedBlob> = pack.packed().collect();
        self.packs.push(PackRow {
            id: pack.id,
            size: file_size(&blobs),
            blobs: u32::try_from(blobs.len()).unwrap_or(u32::MAX),
            needed: 0,
            needed_bytes: 0,
            has_trees: blobs.iter().any(|blob| blob.kind == BlobKind::Tree),
            present: true,
            dropped: false,
        });
        self.numbers.insert(pack.id, number);
        self.rows.extend(blobs.iter().map(|blob| Row {
            id: blob.id,
            bits: number << 2 | u32::from(blob.kind == BlobKind::Tree),
            offset: blob.offset,
            length: blob.length,
            uncompressed: blob.uncompressed.unwrap_or(0),
        }));
        Ok(number)
    }

    /// Number of the pack with this id.
    pub(crate) fn pack(&self, id: &Id) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    /// Number of places of blobs.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn find(&self, kind: BlobKind, id: &Id) -> Option<Slot> {
        let key = (*id, u32::from(kind == BlobKind::Tree));
        let slot = self.rows.partition_point(|row| row.key() < key);
        self.rows.get(slot).is_some_and(|row| row.key() == key).then_some(slot)
    }

    /// Marks a blob as needed; returns whether it was not before.
    pub(crate) fn need(&mut self, slot: Slot) -> bool {
        let fresh = self.rows[slot].bits & NEEDED == 0;
        self.rows[slot].bits |= NEEDED;
        fresh
    }

    fn same(&self, slot: Slot) -> impl Iterator<Item = &Row> {
        let key = self.rows[slot].key();
        self.rows[slot..].iter().take_while(move |row| row.key() == key)
    }

    /// Every place where the blob can be read, the best first.
    pub(crate) fn places(&self, slot: Slot) -> Vec<Location> {
        let mut places: Vec<_> = self
            .same(slot)
            .filter(|row| self.packs[row.pack() as usize].present)
            .map(|row| (self.packs[row.pack() as usize].dropped, row))
            .collect();
        places.sort_by_key(|(dropped, _)| *dropped);
        let pack = |row: &Row| self.packs[row.pack() as usize].id;
        places.into_iter().map(|(_, row)| Location { pack: pack(row), blob: row.blob() }).collect()
    }

    /// Whether the blob can be read from a pack that is not dropped.
    pub(crate) fn is_kept(&self, slot: Slot) -> bool {
        self.same(slot).any(|row| {
            let pack = &self.packs[row.pack() as usize];
            pack.present && !pack.dropped
        })
    }

    /// The dropped packs that hold a needed blob which no other pack has: one for each blob.
    pub(crate) fn dropped_but_needed(&self) -> HashSet<u32> {
        let mut packs = HashSet::new();
        for slot in self.needed() {
            if !self.is_kept(slot) {
                let row = self.same(slot).find(|row| self.packs[row.pack() as usize].present);
                packs.extend(row.map(Row::pack));
            }
        }
        packs
    }

    /// The blobs that are needed.
    pub(crate) fn needed(&self) -> impl Iterator<Item = Slot> {
        (0..self.rows.len()).filter(|slot| self.rows[*slot].bits & NEEDED != 0)
    }

    /// Needed blobs that no pack which is there has.
    pub(crate) fn lost(&self) -> impl Iterator<Item = (BlobKind, Id)> {
        let lost =
            |slot: &Slot| !self.same(*slot).any(|row| self.packs[row.pack() as usize].present);
        self.needed().filter(lost).map(|slot| (self.rows[slot].kind(), self.rows[slot].id))
    }

    /// Decides from which pack each needed blob is to be read, and counts. A blob that lies in
    /// several packs counts for the one that holds most of what is needed only there, and among
    /// those for the one that holds most of what is needed; so packs that were copied, in part or
    /// whole, by a prune that did not end become free, and what it copied is not copied again.
    pub(crate) fn count(&mut self) -> Vec<u32> {
        for pack in &mut self.packs {
            (pack.needed, pack.needed_bytes) = (0, 0);
        }
        // For each row, whether it is the place of its blob. In a word a row would be no more.
        let mut chosen = vec![u32::MAX; self.rows.len()];
        let mut several = Vec::new();
        for slot in 0..self.rows.len() {
            if self.rows[slot].bits & NEEDED == 0 {
                continue;
            }
            let mut readable = self
                .same(slot)
                .enumerate()
                .filter(|(_, row)| self.packs[row.pack() as usize].present);
            let Some((at, first)) = readable.next().map(|(at, row)| (at, *row)) else { continue };
            let alone = readable.next().is_none();
            drop(readable);
            if alone {
                chosen[slot + at] = first.pack();
                self.count_row(&first);
            } else {
                several.push(slot);
            }
        }
        let mut useful: Vec<u64> = self.packs.iter().map(|pack| pack.needed_bytes).collect();
        for slot in &several {
            for row in self.same(*slot) {
                useful[row.pack() as usize] += u64::from(row.length);
            }
        }
        for slot in several {
            let readable = |row: &&Row| self.packs[row.pack() as usize].present;
            let best = self.same(slot).enumerate().filter(|(_, row)| readable(row)).max_by_key(
                |(_, row)| {
                    let pack = &self.packs[row.pack() as usize];
                    let share = |bytes: u64| bytes * 1000 / pack.size.max(1);
                    // At last any order that is always the same.
                    (share(pack.needed_bytes), share(useful[row.pack() as usize]), pack.id)
                },
            );
            if let Some((at, row)) = best.map(|(at, row)| (at, *row)) {
                chosen[slot + at] = row.pack();
                self.count_row(&row);
            }
        }
        chosen
    }

    fn count_row(&mut self, row: &Row) {
        let line = if row.uncompressed == 0 { 37 } else { 41 };
        let pack = &mut self.packs[row.pack() as usize];
        pack.needed += 1;
        pack.needed_bytes += u64::from(row.length) + line;
    }

    /// Needed blobs in packs that are dropped, whose other copies are all older than the pack with
    /// the number `new`: the places of those, and the dropped packs. In the order of the packs.
    pub(crate) fn twins(&self, new: usize) -> Vec<(Vec<Location>, Vec<u32>)> {
        let mut twins = Vec::new();
        for slot in self.needed() {
            let (mut kept, mut dropped) = (Vec::new(), Vec::new());
            let mut fresh = false;
            for row in self.same(slot) {
                let pack = &self.packs[row.pack() as usize];
                if pack.present && pack.dropped {
                    dropped.push(row.pack());
                } else if pack.present {
                    fresh |= row.pack() as usize >= new;
                    kept.push(Location { pack: pack.id, blob: row.blob() });
                }
            }
            if !dropped.is_empty() && !fresh {
                twins.push((kept, dropped));
            }
        }
        twins.sort_by_key(|(kept, _)| kept.first().map(|place| (place.pack, place.blob.offset)));
        twins
    }

    /// The blobs of these packs that `chosen` (of [`count`](Self::count)) says are to be read
    /// there, by pack, in the order of their places.
    pub(crate) fn chosen_blobs(
        &self,
        chosen: &[u32],
        packs: &HashSet<u32>,
    ) -> HashMap<u32, Vec<PackedBlob>> {
        let mut found: HashMap<u32, Vec<PackedBlob>> = HashMap::new();
        for (row, chosen) in self.rows.iter().zip(chosen) {
            if *chosen == row.pack() && packs.contains(chosen) {
                found.entry(*chosen).or_default().push(row.blob());
            }
        }
        for blobs in found.values_mut() {
            blobs.sort_by_key(|blob| blob.offset);
        }
        found
    }

    /// The packs as an index file lists them.
    pub(crate) fn index_packs(&self, packs: &HashSet<u32>) -> Vec<IndexPack> {
        let mut blobs: HashMap<u32, Vec<PackedBlob>> = HashMap::new();
        for row in self.rows.iter().filter(|row| packs.contains(&row.pack())) {
            blobs.entry(row.pack()).or_default().push(row.blob());
        }
        let mut listed: Vec<_> = blobs
            .into_iter()
            .map(|(pack, mut blobs)| {
                blobs.sort_by_key(|blob| blob.offset);
                IndexPack::new(self.packs[pack as usize].id, &blobs)
            })
            .collect();
        listed.sort_by_key(|pack| pack.id);
        listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> Id {
        Id([byte; 32])
    }

    /// A pack of blobs of 1000 bytes, of which the one called 0 has ten times as many.
    fn pack(name: u8, blobs: &[u8]) -> IndexPack {
        let mut offset = 0;
        let blobs: Vec<PackedBlob> = blobs
            .iter()
            .map(|blob| {
                let length = if *blob == 0 { 10_000 } else { 1000 };
                offset += length;
                let kind = BlobKind::Data;
                PackedBlob {
                    id: id(*blob),
                    kind,
                    offset: offset - length,
                    length,
                    uncompressed: None,
                }
            })
            .collect();
        IndexPack::new(id(name), &blobs)
    }

    /// A prune died after it had copied 1 and 2 out of two packs: whatever the packs are called, the
    /// copy is kept and they are free.
    #[test]
    fn what_was_copied_is_not_copied_again() {
        for (copy, first, second) in [(1, 2, 3), (2, 1, 3), (3, 2, 1)] {
            let mut ledger = Ledger::default();
            let packs = vec![pack(first, &[0, 1]), pack(second, &[0, 2]), pack(copy, &[1, 2])];
            ledger.add(vec![(id(9), 0, IndexFile { packs })]).unwrap();
            for blob in [1, 2] {
                let slot = ledger.find(BlobKind::Data, &id(blob)).unwrap();
                ledger.need(slot);
            }
            ledger.count();
            let needed = |name| ledger.packs[ledger.pack(&id(name)).unwrap() as usize].needed;
            assert_eq!((needed(copy), needed(first), needed(second)), (2, 0, 0));
        }
    }
}

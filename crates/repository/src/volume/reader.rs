//! Reading a stored volume at random.

use std::io;
use std::sync::Arc;

use crate::entries::EntryKind;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::pack::BlobKind;
use crate::reader::Reader;
use crate::snapshot::Snapshot;

use super::base::Base;
use super::cache::Cache;
use super::layout::{self, GROUP_SEGMENTS, Geometry, VOLUME_SUFFIX};
use super::range::ByteRange;

/// How much a [`VolumeReader`] keeps in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeCacheLimits {
    /// Bytes of blocks.
    pub blocks: usize,
    /// Bytes of lists of blocks and segments.
    pub lists: usize,
}

impl Default for VolumeCacheLimits {
    fn default() -> Self {
        Self { blocks: 64 << 20, lists: 32 << 20 }
    }
}

/// A part of a stored volume that is all data or all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeExtent {
    /// Where it is.
    pub range: ByteRange,
    /// Zeros, for which nothing is stored.
    pub zero: bool,
}

/// A stored volume that is open for reading. Many threads may use it at a time. It holds the
/// repository's shared lock.
pub struct VolumeReader {
    reader: Arc<Reader>,
    path: Vec<u8>,
    base: Base,
    zeros: [Id; 2],
    /// Segments of a group.
    groups: Cache<u64, Vec<Id>>,
    /// Blocks of a segment, by its tree.
    segments: Cache<Id, Vec<Id>>,
    blocks: Cache<Id, Vec<u8>>,
}

impl VolumeReader {
    /// Opens the volume at `path`, such as `dev/vg0/disk.volume`, with the usual caches.
    pub fn open(reader: Arc<Reader>, snapshot: &Snapshot, path: &[u8]) -> Result<Self> {
        Self::open_with(reader, snapshot, path, VolumeCacheLimits::default())
    }

    /// Opens the volume at `path` with caches of the given sizes.
    pub fn open_with(
        reader: Arc<Reader>,
        snapshot: &Snapshot,
        path: &[u8],
        limits: VolumeCacheLimits,
    ) -> Result<Self> {
        let not_one = |reason: &str| Error::NotAVolume {
            path: Some(String::from_utf8_lossy(path).into_owned()),
            reason: reason.to_owned(),
        };
        let entry = reader.entry(snapshot, path)?;
        if entry.kind != EntryKind::Directory {
            return Err(not_one("it is no directory"));
        }
        let tree = entry.subtree.ok_or_else(|| not_one("it has no tree"))?;
        let base = Base::load(&reader.inner, &tree).map_err(|error| match error {
            Error::NotAVolume { reason, .. } => not_one(&reason),
            other => other.at_path(path),
        })?;
        let step = base.geometry.block_size as usize;
        let last = usize::try_from(base.geometry.size % step as u64).unwrap_or(0);
        let zeros = vec![0; step];
        Ok(Self {
            reader,
            path: path.to_vec(),
            base,
            zeros: [Id::hash(&zeros), Id::hash(&zeros[..last])],
            groups: Cache::new(limits.lists / 2),
            segments: Cache::new(limits.lists / 2),
            blocks: Cache::new(limits.blocks),
        })
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.base.geometry.size
    }

    /// Bytes in a block: what is read, verified and told apart as zeros at a time.
    pub fn block_size(&self) -> u32 {
        self.base.geometry.block_size
    }

    /// The id of a block, which is the SHA-256 of its bytes, by its number from the start.
    pub fn block_hash(&self, number: u64) -> Result<Id> {
        let step = u64::from(self.base.geometry.block_size);
        self.check_range(ByteRange { offset: number.saturating_mul(step), length: 1 })?;
        self.block_id(number)
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.base.geometry
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    pub(crate) fn group_ids(&self) -> &[Id] {
        &self.base.groups
    }

    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    /// Fills `buffer` with the bytes from `offset` on. All of it must lie within the volume.
    ///
    /// A damaged block is an error for reads that touch it, and for no others.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let range = ByteRange { offset, length: buffer.len() as u64 };
        self.check_range(range)?;
        let step = u64::from(self.base.geometry.block_size);
        let mut rest = buffer;
        let mut at = offset;
        while !rest.is_empty() {
            let number = at / step;
            // Both are less than a block.
            let skip = usize::try_from(at % step).unwrap_or(usize::MAX);
            let length = (self.base.geometry.block_length(number) - skip).min(rest.len());
            let (here, behind) = rest.split_at_mut(length);
            let id = self.block_id(number)?;
            if self.is_zero(&id) {
                here.fill(0);
            } else {
                here.copy_from_slice(&self.block(number, &id)?[skip..skip + length]);
            }
            rest = behind;
            at += length as u64;
        }
        Ok(())
    }

    /// Which parts of `range` hold data, and which are zeros, in ascending order and without gaps.
    /// No data is read for it.
    pub fn extents(&self, range: ByteRange) -> Result<Vec<VolumeExtent>> {
        self.extents_up_to(range, usize::MAX)
    }

    /// The first `most` extents of `range`.
    pub(crate) fn extents_up_to(&self, range: ByteRange, most: usize) -> Result<Vec<VolumeExtent>> {
        self.check_range(range)?;
        let step = u64::from(self.base.geometry.block_size);
        let per = self.base.geometry.segment_blocks();
        let mut extents: Vec<VolumeExtent> = Vec::new();
        let mut number = range.offset / step;
        while number * step < range.end() {
            let blocks = self.segment_blocks(number / per)?;
            let skip = usize::try_from(number % per).unwrap_or(usize::MAX);
            for id in blocks.get(skip..).unwrap_or_default() {
                let length = self.base.geometry.block_length(number) as u64;
                let block = ByteRange { offset: number * step, length };
                let Some(here) = block.intersect(range) else { return Ok(extents) };
                let zero = self.is_zero(id);
                let full = extents.len() == most;
                match extents.last_mut() {
                    Some(last) if last.zero == zero => last.range.length += here.length,
                    _ if full => return Ok(extents),
                    _ => extents.push(VolumeExtent { range: here, zero }),
                }
                number += 1;
            }
        }
        Ok(extents)
    }

    fn check_range(&self, range: ByteRange) -> Result<()> {
        if range.offset.checked_add(range.length).is_some_and(|end| end <= self.size()) {
            return Ok(());
        }
        Err(Error::Sink {
            path: String::from_utf8_lossy(&self.path).into_owned(),
            source: Arc::new(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{} bytes from {} are not within a volume of {} bytes",
                    range.length,
                    range.offset,
                    self.size()
                ),
            )),
        })
    }

    pub(crate) fn is_zero(&self, id: &Id) -> bool {
        self.zeros.contains(id)
    }

    /// The id of a block, by its number from the start of the volume.
    fn block_id(&self, number: u64) -> Result<Id> {
        let per = self.base.geometry.segment_blocks();
        let blocks = self.segment_blocks(number / per)?;
        let at = usize::try_from(number % per).unwrap_or(usize::MAX);
        // As many as the geometry says, which was seen when the segment was read.
        blocks.get(at).copied().ok_or_else(|| {
            Error::damaged(String::from_utf8_lossy(&self.path), "a segment lacks blocks")
        })
    }

    /// The blocks of a segment, through the cache.
    pub(crate) fn segment_blocks(&self, segment: u64) -> Result<Arc<Vec<Id>>> {
        let group = self.group_segments(segment / GROUP_SEGMENTS)?;
        let number = usize::try_from(segment % GROUP_SEGMENTS).unwrap_or(usize::MAX);
        let id = *group.get(number).ok_or_else(|| {
            Error::damaged(String::from_utf8_lossy(&self.path), "a group lacks segments")
        })?;
        // Equal segments share their tree, but a short one is never equal to a long one.
        if let Some(known) = self.segments.get(&id) {
            return Ok(known);
        }
        let tree = self.reader.tree(&id).map_err(|error| error.at_path(&self.path))?;
        let blocks = layout::parse_segment(&self.base.geometry, segment, id, tree)?;
        let bytes = size_of_val(blocks.as_slice()) + 128;
        let blocks = Arc::new(blocks);
        self.segments.insert(id, Arc::clone(&blocks), bytes);
        Ok(blocks)
    }

    /// The segments of a group, through the cache.
    pub(crate) fn group_segments(&self, group: u64) -> Result<Arc<Vec<Id>>> {
        if let Some(known) = self.groups.get(&group) {
            return Ok(known);
        }
        let id = usize::try_from(group).ok().and_then(|group| self.base.groups.get(group));
        let id = id.ok_or_else(|| {
            Error::damaged(String::from_utf8_lossy(&self.path), "the volume lacks groups")
        })?;
        let tree = self.reader.tree(id).map_err(|error| error.at_path(&self.path))?;
        let segments = layout::parse_group(&self.base.geometry, group, *id, &tree)?;
        let bytes = size_of_val(segments.as_slice()) + 128;
        let segments = Arc::new(segments);
        self.groups.insert(group, Arc::clone(&segments), bytes);
        Ok(segments)
    }

    /// The verified bytes of a block, through the cache.
    fn block(&self, number: u64, id: &Id) -> Result<Arc<Vec<u8>>> {
        if let Some(known) = self.blocks.get(id) {
            return Ok(known);
        }
        let at_path = |error: Error| error.at_path(&self.path);
        let plain = match self.reader.inner.read_blob(BlobKind::Data, id) {
            // The snapshot may be newer than this reader.
            Err(Error::MissingBlob { .. }) => {
                self.reader.inner.refresh_index()?;
                self.reader.inner.read_blob(BlobKind::Data, id).map_err(at_path)?
            }
            other => other.map_err(at_path)?,
        };
        self.check_block(number, plain.len())?;
        let bytes = plain.len() + 128;
        let plain = Arc::new(plain);
        self.blocks.insert(*id, Arc::clone(&plain), bytes);
        Ok(plain)
    }

    /// A block that is whole by its hash may still be of the wrong length for its place.
    pub(crate) fn check_block(&self, number: u64, length: usize) -> Result<()> {
        let expected = self.base.geometry.block_length(number);
        if length == expected {
            return Ok(());
        }
        let reason = format!("block {number} has {length} bytes, its place has {expected}");
        Err(Error::damaged(String::from_utf8_lossy(&self.path), reason))
    }
}

impl Reader {
    /// The paths of all volumes in a snapshot, sorted. Directories that cannot be read are left
    /// out with a warning.
    pub fn volumes(&self, snapshot: &Snapshot) -> Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        let mut pending = vec![(Vec::new(), snapshot.tree)];
        while let Some((path, id)) = pending.pop() {
            let tree = match self.tree(&id) {
                Ok(tree) => tree,
                Err(error) if error.is_damage() => {
                    let path = String::from_utf8_lossy(&path).into_owned();
                    tracing::warn!(%error, path, "not searched for volumes");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let described = tree.find(layout::DESCRIPTION).is_some_and(crate::node::Node::is_file);
            if described && path.ends_with(VOLUME_SUFFIX) {
                found.push(path);
                continue;
            }
            for (name, node) in &tree.nodes {
                if let Some(subtree) = node.subtree.filter(|_| node.kind == "dir") {
                    let below = if path.is_empty() {
                        name.clone()
                    } else {
                        [path.as_slice(), name].join(&b'/')
                    };
                    pending.push((below, subtree));
                }
            }
        }
        found.sort();
        Ok(found)
    }
}

//! How a volume lies in a snapshot: its sizes, its names, its trees.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::go_json;
use crate::id::Id;
use crate::node::{Metadata, Node};
use crate::tree::{Tree, TreeBuilder};

/// What the name of a volume's directory ends with.
pub const VOLUME_SUFFIX: &[u8] = b".volume";
/// Bytes in a block unless something else is asked for.
pub const DEFAULT_BLOCK_SIZE: u32 = 256 << 10;
/// The largest volume, in bytes: as many groups as their names can count.
pub const MAX_VOLUME: u64 = SEGMENT_SIZE * GROUP_SEGMENTS * 1_000_000;

/// Bytes in a segment.
pub(crate) const SEGMENT_SIZE: u64 = 64 << 20;
/// Segments in a group.
pub(crate) const GROUP_SEGMENTS: u64 = 128;
/// The file with the description.
pub(crate) const DESCRIPTION: &[u8] = b"volume.json";
/// The file with a segment's bytes.
const DATA: &[u8] = b"data";
/// The version of this layout.
const FORMAT: u32 = 1;

/// What `volume.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    provault_volume: u32,
    size: u64,
    block_size: u32,
    segment_size: u64,
    group_segments: u64,
}

/// The sizes of one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) size: u64,
    pub(crate) block_size: u32,
}

impl Geometry {
    pub(crate) fn new(size: u64, block_size: u32) -> Result<Self> {
        if !block_size.is_power_of_two() || !(64 << 10..=1 << 20).contains(&block_size) {
            return Err(Error::InvalidVolume(format!(
                "blocks of {block_size} bytes; a block is 64 KiB, 128 KiB, 256 KiB, 512 KiB or 1 MiB"
            )));
        }
        if size > MAX_VOLUME {
            return Err(Error::InvalidVolume(format!(
                "{size} bytes; a volume has at most {MAX_VOLUME}"
            )));
        }
        Ok(Self { size, block_size })
    }

    pub(crate) fn segments(&self) -> u64 {
        self.size.div_ceil(SEGMENT_SIZE)
    }

    pub(crate) fn groups(&self) -> u64 {
        self.segments().div_ceil(GROUP_SEGMENTS)
    }

    /// How many segments a group has; only the last may have fewer than the others.
    pub(crate) fn segments_in(&self, group: u64) -> usize {
        small(self.segments().saturating_sub(group * GROUP_SEGMENTS).min(GROUP_SEGMENTS))
    }

    pub(crate) fn segment_length(&self, segment: u64) -> u64 {
        self.size.saturating_sub(segment * SEGMENT_SIZE).min(SEGMENT_SIZE)
    }

    pub(crate) fn blocks_in(&self, segment: u64) -> usize {
        small(self.segment_length(segment).div_ceil(u64::from(self.block_size)))
    }

    /// Blocks in a segment that is not the last.
    pub(crate) fn segment_blocks(&self) -> u64 {
        SEGMENT_SIZE / u64::from(self.block_size)
    }

    /// Bytes in the block with this number, counted from the start of the volume; only the last
    /// may have fewer than the others.
    pub(crate) fn block_length(&self, block: u64) -> usize {
        let size = u64::from(self.block_size);
        small(self.size.saturating_sub(block * size).min(size))
    }

    /// The content of `volume.json`.
    pub(crate) fn describe(&self) -> Result<Vec<u8>> {
        let mut json = go_json::to_vec(&Description {
            provault_volume: FORMAT,
            size: self.size,
            block_size: self.block_size,
            segment_size: SEGMENT_SIZE,
            group_segments: GROUP_SEGMENTS,
        })?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads `volume.json`; the error says why it can't be this layout.
    pub(crate) fn parse(json: &[u8]) -> std::result::Result<Self, String> {
        let found: Description = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if found.provault_volume != FORMAT {
            return Err(format!(
                "its layout has version {}, this program knows version {FORMAT}",
                found.provault_volume
            ));
        }
        if (found.segment_size, found.group_segments) != (SEGMENT_SIZE, GROUP_SEGMENTS) {
            return Err("its segments and groups are not of version 1's sizes".to_owned());
        }
        Self::new(found.size, found.block_size).map_err(|error| error.to_string())
    }
}

/// A count that is bounded by the layout, so that it fits in memory.
fn small(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// The name of the directory of the volume `name`.
pub(crate) fn directory_name(name: &[u8]) -> Vec<u8> {
    [name, VOLUME_SUFFIX].concat()
}

fn group_name(group: u64) -> Vec<u8> {
    format!("group-{group:06}").into_bytes()
}

fn segment_name(segment: u64) -> Vec<u8> {
    format!("segment-{segment:03}").into_bytes()
}

/// The metadata of everything within a volume: always the same, so that equal content is an equal
/// tree.
fn inner_metadata(mode: u32) -> Metadata {
    Metadata { mode, ..Metadata::default() }
}

/// The tree of a segment: one file of these blocks. `zero` are the ids of blocks of zeros.
pub(crate) fn segment_tree(
    geometry: &Geometry,
    segment: u64,
    blocks: &[Id],
    zero: &dyn Fn(&Id) -> bool,
) -> Result<Vec<u8>> {
    let size = geometry.segment_length(segment);
    let step = u64::from(geometry.block_size);
    let mut extents: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    for id in blocks {
        let length = step.min(size - at);
        if !zero(id) {
            match extents.last_mut() {
                Some((offset, known)) if *offset + *known == at => *known += length,
                _ => extents.push((at, length)),
            }
        }
        at += length;
    }
    let extents = (extents != [(0, size)]).then_some(extents);
    let metadata = Metadata { links: 1, ..inner_metadata(0o600) };
    let mut builder = TreeBuilder::default();
    builder.add(DATA, &Node::file(DATA, &metadata, size, blocks.to_vec(), extents))?;
    builder.finish()
}

/// The blocks of a segment, from its tree.
pub(crate) fn parse_segment(
    geometry: &Geometry,
    segment: u64,
    id: Id,
    tree: Tree,
) -> Result<Vec<Id>> {
    let bad = |reason: &str| Error::damaged(format!("tree {id}"), reason);
    let node = tree
        .nodes
        .into_iter()
        .find(|(name, node)| name == DATA && node.is_file())
        .ok_or_else(|| bad("a volume's segment without its data"))?
        .1;
    let blocks = node.content.unwrap_or_default();
    if node.size != geometry.segment_length(segment) || blocks.len() != geometry.blocks_in(segment)
    {
        return Err(bad("a volume's segment of another size than the volume wants"));
    }
    Ok(blocks)
}

/// The tree of a group.
pub(crate) fn group_tree(segments: &[Id]) -> Result<Vec<u8>> {
    directories(segments, &segment_name)?.finish()
}

/// The segments' trees of a group, from the group's.
pub(crate) fn parse_group(geometry: &Geometry, group: u64, id: Id, tree: &Tree) -> Result<Vec<Id>> {
    subtrees(tree, geometry.segments_in(group), &segment_name)
        .ok_or_else(|| Error::damaged(format!("tree {id}"), "a volume's group lacks segments"))
}

/// The tree of a volume: its description and its groups.
pub(crate) fn volume_tree(description: Id, length: usize, groups: &[Id]) -> Result<Vec<u8>> {
    let mut builder = directories(groups, &group_name)?;
    let metadata = Metadata { links: 1, ..inner_metadata(0o600) };
    let node = Node::file(DESCRIPTION, &metadata, length as u64, vec![description], None);
    builder.add(DESCRIPTION, &node)?;
    builder.finish()
}

/// The groups' trees of a volume, from the volume's.
pub(crate) fn parse_volume(geometry: &Geometry, id: Id, tree: &Tree) -> Result<Vec<Id>> {
    subtrees(tree, small(geometry.groups()), &group_name)
        .ok_or_else(|| Error::damaged(format!("tree {id}"), "a volume lacks groups"))
}

/// Metadata of the directory of a volume itself.
pub(crate) fn directory_metadata() -> Metadata {
    inner_metadata(0o700)
}

fn directories(trees: &[Id], name: &dyn Fn(u64) -> Vec<u8>) -> Result<TreeBuilder> {
    let metadata = directory_metadata();
    let mut builder = TreeBuilder::default();
    for (number, tree) in (0..).zip(trees) {
        let name = name(number);
        builder.add(&name, &Node::directory(&name, &metadata, *tree))?;
    }
    Ok(builder)
}

fn subtrees(tree: &Tree, count: usize, name: &dyn Fn(u64) -> Vec<u8>) -> Option<Vec<Id>> {
    // No allocation by a number that the tree does not bear out.
    if tree.nodes.len() < count {
        return None;
    }
    (0..).take(count).map(|number| tree.find(&name(number))?.subtree).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_add_up_at_every_edge() {
        for size in [0, 1, 65_536, SEGMENT_SIZE - 1, SEGMENT_SIZE, SEGMENT_SIZE + 1, MAX_VOLUME] {
            let geometry = Geometry::new(size, 64 << 10).unwrap();
            if geometry.segments() > 2000 {
                assert_eq!(geometry.groups(), 1_000_000);
                continue;
            }
            let segments: Vec<_> = (0..geometry.segments()).collect();
            assert_eq!(segments.iter().map(|s| geometry.segment_length(*s)).sum::<u64>(), size);
            let blocks: usize = segments.iter().map(|s| geometry.blocks_in(*s)).sum();
            let bytes: usize = (0..blocks as u64).map(|b| geometry.block_length(b)).sum();
            assert_eq!(bytes as u64, size);
            let grouped: usize = (0..geometry.groups()).map(|g| geometry.segments_in(g)).sum();
            assert_eq!(grouped, segments.len());
            assert_eq!(Geometry::parse(&geometry.describe().unwrap()), Ok(geometry));
        }
    }

    #[test]
    fn descriptions_of_other_layouts_are_refused() {
        let good = r#"{"provault_volume":1,"size":5,"block_size":65536,"segment_size":67108864,"group_segments":128}"#;
        assert!(Geometry::parse(good.as_bytes()).is_ok());
        for (from, to) in [
            (":1,", ":2,"),
            ("65536", "65537"),
            ("65536", "4096"),
            ("65536", "0"),
            ("67108864", "1"),
            (":128", ":0"),
            (":5,", ":18446744073709551615,"),
            (":5,", ":-5,"),
        ] {
            assert!(Geometry::parse(good.replace(from, to).as_bytes()).is_err(), "{from} → {to}");
        }
    }
}

//! A way to make a huge volume quickly, for measurements only.

use crate::error::Result;
use crate::id::Id;
use crate::node::Node;
use crate::pack::BlobKind;
use crate::writer::SnapshotWriter;

use super::layout::{self, GROUP_SEGMENTS, Geometry};

impl SnapshotWriter {
    /// Adds a fully mapped volume that consists of a few blocks only, without reading it: the
    /// block number `n` is `block(pattern(n))`. Every list of blocks is written as it would be
    /// for a volume of distinct blocks, so what an increment of it costs is true. For measurements;
    /// there are `count` blocks, and `size` must be a whole number of blocks.
    #[doc(hidden)]
    pub fn add_periodic_volume(
        &mut self,
        name: &[u8],
        size: u64,
        (count, block): (usize, &dyn Fn(usize) -> Vec<u8>),
        pattern: &dyn Fn(u64) -> usize,
    ) -> Result<()> {
        self.attempt(|writer| {
            let name = layout::directory_name(name);
            writer.check_new_name(&name)?;
            let length = block(0).len();
            let geometry = Geometry::new(size, u32::try_from(length).unwrap_or(0))?;
            let mut worker = writer.blobs.worker()?;
            let mut store = |kind, plain: &[u8]| -> Result<Id> {
                Ok(writer.blobs.store(&mut worker, kind, plain)?.id)
            };
            let mut ids = Vec::new();
            for number in 0..count {
                ids.push(store(BlobKind::Data, &block(number))?);
            }
            let mut groups = Vec::new();
            for group in 0..geometry.groups() {
                let mut segments = Vec::new();
                for number in 0..geometry.segments_in(group) as u64 {
                    let segment = group * GROUP_SEGMENTS + number;
                    let first = segment * geometry.segment_blocks();
                    let count = geometry.blocks_in(segment) as u64;
                    let list: Vec<Id> = (first..first + count).map(|at| ids[pattern(at)]).collect();
                    let tree = layout::segment_tree(&geometry, segment, &list, &|_| false)?;
                    segments.push(store(BlobKind::Tree, &tree)?);
                }
                groups.push(store(BlobKind::Tree, &layout::group_tree(&segments)?)?);
            }
            let description = geometry.describe()?;
            let id = store(BlobKind::Data, &description)?;
            let tree = layout::volume_tree(id, description.len(), &groups)?;
            let tree = store(BlobKind::Tree, &tree)?;
            writer.add(&name, Node::directory(&name, &layout::directory_metadata(), tree))
        })
    }
}

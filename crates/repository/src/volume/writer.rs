//! Writing a volume into a snapshot.
//!
//! One code path serves all: a full backup is an increment in which every byte has changed. A
//! segment is the unit of work of a thread. What a thread holds at a time is one block, one list
//! of blocks and what the packer keeps, whatever the size of the volume.

use crate::backup::{BackupOptions, BackupStats, CommittedSnapshot};
use crate::error::{Error, Result};
use crate::id::{Id, SnapshotId};
use crate::node::{Node, check_name};
use crate::pack::BlobKind;
use crate::repository::Repository;
use crate::writer::SnapshotWriter;

use super::base::{Base, unusable};
use super::layout::{self, DEFAULT_BLOCK_SIZE, Geometry};
use super::plan::Plan;
use super::range::ByteRange;
use super::segments::{Failure, Job};
use super::source::VolumeSource;

/// What changed in a volume since a snapshot of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedBlocks {
    /// The snapshot that the list counts from. It must be the parent of the backup: a list that
    /// counts from anything else would leave out changes.
    pub base: SnapshotId,
    /// All ranges whose bytes may differ from the base's, in any order. Only these are read. What
    /// lies beyond the end of the base's volume need not be listed.
    pub ranges: Vec<ByteRange>,
}

/// How a volume is backed up.
#[derive(Debug, Clone, Default)]
pub struct VolumeOptions {
    /// Its name. In the snapshot it is the directory of this name with `.volume` behind it.
    pub name: Vec<u8>,
    /// Bytes in a block: a power of two from 64 KiB to 1 MiB. By default that of the same volume
    /// in the parent snapshot, or 256 KiB. Another one than the parent's stores all blocks anew.
    pub block_size: Option<u32>,
    /// What changed. Without it everything but holes is read, and known blocks are recognised by
    /// their hash.
    pub changed: Option<ChangedBlocks>,
    /// Threads that work at a time; by default one for each processor.
    pub threads: Option<usize>,
}

/// What became of a volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VolumeStats {
    /// Its size in bytes.
    pub size: u64,
    /// Bytes in a block.
    pub block_size: u32,
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Bytes of the base's blocks that were read, because a part of a block had changed.
    pub base_bytes_read: u64,
    /// Blocks looked at: read, put together, or known to be zeros.
    pub blocks: u64,
    /// Those of them that are zeros.
    pub blocks_zero: u64,
    /// Those of them that no snapshot had before.
    pub blocks_new: u64,
    /// Bytes of these in the repository.
    pub block_bytes_stored: u64,
    /// Bytes of new blocks and lists before compression.
    pub bytes_new: u64,
    /// Lists of blocks, segments and groups that no snapshot had before.
    pub lists_new: u64,
    /// Bytes of these in the repository.
    pub list_bytes_stored: u64,
    /// Segments that were taken over without a look into them.
    pub segments_kept: u64,
    /// Segments that were written, or found to be the same.
    pub segments_visited: u64,
}

impl VolumeStats {
    pub(crate) fn add(&mut self, other: &Self) {
        self.bytes_read += other.bytes_read;
        self.base_bytes_read += other.base_bytes_read;
        self.blocks += other.blocks;
        self.blocks_zero += other.blocks_zero;
        self.blocks_new += other.blocks_new;
        self.block_bytes_stored += other.block_bytes_stored;
        self.bytes_new += other.bytes_new;
        self.lists_new += other.lists_new;
        self.list_bytes_stored += other.list_bytes_stored;
        self.segments_visited += other.segments_visited;
    }
}

impl Repository {
    /// Backs up one volume as a snapshot of its own: see [`SnapshotWriter::add_volume`] and
    /// [`SnapshotWriter::finish`]. Nothing is left of it but packs that nothing refers to unless
    /// this returns well.
    pub fn backup_volume(
        &self,
        options: BackupOptions,
        volume: VolumeOptions,
        source: &dyn VolumeSource,
        record: Option<&[u8]>,
    ) -> Result<(CommittedSnapshot, VolumeStats)> {
        let mut writer = self.backup(options)?;
        let stats = writer.add_volume(volume, source)?;
        Ok((writer.finish(record)?, stats))
    }
}

impl SnapshotWriter {
    /// Adds a volume to the directory that is open now.
    ///
    /// [`Error::BaseUnusable`] says that the list of changes does not fit: then nothing was
    /// added, the writer stays usable, and the volume can be added without a list.
    pub fn add_volume(
        &mut self,
        volume: VolumeOptions,
        source: &dyn VolumeSource,
    ) -> Result<VolumeStats> {
        self.attempt(|writer| writer.volume(volume, source))
    }

    fn volume(&mut self, volume: VolumeOptions, source: &dyn VolumeSource) -> Result<VolumeStats> {
        check_name(&volume.name)?;
        let name = layout::directory_name(&volume.name);
        self.check_new_name(&name)?;
        let size = source.size();
        let base = self.base(&name, &volume)?;
        let block_size = volume
            .block_size
            .or(base.as_ref().map(|base| base.geometry.block_size))
            .unwrap_or(DEFAULT_BLOCK_SIZE);
        let geometry = Geometry::new(size, block_size)?;
        let plan = match (volume.changed, &base) {
            (Some(changed), Some(base)) => {
                if base.geometry.block_size != block_size {
                    return Err(Error::BaseUnusable {
                        base: changed.base,
                        reason: format!(
                            "its blocks have {} bytes, not {block_size}",
                            base.geometry.block_size
                        ),
                    });
                }
                Plan::changed(&geometry, &base.geometry, changed.ranges)?
            }
            _ => Plan::full(&geometry),
        };
        let base = base.filter(|_| plan.is_incremental());
        if base.is_some() {
            self.relies_on = self.options.parent;
        }
        let threads = volume.threads.unwrap_or_else(|| {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
        });

        let before = self.stats();
        let progress = self.options.progress.clone();
        let report = |done: &VolumeStats| {
            if let Some(progress) = &progress {
                progress(&with(before, done));
            }
        };
        let written = Job::new(
            &self.inner,
            (&self.blobs, &self.counts),
            source,
            geometry,
            base,
            plan,
            &self.options.cancel,
            &report,
        )
        .run(threads.clamp(1, 64));
        let (groups, mut stats) = match written {
            Ok(written) => written,
            Err(Failure::Source(error)) => return Err(self.source_error(&name, error)),
            Err(Failure::Repository(error)) => {
                let parent = self.options.parent.filter(|_| error.is_damage());
                return Err(parent.map_or(error.clone(), |parent| unusable(parent, error)));
            }
        };
        let description = geometry.describe()?;
        let mut worker = self.blobs.worker()?;
        let mut store = |kind, plain: &[u8]| -> Result<Id> {
            let stored = self.blobs.store(&mut worker, kind, plain)?;
            self.counts.add(kind, plain.len(), &stored);
            Ok(stored.id)
        };
        let id = store(BlobKind::Data, &description)?;
        let tree = layout::volume_tree(id, description.len(), &groups)?;
        let tree = store(BlobKind::Tree, &tree)?;
        self.add(&name, Node::directory(&name, &layout::directory_metadata(), tree))?;
        self.stats.bytes_read += stats.bytes_read;
        self.stats.bytes_total += size;
        self.stats.directories += 1;
        stats.size = size;
        stats.block_size = block_size;
        stats.segments_kept = geometry.segments() - stats.segments_visited;
        self.report();
        Ok(stats)
    }

    /// The same volume in the parent snapshot. With a list of changes it must be there.
    fn base(&mut self, name: &[u8], volume: &VolumeOptions) -> Result<Option<Base>> {
        let subtree = self.parent_node(name)?.and_then(|node| node.subtree);
        let Some(changed) = &volume.changed else {
            // Only the size of its blocks is of interest.
            return match subtree.map(|id| Base::load(&self.inner, &id)).transpose() {
                Err(error) if error.is_damage() || matches!(error, Error::NotAVolume { .. }) => {
                    tracing::warn!(%error, "the parent's volume is left out of account");
                    Ok(None)
                }
                other => other,
            };
        };
        let refuse = |reason: String| Err(Error::BaseUnusable { base: changed.base, reason });
        match self.options.parent {
            Some(parent) if parent == changed.base => {}
            Some(parent) => return refuse(format!("the parent of this backup is {parent}")),
            None => return refuse("this backup has no parent that can be read".to_owned()),
        }
        match subtree {
            None => refuse("it does not hold this volume".to_owned()),
            Some(id) => Base::load(&self.inner, &id)
                .map(Some)
                .map_err(|error| unusable(changed.base, error)),
        }
    }
}

/// The counts of a snapshot with those of a volume in it.
fn with(mut stats: BackupStats, volume: &VolumeStats) -> BackupStats {
    stats.bytes_read += volume.bytes_read;
    stats.bytes_added += volume.bytes_new;
    stats.bytes_stored += volume.block_bytes_stored + volume.list_bytes_stored;
    stats.data_blobs += volume.blocks_new;
    stats.tree_blobs += volume.lists_new;
    stats
}

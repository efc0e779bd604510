//! A driver's sink over a repository's snapshot writer.

use std::io::{self, Read};

use provault_driver::{
    BlockRange, BlockSource, FileOutcome, Leaves, Lineage, Metadata, NodeKind, Sink, SinkError,
    VolumeOutcome,
};
use provault_repository as repository;

use crate::volume::{Captured, stored as stored_range};

/// Hands what a driver captured to the repository.
pub(crate) struct SnapshotSink<'a> {
    writer: &'a mut repository::SnapshotWriter,
    /// Name of the resource's root in the snapshot.
    root: Vec<u8>,
    progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
    done: u64,
    /// The snapshot that the writer takes for its parent.
    parent: Option<repository::SnapshotId>,
    lineage: Lineage,
}

impl<'a> SnapshotSink<'a> {
    pub(crate) fn new(
        writer: &'a mut repository::SnapshotWriter,
        root: Vec<u8>,
        progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
    ) -> Self {
        Self { writer, root, progress, done: 0, parent: None, lineage: Lineage::default() }
    }

    /// Tells the driver what it may count from: `parent` is the snapshot of the lineage's base.
    pub(crate) fn after(self, parent: Option<repository::SnapshotId>, lineage: Lineage) -> Self {
        Self { parent, lineage, ..self }
    }
}

impl Sink for SnapshotSink<'_> {
    fn begin_dir(&mut self, name: &[u8], metadata: &Metadata) -> Result<(), SinkError> {
        let name = if name.is_empty() { &self.root } else { name };
        self.writer.begin_dir(name, &stored(metadata)).map_err(refused)
    }

    fn leaves(&mut self, leaves: &Leaves) -> Result<bool, SinkError> {
        let Leaves { fingerprint, newest, files, others, bytes } = *leaves;
        let newest = newest.into();
        let leaves = repository::Leaves { fingerprint, newest, files, others, bytes };
        self.writer.leaves(&leaves).map_err(refused)
    }

    fn doubt_leaves(&mut self) {
        self.writer.doubt_leaves();
    }

    fn end_dir(&mut self) -> Result<(), SinkError> {
        self.writer.end_dir().map_err(refused)
    }

    fn add_node(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        kind: &NodeKind,
    ) -> Result<(), SinkError> {
        let kind = match kind {
            NodeKind::Symlink { target } => {
                repository::NodeKind::Symlink { target: target.clone() }
            }
            NodeKind::BlockDevice { rdev } => repository::NodeKind::BlockDevice { device: *rdev },
            NodeKind::CharDevice { rdev } => repository::NodeKind::CharDevice { device: *rdev },
            NodeKind::Fifo => repository::NodeKind::Fifo,
            NodeKind::Socket => repository::NodeKind::Socket,
            NodeKind::Directory | NodeKind::File => {
                return Err(SinkError::Store(
                    "a driver handed over a directory or file as a node without content".into(),
                ));
            }
        };
        self.writer.add_node(name, &stored(metadata), &kind).map_err(refused)
    }

    fn add_file(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        open: &mut dyn FnMut() -> io::Result<Box<dyn Read + Send>>,
    ) -> Result<FileOutcome, SinkError> {
        let outcome = self.writer.add_file(name, &stored(metadata), open).map_err(refused)?;
        Ok(match outcome {
            repository::FileOutcome::Unchanged { .. } => FileOutcome::Unchanged,
            repository::FileOutcome::Stored { size, .. } => {
                self.done += size;
                (self.progress)(self.done, None);
                FileOutcome::Stored { bytes: size }
            }
        })
    }

    fn lineage(&self) -> Lineage {
        // A parent that has no name to be counted from is none.
        let base = self.lineage.base.clone().filter(|_| self.parent.is_some());
        Lineage { base, ..self.lineage.clone() }
    }

    fn add_volume(
        &mut self,
        name: &[u8],
        blocks: &dyn BlockSource,
        changed: Option<&[BlockRange]>,
    ) -> Result<VolumeOutcome, SinkError> {
        let source = Captured::new(blocks, self.progress);
        let whole = || repository::VolumeOptions { name: name.to_vec(), ..Default::default() };
        let mut outcome = VolumeOutcome::default();
        if let (Some(ranges), Some(base)) = (changed, self.parent) {
            let ranges = ranges.iter().copied().map(stored_range).collect();
            let changed = Some(repository::ChangedBlocks { base, ranges });
            match self.writer.add_volume(repository::VolumeOptions { changed, ..whole() }, &source)
            {
                Ok(stats) => {
                    outcome.bytes_read = stats.bytes_read;
                    outcome.incremental = true;
                    return Ok(outcome);
                }
                Err(error @ repository::Error::BaseUnusable { .. }) => {
                    outcome.full_because = Some(error.to_string());
                }
                Err(error) => return Err(refused(error)),
            }
        }
        outcome.bytes_read = self.writer.add_volume(whole(), &source).map_err(refused)?.bytes_read;
        Ok(outcome)
    }
}

fn refused(error: repository::Error) -> SinkError {
    match error {
        repository::Error::Cancelled => SinkError::Cancelled,
        repository::Error::SourceRead { source, .. } => {
            SinkError::Read(io::Error::new(source.kind(), source))
        }
        other => SinkError::Store(Box::new(other)),
    }
}

fn stored(metadata: &Metadata) -> repository::Metadata {
    repository::Metadata {
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        user: metadata.user.clone().unwrap_or_default(),
        group: metadata.group.clone().unwrap_or_default(),
        mtime: metadata.mtime.into(),
        // Access times would make every tree differ from the one before it.
        atime: metadata.mtime.into(),
        ctime: metadata.ctime.into(),
        inode: metadata.inode,
        device_id: metadata.device,
        size: metadata.size,
        links: metadata.links,
        extended_attributes: metadata
            .xattrs
            .iter()
            .map(|(name, value)| repository::ExtendedAttribute {
                name: name.clone(),
                value: value.clone(),
            })
            .collect(),
        data_extents: metadata.data_extents.clone(),
    }
}

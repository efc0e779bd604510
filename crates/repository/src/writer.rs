//! Writing one snapshot.

use std::io::{self, Read};
use std::sync::Arc;

use crate::blobs::{BlobWorker, BlobWriter};
use crate::cancel::CancelFlag;
use crate::chunker::ChunkBuffer;
use crate::error::{Error, Result};
use crate::go_json;
use crate::id::{Id, SnapshotId};
use crate::lock::{JobGuard, begin_job};
use crate::node::{Metadata, Node, NodeKind, check_name};
use crate::pack::BlobKind;
use crate::repository::{FileKind, Inner, Repository};
use crate::snapshot::{Snapshot, SnapshotFile};
use crate::tree::{Tree, TreeBuilder};

/// The directory at the root of a snapshot that holds what we record about it.
pub const RECORD_DIRECTORY: &[u8] = b".provault";
/// The recovery point's record, within [`RECORD_DIRECTORY`].
pub const RECORD_FILE: &[u8] = b"recovery-point.json";

/// A directory between the root of the snapshot and the content of the backup.
#[derive(Debug, Clone)]
pub struct RootComponent {
    /// Its name.
    pub name: Vec<u8>,
    /// Its metadata; that of the last component is the metadata of the backed-up directory.
    pub metadata: Metadata,
}

/// Called with the counts so far: after each file, and within large ones after each chunk.
pub type ProgressFn = dyn Fn(&BackupStats) + Send + Sync;

/// What a backup is to be.
#[derive(Clone, Default)]
pub struct BackupOptions {
    /// The snapshot to compare with: files that look unchanged since are not read. One that does
    /// not exist any more, or is damaged, costs time only.
    pub parent: Option<SnapshotId>,
    /// Where in the snapshot the content goes: `srv` and `app` for `/srv/app`, as restic does.
    pub root_path: Vec<RootComponent>,
    /// The backed-up paths, to be shown to people.
    pub paths: Vec<String>,
    /// Host of the data.
    pub hostname: String,
    /// User that made the backup.
    pub username: String,
    /// Tags, such as the job's id: see [`Repository::find_snapshot_by_tag`].
    pub tags: Vec<String>,
    /// When the backup was made.
    pub time: jiff::Timestamp,
    /// The program that makes it.
    pub program_version: String,
    /// Stops the backup.
    pub cancel: CancelFlag,
    /// Hears how it goes.
    pub progress: Option<Arc<ProgressFn>>,
}

impl std::fmt::Debug for BackupOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupOptions")
            .field("parent", &self.parent)
            .field("paths", &self.paths)
            .field("tags", &self.tags)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

/// What a backup did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackupStats {
    /// Files that the parent does not have.
    pub files_new: u64,
    /// Files that differ from the parent's.
    pub files_changed: u64,
    /// Files taken over from the parent without reading.
    pub files_unchanged: u64,
    /// Directories, those of the root path included.
    pub directories: u64,
    /// Links, devices, pipes and sockets.
    pub others: u64,
    /// Bytes of all files, read or taken over.
    pub bytes_total: u64,
    /// Bytes read from the source.
    pub bytes_read: u64,
    /// Bytes that no snapshot had before, uncompressed, trees included.
    pub bytes_added: u64,
    /// Bytes that these take in the repository, compressed and sealed.
    pub bytes_stored: u64,
    /// New chunks of files.
    pub data_blobs: u64,
    /// New trees.
    pub tree_blobs: u64,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOutcome {
    /// Taken over from the parent; it was not opened.
    Unchanged {
        /// Its size in bytes.
        size: u64,
    },
    /// Read and stored.
    Stored {
        /// Bytes read; other than the size in its metadata if it changed meanwhile. The snapshot
        /// records what was read.
        size: u64,
    },
}

/// A snapshot that is durably there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its root tree.
    pub tree: Id,
    /// What the backup did.
    pub stats: BackupStats,
}

/// Writes one snapshot, driven by a walker that goes through the source depth first.
///
/// Nothing is visible to others before [`finish`](Self::finish) returns. Dropping the writer
/// earlier leaves at most packs that nothing refers to.
///
/// [`Error::SourceRead`] and [`Error::InvalidName`] concern one node, which the snapshot then
/// lacks, and the walker may go on; after any other error the writer refuses to commit.
pub struct SnapshotWriter {
    inner: Arc<Inner>,
    options: BackupOptions,
    /// Directories that are open now, the snapshot's root first.
    frames: Vec<Frame>,
    blobs: BlobWriter,
    worker: BlobWorker,
    buffer: ChunkBuffer,
    stats: BackupStats,
    broken: Option<String>,
    /// Last, so that the lock goes after everything else.
    job: JobGuard,
}

struct Frame {
    name: Vec<u8>,
    metadata: Metadata,
    builder: TreeBuilder,
    /// The same directory in the parent snapshot.
    parent: Option<Tree>,
}

impl Repository {
    /// Begins a backup: takes the lock, reads what is new of the index, and opens the directories
    /// of the root path.
    pub fn backup(&self, options: BackupOptions) -> Result<SnapshotWriter> {
        if let Some(first) = options.root_path.first() {
            check_not_reserved(&first.name)?;
        }
        for component in &options.root_path {
            check_name(&component.name)?;
        }
        let job = begin_job(&self.inner)?;
        self.inner.refresh_index()?;
        let inner = Arc::clone(&self.inner);
        let blobs = BlobWriter::new(&inner, options.cancel.clone())?;
        let worker = blobs.worker()?;
        let mut writer = SnapshotWriter {
            inner,
            options,
            frames: Vec::new(),
            blobs,
            worker,
            buffer: ChunkBuffer::default(),
            stats: BackupStats::default(),
            broken: None,
            job,
        };
        let parent = writer.find_parent(self)?;
        writer.options.parent = parent.as_ref().map(|parent| parent.id);
        let parent = match parent {
            Some(parent) => writer.parent_tree(&parent.tree)?,
            None => None,
        };
        writer.open(Vec::new(), Metadata::default(), parent);
        for RootComponent { name, metadata } in writer.options.root_path.clone() {
            writer.enter(&name, &metadata)?;
        }
        Ok(writer)
    }
}

fn check_not_reserved(name: &[u8]) -> Result<()> {
    if name == RECORD_DIRECTORY {
        let name = String::from_utf8_lossy(name).into_owned();
        return Err(Error::InvalidName {
            name,
            reason: "this name at the root is kept for the recovery point's record",
        });
    }
    Ok(())
}

impl SnapshotWriter {
    /// Enters a directory.
    pub fn begin_dir(&mut self, name: &[u8], metadata: &Metadata) -> Result<()> {
        self.attempt(|writer| {
            writer.check_new_name(name)?;
            writer.enter(name, metadata)
        })
    }

    /// Leaves the directory entered last. An error tells of two nodes with the same name in it.
    pub fn end_dir(&mut self) -> Result<()> {
        self.attempt(|writer| {
            if writer.frames.len() <= writer.root_depth() {
                return Err(Error::UnbalancedDirectories("end_dir without begin_dir"));
            }
            writer.leave()
        })
    }

    /// Adds a node that has no content.
    pub fn add_node(&mut self, name: &[u8], metadata: &Metadata, kind: &NodeKind) -> Result<()> {
        self.attempt(|writer| {
            writer.check_new_name(name)?;
            writer.stats.others += 1;
            writer.add(name, &Node::other(name, metadata, kind))?;
            writer.report();
            Ok(())
        })
    }

    /// Adds a regular file. `open` is called only if the file does not look like the parent's: by
    /// size, mtime, ctime and inode, as restic decides. Its reader yields the whole content, the
    /// zeros of holes included.
    pub fn add_file(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        open: &mut dyn FnMut() -> io::Result<Box<dyn Read + Send>>,
    ) -> Result<FileOutcome> {
        self.attempt(|writer| {
            writer.check_new_name(name)?;
            let outcome = writer.file(name, metadata, open)?;
            writer.report();
            Ok(outcome)
        })
    }

    /// The counts so far.
    pub fn stats(&self) -> BackupStats {
        self.stats
    }

    /// Commits: packs, then index, then the snapshot, each durable before the next. `record` is
    /// stored as `/.provault/recovery-point.json`.
    ///
    /// After an error from the storage in the very last step it is possible that the snapshot is
    /// there: [`Repository::find_snapshot_by_tag`] tells.
    pub fn finish(mut self, record: Option<&[u8]>) -> Result<CommittedSnapshot> {
        if self.frames.len() != self.root_depth() {
            return Err(Error::UnbalancedDirectories("begin_dir without end_dir"));
        }
        self.attempt(|writer| writer.commit(record))
    }

    fn root_depth(&self) -> usize {
        self.options.root_path.len() + 1
    }

    /// Runs one step, and remembers if it failed in a way that no commit can follow.
    fn attempt<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if let Some(reason) = &self.broken {
            return Err(Error::WriterBroken(reason.clone()));
        }
        let result = self.options.cancel.check().and_then(|()| step(self));
        if let Err(error) = &result
            && !matches!(error, Error::SourceRead { .. } | Error::InvalidName { .. })
        {
            self.broken = Some(error.to_string());
        }
        result
    }

    fn commit(&mut self, record: Option<&[u8]>) -> Result<CommittedSnapshot> {
        for _ in 0..self.options.root_path.len() {
            self.leave()?;
        }
        if let Some(record) = record {
            let time = self.options.time.into();
            let size = record.len() as u64;
            let base = Metadata { mtime: time, atime: time, ctime: time, ..Metadata::default() };
            self.enter(RECORD_DIRECTORY, &Metadata { mode: 0o700, ..base.clone() })?;
            let content = if record.is_empty() {
                Vec::new()
            } else {
                vec![self.store_blob(BlobKind::Data, record)?]
            };
            let metadata = Metadata { mode: 0o600, size, links: 1, ..base };
            self.add(RECORD_FILE, &Node::file(RECORD_FILE, &metadata, size, content, None))?;
            self.leave()?;
        }
        let root = self.frames.pop().ok_or(Error::UnbalancedDirectories("no root"))?;
        let tree = self.store_blob(BlobKind::Tree, &root.builder.finish()?)?;

        self.blobs.commit(&self.job)?;
        self.job.check()?;
        self.options.cancel.check()?;
        let options = &self.options;
        let snapshot = SnapshotFile {
            time: options.time.to_string(),
            parent: options.parent,
            tree,
            paths: Some(options.paths.clone()),
            hostname: options.hostname.clone(),
            username: options.username.clone(),
            tags: Some(options.tags.clone()).filter(|tags| !tags.is_empty()),
            program_version: options.program_version.clone(),
        };
        let id = self.inner.save_unpacked(FileKind::Snapshot, &go_json::to_vec(&snapshot)?)?;
        self.report();
        Ok(CommittedSnapshot { id, tree, stats: self.stats })
    }

    fn file(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        open: &mut dyn FnMut() -> io::Result<Box<dyn Read + Send>>,
    ) -> Result<FileOutcome> {
        let mut known = false;
        if let Some(node) = self.parent_node(name) {
            known = true;
            let content = node.content.clone().unwrap_or_default();
            let extents = metadata.data_extents.as_ref().or(node.data_extents()).cloned();
            if node.looks_unchanged(metadata)
                && content.iter().all(|id| self.blobs.knows(BlobKind::Data, id))
            {
                let size = metadata.size;
                self.add(name, &Node::file(name, metadata, size, content, extents))?;
                self.stats.files_unchanged += 1;
                self.stats.bytes_total += size;
                return Ok(FileOutcome::Unchanged { size });
            }
        }
        let mut reader = open().map_err(|error| self.source_error(name, error))?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.reset();
        let read = self.content(name, &mut buffer, reader.as_mut());
        self.buffer = buffer;
        let (size, content) = read?;
        let extents = metadata.data_extents.clone();
        self.add(name, &Node::file(name, metadata, size, content, extents))?;
        self.stats.bytes_total += size;
        *(if known { &mut self.stats.files_changed } else { &mut self.stats.files_new }) += 1;
        Ok(FileOutcome::Stored { size })
    }

    fn content(
        &mut self,
        name: &[u8],
        buffer: &mut ChunkBuffer,
        reader: &mut dyn Read,
    ) -> Result<(u64, Vec<Id>)> {
        let (mut size, mut content) = (0, Vec::new());
        let inner = Arc::clone(&self.inner);
        loop {
            self.options.cancel.check()?;
            let next = buffer.next(&inner.chunker, reader);
            let Some(chunk) = next.map_err(|error| self.source_error(name, error))? else {
                return Ok((size, content));
            };
            size += chunk.len() as u64;
            self.stats.bytes_read += chunk.len() as u64;
            content.push(self.store_blob(BlobKind::Data, chunk)?);
            if size > chunk.len() as u64 {
                self.report();
            }
        }
    }

    fn store_blob(&mut self, kind: BlobKind, plain: &[u8]) -> Result<Id> {
        let stored = self.blobs.store(&mut self.worker, kind, plain)?;
        if let Some(added) = stored.added {
            self.stats.bytes_added += plain.len() as u64;
            self.stats.bytes_stored += added;
            match kind {
                BlobKind::Data => self.stats.data_blobs += 1,
                BlobKind::Tree => self.stats.tree_blobs += 1,
            }
        }
        Ok(stored.id)
    }

    fn open(&mut self, name: Vec<u8>, metadata: Metadata, parent: Option<Tree>) {
        self.frames.push(Frame { name, metadata, builder: TreeBuilder::default(), parent });
    }

    fn enter(&mut self, name: &[u8], metadata: &Metadata) -> Result<()> {
        let subtree = self.parent_node(name).and_then(|node| node.subtree);
        let parent = match subtree {
            Some(id) => self.parent_tree(&id)?,
            None => None,
        };
        self.open(name.to_vec(), metadata.clone(), parent);
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let Some(frame) = self.frames.pop() else {
            return Err(Error::UnbalancedDirectories("end_dir without begin_dir"));
        };
        let tree = self.store_blob(BlobKind::Tree, &frame.builder.finish()?)?;
        self.stats.directories += 1;
        self.add(&frame.name, &Node::directory(&frame.name, &frame.metadata, tree))?;
        self.report();
        Ok(())
    }

    fn add(&mut self, name: &[u8], node: &Node) -> Result<()> {
        let Some(frame) = self.frames.last_mut() else {
            return Err(Error::UnbalancedDirectories("no directory is open"));
        };
        frame.builder.add(name, node)
    }

    fn check_new_name(&self, name: &[u8]) -> Result<()> {
        if self.frames.len() == 1 {
            check_not_reserved(name)?;
        }
        check_name(name)
    }

    fn find_parent(&self, repository: &Repository) -> Result<Option<Snapshot>> {
        let Some(id) = self.options.parent else { return Ok(None) };
        match repository.snapshot(id) {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(error) if error.is_damage() || matches!(error, Error::SnapshotNotFound(_)) => {
                tracing::warn!(parent = %id, %error, "backing up without the parent snapshot");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn parent_tree(&self, id: &Id) -> Result<Option<Tree>> {
        let tree =
            self.inner.load_blob(BlobKind::Tree, id).and_then(|json| Tree::parse(*id, &json));
        match tree {
            Ok(tree) => Ok(Some(tree)),
            Err(error) if error.is_damage() => {
                tracing::warn!(%error, "reading a directory anew, its parent is damaged");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn parent_node(&self, name: &[u8]) -> Option<&Node> {
        self.frames.last()?.parent.as_ref()?.find(name)
    }

    fn source_error(&self, name: &[u8], error: io::Error) -> Error {
        let mut path = Vec::new();
        for frame in self.frames.iter().skip(1) {
            path.push(b'/');
            path.extend_from_slice(&frame.name);
        }
        path.push(b'/');
        path.extend_from_slice(name);
        let path = String::from_utf8_lossy(&path).into_owned();
        Error::SourceRead { path, source: Arc::new(error) }
    }

    fn report(&self) {
        if let Some(progress) = &self.options.progress {
            progress(&self.stats);
        }
    }
}

//! Writing one snapshot.
//!
//! The walker's thread decides what has to be read, and reads it ([`crate::pipeline`]); other threads
//! store chunks, build trees ([`crate::assembly`]) and upload packs ([`crate::blobs`]).

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;

use crate::assembly::{Assembly, Event, Failure};
use crate::backup::{
    BackupOptions, BackupStats, CommittedSnapshot, FileOutcome, Leaves, RECORD_DIRECTORY,
    RECORD_FILE, RootComponent,
};
use crate::blobs::BlobWriter;
use crate::error::{Error, Result};
use crate::familiar::{Entry, Familiar, Fingerprint};
use crate::go_json;
use crate::id::{Id, SnapshotId};
use crate::lock::{JobGuard, begin_job};
use crate::node::{FileTime, Metadata, Node, NodeKind, check_name};
use crate::pack::BlobKind;
use crate::pipeline::{Content, Counts, Pipeline, ReadError};
use crate::relist;
use crate::repository::{FileKind, Inner, Repository};
use crate::snapshot::{Snapshot, SnapshotFile};
use crate::tree::Tree;

/// Writes one snapshot, driven by a walker that goes through the source depth first.
///
/// Nothing is visible to others before [`finish`](Self::finish) returns. Dropping the writer
/// earlier leaves at most packs that nothing refers to.
///
/// [`Error::SourceRead`] and [`Error::InvalidName`] concern one node, which the snapshot then
/// lacks, and the walker may go on; after any other error the writer refuses to commit. What goes
/// wrong while chunks and trees are stored is told by one of the next calls, at last by `finish`.
pub struct SnapshotWriter {
    pub(crate) inner: Arc<Inner>,
    pub(crate) options: BackupOptions,
    /// Directories that are open now, the snapshot's root first.
    frames: Vec<Frame>,
    pub(crate) stats: BackupStats,
    pub(crate) counts: Arc<Counts>,
    familiar: Familiar,
    /// Directories taken over as a whole, to be remembered again.
    taken_over: Vec<(Fingerprint, Entry)>,
    /// When reading began, by the clock of the machine.
    began: jiff::Timestamp,
    /// Times after this one may hide a second change.
    certain_until: FileTime,
    /// The same for what the parent tells.
    parent_certain_until: FileTime,
    broken: Option<String>,
    /// A snapshot of which parts were taken over unseen.
    pub(crate) relies_on: Option<SnapshotId>,
    failure: Failure,
    // Dropped in this order: whoever reads, who builds trees, who stores, and the lock at last.
    pipeline: Pipeline,
    assembly: Option<Assembly>,
    pub(crate) blobs: Arc<BlobWriter>,
    job: JobGuard,
}

/// A directory that is open. The thread that builds trees learns of it when something in it has
/// to be stored: until then it may turn out that all of it is as it was.
struct Frame {
    name: Vec<u8>,
    metadata: Metadata,
    path: Fingerprint,
    /// The same directory in the parent snapshot.
    parent: Parent,
    begun: bool,
    /// The fingerprint of its leaves, if it may be remembered.
    leaves: Option<Fingerprint>,
    /// What is remembered of it, once its leaves turned out to be as they were.
    known: Option<Entry>,
    /// Directories in it that were taken over before it was begun.
    directories: Vec<(Vec<u8>, Metadata, Id)>,
}

enum Parent {
    None,
    /// It was not needed yet.
    Unread(Id),
    Read(Tree),
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
        let began = jiff::Timestamp::now();
        let job = begin_job(&self.inner)?;
        self.inner.refresh_index()?;
        let inner = Arc::clone(&self.inner);
        let (counts, failure) = (Arc::<Counts>::default(), Failure::default());
        let blobs = Arc::new(BlobWriter::new(&inner, options.cancel.clone())?);
        let pipeline = Pipeline::start(&inner, &blobs, &counts, &options.cancel)?;
        let assembly = Assembly::start(&inner, &blobs, &counts, &failure)?;
        let doubt = inner.options.doubt;
        let mut writer = SnapshotWriter {
            inner,
            options,
            frames: Vec::new(),
            stats: BackupStats::default(),
            counts,
            familiar: Familiar::default(),
            taken_over: Vec::new(),
            certain_until: FileTime::from(began).before(doubt),
            began,
            parent_certain_until: FileTime::default(),
            broken: None,
            relies_on: None,
            failure,
            pipeline,
            assembly: Some(assembly),
            blobs,
            job,
        };
        let parent = writer.find_parent(self)?;
        writer.options.parent = parent.as_ref().map(|parent| parent.id);
        let tree = parent.map_or(Parent::None, |parent| {
            writer.parent_certain_until = FileTime::from(parent.read_at).before(doubt);
            writer.familiar = Familiar::load(&writer.inner, &writer.options, parent.id);
            Parent::Unread(parent.tree)
        });
        writer.open(Vec::new(), Metadata::default(), tree);
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

    /// Tells what the leaves of the directory entered last look like, before any is handed over.
    /// `true`: they are as they were in the parent and must not be handed over.
    pub fn leaves(&mut self, leaves: &Leaves) -> Result<bool> {
        self.attempt(|writer| {
            let fingerprint = Fingerprint(leaves.fingerprint);
            let certain = leaves.newest <= writer.certain_until;
            let Some(frame) = writer.frames.last_mut() else {
                return Err(Error::UnbalancedDirectories("no directory is open"));
            };
            frame.leaves = Some(fingerprint).filter(|_| certain);
            let known = writer.familiar.get(&frame.path);
            let known = known.filter(|known| known.leaves == fingerprint && !frame.begun);
            frame.known = known.copied();
            if known.is_none() {
                writer.begin_frames()?;
                return Ok(false);
            }
            writer.stats.files_unchanged += leaves.files;
            writer.stats.others += leaves.others;
            writer.stats.bytes_total += leaves.bytes;
            writer.report();
            Ok(true)
        })
    }

    /// The leaves of the directory entered last are not all captured as they were announced, so
    /// the next backup must look at each again.
    pub fn doubt_leaves(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.leaves = None;
        }
    }

    /// Leaves the directory entered last.
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
            writer.add(name, Node::other(name, metadata, kind))?;
            writer.report();
            Ok(())
        })
    }

    /// Adds a regular file. `open` is called only if the file does not look like the parent's: by
    /// size, mtime, ctime and inode, as restic decides, and only if these are old enough to be
    /// believed. Its reader yields the whole content, the zeros of holes included.
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

    /// The counts so far. Other threads may still be storing what was read.
    pub fn stats(&self) -> BackupStats {
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        BackupStats {
            bytes_added: read(&self.counts.bytes_added),
            bytes_stored: read(&self.counts.bytes_stored),
            data_blobs: read(&self.counts.data_blobs),
            tree_blobs: read(&self.counts.tree_blobs),
            ..self.stats
        }
    }

    /// Waits until everything that was read is stored: the counts up to here.
    pub fn settled_stats(&mut self) -> Result<BackupStats> {
        self.attempt(|writer| {
            let (done, wait) = sync_channel(1);
            writer.tell(Event::Reached(done))?;
            if let Some(assembly) = &mut writer.assembly {
                assembly.send(&mut writer.pipeline)?;
            }
            writer.pipeline.flush()?;
            // It is dropped unsent when the thread has failed; `failure` says why.
            let _ = wait.recv();
            writer.failure.check()?;
            Ok(writer.stats())
        })
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

    /// Ends without a snapshot, and makes durable what was stored until now, also when the cancel flag
    /// is raised: another backup that meets the same content finds it, as long as no prune has
    /// removed it. What is on its way between reading and storing is given up.
    pub fn keep(self) -> Result<BackupStats> {
        let stats = self.stats();
        let Self { pipeline, assembly, blobs, job, .. } = self;
        // Nothing may be added to packs any more while they are stored.
        drop(pipeline);
        drop(assembly);
        let kept = blobs.keep(&job);
        drop(blobs);
        drop(job);
        kept.map(|()| stats)
    }

    fn root_depth(&self) -> usize {
        self.options.root_path.len() + 1
    }

    /// Runs one step, and remembers if it failed in a way that no commit can follow.
    pub(crate) fn attempt<T>(&mut self, step: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if let Some(reason) = &self.broken {
            return Err(Error::WriterBroken(reason.clone()));
        }
        let go_on = self.options.cancel.check().and_then(|()| self.failure.check());
        let result = go_on.and_then(|()| step(self));
        if let Err(error) = &result
            && !matches!(
                error,
                Error::SourceRead { .. } | Error::InvalidName { .. } | Error::BaseUnusable { .. }
            )
        {
            self.broken = Some(error.to_string());
        }
        result
    }

    fn commit(&mut self, record: Option<&[u8]>) -> Result<CommittedSnapshot> {
        for _ in 0..self.options.root_path.len() {
            self.leave()?;
        }
        // The root is a tree of its own whatever is in it.
        self.begin_frames()?;
        if let Some(record) = record {
            let time = self.options.time.into();
            let size = record.len() as u64;
            let base = Metadata { mtime: time, atime: time, ctime: time, ..Metadata::default() };
            self.enter(RECORD_DIRECTORY, &Metadata { mode: 0o700, ..base.clone() })?;
            self.begin_frames()?;
            let (_, content) = self.read(RECORD_FILE, &mut &*record, size)?;
            let metadata = Metadata { mode: 0o600, size, links: 1, ..base };
            self.tell(Event::File { name: RECORD_FILE.to_vec(), metadata, size, content })?;
            self.leave()?;
        }
        self.frames.pop().ok_or(Error::UnbalancedDirectories("no root"))?;
        self.tell(Event::Leave { leaves: None })?;
        let assembly = self.assembly.take();
        let assembly = assembly.ok_or_else(|| Error::Internal("committed twice".to_owned()))?;
        let assembled = assembly.finish(&mut self.pipeline)?;
        let tree = assembled.root;

        self.blobs.commit(&self.job)?;
        relist::before_commit(&self.inner, &self.job, &tree, &self.options.cancel)?;
        self.options.cancel.check()?;
        if let Some(base) = self.relies_on {
            // As long as it is there, a prune keeps all that it refers to.
            self.inner.read_snapshot(base).map_err(|error| Error::BaseUnusable {
                base,
                reason: format!("it went while the backup ran: {error}"),
            })?;
        }
        let options = &self.options;
        let snapshot = SnapshotFile {
            time: options.time.to_string(),
            parent: options.parent,
            tree,
            paths: Some(options.paths.clone()),
            hostname: options.hostname.clone(),
            username: options.username.clone(),
            tags: Some(options.tags.clone()).filter(|tags| !tags.is_empty()),
            original: None,
            program_version: options.program_version.clone(),
            provault_read_at: Some(self.began.to_string()),
        };
        self.job.holds()?;
        let id = self.inner.save_unpacked(FileKind::Snapshot, &go_json::to_vec(&snapshot)?)?;
        relist::after_commit(&self.inner, &self.job, &tree, &id)?;
        let mut directories = std::mem::take(&mut self.taken_over);
        directories.extend(assembled.familiar);
        Familiar::save(&self.inner, &self.options, id, &directories);
        self.report();
        Ok(CommittedSnapshot { id, tree, stats: self.stats() })
    }

    fn file(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        open: &mut dyn FnMut() -> io::Result<Box<dyn Read + Send>>,
    ) -> Result<FileOutcome> {
        self.begin_frames()?;
        let certain = metadata.mtime.max(metadata.ctime) <= self.parent_certain_until;
        let mut known = false;
        if let Some(node) = self.parent_node(name)? {
            known = true;
            if certain && node.looks_unchanged(metadata) {
                let content = node.content.clone().unwrap_or_default();
                let extents = metadata.data_extents.as_ref().or(node.data_extents()).cloned();
                if content.iter().all(|id| self.blobs.knows(BlobKind::Data, id)) {
                    let size = metadata.size;
                    self.add(name, Node::file(name, metadata, size, content, extents))?;
                    self.stats.files_unchanged += 1;
                    self.stats.bytes_total += size;
                    return Ok(FileOutcome::Unchanged { size });
                }
            }
        }
        let mut reader = open().map_err(|error| self.source_error(name, error))?;
        let (size, content) = self.read(name, reader.as_mut(), metadata.size)?;
        self.stats.bytes_read += size;
        let (name, metadata) = (name.to_vec(), metadata.clone());
        self.tell(Event::File { name, metadata, size, content })?;
        self.stats.bytes_total += size;
        *(if known { &mut self.stats.files_changed } else { &mut self.stats.files_new }) += 1;
        Ok(FileOutcome::Stored { size })
    }

    fn read(&mut self, name: &[u8], reader: &mut dyn Read, size: u64) -> Result<(u64, Content)> {
        self.pipeline.read(reader, size).map_err(|error| match error {
            ReadError::Source(error) => self.source_error(name, error),
            ReadError::Backup(error) => error,
        })
    }

    fn tell(&mut self, event: Event) -> Result<()> {
        let Some(assembly) = &mut self.assembly else {
            return Err(Error::Internal("nobody builds trees any more".to_owned()));
        };
        assembly.tell(event, &mut self.pipeline)
    }

    fn open(&mut self, name: Vec<u8>, metadata: Metadata, parent: Parent) {
        let path = Fingerprint::of_path(self.frames.last().map(|frame| &frame.path), &name);
        // What is remembered of it spares looking for it in the parent of the parent.
        let parent = self.familiar.get(&path).map_or(parent, |known| Parent::Unread(known.tree));
        let (leaves, known, directories) = (None, None, Vec::new());
        let begun = false;
        self.frames.push(Frame { name, metadata, path, parent, begun, leaves, known, directories });
    }

    fn enter(&mut self, name: &[u8], metadata: &Metadata) -> Result<()> {
        let above = self.frames.last().map(|frame| &frame.path);
        let parent = if self.familiar.get(&Fingerprint::of_path(above, name)).is_some() {
            Parent::None
        } else {
            let subtree = self.parent_node(name)?.and_then(|node| node.subtree);
            subtree.map_or(Parent::None, Parent::Unread)
        };
        self.open(name.to_vec(), metadata.clone(), parent);
        Ok(())
    }

    /// Makes sure that the thread that builds trees knows of the open directories.
    fn begin_frames(&mut self) -> Result<()> {
        let first = self.frames.iter().position(|frame| !frame.begun).unwrap_or(self.frames.len());
        for at in first..self.frames.len() {
            let frame = &mut self.frames[at];
            frame.begun = true;
            let leaves = frame.known.map(|known| Event::Leaves { tree: known.tree });
            let name = frame.name.clone();
            let (metadata, path) = (frame.metadata.clone(), frame.path);
            let directories = std::mem::take(&mut frame.directories);
            self.tell(Event::Enter { name, metadata, path })?;
            if let Some(leaves) = leaves {
                self.tell(leaves)?;
            }
            // Not by `add`, which would begin the directories below first.
            for (name, metadata, tree) in directories {
                let node = Box::new(Node::directory(&name, &metadata, tree));
                self.tell(Event::Node { name, node })?;
            }
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let Some(frame) = self.frames.last() else {
            return Err(Error::UnbalancedDirectories("end_dir without begin_dir"));
        };
        self.stats.directories += 1;
        if let Some(known) = frame.known.filter(|_| !frame.begun) {
            let print = |(name, metadata, tree): &(Vec<u8>, Metadata, Id)| {
                (name.clone(), Fingerprint::of_directory(metadata, tree))
            };
            let directories = frame.directories.iter().map(print).collect();
            if Fingerprint::of_whole(&known.leaves, directories) == known.whole {
                return self.take_over(known);
            }
        }
        self.begin_frames()?;
        let leaves = self.frames.pop().and_then(|frame| frame.leaves);
        self.tell(Event::Leave { leaves })?;
        self.report();
        Ok(())
    }

    /// Leaves a directory that is, with all that is in it, as it was.
    fn take_over(&mut self, known: Entry) -> Result<()> {
        let Some(Frame { name, metadata, path, .. }) = self.frames.pop() else {
            return Err(Error::UnbalancedDirectories("end_dir without begin_dir"));
        };
        self.taken_over.push((path, known));
        match self.frames.last_mut() {
            Some(above) if !above.begun => above.directories.push((name, metadata, known.tree)),
            _ => {
                let node = Node::directory(&name, &metadata, known.tree);
                self.add(&name, node)?;
            }
        }
        self.report();
        Ok(())
    }

    /// Adds a complete node to the directory entered last.
    pub(crate) fn add(&mut self, name: &[u8], node: Node) -> Result<()> {
        self.begin_frames()?;
        self.tell(Event::Node { name: name.to_vec(), node: Box::new(node) })
    }

    pub(crate) fn check_new_name(&self, name: &[u8]) -> Result<()> {
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

    fn parent_tree(&self, id: &Id) -> Result<Parent> {
        let tree =
            self.inner.load_blob(BlobKind::Tree, id).and_then(|json| Tree::parse(*id, &json));
        match tree {
            Ok(tree) => Ok(Parent::Read(tree)),
            Err(error) if error.is_damage() => {
                tracing::warn!(%error, "reading a directory anew, its parent is damaged");
                Ok(Parent::None)
            }
            Err(error) => Err(error),
        }
    }

    /// The node of this name in the same directory of the parent snapshot.
    pub(crate) fn parent_node(&mut self, name: &[u8]) -> Result<Option<&Node>> {
        if let Some(Frame { parent: Parent::Unread(id), .. }) = self.frames.last() {
            let read = self.parent_tree(&id.clone())?;
            if let Some(frame) = self.frames.last_mut() {
                frame.parent = read;
            }
        }
        Ok(match self.frames.last() {
            Some(Frame { parent: Parent::Read(tree), .. }) => tree.find(name),
            _ => None,
        })
    }

    pub(crate) fn source_error(&self, name: &[u8], error: io::Error) -> Error {
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

    pub(crate) fn report(&self) {
        if let Some(progress) = &self.options.progress {
            progress(&self.stats());
        }
    }
}

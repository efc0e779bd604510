//! Trees in the making, on a thread of their own.
//!
//! The walker tells what it comes by, in its order; the thread waits for the chunks of each file,
//! writes the nodes as JSON, and stores a directory's tree when the walker has left it. So nobody
//! who reads waits for somebody who stores.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::blobs::{BlobWorker, BlobWriter};
use crate::error::{Error, Result};
use crate::familiar::{Entry, Fingerprint};
use crate::id::Id;
use crate::node::{Metadata, Node};
use crate::pack::BlobKind;
use crate::pipeline::{Content, Counts, Pipeline};
use crate::repository::Inner;
use crate::tree::{Tree, TreeBuilder};

/// Events are sent in bunches of this size,
const BUNCH: usize = 64;
/// and so many bunches wait at most.
const BUNCHES: usize = 64;

/// What the walker came by.
pub(crate) enum Event {
    /// It went into a directory, whose path has this fingerprint.
    Enter { name: Vec<u8>, metadata: Metadata, path: Fingerprint },
    /// A file that was read.
    File { name: Vec<u8>, metadata: Metadata, size: u64, content: Content },
    /// A node that is complete: a file taken over, a link, a device, a directory taken over.
    Node { name: Vec<u8>, node: Box<Node> },
    /// All nodes but the directories of this tree.
    Leaves { tree: Id },
    /// Tells when everything before this is stored.
    Reached(SyncSender<()>),
    /// It left the directory, whose leaves have this fingerprint if they may be remembered.
    Leave { leaves: Option<Fingerprint> },
}

/// The first error of any thread; the backup cannot commit after it.
#[derive(Clone, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<Error>>>);

impl Failure {
    pub(crate) fn set(&self, error: Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    pub(crate) fn check(&self) -> Result<()> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

/// What was made of everything.
pub(crate) struct Assembled {
    pub(crate) root: Id,
    /// Directories to be remembered.
    pub(crate) familiar: Vec<(Fingerprint, Entry)>,
}

/// The walker's side.
pub(crate) struct Assembly {
    bunch: Vec<Event>,
    events: Option<SyncSender<Vec<Event>>>,
    thread: Option<JoinHandle<Result<Assembled>>>,
    failure: Failure,
}

impl Assembly {
    pub(crate) fn start(
        inner: &Arc<Inner>,
        blobs: &Arc<BlobWriter>,
        counts: &Arc<Counts>,
        failure: &Failure,
    ) -> Result<Self> {
        let (events, received) = sync_channel(BUNCHES);
        let assembler = Assembler {
            inner: Arc::clone(inner),
            tools: blobs.worker()?,
            blobs: Arc::clone(blobs),
            counts: Arc::clone(counts),
            frames: Vec::new(),
            root: None,
            familiar: Vec::new(),
        };
        let told = failure.clone();
        let thread = std::thread::Builder::new()
            .name("repository-trees".to_owned())
            .spawn(move || assembler.run(&received, &told))
            .map_err(|error| Error::Internal(format!("no thread to build trees: {error}")))?;
        Ok(Self {
            bunch: Vec::with_capacity(BUNCH),
            events: Some(events),
            thread: Some(thread),
            failure: failure.clone(),
        })
    }

    /// Tells of an event.
    pub(crate) fn tell(&mut self, event: Event, pipeline: &mut Pipeline) -> Result<()> {
        self.bunch.push(event);
        if self.bunch.len() < BUNCH { Ok(()) } else { self.send(pipeline) }
    }

    /// Sends what was told so far.
    pub(crate) fn send(&mut self, pipeline: &mut Pipeline) -> Result<()> {
        let died = || Error::Internal("the thread that builds trees died".to_owned());
        let Some(events) = &self.events else { return Err(died()) };
        let bunch = std::mem::replace(&mut self.bunch, Vec::with_capacity(BUNCH));
        match events.try_send(bunch) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(bunch)) => {
                // The thread may be waiting for files that nobody has handed over yet.
                pipeline.flush()?;
                events.send(bunch).map_err(|_| died())
            }
            Err(TrySendError::Disconnected(_)) => Err(died()),
        }
    }

    /// Waits until the root's tree is stored. The walker has left every directory.
    pub(crate) fn finish(mut self, pipeline: &mut Pipeline) -> Result<Assembled> {
        pipeline.flush()?;
        self.send(pipeline)?;
        self.events = None;
        let thread = self.thread.take().map(JoinHandle::join);
        self.failure.check()?;
        match thread {
            Some(Ok(assembled)) => assembled,
            _ => Err(Error::Internal("the thread that builds trees died".to_owned())),
        }
    }
}

impl Drop for Assembly {
    fn drop(&mut self) {
        self.events = None;
        if let Some(thread) = self.thread.take() {
            // Nothing is committed, whatever it says.
            let _ = thread.join();
        }
    }
}

struct Frame {
    name: Vec<u8>,
    metadata: Metadata,
    path: Fingerprint,
    builder: TreeBuilder,
    /// Of the directories in it.
    directories: Vec<(Vec<u8>, Fingerprint)>,
}

struct Assembler {
    inner: Arc<Inner>,
    blobs: Arc<BlobWriter>,
    tools: BlobWorker,
    counts: Arc<Counts>,
    frames: Vec<Frame>,
    root: Option<Id>,
    familiar: Vec<(Fingerprint, Entry)>,
}

impl Assembler {
    fn run(mut self, events: &Receiver<Vec<Event>>, failure: &Failure) -> Result<Assembled> {
        // After a failure the events are still taken, so that the walker is not held up.
        let mut failed = false;
        while let Ok(bunch) = events.recv() {
            for event in bunch {
                if failed {
                    continue;
                }
                if let Err(error) = self.take(event) {
                    failure.set(error);
                    failed = true;
                }
            }
        }
        failure.check()?;
        let root = self.root.ok_or(Error::UnbalancedDirectories("no root"))?;
        Ok(Assembled { root, familiar: self.familiar })
    }

    fn take(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Enter { name, metadata, path } => {
                let (builder, directories) = (TreeBuilder::default(), Vec::new());
                self.frames.push(Frame { name, metadata, path, builder, directories });
                Ok(())
            }
            Event::File { name, metadata, size, content } => {
                let content = content.wait()?;
                let extents = metadata.data_extents.clone();
                self.add(&name, &Node::file(&name, &metadata, size, content, extents))
            }
            Event::Node { name, node } => self.add(&name, &node),
            Event::Leaves { tree } => {
                let json = self.inner.load_blob(BlobKind::Tree, &tree)?;
                let nodes = Tree::parse(tree, &json)?.nodes;
                nodes
                    .iter()
                    .filter(|(_, node)| node.kind != "dir")
                    .try_for_each(|(name, node)| self.add(name, node))
            }
            Event::Reached(done) => {
                // Whoever asked may have gone.
                let _ = done.send(());
                Ok(())
            }
            Event::Leave { leaves } => self.leave(leaves),
        }
    }

    fn add(&mut self, name: &[u8], node: &Node) -> Result<()> {
        let Some(frame) = self.frames.last_mut() else {
            return Err(Error::UnbalancedDirectories("no directory is open"));
        };
        if let Some(subtree) = node.subtree {
            let directory = Fingerprint::of_directory(&node.metadata(), &subtree);
            frame.directories.push((name.to_vec(), directory));
        }
        frame.builder.add(name, node)
    }

    fn leave(&mut self, leaves: Option<Fingerprint>) -> Result<()> {
        let Some(frame) = self.frames.pop() else {
            return Err(Error::UnbalancedDirectories("end_dir without begin_dir"));
        };
        let json = frame.builder.finish()?;
        let stored = self.blobs.store(&mut self.tools, BlobKind::Tree, &json)?;
        self.counts.add(BlobKind::Tree, json.len(), &stored);
        if let Some(leaves) = leaves {
            let whole = Fingerprint::of_whole(&leaves, frame.directories);
            self.familiar.push((frame.path, Entry { leaves, whole, tree: stored.id }));
        }
        if self.frames.is_empty() {
            self.root = Some(stored.id);
            return Ok(());
        }
        let node = Node::directory(&frame.name, &frame.metadata, stored.id);
        self.add(&frame.name, &node)
    }
}

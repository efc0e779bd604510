//! The entries of a snapshot, as a walk over its trees.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::id::Id;
use crate::limits;
use crate::node::{Metadata, Node, NodeKind};
use crate::reader::Reader;
use crate::snapshot::Snapshot;
use crate::tree::Tree;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A node without content.
    Other(NodeKind),
}

/// One file, directory or other node of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Components joined by `/`, relative to where the walk began. Never absolute, and never with
    /// `.` or `..` in it, whatever the repository holds.
    pub path: Vec<u8>,
    /// Owner, times, size and so on.
    pub metadata: Metadata,
    /// What it is.
    pub kind: EntryKind,
    /// Ids of a file's chunks, in order.
    pub content: Vec<Id>,
    pub(crate) subtree: Option<Id>,
}

impl Entry {
    fn new(path: Vec<u8>, node: Node) -> Result<Self> {
        let metadata = node.metadata();
        let kind = match (node.kind.as_str(), node.subtree) {
            ("dir", Some(_)) => EntryKind::Directory,
            ("file", _) => EntryKind::File,
            _ => EntryKind::Other(node.node_kind().ok_or_else(|| {
                let name = String::from_utf8_lossy(&path).into_owned();
                let reason = match node.kind.as_str() {
                    "dir" => "a directory without a tree".to_owned(),
                    other => format!("a node of the unknown type {other:?}"),
                };
                Error::damaged(name, reason)
            })?),
        };
        let content = node.content.unwrap_or_default();
        Ok(Self { path, metadata, kind, content, subtree: node.subtree })
    }

    /// A regular file of these chunks, for callers of [`Reader::copy_contents`] who keep entries in
    /// a form of their own.
    pub fn file(path: Vec<u8>, size: u64, content: Vec<Id>) -> Self {
        let metadata = Metadata { size, ..Metadata::default() };
        Self { path, metadata, kind: EntryKind::File, content, subtree: None }
    }

    /// A directory with this tree.
    pub(crate) fn directory(path: Vec<u8>, metadata: Metadata, tree: Id) -> Self {
        let kind = EntryKind::Directory;
        Self { path, metadata, kind, content: Vec::new(), subtree: Some(tree) }
    }

    /// What the node `name` of a directory is.
    pub(crate) fn below(directory: &[u8], name: &[u8], node: Node) -> Result<Self> {
        Self::new(join(directory, name), node)
    }

    pub(crate) fn subtree(&self) -> Option<Id> {
        self.subtree
    }

    pub(crate) fn path_text(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }

    pub(crate) fn file_content(&self) -> Result<&[Id]> {
        match self.kind {
            EntryKind::File => Ok(&self.content),
            _ => Err(Error::NotAFile(self.path_text())),
        }
    }

    pub(crate) fn check_size(&self, bytes: u64) -> Result<()> {
        if bytes == self.metadata.size {
            return Ok(());
        }
        let reason = format!("its chunks hold {bytes} bytes, its node says {}", self.metadata.size);
        Err(Error::damaged(self.path_text(), reason))
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

pub(crate) fn find(reader: &Reader, snapshot: &Snapshot, path: &[u8]) -> Result<Entry> {
    let not_found = || Error::PathNotFound(String::from_utf8_lossy(path).into_owned());
    let mut found = Entry {
        path: Vec::new(),
        metadata: Metadata { mode: 0o755, ..Metadata::default() },
        kind: EntryKind::Directory,
        content: Vec::new(),
        subtree: Some(snapshot.tree),
    };
    for name in components(path) {
        let id = found.subtree.ok_or_else(not_found)?;
        let tree = reader.tree(&id).map_err(|error| error.at_path(&found.path))?;
        let node = tree.find(name).ok_or_else(not_found)?.clone();
        found = Entry::new(join(&found.path, name), node)?;
    }
    Ok(found)
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

/// A directory on the way down.
struct OpenDirectory {
    path: Vec<u8>,
    /// The nodes that are left in it.
    nodes: std::vec::IntoIter<(Vec<u8>, Node)>,
    /// Length of its JSON, in bytes.
    json: usize,
}

/// A walk over the entries below a directory.
///
/// Trees cannot hold themselves, for they are named by their hash, but one tree may stand in many
/// places, and a hostile repository may be a few trees that stand for more paths than anybody can
/// ever walk. So whoever walks looks at its cancel flag between two entries; memory is held for one
/// way down only, and a way down has its limits.
pub struct Entries<'a> {
    reader: &'a Reader,
    /// The way down.
    stack: Vec<OpenDirectory>,
    /// Length of the JSON of all trees on it, in bytes.
    open: usize,
    /// Yielded before anything else.
    ready: VecDeque<Result<Entry>>,
    /// A directory that was yielded and is to be entered.
    enter: Option<(Vec<u8>, Id)>,
}

impl<'a> Entries<'a> {
    pub(crate) fn below(reader: &'a Reader, snapshot: &Snapshot, path: &[u8]) -> Result<Self> {
        let mut found = find(reader, snapshot, path)?;
        let mut walk =
            Self { reader, stack: Vec::new(), open: 0, ready: VecDeque::new(), enter: None };
        match found.subtree {
            Some(id) if found.kind == EntryKind::Directory => {
                let tree = reader.tree(&id).map_err(|error| error.at_path(&found.path))?;
                walk.push(Vec::new(), id, tree);
            }
            _ => {
                found.path = components(path).last().unwrap_or_default().to_vec();
                walk.ready.push_back(Ok(found));
            }
        }
        Ok(walk)
    }

    fn push(&mut self, path: Vec<u8>, id: Id, tree: Tree) {
        let bad = tree.unsafe_names.into_iter();
        self.ready.extend(bad.map(|name| Err(Error::UnsafeName { tree: id, name })));
        self.open += tree.json_length;
        self.stack.push(OpenDirectory {
            path,
            nodes: tree.nodes.into_iter(),
            json: tree.json_length,
        });
    }

    /// The tree of a directory that is entered.
    fn tree(&self, path: &[u8], id: &Id) -> Result<Tree> {
        let too_deep = |reason: &str| {
            // Only the end of such a path can be shown.
            let shown = &path[path.len().saturating_sub(200)..];
            Err(Error::damaged(String::from_utf8_lossy(shown).into_owned(), reason))
        };
        if self.stack.len() >= limits::DEPTH {
            return too_deep("too many directories lie above one another");
        }
        if path.len() > limits::PATH {
            return too_deep("its path is absurdly long");
        }
        let tree = self.reader.tree(id).map_err(|error| error.at_path(path))?;
        if self.open + tree.json_length > limits::OPEN_TREES {
            return too_deep("the directories above it are absurdly large");
        }
        Ok(tree)
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        loop {
            if let Some((path, id)) = self.enter.take() {
                match self.tree(&path, &id) {
                    Ok(tree) => self.push(path, id, tree),
                    Err(error) => return Some(Err(error)),
                }
            }
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            let directory = self.stack.last_mut()?;
            let Some((name, node)) = directory.nodes.next() else {
                self.open -= directory.json;
                self.stack.pop();
                continue;
            };
            let entry = Entry::new(join(&directory.path, &name), node);
            if let Ok(entry) = &entry
                && entry.kind == EntryKind::Directory
                && let Some(id) = entry.subtree
            {
                self.enter = Some((entry.path.clone(), id));
            }
            return Some(entry);
        }
    }
}

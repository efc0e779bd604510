//! How much a snapshot holds, from its trees alone: a file of several names counts once for each.

use std::collections::HashMap;

use crate::entries::EntryKind;
use crate::error::Result;
use crate::id::Id;
use crate::reader::Reader;
use crate::snapshot::Snapshot;

/// What lies in and below a directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeTotals {
    /// Regular files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Counts, and remembers every tree it has counted: the trees that many snapshots have in common
/// are read once.
#[derive(Debug, Default)]
pub struct Totals {
    known: HashMap<Id, TreeTotals>,
}

impl Totals {
    /// What lies at `path` of a snapshot: below it for a directory, else the one file.
    pub fn at(&mut self, reader: &Reader, snapshot: &Snapshot, path: &[u8]) -> Result<TreeTotals> {
        let entry = reader.entry(snapshot, path)?;
        match (&entry.kind, entry.subtree()) {
            (EntryKind::Directory, Some(tree)) => self.below(reader, tree),
            (EntryKind::File, _) => Ok(TreeTotals { files: 1, bytes: entry.metadata.size }),
            _ => Ok(TreeTotals::default()),
        }
    }

    fn below(&mut self, reader: &Reader, root: Id) -> Result<TreeTotals> {
        struct Frame {
            id: Id,
            subtrees: Vec<Id>,
            sum: TreeTotals,
        }
        // Not by recursion: how deep a tree is, is not ours to say.
        let mut stack: Vec<Frame> = Vec::new();
        let mut next = Some(root);
        loop {
            if let Some(id) = next.take() {
                if let Some(sum) = self.known.get(&id) {
                    match stack.last_mut() {
                        None => return Ok(*sum),
                        Some(parent) => parent.sum = parent.sum.plus(*sum),
                    }
                } else {
                    let mut frame = Frame { id, subtrees: Vec::new(), sum: TreeTotals::default() };
                    for (_, node) in reader.tree(&id)?.nodes {
                        if node.kind == "file" {
                            let file = TreeTotals { files: 1, bytes: node.size };
                            frame.sum = frame.sum.plus(file);
                        } else {
                            frame.subtrees.extend(node.subtree.filter(|_| node.kind == "dir"));
                        }
                    }
                    stack.push(frame);
                }
            }
            let Some(top) = stack.last_mut() else {
                return Ok(self.known.get(&root).copied().unwrap_or_default());
            };
            if let Some(id) = top.subtrees.pop() {
                next = Some(id);
                continue;
            }
            let (id, sum) = (top.id, top.sum);
            stack.pop();
            self.known.insert(id, sum);
            if let Some(parent) = stack.last_mut() {
                parent.sum = parent.sum.plus(sum);
            }
        }
    }
}

impl TreeTotals {
    fn plus(self, other: Self) -> Self {
        Self {
            files: self.files.saturating_add(other.files),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

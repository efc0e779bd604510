//! Looking over a repository: what a catalog needs to know of its snapshots, and what lies in the
//! storage.

use std::collections::HashMap;

use crate::backup::RECORD_DIRECTORY;
use crate::cancel::CancelFlag;
use crate::error::{Error, Result};
use crate::id::{Id, SnapshotId};
use crate::pack::BlobKind;
use crate::reader::Reader;
use crate::repository::{FileKind, Repository};
use crate::snapshot::Snapshot;
use crate::tree::Tree;

/// A snapshot, and what it holds.
#[derive(Debug, Clone)]
pub struct Surveyed {
    /// The snapshot: host, paths, time, tags.
    pub snapshot: Snapshot,
    /// The recovery point's record, where the snapshot is one of a server of ours.
    pub record: Option<Vec<u8>>,
    /// Regular files, each name counted.
    pub files: u64,
    /// Bytes of these files; what several names share counts for each.
    pub bytes: u64,
    /// Why not all of it could be looked at; the counts then lack what could not.
    pub trouble: Option<Error>,
}

/// Every snapshot of a repository, as a catalog that adopts it wants to know them.
#[derive(Debug, Default)]
pub struct Survey {
    /// The readable ones, oldest first.
    pub snapshots: Vec<Surveyed>,
    /// The damaged ones, which cannot be adopted.
    pub damaged: Vec<(SnapshotId, Error)>,
}

/// What lies in the storage of a repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Snapshot files.
    pub snapshots: u64,
    /// Pack files.
    pub packs: u64,
    /// Bytes of these.
    pub pack_bytes: u64,
    /// Index files.
    pub indexes: u64,
    /// Bytes of these.
    pub index_bytes: u64,
    /// Blobs that the index knows: chunks of files and trees.
    pub blobs: u64,
}

/// What is in and below a tree.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    files: u64,
    bytes: u64,
}

impl Repository {
    /// Looks over all snapshots, whoever wrote them. Reads every tree once, and no content but the
    /// records. Damage is told, and hides nothing else.
    pub fn survey(&self, cancel: &CancelFlag) -> Result<Survey> {
        let reader = self.reader()?;
        let all = self.snapshots()?;
        let mut survey = Survey { snapshots: Vec::new(), damaged: all.damaged };
        let mut sums = HashMap::new();
        for snapshot in all.snapshots {
            let (sum, mut trouble) = sum(&reader, snapshot.tree, &mut sums, cancel)?;
            let record = match reader.recovery_point_record(&snapshot) {
                Ok(record) => record,
                Err(error) if error.is_damage() => {
                    trouble.get_or_insert(error);
                    None
                }
                Err(error) => return Err(error),
            };
            let Sum { files, bytes } = sum;
            survey.snapshots.push(Surveyed { snapshot, record, files, bytes, trouble });
        }
        Ok(survey)
    }

    /// What is in and below the root of one snapshot: regular files, and their bytes, as
    /// [`Surveyed`] counts them.
    pub fn measure(&self, snapshot: &Snapshot, cancel: &CancelFlag) -> Result<(u64, u64)> {
        let reader = self.reader()?;
        let (sum, trouble) = sum(&reader, snapshot.tree, &mut HashMap::new(), cancel)?;
        trouble.map_or(Ok((sum.files, sum.bytes)), Err)
    }

    /// Counts what lies in the storage.
    pub fn usage(&self) -> Result<Usage> {
        let reader = self.reader()?;
        let count = |kind| {
            let files = reader.inner.list(kind)?;
            let bytes: u64 = files.iter().map(|(_, size)| size).sum();
            Ok::<_, Error>((files.len() as u64, bytes))
        };
        let (packs, pack_bytes) = count(FileKind::Pack)?;
        let (indexes, index_bytes) = count(FileKind::Index)?;
        let blobs = reader.inner.index().memory.len() as u64;
        let snapshots = count(FileKind::Snapshot)?.0;
        Ok(Usage { snapshots, packs, pack_bytes, indexes, index_bytes, blobs })
    }
}

/// Adds up a tree, each subtree of all snapshots once.
fn sum(
    reader: &Reader,
    root: Id,
    sums: &mut HashMap<Id, Sum>,
    cancel: &CancelFlag,
) -> Result<(Sum, Option<Error>)> {
    struct Frame {
        id: Id,
        subtrees: Vec<Id>,
        sum: Sum,
        /// Whether all in and below it could be read. What lacks something is not remembered, so
        /// that each snapshot tells of it.
        whole: bool,
    }
    let mut trouble = None;
    let mut open = |id: Id, at_root: bool| -> Result<Frame> {
        let json = reader.inner.load_blob(BlobKind::Tree, &id);
        let tree = match json.and_then(|json| Tree::parse(id, &json)) {
            Ok(tree) => tree,
            Err(error) if error.is_damage() => {
                trouble.get_or_insert(error);
                let (subtrees, sum) = (Vec::new(), Sum::default());
                return Ok(Frame { id, subtrees, sum, whole: false });
            }
            Err(error) => return Err(error),
        };
        let (mut sum, mut subtrees) = (Sum::default(), Vec::new());
        for (name, node) in tree.nodes {
            match node.kind.as_str() {
                "dir" if at_root && name == RECORD_DIRECTORY => {}
                "dir" => subtrees.extend(node.subtree),
                "file" => {
                    sum.files += 1;
                    sum.bytes = sum.bytes.saturating_add(node.size);
                }
                _ => {}
            }
        }
        Ok(Frame { id, subtrees, sum, whole: true })
    };
    // The root is never taken from the others: only there does a record not count.
    let mut stack = vec![open(root, true)?];
    loop {
        cancel.check()?;
        let Some(top) = stack.last_mut() else { return Ok((Sum::default(), trouble)) };
        if let Some(id) = top.subtrees.pop() {
            if let Some(known) = sums.get(&id) {
                top.sum.files += known.files;
                top.sum.bytes = top.sum.bytes.saturating_add(known.bytes);
            } else {
                let frame = open(id, false)?;
                stack.push(frame);
            }
            continue;
        }
        let Some(Frame { id, sum, whole, .. }) = stack.pop() else { continue };
        let Some(parent) = stack.last_mut() else { return Ok((sum, trouble)) };
        parent.sum.files += sum.files;
        parent.sum.bytes = parent.sum.bytes.saturating_add(sum.bytes);
        parent.whole &= whole;
        if whole {
            sums.insert(id, sum);
        }
    }
}

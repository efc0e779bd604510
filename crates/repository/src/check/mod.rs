//! Checking a repository: is everything there that its snapshots need, and is it whole?

mod indexes;
mod packs;
mod subset;

pub use subset::PackSubset;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use indexes::Listing;

use crate::cancel::CancelFlag;
use crate::error::{Error, Result};
use crate::id::{Id, SnapshotId};
use crate::index::MemoryIndex;
use crate::limits;
use crate::lock::{JobGuard, begin_job};
use crate::node::Node;
use crate::pack::BlobKind;
use crate::repository::{FileKind, Inner, Repository};
use crate::snapshot::Snapshot;
use crate::tree::Tree;

/// Hurt files are listed up to this number and to so many bytes of their paths together, and
/// counted beyond that.
const LISTED: usize = 10_000;
const LISTED_BYTES: usize = 16 << 20;
/// They are counted up to this number. One hurt tree may stand in more places than can ever be
/// counted, where trees share their subtrees.
const COUNTED: u64 = 100_000;

/// How closely to look.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum CheckLevel {
    /// Keys, config, indexes, snapshots and all trees are read; packs are compared with the index
    /// by name and size; every chunk of every file must be in the index.
    #[default]
    Structure,
    /// Also reads every pack to the last byte.
    ReadData,
    /// Also reads some of the packs to the last byte.
    ReadSubset(PackSubset),
}

/// How to check.
#[derive(Clone, Copy, Default)]
pub struct CheckOptions<'a> {
    /// How closely to look.
    pub level: CheckLevel,
    /// Snapshots that have to be there: a repository alone cannot tell that one was removed, a
    /// catalog can. It is up to the caller that none of them is being forgotten.
    pub expected: &'a [SnapshotId],
    /// Packs that are known to be damaged: each of their blobs is tried, so that who suffers by
    /// them is named without reading all others.
    pub suspects: &'a [Id],
    /// Hears how many bytes of packs were read, and how many are to be read.
    pub progress: Option<&'a (dyn Fn(u64, u64) + Sync)>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The file of the repository, or the blob, that it is about.
    pub object: String,
    /// What is wrong with it.
    pub error: Error,
}

/// A file or directory that cannot be restored whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HurtFile {
    /// In which snapshot.
    pub snapshot: SnapshotId,
    /// Its path; empty for the snapshot's root.
    pub path: Vec<u8>,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
    /// Who suffers, in the order of snapshots; at most 10 000 are listed.
    pub hurt: Vec<HurtFile>,
    /// How many there are; counting ends at 100 000.
    pub hurt_total: u64,
    /// Readable snapshots.
    pub snapshots: u64,
    /// Distinct trees read.
    pub trees: u64,
    /// Packs in the index.
    pub packs: u64,
    /// Blobs in the index.
    pub blobs: u64,
    /// Packs in no index: left by interrupted backups, harmless.
    pub unreferenced_packs: u64,
    /// What the packs of the index take, in bytes.
    pub pack_bytes: u64,
    /// Packs read to the last byte.
    pub packs_read: u64,
    /// Which these are.
    pub read: Vec<Id>,
    /// Bytes of packs read.
    pub bytes_read: u64,
}

impl CheckReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Repository {
    /// Checks the repository. Damage is in the report; an error means that the check itself could
    /// not be done.
    pub fn check(&self, level: CheckLevel, cancel: &CancelFlag) -> Result<CheckReport> {
        self.check_with(&CheckOptions { level, ..CheckOptions::default() }, cancel)
    }

    /// The same, with all that can be asked for.
    pub fn check_with(
        &self,
        options: &CheckOptions<'_>,
        cancel: &CancelFlag,
    ) -> Result<CheckReport> {
        let job = begin_job(&self.inner)?;
        let mut check = Check {
            inner: &self.inner,
            job: &job,
            cancel,
            report: CheckReport::default(),
            index: MemoryIndex::default(),
            packs: HashMap::new(),
            files: Vec::new(),
            suspects: options.suspects.iter().copied().collect(),
            progress: options.progress,
            unreadable: HashSet::new(),
            trees: HashMap::new(),
            missing: HashSet::new(),
            listed_bytes: 0,
        };
        check.head()?;
        // Snapshots before the index, so that one committed meanwhile is not called incomplete.
        let snapshots = check.snapshots(options.expected)?;
        check.indexes()?;
        self.inner.refresh_index()?;
        check.packs(options.level)?;
        check.suspects()?;
        for snapshot in &snapshots {
            if check.tree(snapshot.tree)? {
                check.hurt(snapshot)?;
            }
        }
        // Only a lock that held makes what was found true.
        job.settled()?;
        job.holds()?;
        Ok(check.report)
    }
}

/// What is wrong with a node.
enum Trouble {
    /// Something to be reported.
    New(Error),
    /// It needs a blob that is reported already.
    Known,
}

struct Check<'a> {
    inner: &'a Arc<Inner>,
    job: &'a JobGuard,
    cancel: &'a CancelFlag,
    progress: Option<&'a (dyn Fn(u64, u64) + Sync)>,
    report: CheckReport,
    index: MemoryIndex,
    packs: HashMap<Id, Listing>,
    /// The index files that were read.
    files: Vec<Id>,
    /// Packs with something wrong, so that each of their blobs must be tried.
    suspects: HashSet<Id>,
    unreadable: HashSet<(BlobKind, Id)>,
    /// Trees seen, and whether anything in or below them is hurt.
    trees: HashMap<Id, bool>,
    missing: HashSet<Id>,
    /// Bytes of the paths of hurt files so far.
    listed_bytes: usize,
}

impl Check<'_> {
    fn go_on(&self) -> Result<()> {
        self.cancel.check()?;
        self.job.check()
    }

    fn problem(&mut self, object: impl Into<String>, error: Error) {
        self.report.problems.push(Problem { object: object.into(), error });
    }

    fn head(&mut self) -> Result<()> {
        let storage = self.inner.storage.as_ref();
        let opened = match limits::get(storage, "config", limits::CONFIG) {
            Ok(config) => {
                self.inner.key.open(&config).map_err(|error| Error::damaged("config", error))
            }
            Err(error) if error.is_damage() => Err(error),
            Err(error) => return Err(error),
        };
        match opened.and_then(|json| crate::config::Config::parse(&json)) {
            Ok(config) if config == self.inner.config => {}
            Ok(_) => {
                self.problem("config", Error::damaged("config", "it changed since it was opened"));
            }
            Err(error) => self.problem("config", error),
        }
        for (id, _) in self.inner.list(FileKind::Key)? {
            let name = FileKind::Key.name(&id);
            let storage = self.inner.storage.as_ref();
            match limits::get(storage, &name, limits::file(FileKind::Key)) {
                Ok(content) if Id::hash(&content) == id => {}
                Ok(_) => {
                    let error = Error::damaged(&name, "its content does not match its name");
                    self.problem(name, error);
                }
                Err(error) if error.is_damage() => self.problem(name, error),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn snapshots(&mut self, expected: &[SnapshotId]) -> Result<Vec<Snapshot>> {
        let mut snapshots = Vec::new();
        let mut missing: BTreeSet<SnapshotId> = expected.iter().copied().collect();
        for (id, _) in self.inner.list(FileKind::Snapshot)? {
            let found = self.inner.read_snapshot(id);
            if !matches!(found, Err(Error::SnapshotNotFound(_))) {
                missing.remove(&id);
            }
            match found {
                Ok(snapshot) => snapshots.push(snapshot),
                Err(Error::SnapshotNotFound(_)) => {}
                Err(error) if error.is_outage() => return Err(error),
                Err(error) => {
                    self.problem(FileKind::Snapshot.name(&id), error);
                    self.add_hurt(id, b"");
                }
            }
        }
        for id in missing {
            self.problem(FileKind::Snapshot.name(&id), Error::SnapshotNotFound(id));
            self.add_hurt(id, b"");
        }
        snapshots.sort_by_key(|snapshot: &Snapshot| (snapshot.time, snapshot.id));
        self.report.snapshots = snapshots.len() as u64;
        Ok(snapshots)
    }

    /// Whether anything in or below the tree is hurt. Every tree is read once.
    fn tree(&mut self, root: Id) -> Result<bool> {
        struct Frame {
            id: Id,
            subtrees: Vec<Id>,
            hurt: bool,
        }
        if let Some(hurt) = self.trees.get(&root) {
            return Ok(*hurt);
        }
        let (hurt, subtrees) = self.look_into(root)?;
        let mut stack = vec![Frame { id: root, subtrees, hurt }];
        loop {
            self.go_on()?;
            let Some(top) = stack.last_mut() else {
                return Ok(self.trees.get(&root).copied().unwrap_or(true));
            };
            if let Some(id) = top.subtrees.pop() {
                if let Some(hurt) = self.trees.get(&id) {
                    top.hurt |= hurt;
                } else {
                    let (hurt, subtrees) = self.look_into(id)?;
                    stack.push(Frame { id, subtrees, hurt });
                }
                continue;
            }
            let (id, hurt) = (top.id, top.hurt);
            stack.pop();
            self.trees.insert(id, hurt);
            if let Some(parent) = stack.last_mut() {
                parent.hurt |= hurt;
            }
        }
    }

    /// Reads one tree: whether something in it itself is hurt, and its subtrees.
    fn look_into(&mut self, id: Id) -> Result<(bool, Vec<Id>)> {
        self.report.trees += 1;
        let object = || format!("tree blob {id}");
        let tree = match self.load_tree(&id) {
            Ok(tree) => tree,
            Err(error) if error.is_outage() => return Err(error),
            Err(error) => {
                // One in a suspect pack is reported already.
                if !self.unreadable.contains(&(BlobKind::Tree, id)) {
                    self.problem(object(), error);
                }
                return Ok((true, Vec::new()));
            }
        };
        let mut hurt = false;
        for name in tree.unsafe_names {
            self.problem(object(), Error::UnsafeName { tree: id, name });
            hurt = true;
        }
        let mut subtrees = Vec::new();
        for (_, node) in &tree.nodes {
            if let Some(trouble) = self.node_trouble(node) {
                hurt = true;
                if let Trouble::New(error) = trouble {
                    self.problem(format!("tree blob {id}, node {}", node.name), error);
                }
            }
            subtrees.extend(node.subtree.filter(|_| node.kind == "dir"));
        }
        Ok((hurt, subtrees))
    }

    fn load_tree(&self, id: &Id) -> Result<Tree> {
        Tree::parse(*id, &self.load_blob(BlobKind::Tree, id)?)
    }

    /// From where the index that is checked says, whatever a prune makes of it meanwhile: nothing is
    /// deleted while this job has its lock.
    fn load_blob(&self, kind: BlobKind, id: &Id) -> Result<Vec<u8>> {
        self.inner.load_from_any(kind, id, self.index.locations(kind, id))
    }

    /// Whether a node itself is hurt.
    fn node_trouble(&mut self, node: &Node) -> Option<Trouble> {
        let bad = |reason: &str| Some(Trouble::New(Error::damaged(node.name.clone(), reason)));
        match node.kind.as_str() {
            "dir" if node.subtree.is_none() => bad("a directory without a tree"),
            "dir" => None,
            "file" => {
                let Some(content) = &node.content else { return bad("a file without content") };
                let (mut size, mut trouble) = (0, None);
                for blob in content {
                    let kind = BlobKind::Data;
                    if let Some(place) = self.index.first(kind, blob) {
                        size += place.blob.plain_length();
                        if self.unreadable.contains(&(kind, *blob)) {
                            trouble.get_or_insert(Trouble::Known);
                        }
                    } else if self.missing.insert(*blob) {
                        let error = Error::MissingBlob { kind, blob: *blob, path: None };
                        trouble = Some(Trouble::New(error));
                    } else {
                        trouble.get_or_insert(Trouble::Known);
                    }
                }
                if trouble.is_none() && size != node.size {
                    return bad("its chunks do not add up to its size");
                }
                trouble
            }
            _ if node.node_kind().is_none() => bad("a node of unknown type"),
            _ => None,
        }
    }

    /// Lists what is hurt in a snapshot, going only where something is.
    fn hurt(&mut self, snapshot: &Snapshot) -> Result<()> {
        // One path for the whole way down, for there may be many and long ones.
        let mut path = Vec::new();
        let mut way = vec![self.hurt_in(snapshot, &path, &snapshot.tree)];
        while let Some(here) = way.last_mut() {
            self.go_on()?;
            if self.report.hurt_total >= COUNTED {
                return Ok(());
            }
            path.truncate(here.length);
            let Some((name, id)) = here.subtrees.pop() else {
                way.pop();
                continue;
            };
            push_name(&mut path, &name);
            let open: usize = way.iter().map(|step| step.json).sum();
            if way.len() >= limits::DEPTH || path.len() > limits::PATH || open > limits::OPEN_TREES
            {
                // Nobody can restore what lies there.
                self.add_hurt(snapshot.id, &path);
                continue;
            }
            way.push(self.hurt_in(snapshot, &path, &id));
        }
        Ok(())
    }

    /// Lists what is hurt in one directory, and returns the way into its hurt subdirectories.
    fn hurt_in(&mut self, snapshot: &Snapshot, path: &[u8], id: &Id) -> Step {
        let mut step = Step { length: path.len(), subtrees: Vec::new(), json: 0 };
        let Ok(tree) = self.load_tree(id) else {
            self.add_hurt(snapshot.id, path);
            return step;
        };
        if !tree.unsafe_names.is_empty() {
            self.add_hurt(snapshot.id, path);
        }
        step.json = tree.json_length;
        for (name, node) in tree.nodes {
            if self.node_trouble(&node).is_some() {
                let mut below = path.to_vec();
                push_name(&mut below, &name);
                self.add_hurt(snapshot.id, &below);
            } else if let Some(id) = node.subtree
                && self.trees.get(&id).copied().unwrap_or(false)
            {
                step.subtrees.push((name, id));
            }
        }
        // The last one is taken first.
        step.subtrees.reverse();
        step
    }

    fn add_hurt(&mut self, snapshot: SnapshotId, path: &[u8]) {
        self.report.hurt_total += 1;
        self.listed_bytes += path.len();
        if self.report.hurt.len() < LISTED && self.listed_bytes <= LISTED_BYTES {
            self.report.hurt.push(HurtFile { snapshot, path: path.to_vec() });
        }
    }
}

/// A directory on the way to what is hurt.
struct Step {
    /// Length of its path, in bytes.
    length: usize,
    /// Its hurt subdirectories that are still to be entered.
    subtrees: Vec<(Vec<u8>, Id)>,
    /// Length of its JSON, in bytes.
    json: usize,
}

fn push_name(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

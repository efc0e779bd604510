//! What is in the mounted file system, and under which numbers.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use provault_repository::{
    ContentCache, Entry, EntryKind, Error, FileReader, Reader, Repository, Result, Snapshot,
    VOLUME_SUFFIX, VolumeCacheLimits, VolumeReader,
};

/// The number of the root directory.
pub(super) const ROOT: u64 = 1;
/// Bytes of file content that are kept.
const CONTENT: usize = 64 << 20;
/// What is kept for each volume that was looked at.
const VOLUME: VolumeCacheLimits = VolumeCacheLimits { blocks: 32 << 20, lists: 8 << 20 };
/// Directories that are kept.
const LISTINGS: usize = 64;

/// One thing in the file system.
#[derive(Clone)]
pub(super) enum Node {
    /// The root, when all snapshots are there.
    Top,
    /// All snapshots by id.
    Ids,
    /// All snapshots by time.
    Times,
    /// A link to a neighbour.
    Link(String),
    /// Something in a snapshot.
    Entry(Arc<Snapshot>, Arc<Entry>),
    /// A volume as one file.
    Volume(Arc<VolumeReader>),
}

/// What a directory holds, sorted by name.
pub(super) struct Listing {
    pub(super) children: Vec<(Vec<u8>, Node)>,
    /// It will never be another one.
    pub(super) lasting: bool,
}

/// A node that the kernel knows.
struct Known {
    node: Node,
    /// How often the kernel was told of it.
    lookups: u64,
}

/// An open file.
pub(super) enum Open {
    File(Box<FileReader>),
    Volume(Arc<VolumeReader>),
}

/// The whole of it.
pub(super) struct Tree {
    repository: Repository,
    reader: Arc<Reader>,
    root: Node,
    content: Arc<ContentCache>,
    known: Mutex<HashMap<u64, Known>>,
    listings: Mutex<VecDeque<(u64, Arc<Listing>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of a name in a directory: always the same, so that none has to be kept.
pub(super) fn number(directory: u64, name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (directory, name).hash(&mut hasher);
    // 0 is no number, and 1 is taken.
    hasher.finish().max(ROOT + 1)
}

impl Tree {
    pub(super) fn new(repository: &Repository, snapshot: Option<Snapshot>) -> Result<Self> {
        let reader = Arc::new(repository.reader()?);
        let root = snapshot.map_or(Node::Top, |snapshot| root_of(&Arc::new(snapshot)));
        Ok(Self {
            repository: repository.clone(),
            reader,
            root,
            content: Arc::new(ContentCache::new(CONTENT)),
            known: Mutex::default(),
            listings: Mutex::default(),
        })
    }

    /// The node with this number, if the kernel knows it.
    pub(super) fn node(&self, inode: u64) -> Option<Node> {
        if inode == ROOT {
            return Some(self.root.clone());
        }
        lock(&self.known).get(&inode).map(|known| known.node.clone())
    }

    /// Finds a name in a directory, and remembers that the kernel was told of it.
    pub(super) fn look_up(&self, directory: u64, name: &[u8]) -> Result<Option<(u64, Node)>> {
        let listing = self.listing(directory)?;
        let Ok(at) = listing.children.binary_search_by(|(own, _)| own.as_slice().cmp(name)) else {
            return Ok(None);
        };
        let (node, inode) = (listing.children[at].1.clone(), number(directory, name));
        let mut known = lock(&self.known);
        let entry = known.entry(inode).or_insert_with(|| Known { node: node.clone(), lookups: 0 });
        entry.lookups += 1;
        entry.node = node.clone();
        Ok(Some((inode, node)))
    }

    /// The kernel has forgotten so many lookups.
    pub(super) fn forget(&self, inode: u64, lookups: u64) {
        let mut known = lock(&self.known);
        if let Some(entry) = known.get_mut(&inode) {
            entry.lookups = entry.lookups.saturating_sub(lookups);
            if entry.lookups == 0 {
                known.remove(&inode);
            }
        }
    }

    /// What is in a directory.
    pub(super) fn listing(&self, inode: u64) -> Result<Arc<Listing>> {
        let mut listings = lock(&self.listings);
        if let Some(at) = listings.iter().position(|(own, _)| *own == inode)
            && let Some(kept) = listings.remove(at)
        {
            let listing = Arc::clone(&kept.1);
            listings.push_back(kept);
            return Ok(listing);
        }
        drop(listings);
        let node = self.node(inode).ok_or_else(|| Error::PathNotFound(format!("inode {inode}")))?;
        let listing = Arc::new(self.list(&node)?);
        if listing.lasting {
            let mut listings = lock(&self.listings);
            listings.push_back((inode, Arc::clone(&listing)));
            if listings.len() > LISTINGS {
                listings.pop_front();
            }
        }
        Ok(listing)
    }

    fn list(&self, node: &Node) -> Result<Listing> {
        let (mut children, lasting) = match node {
            Node::Top => {
                let top = [("ids", Node::Ids), ("snapshots", Node::Times)];
                (top.map(|(name, node)| (name.as_bytes().to_vec(), node)).to_vec(), true)
            }
            Node::Ids => (self.snapshots(|snapshot, _| snapshot.id.short())?, false),
            Node::Times => {
                let mut all = self.snapshots(name_by_time)?;
                if let Some((newest, _)) = all.iter().max_by_key(|(name, _)| name.clone()) {
                    let newest = String::from_utf8_lossy(newest).into_owned();
                    all.push((b"latest".to_vec(), Node::Link(newest)));
                }
                (all, false)
            }
            Node::Entry(snapshot, entry) => (self.entries(snapshot, entry)?, true),
            Node::Link(_) | Node::Volume(_) => {
                return Err(Error::NotADirectory("this file".to_owned()));
            }
        };
        children.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(Listing { children, lasting })
    }

    /// All snapshots under the names that `name` gives them, of how many it has given before.
    fn snapshots(
        &self,
        name: impl Fn(&Snapshot, &HashMap<String, usize>) -> String,
    ) -> Result<Vec<(Vec<u8>, Node)>> {
        let mut given: HashMap<String, usize> = HashMap::new();
        let mut children = Vec::new();
        for snapshot in self.repository.snapshots()?.snapshots {
            let own = name(&snapshot, &given);
            let again = given.entry(own.clone()).or_default();
            *again += 1;
            // Two ids may begin alike; then the later has its whole id.
            let own = if *again > 1 { snapshot.id.to_string() } else { own };
            children.push((own.into_bytes(), root_of(&Arc::new(snapshot))));
        }
        Ok(children)
    }

    fn entries(&self, snapshot: &Arc<Snapshot>, entry: &Entry) -> Result<Vec<(Vec<u8>, Node)>> {
        let mut children: Vec<(Vec<u8>, Node)> = Vec::new();
        for child in self.reader.children(entry)? {
            match child {
                Ok(child) => {
                    let name = child.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                    let name = name.to_vec();
                    children.push((name, Node::Entry(Arc::clone(snapshot), Arc::new(child))));
                }
                Err(error) => tracing::warn!(%error, "an entry of a mounted directory is left out"),
            }
        }
        let mut volumes = Vec::new();
        for (name, node) in &children {
            if let Some(stem) = name.strip_suffix(VOLUME_SUFFIX)
                && let Node::Entry(snapshot, entry) = node
                && entry.kind == EntryKind::Directory
            {
                let name = [stem, b".raw"].concat();
                if children.iter().any(|(other, _)| *other == name) {
                    continue;
                }
                let reader = Arc::clone(&self.reader);
                match VolumeReader::open_with(reader, snapshot, &entry.path, VOLUME) {
                    Ok(volume) => {
                        volumes.push((name, Node::Volume(Arc::new(volume))));
                    }
                    Err(Error::NotAVolume { .. } | Error::PathNotFound(_)) => {}
                    Err(error) => tracing::warn!(%error, "a volume is not shown as one file"),
                }
            }
        }
        children.extend(volumes);
        Ok(children)
    }

    /// Opens a file.
    pub(super) fn open(&self, node: &Node) -> Result<Open> {
        match node {
            Node::Entry(_, entry) if entry.kind == EntryKind::File => {
                let content = Arc::clone(&self.content);
                let reader = Arc::clone(&self.reader);
                Ok(Open::File(Box::new(FileReader::open(reader, entry.as_ref().clone(), content)?)))
            }
            Node::Volume(volume) => Ok(Open::Volume(Arc::clone(volume))),
            _ => Err(Error::NotAFile("this entry".to_owned())),
        }
    }
}

fn root_of(snapshot: &Arc<Snapshot>) -> Node {
    Node::Entry(Arc::clone(snapshot), Arc::new(Reader::root(snapshot)))
}

/// The time of a snapshot, and a number behind it if another one has the same.
fn name_by_time(snapshot: &Snapshot, given: &HashMap<String, usize>) -> String {
    let time = snapshot.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let names = (1u64..).map(|number| match number {
        1 => time.clone(),
        _ => format!("{time}-{number}"),
    });
    let mut free = names.filter(|name| !given.contains_key(name));
    free.next().unwrap_or(time)
}

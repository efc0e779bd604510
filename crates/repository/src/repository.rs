//! An opened repository: its storage, its key, its index, and the jobs that share them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;

use crate::chunker::ChunkerParams;
use crate::config::Config;
use crate::crypto::AeadKey;
use crate::error::{Error, Result};
use crate::id::{Id, SnapshotId};
use crate::index::Location;
use crate::index_files::Index;
use crate::key::{self, Password};
use crate::keys;
use crate::limits;
use crate::lock::{LockManager, begin_freeing_job};
use crate::opener::BlobOpener;
use crate::pack::BlobKind;
use crate::packer::Packer;
use crate::snapshot::Snapshot;
use crate::storage::Storage;

/// How an opened repository works. The defaults suit production.
#[derive(Debug, Clone)]
pub struct Options {
    /// A pack is closed at this many bytes. restic's default.
    pub pack_size: usize,
    /// zstd level.
    pub compression_level: i32,
    /// Where to remember what directories looked like, so that the next backup of the same paths need
    /// not read unchanged ones: a directory of this user's, outside the repository. `None`: nowhere.
    pub cache_dir: Option<std::path::PathBuf>,
    /// Files that changed so shortly before they were read are read again by the next backup, for
    /// a second change within one tick of the file system's clock would not show.
    pub doubt: Duration,
    /// Packs that one job stores at a time, each in memory meanwhile.
    pub uploads: usize,
    /// Named in lock files; by default this machine's name.
    pub hostname: String,
    /// Named in lock files and key files.
    pub username: String,
    /// Pause between writing a lock and looking again for others, as in restic's protocol.
    pub lock_settle: Duration,
    /// Time between two refreshes of a lock; must stay well below 22 minutes.
    pub lock_refresh: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let hostname = nix::unistd::gethostname().unwrap_or_default();
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
        Self {
            pack_size: 16 << 20,
            compression_level: 3,
            cache_dir: None,
            doubt: crate::familiar::DOUBT,
            uploads: 2,
            hostname: hostname.to_string_lossy().into_owned(),
            username: user.map(|user| user.name).unwrap_or_default(),
            lock_settle: Duration::from_millis(200),
            lock_refresh: Duration::from_mins(5),
        }
    }
}

/// The directories of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Pack,
    Index,
    Snapshot,
    Key,
    Lock,
    /// What a prune is about to delete.
    Mark,
}

impl FileKind {
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::Pack => "data",
            Self::Index => "index",
            Self::Snapshot => "snapshots",
            Self::Key => "keys",
            Self::Lock => "locks",
            Self::Mark => "provault/prune",
        }
    }

    /// The file's name below the repository's root.
    pub(crate) fn name(self, id: &Id) -> String {
        match self {
            Self::Pack => format!("data/{:02x}/{id}", id.0[0]),
            _ => format!("{}/{id}", self.directory()),
        }
    }
}

/// An opened repository. Clones share everything, and jobs on any of them may run at a time.
///
/// All methods block: from async code, call them in `spawn_blocking`.
#[derive(Clone)]
pub struct Repository {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) key: AeadKey,
    pub(crate) config: Config,
    pub(crate) options: Options,
    pub(crate) chunker: ChunkerParams,
    pub(crate) packer: Packer,
    pub(crate) lock: LockManager,
    pub(crate) index: RwLock<Index>,
    /// Held while index files are read or written, so that two jobs do not do it twice.
    pub(crate) index_files: Mutex<()>,
    /// Index files that should have been deleted again and could not be.
    pub(crate) untrusted: Mutex<Vec<Id>>,
    snapshots: Mutex<HashMap<SnapshotId, Snapshot>>,
}

/// Every snapshot of a repository.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// The readable ones, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Those that are damaged, or that the disk cannot read.
    pub damaged: Vec<(SnapshotId, Error)>,
}

impl Repository {
    /// Whether there is a repository in `storage`.
    pub fn exists(storage: &dyn Storage) -> Result<bool> {
        Ok(storage.exists("config")?)
    }

    /// Makes a new repository, locked by `password`.
    pub fn init(storage: Arc<dyn Storage>, password: &Password, options: Options) -> Result<Self> {
        if Self::exists(storage.as_ref())? {
            return Err(Error::AlreadyInitialised);
        }
        // A repository that has lost its config still needs its keys.
        for kind in [FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
            if !list(storage.as_ref(), kind)?.is_empty() {
                return Err(Error::AlreadyInitialised);
            }
        }
        // Left by attempts that were interrupted before they had a config.
        let orphans = list(storage.as_ref(), FileKind::Key)?;
        let master = AeadKey::generate();
        let key_file = key::write(
            &master,
            password,
            key::Stretch::UnlessRandom,
            &options.hostname,
            &options.username,
        )?;
        let config = Config::generate();
        let json =
            serde_json::to_vec(&config).map_err(|error| Error::Internal(error.to_string()))?;
        // The key first: a config without a key could never be opened, nor made again.
        let key_name = FileKind::Key.name(&Id::hash(&key_file));
        storage.put(&key_name, Bytes::from(key_file))?;
        if let Err(error) = storage.put("config", Bytes::from(master.seal(&json))) {
            // The answer may be lost and the config there; then the key must stay, come what may.
            match storage.get("config").map(|there| master.open(&there)) {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => {
                    let _ = storage.delete(&key_name);
                    return Err(Error::AlreadyInitialised);
                }
                Err(_) => return Err(error.into()),
            }
        }
        // The config is ours, so these open nothing; restic would stumble over one that the same
        // password opens.
        for (orphan, _) in orphans {
            storage.delete(&FileKind::Key.name(&orphan))?;
        }
        crate::reserve::ensure(storage.as_ref(), crate::reserve::SMALLEST);
        let chunker = ChunkerParams::new(&master);
        Ok(Self::new(storage, master, config, chunker, options))
    }

    /// Opens a repository. Cheap: the index is read when the first job needs it.
    pub fn open(storage: Arc<dyn Storage>, password: &Password, options: Options) -> Result<Self> {
        let config = match limits::get(storage.as_ref(), "config", limits::CONFIG) {
            Err(Error::Storage(error)) if error.is_not_found() => {
                return Err(Error::NotARepository);
            }
            other => other?,
        };
        let master = keys::find(storage.as_ref(), password)?;
        let json = master.open(&config).map_err(|error| Error::damaged("config", error))?;
        let config = Config::parse(&json)?;
        let chunker = ChunkerParams::of(storage.as_ref(), &config, &master)?;
        Ok(Self::new(storage, master, config, chunker, options))
    }

    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        key: AeadKey,
        config: Config,
        chunker: ChunkerParams,
        options: Options,
    ) -> Self {
        let inner = Inner {
            storage,
            key,
            config,
            options,
            chunker,
            packer: Packer::default(),
            lock: LockManager::default(),
            index: RwLock::default(),
            index_files: Mutex::default(),
            untrusted: Mutex::default(),
            snapshots: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether it is still there: a storage that was opened may be away by now, such as a disk that
    /// is not mounted any more.
    pub fn look(&self) -> Result<()> {
        if Self::exists(self.inner.storage.as_ref())? { Ok(()) } else { Err(Error::NotARepository) }
    }

    /// The repository's configuration.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// All snapshots, whoever wrote them. Takes no lock: snapshot files stand for themselves.
    pub fn snapshots(&self) -> Result<SnapshotList> {
        let mut all = SnapshotList::default();
        let listed = self.inner.list(FileKind::Snapshot)?;
        let mut cache = self.inner.snapshot_cache();
        let ids: HashSet<_> = listed.iter().map(|(id, _)| *id).collect();
        cache.retain(|id, _| ids.contains(id));
        drop(cache);
        for (id, _) in listed {
            let cached = self.inner.snapshot_cache().get(&id).cloned();
            match cached.map_or_else(|| self.snapshot(id), Ok) {
                Ok(snapshot) => all.snapshots.push(snapshot),
                // Forgotten meanwhile.
                Err(Error::SnapshotNotFound(_)) => {}
                Err(error) if error.is_lost() => all.damaged.push((id, error)),
                Err(error) => return Err(error),
            }
        }
        all.snapshots.sort_by_key(|snapshot| (snapshot.time, snapshot.id));
        Ok(all)
    }

    /// One snapshot.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        let snapshot = self.inner.read_snapshot(id)?;
        self.inner.snapshot_cache().insert(id, snapshot.clone());
        Ok(snapshot)
    }

    /// The newest readable snapshot that bears `tag`: how a job finds out after a crash whether
    /// it had committed.
    pub fn find_snapshot_by_tag(&self, tag: &str) -> Result<Option<Snapshot>> {
        Ok(self.snapshots()?.snapshots.into_iter().rev().find(|snapshot| snapshot.has_tag(tag)))
    }

    /// Removes snapshots. What only they referred to stays until it is pruned. One that is gone
    /// already is no error, so a retry is safe.
    pub fn forget(&self, snapshots: &[SnapshotId]) -> Result<()> {
        let job = begin_freeing_job(&self.inner)?;
        for id in snapshots {
            job.check()?;
            match self.inner.storage.delete(&FileKind::Snapshot.name(id)) {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => self.inner.snapshot_cache().remove(id),
            };
        }
        Ok(())
    }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("id", &self.inner.config.id).finish_non_exhaustive()
    }
}

/// All files of a kind, with their sizes. Names that are no ids are not ours.
pub(crate) fn list(storage: &dyn Storage, kind: FileKind) -> Result<Vec<(Id, u64)>> {
    let objects = storage.list(kind.directory())?;
    Ok(objects
        .into_iter()
        .filter_map(|object| {
            let id: Id = object.name.rsplit('/').next()?.parse().ok()?;
            (object.name == kind.name(&id)).then_some((id, object.size))
        })
        .collect())
}

impl Inner {
    /// All files of a kind, with their sizes. Names that are no ids are not ours.
    pub(crate) fn list(&self, kind: FileKind) -> Result<Vec<(Id, u64)>> {
        list(self.storage.as_ref(), kind)
    }

    fn snapshot_cache(&self) -> MutexGuard<'_, HashMap<SnapshotId, Snapshot>> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a snapshot from the storage, whatever the cache says.
    pub(crate) fn read_snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        match self.load_unpacked(FileKind::Snapshot, &id) {
            Ok(json) => Snapshot::parse(id, &json),
            Err(Error::Storage(error)) if error.is_not_found() => Err(Error::SnapshotNotFound(id)),
            Err(error) => Err(error),
        }
    }

    /// Stores a JSON document as a file of its own, named by its hash.
    pub(crate) fn save_unpacked(&self, kind: FileKind, json: &[u8]) -> Result<Id> {
        let sealed = if self.config.compresses() {
            // 2 says that zstd follows.
            let mut plain = vec![2];
            let compressed = zstd::bulk::compress(json, self.options.compression_level)
                .map_err(|error| Error::Internal(error.to_string()))?;
            plain.extend_from_slice(&compressed);
            self.key.seal(&plain)
        } else {
            self.key.seal(json)
        };
        let id = Id::hash(&sealed);
        self.storage.put(&kind.name(&id), Bytes::from(sealed))?;
        Ok(id)
    }

    /// The JSON document in a file, verified by name and by MAC.
    pub(crate) fn load_unpacked(&self, kind: FileKind, id: &Id) -> Result<Vec<u8>> {
        let name = kind.name(id);
        let sealed = limits::get(self.storage.as_ref(), &name, limits::file(kind))?;
        if Id::hash(&sealed) != *id {
            return Err(Error::damaged(name, "its content does not match its name"));
        }
        let plain = self.key.open(&sealed).map_err(|error| Error::damaged(&name, error))?;
        limits::decode_file(&name, kind, plain)
    }

    /// The verified plaintext of a blob, from whichever place still has it.
    pub(crate) fn load_blob(&self, kind: BlobKind, id: &Id) -> Result<Vec<u8>> {
        let places = self.index().memory.locations(kind, id);
        self.load_from_any(kind, id, places)
    }

    /// The same for a reader that may have begun before a prune.
    pub(crate) fn read_blob(&self, kind: BlobKind, id: &Id) -> Result<Vec<u8>> {
        let places = self.index().places(kind, id);
        self.load_from_any(kind, id, places)
    }

    pub(crate) fn load_from_any(
        &self,
        kind: BlobKind,
        id: &Id,
        places: Vec<Location>,
    ) -> Result<Vec<u8>> {
        let mut last = Error::MissingBlob { kind, blob: *id, path: None };
        for place in places {
            match self.load_from(&place) {
                Err(error) if error.is_lost() => last = error,
                other => return other,
            }
        }
        Err(last)
    }

    pub(crate) fn load_from(&self, place: &Location) -> Result<Vec<u8>> {
        limits::refuse_absurd(place)?;
        let (offset, length) = (u64::from(place.blob.offset), u64::from(place.blob.length));
        match self.storage.get_range(&FileKind::Pack.name(&place.pack), offset, length) {
            Ok(sealed) => {
                let mut opener = BlobOpener::new()?;
                opener.open(&self.key, place, &sealed)?;
                Ok(opener.into_plain())
            }
            Err(error) if error.is_not_found() => Err(damaged(place, "the pack file is gone")),
            Err(error) => Err(error.into()),
        }
    }
}

pub(crate) fn damaged(place: &Location, reason: impl std::fmt::Display) -> Error {
    Error::DamagedBlob {
        kind: place.blob.kind,
        blob: place.blob.id,
        pack: place.pack,
        path: None,
        reason: reason.to_string(),
    }
}

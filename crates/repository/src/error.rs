//! What can go wrong, said so that a person knows what to do next.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::id::Id;
use crate::pack::BlobKind;
use crate::storage::StorageError;

/// The result of a repository operation.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the repository.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The storage did not do what it was asked. A retry helps when the storage recovers.
    #[error("storage: {0}; nothing was committed, try again once the storage works")]
    Storage(#[from] StorageError),
    /// There is no repository at this place.
    #[error(
        "there is no repository: its file `config` is missing; if there was one, is its disk mounted?"
    )]
    NotARepository,
    /// There is a repository at this place already.
    #[error("a repository exists here already; choose another place")]
    AlreadyInitialised,
    /// No key file opens with this password.
    #[error("the password opens none of the {keys} key files of this repository")]
    WrongPassword {
        /// Number of intact key files that were tried.
        keys: usize,
    },
    /// The key is the one that the repository was opened with.
    #[error(
        "key {0} belongs to the password in use; open the repository with another password to remove it"
    )]
    KeyInUse(Id),
    /// Somebody else removed the key that was to stay, so no other was removed.
    #[error(
        "key {gone} was removed by somebody else meanwhile, so key {kept} was kept: a repository \
         without a key is lost. Look at the keys that are there, and remove what is to go with a \
         password that still opens the repository"
    )]
    KeyGone {
        /// The key that was to stay.
        gone: Id,
        /// The one that was to be removed, and is there.
        kept: Id,
    },
    /// The repository's format is not one that we know (versions 1 and 2).
    #[error("repository format version {0} is not supported, only 1 and 2 are")]
    UnsupportedVersion(u32),
    /// A file of the repository (not a blob within a pack) is damaged.
    #[error("{name} is damaged: {reason}; run a check, and repair from another copy")]
    DamagedFile {
        /// Path below the repository's root.
        name: String,
        /// What did not fit.
        reason: String,
    },
    /// A blob is there but does not decrypt, decompress or hash to what it should.
    #[error("{kind} blob {blob} in pack {pack} is damaged{}: {reason}", for_path(.path.as_ref()))]
    DamagedBlob {
        /// Data or tree.
        kind: BlobKind,
        /// The blob.
        blob: Id,
        /// The pack file it lies in.
        pack: Id,
        /// The file or directory that needs it, where known.
        path: Option<String>,
        /// What did not fit.
        reason: String,
    },
    /// A blob is in no index: its pack or index file is gone.
    #[error("{kind} blob {blob} is in no index{}", for_path(.path.as_ref()))]
    MissingBlob {
        /// Data or tree.
        kind: BlobKind,
        /// The blob.
        blob: Id,
        /// The file or directory that needs it, where known.
        path: Option<String>,
    },
    /// No such snapshot.
    #[error("snapshot {0} does not exist")]
    SnapshotNotFound(Id),
    /// No such path in the snapshot.
    #[error("path {0} is not in the snapshot")]
    PathNotFound(String),
    /// A name in a stored tree would leave the directory it is restored into, or is no name.
    #[error("the tree {tree} holds the unsafe name {name:?}; it is not restored")]
    UnsafeName {
        /// The tree that holds it.
        tree: Id,
        /// The name, lossily as text.
        name: String,
    },
    /// The operation needs a regular file.
    #[error("{0} is not a regular file")]
    NotAFile(String),
    /// The operation needs a directory.
    #[error("{0} is not a directory")]
    NotADirectory(String),
    /// Somebody else holds a lock that excludes us.
    #[error("the repository is locked: {holder}; wait for that program to end")]
    Locked {
        /// Who holds it, since when.
        holder: String,
    },
    /// Our own lock could not be refreshed in time, so others may have deleted what we rely on.
    #[error("the repository lock was lost ({0}); nothing was committed, start the job again")]
    LockLost(String),
    /// Pruning now could take away what can still be saved, so nothing was deleted.
    #[error(
        "the repository is not whole, and nothing was deleted ({problems} found; the first: \
         {first}); run a check, which names what is hurt, then repair, or forget the snapshots \
         that cannot be mended"
    )]
    PruneRefused {
        /// How many things are wrong.
        problems: u64,
        /// One of them.
        first: Box<Error>,
    },
    /// There are packs and no snapshot, so a prune would delete everything; nothing was deleted.
    #[error(
        "the repository holds {packs} packs and no snapshot, so everything would go, and nothing \
         was deleted. If snapshots are missing, put their files back into `snapshots/`, or mount it"
    )]
    NoSnapshots {
        /// How many packs are there.
        packs: u64,
    },
    /// The job was cancelled through its [`CancelFlag`](crate::CancelFlag).
    #[error("cancelled")]
    Cancelled,
    /// The source could not be read. Only this node is missing from the snapshot: the writer
    /// stays usable, and a walker goes on with the next entry.
    #[error("cannot read {path}: {source}")]
    SourceRead {
        /// Path within the backup.
        path: String,
        /// The operating system's error.
        source: Arc<io::Error>,
    },
    /// The caller handed in a node name that cannot be stored.
    #[error("{name:?} is not a valid node name: {reason}")]
    InvalidName {
        /// The name, lossily as text.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// `begin_dir` and `end_dir` do not pair up.
    #[error("directories were opened and closed unevenly: {0}")]
    UnbalancedDirectories(&'static str),
    /// The writer failed before, so it cannot commit.
    #[error("this writer failed earlier and cannot be used any more: {0}")]
    WriterBroken(String),
    /// A pack that this backup depends on could not be stored (perhaps by a job beside it).
    #[error("a pack was not stored: {0}; nothing was committed, start the job again")]
    PackNotStored(StorageError),
    /// The receiver of restored bytes failed.
    #[error("writing {path}: {source}")]
    Sink {
        /// The file being restored.
        path: String,
        /// Its error.
        source: Arc<io::Error>,
    },
    /// What was asked for is no volume that we stored.
    #[error("{}not a volume: {reason}", .path.as_ref().map(|path| format!("{path} is ")).unwrap_or_default())]
    NotAVolume {
        /// Its path in the snapshot, where known.
        path: Option<String>,
        /// What it lacks.
        reason: String,
    },
    /// A volume, or what is asked of one, is beyond what can be stored.
    #[error("this volume cannot be stored: {0}")]
    InvalidVolume(String),
    /// A list of changed blocks cannot be used. Nothing was written.
    #[error(
        "the changed blocks are counted from snapshot {base}, which cannot be built upon: {reason}; \
         back the volume up without the list"
    )]
    BaseUnusable {
        /// The snapshot that the list counts from.
        base: Id,
        /// Why it does not serve.
        reason: String,
    },
    /// Sealed bytes do not open: another key, another context, or damage.
    #[error("the sealed bytes do not open: wrong key, wrong context, or damaged")]
    Unsealable,
    /// A limit of the format was reached.
    #[error("limit of the format: {0}")]
    Limit(String),
    /// Should not happen: compression or serialisation failed.
    #[error("internal: {0}")]
    Internal(String),
}

impl Error {
    /// Whether only one source file is affected, so that a backup can go on without it.
    pub fn is_source_read(&self) -> bool {
        matches!(self, Self::SourceRead { .. })
    }

    /// Whether stored data is damaged or missing, as opposed to trouble in reaching it.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::DamagedFile { .. }
                | Self::DamagedBlob { .. }
                | Self::MissingBlob { .. }
                | Self::UnsafeName { .. }
        )
    }

    /// Whether this object cannot be had any more: it is damaged, or the disk cannot read it (EIO).
    pub(crate) fn is_lost(&self) -> bool {
        self.is_damage() || matches!(self, Self::Storage(error) if error.is_unreadable())
    }

    /// Whether the storage did not answer as it should, which says nothing of what lies in it.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Storage(error) if !error.is_not_found() && !self.is_lost())
    }

    /// Whether others may have taken the job for dead, or hold the repository for themselves.
    pub(crate) fn is_lock_lost(&self) -> bool {
        matches!(self, Self::LockLost(_) | Self::Locked { .. })
    }

    /// Whether the storage has no room left.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Storage(error) | Self::PackNotStored(error) => error.is_no_space(),
            _ => false,
        }
    }

    /// Names the file or directory that was being read, where that was not known below.
    pub(crate) fn at_path(mut self, at: &[u8]) -> Self {
        if let Self::DamagedBlob { path, .. } | Self::MissingBlob { path, .. } = &mut self {
            path.get_or_insert_with(|| String::from_utf8_lossy(at).into_owned());
        }
        self
    }

    pub(crate) fn damaged(name: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::DamagedFile { name: name.into(), reason: format!("{reason}") }
    }
}

fn for_path(path: Option<&String>) -> String {
    path.map(|path| format!(", needed by {path}")).unwrap_or_default()
}

//! What a backup is to be, and what it did.

use std::sync::Arc;

use crate::cancel::CancelFlag;
use crate::id::{Id, SnapshotId};
use crate::node::{FileTime, Metadata};

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
    /// Tags, such as the job's id: see `Repository::find_snapshot_by_tag`.
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

/// What is known of the entries of a directory that are not directories, before any is handed over.
#[derive(Debug, Clone, Copy)]
pub struct Leaves {
    /// SHA-256 of all that `stat` tells of them: names, kinds, sizes, times, owners, inodes.
    pub fingerprint: [u8; 32],
    /// The latest of their times of change (of content or inode).
    pub newest: FileTime,
    /// How many of them are regular files.
    pub files: u64,
    /// The others: links, devices, pipes, sockets.
    pub others: u64,
    /// Bytes of the regular files.
    pub bytes: u64,
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

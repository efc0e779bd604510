//! The data plane: where backups are kept.
//!
//! A repository is the storage of one vault: one key, one deduplication domain, one lock domain.
//! On disk it is the restic repository format, version 2, in an implementation of our own, so that
//! stock `restic` checks and restores what is written here, and the other way round.
//!
//! - A file is cut into chunks by its content; a chunk or a directory's tree is a *blob*, named by
//!   the SHA-256 of its plaintext and stored once ([`writer`](SnapshotWriter)).
//! - Blobs are compressed, sealed (AES-256-CTR with Poly1305-AES) and collected in *packs*; the
//!   *index* tells where each lies; a *snapshot* names the root tree of one backup.
//! - A volume is cut into fixed blocks, and stored as a directory of segments, so that an
//!   increment costs what changed ([`VolumeOptions`], [`VolumeReader`]).
//!
//! What always holds:
//!
//! 1. Commit order. Packs, then index, then snapshot, each durable before the next is written. A
//!    crash at any point leaves packs that nothing refers to, never a snapshot that lacks a blob.
//! 2. Files are created whole under the hash of their content, and never changed.
//! 3. Every blob that is read is verified before anybody sees it. Damage is an error that names
//!    the pack, the blob and the file, and hurts no other file.
//! 4. Jobs take restic's locks, and believe no index older than their lock.
//!
//! Everything here blocks; async callers use `spawn_blocking`. It reads the clock for lock files
//! only: the time of a backup is the caller's to say.
//!
//! What stock restic cannot see: where the holes of sparse files were, and extended attributes
//! whose names are not UTF-8; these stand in fields of our own, which it skips when it restores.
//! (`restic rewrite` of later versions refuses trees with fields that it does not know.)

mod assembly;
mod backup;
#[doc(hidden)]
pub mod bench_support;
mod blobs;
mod browse;
mod cancel;
mod check;
mod chunker;
mod config;
mod copy;
mod crypto;
mod entries;
mod error;
mod familiar;
mod forget;
#[doc(hidden)]
pub mod fuzzing;
mod go_json;
mod id;
mod index;
mod index_files;
mod key;
mod keys;
mod limits;
mod lock;
mod lock_file;
mod lock_list;
mod needed;
mod node;
mod opener;
mod pack;
mod pack_check;
mod packer;
#[doc(hidden)]
pub mod pause;
mod pipeline;
#[doc(hidden)]
pub mod planted;
mod prune;
mod rabin;
mod reader;
mod refs;
mod relist;
mod removal;
mod repair;
mod repository;
mod reserve;
mod seal;
mod slab;
mod snapshot;
mod storage;
mod survey;
mod totals;
mod tree;
mod unlock;
mod verify;
mod volume;
mod writer;

pub use backup::{
    BackupOptions, BackupStats, CommittedSnapshot, FileOutcome, Leaves, ProgressFn,
    RECORD_DIRECTORY, RECORD_FILE, RootComponent,
};
pub use browse::{ContentCache, FileReader};
pub use cancel::CancelFlag;
pub use check::{CheckLevel, CheckOptions, CheckReport, HurtFile, PackSubset, Problem};
pub use config::Config;
pub use copy::{CopyOptions, CopyProgressFn, CopyReport, CopyStats};
pub use entries::{Entries, Entry, EntryKind};
pub use error::{Error, Result};
pub use forget::{ForgetGroup, ForgetPolicy, GroupBy, KeptSnapshot, Period};
pub use id::{Id, InvalidId, SnapshotId};
pub use key::Password;
pub use keys::KeyInfo;
pub use node::{ExtendedAttribute, FileTime, Metadata, NodeKind};
pub use pack::BlobKind;
pub use prune::{
    MaxUnused, PackReason, PlannedPack, PruneOptions, PrunePhase, PrunePlan, PruneProgressFn,
    PruneReport,
};
pub use reader::{BlobRef, ContentSink, CopyOutcome, FailedFile, Reader};
pub use repair::{RepairOptions, RepairProgressFn, RepairReport};
pub use repository::{Options, Repository, SnapshotList};
pub use seal::WrappingKey;
pub use snapshot::Snapshot;
pub use storage::{
    Bounds, LiveBounds, LocalStorage, ObjectStorage, S3Options, S3Storage, Storage, StorageError,
    StorageErrorKind, StorageOptions, StoredObject, guard_storage, local_directory, open_directory,
    open_storage, real_directory,
};
pub use survey::{Survey, Surveyed, Usage};
pub use totals::{Totals, TreeTotals};
pub use unlock::LockInfo;
pub use verify::{PackVerdict, Verifier};
pub use volume::{
    ByteRange, ChangedBlocks, DEFAULT_BLOCK_SIZE, DamagedRange, Extent, MAX_VOLUME, NbdAddress,
    NbdExport, NbdLimits, NbdServer, RawImage, RawTarget, VOLUME_SUFFIX, VolumeCacheLimits,
    VolumeExtent, VolumeOptions, VolumeReader, VolumeRestore, VolumeRestoreOptions, VolumeSource,
    VolumeStats, VolumeTarget,
};
pub use writer::SnapshotWriter;

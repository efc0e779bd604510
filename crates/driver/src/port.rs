//! The traits: driver and capture on one side, sink and source on the other.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use provault_domain::backup_job::SkippedPath;
use provault_domain::verdict::ProbeResult;
use provault_domain::{Invalid, Kind, Resource};

use crate::{
    BlockRange, BlockSource, CancelFlag, DiscoverRequest, Discovery, DriverError, Entry, Lineage,
    Metadata, NodeKind, SinkError, SourceError, StoredVolume, VolumeOutcome,
};

/// Code that captures and restores one kind of resource.
pub trait Driver: Send + Sync {
    /// The kind.
    fn kind(&self) -> Kind;

    /// Checks the settings of a resource about to be registered and gives them back in full, as
    /// they are to be kept. Unknown settings are refused by name.
    fn check_config(&self, config: &serde_json::Value) -> Result<serde_json::Value, Invalid>;

    /// The text that tells one resource of this kind from another: registering the same thing
    /// twice is refused by it.
    fn identity(&self, config: &serde_json::Value) -> String;

    /// Takes a consistent view of the resource. What it holds (a snapshot, a freeze) is given
    /// back when the capture is dropped.
    fn capture(
        &self,
        resource: &Resource,
        cancel: &CancelFlag,
    ) -> Result<Box<dyn Capture>, DriverError>;

    /// What `GetRecoveryPointRestoreMetadata` answers for a recovery point of this resource: the
    /// keys that [`Driver::check_restore`] takes, with their defaults.
    fn restore_metadata(&self, resource: &Resource) -> BTreeMap<String, String>;

    /// Checks what a caller asks of a restore before a job is made. An unknown, missing or
    /// impossible key is an error that names the key.
    fn check_restore(&self, metadata: &BTreeMap<String, String>) -> Result<(), Invalid>;

    /// Where a restore of this request goes when it may write over what exists, as [`Driver::identity`]
    /// words it; nothing when it only makes what is not there. Does not look at the disk.
    fn writes_over(&self, metadata: &BTreeMap<String, String>) -> Result<Option<String>, Invalid>;

    /// Writes a recovery point back. Complete or nothing: on an error the target is as it was. Only
    /// a restore into something that exists, which must have been asked for, may break off between
    /// two files while it puts them in place, or in the middle of a target that [`Driver::writes_in_place`]
    /// names; it says so then, the latter by [`DriverError::PartlyWritten`].
    fn restore(
        &self,
        request: &RestoreRequest<'_>,
        source: &dyn Source,
        context: &WorkContext<'_>,
    ) -> Result<RestoreOutcome, DriverError>;

    /// Takes up a restore that died with its process, or that was stopped to be taken up again. What
    /// it left is used where it is proven to be what the recovery point holds; a restore that had
    /// been completed in its last moment is found to be so. A driver that keeps nothing begins anew.
    fn resume(
        &self,
        request: &RestoreRequest<'_>,
        source: &dyn Source,
        context: &WorkContext<'_>,
    ) -> Result<RestoreOutcome, DriverError> {
        self.discard_partial(request)?;
        self.restore(request, source, context)
    }

    /// What [`Driver::restore`] would do now, or the error it would answer before it writes
    /// anything. Writes nothing.
    fn preview(
        &self,
        request: &RestoreRequest<'_>,
        source: &dyn Source,
        context: &WorkContext<'_>,
    ) -> Result<RestorePreview, DriverError> {
        let _ = (request, source, context);
        Err(Invalid::new("Metadata", "restores of this kind of resource have no preview.").into())
    }

    /// Lets a restore not be verified by the driver, for somebody who compares the copy himself. A
    /// driver that verifies nothing changes nothing.
    fn leave_unverified(&self, metadata: &mut BTreeMap<String, String>) {
        let _ = metadata;
    }

    /// Removes what a restore left that died with its process. Touches only what bears the job's
    /// id; to do it twice is to do it once.
    fn discard_partial(&self, request: &RestoreRequest<'_>) -> Result<(), DriverError>;

    /// What a restore of this request writes over as it goes, so that it is neither the old nor the new when
    /// that breaks off, even with its process; nothing when it is put in place as a whole. Does not look at
    /// the disk.
    fn writes_in_place(&self, metadata: &BTreeMap<String, String>) -> Option<PathBuf> {
        let _ = metadata;
        None
    }

    /// Directs a restore to `copy`, where nothing is yet: the place of a restore test, which has to be a
    /// directory. The driver need not verify what it writes there: [`Driver::check_copy`] does.
    fn direct_to_copy(&self, metadata: &mut BTreeMap<String, String>, copy: &Path) {
        metadata.insert("targetPath".to_owned(), copy.to_string_lossy().into_owned());
        self.leave_unverified(metadata);
    }

    /// Compares the copy of a restore test with what the recovery point holds; the caller fills in how
    /// long that took. Nothing: its files are to be compared with the entries of the source.
    fn check_copy(
        &self,
        copy: &Path,
        source: &dyn Source,
        context: &WorkContext<'_>,
    ) -> Result<Option<ProbeResult>, DriverError> {
        let _ = (copy, source, context);
        Ok(None)
    }

    /// Whether this resource keeps something for increments that [`Driver::give_back`] is about.
    fn keeps_bases(&self, resource: &Resource) -> bool {
        let _ = resource;
        false
    }

    /// Gives back what was kept on the resource for increments (bitmaps, snapshots), but for what
    /// belongs to the jobs of `kept`. Comes after every job, whatever became of it; to do it twice is to
    /// do it once, and a later capture does what could not be done here.
    fn give_back(&self, resource: &Resource, kept: &[String]) -> Result<(), DriverError> {
        let _ = (resource, kept);
        Ok(())
    }

    /// Looks for what stands on the host and could be registered. Only looks, keeps to the limits of
    /// the request, and never offers the server's own data. A driver that cannot look finds nothing.
    fn discover(
        &self,
        request: &DiscoverRequest<'_>,
        cancel: &CancelFlag,
    ) -> Result<Discovery, DriverError> {
        let _ = (request, cancel);
        Ok(Discovery::default())
    }
}

/// What a job gives its driver while it works.
pub struct WorkContext<'a> {
    /// Raised when the job is to stop.
    pub cancel: &'a CancelFlag,
    /// Called now and then with the bytes done so far and the bytes there are, as far as known.
    pub progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
}

/// A consistent point-in-time view of a resource.
pub trait Capture: Send {
    /// Hands everything over, depth first, names sorted by their bytes within a directory.
    fn read_into(
        self: Box<Self>,
        sink: &mut dyn Sink,
        context: &WorkContext<'_>,
    ) -> Result<CaptureReport, DriverError>;
}

/// What a capture read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptureReport {
    /// Bytes of content in the capture, read or known to be unchanged; what several names share
    /// counts once.
    pub bytes: u64,
    /// Names of regular files in it.
    pub files: u64,
    /// What could not be read; makes the job PARTIAL.
    pub skipped: Vec<SkippedPath>,
    /// What is worth knowing but took nothing away, such as files that changed while read.
    pub notes: Vec<String>,
}

/// What became of a file handed to a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOutcome {
    /// The same as in the parent; it was not opened.
    Unchanged,
    /// Read and stored.
    Stored {
        /// Bytes read.
        bytes: u64,
    },
}

/// What a driver knows of the entries of a directory that are not directories, before it hands any
/// of them over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaves {
    /// SHA-256 of everything that can be known of them without opening one.
    pub fingerprint: [u8; 32],
    /// When the last of them changed, content or metadata.
    pub newest: Timestamp,
    /// Names of regular files among them.
    pub files: u64,
    /// Names of the others.
    pub others: u64,
    /// Bytes of the regular files, each name counted.
    pub bytes: u64,
}

/// Where a capture goes. Calls come depth first: the root directory is begun first and ended
/// last; names within a directory come in ascending order of their bytes.
pub trait Sink {
    /// Enters a directory; `name` is empty for the root.
    fn begin_dir(&mut self, name: &[u8], metadata: &Metadata) -> Result<(), SinkError>;
    /// May follow [`Sink::begin_dir`]. `true`: all these leaves are as they were in the parent, are in
    /// the capture, and must not be handed over. A sink that remembers nothing says `false`.
    fn leaves(&mut self, leaves: &Leaves) -> Result<bool, SinkError> {
        let _ = leaves;
        Ok(false)
    }
    /// The leaves of the directory entered last were not all captured as they were announced: they
    /// must not be taken for known by the next backup.
    fn doubt_leaves(&mut self) {}
    /// Leaves the directory entered last.
    fn end_dir(&mut self) -> Result<(), SinkError>;
    /// Adds what has no content: links, devices, pipes, sockets.
    fn add_node(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        kind: &NodeKind,
    ) -> Result<(), SinkError>;
    /// Adds a regular file. `open` is called only when the content has to be read. After
    /// [`SinkError::Read`] the file is not in the capture and the next may be added.
    fn add_file(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        open: &mut dyn FnMut() -> io::Result<Box<dyn Read + Send>>,
    ) -> Result<FileOutcome, SinkError>;
    /// What an increment may count from. A sink that remembers nothing knows of none.
    fn lineage(&self) -> Lineage {
        Lineage::default()
    }
    /// Adds a volume. `changed`: all ranges whose bytes may differ from the recovery point of
    /// [`Lineage::base`]; without it everything is read that is not known to be zeros. After
    /// [`SinkError::Read`] nothing of it is in the capture.
    fn add_volume(
        &mut self,
        name: &[u8],
        blocks: &dyn BlockSource,
        changed: Option<&[BlockRange]>,
    ) -> Result<VolumeOutcome, SinkError> {
        let _ = (name, blocks, changed);
        Err(SinkError::Store("this sink takes no volumes".into()))
    }
}

/// A stored tree.
pub trait Source: Sync {
    /// Entries in the order they were stored: the root first, a directory before what is in it.
    fn entries(
        &self,
    ) -> Result<Box<dyn Iterator<Item = Result<Entry, SourceError>> + '_>, SourceError>;

    /// Delivers the content of `files` (regular files of [`Source::entries`]), every byte
    /// verified against its hash, in whatever order is quick.
    fn copy_contents(&self, files: &[Entry], out: &dyn ContentSink) -> Result<(), DriverError>;

    /// The volume of this name, as it was handed to [`Sink::add_volume`] in the root.
    fn volume(&self, name: &[u8]) -> Result<Box<dyn StoredVolume + '_>, SourceError> {
        Err(SourceError::Damaged {
            path: crate::entry::printable(name),
            message: "the recovery point holds no such volume".to_owned(),
        })
    }
}

/// Where the content of restored files goes.
pub trait ContentSink: Sync {
    /// Bytes of `files[index]` at `offset`. Every byte of a file is delivered once.
    fn write_at(&self, index: usize, offset: u64, bytes: &[u8]) -> Result<(), DriverError>;
}

/// What a restore is to do.
#[derive(Debug, Clone, Copy)]
pub struct RestoreRequest<'a> {
    /// The restore job; marks what is unfinished.
    pub job_id: &'a str,
    /// What the caller asked for, checked by [`Driver::check_restore`].
    pub metadata: &'a BTreeMap<String, String>,
    /// When the job first began, by the clock of this host: for one that is taken up again, which must
    /// not take what was written since for what it was asked to write over. Nothing: no matter.
    pub began_at: Option<Timestamp>,
}

impl<'a> RestoreRequest<'a> {
    /// Of a job of which it does not matter when it began.
    pub fn new(job_id: &'a str, metadata: &'a BTreeMap<String, String>) -> Self {
        Self { job_id, metadata, began_at: None }
    }
}

/// What a restore made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RestoreOutcome {
    /// Bytes written; what several names share counts once.
    pub bytes: u64,
    /// Names of regular files written.
    pub files: u64,
    /// The new resource, when the whole of one was restored.
    pub created: Option<CreatedResource>,
    /// What is worth knowing, such as ownership that could not be set.
    pub notes: Vec<String>,
    /// What was read back and found to be what the recovery point holds, before it was put in place;
    /// nothing when that was not asked for.
    pub verified: Option<Verified>,
    /// What became of what existed, when it was restored into something that exists.
    pub in_place: Option<PreviewCounts>,
}

/// What was read back after it was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Entries compared, directories and links among them; what may not be read is none of them.
    pub entries: u64,
    /// Names of regular files among them.
    pub files: u64,
    /// Bytes of content hashed; what several names share counts once.
    pub bytes: u64,
}

/// Changes that a preview lists; the others are only counted.
pub const PREVIEW_LISTED: usize = 1000;

/// Links that a preview lists; the others are only counted.
pub const OUTSIDE_LISTED: usize = 100;

/// What a restore would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestorePreview {
    /// Where it goes to.
    pub target: String,
    /// Whether something that exists is restored into.
    pub in_place: bool,
    /// Everything, counted.
    pub counts: PreviewCounts,
    /// What would change or be kept although it differs: the first [`PREVIEW_LISTED`] in the order
    /// of their paths.
    pub changes: Vec<PreviewChange>,
    /// How many more there are.
    pub left_off: u64,
    /// Symbolic links that would be made and lead out of the target, as far as their own words tell: the
    /// first [`OUTSIDE_LISTED`]. The restore follows none, but whoever uses what it made may.
    pub outside: Vec<PreviewLink>,
    /// How many of them there are.
    pub leads_outside: u64,
}

/// A symbolic link that a restore would make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewLink {
    /// Relative to the target, for people.
    pub path: String,
    /// Where it points to, for people.
    pub target: String,
}

/// Entries and the bytes of the files among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Files, directories, links and others.
    pub entries: u64,
    /// Bytes of content, of the recovery point's file where there is one; each name counted.
    pub bytes: u64,
}

impl Counted {
    /// Counts one more.
    pub fn add(&mut self, bytes: u64) {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Counts so many fewer.
    pub fn take(&mut self, entries: u64, bytes: u64) {
        self.entries = self.entries.saturating_sub(entries);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// How many entries meet which fate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PreviewCounts {
    /// Written where nothing is.
    pub created: Counted,
    /// Written over what exists.
    pub overwritten: Counted,
    /// The content is the same; owner, mode, times or attributes are set.
    pub updated: Counted,
    /// As in the recovery point already, as far as the mode looks.
    pub same: Counted,
    /// Left alone although it differs, because what exists is newer than what was backed up.
    pub kept_newer: Counted,
    /// Left alone although it differs, because the mode says so.
    pub kept: Counted,
    /// Not in the recovery point, and deleted.
    pub deleted: Counted,
    /// A directory where a file would be written or the reverse: nothing can be restored while it
    /// is so.
    pub conflicts: Counted,
}

impl PreviewCounts {
    /// The count of what meets this fate.
    pub fn of(&mut self, fate: PreviewFate) -> &mut Counted {
        match fate {
            PreviewFate::Create => &mut self.created,
            PreviewFate::Overwrite => &mut self.overwritten,
            PreviewFate::Update => &mut self.updated,
            PreviewFate::Same => &mut self.same,
            PreviewFate::KeepNewer => &mut self.kept_newer,
            PreviewFate::Keep => &mut self.kept,
            PreviewFate::Delete => &mut self.deleted,
            PreviewFate::Conflict => &mut self.conflicts,
        }
    }
}

/// What becomes of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PreviewFate {
    /// Written where nothing is.
    Create,
    /// Written over what exists.
    Overwrite,
    /// Only owner, mode, times or attributes are set.
    Update,
    /// Nothing.
    Same,
    /// What exists is newer and stays.
    KeepNewer,
    /// What exists differs and stays.
    Keep,
    /// Not in the recovery point: deleted.
    Delete,
    /// A directory in place of something else, or the reverse.
    Conflict,
}

impl PreviewFate {
    /// As the API names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Overwrite => "OVERWRITE",
            Self::Update => "UPDATE",
            Self::Same => "SAME",
            Self::KeepNewer => "KEEP_NEWER",
            Self::Keep => "KEEP",
            Self::Delete => "DELETE",
            Self::Conflict => "CONFLICT",
        }
    }
}

/// A path that would change, or is kept although it differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewChange {
    /// Relative to the target, for people.
    pub path: String,
    /// What becomes of it.
    pub fate: PreviewFate,
    /// Bytes of content in the recovery point.
    pub bytes: u64,
    /// When what exists was changed.
    pub existing_mtime: Option<Timestamp>,
    /// When what was backed up had been changed.
    pub stored_mtime: Option<Timestamp>,
}

impl PreviewChange {
    /// Whether what exists is newer than what was backed up.
    pub fn is_newer(&self) -> bool {
        self.existing_mtime.zip(self.stored_mtime).is_some_and(|(here, then)| here > then)
    }
}

/// A resource that a restore made.
#[derive(Debug, Clone, PartialEq)]
pub struct CreatedResource {
    /// A name for people.
    pub name: String,
    /// Settings as [`Driver::check_config`] takes them.
    pub config: serde_json::Value,
}

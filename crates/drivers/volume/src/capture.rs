//! A volume, opened to be read.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use provault_driver::reserved::Reserved;
use provault_driver::{
    BlockSource, CancelFlag, Capture, CaptureReport, DriverError, Metadata, Sink, SinkError,
    WorkContext,
};

use crate::VOLUME;
use crate::bitmap::{Bitmaps, Counted};
use crate::config::{Changes, Config, Format, InUse};
use crate::hooks::Held;
use crate::qemu::Image;
use crate::raw::RawBlocks;
use crate::snapshot;
use crate::usage::users;

/// A volume that was found fit to be backed up.
pub(crate) struct VolumeCapture {
    config: Config,
    seen: fs::Metadata,
    notes: Vec<String>,
    /// Whether somebody used it when it was looked at.
    in_use: bool,
    /// Where hooks lie.
    hooks: Option<PathBuf>,
}

/// Ends the work when the flag is up.
pub(crate) fn check(cancel: &CancelFlag) -> Result<(), DriverError> {
    if cancel.is_raised() { Err(DriverError::Cancelled) } else { Ok(()) }
}

/// Wraps the system's answer; for `map_err`.
pub(crate) fn io_error<E: Into<io::Error>>(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(E) -> DriverError + use<E> {
    let path = path.to_owned();
    move |source| DriverError::Io { doing, path, source: source.into() }
}

fn busy(path: &Path, users: &str) -> DriverError {
    let text = format!("it is in use: {users}; stop that first{}", advice(path));
    io_error("backing up", path)(io::Error::new(io::ErrorKind::ResourceBusy, text))
}

fn advice(path: &Path) -> &'static str {
    if path.starts_with("/dev") {
        ", or back up a snapshot of it"
    } else {
        ", or register the file system in it, or an image that nothing writes to"
    }
}

/// What stands at the path: a regular file or a block device.
pub(crate) fn look(path: &Path) -> Result<fs::Metadata, DriverError> {
    let missing = |reason: &str| DriverError::SourceMissing {
        path: path.to_owned(),
        reason: reason.to_owned(),
    };
    let found = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => missing("It does not exist."),
        _ => io_error("looking up", path)(error),
    })?;
    if found.is_file() || found.file_type().is_block_device() {
        return Ok(found);
    }
    Err(missing("It is neither a block device nor an image."))
}

impl VolumeCapture {
    /// Looks whether it is there and nothing writes to it. Holds and changes nothing yet: a job looks
    /// before it begins, and may have to wait.
    pub fn open(
        config: Config,
        reserved: &Reserved,
        hooks: Option<PathBuf>,
    ) -> Result<Self, DriverError> {
        let seen = look(&config.path)?;
        reserved.refuse_source(&config.path)?;
        let mut capture = Self { config, seen, notes: Vec::new(), in_use: false, hooks };
        match &capture.config.hooks {
            // It is their work that nothing uses it any more.
            Some(given) => drop(given.check(capture.hooks.as_deref())?),
            None => capture.find_users()?,
        }
        Ok(capture)
    }

    /// Looks who uses it, and whether that is allowed.
    fn find_users(&mut self) -> Result<(), DriverError> {
        let config = &self.config;
        let device = self.seen.file_type().is_block_device();
        if let Some(users) =
            users(&config.path, false).map_err(io_error("looking at", &config.path))?
        {
            match config.in_use {
                InUse::Snapshot if !device => self.in_use = true,
                // Snapshots of devices are the volume manager's.
                InUse::Refuse | InUse::Snapshot => return Err(busy(&config.path, &users)),
                InUse::AsIs => self.notes.push(format!(
                    "The volume was read while it was in use ({users}): what it holds is of no one moment, and at best what a power cut \
                     would have left."
                )),
            }
        }
        Ok(())
    }

    fn hand_over(
        &self,
        blocks: &dyn BlockSource,
        counted: Option<&Counted>,
        sink: &mut dyn Sink,
        context: &WorkContext<'_>,
    ) -> Result<CaptureReport, DriverError> {
        let path = &self.config.path;
        if blocks.size() == 0 {
            return Err(DriverError::SourceEmpty {
                path: path.clone(),
                reason: "holds no bytes.".to_owned(),
            });
        }
        sink.begin_dir(b"", &self.metadata())?;
        check(context.cancel)?;
        let changed = counted.and_then(|counted| counted.changed.as_deref());
        let outcome = sink.add_volume(VOLUME, blocks, changed).map_err(|error| match error {
            // A volume that lacks a block is none.
            SinkError::Read(source) => {
                DriverError::Io { doing: "reading", path: path.clone(), source }
            }
            other => other.into(),
        })?;
        check(context.cancel)?;
        sink.end_dir()?;
        let mut notes = self.notes.clone();
        notes.extend(counted.and_then(|counted| counted.note.clone()));
        notes.extend(outcome.full_because.map(|why| format!("All of it was read: {why}")));
        Ok(CaptureReport { bytes: blocks.size(), files: 1, skipped: Vec::new(), notes })
    }

    /// The directory that holds the volume in a snapshot. It tells nothing that changes by itself, so
    /// that equal volumes are equal trees.
    fn metadata(&self) -> Metadata {
        Metadata {
            mode: 0o700,
            uid: self.seen.uid(),
            gid: self.seen.gid(),
            user: None,
            group: None,
            size: 0,
            mtime: Timestamp::UNIX_EPOCH,
            atime: Timestamp::UNIX_EPOCH,
            ctime: Timestamp::UNIX_EPOCH,
            inode: 0,
            device: 0,
            links: 1,
            xattrs: Vec::new(),
            data_extents: None,
        }
    }

    fn raw(
        &self,
        held: &mut Option<Held>,
        sink: &mut dyn Sink,
        context: &WorkContext<'_>,
    ) -> Result<CaptureReport, DriverError> {
        let path = &self.config.path;
        if self.in_use && self.config.in_use == InUse::Snapshot {
            let (blocks, note) = snapshot::take(path)?;
            // The copy stands still by itself.
            held.take().map_or(Ok(()), Held::release)?;
            let mut report = self.hand_over(&blocks, None, sink, context)?;
            report.notes.push(note);
            return Ok(report);
        }
        let device = self.seen.file_type().is_block_device();
        let alone = device && self.config.in_use != InUse::AsIs;
        let blocks = RawBlocks::open(path, alone).map_err(|error| {
            if error.raw_os_error() == Some(Errno::EBUSY as i32) {
                return busy(path, "the system lets nobody else have it");
            }
            io_error("opening", path)(error)
        })?;
        let before = Stamp::of(&blocks.file).map_err(io_error("looking up", path))?;
        let report = self.hand_over(&blocks, None, sink, context)?;
        // What wrote to an image behind our back shows in its times; to a device that is ours alone
        // nothing can.
        let after = Stamp::of(&blocks.file).map_err(io_error("looking up", path))?;
        if !device && before != after && self.config.in_use != InUse::AsIs {
            let text = "it changed while it was read, so that what was read belongs to no one moment; \
                        stop what writes to it";
            return Err(io_error("backing up", path)(io::Error::other(text)));
        }
        Ok(report)
    }

    fn qcow2(
        &self,
        sink: &mut dyn Sink,
        context: &WorkContext<'_>,
    ) -> Result<CaptureReport, DriverError> {
        let path = &self.config.path;
        let image = Image::new(path);
        let lineage = sink.lineage();
        if self.config.changes == Changes::Hash {
            let blocks = image.serve(None)?;
            return self.hand_over(&blocks, None, sink, context);
        }
        let bitmaps = Bitmaps::of(&image)?;
        let begun = bitmaps.begin(&lineage)?;
        let done = (|| {
            let (blocks, counted) = begun.open()?;
            self.hand_over(&blocks, Some(&counted), sink, context)
        })();
        if done.is_err() {
            // The older one still counts from the older recovery point.
            begun.take_back();
        }
        done
    }
}

impl Capture for VolumeCapture {
    fn read_into(
        mut self: Box<Self>,
        sink: &mut dyn Sink,
        context: &WorkContext<'_>,
    ) -> Result<CaptureReport, DriverError> {
        check(context.cancel)?;
        let mut held = None;
        if let Some(hooks) = &self.config.hooks {
            held = Some(hooks.hold(self.hooks.as_deref(), &self.config.path)?);
            // The hook may have put another in its place, as a snapshot of the volume manager.
            self.seen = look(&self.config.path)?;
            self.find_users()?;
        }
        let report = match self.config.format {
            Format::Raw => self.raw(&mut held, sink, context),
            Format::Qcow2 => self.qcow2(sink, context),
        }?;
        held.take().map_or(Ok(()), Held::release)?;
        Ok(report)
    }
}

/// What tells that a file was written to.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(u64, i64, i64, i64, i64);

impl Stamp {
    fn of(file: &fs::File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self(found.size(), found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()))
    }
}

/// Path of what is captured, for the settings of what a restore creates.
pub(crate) fn settings(path: PathBuf, format: Format) -> serde_json::Value {
    let in_use = InUse::Refuse;
    Config { path, format, changes: Changes::Hash, in_use, hooks: None }.to_value()
}

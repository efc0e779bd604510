//! A volume, written back.
//!
//! A new image is made under a name beside its target that bears the job's id, read back, and renamed
//! when it is complete: the target is complete or absent, at every instant. A device is written in its
//! place, because it was asked for; what breaks off there says so.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FallocateFlags, OFlag, RenameFlags, fallocate, renameat2};
use nix::unistd::geteuid;
use provault_domain::Invalid;
use provault_driver::{
    BlockRange, BlockSink, BlockSource, BrokenOff, CancelFlag, CreatedResource, DriverError,
    RestoreOutcome, RestoreRequest, Source, StoredVolume, Verified, WorkContext,
};

use crate::VOLUME;
use crate::capture::{check, io_error, settings};
use crate::config::Format;
use crate::order::{Order, job_id};
use crate::qemu::{Image, Served};
use crate::raw::RawBlocks;
use crate::usage::users;
use crate::verify::compare;

/// Name of the image in a directory, without its format.
const IN_DIRECTORY: &str = "volume";

/// Where a restore goes.
pub(crate) struct Place {
    pub target: PathBuf,
    /// Beside the target, until it is complete.
    staging: PathBuf,
    format: Format,
    in_directory: bool,
}

impl Place {
    pub fn of(order: &Order, job_id: &str) -> Result<Self, Invalid> {
        let target = order.target(job_id)?;
        let base = target.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
        let tail = format!(".provault-{job_id}");
        let mut name = b".".to_vec();
        name.extend_from_slice(&base[..base.len().min(254 - tail.len())]);
        name.extend_from_slice(tail.as_bytes());
        let staging = target.with_file_name(OsString::from_vec(name));
        Ok(Self { target, staging, format: order.format(), in_directory: order.in_directory })
    }

    fn image_in(&self, place: &Path) -> PathBuf {
        if self.in_directory {
            place.join(format!("{IN_DIRECTORY}.{}", self.format.as_str()))
        } else {
            place.to_owned()
        }
    }

    /// Where the image is in the end.
    fn image(&self) -> PathBuf {
        self.image_in(&self.target)
    }

    /// Removes what bears the job's id, if it can have been made by a restore.
    pub fn discard(&self) -> Result<(), DriverError> {
        let found = match fs::symlink_metadata(&self.staging) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_error("looking up", &self.staging)(error)),
        };
        if found.uid() != geteuid().as_raw() {
            return Ok(());
        }
        let removed = if found.is_dir() {
            let image = self.image_in(&self.staging);
            let inside = match fs::remove_file(image) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                other => other,
            };
            // Anything else in it is not ours, and keeps it.
            inside.and_then(|()| fs::remove_dir(&self.staging))
        } else if found.is_file() {
            fs::remove_file(&self.staging)
        } else {
            return Ok(());
        };
        removed.map_err(io_error("removing", &self.staging))
    }

    fn refuse_existing(&self) -> Result<(), DriverError> {
        match fs::symlink_metadata(&self.target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(io_error("looking up", &self.target)(error)),
            Ok(found) if found.file_type().is_block_device() => Err(Invalid::new(
                "overwriteDevice",
                format!(
                    "{} is a block device; to write over all that it holds, say overwriteDevice=true.",
                    self.target.display()
                ),
            )
            .into()),
            Ok(_) => Err(DriverError::TargetExists { path: self.target.clone() }),
        }
    }

    /// Gives the complete image its name.
    fn put_in_place(&self) -> Result<(), DriverError> {
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(AT_FDCWD, &self.staging, AT_FDCWD, &self.target, flags) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                return Err(DriverError::TargetExists { path: self.target.clone() });
            }
            Err(error) => return Err(io_error("renaming to", &self.target)(error)),
        }
        let parent = self.target.parent().unwrap_or(Path::new("/"));
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(io_error("syncing", parent))
    }
}

/// An image or device that is being written.
enum Target {
    Raw { file: File, path: PathBuf, fresh: bool },
    Qcow2 { served: Served, path: PathBuf },
}

impl Target {
    fn create(path: PathBuf, format: Format, size: u64) -> Result<Self, DriverError> {
        let wrong = || io_error("making", &path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(wrong())?;
        match format {
            Format::Raw => {
                file.set_len(size).map_err(wrong())?;
                Ok(Self::Raw { file, path, fresh: true })
            }
            Format::Qcow2 => {
                let image = Image::new(&path);
                // The file is there already, for its owner alone.
                image.create(size)?;
                Ok(Self::Qcow2 { served: image.serve_writable()?, path })
            }
        }
    }

    /// Returns once everything is durable.
    fn finish(self) -> Result<(), DriverError> {
        let (file, path) = match self {
            Self::Raw { file, path, .. } => (file, path),
            Self::Qcow2 { served, path } => {
                served.finish()?;
                (File::open(&path).map_err(io_error("opening", &path))?, path)
            }
        };
        file.sync_all().map_err(io_error("writing", &path))
    }
}

impl BlockSink for Target {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DriverError> {
        match self {
            Self::Raw { file, path, .. } => {
                file.write_all_at(bytes, offset).map_err(io_error("writing", path))
            }
            Self::Qcow2 { served, path } => {
                served.write_at(offset, bytes).map_err(io_error("writing", path))
            }
        }
    }

    fn write_zeros(&self, range: BlockRange) -> Result<(), DriverError> {
        match self {
            Self::Raw { file, path, fresh: false } => {
                zero(file, range).map_err(io_error("writing", path))
            }
            // All of a new image reads as zeros.
            _ => Ok(()),
        }
    }
}

/// Takes nothing more once the flag is up.
struct Watched<'a> {
    target: &'a Target,
    cancel: &'a CancelFlag,
    /// Whether the target may have changed.
    begun: &'a AtomicBool,
}

impl BlockSink for Watched<'_> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DriverError> {
        check(self.cancel)?;
        self.begun.store(true, Ordering::SeqCst);
        self.target.write_at(offset, bytes)
    }

    fn write_zeros(&self, range: BlockRange) -> Result<(), DriverError> {
        check(self.cancel)?;
        self.begun.store(true, Ordering::SeqCst);
        self.target.write_zeros(range)
    }
}

/// Makes a part of a device read as zeros.
fn zero(file: &File, range: BlockRange) -> io::Result<()> {
    let number = |value: u64| i64::try_from(value).map_err(io::Error::other);
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    // On a block device this discards or writes zeros, whichever makes it read as zeros.
    match fallocate(file, flags, number(range.offset)?, number(range.length)?) {
        Ok(()) => return Ok(()),
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => {}
        Err(error) => return Err(error.into()),
    }
    let zeros = vec![0; 1 << 20];
    let mut at = range.offset;
    while at < range.end() {
        let length = usize::try_from(range.end() - at).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all_at(&zeros[..length], at)?;
        at += length as u64;
    }
    Ok(())
}

/// Opens a device for oneself alone, or says who has it.
fn claim(path: &Path, size: u64) -> Result<File, DriverError> {
    let refuse = |why: String| DriverError::from(Invalid::new("targetPath", why));
    let shown = path.display();
    let found = fs::metadata(path).map_err(io_error("looking up", path))?;
    if !found.file_type().is_block_device() {
        return Err(refuse(format!(
            "{shown} is no block device, and overwriteDevice writes over nothing else; leave that out \
             to make a new image."
        )));
    }
    if let Some(users) = users(path, true).map_err(io_error("looking at", path))? {
        return Err(refuse(format!(
            "{shown} is in use: {users}; nothing was written. Stop that first."
        )));
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_EXCL.bits())
        .open(path)
        .map_err(|error| {
            if error.raw_os_error() == Some(Errno::EBUSY as i32) {
                return refuse(format!(
                    "{shown} is in use: the system lets nobody else have it; nothing was written."
                ));
            }
            io_error("opening", path)(error)
        })?;
    let room = file.seek(SeekFrom::End(0)).map_err(io_error("looking at", path))?;
    if room < size {
        return Err(refuse(format!(
            "{shown} is too small: it has {room} bytes, and the volume has {size}; nothing was written."
        )));
    }
    Ok(file)
}

/// One restore.
pub(crate) struct Run<'a> {
    pub order: Order,
    job_id: &'a str,
    context: &'a WorkContext<'a>,
    stored: Box<dyn StoredVolume + 'a>,
}

impl<'a> Run<'a> {
    pub fn new(
        request: &RestoreRequest<'a>,
        source: &'a dyn Source,
        context: &'a WorkContext<'a>,
    ) -> Result<Self, DriverError> {
        check(context.cancel)?;
        let order = Order::parse(request.metadata)?;
        let job_id = job_id(request)?;
        let stored = source.volume(VOLUME)?;
        Ok(Self { order, job_id, context, stored })
    }

    fn size(&self) -> Result<u64, DriverError> {
        let size = self.stored.size();
        if self.order.size != 0 && self.order.size < size {
            return Err(Invalid::new(
                "volumeSize",
                format!(
                    "the volume has {size} bytes, which do not fit into {} GiB.",
                    self.order.size >> 30
                ),
            )
            .into());
        }
        Ok(self.order.size.max(size))
    }

    /// To be found out before anything is written: where it goes, and how large it becomes.
    pub fn prepare(&self) -> Result<(Place, u64), DriverError> {
        let place = Place::of(&self.order, self.job_id)?;
        let size = self.size()?;
        if self.order.overwrite_device {
            claim(&place.target, size)?;
        } else {
            place.refuse_existing()?;
            let parent = place.target.parent().unwrap_or(Path::new("/"));
            if !parent.is_dir() {
                let why = format!(
                    "{} is no directory; make it, or choose another place.",
                    parent.display()
                );
                return Err(Invalid::new("targetPath", why).into());
            }
        }
        Ok((place, size))
    }

    pub fn run(self) -> Result<RestoreOutcome, DriverError> {
        if self.order.overwrite_device {
            return self.onto_device();
        }
        let (place, size) = self.prepare()?;
        // Of an earlier attempt of this very job.
        place.discard()?;
        let made = self.make(&place, size).and_then(|verified| {
            check(self.context.cancel)?;
            place.put_in_place()?;
            Ok(verified)
        });
        match made {
            Ok(verified) => Ok(self.outcome(&place, verified)),
            Err(error) => {
                if let Err(left) = place.discard() {
                    tracing::warn!(%left, "what a failed restore left is removed under its job's id");
                }
                Err(error)
            }
        }
    }

    /// As [`Run::run`], but a copy that stands complete in its place already is the job's own.
    pub fn resume(self) -> Result<RestoreOutcome, DriverError> {
        let place = Place::of(&self.order, self.job_id)?;
        let unfinished = fs::symlink_metadata(&place.staging).is_ok();
        if !self.order.overwrite_device && !unfinished && place.image().is_file() {
            let size = self.size()?;
            if self.differs(&place.image(), place.format, size)?.is_none() {
                let verified = Some(self.verified());
                return Ok(self.outcome(&place, verified));
            }
        }
        self.run()
    }

    fn make(&self, place: &Place, size: u64) -> Result<Option<Verified>, DriverError> {
        if place.in_directory {
            let made = DirBuilder::new().mode(0o700).create(&place.staging);
            made.map_err(io_error("making", &place.staging))?;
        }
        let path = place.image_in(&place.staging);
        let target = Target::create(path.clone(), place.format, size)?;
        self.write(&target, &AtomicBool::new(false))?;
        target.finish()?;
        if place.in_directory {
            let dir = &place.staging;
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("syncing", dir))?;
        }
        if !self.order.verify {
            return Ok(None);
        }
        match self.differs(&path, place.format, size)? {
            None => Ok(Some(self.verified())),
            Some(what) => Err(unverified(&place.target, what)),
        }
    }

    /// Writes all of it; `begun` is set before the target changes.
    fn write(&self, target: &Target, begun: &AtomicBool) -> Result<(), DriverError> {
        let total = Some(self.stored.size());
        let out = Watched { target, cancel: self.context.cancel, begun };
        self.stored.copy_to(&out, &|done| (self.context.progress)(done, total))?;
        check(self.context.cancel)
    }

    fn onto_device(self) -> Result<RestoreOutcome, DriverError> {
        let place = Place::of(&self.order, self.job_id)?;
        let path = place.target.clone();
        let size = self.stored.size();
        let file = claim(&path, size)?;
        // It stays ours alone until it is compared.
        let held = file.try_clone().map_err(io_error("opening", &path))?;
        let target = Target::Raw { file, path: path.clone(), fresh: false };
        let begun = AtomicBool::new(false);
        let written = self.write(&target, &begun).and_then(|()| target.finish());
        written.map_err(|error| {
            // Of what has not begun the device shows nothing.
            let begun = begun.load(Ordering::SeqCst);
            if begun { partly(&path, BrokenOff::Writing, error) } else { error }
        })?;
        let mut verified = None;
        if self.order.verify {
            self.compare_device(held, &path, size)
                .map_err(|error| partly(&path, BrokenOff::Comparing, error))?;
            verified = Some(self.verified());
        }
        Ok(self.outcome(&place, verified))
    }

    /// Reads a device back, and refuses it where it differs.
    fn compare_device(&self, device: File, path: &Path, size: u64) -> Result<(), DriverError> {
        let blocks = RawBlocks::of(device).map_err(io_error("reading", path))?;
        let part = Part { blocks: &blocks, size };
        let wrong = |error: io::Error| io_error("reading", path)(error);
        match compare(&part, self.stored.as_ref(), size, self.context.cancel, wrong)? {
            None => Ok(()),
            Some(difference) => {
                let what = format!(
                    "it {}. Look whether the disk or its memory is failing",
                    difference.what
                );
                Err(io_error("comparing", path)(io::Error::other(what)))
            }
        }
    }

    /// How an image differs from the stored volume.
    fn differs(
        &self,
        path: &Path,
        format: Format,
        size: u64,
    ) -> Result<Option<String>, DriverError> {
        let wrong = |error: io::Error| io_error("reading", path)(error);
        let blocks: Box<dyn BlockSource> = match format {
            Format::Raw => {
                Box::new(RawBlocks::open(path, false).map_err(io_error("opening", path))?)
            }
            Format::Qcow2 => Box::new(Image::new(path).serve(None)?),
        };
        let stored = self.stored.as_ref();
        let found = compare(blocks.as_ref(), stored, size, self.context.cancel, wrong)?;
        Ok(found.map(|difference| difference.what))
    }

    fn verified(&self) -> Verified {
        Verified { entries: 1, files: 1, bytes: self.stored.size() }
    }

    fn outcome(&self, place: &Place, verified: Option<Verified>) -> RestoreOutcome {
        RestoreOutcome {
            bytes: self.stored.size(),
            files: 1,
            created: Some(CreatedResource {
                name: self.order.resource_name(self.job_id),
                config: settings(place.image(), place.format),
            }),
            notes: self.order.notes.clone(),
            verified,
            in_place: None,
        }
    }
}

/// What becomes of an error when a device has been written to.
fn partly(target: &Path, broken_off: BrokenOff, error: DriverError) -> DriverError {
    DriverError::PartlyWritten { target: target.to_owned(), broken_off, error: Box::new(error) }
}

fn unverified(path: &Path, what: String) -> DriverError {
    DriverError::Unverified { path: path.display().to_string(), what }
}

/// The beginning of a device that is larger than the volume.
struct Part<'a> {
    blocks: &'a RawBlocks,
    size: u64,
}

impl BlockSource for Part<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.blocks.read_at(offset, buffer)
    }

    fn extents(&self, range: BlockRange) -> io::Result<Vec<provault_driver::BlockExtent>> {
        self.blocks.extents(range)
    }
}

/// The image of a restore test's copy.
pub(crate) fn copy_image(copy: &Path) -> PathBuf {
    copy.join(format!("{IN_DIRECTORY}.{}", Format::Raw.as_str()))
}

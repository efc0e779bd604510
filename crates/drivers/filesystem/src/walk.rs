//! The walk through a tree: depth first, names sorted by their bytes.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::stat::SFlag;
use provault_domain::backup_job::SkippedPath;
use provault_driver::entry::printable;
use provault_driver::{
    CancelFlag, CaptureReport, DriverError, FileOutcome, Metadata, NodeKind, Sink, SinkError,
};

use crate::at::{self, Extents, Stat};
use crate::capture::{check, device_of, io_error, is_shortage};
use crate::config::Config;
use crate::content::{Finding, SteadyReader};
use crate::inodes::{Content, Inodes};
use crate::owners::Owners;
use crate::reserved::Fence;
use crate::rules::Rules;
use crate::survey::Survey;

/// Directories are held open along the way down, so the way may not be endless.
const MAX_DEPTH: usize = 512;

/// How often an entry that changes under our eyes is looked at.
const ATTEMPTS: usize = 3;

/// A file above this size that changed while it was read is not read again: what changes all the
/// time (a log, a database) would be read three times for nothing.
const READ_AGAIN_BELOW: u64 = 64 << 20;

/// So many paths are named in a note; of the others only the number is told.
const NAMED: usize = 100;

/// A directory on the way from the root to where the walk is.
struct Frame {
    dir: File,
    path: Vec<u8>,
    name: Vec<u8>,
    metadata: Metadata,
    rest: std::vec::IntoIter<Name>,
    /// Whether `include` asks for all of it.
    wanted: bool,
    /// Whether the sink knows of it: one that is not wanted for itself is begun when something
    /// below it is.
    begun: bool,
}

/// A name that is left to be visited, with what was seen of it when its directory was surveyed.
type Name = (Vec<u8>, Option<Stat>);

/// What looking at an entry led to.
enum Step {
    /// It is dealt with.
    Done,
    /// It became something else meanwhile: look again.
    Again,
}

/// Directories with more names than this are not surveyed, so that their size does not decide over
/// the memory that a capture takes.
const SURVEYED: usize = 1 << 16;

fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, name].join(&b'/') }
}

/// The directory the walk is in. It only visits names of the frame on top: an empty stack would
/// be a defect here, and is told as one.
fn top<'f>(frames: &'f [Frame], config: &Config) -> Result<&'f Frame, DriverError> {
    frames.last().ok_or_else(|| {
        io_error("walking", &config.path)(io::Error::other("no directory is open (a defect)"))
    })
}

/// The state of a walk.
pub(crate) struct Walk<'a> {
    config: &'a Config,
    rules: &'a Rules,
    fence: &'a Fence,
    sink: &'a mut dyn Sink,
    cancel: &'a CancelFlag,
    done: &'a Arc<AtomicU64>,
    frames: Vec<Frame>,
    report: CaptureReport,
    inodes: Inodes,
    /// Entries that are not directories.
    leaves: u64,
    device: u64,
    vanished: Vec<Vec<u8>>,
    changed: Vec<Vec<u8>>,
    filled: Vec<Vec<u8>>,
    mounts: Vec<Vec<u8>>,
    reserved: Vec<Vec<u8>>,
    owners: Owners,
}

impl<'a> Walk<'a> {
    pub fn new(
        config: &'a Config,
        (rules, fence): (&'a Rules, &'a Fence),
        sink: &'a mut dyn Sink,
        cancel: &'a CancelFlag,
        done: &'a Arc<AtomicU64>,
    ) -> Self {
        Self {
            config,
            rules,
            fence,
            sink,
            cancel,
            done,
            frames: Vec::new(),
            report: CaptureReport::default(),
            inodes: Inodes::default(),
            leaves: 0,
            device: 0,
            vanished: Vec::new(),
            changed: Vec::new(),
            filled: Vec::new(),
            mounts: Vec::new(),
            reserved: Vec::new(),
            owners: Owners::default(),
        }
    }

    /// Walks it all: the report, and how many entries are not directories.
    pub fn run(mut self, root: &File) -> Result<(CaptureReport, u64), DriverError> {
        let path = self.config.path.clone();
        check(self.cancel)?;
        self.device = device_of(root, &path)?;
        let dir = root.try_clone().map_err(io_error("opening", &path))?;
        let stat = Stat::of(&dir).map_err(io_error("looking up", &path))?;
        let names = at::names(&dir).map_err(io_error("reading", &path))?;
        let attributes = at::xattrs_of(&dir);
        let metadata = self.metadata(&stat, attributes, b"");
        self.sink.begin_dir(b"", &metadata)?;
        let wanted = self.rules.include_all();
        let rest = self.survey(&dir, b"", names, wanted)?;
        self.frames.push(Frame {
            dir,
            path: Vec::new(),
            name: Vec::new(),
            metadata,
            rest,
            wanted,
            begun: true,
        });
        while let Some(frame) = self.frames.last_mut() {
            check(self.cancel)?;
            if let Some((name, seen)) = frame.rest.next() {
                self.visit(&name, seen)?;
            } else {
                if frame.begun {
                    self.sink.end_dir()?;
                }
                self.frames.pop();
            }
        }
        self.take_notes();
        Ok((self.report, self.leaves))
    }

    fn top(&self) -> Result<&Frame, DriverError> {
        top(&self.frames, self.config)
    }

    fn visit(&mut self, name: &[u8], mut seen: Option<Stat>) -> Result<(), DriverError> {
        let frame = self.top()?;
        let path = below(&frame.path, name);
        if self.rules.excludes(&path) {
            return Ok(());
        }
        let wanted = frame.wanted || self.rules.includes(&path);
        for attempt in 1..=ATTEMPTS {
            let looked = match seen.take() {
                Some(stat) => Ok(stat),
                None => Stat::at(&self.top()?.dir, name),
            };
            let stat = match looked {
                Ok(stat) => stat,
                Err(Errno::ENOENT) => {
                    self.sink.doubt_leaves();
                    self.vanished.push(path);
                    return Ok(());
                }
                Err(error) => return self.skip(&path, error.into()),
            };
            let step = if stat.is_dir() {
                self.directory(name, &path, &stat, wanted)?
            } else if !wanted {
                Step::Done
            } else if stat.kind == SFlag::S_IFREG {
                self.file(name, &path, &stat, attempt == ATTEMPTS)?
            } else {
                self.node(name, &path, &stat)?
            };
            if matches!(step, Step::Done) {
                return Ok(());
            }
        }
        self.skip(&path, io::Error::other("it kept changing while it was read"))
    }

    /// Looks at everything in a directory before anything in it is read: what is left to visit,
    /// which is only its directories when the sink knows all the rest.
    fn survey(
        &mut self,
        dir: &File,
        path: &[u8],
        names: Vec<Vec<u8>>,
        wanted: bool,
    ) -> Result<std::vec::IntoIter<Name>, DriverError> {
        if !wanted || names.len() > SURVEYED {
            return Ok(names.into_iter().map(|name| (name, None)).collect::<Vec<_>>().into_iter());
        }
        let mut survey = Survey::default();
        let mut rest = Vec::with_capacity(names.len());
        for name in names {
            if self.rules.excludes(&below(path, &name)) {
                continue;
            }
            // What cannot be looked at now is looked at again, and told, when its turn comes.
            let stat = Stat::at(dir, &name).ok();
            match &stat {
                Some(stat) if stat.is_dir() => {}
                Some(stat) => survey.add(&name, stat, self.owners.of(stat)),
                None => survey.miss(),
            }
            rest.push((name, stat));
        }
        if let Some(leaves) = survey.leaves()
            && self.sink.leaves(&leaves)?
        {
            rest.retain(|(_, stat)| stat.as_ref().is_none_or(Stat::is_dir));
            for stat in survey.files() {
                let bytes = self.report.bytes;
                self.report.bytes += self.inodes.add(Content::from(stat));
                self.done.fetch_add(self.report.bytes - bytes, Ordering::Relaxed);
            }
            self.report.files += leaves.files;
            self.leaves += leaves.files + leaves.others;
        }
        Ok(rest.into_iter())
    }

    fn directory(
        &mut self,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        wanted: bool,
    ) -> Result<Step, DriverError> {
        let is_reserved = self.fence.encloses(path, stat);
        if is_reserved || (self.config.one_file_system && stat.device != self.device) {
            let left = if is_reserved { &mut self.reserved } else { &mut self.mounts };
            left.push(path.to_vec());
            if wanted {
                self.begin_above()?;
                let attributes = at::xattrs_at(&self.top()?.dir, name);
                let metadata = self.metadata(stat, attributes, path);
                self.sink.begin_dir(name, &metadata)?;
                self.sink.end_dir()?;
            }
            return Ok(Step::Done);
        }
        if self.frames.len() > MAX_DEPTH {
            let why = format!("it lies deeper than {MAX_DEPTH} directories");
            self.skip(path, io::Error::other(why))?;
            return Ok(Step::Done);
        }
        let dir = match at::open_dir(&self.top()?.dir, name) {
            Ok(dir) => dir,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(Step::Again),
            Err(error) => return self.skip(path, error.into()).map(|()| Step::Done),
        };
        let opened = match Stat::of(&dir) {
            Ok(opened) => opened,
            Err(error) => return self.skip(path, error.into()).map(|()| Step::Done),
        };
        if !opened.is_same_inode(stat) {
            return Ok(Step::Again);
        }
        // All names are read before the sink hears of the directory: one that cannot be listed
        // is left out as a whole.
        let names = match at::names(&dir) {
            Ok(names) => names,
            Err(error) => return self.skip(path, error).map(|()| Step::Done),
        };
        let attributes = at::xattrs_of(&dir);
        let metadata = self.metadata(&opened, attributes, path);
        if wanted {
            self.begin_above()?;
            self.sink.begin_dir(name, &metadata)?;
        }
        let rest = self.survey(&dir, path, names, wanted)?;
        self.frames.push(Frame {
            dir,
            path: path.to_vec(),
            name: name.to_vec(),
            metadata,
            rest,
            wanted,
            begun: wanted,
        });
        Ok(Step::Done)
    }

    /// Tells the sink of the directories above that it does not know yet.
    fn begin_above(&mut self) -> Result<(), DriverError> {
        for frame in self.frames.iter_mut().filter(|f| !f.begun) {
            self.sink.begin_dir(&frame.name, &frame.metadata)?;
            frame.begun = true;
        }
        Ok(())
    }

    fn node(&mut self, name: &[u8], path: &[u8], stat: &Stat) -> Result<Step, DriverError> {
        let dir = &self.top()?.dir;
        let kind = match stat.kind {
            SFlag::S_IFLNK => match at::link_target(dir, name) {
                Ok(target) => NodeKind::Symlink { target },
                Err(Errno::ENOENT | Errno::EINVAL) => return Ok(Step::Again),
                Err(error) => return self.skip(path, error.into()).map(|()| Step::Done),
            },
            SFlag::S_IFBLK => NodeKind::BlockDevice { rdev: stat.rdev },
            SFlag::S_IFCHR => NodeKind::CharDevice { rdev: stat.rdev },
            SFlag::S_IFIFO => NodeKind::Fifo,
            SFlag::S_IFSOCK => NodeKind::Socket,
            other => {
                let why = format!("it is of an unknown kind ({:#o})", other.bits());
                return self.skip(path, io::Error::other(why)).map(|()| Step::Done);
            }
        };
        let attributes = at::xattrs_at(dir, name);
        let metadata = self.metadata(stat, attributes, path);
        self.begin_above()?;
        self.sink.add_node(name, &metadata, &kind)?;
        self.leaves += 1;
        Ok(Step::Done)
    }

    fn file(
        &mut self,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        last: bool,
    ) -> Result<Step, DriverError> {
        let strict = !last && stat.size <= READ_AGAIN_BELOW;
        let mut opened = None;
        let mut data_extents = None;
        // Fewer blocks than bytes: there may be holes. A file that changes all the time is read
        // without looking for them, for they would change too.
        if stat.blocks.saturating_mul(512) < stat.size && !last {
            match at::open_file(&self.top()?.dir, name) {
                Ok(file) => {
                    match at::extents(&file, stat.size) {
                        Ok(Extents::Everywhere) => {}
                        Ok(Extents::At(extents)) => data_extents = Some(extents),
                        Ok(Extents::TooMany) => self.filled.push(path.to_vec()),
                        Err(error) => return self.skip(path, error.into()).map(|()| Step::Done),
                    }
                    if let Err(error) = io::Seek::rewind(&mut &file) {
                        return self.skip(path, error).map(|()| Step::Done);
                    }
                    opened = Some(file);
                }
                Err(Errno::ENOENT | Errno::ELOOP) => return Ok(Step::Again),
                Err(error) => return self.skip(path, error.into()).map(|()| Step::Done),
            }
        }
        let attributes = at::xattrs_at(&self.top()?.dir, name);
        let mut metadata = self.metadata(stat, attributes, path);
        metadata.data_extents = data_extents;
        self.begin_above()?;

        let content = Content::from(stat);
        let bytes = self.inodes.bytes(content);
        // Another name of what was read before is read again, but is no progress.
        let progress = if bytes == stat.size { Arc::clone(self.done) } else { Arc::default() };
        let before = self.done.load(Ordering::Relaxed);
        let finding = Finding::default();
        let dir = &top(&self.frames, self.config)?.dir;
        let mut open = || -> io::Result<Box<dyn Read + Send>> {
            let file = match opened.take() {
                Some(file) => file,
                None => at::open_file(dir, name)?,
            };
            let now = Stat::of(&file)?;
            // Another file came in its place, or this one is not what was announced.
            if now.kind != SFlag::S_IFREG
                || !now.is_same_inode(stat)
                || (strict && !now.is_same_content(stat))
            {
                finding.mark_changed();
                return Err(io::Error::other("it was replaced or changed while it was opened"));
            }
            Ok(Box::new(SteadyReader {
                file,
                expected: stat.clone(),
                left: stat.size,
                strict,
                finding: finding.clone(),
                done: Arc::clone(&progress),
                cancel: self.cancel.clone(),
            }))
        };
        let outcome = self.sink.add_file(name, &metadata, &mut open);
        match outcome {
            Ok(outcome) => {
                if outcome == FileOutcome::Unchanged {
                    self.done.store(before + bytes, Ordering::Relaxed);
                } else if finding.has_changed() {
                    self.sink.doubt_leaves();
                    self.changed.push(path.to_vec());
                }
                self.report.bytes += self.inodes.add(content);
                self.report.files += 1;
                self.leaves += 1;
                Ok(Step::Done)
            }
            Err(SinkError::Read(error)) => {
                check(self.cancel)?;
                self.done.store(before, Ordering::Relaxed);
                let gone = error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(Errno::ELOOP as i32);
                if gone || finding.has_changed() {
                    return Ok(Step::Again);
                }
                self.skip(path, error).map(|()| Step::Done)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Lists what cannot be read; a shortage of the machine ends the work.
    fn skip(&mut self, path: &[u8], error: io::Error) -> Result<(), DriverError> {
        check(self.cancel)?;
        if is_shortage(&error) {
            return Err(io_error(
                "reading",
                &self.config.path.join(PathBuf::from(printable(path))),
            )(error));
        }
        self.sink.doubt_leaves();
        self.report.skipped.push(SkippedPath { path: printable(path), reason: error.to_string() });
        Ok(())
    }

    fn metadata(&mut self, stat: &Stat, (xattrs, trouble): at::Xattrs, path: &[u8]) -> Metadata {
        if let Some(error) = trouble
            && error.kind() != io::ErrorKind::NotFound
        {
            // The entry itself is in the backup, but something of it is missing.
            let listed = SkippedPath {
                path: printable(path),
                reason: format!("its extended attributes could not be read: {error}"),
            };
            // An entry that changed is looked at again, but listed once.
            self.sink.doubt_leaves();
            if self.report.skipped.last() != Some(&listed) {
                self.report.skipped.push(listed);
            }
        }
        let (user, group) = self.owners.of(stat);
        Metadata {
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            user: user.map(str::to_owned),
            group: group.map(str::to_owned),
            size: if stat.kind == SFlag::S_IFREG { stat.size } else { 0 },
            mtime: stat.mtime,
            atime: stat.atime,
            ctime: stat.ctime,
            inode: stat.inode,
            device: stat.device,
            links: stat.links,
            xattrs,
            data_extents: None,
        }
    }

    fn take_notes(&mut self) {
        self.filled.dedup();
        let notes = [
            (&self.vanished, "vanished while the backup ran and is not in it"),
            (&self.changed, "changed while it was read; the backup holds it as it was then"),
            (&self.filled, "has too many holes to record; a restored copy will have none"),
            (&self.reserved, "is this server's own data directory and is not part of the backup"),
            (&self.mounts, "is another file system and was not entered (oneFileSystem)"),
        ];
        for (paths, what) in notes {
            for path in paths.iter().take(NAMED) {
                self.report.notes.push(format!("{}: {what}.", printable(path)));
            }
            if paths.len() > NAMED {
                let others = paths.len() - NAMED;
                self.report.notes.push(format!("{others} other paths: each {what}."));
            }
        }
    }
}

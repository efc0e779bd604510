//! The disk as a mounted file system.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::image::{Content, Image, Loss, ROOT};
use crate::Random;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Count {
    /// Changes of the disk. (A sync counts as one.)
    Changes,
    /// Those, and everything that is only looked at.
    Operations,
}

/// What happens to whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The machine dies, and nothing is done any more.
    Dies,
    /// The process stands still until [`Disk::resume`]; for all others the disk works on.
    Stops,
}

/// What happens, and when.
#[derive(Clone, Copy, Debug)]
pub struct Doom {
    /// At the operation of this number, from 1.
    pub at: u64,
    /// What is counted.
    pub of: Count,
    /// Whether that operation is done first. (One at which a process stops is done.)
    pub after: bool,
    /// What happens.
    pub fate: Fate,
}

#[derive(Default)]
struct State {
    image: Image,
    changes: u64,
    operations: u64,
    doom: Option<Doom>,
    dead: bool,
    stopped: Option<Pid>,
}

/// Where every question waits while the disk does not answer.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap_or_else(PoisonError::into_inner) = shut;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let shut = self.shut.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(shut, |shut| *shut).unwrap_or_else(PoisonError::into_inner));
    }
}

/// A disk answers nothing while this lives.
pub struct Silence(Arc<Gate>);

impl Drop for Silence {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// A mounted disk. Unmounted when dropped.
pub struct Disk {
    state: Arc<Mutex<State>>,
    gate: Arc<Gate>,
    root: PathBuf,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// Mounts an empty disk at a directory. An error means that this host does not allow it.
    pub fn mount(root: &Path) -> std::io::Result<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("provault-test-disk".to_owned())];
        let gate = Arc::new(Gate::default());
        let mounted = Mounted(Arc::clone(&state), Arc::clone(&gate));
        let session = fuser::spawn_mount(mounted, root, &config)?;
        Ok(Self { state, gate, root: root.to_owned(), session: Some(session) })
    }

    /// Answers nothing any more, like a mount whose server is gone, until what this gives is
    /// dropped; then all that was asked is answered. Linux lets no process end meanwhile that
    /// waits for an answer, so drop it before anything that kills one.
    #[must_use]
    pub fn hang(&self) -> Silence {
        self.gate.set(true);
        Silence(Arc::clone(&self.gate))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What is on it, all of it taken for certain.
    pub fn image(&self) -> Image {
        let mut image = self.state().image.clone();
        image.sync_all();
        image
    }

    /// Puts another content on it, in a living machine.
    pub fn insert(&self, image: Image) {
        *self.state() = State { image, ..State::default() };
    }

    /// How many there were since the last [`Self::insert`].
    pub fn count(&self, of: Count) -> u64 {
        let state = self.state();
        match of {
            Count::Changes => state.changes,
            Count::Operations => state.operations,
        }
    }

    /// Lets something happen later on; counting begins now.
    pub fn doom(&self, doom: Doom) {
        let mut state = self.state();
        (state.changes, state.operations, state.doom) = (0, 0, Some(doom));
    }

    /// Whether a process stands still.
    pub fn has_stopped(&self) -> bool {
        self.state().stopped.is_some()
    }

    /// Lets it go on.
    pub fn resume(&self) {
        if let Some(pid) = self.state().stopped.take() {
            kill(pid, Signal::SIGCONT).unwrap();
        }
    }

    /// Whether the machine died.
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Starts the machine again after a loss.
    pub fn revive(&self, loss: Loss, random: &mut Random) {
        let mut state = self.state();
        state.image.lose(loss, random);
        (state.doom, state.dead) = (None, false);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
        {
            eprintln!("{} is still mounted: {error}", self.root.display());
        }
    }
}

impl State {
    /// Counts an operation, and fails if it is not to be done.
    fn enter(&mut self, request: &Request, changes: bool) -> std::result::Result<(), Errno> {
        if self.dead {
            return Err(Errno::EIO);
        }
        self.operations += 1;
        self.changes += u64::from(changes);
        let Some(doom) = self.doom else { return Ok(()) };
        let (now, counted) = match doom.of {
            Count::Changes => (self.changes, changes),
            Count::Operations => (self.operations, true),
        };
        if !counted || now != doom.at {
            return Ok(());
        }
        // The thread that asks is enough: the signal is for its whole process.
        let victim = Pid::from_raw(i32::try_from(request.pid()).unwrap_or(0));
        assert!(victim.as_raw() > 0 && victim != Pid::this(), "the victim is {victim}");
        self.doom = None;
        match doom.fate {
            Fate::Dies => {
                self.dead = true;
                kill(victim, Signal::SIGKILL).unwrap();
                if doom.after { Ok(()) } else { Err(Errno::EIO) }
            }
            Fate::Stops => {
                kill(victim, Signal::SIGSTOP).unwrap();
                self.stopped = Some(victim);
                Ok(())
            }
        }
    }
}

struct Mounted(Arc<Mutex<State>>, Arc<Gate>);

/// The kernel keeps nothing: the disk may change beneath it.
const TTL: Duration = Duration::ZERO;
const GENERATION: Generation = Generation(0);

type Result<T> = std::result::Result<T, nix::errno::Errno>;

fn errno(error: nix::errno::Errno) -> Errno {
    Errno::from_i32(error as i32)
}

fn attributes(image: &Image, ino: u64) -> Result<FileAttr> {
    let inode = image.inode(ino)?;
    let (kind, size) = match &inode.content {
        Content::File { bytes, .. } => (FileType::RegularFile, bytes.len() as u64),
        Content::Directory(_) => (FileType::Directory, 0),
    };
    let modified = inode.modified;
    Ok(FileAttr {
        ino: INodeNo(ino),
        size,
        blocks: size.div_ceil(512),
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm: u16::try_from(inode.mode & 0o7777).unwrap_or(0),
        nlink: image.links(ino).max(1),
        uid: inode.owner.0,
        gid: inode.owner.1,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

impl Mounted {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look<T>(
        &self,
        request: &Request,
        what: impl FnOnce(&Image) -> Result<T>,
    ) -> std::result::Result<T, Errno> {
        self.1.pass();
        let mut state = self.state();
        state.enter(request, false)?;
        what(&state.image).map_err(errno)
    }

    /// Changes the disk, unless the machine is dead or dies now.
    fn change<T>(
        &self,
        request: &Request,
        what: impl FnOnce(&mut Image) -> Result<T>,
    ) -> std::result::Result<T, Errno> {
        self.1.pass();
        let mut state = self.state();
        state.enter(request, true)?;
        what(&mut state.image).map_err(errno)
    }
}

/// Answers with what a call gave.
macro_rules! answer {
    ($reply:ident, $result:expr, $found:ident => $good:expr) => {
        match $result {
            Ok($found) => $good,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for Mounted {
    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.look(request, |image| attributes(image, image.find(parent.0, name)?));
        answer!(reply, found, found => reply.entry(&TTL, &found, GENERATION));
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let found = self.look(request, |image| attributes(image, ino.0));
        answer!(reply, found, found => reply.attr(&TTL, &found));
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changed = self.change(request, |image| {
            if let Some(size) = size {
                image.set_size(ino.0, usize::try_from(size).unwrap_or(usize::MAX))?;
            }
            let inode = image.inode_mut(ino.0)?;
            inode.mode = mode.unwrap_or(inode.mode) & 0o7777;
            inode.owner = (uid.unwrap_or(inode.owner.0), gid.unwrap_or(inode.owner.1));
            match modified {
                Some(TimeOrNow::SpecificTime(time)) => inode.modified = time,
                Some(TimeOrNow::Now) => inode.modified = SystemTime::now(),
                None => {}
            }
            attributes(image, ino.0)
        });
        answer!(reply, changed, found => reply.attr(&TTL, &found));
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        permissions: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let owner = (request.uid(), request.gid());
        let result = self.change(request, |image| {
            let empty = Content::Directory(std::collections::BTreeMap::new());
            let ino = image.make(parent.0, name, empty, permissions, owner)?;
            attributes(image, ino)
        });
        answer!(reply, result, found => reply.entry(&TTL, &found, GENERATION));
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        permissions: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let owner = (request.uid(), request.gid());
        let result = self.change(request, |image| {
            let empty = Content::File { bytes: Vec::new(), synced: None };
            let ino = image.make(parent.0, name, empty, permissions, owner)?;
            attributes(image, ino)
        });
        let flags = FopenFlags::FOPEN_DIRECT_IO;
        answer!(reply, result, found => reply.created(&TTL, &found, GENERATION, FileHandle(0), flags));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Past the kernel's cache, so that a write is here when the program thinks it is.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.look(request, |image| match &image.inode(ino.0)?.content {
            Content::File { bytes, .. } => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes[start..(start + size as usize).min(bytes.len())].to_vec())
            }
            Content::Directory(_) => Err(nix::errno::Errno::EISDIR),
        });
        answer!(reply, read, found => reply.data(&found));
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = self.change(request, |image| {
            image.write(ino.0, usize::try_from(offset).unwrap_or(usize::MAX), data)
        });
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        answer!(reply, written, _done => reply.written(length));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, request: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.change(request, |image| image.sync(ino.0)), _done => reply.ok());
    }

    fn fsyncdir(&self, request: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.change(request, |image| image.sync(ino.0)), _done => reply.ok());
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.change(request, |image| image.remove(parent.0, name));
        answer!(reply, removed, _done => reply.ok());
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = self.change(request, |image| image.remove(parent.0, name));
        answer!(reply, removed, _done => reply.ok());
    }

    fn link(
        &self,
        request: &Request,
        ino: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        let linked = self.change(request, |image| {
            image.link(ino.0, parent.0, name)?;
            attributes(image, ino.0)
        });
        answer!(reply, linked, found => reply.entry(&TTL, &found, GENERATION));
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let replace = flags.is_empty();
        let renamed = self.change(request, |image| {
            image.rename((parent.0, name), (newparent.0, newname), replace)
        });
        answer!(reply, renamed, _done => reply.ok());
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.look(request, |image| {
            let mut all = vec![(ino.0, FileType::Directory, ".".into())];
            all.push((ROOT, FileType::Directory, "..".into()));
            for (name, ino) in image.names(ino.0)? {
                all.push((*ino, attributes(image, *ino)?.kind, name.clone()));
            }
            Ok(all)
        });
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        answer!(reply, listed, found => {
            for (place, (ino, kind, name)) in found.into_iter().enumerate().skip(skipped) {
                if reply.add(INodeNo(ino), place as u64 + 1, kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.1.pass();
        reply.statfs(1 << 30, 1 << 29, 1 << 29, 1 << 20, 1 << 19, 4096, 255, 4096);
    }
}

//! The kernel's questions, answered from a [`Tree`].

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyLseek, ReplyOpen, ReplyXattr, Request,
};
use provault_repository::{
    ByteRange, Entry, EntryKind, ExtendedAttribute, FileTime, NodeKind, Result,
};

use super::tree::{Node, Open, ROOT, Tree, number};

/// How long the kernel may believe what never changes.
const LASTING: Duration = Duration::from_hours(1);
/// And the lists of snapshots.
const SHORT: Duration = Duration::from_secs(1);

/// The file system that FUSE drives.
pub(super) struct SnapshotFilesystem {
    tree: Tree,
    open: Mutex<HashMap<u64, Arc<Open>>>,
    next: AtomicU64,
    owner: (u32, u32),
}

impl SnapshotFilesystem {
    pub(super) fn new(tree: Tree) -> Self {
        let owner = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        Self { tree, open: Mutex::default(), next: AtomicU64::new(1), owner }
    }

    fn open_files(&self) -> MutexGuard<'_, HashMap<u64, Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self, handle: FileHandle) -> Option<Arc<Open>> {
        self.open_files().get(&handle.0).cloned()
    }

    fn attributes(&self, inode: u64, node: &Node) -> FileAttr {
        let blank = FileAttr {
            ino: INodeNo(inode),
            size: 0,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::Directory,
            perm: 0o555,
            nlink: 2,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        };
        match node {
            Node::Top | Node::Ids | Node::Times => blank,
            Node::Link(target) => FileAttr {
                kind: FileType::Symlink,
                perm: 0o777,
                nlink: 1,
                size: target.len() as u64,
                ..blank
            },
            Node::Entry(_, entry) if entry.path.is_empty() => of_entry(&blank, entry, self.owner),
            Node::Entry(_, entry) => {
                of_entry(&blank, entry, (entry.metadata.uid, entry.metadata.gid))
            }
            Node::Volume(volume) => FileAttr {
                kind: FileType::RegularFile,
                perm: 0o400,
                nlink: 1,
                size: volume.size(),
                blocks: volume.size().div_ceil(512),
                blksize: volume.block_size(),
                ..blank
            },
        }
    }
}

fn of_entry(blank: &FileAttr, entry: &Entry, owner: (u32, u32)) -> FileAttr {
    let metadata = &entry.metadata;
    let (kind, device) = match &entry.kind {
        EntryKind::Directory => (FileType::Directory, 0),
        EntryKind::File => (FileType::RegularFile, 0),
        EntryKind::Other(kind) => match kind {
            NodeKind::Symlink { .. } => (FileType::Symlink, 0),
            NodeKind::BlockDevice { device } => (FileType::BlockDevice, *device),
            NodeKind::CharDevice { device } => (FileType::CharDevice, *device),
            NodeKind::Fifo => (FileType::NamedPipe, 0),
            NodeKind::Socket => (FileType::Socket, 0),
        },
    };
    let size = match &entry.kind {
        EntryKind::Other(NodeKind::Symlink { target }) => target.len() as u64,
        _ => metadata.size,
    };
    let links = if kind == FileType::Directory { 2 } else { metadata.links.max(1) };
    // Where holes were known, the blocks are those of the data.
    let data = metadata.data_extents.as_ref();
    let data = data.map_or(size, |extents| extents.iter().map(|(_, length)| length).sum());
    FileAttr {
        size,
        blocks: data.div_ceil(512),
        atime: time(metadata.atime),
        mtime: time(metadata.mtime),
        ctime: time(metadata.ctime),
        kind,
        // Set-user-id bits do nothing on this mount, and are shown all the same.
        perm: u16::try_from(metadata.mode & 0o7777).unwrap_or(0),
        nlink: u32::try_from(links).unwrap_or(u32::MAX),
        uid: owner.0,
        gid: owner.1,
        rdev: u32::try_from(device).unwrap_or(0),
        ..*blank
    }
}

fn time(time: FileTime) -> SystemTime {
    let nanoseconds = Duration::from_nanos(u64::from(time.nanoseconds));
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds < 0 {
        UNIX_EPOCH.checked_sub(seconds)
    } else {
        UNIX_EPOCH.checked_add(seconds)
    };
    whole.and_then(|whole| whole.checked_add(nanoseconds)).unwrap_or(UNIX_EPOCH)
}

fn lifetime(node: &Node) -> &'static Duration {
    match node {
        Node::Top | Node::Ids | Node::Times | Node::Link(_) => &SHORT,
        Node::Entry(..) | Node::Volume(_) => &LASTING,
    }
}

/// What the kernel is told of an error; people find the words in the log.
fn report(error: &provault_repository::Error) -> Errno {
    tracing::warn!(%error, "a read of a mounted snapshot failed");
    Errno::EIO
}

fn attributes_of(node: &Node) -> &[ExtendedAttribute] {
    match node {
        Node::Entry(_, entry) => &entry.metadata.extended_attributes,
        _ => &[],
    }
}

/// Answers with a list or value, or with its size where the caller asks for that.
fn reply_attribute(size: u32, value: &[u8], reply: ReplyXattr) {
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    if size == 0 {
        reply.size(length);
    } else if length > size {
        reply.error(Errno::ERANGE);
    } else {
        reply.data(value);
    }
}

/// Where the next data or hole is, from `offset` on.
fn seek(open: &Open, offset: u64, data: bool) -> Result<Option<u64>> {
    let (size, extents) = match open {
        Open::File(file) => (file.size(), None),
        Open::Volume(volume) => (volume.size(), Some(volume)),
    };
    if offset >= size {
        return Ok(None);
    }
    let Some(volume) = extents else { return Ok(Some(if data { offset } else { size })) };
    // In parts, so that an answer that is near is not held up by the rest.
    let mut at = offset;
    while at < size {
        let part = ByteRange { offset: at, length: (1 << 30).min(size - at) };
        if let Some(found) = volume.extents(part)?.iter().find(|extent| extent.zero != data) {
            return Ok(Some(found.range.offset));
        }
        at = part.end();
    }
    Ok((!data).then_some(size))
}

impl Filesystem for SnapshotFilesystem {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.tree.look_up(parent.0, name.as_bytes()) {
            Ok(Some((inode, node))) => {
                reply.entry(lifetime(&node), &self.attributes(inode, &node), Generation(0));
            }
            Ok(None) => reply.error(Errno::ENOENT),
            Err(error) => reply.error(report(&error)),
        }
    }

    fn forget(&self, _: &Request, inode: INodeNo, lookups: u64) {
        self.tree.forget(inode.0, lookups);
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.tree.node(inode.0) {
            Some(node) => reply.attr(lifetime(&node), &self.attributes(inode.0, &node)),
            None => reply.error(Errno::ESTALE),
        }
    }

    fn readlink(&self, _: &Request, inode: INodeNo, reply: ReplyData) {
        match self.tree.node(inode.0) {
            Some(Node::Link(target)) => reply.data(target.as_bytes()),
            Some(Node::Entry(_, entry)) => match &entry.kind {
                EntryKind::Other(NodeKind::Symlink { target }) => reply.data(target),
                _ => reply.error(Errno::EINVAL),
            },
            _ => reply.error(Errno::EINVAL),
        }
    }

    fn open(&self, _: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(Errno::EROFS);
        }
        let Some(node) = self.tree.node(inode.0) else { return reply.error(Errno::ESTALE) };
        match self.tree.open(&node) {
            Ok(open) => {
                let handle = self.next.fetch_add(1, Ordering::Relaxed);
                self.open_files().insert(handle, Arc::new(open));
                // What the kernel read before is still true.
                reply.opened(FileHandle(handle), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(error) => reply.error(report(&error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(open) = self.opened(handle) else { return reply.error(Errno::EBADF) };
        let end = match open.as_ref() {
            Open::File(file) => file.size(),
            Open::Volume(volume) => volume.size(),
        };
        let length = u64::from(size).min(end.saturating_sub(offset));
        // No more than the 32 bits of a request.
        let mut buffer = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = match open.as_ref() {
            Open::File(file) => file.read_at(offset, &mut buffer),
            Open::Volume(volume) => volume.read_at(offset, &mut buffer).map(|()| buffer.len()),
        };
        match read {
            Ok(length) => reply.data(&buffer[..length]),
            Err(error) => reply.error(report(&error)),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.open_files().remove(&handle.0);
        reply.ok();
    }

    fn lseek(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let Some(open) = self.opened(handle) else { return reply.error(Errno::EBADF) };
        // The kernel asks for these two only: SEEK_DATA and SEEK_HOLE.
        let (Ok(offset), 3 | 4) = (u64::try_from(offset), whence) else {
            return reply.error(Errno::EINVAL);
        };
        match seek(&open, offset, whence == 3) {
            Ok(Some(found)) => reply.offset(i64::try_from(found).unwrap_or(i64::MAX)),
            Ok(None) => reply.error(Errno::ENXIO),
            Err(error) => reply.error(report(&error)),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listing = match self.tree.listing(inode.0) {
            Ok(listing) => listing,
            Err(error) => return reply.error(report(&error)),
        };
        // The number of the parent does not matter to anybody: the kernel knows it.
        let dots = [(&b"."[..], inode.0), (b"..", ROOT)]
            .map(|(name, number)| (name, number, FileType::Directory));
        let children = listing.children.iter().map(|(name, node)| {
            let number = number(inode.0, name);
            (name.as_slice(), number, self.attributes(number, node).kind)
        });
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        let all = dots.into_iter().chain(children);
        for (position, (name, number, kind)) in (1..).zip(all).skip(skip) {
            if reply.add(INodeNo(number), position, kind, OsStr::from_bytes(name)) {
                break;
            }
        }
        reply.ok();
    }

    fn getxattr(&self, _: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let Some(node) = self.tree.node(inode.0) else { return reply.error(Errno::ESTALE) };
        let found = attributes_of(&node).iter().find(|own| own.name == name.as_bytes());
        match found {
            Some(attribute) => reply_attribute(size, &attribute.value, reply),
            None => reply.error(Errno::ENODATA),
        }
    }

    fn listxattr(&self, _: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        let Some(node) = self.tree.node(inode.0) else { return reply.error(Errno::ESTALE) };
        let mut names = Vec::new();
        for attribute in attributes_of(&node) {
            names.extend_from_slice(&attribute.name);
            names.push(0);
        }
        reply_attribute(size, &names, reply);
    }
}

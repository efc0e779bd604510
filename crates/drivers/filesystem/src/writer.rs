//! Building a tree from entries.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};
use provault_driver::entry::printable;
use provault_driver::{
    Chunk, ContentSink, DriverError, Entry, Metadata, NodeKind, Source, SourceError, WorkContext,
};

use crate::apply::{self, Tally};
use crate::at::{self, Stat};
use crate::capture::{check, io_error};
use crate::compare::Reader;
use crate::guard::split;
use crate::inodes::{Content, Inodes};
use crate::staging::{drop_acls, remove_tree};

/// So many files are open at once.
const BATCH: usize = 256;

/// Progress is told whenever so many bytes more are written.
const TELL_EVERY: u64 = 4 << 20;

/// An open directory below a root, reached name by name and never through a link.
pub(crate) struct Cursor {
    root: File,
    below: Vec<(Vec<u8>, File)>,
}

impl Cursor {
    pub fn new(root: File) -> Self {
        Self { root, below: Vec::new() }
    }

    /// Opens the directory at `path`; what both paths have in common stays open.
    pub fn go(&mut self, path: &[u8]) -> nix::Result<&File> {
        let names: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|n| !n.is_empty()).collect();
        let same = self.below.iter().zip(&names).take_while(|((a, _), b)| a == *b).count();
        self.below.truncate(same);
        for name in &names[same..] {
            let next = at::open_dir(self.here(), name)?;
            self.below.push((name.to_vec(), next));
        }
        Ok(self.here())
    }

    fn here(&self) -> &File {
        self.below.last().map_or(&self.root, |(_, dir)| dir)
    }
}

/// The first name of a content that has several.
struct Linked {
    path: Vec<u8>,
    kind: NodeKind,
    chunks: Vec<Chunk>,
}

/// What was written, counted as `inodes` tells.
#[derive(Debug)]
pub(crate) struct Written {
    pub bytes: u64,
    pub files: u64,
    /// Names of whatever kind below the root, without those that could not be made.
    pub names: u64,
    pub tally: Tally,
}

/// Writes entries below a directory that nobody else writes to.
pub(crate) struct Writer<'a> {
    cursor: Cursor,
    /// Where people will find it; for messages.
    shown: PathBuf,
    source: &'a dyn Source,
    context: &'a WorkContext<'a>,
    total: u64,
    done: AtomicU64,
    files: u64,
    names: u64,
    bytes: u64,
    inodes: Inodes,
    batch: Vec<(Entry, File)>,
    links: HashMap<Content, Linked>,
    /// Device and inode of what is in `links`.
    linked: HashSet<(u64, u64)>,
    dirs: Vec<(Vec<u8>, Metadata)>,
    tally: Tally,
    /// What an earlier run left; nothing in a tree that is made anew.
    earlier: Option<Reader>,
}

impl<'a> Writer<'a> {
    pub fn new(
        root: File,
        shown: &Path,
        source: &'a dyn Source,
        context: &'a WorkContext<'a>,
        total: u64,
    ) -> Self {
        Self {
            cursor: Cursor::new(root),
            shown: shown.to_owned(),
            source,
            context,
            total,
            done: AtomicU64::new(0),
            files: 0,
            names: 0,
            bytes: 0,
            inodes: Inodes::default(),
            batch: Vec::new(),
            links: HashMap::new(),
            linked: HashSet::new(),
            dirs: Vec::new(),
            tally: Tally::default(),
            earlier: None,
        }
    }

    /// Takes what is there already for the work of an earlier run: files whose content is proven, by
    /// its hash, to be the stored one are kept, and everything else is made anew.
    pub fn resume(&mut self) {
        self.earlier = Some(Reader::new());
    }

    fn failed(
        &self,
        doing: &'static str,
        path: &[u8],
    ) -> impl FnOnce(Errno) -> DriverError + use<> {
        io_error(doing, &self.shown.join(printable(path)))
    }

    /// Makes an entry. Content comes in batches; directories get their metadata at the end.
    pub fn add(&mut self, entry: Entry) -> Result<(), DriverError> {
        check(self.context.cancel)?;
        let path = entry.path.clone();
        self.names += u64::from(!path.is_empty());
        if entry.kind == NodeKind::Directory {
            if !path.is_empty() {
                let resuming = self.earlier.is_some();
                self.make(&path, |dir, name| make_dir(dir, name, resuming))?;
            }
            self.dirs.push((path, entry.metadata));
            return Ok(());
        }
        if entry.kind == NodeKind::File {
            let bytes = self.inodes.add(Content::from(&entry.metadata));
            self.bytes = self.bytes.saturating_add(bytes);
            self.files += 1;
        }
        if entry.metadata.links > 1 && self.link(&entry)? {
            return Ok(());
        }
        if self.keep(&entry)? {
            return Ok(());
        }
        let (metadata, private) = (&entry.metadata, Mode::S_IRUSR | Mode::S_IWUSR);
        match &entry.kind {
            NodeKind::Directory => {}
            NodeKind::File => {
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
                let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let file = self
                    .make(&path, |dir, name| openat(dir, name, flags, private))
                    .map(File::from)?;
                // What has no holes gets its length by being written, which is one change of the
                // inode less.
                if metadata.data_extents.is_some() {
                    file.set_len(metadata.size)
                        .map_err(io_error("writing", &self.shown.join(printable(&path))))?;
                }
                self.batch.push((entry, file));
                if self.batch.len() >= BATCH {
                    self.flush()?;
                }
            }
            NodeKind::Symlink { target } => {
                self.make(&path, |dir, name| symlinkat(target.as_slice(), dir, name))?;
                self.finish_node(&path, metadata, true)?;
            }
            NodeKind::BlockDevice { rdev } => self.node(&path, metadata, SFlag::S_IFBLK, *rdev)?,
            NodeKind::CharDevice { rdev } => self.node(&path, metadata, SFlag::S_IFCHR, *rdev)?,
            NodeKind::Fifo => self.node(&path, metadata, SFlag::S_IFIFO, 0)?,
            NodeKind::Socket => self.node(&path, metadata, SFlag::S_IFSOCK, 0)?,
        }
        Ok(())
    }

    /// Keeps a file that an earlier run wrote whole, and makes room for what it did not.
    fn keep(&mut self, entry: &Entry) -> Result<bool, DriverError> {
        let (parent, name) = split(&entry.path);
        let failed = self.failed("reading", &entry.path);
        let Some(reader) = &mut self.earlier else { return Ok(false) };
        let dir = self.cursor.go(parent).map_err(failed)?;
        let Ok(stat) = Stat::at(dir, name) else { return Ok(false) };
        let whole = entry.kind == NodeKind::File
            && stat.kind == SFlag::S_IFREG
            && stat.size == entry.metadata.size;
        if whole && let Ok(file) = at::open_file(dir, name) {
            let differs =
                reader.difference(&file, entry, &self.shown, self.context.cancel)?.is_some();
            if !differs {
                apply::to_open(&file, &entry.metadata, &mut self.tally)
                    .map_err(self.failed("setting the metadata of", &entry.path))?;
                let size = entry.metadata.size;
                let done = self.done.fetch_add(size, Ordering::Relaxed) + size;
                (self.context.progress)(done, Some(self.total.max(done)));
                return Ok(true);
            }
        }
        self.make_room(&entry.path)?;
        Ok(false)
    }

    /// Removes what an earlier run left at a path.
    fn make_room(&mut self, path: &[u8]) -> Result<(), DriverError> {
        if self.earlier.is_none() {
            return Ok(());
        }
        let (parent, name) = split(path);
        let shown = self.shown.join(printable(path));
        let dir = self.cursor.go(parent).map_err(io_error("removing", &shown))?;
        remove_tree(dir, name).map_err(io_error("removing", &shown))
    }

    fn make<T>(
        &mut self,
        path: &[u8],
        make: impl FnOnce(&File, &[u8]) -> nix::Result<T>,
    ) -> Result<T, DriverError> {
        let (parent, name) = split(path);
        let result = self.cursor.go(parent).and_then(|dir| make(dir, name));
        result.map_err(self.failed("creating", path))
    }

    fn node(
        &mut self,
        path: &[u8],
        metadata: &Metadata,
        kind: SFlag,
        rdev: u64,
    ) -> Result<(), DriverError> {
        let private = Mode::S_IRUSR | Mode::S_IWUSR;
        let (parent, name) = split(path);
        let made = self.cursor.go(parent).and_then(|dir| mknodat(dir, name, kind, private, rdev));
        match made {
            Ok(()) => self.finish_node(path, metadata, false),
            Err(Errno::EPERM) => {
                self.tally.nodes.push(path.to_vec());
                Ok(())
            }
            Err(error) => Err(self.failed("creating", path)(error)),
        }
    }

    fn finish_node(
        &mut self,
        path: &[u8],
        metadata: &Metadata,
        is_link: bool,
    ) -> Result<(), DriverError> {
        let (parent, name) = split(path);
        let tally = &mut self.tally;
        let set = self
            .cursor
            .go(parent)
            .and_then(|dir| apply::to_named(dir, name, metadata, is_link, tally));
        set.map_err(self.failed("setting the metadata of", path))
    }

    /// Makes another name of an inode that was made before; true when that was all there is to
    /// do.
    fn link(&mut self, entry: &Entry) -> Result<bool, DriverError> {
        let key = Content::from(&entry.metadata);
        let Some(first) = self.links.get(&key) else {
            let linked = Linked {
                path: entry.path.clone(),
                kind: entry.kind.clone(),
                chunks: entry.chunks.clone(),
            };
            self.links.insert(key, linked);
            // It grew or shrank since its first name was captured.
            if !self.linked.insert((entry.metadata.device, entry.metadata.inode)) {
                self.tally.parted += 1;
            }
            return Ok(false);
        };
        if first.kind != entry.kind || first.chunks != entry.chunks {
            self.tally.parted += 1;
            return Ok(false);
        }
        // A device that could not be made has no second name either.
        if self.tally.nodes.contains(&first.path) {
            self.tally.nodes.push(entry.path.clone());
            return Ok(true);
        }
        let (parent, name) = split(&first.path);
        let (parent, name) = (parent.to_vec(), name.to_vec());
        self.make_room(&entry.path)?;
        let failed = self.failed("linking", &entry.path);
        let old = self.cursor.go(&parent).map_err(failed)?;
        let old = old.try_clone().map_err(io_error("linking", &self.shown))?;
        self.make(&entry.path, |dir, new| {
            linkat(&old, name.as_slice(), dir, new, AtFlags::empty())
        })?;
        Ok(true)
    }

    /// Fills the files that wait for their content.
    fn flush(&mut self) -> Result<(), DriverError> {
        let (entries, files): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.batch).into_iter().unzip();
        if entries.is_empty() {
            return Ok(());
        }
        let received = entries.iter().map(|_| AtomicU64::new(0)).collect();
        let out = Out {
            entries: &entries,
            files: &files,
            received,
            done: &self.done,
            total: self.total,
            shown: &self.shown,
            context: self.context,
        };
        self.source.copy_contents(&entries, &out)?;
        check(self.context.cancel)?;
        for (entry, received) in entries.iter().zip(&out.received) {
            if received.load(Ordering::Relaxed) != entry.metadata.size {
                return Err(damaged(entry, "not all of its content was delivered"));
            }
        }
        for (entry, file) in entries.iter().zip(&files) {
            apply::to_open(file, &entry.metadata, &mut self.tally)
                .map_err(self.failed("setting the metadata of", &entry.path))?;
        }
        let done = self.done.load(Ordering::Relaxed);
        (self.context.progress)(done, Some(self.total.max(done)));
        Ok(())
    }

    /// Fills the last files and gives directories their metadata, the deepest first: what is made
    /// in a directory changes its times, and its mode may forbid making anything.
    pub fn finish(mut self) -> Result<Written, DriverError> {
        self.flush()?;
        for (path, metadata) in std::mem::take(&mut self.dirs).into_iter().rev() {
            check(self.context.cancel)?;
            let tally = &mut self.tally;
            let set = self.cursor.go(&path).and_then(|dir| apply::to_open(dir, &metadata, tally));
            set.map_err(self.failed("setting the metadata of", &path))?;
        }
        let names = self.names.saturating_sub(self.tally.nodes.len() as u64);
        Ok(Written { bytes: self.bytes, files: self.files, names, tally: self.tally })
    }
}

/// Makes a directory that only we may look into; one that an earlier run made gets open to us again.
fn make_dir(dir: &File, name: &[u8], resuming: bool) -> nix::Result<()> {
    match mkdirat(dir, name, at::PRIVATE_DIR) {
        Err(Errno::EEXIST) if resuming => {
            if Stat::at(dir, name)?.is_dir() {
                fchmodat(dir, name, at::PRIVATE_DIR, FchmodatFlags::FollowSymlink)?;
                drop_acls(&at::open_dir(dir, name)?);
                return Ok(());
            }
            unlinkat(dir, name, UnlinkatFlags::NoRemoveDir)?;
            mkdirat(dir, name, at::PRIVATE_DIR)
        }
        made => made,
    }
}

fn damaged(entry: &Entry, message: &str) -> DriverError {
    let path = printable(&entry.path);
    SourceError::Damaged { path, message: message.to_owned() }.into()
}

/// Takes content for the files of a batch.
struct Out<'a> {
    entries: &'a [Entry],
    files: &'a [File],
    received: Vec<AtomicU64>,
    done: &'a AtomicU64,
    total: u64,
    shown: &'a Path,
    context: &'a WorkContext<'a>,
}

impl ContentSink for Out<'_> {
    fn write_at(&self, index: usize, offset: u64, bytes: &[u8]) -> Result<(), DriverError> {
        check(self.context.cancel)?;
        let found = self.entries.get(index).zip(self.files.get(index));
        let ((entry, file), received) =
            found.zip(self.received.get(index)).ok_or_else(|| SourceError::Damaged {
                path: format!("file {index} of a batch"),
                message: "content came for a file that was not asked for".to_owned(),
            })?;
        let length = bytes.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > entry.metadata.size) {
            return Err(damaged(entry, "content came for beyond its end"));
        }
        let extents = entry.metadata.data_extents.as_deref();
        write_sparse(file, extents, offset, bytes)
            .map_err(io_error("writing", &self.shown.join(printable(&entry.path))))?;
        received.fetch_add(length, Ordering::Relaxed);
        let before = self.done.fetch_add(length, Ordering::Relaxed);
        let done = before + length;
        if before / TELL_EVERY != done / TELL_EVERY {
            // Names that claim one inode but differ are written apart and make more than was
            // expected.
            (self.context.progress)(done, Some(self.total.max(done)));
        }
        Ok(())
    }
}

/// Writes what lies in the extents. What lies between them is left a hole when it is zero; when
/// it is not, the content counts and not the extents.
fn write_sparse(
    file: &File,
    extents: Option<&[(u64, u64)]>,
    offset: u64,
    bytes: &[u8],
) -> std::io::Result<()> {
    let Some(extents) = extents else { return file.write_all_at(bytes, offset) };
    let end = offset + bytes.len() as u64;
    let part = |from: u64, to: u64| {
        // Both lie within `bytes`, whose length is a usize.
        let at = |position: u64| usize::try_from(position - offset).unwrap_or(usize::MAX);
        bytes.get(at(from)..at(to)).unwrap_or_default()
    };
    let mut at = offset;
    let first = extents.partition_point(|(start, length)| start.saturating_add(*length) <= offset);
    for &(start, length) in &extents[first..] {
        let (from, to) = (start.clamp(at, end), start.saturating_add(length).clamp(at, end));
        write_unless_zero(file, part(at, from), at)?;
        file.write_all_at(part(from, to), from)?;
        at = to;
        if at == end {
            break;
        }
    }
    write_unless_zero(file, part(at, end), at)
}

fn write_unless_zero(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    if bytes.iter().all(|b| *b == 0) { Ok(()) } else { file.write_all_at(bytes, offset) }
}

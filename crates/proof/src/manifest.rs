//! Every restored file against the manifest taken at capture.
//!
//! The manifest is the stored tree itself: kinds, metadata, and the SHA-256 of every piece of
//! content. Nothing here depends on the code that wrote the copy; each file is read back from
//! disk. Memory is bounded but for a few bytes a hard-linked file, and, once something is found
//! that does not belong, sixteen bytes an entry to find out what.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata as OnDisk, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use provault_domain::Probe;
use provault_domain::verdict::ProbeResult;
use provault_driver::entry::printable;
use provault_driver::{CancelFlag, Chunk, Entry, NodeKind, Source, SourceError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::ProofError;
use crate::tree::{self, Locked, walk};

/// Differences that are listed; the others are only counted.
pub const LISTED: usize = 100;

/// Names of xattrs that a user without privileges can see and set.
const PLAIN_XATTRS: &[&[u8]] = &[b"user.", b"system.posix_acl_access", b"system.posix_acl_default"];

/// One way in which the copy is not what was captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Relative to the root, for people; `.` for the root itself.
    pub path: String,
    /// Such as `is missing` or `has mode 0644 instead of 0600`.
    pub what: String,
}

/// What the comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestReport {
    /// Regular files in the manifest.
    pub files: u64,
    /// Directories in it, the root among them.
    pub directories: u64,
    /// Everything else in it.
    pub other: u64,
    /// Bytes of content read back and hashed.
    pub bytes: u64,
    /// The first [`LISTED`] differences.
    pub differences: Vec<Difference>,
    /// All of them, counted.
    pub differences_total: u64,
    /// What could not be compared, and why.
    pub notes: Vec<String>,
}

impl ManifestReport {
    /// Whether the copy is what was captured.
    pub fn is_equal(&self) -> bool {
        self.differences_total == 0
    }

    /// The answer to [`Probe::Files`].
    pub fn probe_result(&self, millis: u64) -> ProbeResult {
        let mut detail = match (self.differences_total, self.differences.first()) {
            (0, _) | (_, None) => format!(
                "{} files, {} directories and {} others are as captured, {} bytes compared",
                self.files, self.directories, self.other, self.bytes
            ),
            (1, Some(first)) => format!("{} {}", first.path, first.what),
            (n, Some(first)) => format!("{n} differences; {} {}", first.path, first.what),
        };
        for note in &self.notes {
            detail.push_str("; ");
            detail.push_str(note);
        }
        ProbeResult {
            label: Probe::Files.label(),
            passed: self.is_equal(),
            detail,
            http_status: None,
            millis,
            output: None,
        }
    }

    fn differ(&mut self, path: &[u8], what: impl Into<String>) {
        self.differences_total += 1;
        if self.differences.len() < LISTED {
            let path = if path.is_empty() { ".".to_owned() } else { printable(path) };
            self.differences.push(Difference { path, what: what.into() });
        }
    }
}

/// Compares the tree at `copy_root` with a stored one. `progress` is called now and then with the
/// bytes hashed so far; how many there are is not known beforehand.
///
/// Differences are a result. An error means that they could not all be found: the copy or the
/// vault could not be read.
pub fn compare(
    copy_root: &Path,
    source: &dyn Source,
    cancel: &CancelFlag,
    progress: &(dyn Fn(u64, Option<u64>) + Sync),
) -> Result<ManifestReport, ProofError> {
    tree::directory(copy_root)?;
    let mut comparison = Comparison {
        root: copy_root,
        cancel,
        progress,
        is_root: geteuid().is_root(),
        report: ManifestReport::default(),
        verified: None,
        present: 0,
        groups: HashMap::new(),
        inodes: HashMap::new(),
        devices_left_out: 0,
        xattrs_left_out: 0,
        buffer: vec![0; 256 * 1024],
    };
    for entry in source.entries()? {
        comparison.check_cancel()?;
        comparison.entry(&entry?)?;
    }
    comparison.finish(source)
}

/// A hard-linked file: where its first name was, and how many were seen.
struct Group {
    first: Vec<u8>,
    on_disk: (u64, u64),
    links: u64,
    seen: u64,
}

struct Comparison<'a> {
    root: &'a Path,
    cancel: &'a CancelFlag,
    progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
    is_root: bool,
    report: ManifestReport,
    /// The directory last seen to be reachable without a link.
    verified: Option<Vec<u8>>,
    /// Entries of the manifest that are on disk.
    present: u64,
    /// By device and inode at capture.
    groups: HashMap<(u64, u64), Group>,
    /// Device and inode on disk to those at capture.
    inodes: HashMap<(u64, u64), (u64, u64)>,
    devices_left_out: u64,
    xattrs_left_out: u64,
    buffer: Vec<u8>,
}

impl Comparison<'_> {
    fn check_cancel(&self) -> Result<(), ProofError> {
        if self.cancel.is_raised() { Err(ProofError::Cancelled) } else { Ok(()) }
    }

    fn path(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() {
            self.root.to_owned()
        } else {
            self.root.join(std::ffi::OsStr::from_bytes(path))
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), ProofError> {
        match entry.kind {
            NodeKind::File => self.report.files += 1,
            NodeKind::Directory => self.report.directories += 1,
            _ => self.report.other += 1,
        }
        check_path(&entry.path)?;
        let path = self.path(&entry.path);
        let Some(on_disk) = self.look(&entry.path, &path)? else {
            let device =
                matches!(entry.kind, NodeKind::BlockDevice { .. } | NodeKind::CharDevice { .. });
            if device && !self.is_root {
                self.devices_left_out += 1;
            } else {
                self.report.differ(&entry.path, "is missing");
            }
            return Ok(());
        };
        self.present += 1;
        if !same_kind(&entry.kind, &on_disk) {
            let what =
                format!("is {} instead of {}", kind_on_disk(&on_disk), kind_name(&entry.kind));
            self.report.differ(&entry.path, what);
            return Ok(());
        }
        self.metadata(entry, &on_disk);
        self.xattrs(entry, &path)?;
        match &entry.kind {
            NodeKind::File => {
                self.links(entry, &on_disk);
                self.content(entry, &on_disk, &path)?;
            }
            NodeKind::Symlink { target } => {
                let found = fs::read_link(&path).map_err(ProofError::io("reading", &path))?;
                if found.as_os_str().as_bytes() != target.as_slice() {
                    let what = format!(
                        "points to '{}' instead of '{}'",
                        printable(found.as_os_str().as_bytes()),
                        printable(target)
                    );
                    self.report.differ(&entry.path, what);
                }
            }
            NodeKind::BlockDevice { rdev } | NodeKind::CharDevice { rdev } => {
                if on_disk.rdev() != *rdev {
                    let what = format!("has device number {} instead of {rdev}", on_disk.rdev());
                    self.report.differ(&entry.path, what);
                }
            }
            NodeKind::Directory | NodeKind::Fifo | NodeKind::Socket => {}
        }
        Ok(())
    }

    /// What is on disk at a path, reached through directories only.
    fn look(&mut self, path: &[u8], full: &Path) -> Result<Option<OnDisk>, ProofError> {
        let parent = match path.iter().rposition(|byte| *byte == b'/') {
            Some(end) => &path[..end],
            None => &[],
        };
        if self.verified.as_deref() != Some(parent) {
            for end in ends_of_names(parent) {
                let ancestor = self.path(&parent[..end]);
                if !lstat(&ancestor)?.is_some_and(|found| found.is_dir()) {
                    return Ok(None);
                }
            }
            self.verified = Some(parent.to_vec());
        }
        lstat(full)
    }

    fn metadata(&mut self, entry: &Entry, on_disk: &OnDisk) {
        let wanted = &entry.metadata;
        let owned = (wanted.uid, wanted.gid) == (on_disk.uid(), on_disk.gid());
        let report = &mut self.report;
        if self.is_root && !owned {
            let what = format!(
                "belongs to {}:{} instead of {}:{}",
                on_disk.uid(),
                on_disk.gid(),
                wanted.uid,
                wanted.gid
            );
            report.differ(&entry.path, what);
        }
        // Whoever cannot give a file to its owner must not make it run as its owner either.
        let mask = if owned || self.is_root { 0o7777 } else { 0o1777 };
        let (found, mode) = (on_disk.mode() & mask, wanted.mode & mask);
        if found != mode && !matches!(entry.kind, NodeKind::Symlink { .. }) {
            report.differ(&entry.path, format!("has mode {found:04o} instead of {mode:04o}"));
        }
        let nanos = i32::try_from(on_disk.mtime_nsec()).unwrap_or(0);
        let mtime = Timestamp::new(on_disk.mtime(), nanos);
        if mtime.as_ref().ok() != Some(&wanted.mtime) {
            let found = mtime.map_or_else(|_| "an impossible time".to_owned(), |t| t.to_string());
            let what = format!("was changed at {found} instead of {}", wanted.mtime);
            report.differ(&entry.path, what);
        }
    }

    fn xattrs(&mut self, entry: &Entry, path: &Path) -> Result<(), ProofError> {
        let visible =
            |name: &[u8]| self.is_root || PLAIN_XATTRS.iter().any(|plain| name.starts_with(plain));
        let mut found = Vec::new();
        match xattr::list(path) {
            Ok(names) => {
                for name in names.filter(|name| visible(name.as_bytes())) {
                    let value = xattr::get(path, &name).map_err(ProofError::io("reading", path))?;
                    found.push((name.as_bytes().to_vec(), value.unwrap_or_default()));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => return Err(ProofError::io("reading", path)(error)),
        }
        found.sort();
        let mut wanted: Vec<_> =
            entry.metadata.xattrs.iter().filter(|(name, _)| visible(name)).cloned().collect();
        wanted.sort();
        self.xattrs_left_out += (entry.metadata.xattrs.len() - wanted.len()) as u64;
        let name_of = |pair: &(Vec<u8>, Vec<u8>)| printable(&pair.0);
        for pair in wanted.iter().filter(|pair| !found.contains(pair)) {
            let here = found.iter().any(|(name, _)| *name == pair.0);
            let what = if here { "another value of" } else { "no" };
            self.report.differ(&entry.path, format!("has {what} xattr {}", name_of(pair)));
        }
        for pair in found.iter().filter(|(name, _)| wanted.iter().all(|(n, _)| n != name)) {
            self.report.differ(&entry.path, format!("has xattr {} too many", name_of(pair)));
        }
        Ok(())
    }

    /// Names that were one file must be one file, and others must not.
    fn links(&mut self, entry: &Entry, on_disk: &OnDisk) {
        let here = (on_disk.dev(), on_disk.ino());
        if entry.metadata.links <= 1 {
            if on_disk.nlink() != 1 {
                let what = format!("has {} names instead of one", on_disk.nlink());
                self.report.differ(&entry.path, what);
            }
            return;
        }
        let then = (entry.metadata.device, entry.metadata.inode);
        let group = self.groups.entry(then).or_insert_with(|| Group {
            first: entry.path.clone(),
            on_disk: here,
            links: on_disk.nlink(),
            seen: 0,
        });
        group.seen += 1;
        if group.on_disk != here {
            let what = format!("is not the same file as {}", printable(&group.first));
            self.report.differ(&entry.path, what);
        }
        if *self.inodes.entry(here).or_insert(then) != then {
            self.report.differ(&entry.path, "is the same file as another that it was not");
        }
    }

    fn content(&mut self, entry: &Entry, on_disk: &OnDisk, path: &Path) -> Result<(), ProofError> {
        let wanted: u64 = entry.chunks.iter().map(|chunk| chunk.length).sum();
        if wanted != entry.metadata.size {
            return Err(damaged(&entry.path, "its chunks do not add up to its size").into());
        }
        if on_disk.size() != wanted {
            let what = format!("has {} bytes instead of {wanted}", on_disk.size());
            self.report.differ(&entry.path, what);
            return Ok(());
        }
        if wanted == 0 {
            return Ok(());
        }
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(path)
            .map_err(ProofError::io("opening", path))?;
        let mut offset = 0;
        for chunk in &entry.chunks {
            self.check_cancel()?;
            let same = self
                .chunk(&mut file, chunk)
                .map_err(|error| ProofError::io("reading", path)(error))?;
            self.report.bytes += chunk.length;
            (self.progress)(self.report.bytes, None);
            if !same {
                let end = offset + chunk.length;
                let what = format!("has other content between bytes {offset} and {end}");
                self.report.differ(&entry.path, what);
                return Ok(());
            }
            offset += chunk.length;
        }
        Ok(())
    }

    fn chunk(&mut self, file: &mut File, chunk: &Chunk) -> io::Result<bool> {
        let mut hash = Sha256::new();
        let mut left = chunk.length;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let n = file.read(&mut self.buffer[..most])?;
            if n == 0 {
                return Ok(false);
            }
            hash.update(&self.buffer[..n]);
            left -= n as u64;
        }
        Ok(<[u8; 32]>::from(hash.finalize()) == chunk.sha256)
    }

    fn finish(mut self, source: &dyn Source) -> Result<ManifestReport, ProofError> {
        if self.report.directories == 0 {
            self.report.differ(b"", "is not in the manifest, which names no directory");
        }
        let mut groups: Vec<_> = self.groups.drain().map(|(_, group)| group).collect();
        groups.sort_by(|a, b| a.first.cmp(&b.first));
        for group in groups.iter().filter(|group| group.links != group.seen) {
            let what = format!("has {} names instead of {}", group.links, group.seen);
            self.report.differ(&group.first, what);
        }
        let mut on_disk = 1; // the root
        walk(self.root, Locked::Refuse, &mut |_, _| {
            on_disk += 1;
            self.check_cancel()
        })?;
        if on_disk != self.present {
            self.find_extra(source)?;
        }
        let report = &mut self.report;
        if !self.is_root {
            report.notes.push("owners were not compared, which only root can set".to_owned());
        }
        if self.devices_left_out > 0 {
            let note = format!("{} device files, which only root can make", self.devices_left_out);
            report.notes.push(format!("not there: {note}"));
        }
        if self.xattrs_left_out > 0 {
            let note = format!("{} xattrs, which only root can see", self.xattrs_left_out);
            report.notes.push(format!("not compared: {note}"));
        }
        Ok(self.report)
    }

    /// Names what is on disk and not in the manifest, or the other way round more than once.
    fn find_extra(&mut self, source: &dyn Source) -> Result<(), ProofError> {
        let key = |path: &[u8]| -> [u8; 16] {
            let hash: [u8; 32] = Sha256::digest(path).into();
            let mut key = [0; 16];
            key.copy_from_slice(&hash[..16]);
            key
        };
        let mut known = HashSet::new();
        for entry in source.entries()? {
            self.check_cancel()?;
            let entry = entry?;
            if !known.insert(key(&entry.path)) {
                self.report.differ(&entry.path, "is in the manifest more than once");
            }
        }
        let (root, cancel, report) = (self.root, self.cancel, &mut self.report);
        walk(root, Locked::Refuse, &mut |path, _| {
            if cancel.is_raised() {
                return Err(ProofError::Cancelled);
            }
            let path = path.strip_prefix(root).unwrap_or(path).as_os_str().as_bytes();
            if !known.contains(&key(path)) {
                report.differ(path, "is not in the manifest");
            }
            Ok(())
        })
    }
}

fn damaged(path: &[u8], message: &str) -> SourceError {
    SourceError::Damaged { path: printable(path), message: message.to_owned() }
}

/// A manifest whose paths lead out of the copy is no manifest.
fn check_path(path: &[u8]) -> Result<(), ProofError> {
    let is_name = |name: &[u8]| !name.is_empty() && name != b"." && name != b"..";
    if path.is_empty() || path.split(|byte| *byte == b'/').all(is_name) {
        Ok(())
    } else {
        Err(damaged(path, "it is not a relative path").into())
    }
}

/// Where each name of a path ends.
fn ends_of_names(path: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let last = (!path.is_empty()).then_some(path.len());
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.chain(last)
}

fn lstat(path: &Path) -> Result<Option<OnDisk>, ProofError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(ProofError::io("reading", path)(error)),
    }
}

fn same_kind(kind: &NodeKind, on_disk: &OnDisk) -> bool {
    let found = on_disk.file_type();
    match kind {
        NodeKind::Directory => found.is_dir(),
        NodeKind::File => found.is_file(),
        NodeKind::Symlink { .. } => found.is_symlink(),
        NodeKind::BlockDevice { .. } => found.is_block_device(),
        NodeKind::CharDevice { .. } => found.is_char_device(),
        NodeKind::Fifo => found.is_fifo(),
        NodeKind::Socket => found.is_socket(),
    }
}

fn kind_name(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::Directory => "a directory",
        NodeKind::File => "a regular file",
        NodeKind::Symlink { .. } => "a symbolic link",
        NodeKind::BlockDevice { .. } => "a block device",
        NodeKind::CharDevice { .. } => "a character device",
        NodeKind::Fifo => "a named pipe",
        NodeKind::Socket => "a socket",
    }
}

fn kind_on_disk(on_disk: &OnDisk) -> &'static str {
    let found = on_disk.file_type();
    match () {
        () if found.is_dir() => "a directory",
        () if found.is_file() => "a regular file",
        () if found.is_symlink() => "a symbolic link",
        () if found.is_block_device() => "a block device",
        () if found.is_char_device() => "a character device",
        () if found.is_fifo() => "a named pipe",
        () => "a socket",
    }
}

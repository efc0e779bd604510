//! Measures directories, within limits.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use provault_driver::{CancelFlag, DiscoverRequest, DriverError};

use super::known::{OF_THE_SYSTEM, is_crossroads};
use super::mounts::Mounts;
use crate::capture::check;
use provault_driver::reserved::Reserved;

/// How deep a large directory may lie below the root.
const DEPTH: usize = 4;
/// A directory is told for the one above it when it holds so much of it, in percent.
const MOST: u64 = 90;

/// What is in a directory.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measure {
    pub bytes: u64,
    pub files: u64,
    pub newest: Option<Timestamp>,
    /// Whether everything was counted.
    pub counted: bool,
}

impl Measure {
    fn nothing() -> Self {
        Self { counted: true, ..Self::default() }
    }

    fn add(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.files += other.files;
        self.newest = self.newest.max(other.newest);
        self.counted &= other.counted;
    }
}

/// One look at a host.
pub(super) struct Scan<'a> {
    mounts: &'a Mounts,
    reserved: &'a Reserved,
    request: &'a DiscoverRequest<'a>,
    cancel: &'a CancelFlag,
    entries: u64,
    cut: Option<&'static str>,
    /// Files that several names share, by device and inode.
    shared: HashSet<(u64, u64)>,
}

/// A directory near the root and what is in it.
struct Branch {
    path: PathBuf,
    total: Measure,
    below: Vec<Branch>,
}

impl<'a> Scan<'a> {
    pub fn new(
        mounts: &'a Mounts,
        reserved: &'a Reserved,
        request: &'a DiscoverRequest<'a>,
        cancel: &'a CancelFlag,
    ) -> Self {
        let shared = HashSet::new();
        Self { mounts, reserved, request, cancel, entries: 0, cut: None, shared }
    }

    /// Why not everything was looked at, if it was not.
    pub fn cut(&self) -> Option<&'static str> {
        self.cut
    }

    /// Whether a directory is not to be looked into, nor offered: a mount that is not a disk's, or the
    /// server's own.
    pub fn is_closed(&self, path: &Path) -> bool {
        self.mounts.hides(path) || self.reserved.holding(path).is_some()
    }

    /// Everything below `path`, itself a directory.
    pub fn measure(&mut self, path: &Path, without_caches: bool) -> Result<Measure, DriverError> {
        let mut total = Measure::nothing();
        let mut waiting = vec![path.to_owned()];
        while let Some(directory) = waiting.pop() {
            let leave_out = |path: &Path| {
                without_caches && path.file_name().is_some_and(|name| name == ".cache")
            };
            total.add(&self.list(&directory, &mut waiting, &leave_out)?);
        }
        Ok(total)
    }

    /// Directories that are large and neither in `taken` nor of the system, with what is in them.
    pub fn large(
        &mut self,
        root: &Path,
        taken: &BTreeSet<PathBuf>,
    ) -> Result<Vec<(PathBuf, Measure)>, DriverError> {
        let top = self.branch(root, root, 0, taken)?;
        let mut found = Vec::new();
        self.pick(root, top, 0, &mut found);
        Ok(found)
    }

    fn branch(
        &mut self,
        root: &Path,
        path: &Path,
        depth: usize,
        taken: &BTreeSet<PathBuf>,
    ) -> Result<Branch, DriverError> {
        let of_the_system =
            |path: &Path| OF_THE_SYSTEM.iter().any(|place| root.join(place) == path);
        if depth == DEPTH {
            let total = self.measure(path, false)?;
            return Ok(Branch { path: path.to_owned(), total, below: Vec::new() });
        }
        let mut directories = Vec::new();
        let leave_out = |path: &Path| taken.contains(path) || of_the_system(path);
        let mut total = self.list(path, &mut directories, &leave_out)?;
        let mut below = Vec::with_capacity(directories.len());
        directories.sort();
        for directory in directories {
            let branch = self.branch(root, &directory, depth + 1, taken)?;
            total.add(&branch.total);
            below.push(branch);
        }
        Ok(Branch { path: path.to_owned(), total, below })
    }

    fn pick(&self, root: &Path, branch: Branch, depth: usize, found: &mut Vec<(PathBuf, Measure)>) {
        if branch.total.bytes < self.request.large_bytes {
            return;
        }
        let below_root = branch.path.strip_prefix(root).unwrap_or(&branch.path);
        if depth == 0 || is_crossroads(below_root) {
            for one in branch.below {
                self.pick(root, one, depth + 1, found);
            }
            return;
        }
        let most = branch.total.bytes / 100 * MOST;
        match branch.below.into_iter().find(|one| one.total.bytes >= most) {
            Some(one) => self.pick(root, one, depth + 1, found),
            None => found.push((branch.path, branch.total)),
        }
    }

    /// What lies in `directory` itself; the directories in it go to `waiting`. One that cannot be read
    /// is not counted, and that is told.
    fn list(
        &mut self,
        directory: &Path,
        waiting: &mut Vec<PathBuf>,
        leave_out: &dyn Fn(&Path) -> bool,
    ) -> Result<Measure, DriverError> {
        let mut found = Measure::nothing();
        let Ok(entries) = fs::read_dir(directory) else {
            found.counted = false;
            return Ok(found);
        };
        for entry in entries {
            if !self.go_on()? {
                found.counted = false;
                break;
            }
            let Ok(entry) = entry else {
                found.counted = false;
                break;
            };
            let path = entry.path();
            // By name first: a look at a mount may hang.
            if self.mounts.hides(&path) || leave_out(&path) {
                continue;
            }
            // What vanished since is not there.
            let Ok(stat) = entry.metadata() else { continue };
            if stat.is_dir() {
                if self.mounts.allow(stat.dev()) && !self.reserved.is(&path, &stat) {
                    waiting.push(path);
                }
            } else if stat.is_file()
                && (stat.nlink() == 1 || self.shared.insert((stat.dev(), stat.ino())))
            {
                let changed = Timestamp::new(stat.mtime(), 0).ok();
                let one = Measure { bytes: stat.len(), files: 1, newest: changed, counted: true };
                found.add(&one);
            }
        }
        Ok(found)
    }

    /// Counts an entry; whether it may be looked at.
    fn go_on(&mut self) -> Result<bool, DriverError> {
        if self.cut.is_some() {
            return Ok(false);
        }
        self.entries += 1;
        if self.entries > self.request.max_entries {
            self.cut = Some(
                "too many files: not all of them were counted, and large directories may be missing.",
            );
        } else if self.entries % 64 == 1 {
            check(self.cancel)?;
            if Instant::now() >= self.request.deadline {
                self.cut = Some(
                    "the time was over: not everything was counted, and large directories may be missing. Give it more time.",
                );
            }
        }
        Ok(self.cut.is_none())
    }
}

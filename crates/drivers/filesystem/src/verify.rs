//! Reading back what was written, before it counts.
//!
//! The source is asked once more, and everything that was to be written is looked at on disk: kind,
//! owner, mode, time, attributes, which names are one file, and the hash of every piece of content.
//! It trusts nothing of the writer but what that said it could not do.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use provault_driver::entry::printable;
use provault_driver::{DriverError, Entry, NodeKind, Source, Verified, WorkContext};

use crate::apply::Tally;
use crate::at::{self, Stat};
use crate::capture::{check, io_error};
use crate::compare::{Leniency, Reader, forget_cached, metadata_difference, same_kind};
use crate::guard::{Guard, split};
use crate::inodes::Content;
use crate::selection::Wanted;
use crate::writer::Cursor;

/// What was found, where nothing differs.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub verified: Verified,
    /// Names of regular files that were looked at, whether we may read them or not.
    pub files: u64,
    /// What we may not read, although we made it.
    pub unreadable: u64,
}

impl Findings {
    pub fn note(&self) -> Option<String> {
        (self.unreadable > 0).then(|| {
            format!(
                "{} entries could not be read back, which only root may do with their modes.",
                self.unreadable
            )
        })
    }
}

fn differs(entry: &Entry, what: impl Into<String>) -> DriverError {
    let path = if entry.path.is_empty() { ".".to_owned() } else { printable(&entry.path) };
    DriverError::Unverified { path, what: what.into() }
}

/// Compares all that `wants` says Yes to with the tree at `root`; `tally` is what the writer could not
/// do. The first difference is the error.
pub(crate) fn run(
    root: &File,
    shown: &Path,
    source: &dyn Source,
    wants: &dyn Fn(&[u8]) -> Wanted,
    tally: &Tally,
    context: &WorkContext<'_>,
) -> Result<Findings, DriverError> {
    let root = root.try_clone().map_err(io_error("opening", shown))?;
    let left_out: HashSet<&[u8]> = tally.nodes.iter().map(Vec::as_slice).collect();
    let mut comparison = Comparison {
        cursor: Cursor::new(root),
        shown,
        context,
        lenient: tally.leniency(),
        apart: tally.parted > 0,
        reader: Reader::new(),
        groups: HashMap::new(),
        found: Findings::default(),
    };
    let mut guard = Guard::default();
    for entry in source.entries()? {
        check(context.cancel)?;
        let entry = entry?;
        guard.check(&entry)?;
        if wants(&entry.path) == Wanted::Yes && !left_out.contains(entry.path.as_slice()) {
            comparison.entry(&entry)?;
        }
    }
    let mut found = comparison.found;
    found.verified.bytes = comparison.reader.bytes;
    Ok(found)
}

struct Comparison<'a> {
    cursor: Cursor,
    shown: &'a Path,
    context: &'a WorkContext<'a>,
    lenient: Leniency,
    /// Names of one file that are files of their own, as the writer said.
    apart: bool,
    reader: Reader,
    /// Where each file with several names is.
    groups: HashMap<Content, (u64, u64)>,
    found: Findings,
}

impl Comparison<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), DriverError> {
        if entry.kind == NodeKind::File {
            self.found.files += 1;
        }
        if self.compare(entry)? {
            self.found.verified.entries += 1;
            self.found.verified.files += u64::from(entry.kind == NodeKind::File);
        } else {
            self.found.unreadable += 1;
        }
        Ok(())
    }

    /// Whether an entry is as it should be; false when we may not read it.
    fn compare(&mut self, entry: &Entry) -> Result<bool, DriverError> {
        let (parent, name) = split(&entry.path);
        let failed = || io_error::<Errno>("reading back", &self.shown.join(printable(&entry.path)));
        let dir = match self.cursor.go(parent) {
            Ok(dir) => dir,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                return Err(differs(entry, "is missing"));
            }
            Err(Errno::EACCES) => return Ok(false),
            Err(error) => return Err(failed()(error)),
        };
        let stat = if name.is_empty() { Stat::of(dir) } else { Stat::at(dir, name) };
        let stat = match stat {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Err(differs(entry, "is missing")),
            Err(Errno::EACCES) => return Ok(false),
            Err(error) => return Err(failed()(error)),
        };
        if !same_kind(entry, &stat) {
            return Err(differs(entry, "is of another kind"));
        }
        if let Some(what) = metadata_difference(dir, name, &stat, &entry.metadata, self.lenient) {
            return Err(differs(entry, what));
        }
        match &entry.kind {
            NodeKind::Symlink { target } => {
                let found = at::link_target(dir, name).map_err(failed())?;
                if found != *target {
                    return Err(differs(entry, format!("points to '{}'", printable(&found))));
                }
            }
            NodeKind::File => {
                if stat.size != entry.metadata.size {
                    let what =
                        format!("has {} bytes instead of {}", stat.size, entry.metadata.size);
                    return Err(differs(entry, what));
                }
                if entry.metadata.links > 1 && !self.apart {
                    let here = (stat.device, stat.inode);
                    match self.groups.insert(Content::from(&entry.metadata), here) {
                        Some(known) if known == here => return Ok(true),
                        Some(_) => {
                            return Err(differs(
                                entry,
                                "is no longer one file with its other names",
                            ));
                        }
                        None => {}
                    }
                }
                let file = match at::open_file(dir, name) {
                    Ok(file) => file,
                    Err(Errno::EACCES) => return Ok(false),
                    Err(error) => return Err(failed()(error)),
                };
                forget_cached(&file);
                let (shown, cancel) = (self.shown, self.context.cancel);
                if let Some((from, to)) = self.reader.difference(&file, entry, shown, cancel)? {
                    let what = format!("has other content between bytes {from} and {to}");
                    return Err(differs(entry, what));
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

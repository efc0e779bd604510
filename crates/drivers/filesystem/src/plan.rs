//! What a restore in place would do to each path.
//!
//! The stored tree and the target are walked beside each other, once, before anything is written.
//! What comes out serves both the preview and the restore, so that they agree. Nothing here writes,
//! follows a link, enters the server's own data directory or lets anything there be deleted, nor what
//! is mounted in the target: neither bind mounts nor single files that are mounted.

mod extra;
mod finish;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::stat::SFlag;
use provault_domain::Invalid;
use provault_driver::entry::printable;
use provault_driver::{
    Counted, DriverError, Entry, Metadata, NodeKind, PREVIEW_LISTED, PreviewChange, PreviewCounts,
    PreviewFate, Source, WorkContext,
};

use crate::at::{self, Stat};
use crate::capture::{check, io_error};
use crate::compare::{Leniency, Reader, metadata_difference, same_kind};
use crate::guard::{Guard, split};
use crate::inodes::{Content, Inodes};
use crate::mounts::Mounts;
use crate::order::Overwrite;
use crate::reserved::Fence;
use crate::selection::{Items, Selection, Wanted};
use crate::staging::is_private;
use crate::writer::Cursor;
pub(crate) use extra::Gone;

/// One thing to do to what is at a path of the target.
#[derive(Debug)]
pub(crate) struct Act {
    pub path: Vec<u8>,
    pub fate: PreviewFate,
    /// What the recovery point has there; nothing for what is deleted.
    pub metadata: Option<Metadata>,
    /// What exists there.
    pub there: Option<Stat>,
    /// What goes with a directory that is replaced: everything below it.
    pub gone: Gone,
    /// What is made with a directory that is made: everything below it.
    pub below: Counted,
    bytes: u64,
    seq: u64,
    /// Kept because it was changed since the job began.
    pub late: bool,
}

/// A directory of the recovery point that exists in the target.
#[derive(Debug)]
pub(crate) struct Dir {
    pub path: Vec<u8>,
    pub metadata: Metadata,
    pub there: Stat,
    /// Whether it becomes what was recorded; else it keeps the times it has.
    pub becomes: bool,
}

/// All that is to be done, in the order of the recovery point.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub acts: Vec<Act>,
    pub dirs: Vec<Dir>,
    pub counts: PreviewCounts,
    /// The first changes, with those below a directory that is made.
    pub changes: Vec<PreviewChange>,
    pub left_off: u64,
    /// What is to be written, everything below a directory that is made included.
    pub staged: Items,
    /// Bytes to write; what several names share counts once.
    pub bytes: u64,
    /// Names of files that become files of their own, as their other names stay what they are.
    pub parted: u64,
    /// What differs on file systems mounted in the target, and is left.
    pub elsewhere: u64,
    /// What was changed since the job began, and is left.
    pub late: Vec<Vec<u8>>,
    /// Directories that would be replaced, and what in each is not to go.
    pub guarded: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What the walk goes by.
pub(crate) struct Terms<'a> {
    pub target: &'a Path,
    pub root: &'a File,
    pub selection: &'a Selection,
    pub mode: Overwrite,
    pub delete_extra: bool,
    pub fence: &'a Fence,
    /// Of a job that is taken up again: when it began. What was changed since stays.
    pub since: Option<Timestamp>,
}

/// Makes the plan.
pub(crate) fn make(
    terms: &Terms<'_>,
    source: &dyn Source,
    context: &WorkContext<'_>,
) -> Result<Plan, DriverError> {
    let root = terms.root.try_clone().map_err(io_error("opening", terms.target))?;
    let device = Stat::of(&root).map_err(io_error("looking up", terms.target))?.device;
    let mounts = Mounts::below(&root).map_err(io_error("reading the mounts of", terms.target))?;
    let mut survey = Survey {
        terms,
        context,
        cursor: Cursor::new(root),
        device,
        mounts,
        open: Vec::new(),
        made: None,
        made_act: 0,
        passed: None,
        fenced: None,
        found: BTreeSet::new(),
        groups: HashMap::new(),
        inodes: Inodes::default(),
        reader: Reader::new(),
        lenient: Leniency::default(),
        implied: Vec::new(),
        seq: 0,
        plan: Plan::default(),
    };
    let mut guard = Guard::default();
    for entry in source.entries()? {
        check(context.cancel)?;
        let entry = entry?;
        guard.check(&entry)?;
        survey.entry(&entry)?;
    }
    guard.finish()?;
    survey.leave_to(None)?;
    check(context.cancel)?;
    let asked = terms.selection.items.iter().flat_map(|items| items.asked.iter());
    for (path, asked) in asked {
        if !survey.found.contains(path) {
            return Err(DriverError::NoSuchItem { path: asked.clone() });
        }
    }
    Ok(survey.finish())
}

/// A directory that exists on both sides and is being walked.
struct Level {
    path: Vec<u8>,
    /// What it holds in the target and no entry has named yet.
    unnamed: BTreeSet<Vec<u8>>,
    /// Whether another file system is mounted here or above.
    elsewhere: bool,
}

/// A file of the recovery point with several names.
#[derive(Default)]
struct Group {
    /// Where the names that exist are one file, that file.
    there: Option<(u64, u64)>,
    /// Whether any name is written, or they are not one file.
    torn: bool,
    /// Indices of the acts of its names; names that stay as they are have one too.
    acts: Vec<usize>,
    /// Whether a name lies below a directory that is made.
    implied: bool,
}

struct Survey<'a> {
    terms: &'a Terms<'a>,
    context: &'a WorkContext<'a>,
    cursor: Cursor,
    device: u64,
    mounts: Mounts,
    open: Vec<Level>,
    /// A directory that is not there: everything below it is made.
    made: Option<Vec<u8>>,
    /// The index of its act.
    made_act: usize,
    /// What stays although a directory belongs there: nothing below it is made.
    passed: Option<Vec<u8>>,
    /// A directory of the server's own.
    fenced: Option<Vec<u8>>,
    found: BTreeSet<Vec<u8>>,
    groups: HashMap<Content, Group>,
    inodes: Inodes,
    reader: Reader,
    lenient: Leniency,
    implied: Vec<(u64, PreviewChange)>,
    seq: u64,
    plan: Plan,
}

/// Whether `path` lies below `above`.
fn below(path: &[u8], above: Option<&Vec<u8>>) -> bool {
    above.is_some_and(|above| {
        path.strip_prefix(above.as_slice()).is_some_and(|rest| rest.first() == Some(&b'/'))
    })
}

impl Survey<'_> {
    fn failed(&self, path: &[u8]) -> impl FnOnce(Errno) -> DriverError + use<> {
        io_error("looking up", &self.terms.target.join(printable(path)))
    }

    /// Whether what is at `path` lies on another file system, or another view of this one, that is
    /// mounted in the target. The directory above must be the innermost open one.
    fn is_elsewhere(&self, path: &[u8], there: Option<&Stat>) -> bool {
        self.open.last().is_some_and(|level| level.elsewhere)
            || self.mounts.is_at(path)
            // A file of an overlay has another device than its directory.
            || there.is_some_and(|stat| stat.is_dir() && stat.device != self.device)
    }

    /// Whether it was changed since the job began, which an earlier run did or somebody else. What
    /// the earlier run put in place is the same as what is to be there.
    fn is_late(&self, stat: &Stat) -> bool {
        self.terms.since.is_some_and(|since| stat.ctime >= since)
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), DriverError> {
        let path = entry.path.as_slice();
        let is_dir = entry.kind == NodeKind::Directory;
        self.seq += 1;
        let asked = self.terms.selection.items.as_ref();
        if asked.is_some_and(|items| items.asked.contains_key(path)) {
            self.found.insert(path.to_vec());
        }
        let (parent, name) = split(path);
        if !path.is_empty() {
            self.leave_to(Some(parent))?;
        }
        if let Some(level) = self.open.last_mut()
            && level.path == parent
            && !path.is_empty()
        {
            level.unnamed.remove(name);
        }
        let wanted = self.terms.selection.wants(path);
        if wanted == Wanted::No || (wanted == Wanted::Above && !is_dir) {
            return Ok(());
        }
        if below(path, self.fenced.as_ref()) {
            return Err(Invalid::new(
                "targetPath",
                format!(
                    "{} lies in this server's own data directory; leave it out with exclude.",
                    self.terms.target.join(printable(path)).display()
                ),
            )
            .into());
        }
        if below(path, self.passed.as_ref()) {
            return Ok(());
        }
        if below(path, self.made.as_ref()) {
            self.imply(entry);
            return Ok(());
        }
        let there = self.look(path)?;
        if is_dir
            && let Some(stat) = &there
            && stat.is_dir()
        {
            return self.enter(entry, stat, wanted);
        }
        let fate = self.fate(entry, there.as_ref())?;
        let fate = self.act(entry, fate, there)?;
        if is_dir {
            self.made_act = self.plan.acts.len().saturating_sub(1);
            let of = if fate == PreviewFate::Keep { &mut self.passed } else { &mut self.made };
            *of = Some(path.to_vec());
        }
        Ok(())
    }

    /// What is at a path of which the directory above exists on both sides.
    fn look(&mut self, path: &[u8]) -> Result<Option<Stat>, DriverError> {
        let failed = self.failed(path);
        let (parent, name) = split(path);
        let dir = match self.cursor.go(parent) {
            Ok(dir) => dir,
            Err(error) => return Err(failed(error)),
        };
        let found = if name.is_empty() { Stat::of(dir) } else { Stat::at(dir, name) };
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Leaves directories until the innermost one is `path`, or all of them. What no entry has
    /// named in them is extra.
    fn leave_to(&mut self, path: Option<&[u8]>) -> Result<(), DriverError> {
        while self.open.last().is_some_and(|level| {
            path.is_none_or(|path| level.path != path && !below(path, Some(&level.path)))
                && !(level.path.is_empty() && path.is_some())
        }) {
            let Some(level) = self.open.pop() else { break };
            if !self.terms.delete_extra || level.elsewhere {
                continue;
            }
            for name in level.unnamed {
                let mut path = level.path.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(&name);
                if self.terms.selection.wants(&path) == Wanted::Yes {
                    self.extra(path)?;
                }
            }
        }
        Ok(())
    }

    /// A directory that exists on both sides.
    fn enter(&mut self, entry: &Entry, stat: &Stat, wanted: Wanted) -> Result<(), DriverError> {
        let path = entry.path.as_slice();
        if self.terms.fence.encloses(path, stat) {
            self.fenced = Some(path.to_vec());
            return Ok(());
        }
        let failed = self.failed(path);
        let elsewhere = self.is_elsewhere(path, Some(stat));
        let shown = self.terms.target.join(printable(path));
        let mut unnamed = BTreeSet::new();
        let dir = self.cursor.go(path).map_err(failed)?;
        if self.terms.delete_extra {
            unnamed.extend(at::names(dir).map_err(io_error("reading", &shown))?);
            // What this restore or another is making is no part of the target.
            unnamed.retain(|name| !is_private(name));
        }
        let becomes = wanted == Wanted::Yes && self.terms.mode != Overwrite::Never && !elsewhere;
        if wanted == Wanted::Yes {
            let lenient = self.lenient;
            let differs = metadata_difference(dir, b"", stat, &entry.metadata, lenient).is_some();
            let fate = match (differs, self.terms.mode) {
                (false, _) => PreviewFate::Same,
                (true, Overwrite::Never) => PreviewFate::Keep,
                (true, _) => PreviewFate::Update,
            };
            self.act(entry, fate, Some(stat.clone()))?;
        }
        self.open.push(Level { path: path.to_vec(), unnamed, elsewhere });
        let (path, metadata) = (path.to_vec(), entry.metadata.clone());
        self.plan.dirs.push(Dir { path, metadata, there: stat.clone(), becomes });
        Ok(())
    }

    /// What becomes of an entry that is no directory on both sides.
    fn fate(&mut self, entry: &Entry, there: Option<&Stat>) -> Result<PreviewFate, DriverError> {
        use PreviewFate as F;
        let Some(stat) = there else { return Ok(F::Create) };
        if stat.is_dir() || entry.kind == NodeKind::Directory {
            return Ok(match self.terms.mode {
                Overwrite::Always => F::Overwrite,
                _ => F::Conflict,
            });
        }
        let stored = &entry.metadata;
        let newer = stat.mtime > stored.mtime;
        let looks_same = same_kind(entry, stat)
            && (stat.kind != SFlag::S_IFREG
                || (stat.size, stat.mtime) == (stored.size, stored.mtime));
        let same_time = stat.mtime == stored.mtime;
        // What is no regular file is compared at once: there is next to nothing to read.
        let same = looks_same
            && same_time
            && (stat.kind == SFlag::S_IFREG || self.same_content(entry, stat)?);
        match self.terms.mode {
            Overwrite::Never | Overwrite::IfOlder if same => Ok(F::Same),
            Overwrite::Never => Ok(if newer { F::KeepNewer } else { F::Keep }),
            Overwrite::IfOlder if newer => Ok(F::KeepNewer),
            Overwrite::IfOlder if same_time => Ok(F::Keep),
            Overwrite::IfChanged if looks_same && stat.kind == SFlag::S_IFREG => {
                self.same_or_update(entry, stat)
            }
            _ => {
                let apart = stored.links <= 1 && stat.links > 1;
                if apart && self.terms.mode == Overwrite::Always {
                    return Ok(F::Overwrite);
                }
                if self.same_content(entry, stat)? {
                    self.same_or_update(entry, stat)
                } else {
                    Ok(F::Overwrite)
                }
            }
        }
    }

    /// Of what has the same content: whether anything else differs.
    fn same_or_update(&mut self, entry: &Entry, stat: &Stat) -> Result<PreviewFate, DriverError> {
        let failed = self.failed(&entry.path);
        let (parent, name) = split(&entry.path);
        let dir = self.cursor.go(parent).map_err(failed)?;
        let differs = metadata_difference(dir, name, stat, &entry.metadata, self.lenient).is_some();
        Ok(match (differs, &entry.kind) {
            (false, _) => PreviewFate::Same,
            (true, NodeKind::File | NodeKind::Symlink { .. }) => PreviewFate::Update,
            // To make a pipe or a device anew is as cheap as to change it, and safer.
            (true, _) => PreviewFate::Overwrite,
        })
    }

    fn same_content(&mut self, entry: &Entry, stat: &Stat) -> Result<bool, DriverError> {
        if !same_kind(entry, stat) {
            return Ok(false);
        }
        let failed = self.failed(&entry.path);
        let (parent, name) = split(&entry.path);
        match &entry.kind {
            NodeKind::File => {
                if stat.size != entry.metadata.size {
                    return Ok(false);
                }
                let dir = self.cursor.go(parent).map_err(failed)?;
                // What cannot be read is not known to be the same.
                let Ok(file) = at::open_file(dir, name) else { return Ok(false) };
                let (shown, cancel) = (self.terms.target, self.context.cancel);
                Ok(self.reader.difference(&file, entry, shown, cancel)?.is_none())
            }
            NodeKind::Symlink { target } => {
                let dir = self.cursor.go(parent).map_err(failed)?;
                Ok(at::link_target(dir, name).is_ok_and(|found| found == *target))
            }
            _ => Ok(true),
        }
    }

    /// Enters what becomes of a path, and tells it.
    fn act(
        &mut self,
        entry: &Entry,
        mut fate: PreviewFate,
        there: Option<Stat>,
    ) -> Result<PreviewFate, DriverError> {
        use PreviewFate as F;
        let path = &entry.path;
        let elsewhere = self.is_elsewhere(path, there.as_ref());
        if fate == F::Update && elsewhere {
            fate = F::Keep;
            self.plan.elsewhere += 1;
        }
        if matches!(fate, F::Create | F::Overwrite) && elsewhere {
            return Err(Invalid::new(
                "targetPath",
                format!(
                    "{} lies on another file system that is mounted in the target; leave it out with exclude, and restore it with that as the target.",
                    self.terms.target.join(printable(path)).display()
                ),
            )
            .into());
        }
        let replaces_dir =
            there.as_ref().is_some_and(Stat::is_dir) && entry.kind != NodeKind::Directory;
        // The time of status of a directory is also that of what was put into it.
        let is_dir = there.as_ref().is_some_and(Stat::is_dir);
        let mut late = matches!(fate, F::Overwrite | F::Update)
            && (!is_dir || replaces_dir)
            && there.as_ref().is_some_and(|stat| self.is_late(stat));
        let mut gone = Gone::new();
        if fate == F::Overwrite && replaces_dir {
            let (below, stays) = self.replaced(path)?;
            late |= stays.late;
            if let Some(kept) = stays.kept {
                self.plan.guarded.push((path.clone(), kept));
                fate = F::Conflict;
                late = false;
            } else if !late {
                for _ in &below {
                    self.plan.counts.deleted.add(0);
                }
                gone = below;
            }
        }
        if late {
            fate = F::Keep;
        }
        let writes = matches!(fate, F::Create | F::Overwrite);
        let is_file = entry.kind == NodeKind::File;
        let several = entry.kind != NodeKind::Directory && entry.metadata.links > 1;
        let content = several.then(|| Content::from(&entry.metadata));
        if fate == F::Same && content.is_none() {
            self.plan.counts.same.add(entry.metadata.size);
            return Ok(fate);
        }
        if let Some(content) = content {
            let here = there.as_ref().map(|stat| (stat.device, stat.inode));
            let group = self.groups.entry(content).or_default();
            let one = group.there.is_none() || here.is_none() || group.there == here;
            group.there = group.there.or(here);
            group.torn |= writes || !one;
            group.acts.push(self.plan.acts.len());
        }
        self.plan.acts.push(Act {
            path: path.clone(),
            fate,
            metadata: Some(entry.metadata.clone()),
            there,
            gone,
            below: Counted::default(),
            bytes: if is_file { entry.metadata.size } else { 0 },
            seq: self.seq,
            late,
        });
        Ok(fate)
    }

    /// Something below a directory that is made.
    fn imply(&mut self, entry: &Entry) {
        let content = Content::from(&entry.metadata);
        if entry.kind == NodeKind::File {
            self.plan.bytes = self.plan.bytes.saturating_add(self.inodes.add(content));
        }
        if entry.kind != NodeKind::Directory && entry.metadata.links > 1 {
            let group = self.groups.entry(content).or_default();
            (group.torn, group.implied) = (true, true);
        }
        let bytes = entry.metadata.size;
        self.plan.counts.created.add(bytes);
        if let Some(act) = self.plan.acts.get_mut(self.made_act) {
            act.below.add(bytes);
        }
        if self.implied.len() < PREVIEW_LISTED {
            let change = PreviewChange {
                path: printable(&entry.path),
                fate: PreviewFate::Create,
                bytes,
                existing_mtime: None,
                stored_mtime: Some(entry.metadata.mtime),
            };
            self.implied.push((self.seq, change));
        }
    }
}

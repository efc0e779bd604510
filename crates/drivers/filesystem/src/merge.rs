//! Putting a restore in place into a directory that exists.
//!
//! Everything is written, durable and verified beside before the first name changes. Then each file
//! gets its place by one rename, so that at every instant each name has the old file or the new one,
//! whole. A death in between is taken up by making the plan anew: what is in place already is the
//! same by then. What changed in the target since the plan was made is left as it is; only the mode
//! that overwrites always writes over a file all the same. Nothing goes that was not planned to go,
//! path by path, and nothing on which something is mounted.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::stat::{SFlag, fchmod};
use nix::unistd::{UnlinkatFlags, syncfs, unlinkat};
use provault_driver::entry::printable;
use provault_driver::{DriverError, PreviewFate};

use crate::apply::{self, Tally, named};
use crate::at::{self, Stat};
use crate::capture::io_error;
use crate::exchange;
use crate::guard::split;
use crate::mounts::open_same_mount;
use crate::order::Overwrite;
use crate::plan::{Act, Dir, Plan};
use crate::staging::rename_new;
use crate::writer::Cursor;

/// For the error of a merge that broke off.
const DOING: &str =
    "putting in place (what came before it is in place; restore again for the rest)";

/// Acts that were not done.
#[derive(Debug, Default)]
pub(crate) struct Undone {
    /// Indices of those whose path changed meanwhile and was left as it is.
    pub left: Vec<usize>,
    /// Paths that were made, and were gone when they were to get their place.
    pub vanished: Vec<Vec<u8>>,
    /// Directories that were put in place with less in them than had been made.
    pub thinned: Vec<Vec<u8>>,
}

/// Where things are moved from and to.
pub(crate) struct Places<'a> {
    /// The job's own directory, in which `staged` lies.
    pub private: &'a File,
    /// What was made.
    pub staged: &'a File,
    /// Where it is to be.
    pub target: &'a File,
    /// The target's path, for messages.
    pub shown: &'a Path,
}

/// Moves what was made below `staged` into `target`, sets what is only set, deletes what is extra. What
/// cannot be done for one path is no reason to leave out the others.
pub(crate) fn run(
    plan: &Plan,
    mode: Overwrite,
    places: &Places<'_>,
    tally: &mut Tally,
) -> Result<Undone, DriverError> {
    let Places { private, staged, target, shown } = *places;
    let clone = |file: &File| file.try_clone().map_err(io_error("opening", shown));
    let mut merge = Merge {
        mode,
        private,
        from: Cursor::new(clone(staged)?),
        to: Cursor::new(clone(target)?),
        touched: HashSet::new(),
        ours: HashMap::new(),
        going: plan
            .acts
            .iter()
            .filter(|act| act.fate == PreviewFate::Delete)
            .map(|act| act.path.as_slice())
            .collect(),
    };
    let mut undone = Undone::default();
    for (index, act) in plan.acts.iter().enumerate() {
        let became = merge.act(act, tally);
        match became.map_err(io_error(DOING, &shown.join(printable(&act.path))))? {
            Became::Done => {}
            Became::Left => undone.left.push(index),
            Became::Vanished => undone.vanished.push(act.path.clone()),
            Became::Thinned => undone.thinned.push(act.path.clone()),
        }
    }
    let update: HashSet<&[u8]> = plan
        .acts
        .iter()
        .filter(|act| act.fate == PreviewFate::Update)
        .map(|act| act.path.as_slice())
        .collect();
    // The deepest first: what is done in a directory changes its times.
    for dir in plan.dirs.iter().rev() {
        if dir.path.is_empty() {
            continue;
        }
        if !update.contains(dir.path.as_slice()) && !merge.touched.contains(&dir.path) {
            continue;
        }
        let set = merge.to.go(&dir.path).and_then(|open| settle(dir, open, tally));
        set.map_err(io_error(DOING, &shown.join(printable(&dir.path))))?;
    }
    syncfs(target).map_err(io_error("writing", shown))?;
    Ok(undone)
}

/// What was left of the plan because it changed meanwhile, as a sentence.
pub(crate) fn note_left(plan: &Plan, left: &[usize]) -> Option<String> {
    let paths: Vec<_> =
        left.iter().filter_map(|index| plan.acts.get(*index)).map(|act| act.path.clone()).collect();
    (!paths.is_empty()).then(|| {
        format!(
            "{} paths changed while the restore was made, and were left as they are: {}.",
            paths.len(),
            named(&paths)
        )
    })
}

/// Gives the target itself what it is to have, when nothing is made in it any more.
pub(crate) fn settle_root(
    plan: &Plan,
    target: &File,
    shown: &Path,
    tally: &mut Tally,
) -> Result<(), DriverError> {
    let Some(root) = plan.dirs.iter().find(|dir| dir.path.is_empty()) else { return Ok(()) };
    settle(root, target, tally).map_err(io_error(DOING, shown))
}

/// What was recorded of a directory, or the times that it had.
fn settle(dir: &Dir, open: &File, tally: &mut Tally) -> nix::Result<()> {
    if dir.becomes {
        apply::to_existing(open, &dir.metadata, tally)
    } else {
        apply::times_of(open, &dir.there)
    }
}

/// What came of an act.
enum Became {
    /// It is as planned.
    Done,
    /// What is there changed meanwhile, and stays.
    Left,
    /// What was made for it is gone.
    Vanished,
    /// It is in place, and some of what was made in it is gone.
    Thinned,
}

struct Merge<'a> {
    mode: Overwrite,
    /// Where what is replaced is put when two names cannot change places at one stroke.
    private: &'a File,
    from: Cursor,
    to: Cursor,
    /// Directories of the target in which a name changed.
    touched: HashSet<Vec<u8>>,
    /// Files of several names whose state was changed here through one of them, and the time of change
    /// that they have since.
    ours: Ours,
    /// What is to be deleted.
    going: HashSet<&'a [u8]>,
}

type Ours = HashMap<(u64, u64), Timestamp>;

impl Merge<'_> {
    fn act(&mut self, act: &Act, tally: &mut Tally) -> nix::Result<Became> {
        let (parent, name) = split(&act.path);
        // Directories get what is set at the end.
        let is_dir = act.there.as_ref().is_some_and(Stat::is_dir);
        let done_later = act.fate == PreviewFate::Update && is_dir;
        let stays = !matches!(
            act.fate,
            PreviewFate::Create
                | PreviewFate::Overwrite
                | PreviewFate::Update
                | PreviewFate::Delete
        );
        if done_later || stays {
            return Ok(Became::Done);
        }
        let to = match self.to.go(parent) {
            Ok(to) => to,
            // The directory went away, or became something else.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(Became::Left),
            Err(error) => return Err(error),
        };
        let now = match Stat::at(to, name) {
            Ok(stat) => Some(stat),
            Err(Errno::ENOENT) => None,
            Err(error) => return Err(error),
        };
        let as_planned = match (&act.there, &now) {
            (None, None) => true,
            (Some(then), Some(now)) => {
                is_as_planned(then, now, &self.ours)
                    && (act.fate != PreviewFate::Overwrite
                        || !is_dir
                        || is_whole_as_planned(to, name, act, &self.ours))
            }
            _ => false,
        };
        // A file is written over whatever it has become; nothing else is known to be to go.
        let waived = self.mode == Overwrite::Always
            && matches!(act.fate, PreviewFate::Create | PreviewFate::Overwrite)
            && !now.as_ref().is_some_and(Stat::is_dir);
        if !as_planned && !waived {
            return Ok(Became::Left);
        }
        let mut thinned = false;
        let done = match act.fate {
            PreviewFate::Create | PreviewFate::Overwrite => {
                // A device that only root may make, which the tally tells.
                if tally.nodes.contains(&act.path) {
                    return Ok(Became::Done);
                }
                let gone = |error| matches!(error, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP);
                let from = match self.from.go(parent) {
                    Ok(from) => from,
                    Err(error) if gone(error) => return Ok(Became::Vanished),
                    Err(error) => return Err(error),
                };
                if Stat::at(from, name) == Err(Errno::ENOENT) {
                    return Ok(Became::Vanished);
                }
                thinned = is_thinned(from, name, act, tally);
                place(self.private, from, to, &act.path, now.as_ref())
            }
            PreviewFate::Update => {
                let Some(metadata) = &act.metadata else { return Ok(Became::Done) };
                if now.as_ref().is_some_and(|stat| stat.kind == SFlag::S_IFLNK) {
                    apply::to_named(to, name, metadata, true, tally)?;
                } else {
                    apply::to_existing(&at::open_file(to, name)?, metadata, tally)?;
                }
                let set = Stat::at(to, name)?;
                self.ours.insert((set.device, set.inode), set.mtime);
                return Ok(Became::Done);
            }
            PreviewFate::Delete => {
                let flag =
                    if is_dir { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
                match unlinkat(to, name, flag) {
                    // A directory that goes too need not let anybody work in it.
                    Err(Errno::EACCES) if self.going.contains(parent) => {
                        fchmod(to, at::PRIVATE_DIR).and_then(|()| unlinkat(to, name, flag))
                    }
                    done => done,
                }
            }
            _ => return Ok(Became::Done),
        };
        match done {
            Ok(()) => {}
            // It appeared in this very moment; or something was left or has appeared in the directory,
            // or was mounted meanwhile.
            Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::EBUSY | Errno::EXDEV) => {
                return Ok(Became::Left);
            }
            Err(error) => return Err(error),
        }
        if let Some(then) = now.filter(|stat| !stat.is_dir() && stat.links > 1) {
            self.ours.entry((then.device, then.inode)).or_insert(then.mtime);
        }
        self.touched.insert(parent.to_vec());
        Ok(if thinned { Became::Thinned } else { Became::Done })
    }
}

/// Whether a directory that was made holds less than was made in it. What we may not look into is taken for
/// whole.
fn is_thinned(from: &File, name: &[u8], act: &Act, tally: &Tally) -> bool {
    if act.below.entries == 0 {
        return false;
    }
    let within = |path: &&Vec<u8>| {
        path.strip_prefix(act.path.as_slice()).is_some_and(|rest| rest.first() == Some(&b'/'))
    };
    let unmade = tally.nodes.iter().filter(within).count() as u64;
    let found = at::open_dir(from, name).map_err(std::io::Error::from);
    found.and_then(|dir| names_in(&dir)).is_ok_and(|found| found + unmade < act.below.entries)
}

/// How many names there are below a directory.
pub(crate) fn names_in(dir: &File) -> std::io::Result<u64> {
    let mut count = 0;
    for name in at::names(dir)? {
        count += 1;
        if Stat::at(dir, &name)?.is_dir() {
            count += names_in(&at::open_dir(dir, &name)?)?;
        }
    }
    Ok(count)
}

/// Whether what is there is what was there when the plan was made, but for what was done here.
fn is_as_planned(then: &Stat, now: &Stat, ours: &Ours) -> bool {
    if then.is_dir() {
        return now.is_same_inode(then);
    }
    match ours.get(&(then.device, then.inode)) {
        Some(mtime) => now.is_same_inode(then) && now.size == then.size && now.mtime == *mtime,
        None => now.is_same_content(then),
    }
}

/// Whether all that is in a directory which is to be replaced is as it was planned to go.
fn is_whole_as_planned(to: &File, name: &[u8], act: &Act, ours: &Ours) -> bool {
    let mut found = Vec::new();
    // Something is mounted in it, or it changes while we look.
    if list(to, name, act.path.clone(), &mut found).is_err() {
        return false;
    }
    found.pop();
    found.len() == act.gone.len()
        && found
            .iter()
            .zip(&act.gone)
            .all(|(now, then)| now.0 == then.0 && is_as_planned(&then.1, &now.1, ours))
}

/// Lists a tree as the plan does: what is in a directory before the directory.
fn list(
    dir: &File,
    name: &[u8],
    path: Vec<u8>,
    found: &mut Vec<(Vec<u8>, Stat)>,
) -> std::io::Result<()> {
    let stat = Stat::at(dir, name)?;
    if stat.is_dir() {
        let open = open_same_mount(dir, name)?;
        for below in at::names(&open)? {
            let path = [path.as_slice(), b"/", &below].concat();
            list(&open, &below, path, found)?;
        }
    }
    found.push((path, stat));
    Ok(())
}

/// Gives the name of `path` its new file; what was there is removed, or goes with what is left of the
/// making.
fn place(
    private: &File,
    from: &File,
    to: &File,
    path: &[u8],
    there: Option<&Stat>,
) -> nix::Result<()> {
    let (_, name) = split(path);
    let Some(there) = there else {
        return match rename_new(from, to, name) {
            // A file system that cannot refuse to replace; nothing was there a moment ago.
            Err(Errno::EINVAL | Errno::ENOSYS) => renameat(from, name, to, name),
            done => done,
        };
    };
    if !there.is_dir() && !Stat::at(from, name)?.is_dir() {
        return renameat(from, name, to, name);
    }
    // One of them is a directory, which no rename replaces.
    exchange::swap(private, from, to, path)
}

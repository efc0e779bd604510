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
use nix::fcntl::{RenameFlags, renameat, renameat2};
use nix::sys::stat::{SFlag, fchmod};
use nix::unistd::{UnlinkatFlags, syncfs, unlinkat};
use provault_driver::entry::printable;
use provault_driver::{DriverError, PreviewFate};

use crate::apply::{self, Tally, named};
use crate::at::{self, Stat};
use crate::capture::io_error;
use crate::guard::split;
use crate::mounts::open_same_mount;
use crate::order::Overwrite;
use crate::plan::{Act, Dir, Plan};
use crate::staging::rename_new;
use crate::writer::Cursor;

/// For the error of a merge that broke off.
const DOING: &str =
    "putting in place (what came before it is in place; restore again for the rest)";

/// Moves what was made below `staged` into `target`, sets what is only set, deletes what is extra.
/// Answers with notes.
pub(crate) fn run(
    plan: &Plan,
    mode: Overwrite,
    staged: &File,
    target: &File,
    shown: &Path,
    tally: &mut Tally,
) -> Result<Vec<String>, DriverError> {
    let clone = |file: &File| file.try_clone().map_err(io_error("opening", shown));
    let mut merge = Merge {
        mode,
        from: Cursor::new(clone(staged)?),
        to: Cursor::new(clone(target)?),
        left: Vec::new(),
        touched: HashSet::new(),
        ours: HashMap::new(),
        going: plan
            .acts
            .iter()
            .filter(|act| act.fate == PreviewFate::Delete)
            .map(|act| act.path.as_slice())
            .collect(),
    };
    for act in &plan.acts {
        merge.act(act, tally).map_err(io_error(DOING, &shown.join(printable(&act.path))))?;
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
    let mut notes = Vec::new();
    if !merge.left.is_empty() {
        notes.push(format!(
            "{} paths changed while the restore was made, and were left as they are: {}.",
            merge.left.len(),
            named(&merge.left)
        ));
    }
    Ok(notes)
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

struct Merge<'a> {
    mode: Overwrite,
    from: Cursor,
    to: Cursor,
    /// What changed meanwhile.
    left: Vec<Vec<u8>>,
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
    fn act(&mut self, act: &Act, tally: &mut Tally) -> nix::Result<()> {
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
            return Ok(());
        }
        let to = match self.to.go(parent) {
            Ok(to) => to,
            // The directory went away, or became something else.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                self.left.push(act.path.clone());
                return Ok(());
            }
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
            self.left.push(act.path.clone());
            return Ok(());
        }
        let done = match act.fate {
            PreviewFate::Create | PreviewFate::Overwrite => {
                let from = match self.from.go(parent) {
                    Ok(from) => from,
                    // A device that only root may make, in a directory that holds nothing else.
                    Err(Errno::ENOENT) => return Ok(()),
                    Err(error) => return Err(error),
                };
                if Stat::at(from, name) == Err(Errno::ENOENT) {
                    return Ok(());
                }
                place(from, to, name, now.as_ref())
            }
            PreviewFate::Update => {
                let Some(metadata) = &act.metadata else { return Ok(()) };
                if now.as_ref().is_some_and(|stat| stat.kind == SFlag::S_IFLNK) {
                    apply::to_named(to, name, metadata, true, tally)?;
                } else {
                    apply::to_existing(&at::open_file(to, name)?, metadata, tally)?;
                }
                let set = Stat::at(to, name)?;
                self.ours.insert((set.device, set.inode), set.mtime);
                return Ok(());
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
            _ => return Ok(()),
        };
        match done {
            Ok(()) => {}
            // It appeared in this very moment.
            Err(Errno::EEXIST) if now.is_none() => {
                self.left.push(act.path.clone());
                return Ok(());
            }
            // Something was left or has appeared in the directory, or was mounted meanwhile.
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::EBUSY | Errno::EXDEV) => {
                self.left.push(act.path.clone());
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if let Some(then) = now.filter(|stat| !stat.is_dir() && stat.links > 1) {
            self.ours.entry((then.device, then.inode)).or_insert(then.mtime);
        }
        self.touched.insert(parent.to_vec());
        Ok(())
    }
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

/// Gives `name` its new file; what was there is removed, or lies where the new one was made.
fn place(from: &File, to: &File, name: &[u8], there: Option<&Stat>) -> nix::Result<()> {
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
    // One of them is a directory: they change places at one stroke, and the old one goes with what
    // is left of the making.
    match renameat2(from, name, to, name, RenameFlags::RENAME_EXCHANGE) {
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            let aside = [name, b".replaced"].concat();
            renameat(to, name, from, aside.as_slice())?;
            let placed = renameat(from, name, to, name);
            if placed.is_err() {
                renameat(from, aside.as_slice(), to, name)?;
            }
            placed
        }
        done => done,
    }
}

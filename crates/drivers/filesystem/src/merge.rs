//! Putting a restore in place into a directory that exists.
//!
//! Everything is written, durable and verified beside before the first name changes. Then each file
//! gets its place by one rename, so that at every instant each name has the old file or the new one,
//! whole. A death in between is taken up by making the plan anew: what is in place already is the
//! same by then. What changed in the target since the plan was made is left as it is, but for the mode
//! that overwrites always.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat, renameat2};
use nix::sys::stat::SFlag;
use nix::unistd::syncfs;
use provault_driver::entry::printable;
use provault_driver::{DriverError, PreviewFate};

use crate::apply::{self, Tally};
use crate::at::{self, Stat};
use crate::capture::io_error;
use crate::guard::split;
use crate::order::Overwrite;
use crate::plan::{Act, Dir, Plan};
use crate::staging::{remove_tree, rename_new};
use crate::writer::Cursor;

/// For the error of a merge that broke off.
const DOING: &str =
    "putting in place (what came before it is in place; restore again for the rest)";

/// So many paths are named in a note.
const NAMED: usize = 20;

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
        let named: Vec<_> = merge.left.iter().take(NAMED).map(|path| printable(path)).collect();
        let more = if merge.left.len() > NAMED { ", …" } else { "" };
        notes.push(format!(
            "{} paths changed while the restore was made, and were left as they are: {}{more}.",
            merge.left.len(),
            named.join(", ")
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

struct Merge {
    mode: Overwrite,
    from: Cursor,
    to: Cursor,
    /// What changed meanwhile.
    left: Vec<Vec<u8>>,
    /// Directories of the target in which a name changed.
    touched: HashSet<Vec<u8>>,
}

impl Merge {
    fn act(&mut self, act: &Act, tally: &mut Tally) -> nix::Result<()> {
        let (parent, name) = split(&act.path);
        // Directories get what is set at the end.
        let is_dir = act.there.as_ref().is_some_and(Stat::is_dir);
        if act.fate == PreviewFate::Update && is_dir {
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
            (Some(then), Some(now)) if then.is_dir() => now.is_same_inode(then),
            (Some(then), Some(now)) => now.is_same_content(then),
            _ => false,
        };
        if !as_planned && (self.mode != Overwrite::Always || act.fate == PreviewFate::Delete) {
            self.left.push(act.path.clone());
            return Ok(());
        }
        match act.fate {
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
                match place(from, to, name, now.as_ref()) {
                    // It appeared in this very moment.
                    Err(Errno::EEXIST) if now.is_none() => {
                        self.left.push(act.path.clone());
                        return Ok(());
                    }
                    placed => placed?,
                }
            }
            PreviewFate::Update => {
                let Some(metadata) = &act.metadata else { return Ok(()) };
                if now.as_ref().is_some_and(|stat| stat.kind == SFlag::S_IFLNK) {
                    return apply::to_named(to, name, metadata, true, tally);
                }
                let file = at::open_file(to, name)?;
                return apply::to_existing(&file, metadata, tally);
            }
            PreviewFate::Delete => {
                remove_tree(to, name)
                    .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
            }
            _ => return Ok(()),
        }
        self.touched.insert(parent.to_vec());
        Ok(())
    }
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

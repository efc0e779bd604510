//! Where a restore is made before it is put in its place.
//!
//! A new directory is made under a name beside its target that bears the job's id, and renamed
//! when it is complete: the target is complete or absent, at every instant.
//!
//! Items for a directory that exists are made in a private directory within it, and then moved in
//! one by one. Before the first move the list of moves is written down beside them, so that a
//! death in between can be undone: only what is still the inode that was moved is removed.
//!
//! A restore in place is made in the same private directory; how it gets into its place is told in
//! `merge`.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, renameat, renameat2};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, syncfs, unlinkat};
use provault_domain::Invalid;
use provault_driver::DriverError;
use provault_driver::entry::printable;
use xattr::FileExt as _;

use crate::at::{self, Stat};
use crate::capture::{io_error, open_directory};
use crate::exchange::{self, Then};
use crate::guard::split;
use crate::mounts::{Mounts, open_same_mount};
use crate::selection::{Items, Selection, Wanted};
use crate::writer::Cursor;

const TREE: &[u8] = b"tree";
const MOVES: &[u8] = b"moves";

/// What was found at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Absent,
    EmptyDir,
}

/// A target, and the place beside or in it where work is done.
pub(crate) struct Staging {
    target: PathBuf,
    /// The directory that holds `name`: the target's parent, or for items the target itself.
    holder: File,
    /// The private directory's name.
    name: Vec<u8>,
    purpose: Purpose,
}

enum Purpose {
    /// To become the target.
    Whole { found: Found, target_name: Vec<u8> },
    /// To be moved into the target.
    Items(Selection),
    /// To be merged into the target by somebody else.
    InPlace,
}

/// The private directory's name: the target's, cut when the result would be too long for a name,
/// and the job's id.
fn private_name(target: &Path, job_id: &str) -> Vec<u8> {
    let base = target.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    let tail = format!(".provault-{job_id}");
    let mut name = b".".to_vec();
    name.extend_from_slice(&base[..base.len().min(254 - tail.len())]);
    name.extend_from_slice(tail.as_bytes());
    name
}

/// Whether a name is that of a private directory, of this job or another.
pub(crate) fn is_private(name: &[u8]) -> bool {
    let mark = b".provault-";
    name.first() == Some(&b'.') && name.windows(mark.len()).any(|part| part == mark)
}

/// A default ACL of a directory would be inherited by every file made in it, as a set-group-id bit is
/// by every directory. Where there are no ACLs there is nothing to remove.
pub(crate) fn drop_acls(dir: &File) {
    for acl in ["system.posix_acl_default", "system.posix_acl_access"] {
        if let Err(error) = dir.remove_xattr(acl) {
            tracing::trace!(%error, acl, "no such ACL on a private directory");
        }
    }
}

/// Whether a directory can have been made by an earlier run.
fn is_ours(stat: &Stat) -> bool {
    stat.is_dir() && stat.uid == geteuid().as_raw()
}

fn exists(path: PathBuf) -> DriverError {
    DriverError::TargetExists { path }
}

impl Staging {
    /// Looks at the target and decides. Nothing is made yet.
    pub fn choose(
        target: PathBuf,
        job_id: &str,
        selection: &Selection,
    ) -> Result<Self, DriverError> {
        let name = private_name(&target, job_id);
        let (parent, target_name) = open_parent(&target)?;
        let stat = match Stat::at(&parent, &target_name) {
            Err(Errno::ENOENT) => None,
            Ok(stat) if stat.is_dir() => Some(stat),
            Ok(_) => return Err(exists(target)),
            Err(error) => return Err(io_error("looking up", &target)(error)),
        };
        let Some(stat) = stat else {
            let purpose = Purpose::Whole { found: Found::Absent, target_name };
            return Ok(Self { target, holder: parent, name, purpose });
        };
        let dir = at::open_dir(&parent, &target_name).map_err(io_error("opening", &target))?;
        if let Some(items) = &selection.items {
            refuse_existing(&dir, items, &target)?;
            let purpose = Purpose::Items(selection.clone());
            return Ok(Self { target, holder: dir, name, purpose });
        }
        if !at::names(&dir).map_err(io_error("reading", &target))?.is_empty() {
            return Err(exists(target));
        }
        let above = Stat::of(&parent).map_err(io_error("looking up", &target))?;
        if above.device != stat.device {
            return Err(Invalid::new(
                "targetPath",
                format!(
                    "{} is a mount point, which cannot be replaced at one stroke; choose a new directory inside it.",
                    target.display()
                ),
            )
            .into());
        }
        let purpose = Purpose::Whole { found: Found::EmptyDir, target_name };
        Ok(Self { target, holder: parent, name, purpose })
    }

    /// The place for what is to be merged into a directory that exists, which `holder` is.
    pub fn in_place(target: &Path, holder: File, job_id: &str) -> Self {
        let name = private_name(target, job_id);
        Self { target: target.to_owned(), holder, name, purpose: Purpose::InPlace }
    }

    /// Whether an earlier run of the job left something that can be built upon.
    pub fn is_left(&self) -> bool {
        Stat::at(&self.holder, &self.name).is_ok_and(|stat| is_ours(&stat))
    }

    /// The private directory, which is there.
    pub fn private(&self) -> Result<File, DriverError> {
        at::open_dir(&self.holder, &self.name)
            .map_err(io_error("opening the restore's own directory in", &self.target))
    }

    /// Finishes an exchange in which an earlier run died.
    pub fn finish_exchange(&self) -> Result<(), DriverError> {
        if !self.is_left() {
            return Ok(());
        }
        let private = self.private()?;
        let made = at::open_dir(&private, TREE);
        let then = made.as_ref().map_or(Then::PutBack, Then::Finish);
        exchange::settle(&private, &self.holder, then)
            .map_err(io_error("going on with a restore into", &self.target))
    }

    /// Makes the private directory, or takes the one that is left, and opens the root of the tree to
    /// be written.
    pub fn create(&self) -> Result<File, DriverError> {
        let make = |dir: &File, name: &[u8]| -> Result<File, DriverError> {
            let made = match mkdirat(dir, name, at::PRIVATE_DIR) {
                Err(Errno::EEXIST) if Stat::at(dir, name).is_ok_and(|stat| is_ours(&stat)) => {
                    fchmodat(dir, name, at::PRIVATE_DIR, FchmodatFlags::FollowSymlink)
                }
                made => made,
            };
            made.and_then(|()| at::open_dir(dir, name))
                .map_err(io_error("creating a directory for", &self.target))
        };
        let private = make(&self.holder, &self.name)?;
        drop_acls(&private);
        fchmod(&private, at::PRIVATE_DIR)
            .map_err(io_error("creating a directory for", &self.target))?;
        match self.purpose {
            Purpose::Whole { .. } => Ok(private),
            Purpose::Items(_) | Purpose::InPlace => make(&private, TREE).inspect(drop_acls),
        }
    }

    /// Makes everything durable.
    pub fn sync(&self, root: &File) -> Result<(), DriverError> {
        syncfs(root).map_err(io_error("writing", &self.target))
    }

    /// Puts what is durable in its place, or fails with nothing in place.
    pub fn put_in_place(&self, root: &File) -> Result<(), DriverError> {
        match &self.purpose {
            Purpose::Whole { found, target_name } => self.rename_whole(*found, target_name)?,
            Purpose::Items(items) => self.move_items(root, items)?,
            Purpose::InPlace => {}
        }
        // The data is durable and in place; what a crash could still undo is the rename.
        if let Err(error) = self.holder.sync_all() {
            tracing::warn!(%error, target = %self.target.display(), "cannot sync the directory");
        }
        Ok(())
    }

    fn rename_whole(&self, found: Found, target_name: &[u8]) -> Result<(), DriverError> {
        let (holder, staged) = (&self.holder, self.name.as_slice());
        // A plain rename replaces an empty directory at one stroke, and nothing else: not a
        // directory with something in it, not a file, not a link.
        let onto_empty = || renameat(holder, staged, holder, target_name);
        let renamed = match found {
            Found::EmptyDir => onto_empty(),
            Found::Absent => {
                let flags = RenameFlags::RENAME_NOREPLACE;
                match renameat2(holder, staged, holder, target_name, flags) {
                    // A file system that does not know the flag.
                    Err(Errno::EINVAL | Errno::ENOSYS) => {
                        mkdirat(holder, target_name, at::PRIVATE_DIR).and_then(|()| onto_empty())
                    }
                    other => other,
                }
            }
        };
        match renamed {
            Ok(()) => Ok(()),
            Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {
                Err(exists(self.target.clone()))
            }
            Err(error) => Err(io_error("putting in place", &self.target)(error)),
        }
    }

    fn move_items(&self, root: &File, items: &Selection) -> Result<(), DriverError> {
        let mut moves = Vec::new();
        plan_moves(root, &self.holder, &mut Vec::new(), items, &self.target, &mut moves)?;
        self.write_down(&moves).map_err(io_error("writing", &self.target))?;
        let clone = |file: &File| file.try_clone().map_err(io_error("opening", &self.target));
        let (mut from, mut to) = (Cursor::new(clone(root)?), Cursor::new(clone(&self.holder)?));
        for (path, _, _) in &moves {
            let (parent, name) = split(path);
            let renamed = from.go(parent).and_then(|old| {
                let new = to.go(parent)?;
                rename_new(old, new, name)
            });
            match renamed {
                Ok(()) => {}
                Err(Errno::EEXIST | Errno::ENOTDIR | Errno::ELOOP) => {
                    return Err(exists(self.target.join(printable(path))));
                }
                Err(error) => {
                    let shown = self.target.join(printable(path));
                    return Err(io_error("putting in place", &shown)(error));
                }
            }
        }
        // From here on the moves count: without the list nothing can be undone.
        let private = at::open_dir(&self.holder, &self.name)
            .and_then(|private| unlinkat(&private, MOVES, UnlinkatFlags::NoRemoveDir));
        private.map_err(io_error("putting in place", &self.target))?;
        self.remove();
        Ok(())
    }

    /// Removes the private directory, from which everything is in its place.
    pub fn remove(&self) {
        if let Err(error) = remove_tree(&self.holder, &self.name) {
            tracing::warn!(%error, target = %self.target.display(), "cannot remove an emptied directory");
        }
    }

    fn write_down(&self, moves: &[Move]) -> io::Result<()> {
        let private = at::open_dir(&self.holder, &self.name)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(&private, MOVES, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        let mut file = File::from(file);
        file.write_all(&serde_json::to_vec(moves)?)?;
        file.sync_all()?;
        private.sync_all()
    }
}

/// Path, device and inode of what is moved.
type Move = (Vec<u8>, u64, u64);

/// The topmost paths of the tree at `staged` that `target` does not have.
fn plan_moves(
    staged: &File,
    target: &File,
    path: &mut Vec<u8>,
    items: &Selection,
    shown: &Path,
    moves: &mut Vec<Move>,
) -> Result<(), DriverError> {
    let length = path.len();
    for name in at::names(staged).map_err(io_error("reading", shown))? {
        path.truncate(length);
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        let failed = || io_error::<Errno>("looking up", &shown.join(printable(path)));
        let stat = Stat::at(staged, &name).map_err(failed())?;
        match Stat::at(target, &name) {
            Err(Errno::ENOENT) => moves.push((path.clone(), stat.device, stat.inode)),
            Ok(there) if there.is_dir() && items.wants(path) == Wanted::Above => {
                let staged = at::open_dir(staged, &name).map_err(failed())?;
                let target = at::open_dir(target, &name).map_err(failed())?;
                plan_moves(&staged, &target, path, items, shown, moves)?;
            }
            Ok(_) => return Err(exists(shown.join(printable(path)))),
            Err(error) => return Err(failed()(error)),
        }
    }
    path.truncate(length);
    Ok(())
}

/// Refuses early, before anything is read from the vault, what [`plan_moves`] would refuse at the
/// end.
fn refuse_existing(target: &File, items: &Items, shown: &Path) -> Result<(), DriverError> {
    for path in items.asked.keys() {
        let mut dir = target.try_clone().map_err(io_error("opening", shown))?;
        let names: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        for (index, name) in names.iter().enumerate() {
            let here = || shown.join(printable(&names[..=index].join(&b'/')));
            match Stat::at(&dir, name) {
                Err(Errno::ENOENT) => break,
                Ok(stat) if stat.is_dir() && index + 1 < names.len() => {
                    dir = at::open_dir(&dir, name).map_err(io_error("opening", &here()))?;
                }
                Ok(_) => return Err(exists(here())),
                Err(error) => return Err(io_error("looking up", &here())(error)),
            }
        }
    }
    Ok(())
}

/// Moves a name to another directory where it must not exist.
pub(crate) fn rename_new(old: &File, new: &File, name: &[u8]) -> nix::Result<()> {
    let flags = RenameFlags::RENAME_NOREPLACE;
    let rename = || renameat2(old, name, new, name, flags);
    match rename() {
        // Moving a directory changes its `..`, for which its mode must allow writing.
        Err(Errno::EACCES | Errno::EPERM) => {
            let stat = Stat::at(old, name)?;
            if !stat.is_dir() {
                return Err(Errno::EACCES);
            }
            fchmodat(old, name, at::PRIVATE_DIR, FchmodatFlags::FollowSymlink)?;
            rename()?;
            let mode = Mode::from_bits_truncate(stat.mode);
            fchmodat(new, name, mode, FchmodatFlags::FollowSymlink)
        }
        other => other,
    }
}

fn open_parent(target: &Path) -> Result<(File, Vec<u8>), DriverError> {
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(Invalid::new("targetPath", "'/' cannot be restored to.").into());
    };
    match open_directory(parent) {
        Ok(dir) => Ok((dir, name.as_bytes().to_vec())),
        Err(error @ (Errno::ENOENT | Errno::ENOTDIR)) => Err(Invalid::new(
            "targetPath",
            format!(
                "{} cannot hold the restored directory: {}. Make it first.",
                parent.display(),
                error.desc()
            ),
        )
        .into()),
        Err(error) => Err(io_error("opening", parent)(error)),
    }
}

/// Opens the directory at `target`, if there is one; what else is there is refused.
pub(crate) fn existing(target: &Path) -> Result<Option<File>, DriverError> {
    let (parent, name) = open_parent(target)?;
    match at::open_dir(&parent, &name) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::ENOENT) => Ok(None),
        Err(Errno::ENOTDIR | Errno::ELOOP) => Err(Invalid::new(
            "targetPath",
            format!(
                "{} is no directory, or a link to one; name the directory itself.",
                target.display()
            ),
        )
        .into()),
        Err(error) => Err(io_error("opening", target)(error)),
    }
}

/// Discards everything of a job that died while it moved items to their places: some of them may be
/// there, and nothing tells that they are whole.
pub(crate) fn undo(target: &Path, job_id: &str) -> Result<(), DriverError> {
    let Ok(Some(dir)) = existing(target) else { return Ok(()) };
    let name = private_name(target, job_id);
    let moving = at::open_dir(&dir, &name).and_then(|private| Stat::at(&private, MOVES));
    if moving.is_ok() { discard(target, job_id) } else { Ok(()) }
}

/// Removes what a restore of this job left unfinished, if anything.
pub(crate) fn discard(target: &Path, job_id: &str) -> Result<(), DriverError> {
    let name = private_name(target, job_id);
    let (parent, target_name) = match open_parent(target) {
        Ok(found) => found,
        // Where there is no parent there is nothing to remove.
        Err(DriverError::Invalid(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let failed = || io_error::<io::Error>("removing what was unfinished of", target);
    remove_private(&parent, &name).map_err(failed())?;
    match at::open_dir(&parent, &target_name) {
        Ok(dir) => {
            put_back(&dir, &name).map_err(failed())?;
            undo_moves(&dir, &name).map_err(failed())?;
            remove_private(&dir, &name).map_err(failed())
        }
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(()),
        Err(error) => Err(failed()(error.into())),
    }
}

/// Only a directory can be ours.
fn remove_private(holder: &File, name: &[u8]) -> io::Result<()> {
    match Stat::at(holder, name) {
        Ok(stat) if stat.is_dir() => remove_tree(holder, name),
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What was aside when a run died while it replaced a directory, or a file by one.
fn put_back(target: &File, name: &[u8]) -> io::Result<()> {
    match at::open_dir(target, name) {
        Ok(private) => exchange::settle(&private, target, Then::PutBack),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn undo_moves(target: &File, name: &[u8]) -> io::Result<()> {
    let private = match at::open_dir(target, name) {
        Ok(private) => private,
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let file = match at::open_file(&private, MOVES) {
        Ok(file) => file,
        Err(Errno::ENOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // A list that was not written to its end was not acted upon.
    let Ok(moves) = serde_json::from_reader::<_, Vec<Move>>(io::BufReader::new(file)) else {
        return Ok(());
    };
    let mut cursor = Cursor::new(target.try_clone()?);
    for (path, device, inode) in moves {
        let (parent, name) = split(&path);
        let Ok(dir) = cursor.go(parent) else { continue };
        let ours =
            Stat::at(dir, name).is_ok_and(|stat| (stat.device, stat.inode) == (device, inode));
        if ours {
            remove_tree(dir, name)?;
        }
    }
    Ok(())
}

/// Removes a tree of our own; an absent one is fine. Follows no links, and crosses directories
/// whose restored mode would forbid that. Where something is mounted in it, nothing is removed.
pub(crate) fn remove_tree(parent: &File, name: &[u8]) -> io::Result<()> {
    if Stat::at(parent, name).is_ok_and(|stat| stat.is_dir()) {
        let mounts = Mounts::below(&open_to_remove(parent, name)?)?;
        if let Some(path) = mounts.first() {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                format!(
                    "something is mounted at {} in it, so nothing of it was removed",
                    printable(path)
                ),
            ));
        }
    }
    remove_below(parent, name)
}

/// Crosses no mount, not even one that was made a moment ago.
fn remove_below(parent: &File, name: &[u8]) -> io::Result<()> {
    let stat = match Stat::at(parent, name) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !stat.is_dir() {
        return Ok(unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?);
    }
    let dir = open_to_remove(parent, name)?;
    for below in at::names(&dir)? {
        remove_below(&dir, &below)?;
    }
    Ok(unlinkat(parent, name, UnlinkatFlags::RemoveDir)?)
}

/// Opens a directory of which all is to go, and lets us do so. What is mounted is not ours.
fn open_to_remove(parent: &File, name: &[u8]) -> nix::Result<File> {
    match open_same_mount(parent, name) {
        Err(Errno::EACCES) => {}
        opened => {
            let dir = opened?;
            if Stat::of(&dir)?.mode & 0o700 != 0o700 {
                fchmod(&dir, at::PRIVATE_DIR)?;
            }
            return Ok(dir);
        }
    }
    fchmodat(parent, name, at::PRIVATE_DIR, FchmodatFlags::FollowSymlink)?;
    open_same_mount(parent, name)
}

//! Letting two names change places, one of which is a directory.
//!
//! Most file systems do it at one stroke (`RENAME_EXCHANGE`). Where one cannot, what is there goes aside
//! first, into the job's private directory, and the new one takes its place. A death between the two
//! would leave the name with nothing, so what is about to be done is written down before: whoever takes
//! the restore up finishes it, and whoever gives the restore up puts back what was there. While neither
//! can be done, as somebody has made something else of that name meanwhile, nothing is removed.

use std::fs::File;
use std::io::{self, Write as _};

use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, renameat, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use provault_driver::entry::printable;
use serde::{Deserialize, Serialize};

use crate::at::{self, Stat};
use crate::guard::split;
use crate::writer::Cursor;

/// In a private directory: the exchange that is being made.
const NOTE: &[u8] = b"exchange";

/// An exchange as it was before it began.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// Below the target, and below what was made.
    path: Vec<u8>,
    /// The name in the private directory under which what was there lies aside.
    aside: String,
    /// Device and inode of the new one.
    new: (u64, u64),
}

/// What is to become of an exchange that was broken off.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then<'a> {
    /// The new one, which lies below this directory, takes its place.
    Finish(&'a File),
    /// What was there comes back.
    PutBack,
}

/// Gives the name of `path` in `to` what has that name in `from`. What was there is in `from`, or aside in
/// the `private` directory.
pub(crate) fn swap(private: &File, from: &File, to: &File, path: &[u8]) -> nix::Result<()> {
    let (_, name) = split(path);
    match at_one_stroke(from, to, name) {
        Err(Errno::EINVAL | Errno::ENOSYS) => in_steps(private, from, to, path),
        done => done,
    }
}

fn at_one_stroke(from: &File, to: &File, name: &[u8]) -> nix::Result<()> {
    #[cfg(test)]
    if deaths::exchange_is_unknown() {
        return Err(Errno::EINVAL);
    }
    renameat2(from, name, to, name, RenameFlags::RENAME_EXCHANGE)
}

fn in_steps(private: &File, from: &File, to: &File, path: &[u8]) -> nix::Result<()> {
    let (_, name) = split(path);
    let (new, old) = (Stat::at(from, name)?, Stat::at(to, name)?);
    let aside = format!("aside-{}-{}", old.device, old.inode);
    let note = Note { path: path.to_vec(), aside: aside.clone(), new: (new.device, new.inode) };
    let written = write_down(private, &note);
    written.map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    die_at("written down");
    let moved = renameat(to, name, private, aside.as_str());
    die_at("aside");
    if let Err(error) = moved {
        forget(private)?;
        return Err(error);
    }
    if let Err(error) = renameat(from, name, to, name) {
        move_new(private, aside.as_bytes(), to, name)?;
        forget(private)?;
        return Err(error);
    }
    die_at("placed");
    // What a crash of the machine leaves must not be a note of less than the disk has.
    sync(to);
    sync(private);
    forget(private)
}

/// Brings an exchange to an end that was broken off, if there is one; to do it twice is to do it once.
/// `private` is the job's directory, `target` what is restored into.
pub(crate) fn settle(private: &File, target: &File, then: Then<'_>) -> io::Result<()> {
    let file = match at::open_file(private, NOTE) {
        Ok(file) => file,
        Err(Errno::ENOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // One that was not written to its end was not acted upon.
    let Ok(note) = serde_json::from_reader::<_, Note>(io::BufReader::new(file)) else {
        return Ok(forget(private)?);
    };
    match Stat::at(private, note.aside.as_bytes()) {
        Ok(_) => {}
        // Nothing was moved yet, or it is back already.
        Err(Errno::ENOENT) => return Ok(forget(private)?),
        Err(error) => return Err(error.into()),
    }
    let (parent, name) = split(&note.path);
    let stuck = |why: &str| {
        let (path, aside) = (printable(&note.path), &note.aside);
        io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!(
                "{why} while {path} was being replaced, so what was there before lies under the name {aside} in the restore's own directory, of which nothing was removed; move it to where it belongs"
            ),
        )
    };
    let mut cursor = Cursor::new(target.try_clone()?);
    let to = match cursor.go(parent) {
        Ok(to) => to,
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
            return Err(stuck("the directory around it was removed"));
        }
        Err(error) => return Err(error.into()),
    };
    match Stat::at(to, name) {
        // It was done but for the note.
        Ok(stat) if (stat.device, stat.inode) == note.new => {}
        Ok(_) => return Err(stuck("somebody made something of that name")),
        Err(Errno::ENOENT) => {
            if !finished(then, to, &note)? {
                match move_new(private, note.aside.as_bytes(), to, name) {
                    Err(Errno::EEXIST) => {
                        return Err(stuck("somebody made something of that name"));
                    }
                    moved => moved?,
                }
            }
            die_at("settled");
        }
        Err(error) => return Err(error.into()),
    }
    sync(to);
    sync(private);
    Ok(forget(private)?)
}

/// Moves the new one to its place, when that is wanted and it is still there.
fn finished(then: Then<'_>, to: &File, note: &Note) -> io::Result<bool> {
    let Then::Finish(made) = then else { return Ok(false) };
    let (parent, name) = split(&note.path);
    let mut cursor = Cursor::new(made.try_clone()?);
    let Ok(from) = cursor.go(parent) else { return Ok(false) };
    if !Stat::at(from, name).is_ok_and(|stat| (stat.device, stat.inode) == note.new) {
        return Ok(false);
    }
    move_new(from, name, to, name)?;
    Ok(true)
}

/// Moves what must not replace anything, on file systems too that cannot promise it: there it has just been
/// seen that nothing is in its way.
fn move_new(from: &File, old: &[u8], to: &File, new: &[u8]) -> nix::Result<()> {
    match renameat2(from, old, to, new, RenameFlags::RENAME_NOREPLACE) {
        Err(Errno::EINVAL | Errno::ENOSYS) => renameat(from, old, to, new),
        done => done,
    }
}

fn write_down(private: &File, note: &Note) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(private, NOTE, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    file.write_all(&serde_json::to_vec(note)?)?;
    file.sync_all()?;
    sync(private);
    Ok(())
}

fn forget(private: &File) -> nix::Result<()> {
    match unlinkat(private, NOTE, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        done => done,
    }
}

/// File systems that know so little may not sync directories either.
fn sync(dir: &File) {
    if let Err(error) = dir.sync_all() {
        tracing::debug!(%error, "a directory cannot be synced");
    }
}

#[cfg(not(test))]
fn die_at(_: &'static str) {}

#[cfg(test)]
use deaths::die_at;

/// A file system that knows no exchange, and deaths between the steps that take its place.
#[cfg(test)]
mod deaths {
    use std::cell::Cell;

    thread_local! {
        static UNKNOWN: Cell<bool> = const { Cell::new(false) };
        static PLACE: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    pub(super) fn exchange_is_unknown() -> bool {
        UNKNOWN.get()
    }

    /// From now on, in this thread: no exchange is known, and it dies at this place.
    pub(super) fn arrange(place: Option<&'static str>) {
        UNKNOWN.set(true);
        PLACE.set(place);
    }

    pub(super) fn die_at(place: &'static str) {
        if PLACE.get() == Some(place) {
            PLACE.set(None);
            std::panic::resume_unwind(Box::new("injected death"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::{Path, PathBuf};

    use provault_driver::conformance::{Request, capture, next_job, restore_as};
    use provault_driver::memory::MemorySource;
    use provault_driver::{
        CancelFlag, Driver as _, DriverError, RestoreOutcome, RestoreRequest, WorkContext,
    };

    use super::deaths::arrange;
    use crate::FilesystemDriver;

    const PLACES: [&str; 3] = ["written down", "aside", "placed"];

    struct Scene {
        driver: FilesystemDriver,
        sandbox: tempfile::TempDir,
        target: PathBuf,
        tree: MemorySource,
        job: String,
        asked: Request,
        began: jiff::Timestamp,
    }

    fn resource(path: &Path) -> provault_domain::Resource {
        let account = "123456789012".parse().unwrap();
        let region = "us-east-1".parse().unwrap();
        provault_domain::Resource {
            arn: provault_domain::Arn::resource_of(
                provault_domain::Kind::Filesystem,
                &region,
                &account,
                "0123456789abcdef0",
            ),
            account,
            region,
            kind: provault_domain::Kind::Filesystem,
            name: "scene".into(),
            config: serde_json::json!({ "path": path }),
            tags: BTreeMap::new(),
            service: None,
            probes: Vec::new(),
            rpo_seconds: None,
            rto_seconds: None,
            testing: None,
            retention: provault_domain::RetentionSettings::default(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            imported: false,
        }
    }

    /// A directory where the recovery point has a file, and a file where it has a directory. The names are
    /// as long as names can be, or what a careless program would choose for what it puts aside.
    fn scene() -> Scene {
        let sandbox = tempfile::tempdir().unwrap();
        let (root, target) = (sandbox.path().join("root"), sandbox.path().join("target"));
        let long = "l".repeat(255);
        fs::create_dir_all(root.join("sub/was-file")).unwrap();
        fs::write(root.join("sub/was-file/new"), "stored").unwrap();
        fs::write(root.join("sub/was-file.replaced"), "stored").unwrap();
        fs::write(root.join(&long), "stored").unwrap();
        fs::create_dir_all(target.join(&long)).unwrap();
        fs::create_dir(target.join("sub")).unwrap();
        fs::write(target.join(&long).join("old"), "precious").unwrap();
        fs::write(target.join("sub/was-file"), "precious").unwrap();
        let driver = FilesystemDriver::new();
        let (tree, _) = capture(&driver, &resource(&root));
        let mut asked = driver.restore_metadata(&resource(&root));
        for (key, value) in [
            ("targetPath", target.to_str().unwrap()),
            ("newFileSystem", "false"),
            ("overwrite", "always"),
        ] {
            asked.insert(key.to_owned(), value.to_owned());
        }
        // Clocks of file systems stand for some milliseconds.
        let tick = || std::thread::sleep(std::time::Duration::from_millis(50));
        tick();
        let began = jiff::Timestamp::now();
        tick();
        Scene { driver, sandbox, target, tree, job: next_job(), asked, began }
    }

    impl Scene {
        fn dies_at(&self, place: &'static str) {
            arrange(Some(place));
            let died = catch_unwind(AssertUnwindSafe(|| {
                restore_as(&self.driver, &self.job, &self.asked, &self.tree, &CancelFlag::new())
            }));
            assert!(died.is_err(), "{place} was not passed: {died:?}");
        }

        fn resume(&self) -> Result<RestoreOutcome, DriverError> {
            let context = WorkContext { cancel: &CancelFlag::new(), progress: &|_, _| {} };
            let request = RestoreRequest {
                began_at: Some(self.began),
                ..RestoreRequest::new(&self.job, &self.asked)
            };
            self.driver.resume(&request, &self.tree, &context)
        }

        fn give_up(&self) -> Result<(), DriverError> {
            self.driver.discard_partial(&RestoreRequest::new(&self.job, &self.asked))
        }

        /// What each file below the target holds.
        fn found(&self) -> BTreeMap<String, String> {
            fn look(root: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
                for entry in fs::read_dir(dir).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_dir() {
                        look(root, &path, found);
                    } else {
                        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                        let name = name.replace(&"l".repeat(255), "long");
                        found.insert(name, fs::read_to_string(&path).unwrap());
                    }
                }
            }
            let mut found = BTreeMap::new();
            look(&self.target, &self.target, &mut found);
            found
        }
    }

    fn are(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    fn whole() -> BTreeMap<String, String> {
        are(&[
            ("long", "stored"),
            ("sub/was-file.replaced", "stored"),
            ("sub/was-file/new", "stored"),
        ])
    }

    #[test]
    fn without_an_exchange_everything_gets_its_place() {
        let scene = scene();
        arrange(None);
        restore_as(&scene.driver, &scene.job, &scene.asked, &scene.tree, &CancelFlag::new())
            .unwrap();
        assert_eq!(scene.found(), whole());
        assert_eq!(fs::read_dir(scene.sandbox.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_death_between_two_steps_is_given_up_without_a_loss() {
        for place in PLACES {
            let scene = scene();
            scene.dies_at(place);
            scene.give_up().unwrap();
            // The first of them is the one with the long name.
            let first =
                if place == "placed" { ("long", "stored") } else { ("long/old", "precious") };
            assert_eq!(scene.found(), are(&[first, ("sub/was-file", "precious")]), "{place}");
            scene.give_up().unwrap();
        }
    }

    #[test]
    fn a_death_between_two_steps_is_gone_on_with() {
        for place in PLACES {
            let scene = scene();
            scene.dies_at(place);
            scene.resume().unwrap();
            assert_eq!(scene.found(), whole(), "{place}");
        }
    }

    #[test]
    fn a_death_while_it_is_brought_to_an_end_loses_nothing() {
        for gone_on_with in [false, true] {
            let scene = scene();
            scene.dies_at("aside");
            arrange(Some("settled"));
            let died = catch_unwind(AssertUnwindSafe(|| {
                if gone_on_with { drop(scene.resume()) } else { drop(scene.give_up()) }
            }));
            assert!(died.is_err());
            scene.give_up().unwrap();
            let first = if gone_on_with { ("long", "stored") } else { ("long/old", "precious") };
            assert_eq!(scene.found(), are(&[first, ("sub/was-file", "precious")]));
        }
    }

    #[test]
    fn what_somebody_made_of_that_name_meanwhile_stays_and_so_does_what_was_there() {
        let scene = scene();
        scene.dies_at("aside");
        fs::write(scene.target.join("l".repeat(255)), "work of today").unwrap();
        for error in [scene.resume().map(drop), scene.give_up()] {
            let error = error.unwrap_err().to_string();
            assert!(error.contains("lies under the name aside-"), "{error}");
            let found = scene.found();
            assert_eq!(found["long"], "work of today");
            let aside = found.iter().find(|(name, _)| name.contains("/aside-")).unwrap();
            assert!(aside.0.ends_with("/old") && aside.1 == "precious", "{found:?}");
        }
    }
}

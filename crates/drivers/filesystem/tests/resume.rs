//! Restores that are taken up again, and the reading back of what was written.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::Ordering;

use common::watched::{Watched, in_place, private};
use common::{Seen, Trees, differences, not_tested, populate, request, resource};
use provault_driver::conformance::{Request, capture, next_job, restore, restore_as};
use provault_driver::memory::MemorySource;
use provault_driver::{
    CancelFlag, Driver, DriverError, RestoreOutcome, RestoreRequest, Source, WorkContext,
};
use provault_driver_filesystem::FilesystemDriver;

static DRIVER: LazyLock<FilesystemDriver> = LazyLock::new(FilesystemDriver::new);

/// What is there, but for the times of access, which looking renews.
fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = common::look(root);
    for one in seen.values_mut() {
        one.atime = (0, 0);
    }
    seen
}

fn resume(
    job: &str,
    metadata: &Request,
    source: &dyn Source,
) -> Result<RestoreOutcome, DriverError> {
    let context = WorkContext { cancel: &CancelFlag::new(), progress: &|_, _| {} };
    DRIVER.resume(&RestoreRequest::new(job, metadata), source, &context)
}

/// Six hundred files of a thousand bytes, which are three batches.
fn many(trees: &Trees) -> (PathBuf, MemorySource) {
    let root = trees.source();
    for number in 0..600_u32 {
        let content: Vec<u8> = (0..1000_u32).map(|i| (i * number % 251) as u8).collect();
        fs::write(root.join(format!("{number:03}")), content).unwrap();
    }
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    (root, tree)
}

#[test]
fn what_is_whole_is_kept_and_what_is_not_is_written_again() {
    let trees = Trees::new();
    let (root, tree) = many(&trees);
    let absent = trees.fresh("target");
    let existing = trees.source();
    for (target, asked, place) in [
        (&absent, request(&absent), absent.parent().unwrap().to_owned()),
        (&existing, in_place(&existing, "always"), existing.clone()),
    ] {
        let job = next_job();
        let dying = Watched { die_after: 300_000, ..Watched::new(&tree) };
        let died = catch_unwind(AssertUnwindSafe(|| {
            restore_as(&*DRIVER, &job, &asked, &dying, &CancelFlag::new())
        }));
        assert!(died.is_err());
        // One that was whole is damaged behind our back: its hash tells.
        let mut left = private(&place);
        if left.join("tree").is_dir() {
            left = left.join("tree");
        }
        fs::write(left.join("001"), vec![7; 1000]).unwrap();
        assert!(!target.join("002").exists(), "nothing is in place before all is written");
        let watched = Watched::new(&tree);
        let outcome = resume(&job, &asked, &watched).unwrap();
        assert_eq!((outcome.files, outcome.bytes), (600, 600_000));
        let written = watched.delivered.load(Ordering::SeqCst);
        assert!((250_000..400_000).contains(&written), "written again: {written}");
        let found = differences(&root, target);
        // The root that existed keeps what it is only under `never`.
        assert_eq!(found, [""; 0]);
        assert!(
            fs::read_dir(&place)
                .unwrap()
                .all(|e| { !e.unwrap().file_name().to_string_lossy().contains(".provault-") })
        );
    }
}

#[test]
fn a_merge_that_died_halfway_is_gone_on_with() {
    let trees = Trees::new();
    let (root, tree) = many(&trees);
    let target = trees.source();
    for number in 0..600_u32 {
        fs::write(target.join(format!("{number:03}")), b"wrong").unwrap();
    }
    let asked = in_place(&target, "if-changed");
    let job = next_job();
    // It dies while the list of what to verify is asked for: everything is written.
    let die = || std::panic::resume_unwind(Box::new("injected death"));
    let dying = Watched { act_at: 3, act: &die, ..Watched::new(&tree) };
    let died = catch_unwind(AssertUnwindSafe(|| {
        restore_as(&*DRIVER, &job, &asked, &dying, &CancelFlag::new())
    }));
    assert!(died.is_err());
    // As if it had died after the first half of the renames, and somebody worked on since.
    let staged = private(&target).join("tree");
    for number in 0..300_u32 {
        let name = format!("{number:03}");
        fs::rename(staged.join(&name), target.join(&name)).unwrap();
    }
    let watched = Watched::new(&tree);
    let outcome = resume(&job, &asked, &watched).unwrap();
    assert_eq!(watched.delivered.load(Ordering::SeqCst), 0, "all was written before it died");
    assert_eq!(outcome.in_place.unwrap().overwritten.entries, 300);
    assert_eq!(differences(&root, &target), [""; 0]);
}

/// Dies when all is written, before the first name changes.
fn dead_before_its_merge(tree: &MemorySource, asked: &Request) -> String {
    let job = next_job();
    let die = || std::panic::resume_unwind(Box::new("injected death"));
    let dying = Watched { act_at: 3, act: &die, ..Watched::new(tree) };
    let died = catch_unwind(AssertUnwindSafe(|| {
        restore_as(&*DRIVER, &job, asked, &dying, &CancelFlag::new())
    }));
    assert!(died.is_err());
    job
}

#[test]
fn what_was_done_since_the_job_began_stays_when_it_is_gone_on_with() {
    use std::os::unix::fs::MetadataExt;
    let trees = Trees::new();
    let root = trees.source();
    for name in ["changed", "placed", "set", "untouched", "was-dir", "was-file"] {
        fs::write(root.join(name), b"stored").unwrap();
    }
    fs::write(root.join("one"), b"of two names").unwrap();
    fs::hard_link(root.join("one"), root.join("two")).unwrap();
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    let target = trees.source();
    for name in ["changed", "placed", "untouched", "was-file", "one"] {
        fs::write(target.join(name), b"long ago").unwrap();
    }
    fs::hard_link(target.join("one"), target.join("two")).unwrap();
    fs::copy(root.join("set"), target.join("set")).unwrap();
    for name in ["was-dir", "extra"] {
        fs::create_dir(target.join(name)).unwrap();
        fs::write(target.join(name).join("old"), b"long ago").unwrap();
    }
    // Clocks of file systems stand for some milliseconds.
    let tick = || std::thread::sleep(std::time::Duration::from_millis(50));
    tick();
    let began = jiff::Timestamp::now();
    tick();
    let mut asked = in_place(&target, "always");
    asked.insert("deleteExtra".to_owned(), "true".to_owned());
    let job = dead_before_its_merge(&tree, &asked);
    // The merge had put these in place, and the server stood still for a day.
    let staged = private(&target).join("tree");
    for name in ["placed", "one"] {
        fs::rename(staged.join(name), target.join(name)).unwrap();
    }
    fs::write(target.join("changed"), b"work of today").unwrap();
    common::mode(&target.join("set"), 0o640);
    fs::write(target.join("was-dir/new"), b"work of today").unwrap();
    fs::write(target.join("extra/new"), b"work of today").unwrap();
    fs::remove_file(target.join("was-file")).unwrap();
    fs::create_dir(target.join("was-file")).unwrap();
    fs::write(target.join("was-file/new"), b"work of today").unwrap();

    let context = WorkContext { cancel: &CancelFlag::new(), progress: &|_, _| {} };
    let request = RestoreRequest { began_at: Some(began), ..RestoreRequest::new(&job, &asked) };
    let outcome = DRIVER.resume(&request, &tree, &context).unwrap();
    let told = outcome.notes.join(" ");
    for name in ["changed", "was-dir/new", "extra/new", "was-file/new"] {
        assert_eq!(fs::read(target.join(name)).unwrap(), b"work of today", "{name}: {told}");
    }
    for name in ["changed", "set", "was-dir", "extra/new", "was-file"] {
        assert!(told.contains(name), "{name}: {told}");
    }
    assert_eq!(look(&target)[Path::new("set")].mode & 0o777, 0o640);
    for name in ["placed", "untouched"] {
        assert_eq!(fs::read(target.join(name)).unwrap(), b"stored", "{name}: {told}");
    }
    assert!(!target.join("extra/old").exists(), "{told}");
    // One name was in place, which changed the other: they are one file again.
    assert_eq!(fs::read(target.join("two")).unwrap(), b"of two names", "{told}");
    let inode = |name: &str| fs::metadata(target.join(name)).unwrap().ino();
    assert_eq!(inode("one"), inode("two"));
}

#[test]
fn what_changes_behind_our_back_is_found_before_it_is_put_in_place() {
    type Change = fn(&Path);
    let trees = Trees::new();
    let root = trees.source();
    populate(&root);
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    let changes: [(&str, &str, Change); 5] = [
        ("big", "other content between bytes", |left| {
            use std::os::unix::fs::FileExt;
            let file = fs::File::options().write(true).open(left.join("big")).unwrap();
            let time = file.metadata().unwrap().modified().unwrap();
            file.write_all_at(b"x", 1_200_000).unwrap();
            file.set_modified(time).unwrap();
        }),
        ("dir.txt", "is missing", |left| fs::remove_file(left.join("dir.txt")).unwrap()),
        ("same", "has mode", |left| common::mode(&left.join("same"), 0o777)),
        ("one", "lacks the attribute", |left| {
            xattr::remove(left.join("one"), "user.color").unwrap();
        }),
        ("link", "points to", |left| {
            use std::os::unix::fs::MetadataExt;
            let old = fs::symlink_metadata(left.join("link")).unwrap();
            fs::remove_file(left.join("link")).unwrap();
            std::os::unix::fs::symlink("elsewhere", left.join("link")).unwrap();
            nix::sys::stat::utimensat(
                nix::fcntl::AT_FDCWD,
                &left.join("link"),
                &nix::sys::time::TimeSpec::new(old.atime(), old.atime_nsec()),
                &nix::sys::time::TimeSpec::new(old.mtime(), old.mtime_nsec()),
                nix::sys::stat::UtimensatFlags::NoFollowSymlink,
            )
            .unwrap();
        }),
    ];
    for (path, what, change) in changes {
        let target = trees.fresh("target");
        let place = target.parent().unwrap().to_owned();
        let act = || {
            // What is done in the root shows in its time, which is not what this is about.
            let left = private(&place);
            let time = fs::metadata(&left).unwrap().modified().unwrap();
            change(&left);
            fs::File::open(&left).unwrap().set_modified(time).unwrap();
        };
        let watched = Watched { act_at: 3, act: &act, ..Watched::new(&tree) };
        match restore(&*DRIVER, &request(&target), &watched, &CancelFlag::new()) {
            Err(DriverError::Unverified { path: found, what: told }) => {
                assert_eq!(found, path);
                assert!(told.contains(what), "{told}");
            }
            other => panic!("{path}: {other:?}"),
        }
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "{path}: something is left");

        // In place nothing has changed yet.
        let existing = trees.source();
        fs::write(existing.join("big"), b"what was there").unwrap();
        let before = look(&existing);
        let act = || change(&private(&existing).join("tree"));
        let watched = Watched { act_at: 3, act: &act, ..Watched::new(&tree) };
        let asked = in_place(&existing, "always");
        let result = restore(&*DRIVER, &asked, &watched, &CancelFlag::new());
        assert!(matches!(result, Err(DriverError::Unverified { .. })), "{path}: {result:?}");
        let after = look(&existing);
        assert_eq!(before[Path::new("big")], after[Path::new("big")], "{path}");
        assert_eq!(before.len(), after.len(), "{path}");
    }
}

#[test]
fn verification_can_be_left_out() {
    let trees = Trees::new();
    let root = trees.source();
    populate(&root);
    let (tree, report) = capture(&*DRIVER, &resource(&root));
    let target = trees.fresh("target");
    let outcome = restore(&*DRIVER, &request(&target), &tree, &CancelFlag::new()).unwrap();
    assert_eq!(outcome.verified.map(|verified| verified.bytes), Some(report.bytes));
    assert_eq!(outcome.verified.map(|verified| verified.files), Some(outcome.files));
    let target = trees.fresh("target");
    let mut asked = request(&target);
    DRIVER.leave_unverified(&mut asked);
    assert_eq!(DRIVER.check_restore(&asked), Ok(()));
    let outcome = restore(&*DRIVER, &asked, &tree, &CancelFlag::new()).unwrap();
    assert_eq!(outcome.verified, None);
    assert_eq!(differences(&root, &target), [""; 0]);
}

#[test]
fn what_changes_in_the_target_meanwhile_is_left() {
    let trees = Trees::new();
    let root = trees.source();
    for name in ["appears", "changes", "plain"] {
        fs::write(root.join(name), b"stored").unwrap();
    }
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    for (mode, left) in [("if-older", true), ("if-changed", true), ("always", false)] {
        let target = trees.source();
        for name in ["changes", "plain"] {
            fs::write(target.join(name), b"long ago").unwrap();
            let old = std::time::UNIX_EPOCH;
            let file = fs::File::options().write(true).open(target.join(name)).unwrap();
            file.set_modified(old).unwrap();
        }
        let act = || {
            fs::write(target.join("appears"), b"work of today").unwrap();
            fs::write(target.join("changes"), b"work of today").unwrap();
        };
        let watched = Watched { act_at: 3, act: &act, ..Watched::new(&tree) };
        let asked = in_place(&target, mode);
        let outcome = restore(&*DRIVER, &asked, &watched, &CancelFlag::new()).unwrap();
        let expected: &[u8] = if left { b"work of today" } else { b"stored" };
        assert_eq!(fs::read(target.join("plain")).unwrap(), b"stored", "{mode}");
        for name in ["appears", "changes"] {
            assert_eq!(fs::read(target.join(name)).unwrap(), expected, "{mode} {name}");
        }
        let told = outcome.notes.join(" ");
        assert_eq!(told.contains("changed while the restore was made"), left, "{mode}: {told}");
        let counts = outcome.in_place.unwrap();
        let counted = [counts.created, counts.overwritten, counts.kept].map(|of| of.entries);
        assert_eq!(counted, if left { [0, 1, 2] } else { [1, 2, 0] }, "{mode}");
    }
}

/// Runs `work` with a disk of one megabyte at `place`, which only its own thread sees.
fn on_a_small_disk(place: &Path, work: impl FnOnce() + Send) -> nix::Result<()> {
    use nix::mount::{MsFlags, mount};
    common::in_own_mounts(|| {
        mount(Some("small"), place, Some("tmpfs"), MsFlags::empty(), Some("size=1m"))?;
        work();
        Ok(())
    })
}

#[test]
fn a_full_disk_leaves_what_was_there() {
    let trees = Trees::new();
    let root = trees.source();
    fs::write(root.join("one"), vec![1; 700_000]).unwrap();
    fs::write(root.join("two"), vec![2; 700_000]).unwrap();
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    let disk = trees.source();
    let ran = on_a_small_disk(&disk, || {
        for (target, asked) in [
            (disk.join("absent"), request(&disk.join("absent"))),
            (disk.join("there"), in_place(&disk.join("there"), "always")),
        ] {
            if target.ends_with("there") {
                fs::create_dir(&target).unwrap();
                fs::write(target.join("one"), b"what was there").unwrap();
            }
            let before = look(&disk);
            match restore(&*DRIVER, &asked, &tree, &CancelFlag::new()) {
                Err(DriverError::Io { source, .. }) => {
                    assert_eq!(source.raw_os_error(), Some(nix::errno::Errno::ENOSPC as i32));
                }
                other => panic!("{other:?}"),
            }
            let after = look(&disk);
            assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
            if let Some(one) = after.get(Path::new("there/one")) {
                assert_eq!(one.content, b"what was there");
            }
        }
    });
    if let Err(error) = ran {
        not_tested("a_full_disk_leaves_what_was_there", &format!("mounting is refused: {error}"));
    }
}

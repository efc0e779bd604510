//! Captures: what is refused, left out, listed, and what happens when the tree moves.
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a helper of a test fails as the test does"
)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use common::{Trees, mode, resource, resource_with};
use provault_driver::conformance::{capture, capture_into};
use provault_driver::memory::{MemorySink, MemorySource};
use provault_driver::{CancelFlag, Driver, DriverError, NodeKind, WorkContext};
use provault_driver_filesystem::FilesystemDriver;
use serde_json::json;

static DRIVER: LazyLock<FilesystemDriver> = LazyLock::new(FilesystemDriver::new);

fn paths(tree: &MemorySource) -> Vec<String> {
    tree.list().iter().map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect()
}

fn refused(config: serde_json::Value) -> DriverError {
    let never = CancelFlag::new();
    let result = capture_into(&*DRIVER, &resource_with(config), &mut MemorySink::new(), &never);
    result.expect_err("it must be refused")
}

#[test]
fn settings_are_refused_by_name() {
    let trees = Trees::new();
    let path = trees.source();
    let path = path.to_str().unwrap();
    for (config, member) in [
        (json!({}), "path"),
        (json!([]), "config"),
        (json!({ "path": 7 }), "path"),
        (json!({ "path": "relative" }), "path"),
        (json!({ "path": "/no/such/directory" }), "path"),
        (json!({ "path": "/etc/hostname" }), "path"),
        (json!({ "path": format!("{path}/../x") }), "path"),
        (json!({ "path": format!("{path}/") }), "path"),
        (json!({ "path": format!("{path}\0") }), "path"),
        (json!({ "path": path, "include": "x" }), "include"),
        (json!({ "path": path, "exclude": ["/abs"] }), "exclude[0]"),
        (json!({ "path": path, "exclude": ["fine", "[z-a]"] }), "exclude[1]"),
        (json!({ "path": path, "oneFileSystem": "yes" }), "oneFileSystem"),
        (json!({ "path": path, "Path": path }), "Path"),
    ] {
        let error = DRIVER.check_config(&config).expect_err(&config.to_string());
        assert_eq!(error.member, member, "{config}: {error}");
    }
    let full = DRIVER.check_config(&json!({ "path": path, "exclude": ["a/"] })).unwrap();
    let expected = json!({ "path": path, "include": [], "exclude": ["a/"],
        "oneFileSystem": true, "allowEmpty": false, "requireMount": false });
    assert_eq!(full, expected);
}

#[test]
fn sources_that_are_not_there_are_refused() {
    let trees = Trees::new();
    let missing = trees.fresh("missing");
    let error = refused(json!({ "path": missing }));
    assert!(matches!(error, DriverError::SourceMissing { .. }), "{error}");

    let file = trees.fresh("file");
    fs::write(&file, b"x").unwrap();
    let error = refused(json!({ "path": file }));
    assert!(matches!(error, DriverError::SourceMissing { .. }), "{error}");

    let empty = trees.source();
    let error = refused(json!({ "path": empty }));
    assert!(matches!(error, DriverError::SourceEmpty { .. }), "{error}");
    let (tree, _) = capture(&*DRIVER, &resource_with(json!({ "path": empty, "allowEmpty": true })));
    assert_eq!(paths(&tree), [""]);

    fs::write(empty.join("x"), b"x").unwrap();
    let error = refused(json!({ "path": empty, "requireMount": true }));
    assert!(error.to_string().contains("should be a mount point"), "{error}");
    let error = refused(json!({ "path": empty, "include": ["y"] }));
    assert!(error.to_string().contains("let through"), "{error}");
}

#[test]
fn mount_points_are_recognised_and_not_crossed() {
    // /proc is mounted wherever the driver can run, and lies on another file system than /.
    let required = json!({ "path": "/proc", "requireMount": true });
    let opened = DRIVER.capture(&resource_with(required), &CancelFlag::new());
    assert!(opened.is_ok(), "{:?}", opened.err());

    let config = json!({ "path": "/", "include": ["proc"] });
    let mut sink = MemorySink::new();
    let never = CancelFlag::new();
    // Only /proc is wanted, but the way there is walked: leave out what is large.
    let mut config = config;
    let names = fs::read_dir("/").unwrap().map(|e| e.unwrap().file_name());
    let others: Vec<_> =
        names.filter_map(|n| n.into_string().ok()).filter(|n| n != "proc").collect();
    config["exclude"] = json!(others);
    config["allowEmpty"] = true.into();
    let report = capture_into(&*DRIVER, &resource_with(config), &mut sink, &never).unwrap();
    assert_eq!(paths(&sink.into_source()), ["", "proc"]);
    assert!(report.notes[0].starts_with("proc: is another file system"), "{:?}", report.notes);
}

#[test]
fn globs_choose_what_is_kept() {
    let trees = Trees::new();
    let root = trees.source();
    for dir in ["a/b", "a/cache/x", "c", "logs"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for file in ["a/b/1.txt", "a/b/2.tmp", "a/cache/x/3.txt", "c/4.txt", "top.tmp", "logs/l.log"] {
        fs::write(root.join(file), b"x").unwrap();
    }
    let kept = |include: &[&str], exclude: &[&str]| {
        let config = json!({ "path": root, "include": include, "exclude": exclude });
        let (tree, report) = capture(&*DRIVER, &resource_with(config));
        assert!(report.skipped.is_empty());
        paths(&tree)
    };
    assert_eq!(
        kept(&[], &["*.tmp", "**/cache", "logs/**"]),
        ["", "a", "a/b", "a/b/1.txt", "a/b/2.tmp", "c", "c/4.txt", "logs"]
    );
    assert_eq!(
        kept(&["**/*.txt"], &["c/"]),
        ["", "a", "a/b", "a/b/1.txt", "a/cache", "a/cache/x", "a/cache/x/3.txt"]
    );
    assert_eq!(kept(&["a/cache"], &[]), ["", "a", "a/cache", "a/cache/x", "a/cache/x/3.txt"]);
    assert_eq!(kept(&["{c,logs}"], &["**/*.log"]), ["", "c", "c/4.txt", "logs"]);
}

#[test]
fn five_thousand_files_and_progress() {
    let trees = Trees::new();
    let root = trees.source();
    for i in 0..5000 {
        let dir = root.join(format!("{}", i % 50));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("{i}")), i.to_string()).unwrap();
    }
    let told = Mutex::new(Vec::new());
    let tell = |done, expected| told.lock().unwrap().push((done, expected));
    let cancel = CancelFlag::new();
    let context = WorkContext { cancel: &cancel, progress: &tell };
    let mut sink = MemorySink::new();
    let opened = DRIVER.capture(&resource(&root), &cancel).unwrap();
    let report = opened.read_into(&mut sink, &context).unwrap();
    assert_eq!(report.files, 5000);
    assert_eq!(told.lock().unwrap().last(), Some(&(report.bytes, Some(report.bytes))));

    let target = trees.fresh("target");
    let tree = sink.into_source();
    let request = common::request(&target);
    let result =
        provault_driver::conformance::restore(&*DRIVER, &request, &tree, &CancelFlag::new());
    assert_eq!(result.unwrap().files, 5000);
    assert_eq!(common::differences(&root, &target), [""; 0]);
}

/// Dropped also when a check panics, or the thread that changes things would never end.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `change` over and over in a thread while `n` captures are taken.
fn while_changing(
    root: &Path,
    n: u32,
    change: impl Fn(u32) + Send + Sync,
    mut check: impl FnMut(MemorySource, provault_driver::CaptureReport),
) {
    let stop = AtomicBool::new(false);
    let rounds = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                change(rounds.fetch_add(1, Ordering::Relaxed));
            }
        });
        let _stop = Stop(&stop);
        for _ in 0..n {
            let (tree, report) = capture(&*DRIVER, &resource(root));
            check(tree, report);
        }
    });
    assert!(rounds.load(Ordering::Relaxed) > 0);
}

#[test]
fn files_that_grow_shrink_and_are_replaced_are_whole_or_listed() {
    let trees = Trees::new();
    let root = trees.source();
    fs::write(root.join("still"), b"still").unwrap();
    let file = root.join("moving");
    let other = trees.fresh("other");
    let change = |round: u32| {
        // Every state of the file is one letter repeated.
        let length = [10, 300_000, 0, 1_000_000][round as usize % 4];
        let letter = b'a' + (round % 26) as u8;
        fs::write(&other, vec![letter; length]).unwrap();
        if round.is_multiple_of(3) {
            fs::rename(&other, &file).unwrap();
        } else if round % 3 == 1 {
            let mut content = fs::read(&file).unwrap_or_default();
            content.extend_from_slice(b"more");
            fs::write(&file, content).unwrap();
        } else {
            let _ = fs::remove_file(&file);
        }
    };
    let mut seen = 0;
    // The sink itself refuses a file whose size is not what was announced.
    while_changing(&root, 150, change, |tree, report| {
        assert!(tree.get(b"still").is_some());
        let there = tree.get(b"moving").is_some();
        let skipped = report.skipped.iter().any(|s| s.path == "moving");
        assert!(!(there && skipped), "{report:?}");
        seen += u32::from(there);
    });
    assert!(seen > 0, "the file was never in a capture");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_read_again() {
    // The sink changes the file in the middle of the first reading: deterministic.
    struct Meddling<'a> {
        inner: MemorySink,
        times: u32,
        change: &'a dyn Fn(u32),
    }
    impl provault_driver::Sink for Meddling<'_> {
        fn begin_dir(
            &mut self,
            n: &[u8],
            m: &provault_driver::Metadata,
        ) -> Result<(), provault_driver::SinkError> {
            self.inner.begin_dir(n, m)
        }
        fn end_dir(&mut self) -> Result<(), provault_driver::SinkError> {
            self.inner.end_dir()
        }
        fn add_node(
            &mut self,
            n: &[u8],
            m: &provault_driver::Metadata,
            k: &NodeKind,
        ) -> Result<(), provault_driver::SinkError> {
            self.inner.add_node(n, m, k)
        }
        fn add_file(
            &mut self,
            name: &[u8],
            metadata: &provault_driver::Metadata,
            open: &mut dyn FnMut() -> std::io::Result<Box<dyn std::io::Read + Send>>,
        ) -> Result<provault_driver::FileOutcome, provault_driver::SinkError> {
            let (change, times) = (self.change, &mut self.times);
            self.inner.add_file(name, metadata, &mut || {
                let reader = open()?;
                *times += 1;
                change(*times);
                Ok(reader)
            })
        }
    }
    let trees = Trees::new();
    let root = trees.source();
    let file = root.join("f");
    let run = |change: &dyn Fn(u32)| {
        fs::write(&file, vec![b'x'; 100_000]).unwrap();
        let mut sink = Meddling { inner: MemorySink::new(), times: 0, change };
        let never = CancelFlag::new();
        let report = capture_into(&*DRIVER, &resource(&root), &mut sink, &never).unwrap();
        (sink.inner.into_source(), report, sink.times)
    };
    // Changed once: the second reading counts, and nothing is to be noted.
    let (tree, report, times) = run(&|n| {
        if n == 1 {
            fs::write(&file, b"new").unwrap();
        }
    });
    assert_eq!((tree.get(b"f").unwrap().1, times), (&b"new"[..], 2));
    assert_eq!((report.notes.len(), report.skipped.len(), report.bytes), (0, 0, 3));

    // Growing all the time: kept as long as it was announced, and noted.
    let (tree, report, times) = run(&|n| {
        let length = 100_000 + n as usize;
        fs::write(&file, vec![b'x'; length]).unwrap();
    });
    assert_eq!((tree.get(b"f").unwrap().1.len(), times), (100_002, 3));
    assert!(report.notes[0].starts_with("f: changed while it was read"), "{:?}", report.notes);

    // Shrinking all the time: no reading is whole, so it is listed.
    let (tree, report, _) = run(&|n| {
        fs::write(&file, vec![b'x'; 1000 - n as usize]).unwrap();
    });
    assert!(tree.get(b"f").is_none());
    assert_eq!(report.skipped[0].path, "f");

    // Removed: no longer part of the source, so a note and no more.
    let (tree, report, _) = run(&|n| {
        if n == 1 {
            fs::write(&file, b"").unwrap();
            fs::remove_file(&file).unwrap();
        }
    });
    assert!(tree.get(b"f").is_none() && report.skipped.is_empty());
    assert!(report.notes[0].starts_with("f: vanished"), "{:?}", report.notes);
}

#[test]
fn a_directory_swapped_for_a_link_does_not_lead_out() {
    let trees = Trees::new();
    let root = trees.source();
    let outside = trees.source();
    fs::write(outside.join("secret"), b"secret").unwrap();
    fs::write(root.join("plain"), b"plain").unwrap();
    let (dir, aside) = (root.join("dir"), trees.fresh("aside"));
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("inside"), b"inside").unwrap();
    let flip = |_| {
        fs::rename(&dir, &aside).unwrap();
        symlink(&outside, &dir).unwrap();
        thread::yield_now();
        fs::remove_file(&dir).unwrap();
        fs::rename(&aside, &dir).unwrap();
    };
    let (mut links, mut dirs) = (0, 0);
    while_changing(&root, 2000, flip, |tree, _| {
        assert!(tree.get(b"dir/secret").is_none(), "the walk was led outside");
        match tree.get(b"dir").map(|(entry, _)| &entry.kind) {
            Some(NodeKind::Symlink { .. }) => links += 1,
            Some(NodeKind::Directory) => dirs += 1,
            _ => {}
        }
    });
    assert!(links > 0 && dirs > 0, "the swap was never seen: {links} links, {dirs} directories");
}

#[test]
fn deep_trees_are_listed_beyond_the_limit() {
    let trees = Trees::new();
    let root = trees.source();
    let mut dir = fs::File::open(&root).unwrap();
    for _ in 0..600 {
        nix::sys::stat::mkdirat(&dir, "d", nix::sys::stat::Mode::S_IRWXU).unwrap();
        let flags = nix::fcntl::OFlag::O_DIRECTORY;
        let next = nix::fcntl::openat(&dir, "d", flags, nix::sys::stat::Mode::empty()).unwrap();
        dir = next.into();
    }
    let (tree, report) = capture(&*DRIVER, &resource(&root));
    assert_eq!(tree.list().len(), 513);
    assert_eq!(report.skipped.len(), 1);
    assert!(report.skipped[0].reason.contains("deeper than 512"), "{:?}", report.skipped);
    let target = trees.fresh("target");
    let request = common::request(&target);
    let result =
        provault_driver::conformance::restore(&*DRIVER, &request, &tree, &CancelFlag::new());
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn what_an_unprivileged_user_cannot_read_is_listed() {
    let trees = Trees::new();
    let root = trees.source();
    fs::write(root.join("open"), b"open").unwrap();
    fs::write(root.join("closed"), b"closed").unwrap();
    fs::create_dir(root.join("shut")).unwrap();
    fs::write(root.join("shut/inside"), b"x").unwrap();
    fs::create_dir(root.join("listable")).unwrap();
    fs::write(root.join("listable/inside"), b"x").unwrap();
    mode(&root.join("closed"), 0o000);
    mode(&root.join("shut"), 0o000);
    mode(&root.join("listable"), 0o444);
    mode(trees.dir.path(), 0o755);
    // nextest gives every test its own process, so nobody else loses the rights of root.
    if nix::unistd::geteuid().is_root() {
        nix::unistd::setegid(nix::unistd::Gid::from_raw(65_534)).unwrap();
        nix::unistd::seteuid(nix::unistd::Uid::from_raw(65_534)).unwrap();
    }
    let (tree, report) = capture(&*DRIVER, &resource(&root));
    nix::unistd::seteuid(nix::unistd::getuid()).unwrap();
    assert_eq!(paths(&tree), ["", "listable", "open"]);
    let skipped: Vec<_> = report.skipped.iter().map(|s| s.path.as_str()).collect();
    assert_eq!(skipped, ["closed", "listable/inside", "shut"]);
    assert!(report.skipped.iter().all(|s| s.reason.contains("Permission denied")));
    for name in ["closed", "shut", "listable"] {
        mode(&root.join(name), 0o755);
    }
}

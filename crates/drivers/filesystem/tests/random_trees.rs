//! Trees made at random, captured and restored, compared without the driver.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use common::{Trees, counted, differences, mode, request, resource_with};
use proptest::prelude::*;
use provault_driver::conformance::{capture, next_job, restore};
use provault_driver::{CancelFlag, Driver, DriverError, PreviewFate, RestoreRequest, WorkContext};
use provault_driver_filesystem::FilesystemDriver;

#[derive(Debug, Clone)]
enum Node {
    Dir { mode: u32, below: Vec<(Vec<u8>, Node)> },
    File { mode: u32, content: Vec<u8>, mtime: i64 },
    Sparse { pieces: Vec<(u32, Vec<u8>)>, tail: u32 },
    Link { target: Vec<u8> },
    Again { of: usize },
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("a name's bytes", |b| *b != 0 && *b != b'/');
    prop::collection::vec(byte, 1..20).prop_filter("not a name", |n| n != b"." && n != b"..")
}

fn leaf() -> impl Strategy<Value = Node> {
    let content = prop::collection::vec(any::<u8>(), 0..5000);
    let piece = (0..200_000_u32, prop::collection::vec(any::<u8>(), 1..3000));
    prop_oneof![
        (0..0o10000_u32, content, -1_000_000_000..4_000_000_000_i64)
            .prop_map(|(mode, content, mtime)| Node::File { mode, content, mtime }),
        (prop::collection::vec(piece, 0..4), 0..100_000_u32)
            .prop_map(|(pieces, tail)| Node::Sparse { pieces, tail }),
        prop::collection::vec(1..=255_u8, 1..60).prop_map(|target| Node::Link { target }),
        any::<usize>().prop_map(|of| Node::Again { of }),
    ]
}

fn tree() -> impl Strategy<Value = Vec<(Vec<u8>, Node)>> {
    let node = leaf().prop_recursive(4, 40, 8, |inner| {
        (0..0o10000_u32, prop::collection::vec((name(), inner), 0..8))
            .prop_map(|(mode, below)| Node::Dir { mode, below })
    });
    prop::collection::vec((name(), node), 1..8)
}

fn build(dir: &Path, nodes: &[(Vec<u8>, Node)], files: &mut Vec<PathBuf>) {
    use std::os::unix::fs::FileExt;
    for (name, node) in nodes {
        let path = dir.join(OsStr::from_bytes(name));
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match node {
            Node::Dir { mode: bits, below } => {
                fs::create_dir(&path).unwrap();
                build(&path, below, files);
                mode(&path, *bits);
            }
            Node::File { mode: bits, content, mtime } => {
                fs::write(&path, content).unwrap();
                let at = std::time::UNIX_EPOCH;
                let span = std::time::Duration::new(mtime.unsigned_abs(), 17);
                let time = if *mtime < 0 { at - span } else { at + span };
                fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
                mode(&path, *bits);
                files.push(path);
            }
            Node::Sparse { pieces, tail } => {
                let file = fs::File::create(&path).unwrap();
                let mut at = 0;
                for (gap, piece) in pieces {
                    at += u64::from(*gap);
                    file.write_all_at(piece, at).unwrap();
                    at += piece.len() as u64;
                }
                file.set_len(at + u64::from(*tail)).unwrap();
                files.push(path);
            }
            Node::Link { target } => {
                std::os::unix::fs::symlink(OsStr::from_bytes(target), &path).unwrap();
            }
            Node::Again { of } => {
                if !files.is_empty() {
                    fs::hard_link(&files[of % files.len()], &path).unwrap();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_random_tree_comes_back(nodes in tree()) {
        let trees = Trees::new();
        let root = trees.source();
        build(&root, &nodes, &mut Vec::new());
        let config = serde_json::json!({ "path": root, "allowEmpty": true });
        let driver = FilesystemDriver::new();
        let (tree, report) = capture(&driver, &resource_with(config));
        prop_assert!(report.skipped.is_empty() && report.notes.is_empty(), "{:?}", report);
        let target = trees.fresh("target");
        let result = restore(&driver, &request(&target), &tree, &CancelFlag::new());
        prop_assert!(result.is_ok(), "{:?}", result);
        prop_assert_eq!((report.files, report.bytes), counted(&root));
        let outcome = result.unwrap();
        prop_assert_eq!((outcome.files, outcome.bytes), counted(&root));
        prop_assert_eq!(differences(&root, &target), Vec::<String>::new());
    }
}

/// Something done to what was backed up.
#[derive(Debug, Clone, Copy)]
enum Meddling {
    Leave,
    Remove,
    Older,
    Newer,
    Other,
    Directory,
    Nothing,
}

fn meddling() -> impl Strategy<Value = Meddling> {
    use Meddling as M;
    prop_oneof![
        Just(M::Leave),
        Just(M::Remove),
        Just(M::Older),
        Just(M::Newer),
        Just(M::Other),
        Just(M::Directory),
        Just(M::Nothing),
    ]
}

/// Everything below a directory that is no directory itself, and every directory without anything in it.
fn leaves(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    for path in names {
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() && fs::read_dir(&path).unwrap().next().is_some() {
            leaves(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn meddle(root: &Path, how: &[Meddling]) {
    use std::time::{Duration, SystemTime};
    let mut found = Vec::new();
    leaves(root, &mut found);
    let remove = |path: &Path| {
        if fs::symlink_metadata(path).unwrap().is_dir() {
            fs::remove_dir(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    };
    for (path, how) in found.iter().zip(how.iter().cycle()) {
        let write = |path: &Path, seconds| {
            remove(path);
            fs::write(path, b"somebody was here").unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        };
        match how {
            Meddling::Leave | Meddling::Nothing => {}
            Meddling::Remove => remove(path),
            Meddling::Older => write(path, 1),
            Meddling::Newer => write(path, 5_000_000_000),
            Meddling::Other => {
                remove(path);
                std::os::unix::fs::symlink("somewhere", path).unwrap();
            }
            Meddling::Directory => {
                remove(path);
                fs::create_dir(path).unwrap();
                fs::write(path.join("inside"), b"inside").unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_preview_says_what_the_restore_then_does(
        nodes in tree(),
        extra in tree(),
        how in prop::collection::vec(meddling(), 1..12),
        mode in 0..5_usize,
    ) {
        // Who is not root cannot look into what he locked himself out of.
        prop_assume!(nix::unistd::geteuid().is_root());
        let trees = Trees::new();
        let root = trees.source();
        build(&root, &nodes, &mut Vec::new());
        let config = serde_json::json!({ "path": root, "allowEmpty": true });
        let driver = FilesystemDriver::new();
        let (tree, _) = capture(&driver, &resource_with(config));
        let target = trees.fresh("target");
        restore(&driver, &request(&target), &tree, &CancelFlag::new()).unwrap();
        meddle(&target, &how);
        build(&target, &extra, &mut Vec::new());

        let name = ["never", "if-older", "if-changed", "always", "always"][mode];
        let mut asked = request(&target);
        asked.insert("newFileSystem".to_owned(), "false".to_owned());
        asked.insert("overwrite".to_owned(), name.to_owned());
        let exact = mode == 4;
        if exact {
            asked.insert("deleteExtra".to_owned(), "true".to_owned());
        }
        let look = |root: &Path| {
            let mut seen = common::look(root);
            // Looking renews the times of access.
            for one in seen.values_mut() {
                one.atime = (0, 0);
            }
            seen
        };
        let before = look(&target);
        let context = WorkContext { cancel: &CancelFlag::new(), progress: &|_, _| {} };
        let job = next_job();
        let shown = driver
            .preview(&RestoreRequest::new(&job, &asked), &tree, &context)
            .unwrap();
        prop_assert_eq!(&before, &look(&target), "the preview wrote");
        let result = restore(&driver, &asked, &tree, &CancelFlag::new());
        if shown.counts.conflicts.entries > 0 {
            prop_assert!(matches!(result, Err(DriverError::Conflict { .. })), "{:?}", result);
            prop_assert_eq!(&before, &look(&target), "a refused restore wrote");
            return Ok(());
        }
        prop_assert!(result.is_ok(), "{:?}", result);
        prop_assert_eq!(result.unwrap().in_place, Some(shown.counts));
        let after = look(&target);
        let at = |path: &str| PathBuf::from(path);
        for change in &shown.changes {
            // Names that are not UTF-8 are shown in another way.
            let Some(new) = after.get(&at(&change.path)) else { continue };
            let Some(old) = before.get(&at(&change.path)) else { continue };
            match change.fate {
                PreviewFate::KeepNewer | PreviewFate::Keep => {
                    prop_assert_eq!(&old.content, &new.content, "{:?}", change);
                }
                PreviewFate::Update => prop_assert_eq!(&old.content, &new.content, "{:?}", change),
                _ => {}
            }
        }
        if exact {
            prop_assert_eq!(differences(&root, &target), Vec::<String>::new());
        }
    }
}

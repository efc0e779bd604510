//! Trees made at random, captured and restored, compared without the driver.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use common::{Trees, counted, differences, mode, request, resource_with};
use proptest::prelude::*;
use provault_driver::CancelFlag;
use provault_driver::conformance::{capture, restore};
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

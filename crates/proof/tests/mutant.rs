//! What mutants do to a copy, and what they must leave alone.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use provault_domain::verdict::ProbeResult;
use provault_proof::{Mutant, MutantChange, ProofError, judge};
use tempfile::TempDir;

/// Sizes of the regular files of a copy by name.
fn sizes(root: &Path) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            if found.is_dir() {
                open.push(path);
            } else if found.is_file() {
                let name = path.strip_prefix(root).unwrap().display().to_string();
                sizes.insert(name, found.len());
            }
        }
    }
    sizes
}

/// A copy with links out of it and locked places in it.
fn copy() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("copy");
    let outside = dir.path().join("outside");
    fs::create_dir_all(root.join("data/locked")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "precious").unwrap();
    symlink(&outside, root.join("link-to-dir")).unwrap();
    symlink(outside.join("precious"), root.join("data/link-to-file")).unwrap();
    fs::write(root.join("program"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
    for n in 0..9 {
        fs::write(root.join(format!("data/{n}")), "x".repeat(n)).unwrap();
    }
    fs::write(root.join("data/locked/file"), "12345").unwrap();
    fs::set_permissions(root.join("data/locked/file"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(root.join("data/locked"), fs::Permissions::from_mode(0o555)).unwrap();
    dir
}

#[test]
fn each_breaks_what_it_says_and_nothing_else() {
    for mutant in Mutant::ALL {
        let dir = copy();
        let root = dir.path().join("copy");
        let before = sizes(&root);
        let change = mutant.apply(&root, 1).unwrap();
        let after = sizes(&root);
        let precious = fs::read_to_string(dir.path().join("outside/precious")).unwrap();
        assert_eq!(precious, "precious", "{mutant:?} left the copy");
        assert_eq!(before.len(), 11);
        match mutant {
            Mutant::EverythingEmptied => {
                assert_eq!(after.len(), 11);
                assert!(after.values().all(|size| *size == 0));
                assert_eq!(change.changed, 10, "one was empty before");
                let mode = fs::metadata(root.join("data/locked/file")).unwrap().mode();
                assert_eq!(mode & 0o7777, 0o400);
                let mode = fs::metadata(root.join("program")).unwrap().mode();
                assert_eq!(mode & 0o7777, 0o755);
            }
            Mutant::EverythingGone => {
                assert_eq!(fs::read_dir(&root).unwrap().count(), 0, "the root stays, empty");
                assert_eq!(change.changed, 11 + 2 + 2);
            }
            Mutant::DataEmptied => {
                assert_eq!(after["program"], 10);
                assert_eq!(after.values().sum::<u64>(), 10);
            }
            Mutant::HalfTheFilesRemoved => {
                assert_eq!((after.len(), change.changed), (5, 6));
                assert!(after.iter().all(|(name, size)| before[name] == *size));
                let again = copy();
                mutant.apply(&again.path().join("copy"), 1).unwrap();
                assert_eq!(
                    sizes(&again.path().join("copy")),
                    after,
                    "the same seed, the same half"
                );
                let other = copy();
                mutant.apply(&other.path().join("copy"), 2).unwrap();
                assert_ne!(sizes(&other.path().join("copy")), after);
            }
            Mutant::FilesTruncated => {
                assert!(after.iter().all(|(name, size)| *size == before[name] / 2));
            }
        }
    }
    support::again_as_nobody("each_breaks_what_it_says_and_nothing_else");
}

#[test]
fn a_root_that_is_a_link_is_refused() {
    for mutant in Mutant::ALL {
        let dir = copy();
        let link = dir.path().join("link");
        symlink(dir.path().join("outside"), &link).unwrap();
        assert!(mutant.apply(&link, 1).is_err());
        assert!(dir.path().join("outside/precious").exists());
    }
}

#[test]
fn three_are_required() {
    let required: Vec<&str> =
        Mutant::ALL.into_iter().filter(|m| m.required()).map(Mutant::name).collect();
    assert_eq!(required, ["data-emptied", "everything-emptied", "everything-gone"]);
}

#[test]
fn only_a_failed_answer_kills() {
    let answer = |passed| ProbeResult {
        label: "files".to_owned(),
        passed,
        detail: "as seen".to_owned(),
        http_status: None,
        millis: 1,
        output: None,
    };
    assert_eq!(judge(&[]), None);
    assert_eq!(judge(&[answer(true), answer(true)]), Some(false));
    assert_eq!(judge(&[answer(true), answer(false)]), Some(true));
    let some = MutantChange { changed: 1 };
    let none = MutantChange { changed: 0 };
    let failed = [answer(false)];
    let mutant = Mutant::EverythingGone;
    assert_eq!(mutant.result(some, Ok(&failed)).killed, Some(true));
    assert_eq!(mutant.result(some, Ok(&[answer(true)])).killed, Some(false));
    assert_eq!(mutant.result(none, Ok(&failed)).killed, None, "it was not broken");
    let host = ProofError::Helper("it died".to_owned());
    assert_eq!(mutant.result(some, Err(&host)).killed, None);
}

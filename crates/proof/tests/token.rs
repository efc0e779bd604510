//! Only what bears its own mark is ever deleted.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use provault_proof::token::MARKER;
use provault_proof::{Mutant, ReapError, TestArea, leftovers, reap};

#[test]
fn the_mark_is_there_before_anything_else_and_goes_last() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("restore-tests");
    assert_eq!(leftovers(&root).unwrap(), Vec::<String>::new());
    let area = TestArea::create(&root, "token-1").unwrap();
    assert_eq!(fs::read_dir(area.path()).unwrap().count(), 1);
    assert_eq!(fs::metadata(area.path()).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!area.copy_dir().exists(), "a restore wants a target that is not there");
    assert!(matches!(TestArea::create(&root, "token-1"), Err(ReapError::Exists(_))));
    assert_eq!(TestArea::open(&root, "token-1").unwrap(), area);
    assert_eq!(leftovers(&root).unwrap(), ["token-1"]);
    reap(&root, "token-1").unwrap();
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    reap(&root, "token-1").unwrap();
}

#[test]
fn everything_in_an_area_goes_and_nothing_that_it_points_to() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "").unwrap();
    let area = TestArea::create(&root, "t").unwrap();
    let other = TestArea::create(&root, "other").unwrap();
    let copy = area.copy_dir();
    fs::create_dir_all(copy.join("locked/deep")).unwrap();
    fs::write(copy.join("locked/deep/file"), "").unwrap();
    symlink(&outside, copy.join("link")).unwrap();
    symlink("/does/not/exist", copy.join("locked/dangling")).unwrap();
    fs::set_permissions(copy.join("locked/deep"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(copy.join("locked"), fs::Permissions::from_mode(0o500)).unwrap();
    fs::create_dir(area.mutant_dir(Mutant::EverythingGone)).unwrap();
    area.discard(&area.mutant_dir(Mutant::EverythingGone)).unwrap();
    area.discard(&area.mutant_dir(Mutant::EverythingGone)).unwrap();
    assert!(!area.mutant_dir(Mutant::EverythingGone).exists());
    assert!(area.discard(&outside).is_err());
    assert!(area.discard(other.path()).is_err());
    reap(&root, "t").unwrap();
    assert!(!area.path().exists());
    assert!(outside.join("precious").exists() && other.path().join(MARKER).exists());
    support::again_as_nobody("everything_in_an_area_goes_and_nothing_that_it_points_to");
}

#[test]
fn what_bears_no_mark_or_another_is_never_touched() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let real = TestArea::create(root, "real").unwrap();
    // An operator's own restore, in the wrong place.
    fs::create_dir(root.join("operator")).unwrap();
    fs::write(root.join("operator/data"), "precious").unwrap();
    // The mark of another test, copied along.
    fs::create_dir(root.join("foreign")).unwrap();
    fs::copy(real.path().join(MARKER), root.join("foreign").join(MARKER)).unwrap();
    // A mark that is a link to a real one, and one that is a pipe that would block a reader.
    fs::create_dir(root.join("linked")).unwrap();
    symlink(real.path().join(MARKER), root.join("linked").join(MARKER)).unwrap();
    fs::create_dir(root.join("pipe")).unwrap();
    assert!(Command::new("mkfifo").arg(root.join("pipe").join(MARKER)).status().unwrap().success());
    fs::create_dir(root.join("garbage")).unwrap();
    fs::write(root.join("garbage").join(MARKER), "not json").unwrap();
    // The area itself behind a link; a plain file; an empty directory.
    symlink(real.path(), root.join("alias")).unwrap();
    fs::write(root.join("file"), "").unwrap();
    fs::create_dir(root.join("empty")).unwrap();

    assert_eq!(leftovers(root).unwrap(), ["real"]);
    for token in ["operator", "foreign", "linked", "pipe", "garbage", "alias", "file", "empty"] {
        let error = reap(root, token).unwrap_err();
        assert!(matches!(error, ReapError::NotMarked { .. }), "{token}: {error}");
        assert!(fs::symlink_metadata(root.join(token)).is_ok());
        assert!(TestArea::open(root, token).is_err());
    }
    assert_eq!(fs::read_to_string(root.join("operator/data")).unwrap(), "precious");
    assert!(real.path().join(MARKER).exists());
}

#[test]
fn a_token_is_no_path() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    TestArea::create(dir.path(), "victim").unwrap();
    for token in ["", ".", "..", "../victim", "a/b", "/victim", "a b", &"x".repeat(65)] {
        assert!(matches!(reap(&root, token), Err(ReapError::BadToken(_))), "{token}");
        assert!(matches!(TestArea::create(&root, token), Err(ReapError::BadToken(_))));
    }
    assert!(dir.path().join("victim").exists());
}

/// A file that nobody may remove: the error names it, the mark stays for the next sweep.
#[test]
fn what_cannot_be_removed_is_named_and_found_again() {
    // Memory file systems know no immutable files.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let area = TestArea::create(dir.path(), "t").unwrap();
    let file = area.path().join("immutable");
    fs::write(&file, "").unwrap();
    let chattr = |flag: &str, path: &Path| {
        let status = Command::new("chattr").arg(flag).arg(path).status();
        assert!(
            status.expect("chattr of e2fsprogs").success(),
            "chattr {flag} needs ext4 and root"
        );
    };
    chattr("+i", &file);
    let error = reap(dir.path(), "t").unwrap_err();
    let found = leftovers(dir.path()).unwrap();
    chattr("-i", &file);
    assert!(matches!(error, ReapError::Stuck(_)));
    assert!(error.to_string().contains("immutable"), "{error}");
    assert_eq!(found, ["t"]);
    reap(dir.path(), "t").unwrap();
}

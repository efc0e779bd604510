//! How much room there is.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;

use provault_proof::{ProofError, free_bytes, room};

#[test]
fn a_directory_to_come_has_the_room_of_the_one_above() {
    let dir = tempfile::TempDir::new().unwrap();
    // Never all of it, and read at about the same time: others write meanwhile.
    let about = |a: u64, b: u64| a.abs_diff(b) <= (1 << 30);
    let free = free_bytes(dir.path()).unwrap();
    let found = nix::sys::statvfs::statvfs(dir.path()).unwrap();
    assert!(about(free, found.blocks_available() * found.fragment_size()), "{free}");
    assert!(about(free, free_bytes(&dir.path().join("to/come")).unwrap()));
    let whole = room(dir.path()).unwrap();
    assert_eq!(whole.total, found.blocks() * found.fragment_size());
    assert!(whole.free <= whole.total);
    let here = free_bytes(Path::new(".")).unwrap();
    assert!(about(here, free_bytes(Path::new("no-such-directory/to/come")).unwrap()));
}

#[test]
fn a_file_system_without_room_has_none() {
    assert_eq!(free_bytes(Path::new("/proc")).unwrap(), 0);
}

#[test]
fn a_place_that_cannot_be_is_an_error() {
    let dir = tempfile::TempDir::new().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let error = free_bytes(&dir.path().join("file/below")).unwrap_err();
    assert!(matches!(error, ProofError::Io { .. }), "{error}");
}

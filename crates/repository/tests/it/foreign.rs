//! Repositories of stock restic, and the two programs side by side in one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use provault_repository::{
    CancelFlag, CheckLevel, ObjectStorage, Password, Repository, SnapshotId,
};

use crate::support::{
    Sandbox, assert_same, backup_options, describe, noise, options, restore, small_tree, walk,
};
use crate::tree::odd_names;

fn newest(repository: &Repository) -> SnapshotId {
    repository.snapshots().unwrap().snapshots.last().unwrap().id
}

/// Our reading of what restic wrote, with each form of blobs and files it can write.
fn read_theirs(init: &[&str], backup: &[&str]) {
    let sandbox = Sandbox::new();
    let root = sandbox.source();
    small_tree(&root);
    fs::write(root.join("large"), noise(9, 9_000_000)).unwrap();
    fs::write(root.join("text"), "some text\n".repeat(300_000)).unwrap();
    fs::write(root.join("odd\n\"name\\"), "odd").unwrap();
    fs::hard_link(root.join("text"), root.join("a/text")).unwrap();
    xattr::set(root.join("text"), "user.x", &[0, 255]).unwrap();
    sandbox.restic(init);
    let source = root.to_str().unwrap();
    sandbox.restic(&[backup, &["backup", "--tag", "theirs", source]].concat());

    let repository = sandbox.open();
    let snapshot = repository.find_snapshot_by_tag("theirs").unwrap().unwrap();
    assert_eq!(snapshot.paths, [source]);
    restore(&repository, snapshot.id, source.as_bytes(), &sandbox.path("ours")).unwrap();
    assert_same(&describe(&root), &describe(&sandbox.path("ours")));
    let report = repository.check(CheckLevel::ReadData, &CancelFlag::new()).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
    assert!(report.blobs > 10 && report.bytes_read > 9_000_000);

    // And we write beside it.
    let ours = sandbox.backup(&repository);
    sandbox.assert_clean();
    let theirs = sandbox.restic_restore(ours.id, "theirs");
    assert_same(&describe(&root), &describe(&theirs.join("data")));
}

#[test]
fn version_2_compressed() {
    read_theirs(&["init"], &["--compression", "max"]);
}

#[test]
fn version_2_uncompressed() {
    read_theirs(&["init"], &["--compression", "off"]);
}

#[test]
fn version_1() {
    read_theirs(&["init", "--repository-version", "1"], &[]);
}

/// restic takes our snapshot as a parent, adds to the repository, forgets and prunes; after each
/// step both programs find everything whole.
#[test]
fn both_write_and_restic_prunes() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    let repository = sandbox.init();
    let first = sandbox.backup(&repository);
    fs::write(sandbox.source().join("later"), noise(11, 2_000_000)).unwrap();
    sandbox.restic(&["backup", sandbox.source().to_str().unwrap()]);
    sandbox.assert_clean();
    let theirs = newest(&repository);
    assert_ne!(theirs, first.id);
    let later = describe(&sandbox.source());

    // The same opened repository must notice that index and packs were replaced beneath it.
    sandbox.restic(&["forget", "--prune", &first.id.to_string(), "--max-unused", "0"]);
    sandbox.assert_clean();
    let path = sandbox.source();
    restore(&repository, theirs, path.to_str().unwrap().as_bytes(), &sandbox.path("a")).unwrap();
    assert_same(&later, &describe(&sandbox.path("a")));
    let again = sandbox.backup(&repository);
    sandbox.assert_clean();
    assert_same(&later, &describe(&sandbox.restore(&repository, again.id, "b")));

    // Everything gone: nothing of it may be taken for stored.
    sandbox.restic(&["forget", "--prune", &theirs.to_string(), &again.id.to_string()]);
    let anew = sandbox.backup(&repository);
    assert!(anew.stats.bytes_added > 2_000_000);
    sandbox.assert_clean();
    assert_same(&later, &describe(&sandbox.restore(&repository, anew.id, "c")));
}

#[test]
fn keys_and_passwords() {
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let storage = sandbox.storage();
    let wrong = Repository::open(storage.clone(), &Password::generate(), options());
    assert!(matches!(wrong, Err(provault_repository::Error::WrongPassword { keys: 1 })));
    let again = Repository::init(storage.clone(), &Password::generate(), options());
    assert!(matches!(again, Err(provault_repository::Error::AlreadyInitialised)));
    let second = Password::from_text("correct horse battery staple");
    repository.add_key(&second).unwrap();
    assert_eq!(
        Repository::open(storage, &second, options()).unwrap().config(),
        repository.config()
    );
    sandbox.restic(&["key", "list"]);

    let empty = ObjectStorage::local(&sandbox.path("nothing")).unwrap();
    let none = Repository::open(std::sync::Arc::new(empty), &second, options());
    assert!(matches!(none, Err(provault_repository::Error::NotARepository)));
}

/// Our trees are restic's to the byte: what it has stored of a source, we need not store again.
/// (Files of less than 512 KiB are one chunk for both.)
#[test]
fn trees_are_the_same_to_the_byte() {
    let sandbox = Sandbox::new();
    let root = sandbox.source();
    small_tree(&root);
    odd_names(&root);
    fs::set_permissions(root.join("three"), fs::Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::hard_link(root.join("three"), root.join("four")).unwrap();
    xattr::set(root.join("three"), "user.x", &[0, 255]).unwrap();
    symlink("ünï\n\"quoted\"<>&", root.join("odd link")).unwrap();
    mknod(&root.join("null"), SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 3)).unwrap();
    mknod(&root.join("fifo"), SFlag::S_IFIFO, Mode::S_IRUSR, 0).unwrap();
    sandbox.restic(&["init"]);
    sandbox.restic(&["backup", root.to_str().unwrap()]);

    let repository = sandbox.open();
    let mut writer = repository.backup(backup_options(&root, None)).unwrap();
    walk(&mut writer, &root).unwrap();
    let committed = writer.finish(None).unwrap();
    // The one new tree is the root, where the source stands as `data`.
    assert_eq!((committed.stats.data_blobs, committed.stats.tree_blobs), (0, 1));
    sandbox.assert_clean();
}

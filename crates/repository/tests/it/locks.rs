//! Locks, ours and those of stock restic.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use provault_repository::{CancelFlag, CheckLevel, Error, Options, Repository};

use crate::support::{Sandbox, backup_options, options, small_tree};

fn locks(sandbox: &Sandbox) -> Vec<String> {
    let mut files = sandbox.repository_files();
    files.retain(|name| name.starts_with("locks/"));
    files
}

#[test]
fn one_lock_for_each_job_and_none_after_them() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    let repository = sandbox.init();
    assert!(locks(&sandbox).is_empty());
    let first = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    let lock = locks(&sandbox);
    assert_eq!(lock.len(), 1);
    let reader = repository.reader().unwrap();
    assert_eq!(locks(&sandbox).len(), 2);
    let second = repository.clone().backup(backup_options(&sandbox.source(), None)).unwrap();
    assert_eq!(locks(&sandbox).len(), 3);

    // Stock restic shares them, and refuses to prune.
    sandbox.restic(&["backup", sandbox.source().to_str().unwrap()]);
    let listed = sandbox.restic(&["list", "locks"]);
    assert_eq!(listed.trim().lines().count(), 3, "{listed}");
    assert!(listed.contains(lock[0].strip_prefix("locks/").unwrap()), "{listed}");
    for refused in [&["prune"][..], &["forget", "--keep-last", "1", "--prune"], &["check"]] {
        let (done, text) = sandbox.try_restic(refused);
        assert!(!done && text.contains("locked"), "{refused:?}: {text}");
    }

    drop(first);
    assert_eq!(locks(&sandbox).len(), 2);
    assert!(!locks(&sandbox).contains(&lock[0]));
    drop(reader);
    drop(second);
    assert!(locks(&sandbox).is_empty());
    sandbox.restic(&["prune"]);
    sandbox.assert_clean();
}

/// Stock restic, stopped while it holds an exclusive lock.
fn exclusive_lock(sandbox: &Sandbox) -> std::process::Child {
    let child = Command::new("restic")
        .args(["--no-cache", "rebuild-index", "--read-all-packs", "--repo"])
        .arg(sandbox.path("repo"))
        .env("RESTIC_PASSWORD", sandbox.password.expose())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run restic ({error}): install Debian's `restic`"));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    // Under its final name, not the one it is written under.
    while !locks(sandbox).iter().any(|name| name.len() == "locks/".len() + 64) {
        std::thread::yield_now();
    }
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    child
}

#[test]
fn an_exclusive_lock_of_restic_is_respected_until_its_process_is_gone() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    let repository = sandbox.init();
    let committed = sandbox.backup(&repository);
    let mut child = exclusive_lock(&sandbox);
    let held = locks(&sandbox);

    let holder = match repository.backup(backup_options(&sandbox.source(), None)) {
        Err(Error::Locked { holder }) => holder,
        other => panic!("{:?}", other.map(drop)),
    };
    assert!(holder.contains(&child.id().to_string()), "{holder}");
    assert!(matches!(repository.reader(), Err(Error::Locked { .. })));
    assert!(matches!(repository.forget(&[committed.id]), Err(Error::Locked { .. })));
    let check = repository.check(CheckLevel::Structure, &CancelFlag::new());
    assert!(matches!(check, Err(Error::Locked { .. })));
    assert_eq!(locks(&sandbox), held, "no lock of ours is left behind");

    // Dead on this host: stale at once, as restic sees it too.
    child.kill().unwrap();
    child.wait().unwrap();
    sandbox.backup(&repository);
    assert!(locks(&sandbox).is_empty());
    sandbox.assert_clean();
}

/// The lock file is replaced while a job runs, and there is always one.
#[test]
fn a_lock_is_refreshed() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    sandbox.init();
    let quick = Options { lock_refresh: Duration::from_millis(20), ..options() };
    let repository = Repository::open(sandbox.storage(), &sandbox.password, quick).unwrap();
    let reader = repository.reader().unwrap();
    let first = locks(&sandbox);
    // Listed again and again until another file has taken its place.
    loop {
        let now = locks(&sandbox);
        assert!(!now.is_empty());
        if !now.contains(&first[0]) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(reader);
    assert!(locks(&sandbox).is_empty());
}

#[test]
fn forget_removes_only_what_it_is_told() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    let repository = sandbox.init();
    let first = sandbox.backup(&repository);
    fs::write(sandbox.source().join("x"), "x").unwrap();
    let second = sandbox.backup(&repository);
    // Beside a running backup.
    let writer = repository.backup(backup_options(&sandbox.source(), Some(first.id))).unwrap();
    repository.forget(&[first.id]).unwrap();
    repository.forget(&[first.id]).unwrap();
    drop(writer);
    let left: Vec<_> =
        repository.snapshots().unwrap().snapshots.iter().map(|snapshot| snapshot.id).collect();
    assert_eq!(left, [second.id]);
    assert!(matches!(repository.snapshot(first.id), Err(Error::SnapshotNotFound(_))));
    sandbox.assert_clean();
    sandbox.restic(&["prune"]);
    sandbox.assert_clean();
    sandbox.restore(&repository, second.id, "out");
}

//! Backup, check and restore over a storage that gives trouble: what passes is sat out, what does
//! not is told as what it is, and nothing is damaged or called damaged.

use std::fs;
use std::num::NonZeroU64;
use std::time::Duration;

use nix::errno::Errno;
use provault_repository::{
    CancelFlag, CheckLevel, Error, Options, Repository, Result, StorageOptions, guard_storage,
};

use crate::support::{Sandbox, assert_same, describe, noise, options, restore, small_tree};
use crate::unruly::{Trouble, Unruly};

const SEED: u64 = 2024;

/// Does not wait long, and tries often.
fn impatient() -> StorageOptions {
    StorageOptions {
        timeout: Duration::from_millis(150),
        slowest: NonZeroU64::MAX,
        first_pause: Duration::from_micros(100),
        longest_pause: Duration::from_millis(1),
        ..StorageOptions::default()
    }
}

/// The work goes well, or it is told that the storage is to blame, and what to do.
fn truthful<T>(what: &str, trouble: Trouble, says: &str, result: Result<T>) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(error) => {
            assert!(!error.is_damage(), "{trouble:?}, {what}: {error}");
            assert!(error.to_string().contains(says), "{trouble:?}, {what}: {error}");
            None
        }
    }
}

/// Tries everything under one kind of trouble. `passes` says whether it is of a kind that passes;
/// otherwise its errors say `says`.
fn under(trouble: Trouble, one_in: u64, passes: bool, says: &str) {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    let first = sandbox.backup(&sandbox.init());
    let before = describe(&sandbox.source());
    fs::write(sandbox.source().join("more"), noise(20, 4_500_000)).unwrap();
    fs::write(sandbox.source().join("a/b/two"), "changed").unwrap();
    let after = describe(&sandbox.source());

    let unruly = Unruly::new(sandbox.storage(), trouble, one_in, SEED);
    let storage = guard_storage(unruly.clone(), &impatient());
    let (mut good, mut bad) = (0, 0);
    let mut tally = |worked: bool| if worked { good += 1 } else { bad += 1 };
    for round in 0..4 {
        let opened = Repository::open(storage.clone(), &sandbox.password, options());
        let Some(repository) = truthful("open", trouble, says, opened) else {
            tally(false);
            continue;
        };
        let result = sandbox.backup_with(&repository, Some(first.id));
        let committed = truthful("backup", trouble, says, result);
        tally(committed.is_some());
        if let Some(committed) = &committed {
            // What is said to be committed is there for everybody.
            let out = sandbox.path("committed");
            restore(&sandbox.open(), committed.id, b"data", &out).unwrap();
            assert_same(&after, &describe(&out));
            fs::remove_dir_all(out).unwrap();
        }
        let report = repository.check(CheckLevel::ReadData, &CancelFlag::new());
        let report = truthful("check", trouble, says, report);
        tally(report.is_some());
        if let Some(report) = report {
            assert!(report.is_clean(), "{trouble:?}, round {round}: {:?}", report.problems);
        }
        let out = sandbox.path("out");
        let restored = restore(&repository, first.id, b"data", &out);
        let restored = truthful("restore", trouble, says, restored);
        tally(restored.is_some());
        if restored.is_some() {
            assert_same(&before, &describe(&out));
        }
        let _ = fs::remove_dir_all(out);
    }
    let given = unruly.given();
    println!("{trouble:?}, seed {SEED}: {given} times; {good} went well, {bad} failed");
    assert!(given > 5, "{trouble:?} came {given} times only");
    assert!(if passes { bad == 0 } else { bad > 0 }, "{trouble:?}: {good} went well, {bad} failed");

    // What hung is done now, late. Then everything is as it should be.
    unruly.switch(false);
    unruly.release();
    let repository = Repository::open(storage, &sandbox.password, options()).unwrap();
    let committed = sandbox.backup_with(&repository, Some(first.id)).unwrap();
    let out = sandbox.path("healed");
    restore(&repository, committed.id, b"data", &out).unwrap();
    assert_same(&after, &describe(&out));
    drop(repository);
    // Locks whose deletion was not answered belong to this process, which lives.
    let _ = fs::remove_dir_all(sandbox.path("repo/locks"));
    fs::create_dir_all(sandbox.path("repo/locks")).unwrap();
    sandbox.assert_clean();
}

#[test]
fn errors_of_the_disk() {
    under(Trouble::Errno(Errno::EIO as i32), 12, false, "kernel's log");
    under(Trouble::WriteErrno(Errno::ENOSPC as i32), 4, false, "make room");
    under(Trouble::WriteErrno(Errno::EROFS as i32), 4, false, "read-only");
}

#[test]
fn errors_that_pass() {
    under(Trouble::Errno(Errno::EMFILE as i32), 4, true, "");
    under(Trouble::Busy, 3, true, "");
    under(Trouble::Slow, 2, true, "");
}

#[test]
fn lost_answers_are_made_up_for() {
    under(Trouble::LostAnswer, 3, true, "");
}

#[test]
fn what_hangs_is_left_behind() {
    under(Trouble::Hangs, 15, true, "");
}

#[test]
fn listings_that_lag() {
    under(Trouble::LaggingLists, 1, true, "");
}

/// Too many files for good: the retries end, and the error says what to do.
#[test]
fn retries_end() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    sandbox.init();
    let unruly = Unruly::new(sandbox.storage(), Trouble::Errno(Errno::EMFILE as i32), 1, SEED);
    let options = StorageOptions { retry_for: Duration::from_millis(20), ..impatient() };
    let storage = guard_storage(unruly.clone(), &options);
    let error = Repository::open(storage, &sandbox.password, Options::default()).unwrap_err();
    assert!(matches!(&error, Error::Storage(error) if error.is_transient()), "{error}");
    assert!(error.to_string().contains("ulimit -n"), "{error}");
    assert!(unruly.given() > 1);
}

//! Backup, check and restore over a storage that gives trouble: what passes is sat out, what does
//! not is told as what it is, and nothing is damaged or called damaged.

use std::fs;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::errno::Errno;
use provault_repository::{
    CancelFlag, CheckLevel, Error, Options, Problem, Repository, Storage, StorageError,
    StorageOptions, StoredObject, guard_storage,
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
fn truthful<T>(what: &str, trouble: Trouble, says: &str, result: Result<T, Error>) -> Option<T> {
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
            // What the disk itself cannot read is named, not passed over; all else is no finding.
            let unreadable = matches!(trouble, Trouble::Errno(errno) if errno == Errno::EIO as i32);
            let clean = report.is_clean() || unreadable;
            assert!(clean, "{trouble:?}, round {round}: {:?}", report.problems);
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

/// Reads of what lies in one directory fail with an error of the system.
#[derive(Debug)]
struct Sick {
    inner: Arc<dyn Storage>,
    directory: &'static str,
    errno: Errno,
}

impl Sick {
    fn reads(&self, operation: &'static str, name: &str) -> Result<(), StorageError> {
        if !name.starts_with(self.directory) {
            return Ok(());
        }
        Err(StorageError::io(operation, name, &std::io::Error::from(self.errno)))
    }
}

impl Storage for Sick {
    fn get(&self, name: &str) -> Result<Bytes, StorageError> {
        self.reads("get", name).and_then(|()| self.inner.get(name))
    }
    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        self.reads("get", name).and_then(|()| self.inner.get_range(name, offset, length))
    }
    fn put(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        self.inner.put(name, content)
    }
    fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, StorageError> {
        self.inner.list(prefix)
    }
    fn size(&self, name: &str) -> Result<u64, StorageError> {
        self.inner.size(name)
    }
    fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.inner.delete(name)
    }
}

/// A storage that does not answer in the middle of a check has damaged nothing: no snapshot is
/// called hurt. What a disk cannot read is lost, and named.
#[test]
fn an_outage_is_no_damage_and_a_bad_sector_is() {
    for directory in ["snapshots/", "index/", "data/"] {
        for errno in [Errno::ETIMEDOUT, Errno::EACCES, Errno::EMFILE, Errno::EIO] {
            let sandbox = Sandbox::new();
            small_tree(&sandbox.source());
            let made = sandbox.backup(&sandbox.init());
            let sick = Arc::new(Sick { inner: sandbox.storage(), directory, errno });
            let repository = Repository::open(sick, &sandbox.password, options()).unwrap();
            let checked = repository.check(CheckLevel::ReadData, &CancelFlag::new());
            if errno == Errno::EIO {
                let report = checked.unwrap();
                let names = |problem: &Problem| problem.object.starts_with(directory);
                assert!(report.problems.iter().any(names), "{directory} {:?}", report.problems);
                let hurt = report.hurt.iter().any(|hurt| hurt.snapshot == made.id);
                assert!(hurt, "{directory}: {report:?}");
            } else {
                let error = checked.unwrap_err();
                assert!(matches!(error, Error::Storage(_)), "{directory} {errno}: {error}");
            }
        }
    }
}

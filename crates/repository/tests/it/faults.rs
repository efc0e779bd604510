//! A storage that fails at its n-th operation, for every n; and writers that are dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use provault_repository::{
    CancelFlag, CheckLevel, PruneOptions, Repository, Storage, StorageError, StoredObject,
};

use crate::support::{
    Sandbox, assert_same, backup_options, describe, noise, options, restore, small_tree, walk,
};

/// How the failing operation fails.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// It is not done.
    Before,
    /// It is done, and the answer is lost.
    After,
    /// From then on nothing is done any more, as if the machine had died.
    Death,
}

#[derive(Debug)]
pub struct Faulty {
    pub inner: Arc<dyn Storage>,
    pub fault: Fault,
    pub fails_at: u64,
    pub operations: AtomicU64,
}

impl Faulty {
    fn run<T>(
        &self,
        name: &str,
        operation: impl FnOnce() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let number = self.operations.fetch_add(1, Ordering::SeqCst);
        let failure = || StorageError::other("fail", name, "injected fault");
        match self.fault {
            Fault::Death if number >= self.fails_at => Err(failure()),
            Fault::Before if number == self.fails_at => Err(failure()),
            Fault::After if number == self.fails_at => {
                drop(operation());
                Err(failure())
            }
            _ => operation(),
        }
    }
}

impl Storage for Faulty {
    fn get(&self, name: &str) -> Result<Bytes, StorageError> {
        self.run(name, || self.inner.get(name))
    }
    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        self.run(name, || self.inner.get_range(name, offset, length))
    }
    fn put(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        self.run(name, || self.inner.put(name, content))
    }
    fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, StorageError> {
        self.run(prefix, || self.inner.list(prefix))
    }
    fn size(&self, name: &str) -> Result<u64, StorageError> {
        self.run(name, || self.inner.size(name))
    }
    fn delete(&self, name: &str) -> Result<(), StorageError> {
        self.run(name, || self.inner.delete(name))
    }
}

/// Copies a repository, so that each fault meets the same state.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// After a second backup fails at its n-th operation: the repository opens, is clean, both
/// snapshots that are there restore, and the same job succeeds when it is tried again.
fn backup_under(fault: Fault) {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    let first = sandbox.backup(&sandbox.init());
    let before = describe(&sandbox.source());
    fs::rename(sandbox.path("repo"), sandbox.path("original")).unwrap();
    fs::write(sandbox.source().join("more"), noise(20, 2_500_000)).unwrap();
    fs::write(sandbox.source().join("a/b/two"), "changed").unwrap();
    let after = describe(&sandbox.source());

    let (mut failures, mut lost_answers) = (0, 0);
    for fails_at in 0.. {
        copy(&sandbox.path("original"), &sandbox.path("repo"));
        let operations = AtomicU64::new(0);
        let storage = Arc::new(Faulty { inner: sandbox.storage(), fault, fails_at, operations });
        let opened = Repository::open(storage.clone(), &sandbox.password, options());
        let result = opened.and_then(|repository| {
            let result = sandbox.backup_with(&repository, Some(first.id));
            if fault == Fault::Before && result.is_err() {
                // The same process tries again, on what it remembers.
                let again = sandbox.backup_with(&repository, Some(first.id)).unwrap();
                let out = sandbox.path("again");
                restore(&repository, again.id, b"data", &out).unwrap();
                assert_same(&after, &describe(&out));
                fs::remove_dir_all(out).unwrap();
            }
            result
        });
        failures += u64::from(result.is_err());

        let repository = sandbox.open();
        let report = repository.check(CheckLevel::ReadData, &CancelFlag::new()).unwrap();
        assert!(report.is_clean(), "{fault:?} at {fails_at}: {:?}", report.problems);
        let listed = repository.snapshots().unwrap().snapshots;
        assert!(listed.iter().any(|snapshot| snapshot.id == first.id));
        lost_answers += u64::from(result.is_err() && listed.len() > 1);
        if let Ok(committed) = &result {
            assert!(listed.iter().any(|snapshot| snapshot.id == committed.id));
        }
        for snapshot in &listed {
            let out = sandbox.path("out");
            restore(&repository, snapshot.id, b"data", &out).unwrap();
            assert_same(if snapshot.id == first.id { &before } else { &after }, &describe(&out));
            fs::remove_dir_all(out).unwrap();
        }
        let done = storage.operations.load(Ordering::SeqCst) <= fails_at;
        // Stock restic at some of the points, for it takes a second each time.
        if fails_at % 7 == 3 || done {
            // The machine is dead in play only, and restic sees that this process lives.
            for name in sandbox.repository_files() {
                if name.starts_with("locks/") {
                    fs::remove_file(sandbox.path("repo").join(name)).unwrap();
                }
            }
            sandbox.assert_clean();
        }
        let retried = sandbox.backup_with(&repository, Some(first.id)).unwrap();
        let out = sandbox.path("out");
        restore(&repository, retried.id, b"data", &out).unwrap();
        assert_same(&after, &describe(&out));
        fs::remove_dir_all(out).unwrap();
        fs::remove_dir_all(sandbox.path("repo")).unwrap();
        if done {
            result.unwrap();
            break;
        }
    }
    println!("{fault:?}: {failures} failures, {lost_answers} of them with a snapshot");
    assert!(failures > 10, "only {failures} operations failed a backup");
}

#[test]
fn each_operation_fails_before_it_is_done() {
    backup_under(Fault::Before);
}

#[test]
fn each_answer_is_lost() {
    backup_under(Fault::After);
}

#[test]
fn the_machine_dies_at_each_operation() {
    backup_under(Fault::Death);
}

#[test]
fn init_fails_at_each_operation() {
    for fault in [Fault::Before, Fault::After, Fault::Death] {
        for fails_at in 0.. {
            let sandbox = Sandbox::new();
            let operations = AtomicU64::new(0);
            let storage =
                Arc::new(Faulty { inner: sandbox.storage(), fault, fails_at, operations });
            let result = Repository::init(storage.clone(), &sandbox.password, options());
            if storage.operations.load(Ordering::SeqCst) <= fails_at {
                result.unwrap();
                break;
            }
            // A lost answer does no harm, nor does a failure to make the reserve for a full disk.
            let exists = Repository::exists(sandbox.storage().as_ref()).unwrap();
            assert!(result.is_err() || fault == Fault::After || exists);
            // Either it is there and opens, or it is not and can be made.
            if !exists {
                sandbox.init();
            }
            sandbox.restic(&["check"]);
            sandbox.open();
        }
    }
}

/// A writer that is dropped at any point leaves nothing that anybody sees.
#[test]
fn a_dropped_writer_leaves_nothing() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    let repository = sandbox.init();
    let first = sandbox.backup(&repository);
    let before = describe(&sandbox.source());
    fs::write(sandbox.source().join("more"), noise(20, 5_500_000)).unwrap();
    for point in 0..3 {
        let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
        if point > 0 {
            walk(&mut writer, &sandbox.source()).unwrap();
            writer.settled_stats().unwrap();
        }
        if point == 1 {
            writer.begin_dir(b"open", &provault_repository::Metadata::default()).unwrap();
        }
        drop(writer);
        sandbox.assert_clean();
        assert_eq!(repository.snapshots().unwrap().snapshots.len(), 1);
        assert!(!sandbox.repository_files().iter().any(|name| name.starts_with("locks/")));
    }
    let out = sandbox.restore(&repository, first.id, "out");
    assert_same(&before, &describe(&out));
    // What the dropped writers finished storing is not stored again.
    let second = sandbox.backup(&repository);
    assert!(second.stats.bytes_added < 3_000_000, "{:?}", second.stats);
    sandbox.assert_clean();
}

/// Many small files are on their way together when the writer is dropped: it ends nevertheless.
#[test]
fn a_writer_dropped_amid_small_files_ends() {
    let sandbox = Sandbox::new();
    for number in 0..200 {
        fs::write(sandbox.source().join(format!("{number:03}")), noise(number, 100)).unwrap();
    }
    let repository = sandbox.init();
    for _ in 0..3 {
        let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
        walk(&mut writer, &sandbox.source()).unwrap();
        drop(writer);
    }
    assert_eq!(repository.snapshots().unwrap().snapshots.len(), 0);
    assert!(!sandbox.repository_files().iter().any(|name| name.starts_with("locks/")));
    sandbox.backup(&repository);
    sandbox.assert_clean();
}

/// What a kill amid a write leaves behind: of this version, and of one that wrote `NAME#1`.
#[test]
fn leftovers_of_interrupted_writes_are_ignored_and_pruned() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    let repository = sandbox.init();
    let snapshot = sandbox.backup(&repository);
    let mut leftovers = Vec::new();
    for name in sandbox.repository_files() {
        let path = sandbox.path("repo").join(name);
        let new = path.with_file_name(format!(".provault-new-{:016x}", leftovers.len()));
        for path in [PathBuf::from(format!("{}#1", path.display())), new] {
            fs::write(&path, "half a file").unwrap();
            leftovers.push(path);
        }
    }
    let stranger = sandbox.path("repo").join("data/notes#1");
    fs::write(&stranger, "not ours").unwrap();
    let reopened = sandbox.open();
    let report = reopened.check(CheckLevel::ReadData, &CancelFlag::new()).unwrap();
    assert!(report.is_clean() && report.unreferenced_packs == 0, "{:?}", report.problems);
    sandbox.restore(&reopened, snapshot.id, "out");
    let prune = |leftovers_after| PruneOptions { leftovers_after, ..PruneOptions::default() };
    let prune = |age| reopened.prune(&prune(age)).unwrap().leftovers;
    assert_eq!(prune(Duration::from_hours(1)), 0, "somebody may be at it yet");
    assert_eq!(prune(Duration::ZERO), leftovers.len() as u64);
    assert!(leftovers.iter().all(|path| !path.exists()) && stranger.exists());
    fs::remove_file(stranger).unwrap();
    sandbox.assert_clean();
}

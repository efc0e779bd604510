//! Many jobs at a time, in one process and in several.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use provault_repository::{
    CancelFlag, CheckLevel, Error, Repository, Storage, StorageError, StoredObject,
};

use crate::support::{
    Sandbox, assert_same, backup_options, describe, noise, options, restore, small_tree, walk,
};

/// Writers of overlapping content, beside dropped writers, readers and checks; every committed
/// snapshot is whole, and what they share is stored once.
#[test]
fn writers_share_what_they_store() {
    const WRITERS: u64 = 6;
    let sandbox = Sandbox::new();
    for writer in 0..WRITERS {
        let root = sandbox.path(&format!("source{writer}"));
        fs::create_dir(&root).unwrap();
        small_tree(&root);
        fs::write(root.join("shared"), noise(100, 6_000_000)).unwrap();
        fs::write(root.join("own"), noise(200 + writer, 300_000)).unwrap();
    }
    let repository = sandbox.init();
    let first = sandbox.backup(&repository);
    let committed: Vec<_> = thread::scope(|scope| {
        let jobs: Vec<_> = (0..WRITERS * 2)
            .map(|number| {
                let (sandbox, repository) = (&sandbox, &repository);
                scope.spawn(move || {
                    let root = sandbox.path(&format!("source{}", number % WRITERS));
                    let mut writer = repository.backup(backup_options(&root, None)).unwrap();
                    walk(&mut writer, &root).unwrap();
                    // Half of them give up after they have stored everything.
                    (number < WRITERS).then(|| (root, writer.finish(None).unwrap()))
                })
            })
            .collect();
        for _ in 0..3 {
            let report = repository.check(CheckLevel::Structure, &CancelFlag::new()).unwrap();
            assert!(report.is_clean(), "{:?}", report.problems);
        }
        jobs.into_iter().filter_map(|job| job.join().unwrap()).collect()
    });
    assert_eq!(committed.len() as u64, WRITERS);
    sandbox.assert_clean();
    let stored: u64 = sandbox
        .repository_files()
        .iter()
        .map(|name| fs::metadata(sandbox.path("repo").join(name)).unwrap().len())
        .sum();
    assert!(stored < 9_500_000, "{stored} bytes for 6 MB shared and 6 times 0.3 MB");
    let fresh = sandbox.open();
    for (number, (root, snapshot)) in committed.iter().enumerate() {
        let out = sandbox.restore(&fresh, snapshot.id, &format!("out{number}"));
        assert_same(&describe(root), &describe(&out));
    }
    restore(&fresh, first.id, b"data", &sandbox.path("first")).unwrap();
}

/// Two opened repositories know nothing of each other, like two processes.
#[test]
fn two_openings_of_one_repository() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    fs::write(sandbox.source().join("large"), noise(100, 3_000_000)).unwrap();
    sandbox.init();
    let (one, two) = (sandbox.open(), sandbox.open());
    let results: Vec<_> = thread::scope(|scope| {
        let jobs: Vec<_> = [&one, &two]
            .map(|repository| scope.spawn(|| sandbox.backup(repository)))
            .into_iter()
            .collect();
        jobs.into_iter().map(|job| job.join().unwrap()).collect()
    });
    assert_eq!(results[0].tree, results[1].tree);
    sandbox.assert_clean();
    // Each reads what the other wrote.
    for (repository, result, name) in [(&one, &results[1], "a"), (&two, &results[0], "b")] {
        let out = sandbox.restore(repository, result.id, name);
        assert_same(&describe(&sandbox.source()), &describe(&out));
    }
}

/// The storage has its own runtime: it works from plain threads, from tokio's blocking threads,
/// and a repository may be dropped anywhere.
#[test]
fn within_tokio() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    let repository = sandbox.init();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (cloned, source) = (repository.clone(), sandbox.source());
        let snapshot = tokio::task::spawn_blocking(move || {
            let mut writer = cloned.backup(backup_options(&source, None)).unwrap();
            walk(&mut writer, &source).unwrap();
            writer.finish(None).unwrap()
        });
        let id = snapshot.await.unwrap().id;
        let cloned = repository.clone();
        let found = tokio::task::spawn_blocking(move || cloned.snapshot(id).unwrap());
        assert_eq!(found.await.unwrap().id, id);
        // Bad manners, but no panic: what is dropped here deletes its lock file.
        drop(repository.reader().unwrap());
        drop(repository.backup(backup_options(&sandbox.source(), None)).unwrap());
        drop(repository);
    });
}

/// Holds up the first pack until it is told to let it through or to fail it.
#[derive(Debug)]
struct Gate {
    inner: Arc<dyn Storage>,
    first: AtomicBool,
    entered: Mutex<mpsc::Sender<()>>,
    verdict: Mutex<mpsc::Receiver<bool>>,
}

impl Storage for Gate {
    fn get(&self, name: &str) -> Result<Bytes, StorageError> {
        self.inner.get(name)
    }
    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        self.inner.get_range(name, offset, length)
    }
    fn put(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        // A pack with chunks of the file: both jobs need it, whichever thread stores it first.
        let shared = name.starts_with("data/") && content.len() > 100_000;
        if shared && self.first.swap(false, Ordering::SeqCst) {
            self.entered.lock().unwrap().send(()).unwrap();
            if !self.verdict.lock().unwrap().recv().unwrap() {
                return Err(StorageError::other("put", name, "injected fault"));
            }
        }
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

/// One job finds its chunks in a pack that another is just storing. It must not commit before that
/// pack is durable, and not at all if it fails.
#[test]
fn a_job_shares_the_fate_of_the_packs_it_relies_on() {
    for stored in [true, false] {
        let sandbox = Sandbox::new();
        fs::write(sandbox.source().join("shared"), noise(1, 4_000_000)).unwrap();
        sandbox.init();
        let (entered, has_entered) = mpsc::channel();
        let (decide, verdict) = mpsc::channel();
        let gate = Gate {
            inner: sandbox.storage(),
            first: AtomicBool::new(true),
            entered: Mutex::new(entered),
            verdict: Mutex::new(verdict),
        };
        let repository = Repository::open(Arc::new(gate), &sandbox.password, options()).unwrap();
        let mut early = false;
        let (one, two) = thread::scope(|scope| {
            let one = scope.spawn(|| sandbox.backup_with(&repository, None));
            has_entered.recv().unwrap();
            let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
            walk(&mut writer, &sandbox.source()).unwrap();
            let two = scope.spawn(|| writer.finish(None));
            // Nothing may be committed while the pack is on its way.
            for _ in 0..20 {
                early |= !repository.snapshots().unwrap().snapshots.is_empty();
                thread::sleep(Duration::from_millis(10));
            }
            decide.send(stored).unwrap();
            (one.join().unwrap(), two.join().unwrap())
        });
        assert!(!early, "committed before its packs");
        sandbox.assert_clean();
        assert_eq!(sandbox.open().snapshots().unwrap().snapshots.len(), if stored { 2 } else { 0 });
        for (number, result) in [one, two].into_iter().enumerate() {
            if stored {
                let id = result.unwrap().id;
                let out = sandbox.restore(&sandbox.open(), id, &format!("out{number}"));
                assert_same(&describe(&sandbox.source()), &describe(&out));
            } else {
                assert!(matches!(result, Err(Error::PackNotStored(_))), "{result:?}");
            }
        }
        // The failed chunks are not taken for stored.
        let again = sandbox.backup(&repository);
        sandbox.assert_clean();
        sandbox.restore(&repository, again.id, "again");
    }
}

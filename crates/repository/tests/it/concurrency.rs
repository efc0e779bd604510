//! Many jobs at a time, in one process and in several.

use std::fs;
use std::thread;

use provault_repository::{CancelFlag, CheckLevel};

use crate::support::{
    Sandbox, assert_same, backup_options, describe, noise, restore, small_tree, walk,
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

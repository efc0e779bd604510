//! A prune where snapshots are missing that should be there.

use std::fs;

use provault_repository::{Error, MaxUnused, PruneOptions, SnapshotId};

use crate::hook::hooked;
use crate::support::{Sandbox, assert_same, describe, noise, options};

fn expecting(expected: &[SnapshotId]) -> PruneOptions {
    PruneOptions {
        max_unused: MaxUnused::Bytes(0),
        expected: expected.to_vec(),
        ..PruneOptions::default()
    }
}

/// Files of the repository, without locks.
fn files(sandbox: &Sandbox) -> Vec<String> {
    let mut files = sandbox.repository_files();
    files.retain(|name| !name.starts_with("locks/"));
    files
}

/// Two snapshots that share little.
fn two(sandbox: &Sandbox) -> [SnapshotId; 2] {
    let repository = sandbox.init();
    [1, 2].map(|seed| {
        fs::write(sandbox.source().join("file"), noise(seed, 2_000_000)).unwrap();
        sandbox.backup(&repository).id
    })
}

#[test]
fn what_a_missing_snapshot_needs_is_kept_until_it_is_back() {
    let sandbox = Sandbox::new();
    let both = two(&sandbox);
    let file = sandbox.path("repo/snapshots").join(both[1].to_string());
    let aside = sandbox.path("aside");
    fs::rename(&file, &aside).unwrap();
    let before = files(&sandbox);
    let repository = sandbox.open();
    for outcome in [
        repository.prune(&expecting(&both)).map(drop),
        repository.plan_prune(&expecting(&both)).map(drop),
    ] {
        let Err(Error::PruneRefused { problems: 1, first }) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(matches!(*first, Error::SnapshotNotFound(id) if id == both[1]), "{first}");
    }
    assert_eq!(files(&sandbox), before);

    fs::rename(&aside, &file).unwrap();
    let report = repository.prune(&expecting(&both)).unwrap();
    assert_eq!(report.deleted_packs, 0);
    let out = sandbox.restore(&repository, both[1], "out");
    assert_same(&describe(&sandbox.source()), &describe(&out));
    // Forgotten, it is expected by nobody.
    repository.forget(&both[..1]).unwrap();
    assert!(repository.prune(&expecting(&both[1..])).unwrap().deleted_packs > 0);
    sandbox.assert_clean();
}

/// Listings of some storages lag behind.
#[test]
fn a_snapshot_that_is_not_listed_yet_is_asked_for_by_name() {
    let sandbox = Sandbox::new();
    let both = two(&sandbox);
    let (storage, hook) = hooked(sandbox.storage());
    hook.hide(&format!("snapshots/{}", both[1]));
    let repository =
        provault_repository::Repository::open(storage, &sandbox.password, options()).unwrap();
    assert_eq!(repository.snapshots().unwrap().snapshots.len(), 1);
    assert_eq!(repository.prune(&expecting(&both)).unwrap().deleted_packs, 0);
    sandbox.assert_clean();
}

/// A `snapshots/` that is not mounted does not cost the whole repository.
#[test]
fn a_repository_without_any_snapshot_is_emptied_only_on_purpose() {
    let sandbox = Sandbox::new();
    two(&sandbox);
    let (directory, aside) = (sandbox.path("repo/snapshots"), sandbox.path("aside"));
    fs::rename(&directory, &aside).unwrap();
    for made_anew in [false, true] {
        if made_anew {
            fs::create_dir(&directory).unwrap();
        }
        let before = files(&sandbox);
        let repository = sandbox.open();
        for outcome in [
            repository.prune(&expecting(&[])).map(drop),
            repository.plan_prune(&expecting(&[])).map(drop),
        ] {
            assert!(matches!(outcome, Err(Error::NoSnapshots { packs }) if packs > 1));
        }
        assert_eq!(files(&sandbox), before);
    }
    fs::remove_dir(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
    sandbox.assert_clean();

    let repository = sandbox.open();
    let all: Vec<_> = repository.snapshot_ids().unwrap().into_iter().collect();
    // To plan what forgetting all of them would free is no mistake.
    let plan = repository.plan_prune_without(&all, &expecting(&[])).unwrap();
    assert!(plan.frees > 4_000_000);
    repository.forget(&all).unwrap();
    assert!(matches!(repository.prune(&expecting(&[])), Err(Error::NoSnapshots { .. })));
    let options = PruneOptions { allow_empty: true, ..expecting(&[]) };
    repository.prune(&options).unwrap();
    let left = files(&sandbox);
    assert!(left.iter().all(|name| !name.starts_with("data/")), "{left:?}");
    // Nothing is left to be lost.
    assert_eq!(repository.prune(&expecting(&[])).unwrap().deleted_packs, 0);
}

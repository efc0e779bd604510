//! Backups, forgetting, prunes, checks and restores, all at a time, in several opened repositories.

use std::fs;
use std::sync::Mutex;
use std::thread;

use provault_repository::{
    CancelFlag, CheckLevel, EntryKind, Error, MaxUnused, Options, PruneOptions, Repository,
    SnapshotId,
};

use crate::care::Numbers;
use crate::support::{Sandbox, backup_options, noise, options, walk};

const PARTS: u64 = 16;

/// A snapshot and the parts that it holds.
type Kept = Mutex<Vec<(SnapshotId, Vec<u64>)>>;

fn part(number: u64) -> Vec<u8> {
    noise(7000 + number, 40_000)
}

/// Backs up random parts, most of which some snapshot has or had, and forgets at random.
fn write(sandbox: &Sandbox, repository: &Repository, name: &str, seed: u64, kept: &Kept) {
    let mut numbers = Numbers::new(seed);
    for round in 0..9 {
        let root = sandbox.path(&format!("{name}-{round}"));
        fs::create_dir(&root).unwrap();
        let parts: Vec<u64> = (0..PARTS).filter(|_| numbers.below(4) == 0).collect();
        for number in &parts {
            fs::write(root.join(number.to_string()), part(*number)).unwrap();
        }
        let mut writer = repository.backup(backup_options(&root, None)).unwrap();
        walk(&mut writer, &root).unwrap();
        if numbers.below(4) == 0 {
            continue;
        }
        let committed = writer.finish(None).unwrap();
        let mut list = kept.lock().unwrap();
        list.push((committed.id, parts));
        let mut forgotten = Vec::new();
        while list.len() > 3 {
            let at = usize::try_from(numbers.below(list.len() as u64)).unwrap();
            forgotten.push(list.swap_remove(at).0);
        }
        drop(list);
        repository.forget(&forgotten).unwrap();
    }
}

/// Reads a snapshot that was there when the reader began, whatever becomes of it meanwhile.
fn read(repository: &Repository, kept: &Kept, numbers: &mut Numbers) {
    let list = kept.lock().unwrap();
    if list.is_empty() {
        return;
    }
    let at = usize::try_from(numbers.below(list.len() as u64)).unwrap();
    let (id, parts) = list[at].clone();
    let snapshot = repository.snapshot(id).unwrap();
    let reader = repository.reader().unwrap();
    drop(list);
    let mut found = 0;
    for entry in reader.entries(&snapshot, b"data").unwrap() {
        let entry = entry.unwrap();
        if entry.kind == EntryKind::File {
            let number: u64 = String::from_utf8(entry.path.clone()).unwrap().parse().unwrap();
            let mut bytes = Vec::new();
            reader
                .read_file(&entry, &mut |_, more| {
                    bytes.extend_from_slice(more);
                    Ok(())
                })
                .unwrap();
            assert!(bytes == part(number) && parts.contains(&number));
            found += 1;
        }
    }
    assert_eq!(found, parts.len());
}

#[test]
fn nobody_loses_anything_to_a_prune_beside_him() {
    let seed = std::env::var("PROVAULT_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| {
        std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_secs())
    });
    println!("seed {seed} (PROVAULT_SEED)");
    let sandbox = Sandbox::new();
    sandbox.init();
    let small = || Options { pack_size: 130_000, ..options() };
    let open = || Repository::open(sandbox.storage(), &sandbox.password, small()).unwrap();
    let (one, two, pruning) = (open(), open(), open());
    let max_unused = MaxUnused::Bytes(0);
    let everything = PruneOptions { max_unused, allow_empty: true, ..PruneOptions::default() };
    let kept = Kept::default();
    let (mut deleted, mut waited) = (0, 0);
    thread::scope(|scope| {
        let (sandbox, kept) = (&sandbox, &kept);
        let writers: Vec<_> = [(&one, "a"), (&one, "b"), (&two, "c"), (&pruning, "d")]
            .into_iter()
            .zip(1..)
            .map(|((repository, name), number)| {
                scope.spawn(move || write(sandbox, repository, name, seed * 10 + number, kept))
            })
            .collect();
        let readers: Vec<_> = [(&one, 5), (&two, 6)]
            .into_iter()
            .map(|(repository, number)| {
                scope.spawn(move || {
                    let mut numbers = Numbers::new(seed * 10 + number);
                    for _ in 0..12 {
                        read(repository, kept, &mut numbers);
                    }
                })
            })
            .collect();
        while writers.iter().chain(&readers).any(|thread| !thread.is_finished()) {
            match pruning.prune(&everything) {
                Ok(report) => {
                    assert!(report.damaged.is_empty(), "{report:?}");
                    deleted += report.deleted_packs;
                    waited += report.waiting_packs;
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
    println!("{deleted} packs deleted, {waited} times one waited");
    assert!(deleted > 0);
    for _ in 0..2 {
        pruning.prune(&everything).unwrap();
    }
    let left = sandbox.repository_files();
    assert!(!left.iter().any(|name| name.starts_with("locks/")), "{left:?}");
    assert!(!left.iter().any(|name| name.starts_with("provault/prune/")), "{left:?}");
    sandbox.assert_clean();
    let report = pruning.check(CheckLevel::Structure, &CancelFlag::new()).unwrap();
    assert_eq!(report.unreferenced_packs, 0);
    let fresh = open();
    let mut numbers = Numbers::new(seed);
    for _ in 0..6 {
        read(&fresh, &kept, &mut numbers);
    }
    let ids: Vec<_> = kept.lock().unwrap().iter().map(|(id, _)| *id).collect();
    fresh.forget(&ids).unwrap();
    fresh.prune(&everything).unwrap();
    let gone = fresh.snapshots().unwrap().snapshots;
    assert!(gone.is_empty(), "{gone:?}");
    assert!(!sandbox.repository_files().iter().any(|name| name.starts_with("data/")));
    let none = fresh.prune(&everything);
    assert!(!matches!(none, Err(Error::PruneRefused { .. })));
}

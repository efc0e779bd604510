//! Prune: what it takes and what it leaves, beside whom, and after which failure.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use provault_repository::{
    BackupOptions, CancelFlag, CheckLevel, Error, MaxUnused, PackReason, PruneOptions, Repository,
    SnapshotId,
};

use crate::faults::{Fault, Faulty, copy};
use crate::hook::hooked;
use crate::support::{
    Sandbox, assert_same, backup_options, describe, noise, options, restore, small_tree, walk,
};

type Description = BTreeMap<Vec<u8>, String>;

fn everything() -> PruneOptions {
    // What is not there was forgotten on purpose.
    PruneOptions { max_unused: MaxUnused::Bytes(0), allow_empty: true, ..PruneOptions::default() }
}

fn files(sandbox: &Sandbox, directory: &str) -> Vec<String> {
    let mut files = sandbox.repository_files();
    files.retain(|name| name.starts_with(directory));
    files
}

/// One snapshot of a large file and a small tree, and one of which half of the large file is left.
/// The first is forgotten.
fn half_used(sandbox: &Sandbox) -> (SnapshotId, Description) {
    let root = sandbox.source();
    small_tree(&root);
    let repository = sandbox.init();
    for part in 0..8 {
        fs::write(root.join(format!("part{part}")), noise(50 + part, 400_000)).unwrap();
    }
    let first = sandbox.backup(&repository);
    for part in 0..4 {
        fs::remove_file(root.join(format!("part{}", 2 * part))).unwrap();
    }
    fs::write(root.join("three"), noise(70, 1000)).unwrap();
    let second = sandbox.backup(&repository);
    repository.forget(&[first.id]).unwrap();
    (second.id, describe(&root))
}

fn restores(sandbox: &Sandbox, repository: &Repository, id: SnapshotId, expected: &Description) {
    let out = sandbox.path(&format!("out-{}", id.short()));
    restore(repository, id, b"data", &out).unwrap();
    assert_same(expected, &describe(&out));
    fs::remove_dir_all(out).unwrap();
}

fn our_check(repository: &Repository) {
    let report = repository.check(CheckLevel::ReadData, &CancelFlag::new()).unwrap();
    assert!(report.is_clean(), "{:?}", report.problems);
}

#[test]
fn what_is_planned_is_done_and_no_more() {
    let sandbox = Sandbox::new();
    let (kept, expected) = half_used(&sandbox);
    let repository = sandbox.open();
    let before = sandbox.repository_files();
    let plan = repository.plan_prune(&everything()).unwrap();
    assert_eq!(sandbox.repository_files(), before, "a plan changes nothing");
    assert!(plan.repack.iter().any(|pack| pack.reason == PackReason::PartlyUsed));
    assert!(plan.delete.iter().all(|pack| pack.needed == 0));
    assert!((1_600_000..2_000_000).contains(&plan.frees), "{plan:?}");
    assert_eq!(plan.unused_after, 0);

    let used = |sandbox: &Sandbox| -> u64 {
        let names = files(sandbox, "data/");
        names.iter().map(|name| fs::metadata(sandbox.path("repo").join(name)).unwrap().len()).sum()
    };
    let size = used(&sandbox);
    let report = repository.prune(&everything()).unwrap();
    assert!(report.waiting_packs == 0 && report.postponed.is_empty(), "{report:?}");
    assert!(report.damaged.is_empty() && report.reserve >= 1 << 20, "{report:?}");
    // New packs have headers, too; nothing else is in the way of the estimate.
    let freed = size - used(&sandbox);
    assert!(freed.abs_diff(plan.frees) < 2000, "{freed} freed, {} planned", plan.frees);
    assert!(files(&sandbox, "provault/prune").is_empty() && files(&sandbox, "locks").is_empty());
    sandbox.assert_clean();
    restores(&sandbox, &repository, kept, &expected);
    assert_same(&expected, &describe(&sandbox.restic_restore(kept, "restic").join("data")));

    // There is nothing more to do, for restic neither.
    let again = repository.prune(&everything()).unwrap();
    assert_eq!((again.deleted_packs, again.repacked_packs, again.plan.frees), (0, 0, 0));
    let text = sandbox.restic(&["prune", "--dry-run", "--max-unused", "0"]);
    let total = text.lines().find(|line| line.starts_with("total prune:")).unwrap();
    assert!(total.ends_with(" 0 blobs / 0 B"), "{text}");

    // Limits hold.
    fs::remove_file(sandbox.source().join("part1")).unwrap();
    let third = sandbox.backup(&repository);
    repository.forget(&[kept]).unwrap();
    let lazy = PruneOptions { max_unused: MaxUnused::Unlimited, ..everything() };
    assert!(repository.plan_prune(&lazy).unwrap().repack.is_empty());
    let none = PruneOptions { max_repack: Some(0), ..everything() };
    assert!(repository.plan_prune(&none).unwrap().repack.is_empty());
    let generous = PruneOptions { max_unused: MaxUnused::Percent(60.0), ..everything() };
    assert!(repository.plan_prune(&generous).unwrap().repack.is_empty());
    let plan = repository.plan_prune(&everything()).unwrap();
    // Whether its pack is copied or deleted depends on what came to lie beside it.
    assert!(plan.frees >= 400_000 && plan.unused_after == 0, "{plan:?}");
    repository.prune(&everything()).unwrap();
    sandbox.assert_clean();
    restores(&sandbox, &repository, third.id, &describe(&sandbox.source()));
}

/// Everything is forgotten; small packs and index files of many backups are merged.
#[test]
fn small_ones_are_merged_and_an_empty_repository_is_empty() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    let repository = sandbox.init();
    let mut all = Vec::new();
    for number in 0..10 {
        fs::write(sandbox.source().join("changing"), noise(number, 5000)).unwrap();
        all.push((sandbox.backup(&repository).id, describe(&sandbox.source())));
    }
    assert!(files(&sandbox, "data/").len() >= 20 && files(&sandbox, "index/").len() >= 10);
    let report = repository.prune(&PruneOptions::default()).unwrap();
    assert!(report.plan.repack.iter().all(|pack| pack.reason == PackReason::Small));
    assert_eq!((files(&sandbox, "data/").len(), files(&sandbox, "index/").len()), (2, 1));
    sandbox.assert_clean();
    for (id, expected) in &all {
        restores(&sandbox, &repository, *id, expected);
    }
    let ids: Vec<_> = all.into_iter().map(|(id, _)| id).collect();
    repository.forget(&ids).unwrap();
    let options = PruneOptions { allow_empty: true, ..PruneOptions::default() };
    repository.prune(&options).unwrap();
    assert!(files(&sandbox, "data/").is_empty() && files(&sandbox, "index/").is_empty());
    // Nothing of it may be taken for stored.
    let anew = sandbox.backup(&repository);
    sandbox.assert_clean();
    restores(&sandbox, &repository, anew.id, &describe(&sandbox.source()));
}

/// After a prune fails at its n-th operation, all is whole, and a second one ends as the first
/// would have.
fn prune_under(fault: Fault) {
    let sandbox = Sandbox::new();
    let (kept, expected) = half_used(&sandbox);
    // A pack that no index lists, too.
    let orphan = sandbox.path("repo/data/00");
    fs::create_dir_all(&orphan).unwrap();
    fs::write(orphan.join("00".repeat(32)), "left by a crash").unwrap();
    fs::rename(sandbox.path("repo"), sandbox.path("original")).unwrap();
    let mut failures = 0;
    for fails_at in 0.. {
        copy(&sandbox.path("original"), &sandbox.path("repo"));
        let operations = AtomicU64::new(0);
        let storage = Arc::new(Faulty { inner: sandbox.storage(), fault, fails_at, operations });
        let opened = Repository::open(storage.clone(), &sandbox.password, options());
        let result = opened.and_then(|repository| repository.prune(&everything()));
        failures += u64::from(result.is_err());
        let done = storage.operations.load(Ordering::SeqCst) <= fails_at;

        let repository = sandbox.open();
        our_check(&repository);
        restores(&sandbox, &repository, kept, &expected);
        if fails_at % 11 == 5 || done {
            for name in files(&sandbox, "locks/") {
                fs::remove_file(sandbox.path("repo").join(name)).unwrap();
            }
            sandbox.assert_clean();
        }
        let report = repository.prune(&everything()).unwrap();
        assert_eq!((report.waiting_packs, report.out_of_space), (0, false), "{report:?}");
        assert!(files(&sandbox, "provault/prune").is_empty(), "{fault:?} at {fails_at}");
        let size: u64 = files(&sandbox, "data/")
            .iter()
            .map(|name| fs::metadata(sandbox.path("repo").join(name)).unwrap().len())
            .sum();
        assert!(size < 1_700_000, "{fault:?} at {fails_at}: {size} bytes are left");
        our_check(&repository);
        restores(&sandbox, &repository, kept, &expected);
        fs::remove_dir_all(sandbox.path("repo")).unwrap();
        if done {
            result.unwrap();
            break;
        }
    }
    println!("{fault:?}: {failures} failures");
    assert!(failures > 20, "only {failures} operations failed a prune");
}

#[test]
fn each_operation_of_a_prune_fails_before_it_is_done() {
    prune_under(Fault::Before);
}

#[test]
fn each_answer_to_a_prune_is_lost() {
    prune_under(Fault::After);
}

#[test]
fn the_machine_dies_at_each_operation_of_a_prune() {
    prune_under(Fault::Death);
}

/// A backup finds chunks of a forgotten snapshot; they leave the index before it commits. It runs
/// in the same opened repository, or in another; the prune finds it at work, or it commits and
/// ends at some step of the prune.
#[test]
fn a_backup_beside_a_prune_keeps_what_it_relies_on() {
    for shared in [true, false] {
        for step in [None, Some("put provault/prune"), Some("delete index"), Some("put index")] {
            let sandbox = Sandbox::new();
            let (kept, kept_expected) = half_used(&sandbox);
            for part in 0..4 {
                let path = sandbox.source().join(format!("part{}", 2 * part));
                fs::write(path, noise(50 + 2 * part, 400_000)).unwrap();
            }
            let expected = describe(&sandbox.source());

            let (storage, hook) = hooked(sandbox.storage());
            let pruning = Repository::open(storage, &sandbox.password, options()).unwrap();
            let writing = if shared { pruning.clone() } else { sandbox.open() };
            let mut writer = writing.backup(backup_options(&sandbox.source(), None)).unwrap();
            walk(&mut writer, &sandbox.source()).unwrap();
            assert!(writer.stats().bytes_added < 100_000, "all found in what is forgotten");

            let committed = Arc::new(Mutex::new(None));
            let mut writer = Some(writer);
            if let Some(step) = step {
                let (committed, mut writer) = (Arc::clone(&committed), writer.take());
                hook.at(step, move || {
                    *committed.lock().unwrap() = Some(writer.take().unwrap().finish(None).unwrap());
                });
            }
            let report = pruning.prune(&everything()).unwrap();
            let case = format!("shared {shared}, at {step:?}: {report:?}");
            if let Some(writer) = writer {
                assert!(report.waiting_packs > 0 && report.deleted_packs == 0, "{case}");
                assert!(report.waiting_for[0].contains("process"), "{case}");
                // Whoever begins now must not rely on them.
                let beside = sandbox.backup(&sandbox.open());
                assert!(beside.stats.bytes_added > 1_500_000, "{case}");
                pruning.forget(&[beside.id]).unwrap();
                *committed.lock().unwrap() = Some(writer.finish(None).unwrap());
            }
            let committed = committed.lock().unwrap().take().expect("the hook was not called");
            sandbox.assert_clean();
            restores(&sandbox, &sandbox.open(), committed.id, &expected);
            for _ in 0..2 {
                let report = pruning.prune(&everything()).unwrap();
                assert_eq!(report.waiting_packs, 0, "{case}");
                sandbox.assert_clean();
                restores(&sandbox, &sandbox.open(), committed.id, &expected);
                restores(&sandbox, &sandbox.open(), kept, &kept_expected);
            }
            assert!(files(&sandbox, "provault/prune").is_empty(), "{case}");
        }
    }
}

/// A backup that crashes leaves a lock that is stale and packs that no index lists.
#[test]
fn a_backup_that_never_ends_is_waited_for_until_it_is_dead() {
    let sandbox = Sandbox::new();
    let (kept, expected) = half_used(&sandbox);
    let dying = sandbox.open();
    let mut writer = dying.backup(backup_options(&sandbox.source(), Some(kept))).unwrap();
    let metadata = provault_repository::Metadata::default();
    let big = noise(99, 3_000_000);
    writer
        .add_file(b"big", &metadata, &mut || Ok(Box::new(std::io::Cursor::new(big.clone()))))
        .unwrap();
    let report = sandbox.open().prune(&everything()).unwrap();
    assert!(report.waiting_packs > 0 && report.deleted_packs == 0, "{report:?}");
    let waiting = sandbox.open().plan_prune(&everything()).unwrap();
    assert_eq!(waiting.waiting.len() as u64, report.waiting_packs);
    // As restic sees it, nothing is wrong meanwhile; and it may prune, which excludes us all.
    our_check(&sandbox.open());
    let lock = files(&sandbox, "locks/").pop().unwrap();
    let text = fs::read(sandbox.path("repo").join(&lock)).unwrap();
    drop(writer);
    // The lock of a job of this process that is over is stale, whoever left it there.
    fs::write(sandbox.path("repo").join(&lock), text).unwrap();
    let report = sandbox.open().prune(&everything()).unwrap();
    assert_eq!(report.waiting_packs, 0, "{report:?}");
    assert!(report.deleted_packs > 0);
    sandbox.assert_clean();
    restores(&sandbox, &sandbox.open(), kept, &expected);
}

/// A reader that began before finishes, although its snapshot is forgotten and pruned beneath it.
#[test]
fn a_reader_that_began_before_finishes() {
    for shared in [true, false] {
        let sandbox = Sandbox::new();
        let (kept, expected) = half_used(&sandbox);
        let pruning = sandbox.open();
        let reading = if shared { pruning.clone() } else { sandbox.open() };
        let snapshot = reading.snapshot(kept).unwrap();
        let reader = reading.reader().unwrap();
        pruning.forget(&[kept]).unwrap();
        let report = pruning.prune(&everything()).unwrap();
        assert!(report.waiting_packs > 0 && report.deleted_packs == 0, "{report:?}");
        // A job of the same opened repository reads the index anew.
        drop(reading.reader().unwrap());
        for entry in reader.entries(&snapshot, b"data").unwrap() {
            let entry = entry.unwrap();
            if entry.kind == provault_repository::EntryKind::File {
                let mut bytes = Vec::new();
                let mut sink = |_, part: &[u8]| {
                    bytes.extend_from_slice(part);
                    Ok(())
                };
                reader.read_file(&entry, &mut sink).unwrap();
                let hash = provault_repository::Id::hash(&bytes).to_string();
                assert!(expected[&entry.path].contains(&hash));
            }
        }
        drop(reader);
        pruning.prune(&everything()).unwrap();
        assert!(files(&sandbox, "data/").is_empty());
        sandbox.assert_clean();
    }
}

#[test]
fn two_prunes_exclude_each_other() {
    let sandbox = Sandbox::new();
    let (kept, expected) = half_used(&sandbox);
    let (storage, hook) = hooked(sandbox.storage());
    let one = Repository::open(storage, &sandbox.password, options()).unwrap();
    let two = sandbox.open();
    let seen = Arc::new(Mutex::new(None));
    let told = Arc::clone(&seen);
    hook.at("put provault/prune", move || {
        *told.lock().unwrap() = Some(two.prune(&everything()).map(drop));
    });
    let report = one.prune(&everything()).unwrap();
    let second = seen.lock().unwrap().take();
    let Some(Err(Error::Locked { holder })) = second else { panic!("{second:?}") };
    assert!(holder.contains("prunes"), "{holder}");
    assert!(report.deleted_packs > 0 && report.waiting_packs == 0, "{report:?}");
    sandbox.assert_clean();
    restores(&sandbox, &one, kept, &expected);
}

/// Stock restic at work: before the switch nothing happens, and during it all is put back, for
/// restic does not list again what it relies on.
#[test]
fn stock_restic_at_work_is_left_alone() {
    for step in [None, Some("delete index")] {
        let sandbox = Sandbox::new();
        let (kept, expected) = half_used(&sandbox);
        let (storage, hook) = hooked(sandbox.storage());
        let repository = Repository::open(storage, &sandbox.password, options()).unwrap();
        let running = Arc::new(Mutex::new(None));
        let start = {
            let (repo, password) = (sandbox.path("repo"), sandbox.password.clone());
            let running = Arc::clone(&running);
            move || {
                let mut child = Command::new("restic")
                    .args(["--no-cache", "backup", "--stdin", "--repo"])
                    .arg(&repo)
                    .env("RESTIC_PASSWORD", password.expose())
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap();
                // In the index that is about to go, restic finds a chunk that was forgotten.
                let mut input = child.stdin.take().unwrap();
                input.write_all(&noise(3, 200_000)).unwrap();
                let foreign = |name: &str| {
                    name.len() == "locks/".len() + 64
                        && fs::metadata(repo.join(name)).is_ok_and(|meta| meta.len() > 0)
                };
                let locks = || fs::read_dir(repo.join("locks")).unwrap();
                let ours = usize::from(step.is_some());
                while locks()
                    .filter(|entry| {
                        let name = entry.as_ref().unwrap().file_name();
                        foreign(&format!("locks/{}", name.to_string_lossy()))
                    })
                    .count()
                    <= ours
                {
                    std::thread::yield_now();
                }
                *running.lock().unwrap() = Some((child, input));
            }
        };
        match step {
            None => start(),
            Some(step) => hook.at(step, start),
        }
        let before = files(&sandbox, "data/");
        let report = repository.prune(&everything()).unwrap();
        assert_eq!(report.postponed.len(), 1, "{report:?}");
        assert!(report.postponed[0].contains("works on it"), "{report:?}");
        assert_eq!(report.deleted_packs, 0);
        let left = files(&sandbox, "data/");
        assert!(before.iter().all(|name| left.contains(name)), "nothing is deleted");
        let (mut child, input) = running.lock().unwrap().take().unwrap();
        drop(input);
        assert!(child.wait().unwrap().success());
        sandbox.assert_clean();
        let report = repository.prune(&everything()).unwrap();
        assert!(report.postponed.is_empty() && report.deleted_packs > 0, "{report:?}");
        sandbox.assert_clean();
        restores(&sandbox, &repository, kept, &expected);
        let theirs = sandbox.restic(&["dump", "latest", "/stdin", "--path", "/stdin"]);
        assert!(!theirs.is_empty());
    }
}

/// Stock restic prunes what we leave, marks and all.
#[test]
fn stock_restic_prunes_beside_a_mark() {
    let sandbox = Sandbox::new();
    let (kept, expected) = half_used(&sandbox);
    let repository = sandbox.open();
    let reader = repository.reader().unwrap();
    assert!(repository.prune(&everything()).unwrap().waiting_packs > 0);
    assert_eq!(files(&sandbox, "provault/prune").len(), 1);
    drop(reader);
    sandbox.assert_clean();
    sandbox.restic(&["prune", "--max-unused", "0"]);
    sandbox.assert_clean();
    let report = repository.prune(&everything()).unwrap();
    assert_eq!(report.deleted_packs, 0, "{report:?}");
    assert!(files(&sandbox, "provault/prune").is_empty());
    sandbox.assert_clean();
    restores(&sandbox, &repository, kept, &expected);
}

/// Nothing is deleted on incomplete knowledge: each file in turn is gone or damaged.
#[test]
fn damage_is_refused() {
    let sandbox = Sandbox::new();
    half_used(&sandbox);
    let names = sandbox.repository_files();
    fs::rename(sandbox.path("repo"), sandbox.path("original")).unwrap();
    let (mut refused, mut harmless) = (BTreeMap::new(), BTreeMap::new());
    for name in names {
        let directory = name.split('/').next().unwrap().to_owned();
        if !["data", "index", "snapshots"].contains(&directory.as_str()) {
            continue;
        }
        for cut in [false, true] {
            copy(&sandbox.path("original"), &sandbox.path("repo"));
            let path = sandbox.path("repo").join(&name);
            let content = fs::read(&path).unwrap();
            if cut {
                fs::write(&path, &content[..content.len() / 2]).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            let before = sandbox.repository_files();
            match sandbox.open().prune(&everything()) {
                // A snapshot that is gone is as good as forgotten; and nobody needs some packs.
                Ok(_) => {
                    // What an index file listed that is gone is found in the packs themselves.
                    assert!(directory == "data" || !cut, "{name}");
                    our_check(&sandbox.open());
                    *harmless.entry(directory.clone()).or_insert(0) += 1;
                }
                Err(Error::PruneRefused { problems, first }) => {
                    assert!(problems > 0 && first.is_damage(), "{name}: {first}");
                    assert_eq!(sandbox.repository_files(), before, "{name}");
                    *refused.entry(directory.clone()).or_insert(0) += 1;
                }
                Err(other) => panic!("{name}: {other}"),
            }
            fs::remove_dir_all(sandbox.path("repo")).unwrap();
        }
    }
    println!("refused: {refused:?}, harmless: {harmless:?}");
    assert!(refused.len() == 3 && harmless.len() == 2, "{refused:?} {harmless:?}");
}

/// The last good copy of a chunk is kept, although the index says that it lies in another pack too.
#[test]
fn a_copy_is_not_deleted_for_a_damaged_twin() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.source().join("file"), noise(3, 300_000)).unwrap();
    sandbox.init();
    // Two openings that know nothing of each other store the same.
    let (one, two) = (sandbox.open(), sandbox.open());
    let begin = |repository: &Repository| {
        let options = BackupOptions { tags: vec![], ..backup_options(&sandbox.source(), None) };
        let mut writer = repository.backup(options).unwrap();
        walk(&mut writer, &sandbox.source()).unwrap();
        writer
    };
    let writers = [begin(&one), begin(&two)];
    let ids = writers.map(|writer| writer.finish(None).unwrap().id);
    let packs: Vec<_> = files(&sandbox, "data/")
        .into_iter()
        .map(|name| sandbox.path("repo").join(name))
        .filter(|path| fs::metadata(path).unwrap().len() > 250_000)
        .collect();
    assert_eq!(packs.len(), 2);
    fs::rename(sandbox.path("repo"), sandbox.path("original")).unwrap();
    let mut saved = 0;
    for path in &packs {
        copy(&sandbox.path("original"), &sandbox.path("repo"));
        let mut bad = fs::read(path).unwrap();
        bad[1000] ^= 1;
        fs::write(path, bad).unwrap();
        let opened = sandbox.open();
        let report = opened.prune(&everything()).unwrap();
        restores(&sandbox, &opened, ids[0], &describe(&sandbox.source()));
        saved += report.damaged.len();
        fs::remove_dir_all(sandbox.path("repo")).unwrap();
    }
    // One of the two was to be deleted, and it was the good one once.
    assert_eq!(saved, 1);
}

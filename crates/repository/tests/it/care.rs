//! Forgetting by a policy, copying, and repair; and pruning a full disk.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use jiff::ToSpan;
use provault_repository::{
    BackupOptions, BlobKind, CancelFlag, CheckLevel, CopyOptions, Error, ForgetPolicy, GroupBy,
    MaxUnused, Options, PruneOptions, RepairOptions, RepairReport, Repository, SnapshotId, Storage,
    StorageError, StoredObject,
};

use crate::hook::hooked;
use crate::support::{
    Sandbox, assert_same, backup_options, describe, noise, options, restore, small_tree, walk,
};

fn everything() -> PruneOptions {
    // What is not there was forgotten on purpose.
    PruneOptions { max_unused: MaxUnused::Bytes(0), allow_empty: true, ..PruneOptions::default() }
}

fn files(sandbox: &Sandbox, directory: &str) -> Vec<String> {
    let mut files = sandbox.repository_files();
    files.retain(|name| name.starts_with(directory));
    files
}

/// A generator of numbers, the same for the same seed.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

/// Against stock restic, on snapshots of random times, hosts, paths and tags.
#[test]
fn a_policy_keeps_what_restic_keeps() {
    let seed = std::env::var("PROVAULT_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| {
        std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_secs())
    });
    println!("seed {seed} (PROVAULT_SEED)");
    let mut numbers = Numbers::new(seed);
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let start: jiff::Timestamp = "2023-11-20T00:00:00Z".parse().unwrap();
    for _ in 0..70 {
        // Now close together, now far apart; over leap days, years and weeks of both.
        let range = [3, 60, 24 * 60, 500 * 24 * 60][usize::try_from(numbers.below(4)).unwrap()];
        let minutes = i64::try_from(numbers.below(range)).unwrap();
        let time = start + minutes.minutes() + i64::try_from(numbers.below(60)).unwrap().seconds();
        let tags = ["a", "b", "c"].into_iter().filter(|_| numbers.below(3) == 0);
        let options = BackupOptions {
            time,
            tags: tags.map(str::to_owned).collect(),
            hostname: ["one", "two"][usize::try_from(numbers.below(2)).unwrap()].to_owned(),
            paths: [vec!["/x".to_owned()], vec!["/y".to_owned(), "/x".to_owned()]]
                [usize::from(numbers.below(4) == 0)]
            .clone(),
            ..BackupOptions::default()
        };
        repository.backup(options).unwrap().finish(None).unwrap();
    }
    let snapshots = repository.snapshots().unwrap().snapshots;
    for _ in 0..12 {
        let mut policy = ForgetPolicy::default();
        let mut args: Vec<String> = Vec::new();
        let rules = [
            ("last", &mut policy.last),
            ("hourly", &mut policy.hourly),
            ("daily", &mut policy.daily),
            ("weekly", &mut policy.weekly),
            ("monthly", &mut policy.monthly),
            ("yearly", &mut policy.yearly),
        ];
        for (name, rule) in rules {
            if numbers.below(2) == 0 {
                *rule = u32::try_from(numbers.below(6)).unwrap();
                args.extend([format!("--keep-{name}"), rule.to_string()]);
            }
        }
        if numbers.below(2) == 0 {
            let within =
                ["1d", "36h", "1m3d", "1y1m", "13m"][usize::try_from(numbers.below(5)).unwrap()];
            policy.within = Some(within.parse().unwrap());
            args.extend(["--keep-within".to_owned(), within.to_owned()]);
        }
        for tags in ["a,b", "c"] {
            if numbers.below(4) == 0 {
                policy.tags.push(tags.split(',').map(str::to_owned).collect());
                args.extend(["--keep-tag".to_owned(), tags.to_owned()]);
            }
        }
        let groups = [
            ("host,paths", true, true, false),
            ("host", true, false, false),
            ("paths,tags", false, true, true),
            ("", false, false, false),
        ];
        let (names, host, paths, tags) = groups[usize::try_from(numbers.below(4)).unwrap()];
        policy.group_by = GroupBy { host, paths, tags };
        if policy.is_empty() {
            continue;
        }
        args.extend(["--group-by".to_owned(), names.to_owned()]);
        let command: Vec<&str> = ["forget", "--dry-run", "--json", "--quiet"]
            .into_iter()
            .chain(args.iter().map(String::as_str))
            .collect();
        let text = sandbox.restic(&command);
        let json = text.lines().find(|line| line.starts_with('[')).unwrap();
        let theirs: serde_json::Value = serde_json::from_str(json).unwrap();
        let mut expected: Vec<String> = Vec::new();
        for group in theirs.as_array().unwrap() {
            for snapshot in group["keep"].as_array().into_iter().flatten() {
                expected.push(snapshot["id"].as_str().unwrap().to_owned());
            }
        }
        let ours = policy.apply(&snapshots);
        assert_eq!(ours.len(), theirs.as_array().unwrap().len(), "groups of {args:?}");
        let kept = ours.iter().flat_map(|group| &group.keep);
        let mut kept: Vec<String> = kept.map(|kept| kept.snapshot.id.to_string()).collect();
        let forgotten: usize = ours.iter().map(|group| group.forget.len()).sum();
        assert_eq!(kept.len() + forgotten, snapshots.len());
        kept.sort();
        expected.sort();
        assert_eq!(kept, expected, "{args:?}");
    }
    let all = ForgetPolicy::default().apply(&snapshots);
    assert!(all.iter().all(|group| group.forget.is_empty()), "no rule forgets nothing");
    for wrong in ["", "5", "d", "3x", "1d2d", "-1d", "1.5d", "99999d"] {
        assert!(wrong.parse::<provault_repository::Period>().is_err(), "{wrong}");
    }
}

/// Two vaults with keys of their own; the copy is whole by itself, and done once.
#[test]
fn snapshots_are_copied_between_repositories() {
    let there = Sandbox::new();
    small_tree(&there.source());
    fs::write(there.source().join("large"), noise(8, 3_000_000)).unwrap();
    fs::write(there.source().join("text"), "compressible text\n".repeat(90_000)).unwrap();
    let source = there.init();
    let first = there.backup(&source);
    let before = describe(&there.source());
    fs::write(there.source().join("a/one"), "changed").unwrap();
    let second = there.backup_with(&source, Some(first.id)).unwrap();
    let after = describe(&there.source());

    let here = Sandbox::new();
    let target = here.init();
    let half = target.copy_from(&source, &[first.id], &CopyOptions::default()).unwrap();
    assert_eq!((half.copied.len(), half.failed.len()), (1, 0));
    let rest = target.copy_from(&source, &[first.id, second.id], &CopyOptions::default()).unwrap();
    assert_eq!((rest.copied.len(), rest.present), (1, half.copied.clone()));
    assert!(rest.stats.blobs < 6, "only what is new: {:?}", rest.stats);
    here.assert_clean();
    let copies = [(half.copied[0], &before), (rest.copied[0], &after)];
    for ((from, to), expected) in copies {
        let copy = target.snapshot(to).unwrap();
        let original = source.snapshot(from).unwrap();
        assert_eq!((copy.original, copy.parent), (Some(from), None));
        assert_eq!(
            (copy.time, &copy.tags, &copy.paths),
            (original.time, &original.tags, &original.paths)
        );
        assert_same(expected, &describe(&here.restore(&target, to, &from.short())));
    }
    // As restic copies back: it knows by the original that nothing is to be done.
    let back = source.copy_from(&target, &[rest.copied[0].1], &CopyOptions::default()).unwrap();
    assert_eq!(back.copied, []);

    // A snapshot that is hurt there is named, and does not keep the others. Its packs are its own,
    // for which file lies where in a pack is up to the threads.
    let there = Sandbox::new();
    let source = there.init();
    fs::write(there.source().join("large"), noise(8, 3_000_000)).unwrap();
    let first = there.backup(&source);
    let largest = files(&there, "data/")
        .into_iter()
        .max_by_key(|name| fs::metadata(there.path("repo").join(name)).unwrap().len())
        .unwrap();
    flip(&there, &largest, 500_000);
    let third = Sandbox::new();
    let anew = third.init();
    fs::remove_file(there.source().join("large")).unwrap();
    small_tree(&there.source());
    let small = there.backup(&source);
    let report = anew.copy_from(&source, &[first.id, small.id], &CopyOptions::default()).unwrap();
    assert_eq!((report.failed.len(), report.copied.len()), (1, 1), "{report:?}");
    assert!(report.failed[0].1.is_damage());
    third.assert_clean();
}

/// Every file of the repository.
fn contents(sandbox: &Sandbox) -> Vec<(String, Vec<u8>)> {
    let names = files(sandbox, "");
    let read = |name: String| (name.clone(), fs::read(sandbox.path("repo").join(name)).unwrap());
    names.into_iter().map(read).collect()
}

/// What a repair did, or would do.
fn outline(report: &RepairReport) -> impl PartialEq + std::fmt::Debug {
    let mut lost = report.lost_blobs.clone();
    lost.sort_unstable();
    (
        (report.index_files, report.listed_packs, report.damaged_packs.clone()),
        (report.rescued_blobs, report.fetched_blobs, lost),
    )
}

fn flip(sandbox: &Sandbox, name: &str, at: usize) {
    let path = sandbox.path("repo").join(name);
    let mut bytes = fs::read(&path).unwrap();
    let at = at.min(bytes.len() - 20);
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// Each pack and each index file in turn: damaged in its blobs, in its header, or gone. What a
/// second repository has comes from there; else from the source, by the next backup.
#[test]
fn what_is_damaged_is_mended() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    fs::write(sandbox.source().join("large"), noise(8, 1_500_000)).unwrap();
    let committed = sandbox.backup(&sandbox.init());
    let expected = describe(&sandbox.source());
    let second = Sandbox::new();
    let copy = second.init();
    copy.copy_from(&sandbox.open(), &[committed.id], &CopyOptions::default()).unwrap();
    let names = [files(&sandbox, "data/"), files(&sandbox, "index/")].concat();
    fs::rename(sandbox.path("repo"), sandbox.path("original")).unwrap();
    let all = RepairOptions { read_data: true, ..RepairOptions::default() };
    let restored = |repository: &Repository| {
        let out = sandbox.path("out");
        restore(repository, committed.id, b"data", &out).unwrap();
        assert_same(&expected, &describe(&out));
        fs::remove_dir_all(out).unwrap();
    };
    let mut lost = 0;
    for name in &names {
        for damage in ["blob", "header", "gone"] {
            for from_copy in [true, false] {
                crate::faults::copy(&sandbox.path("original"), &sandbox.path("repo"));
                match damage {
                    "blob" => flip(&sandbox, name, 20),
                    "header" => flip(&sandbox, name, usize::MAX),
                    _ => fs::remove_file(sandbox.path("repo").join(name)).unwrap(),
                }
                let case = format!("{damage} of {name}, copy {from_copy}");
                let repository = sandbox.open();
                let others = if from_copy { vec![copy.clone()] } else { vec![] };
                let before = contents(&sandbox);
                let dry = RepairOptions { dry_run: true, ..all.clone() };
                let foretold = repository.repair(&others, &dry).unwrap();
                assert_eq!(contents(&sandbox), before, "{case}: a dry run changes nothing");
                let report = repository.repair(&others, &all).unwrap();
                assert_eq!(outline(&foretold), outline(&report), "{case}");
                if from_copy || name.starts_with("index/") {
                    assert!(report.check.is_clean(), "{case}: {:?}", report.check.problems);
                    assert!(report.lost_blobs.is_empty(), "{case}");
                    restored(&repository);
                } else if !report.lost_blobs.is_empty() {
                    lost += 1;
                    assert!(report.check.hurt_total > 0, "{case}");
                    assert!(repository.prune(&everything()).is_err(), "{case}");
                    // The source still has it.
                    sandbox.backup_with(&repository, Some(committed.id)).unwrap();
                    restored(&repository);
                }
                let text = sandbox.restic(&["check", "--read-data"]);
                assert!(text.contains("no errors were found"), "{case}: {text}");
                // What was damaged is still there, and goes with the next prune.
                repository.prune(&everything()).unwrap();
                let report = repository.check(CheckLevel::ReadData, &CancelFlag::new()).unwrap();
                assert!(report.is_clean(), "{case}: {:?}", report.problems);
                assert!(
                    report.unreferenced_packs == 0 && files(&sandbox, "provault/prune").is_empty()
                );
                restored(&repository);
                fs::remove_dir_all(sandbox.path("repo")).unwrap();
            }
        }
    }
    assert!(lost > 0);
}

/// What cannot be mended is named, and the rest stays restorable.
#[test]
fn what_cannot_be_mended_is_named() {
    let sandbox = Sandbox::new();
    // By itself first: which file lies where in a pack is up to the threads.
    fs::write(sandbox.source().join("large"), noise(8, 900_000)).unwrap();
    let repository = sandbox.init();
    let alone = sandbox.backup(&repository);
    small_tree(&sandbox.source());
    let committed = sandbox.backup_with(&repository, Some(alone.id)).unwrap();
    repository.forget(&[alone.id]).unwrap();
    let largest = files(&sandbox, "data/")
        .into_iter()
        .max_by_key(|name| fs::metadata(sandbox.path("repo").join(name)).unwrap().len())
        .unwrap();
    // Somewhere in the large file, which is most of the pack.
    flip(&sandbox, &largest, 600_000);
    let all = RepairOptions { read_data: true, ..RepairOptions::default() };
    let report = repository.repair(&[], &all).unwrap();
    assert_eq!(report.lost_blobs.len(), 1, "{report:?}");
    assert_eq!(report.lost_blobs[0].0, BlobKind::Data);
    let hurt: Vec<_> =
        report.check.hurt.iter().map(|hurt| (hurt.snapshot, &hurt.path[..])).collect();
    assert_eq!(hurt, [(committed.id, &b"data/large"[..])]);
    assert!(report.rescued_blobs > 0);
    let reader = repository.reader().unwrap();
    let snapshot = repository.snapshot(committed.id).unwrap();
    for path in [&b"data/three"[..], b"data/a/one", b"data/a/b/two"] {
        let entry = reader.entry(&snapshot, path).unwrap();
        reader.read_file(&entry, &mut |_, _| Ok(())).unwrap();
    }
    drop(reader);
    // Forgotten, the repository is whole.
    let refused = repository.prune(&everything());
    assert!(matches!(refused, Err(Error::PruneRefused { .. })), "{refused:?}");
    repository.forget(&[committed.id]).unwrap();
    repository.prune(&everything()).unwrap();
    sandbox.assert_clean();
    assert!(files(&sandbox, "data/").is_empty());
}

/// A damaged pack whose blobs are whole is known by the index alone. Where there is no room to copy
/// them it stays there.
#[test]
fn a_repair_without_room_takes_nothing_away() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    fs::write(sandbox.source().join("large"), noise(8, 900_000)).unwrap();
    let committed = sandbox.backup(&sandbox.init());
    let expected = describe(&sandbox.source());
    for name in files(&sandbox, "data/") {
        flip(&sandbox, &name, usize::MAX);
    }
    let left = Mutex::new(100_000);
    let full = Arc::new(Quota { inner: sandbox.storage(), left });
    let repository = Repository::open(full, &sandbox.password, options()).unwrap();
    let all = RepairOptions { read_data: true, ..RepairOptions::default() };
    let report = repository.repair(&[], &all).unwrap();
    assert!(report.out_of_space && report.damaged_packs.is_empty(), "{report:?}");
    assert!(report.lost_blobs.is_empty(), "{report:?}");
    let out = sandbox.restore(&sandbox.open(), committed.id, "out");
    assert_same(&expected, &describe(&out));
    // With room it goes on.
    let report = sandbox.open().repair(&[], &all).unwrap();
    assert!(report.check.is_clean() && !report.out_of_space, "{report:?}");
    sandbox.open().prune(&everything()).unwrap();
    sandbox.assert_clean();
    assert_same(&expected, &describe(&sandbox.restore(&sandbox.open(), committed.id, "again")));
}

/// A backup that commits meanwhile does not bring damaged packs back into use.
#[test]
fn a_repair_beside_a_backup_keeps_damaged_packs_out() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    fs::write(sandbox.source().join("large"), noise(8, 900_000)).unwrap();
    let committed = sandbox.backup(&sandbox.init());
    let largest = files(&sandbox, "data/")
        .into_iter()
        .max_by_key(|name| fs::metadata(sandbox.path("repo").join(name)).unwrap().len())
        .unwrap();
    flip(&sandbox, &largest, 600_000);
    for step in ["put provault/prune", "delete index/"] {
        let (storage, hook) = hooked(sandbox.storage());
        let repository = Repository::open(storage, &sandbox.password, options()).unwrap();
        let (other, root) = (sandbox.open(), sandbox.path(&step.replace('/', " ")));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("other"), noise(9, 50_000)).unwrap();
        hook.at(step, move || {
            let mut writer = other.backup(backup_options(&root, None)).unwrap();
            walk(&mut writer, &root).unwrap();
            writer.finish(None).unwrap();
        });
        let all = RepairOptions { read_data: true, ..RepairOptions::default() };
        let report = repository.repair(&[], &all).unwrap();
        assert_eq!(report.lost_blobs.len(), 1, "{step}: {report:?}");
    }
    // The source still has it, and it is read again.
    sandbox.backup_with(&sandbox.open(), Some(committed.id)).unwrap();
    sandbox.open().prune(&everything()).unwrap();
    sandbox.assert_clean();
}

/// A storage with room for so many bytes.
#[derive(Debug)]
struct Quota {
    inner: Arc<dyn Storage>,
    left: Mutex<i64>,
}

impl Storage for Quota {
    fn get(&self, name: &str) -> Result<Bytes, StorageError> {
        self.inner.get(name)
    }
    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        self.inner.get_range(name, offset, length)
    }
    fn put(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
        let mut left = self.left.lock().unwrap();
        // In blocks, as file systems have it.
        let size = i64::try_from(content.len().next_multiple_of(4096)).unwrap();
        if *left < size {
            let full = std::io::Error::from_raw_os_error(nix::errno::Errno::ENOSPC as i32);
            return Err(StorageError::io("put", name, &full));
        }
        self.inner.put(name, content)?;
        *left -= size;
        Ok(())
    }
    fn list(&self, prefix: &str) -> Result<Vec<StoredObject>, StorageError> {
        self.inner.list(prefix)
    }
    fn size(&self, name: &str) -> Result<u64, StorageError> {
        self.inner.size(name)
    }
    fn delete(&self, name: &str) -> Result<(), StorageError> {
        let size = self.inner.size(name)?;
        self.inner.delete(name)?;
        *self.left.lock().unwrap() += i64::try_from(size.next_multiple_of(4096)).unwrap();
        Ok(())
    }
}

/// Fills a repository until there is no room for a single block; half of the snapshots are
/// forgotten, and there is room again.
fn full_disk(sandbox: &Sandbox, repository: &Repository) {
    let mut kept = Vec::new();
    let mut forgotten = Vec::new();
    let backup = |number: u64| -> Result<SnapshotId, Error> {
        let root = sandbox.path(&format!("source{number}"));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("own"), noise(1000 + number, 150_000)).unwrap();
        let mut writer = repository.backup(backup_options(&root, None))?;
        walk(&mut writer, &root)?;
        Ok(writer.finish(None)?.id)
    };
    for number in 0.. {
        match backup(number) {
            Ok(id) if number % 2 == 0 => kept.push((id, number)),
            Ok(id) => forgotten.push(id),
            Err(error) => {
                assert!(error.is_no_space(), "{error}");
                break;
            }
        }
    }
    // And the last blocks.
    for number in 500.. {
        let small = sandbox.path(&format!("source{number}"));
        fs::create_dir(&small).unwrap();
        fs::write(small.join("x"), [0; 10]).unwrap();
        let writer = repository.backup(backup_options(&small, None));
        let done = writer.and_then(|mut writer| {
            walk(&mut writer, &small)?;
            writer.finish(None)
        });
        if let Err(error) = done {
            assert!(error.is_no_space(), "{error}");
            break;
        }
        forgotten.push(done.unwrap().id);
    }
    assert!(kept.len() > 3 && forgotten.len() > 3);
    repository.forget(&forgotten).unwrap();
    let report = repository.prune(&everything()).unwrap();
    assert!(report.deleted_bytes > 150_000 * 3, "{report:?}");
    assert!(!report.out_of_space && report.waiting_packs == 0, "{report:?}");
    assert!(report.reserve >= 1 << 20, "there is a reserve for the next time: {report:?}");
    let check = repository.check(CheckLevel::ReadData, &CancelFlag::new()).unwrap();
    assert!(check.is_clean(), "{:?}", check.problems);
    for (id, number) in kept {
        let out = sandbox.path("out");
        restore(repository, id, b"data", &out).unwrap();
        assert_eq!(fs::read(out.join("own")).unwrap(), noise(1000 + number, 150_000));
        fs::remove_dir_all(out).unwrap();
    }
    backup(9999).unwrap();
}

#[test]
fn a_full_storage_can_be_pruned() {
    let sandbox = Sandbox::new();
    drop(sandbox.init());
    let left = Mutex::new(2_000_000);
    let storage = Arc::new(Quota { inner: sandbox.storage(), left });
    let repository = Repository::open(storage, &sandbox.password, options()).unwrap();
    full_disk(&sandbox, &repository);
    sandbox.assert_clean();
}

/// A real file system of 4 MiB.
#[test]
fn a_full_disk_can_be_pruned() {
    let sandbox = Sandbox::new();
    let repo = sandbox.path("repo");
    fs::create_dir(&repo).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m", "none"])
        .arg(&repo)
        .stderr(Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        not_tested("a_full_disk_can_be_pruned: this host does not let us mount a tmpfs");
        return;
    }
    let tested = std::panic::catch_unwind(|| {
        let quick = Options { lock_settle: std::time::Duration::ZERO, ..options() };
        let repository = Repository::init(sandbox.storage(), &sandbox.password, quick).unwrap();
        full_disk(&sandbox, &repository);
        drop(repository);
        sandbox.assert_clean();
    });
    let unmounted = Command::new("umount").arg(&repo).status().unwrap();
    if let Err(panic) = tested {
        std::panic::resume_unwind(panic);
    }
    assert!(unmounted.success());
}

/// Where the host forbids it; see CONTRIBUTING.md.
fn not_tested(why: &str) {
    match std::env::var_os("PROVAULT_NOT_TESTED") {
        Some(path) => {
            let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
            writeln!(file, "PROVAULT-NOT-TESTED: {why}").unwrap();
        }
        None => println!("PROVAULT-NOT-TESTED: {why}"),
    }
}

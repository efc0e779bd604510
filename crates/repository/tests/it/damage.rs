//! Each file of a small repository, damaged in each way, one at a time.

use std::fs;
use std::path::Path;

use provault_repository::{CancelFlag, CheckLevel, CheckOptions, EntryKind, Error, Repository};

use crate::support::{Sandbox, backup_options, describe, noise, small_tree, walk};

/// What a file's content becomes, given a place in it; `None` if the file is removed.
type Damage = fn(&[u8], usize) -> Option<Vec<u8>>;

const DAMAGES: [(&str, Damage); 5] = [
    ("flip", |content, at| {
        let mut content = content.to_vec();
        let at = at % content.len();
        content[at] ^= 0x20;
        Some(content)
    }),
    ("truncate", |content, at| Some(content[..at % content.len()].to_vec())),
    ("extend", |content, _| Some([content, b"x"].concat())),
    ("empty", |_, _| Some(Vec::new())),
    ("remove", |_, _| None),
];

/// Restores what can be restored; returns the paths of the whole files with their content's hash.
fn restorable(repository: &Repository) -> Vec<(Vec<u8>, provault_repository::Id)> {
    let mut whole = Vec::new();
    let list = repository.snapshots().unwrap();
    for (_, error) in &list.damaged {
        assert!(error.is_damage());
    }
    for snapshot in list.snapshots {
        let reader = repository.reader().unwrap();
        let entries = match reader.entries(&snapshot, b"data") {
            Ok(entries) => entries,
            Err(error) => {
                assert!(error.is_damage(), "{error}");
                continue;
            }
        };
        for entry in entries {
            match entry {
                Ok(entry) if entry.kind == EntryKind::File => {
                    let mut content = Vec::new();
                    match reader.read_file(&entry, &mut |_, bytes| {
                        content.extend_from_slice(bytes);
                        Ok(())
                    }) {
                        Ok(()) => {
                            whole.push((entry.path, provault_repository::Id::hash(&content)));
                        }
                        Err(error) => {
                            assert!(error.is_damage(), "{error}");
                            let name = String::from_utf8(entry.path).unwrap();
                            assert!(error.to_string().contains(&name), "{error} names {name}");
                        }
                    }
                }
                Ok(_) => {}
                Err(error) => assert!(error.is_damage(), "{error}"),
            }
        }
    }
    whole
}

fn damaged_everywhere(directory: &str, spots: usize) {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    fs::write(sandbox.source().join("a/large"), noise(4, 1_500_000)).unwrap();
    let repository = sandbox.init();
    let committed = sandbox.backup(&repository);
    let good = restorable(&repository);
    assert_eq!(good.len(), 5);
    drop(repository);
    let files: Vec<_> =
        sandbox.repository_files().into_iter().filter(|name| name.starts_with(directory)).collect();
    assert!(!files.is_empty());
    let contents: Vec<_> =
        files.iter().map(|name| fs::read(sandbox.path("repo").join(name)).unwrap()).collect();
    for name in files.clone() {
        let path = sandbox.path("repo").join(&name);
        let content = fs::read(&path).unwrap();
        for (what, damage) in DAMAGES {
            // Spread over the file, its first and its last byte among them.
            let steps = if matches!(what, "flip" | "truncate") { spots } else { 1 };
            for step in 0..steps {
                let at = step * (content.len() - 1) / (steps - 1).max(1);
                apply(&path, damage(&content, at));
                found(&sandbox, &name, &format!("{what} at {at} of {name}"), &good, committed.id);
            }
        }
        // Each other file of its kind in its place, and one of another kind.
        for (other, other_content) in files.iter().zip(&contents) {
            if *other != name {
                apply(&path, Some(other_content.clone()));
                let case = format!("swap {other} for {name}");
                found(&sandbox, &name, &case, &good, committed.id);
            }
        }
        if name != "config" {
            apply(&path, Some(fs::read(sandbox.path("repo/config")).unwrap()));
            found(&sandbox, &name, &format!("swap config for {name}"), &good, committed.id);
        }
        apply(&path, Some(content));
    }
    sandbox.assert_clean();
}

fn apply(path: &Path, content: Option<Vec<u8>>) {
    match content {
        Some(content) => fs::write(path, content).unwrap(),
        None => fs::remove_file(path).unwrap(),
    }
}

fn found(
    sandbox: &Sandbox,
    name: &str,
    case: &str,
    good: &[(Vec<u8>, provault_repository::Id)],
    id: provault_repository::SnapshotId,
) {
    let repository = match sandbox.try_open() {
        Ok(repository) => repository,
        Err(error) => {
            let expected = match case.split(' ').next().unwrap() {
                "remove" if name == "config" => matches!(error, Error::NotARepository),
                "remove" => matches!(error, Error::WrongPassword { keys: 0 }),
                _ => error.is_damage(),
            };
            assert!(name == "config" || name.starts_with("keys/"), "{case}: {error}");
            assert!(expected, "{case}: {error}");
            return;
        }
    };
    assert!(name != "config" && !name.starts_with("keys/"), "{case}: opened");
    let whole = restorable(&repository);
    assert!(whole.iter().all(|file| good.contains(file)), "{case}: wrong content came out");
    let check = |expected: &[_]| {
        let level = CheckLevel::ReadData;
        let options = CheckOptions { level, expected, ..CheckOptions::default() };
        repository.check_with(&options, &CancelFlag::new()).unwrap()
    };
    let report = check(&[id]);
    if case.starts_with("remove") && name.starts_with("snapshots/") {
        // Only a catalog can tell that a snapshot is missing.
        let alone = check(&[]);
        assert!(alone.is_clean() && alone.snapshots == 0, "{case}: {:?}", alone.problems);
        assert!(matches!(report.problems[0].error, Error::SnapshotNotFound(other) if other == id));
    }
    assert!(!report.is_clean(), "{case} was not found");
    if name.starts_with("snapshots/") {
        assert_eq!((report.hurt.len(), report.hurt[0].snapshot), (1, id), "{case}");
        assert!(whole.is_empty());
    }
    // What the check calls unhurt is restorable, and what it calls hurt is not. (A damaged
    // snapshot is itself the problem; a pack's header may be damaged and no blob.)
    if !name.starts_with("snapshots/") {
        for (path, _) in good {
            let full = [b"data/", path.as_slice()].concat();
            let hurt = report.hurt.iter().any(|hurt| {
                hurt.snapshot == id
                    && full.starts_with(&hurt.path)
                    && matches!(full.get(hurt.path.len()), None | Some(b'/'))
                    || hurt.path.is_empty()
            });
            let restored = whole.iter().any(|(other, _)| other == path);
            assert_ne!(hurt, restored, "{case}: {}", String::from_utf8_lossy(path));
        }
        if report.hurt.is_empty() {
            assert_eq!(whole.len(), good.len(), "{case}");
        }
    }
}

#[test]
fn config() {
    damaged_everywhere("config", 5);
}

#[test]
fn keys() {
    damaged_everywhere("keys/", 5);
}

#[test]
fn snapshots() {
    damaged_everywhere("snapshots/", 6);
}

#[test]
fn indexes() {
    damaged_everywhere("index/", 6);
}

#[test]
fn packs() {
    damaged_everywhere("data/", 12);
}

/// The cheap check sees missing packs, wrong sizes, indexes and trees, but not a flipped byte in
/// file data: that is what the reading check is for.
#[test]
fn what_the_structure_check_sees() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.source().join("data"), noise(1, 900_000)).unwrap();
    let repository = sandbox.init();
    sandbox.backup(&repository);
    let check = |level| repository.check(level, &CancelFlag::new()).unwrap();
    let largest = sandbox
        .repository_files()
        .into_iter()
        .filter(|name| name.starts_with("data/"))
        .map(|name| sandbox.path("repo").join(name))
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let content = fs::read(&largest).unwrap();
    let mut flipped = content.clone();
    flipped[500_000] ^= 1;
    fs::write(&largest, flipped).unwrap();
    assert!(check(CheckLevel::Structure).is_clean());
    let report = check(CheckLevel::ReadData);
    assert_eq!(report.hurt.len(), 1);
    assert_eq!(report.hurt[0].path, b"data/data");
    fs::write(&largest, &content[..500_000]).unwrap();
    let cut = check(CheckLevel::Structure);
    assert!(cut.hurt.contains(&report.hurt[0]), "{:?}", cut.hurt);
    fs::remove_file(&largest).unwrap();
    let gone = check(CheckLevel::Structure).hurt;
    assert!(cut.hurt.iter().all(|file| gone.contains(file)), "{gone:?}");
    fs::write(&largest, &content).unwrap();
    assert!(check(CheckLevel::ReadData).is_clean());
}

/// A repaired file heals: a backup stores again what is lost, and both snapshots are whole.
#[test]
fn a_backup_stores_again_what_was_lost_with_an_index() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    let repository = sandbox.init();
    let first = sandbox.backup(&repository);
    drop(repository);
    for name in sandbox.repository_files() {
        if name.starts_with("index/") {
            fs::remove_file(sandbox.path("repo").join(name)).unwrap();
        }
    }
    let repository = sandbox.open();
    // The parent's trees cannot be read, so it counts for nothing, and every file is read.
    let second = sandbox.backup_with(&repository, Some(first.id)).unwrap();
    assert_eq!((second.stats.files_new, second.tree), (4, first.tree));
    sandbox.assert_clean();
    let source = describe(&sandbox.source());
    for (id, name) in [(first.id, "one"), (second.id, "two")] {
        assert_eq!(describe(&sandbox.restore(&repository, id, name)), source);
    }
}

/// The parent's trees are there and its file looks unchanged, but chunks of the file are lost.
#[test]
fn a_file_whose_chunks_are_lost_is_read_again_though_unchanged() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.source().join("large"), noise(2, 4_000_000)).unwrap();
    let repository = sandbox.init();
    // A writer that gives up leaves an index of its full packs, and none of trees.
    let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    walk(&mut writer, &sandbox.source()).unwrap();
    writer.settled_stats().unwrap();
    drop(writer);
    let indexes = |sandbox: &Sandbox| -> Vec<String> {
        let mut files = sandbox.repository_files();
        files.retain(|name| name.starts_with("index/"));
        files
    };
    let of_data = indexes(&sandbox);
    assert_eq!(of_data.len(), 1);
    let first = sandbox.backup(&repository);
    assert_eq!(indexes(&sandbox).len(), 2);
    fs::remove_file(sandbox.path("repo").join(&of_data[0])).unwrap();

    let second = sandbox.backup_with(&repository, Some(first.id)).unwrap();
    assert_eq!((second.stats.files_changed, second.stats.files_unchanged), (1, 0));
    assert_eq!((second.tree, second.stats.tree_blobs), (first.tree, 0));
    sandbox.assert_clean();
    sandbox.restore(&repository, first.id, "out");
}

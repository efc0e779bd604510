//! Reading in part: ranges, subtrees, holes, and bytes in the order of the packs.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use provault_repository::{
    CancelFlag, CheckLevel, ContentSink, Entry, EntryKind, Error, Metadata, Repository, Snapshot,
};

use crate::support::{Sandbox, assert_same, backup_options, describe, metadata, noise, small_tree};

fn entry(repository: &Repository, snapshot: &Snapshot, path: &[u8]) -> Entry {
    repository.reader().unwrap().entry(snapshot, path).unwrap()
}

#[test]
fn ranges_and_whole_files() {
    let sandbox = Sandbox::new();
    let root = sandbox.source();
    let mut content = noise(5, 7_000_000);
    content.extend_from_slice(&vec![0; 20_000_000]);
    content.extend_from_slice(&noise(6, 3_000_000));
    fs::write(root.join("file"), &content).unwrap();
    fs::write(root.join("empty"), "").unwrap();
    let repository = sandbox.init();
    let committed = sandbox.backup(&repository);
    let snapshot = repository.snapshot(committed.id).unwrap();
    let reader = repository.reader().unwrap();
    let file = reader.entry(&snapshot, b"/data/file").unwrap();

    let mut read = Vec::new();
    reader
        .read_file(&file, &mut |offset, bytes| {
            assert_eq!(offset, read.len() as u64);
            read.extend_from_slice(bytes);
            Ok(())
        })
        .unwrap();
    assert!(read == content);
    let size = content.len() as u64;
    for (offset, length) in [
        (0, 1),
        (0, size),
        (1, size),
        (6_999_999, 2),
        (size - 1, 1),
        (size - 1, 100),
        (size, 5),
        (size + 9, 1),
        (5_000_000, 20_000_000),
        (123, 0),
        (0, u64::MAX),
        (u64::MAX, u64::MAX),
    ] {
        let start = usize::try_from(offset.min(size)).unwrap();
        let end = usize::try_from(offset.saturating_add(length).min(size)).unwrap();
        let range = reader.read_range(&file, offset, length).unwrap();
        assert!(range == content[start..end.max(start)], "{offset} {length}");
    }
    let blobs = reader.blobs(&file).unwrap();
    assert_eq!(blobs.iter().map(|blob| blob.length).sum::<u64>(), size);
    assert!(blobs.len() >= 5);
    let empty = reader.entry(&snapshot, b"data/empty").unwrap();
    reader.read_file(&empty, &mut |_, _| panic!("an empty file has no bytes")).unwrap();
    let directory = reader.entry(&snapshot, b"data").unwrap();
    assert!(matches!(reader.read_range(&directory, 0, 1), Err(Error::NotAFile(_))));
    let sink_error =
        reader.read_file(&file, &mut |_, _| Err(std::io::ErrorKind::StorageFull.into()));
    assert!(matches!(sink_error, Err(Error::Sink { .. })));
}

#[test]
fn walks_of_parts() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    let repository = sandbox.init();
    let committed = sandbox.backup(&repository);
    let snapshot = repository.snapshot(committed.id).unwrap();
    let reader = repository.reader().unwrap();
    let paths = |path: &[u8]| -> Vec<String> {
        let entries = reader.entries(&snapshot, path).unwrap();
        entries.map(|e| String::from_utf8(e.unwrap().path).unwrap()).collect()
    };
    let all = ["a", "a/b", "a/b/two", "a/one", "empty", "link", "nothing", "three"];
    assert_eq!(paths(b"/data"), all);
    assert_eq!(paths(b"data/a/"), ["b", "b/two", "one"]);
    assert_eq!(paths(b"data/empty"), [""; 0]);
    assert_eq!(paths(b"/data/a/one"), ["one"]);
    let whole = paths(b"");
    assert_eq!(whole[..3], [".provault", ".provault/recovery-point.json", "data"]);
    assert_eq!(whole.len(), all.len() + 3);
    for missing in [&b"data/none"[..], b"data/a/one/x", b"other"] {
        assert!(matches!(reader.entry(&snapshot, missing), Err(Error::PathNotFound(_))));
    }
    assert_eq!(reader.recovery_point_record(&snapshot).unwrap().unwrap(), b"{\"record\":1}");
    assert_eq!(entry(&repository, &snapshot, b"").kind, EntryKind::Directory);
    let missing = provault_repository::Id::random();
    assert!(matches!(repository.snapshot(missing), Err(Error::SnapshotNotFound(_))));
}

#[test]
fn holes_are_remembered_and_restic_restores_zeros() {
    let sandbox = Sandbox::new();
    let root = sandbox.source();
    let file = File::create(root.join("sparse")).unwrap();
    file.set_len(40 << 20).unwrap();
    file.write_all_at(b"middle", 20 << 20).unwrap();
    let repository = sandbox.init();
    let extents = Some(vec![(20 << 20, 4096)]);
    let sparse = Metadata { data_extents: extents.clone(), ..metadata(&root.join("sparse")) };
    let backup = |meta: &Metadata, parent| {
        let mut writer = repository.backup(backup_options(&root, parent)).unwrap();
        let open = || Ok(Box::new(File::open(root.join("sparse"))?) as Box<dyn Read + Send>);
        writer.add_file(b"sparse", meta, &mut { open }).unwrap();
        writer.finish(None).unwrap()
    };
    let first = backup(&sparse, None);
    assert!(first.stats.bytes_stored < 100_000, "{:?}", first.stats);
    // A walker that finds the file unchanged need not ask for its holes again.
    let second = backup(&Metadata { data_extents: None, ..sparse.clone() }, Some(first.id));
    assert_eq!((second.stats.files_unchanged, second.tree), (1, first.tree));
    let snapshot = repository.snapshot(second.id).unwrap();
    assert_eq!(entry(&repository, &snapshot, b"data/sparse").metadata.data_extents, extents);
    sandbox.assert_clean();
    let restored = sandbox.restic_restore(second.id, "theirs").join("data/sparse");
    assert!(fs::read(restored).unwrap() == fs::read(root.join("sparse")).unwrap());
}

/// A sink that fails for one file hurts that file only; each chunk of twins is delivered to both.
#[test]
fn a_failing_sink_and_shared_chunks() {
    struct Sink {
        files: Vec<std::sync::Mutex<Vec<u8>>>,
    }
    impl ContentSink for Sink {
        fn write(&self, file: usize, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
            if file == 1 {
                return Err(std::io::ErrorKind::StorageFull.into());
            }
            let start = usize::try_from(offset).unwrap();
            let mut content = self.files[file].lock().unwrap();
            let end = content.len().max(start + bytes.len());
            content.resize(end, 0);
            content[start..start + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }
    let sandbox = Sandbox::new();
    let root = sandbox.source();
    let mut content = noise(8, 5_000_000);
    content.extend_from_within(..);
    for name in ["a", "b", "c", "d"] {
        fs::write(root.join(name), &content).unwrap();
        content.extend_from_slice(name.as_bytes());
    }
    let repository = sandbox.init();
    let committed = sandbox.backup(&repository);
    let snapshot = repository.snapshot(committed.id).unwrap();
    let reader = repository.reader().unwrap();
    let mut entries: Vec<_> =
        reader.entries(&snapshot, b"data").unwrap().map(Result::unwrap).collect();
    entries.push(reader.entry(&snapshot, b"data").unwrap());
    let sink = Sink { files: (0..4).map(|_| std::sync::Mutex::default()).collect() };
    let outcome = reader.copy_contents(&entries, &sink, &CancelFlag::new()).unwrap();
    let failed: Vec<_> = outcome.failed.iter().map(|failed| failed.file).collect();
    assert_eq!(failed, [1, 4]);
    assert!(matches!(outcome.failed[0].error, Error::Sink { .. }));
    assert!(matches!(outcome.failed[1].error, Error::NotAFile(_)));
    for (number, name) in [(0, "a"), (2, "c"), (3, "d")] {
        assert!(*sink.files[number].lock().unwrap() == fs::read(root.join(name)).unwrap());
    }
    let cancel = CancelFlag::new();
    cancel.cancel();
    let cancelled = reader.copy_contents(&entries, &sink, &cancel);
    assert!(matches!(cancelled, Err(Error::Cancelled)));
}

/// What a writer did not come to that died right after it had written its snapshot.
#[test]
fn what_a_snapshot_needs_is_listed_again_if_it_is_there() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    let repository = sandbox.init();
    fs::write(sandbox.source().join("large"), noise(9, 1_500_000)).unwrap();
    sandbox.backup(&repository);
    let old = [sandbox.path("repo/index"), sandbox.path("repo/data")].map(|directory| {
        let mut files = Vec::new();
        collect(&directory, &mut files);
        files
    });
    fs::write(sandbox.source().join("new"), "new").unwrap();
    let second = sandbox.backup(&repository).id;
    let look = || {
        let repository = sandbox.open();
        let snapshot = repository.snapshot(second).unwrap();
        repository.list_needed(&snapshot, &CancelFlag::new())
    };
    assert_eq!(look().unwrap(), 0);
    for file in &old[0] {
        fs::remove_file(file).unwrap();
    }
    assert!(!sandbox.open().check(CheckLevel::Structure, &CancelFlag::new()).unwrap().is_clean());
    assert!(look().unwrap() > 0);
    sandbox.assert_clean();
    let out = sandbox.restore(&sandbox.open(), second, "out");
    assert_same(&describe(&sandbox.source()), &describe(&out));

    for file in sandbox.repository_files().iter().filter(|name| name.starts_with("index/")) {
        fs::remove_file(sandbox.path("repo").join(file)).unwrap();
    }
    let largest = old[1].iter().max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap();
    fs::remove_file(largest).unwrap();
    let error = look().unwrap_err();
    assert!(error.is_damage(), "{error}");
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

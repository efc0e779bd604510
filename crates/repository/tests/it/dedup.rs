//! Nothing is stored twice, and nothing unchanged is read twice.

use std::fs;
use std::io::{self, Read};

use provault_repository::{CancelFlag, Error, FileOutcome, Metadata};

use crate::support::{
    Sandbox, assert_same, backup_options, describe, metadata, noise, small_tree, walk,
};

#[test]
fn the_same_content_is_stored_once() {
    let sandbox = Sandbox::new();
    let root = sandbox.source();
    small_tree(&root);
    fs::write(root.join("big"), noise(1, 6_000_000)).unwrap();
    let repository = sandbox.init();
    let first = sandbox.backup(&repository);
    assert!(first.stats.bytes_stored > 6_200_000);
    assert_eq!(first.stats.files_new, 5);

    // Without a parent all is read and nothing is stored: not even trees.
    let second = sandbox.backup(&repository);
    assert_eq!((second.stats.bytes_added, second.tree), (0, first.tree));
    assert!(second.stats.bytes_read > 6_200_000);

    // Another process, the same file under another name, and an insertion.
    fs::copy(root.join("big"), root.join("copy")).unwrap();
    let mut content = fs::read(root.join("big")).unwrap();
    content.splice(10..10, *b"inserted");
    fs::write(root.join("big"), content).unwrap();
    let third = sandbox.backup(&sandbox.open());
    // One chunk differs, of at most 8 MiB and some 1 MiB on average.
    assert!(third.stats.bytes_added < 4_000_000, "{:?}", third.stats);
    assert!(third.stats.data_blobs <= 2);
    sandbox.assert_clean();
}

type Change = fn(&mut Metadata);

#[test]
fn unchanged_files_are_not_opened() {
    let sandbox = Sandbox::new();
    let root = sandbox.source();
    small_tree(&root);
    let repository = sandbox.init();
    let first = sandbox.backup(&repository);
    let before = describe(&root);

    let mut writer = repository.backup(backup_options(&root, Some(first.id))).unwrap();
    let outcomes = walk(&mut writer, &root).unwrap();
    assert!(outcomes.iter().all(|o| matches!(o, FileOutcome::Unchanged { .. })), "{outcomes:?}");
    let second = writer.finish(Some(b"{\"record\":1}")).unwrap();
    assert_eq!((second.stats.bytes_read, second.tree), (0, first.tree));
    assert_eq!(
        (second.stats.files_unchanged, second.stats.bytes_total),
        (4, first.stats.bytes_total)
    );

    // Each sign of change alone makes it open the file.
    let meta = metadata(&root.join("three"));
    let changes: [(&str, Change); 4] = [
        ("size", |meta| meta.size += 1),
        ("mtime", |meta| meta.mtime.nanoseconds ^= 1),
        ("ctime", |meta| meta.ctime.seconds += 1),
        ("inode", |meta| meta.inode += 1),
    ];
    for (what, change) in changes {
        let mut writer = repository.backup(backup_options(&root, Some(first.id))).unwrap();
        let mut meta = meta.clone();
        change(&mut meta);
        let mut opened = false;
        let outcome = writer.add_file(b"three", &meta, &mut || {
            opened = true;
            Ok(Box::new(&b"new"[..]) as Box<dyn Read + Send>)
        });
        assert_eq!(outcome.unwrap(), FileOutcome::Stored { size: 3 }, "{what}");
        assert!(opened, "{what}");
        assert_eq!(writer.stats().files_changed, 1);
    }
    // A file whose chunks are gone is read again, whatever its signs.
    for id in repository.snapshots().unwrap().snapshots {
        repository.forget(&[id.id]).unwrap();
    }
    let third = {
        let mut writer = repository.backup(backup_options(&root, Some(second.id))).unwrap();
        walk(&mut writer, &root).unwrap();
        writer.finish(None).unwrap()
    };
    assert_eq!(third.stats.files_new, 4, "a forgotten parent is no parent");
    sandbox.assert_clean();
    assert_same(&before, &describe(&sandbox.restore(&repository, third.id, "out")));
}

#[test]
fn a_file_that_cannot_be_read_is_left_out_whole() {
    struct Breaks(usize);
    impl Read for Breaks {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::from_raw_os_error(5));
            }
            let count = buffer.len().min(self.0);
            buffer[..count].copy_from_slice(&noise(self.0 as u64, count));
            self.0 -= count;
            Ok(count)
        }
    }
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    let meta = Metadata { mode: 0o644, size: 30_000_000, ..Metadata::default() };
    let broken = writer.add_file(b"broken", &meta, &mut || {
        Ok(Box::new(Breaks(30_000_000)) as Box<dyn Read + Send>)
    });
    let error = broken.unwrap_err();
    assert!(error.is_source_read());
    assert!(error.to_string().contains("/data/broken"), "{error}");
    let gone = writer.add_file(b"gone", &meta, &mut || Err(io::ErrorKind::NotFound.into()));
    assert!(gone.unwrap_err().is_source_read());
    assert!(matches!(writer.begin_dir(b"..", &meta), Err(Error::InvalidName { .. })));
    // It shrank meanwhile: what was read counts.
    let shrunk = writer
        .add_file(b"shrunk", &meta, &mut || Ok(Box::new(&b"short"[..]) as Box<dyn Read + Send>));
    assert_eq!(shrunk.unwrap(), FileOutcome::Stored { size: 5 });
    let snapshot = writer.finish(None).unwrap();
    sandbox.assert_clean();
    let out = sandbox.restore(&repository, snapshot.id, "out");
    let names: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["shrunk"]);
    assert_eq!(fs::read(out.join("shrunk")).unwrap(), b"short");
}

#[test]
fn names_given_twice_or_out_of_order() {
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let meta = Metadata { mode: 0o644, ..Metadata::default() };
    let mut open = || Ok(Box::new(&b"x"[..]) as Box<dyn Read + Send>);
    let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    for name in [&b"b"[..], b"a", b"c"] {
        writer.add_file(name, &meta, &mut open).unwrap();
    }
    let snapshot = writer.finish(None).unwrap();
    sandbox.assert_clean();
    let reader = repository.reader().unwrap();
    let snapshot = repository.snapshot(snapshot.id).unwrap();
    let entries: Vec<_> =
        reader.entries(&snapshot, b"/data").unwrap().map(|e| e.unwrap().path).collect();
    assert_eq!(entries, [b"a", b"b", b"c"]);

    let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    writer.add_file(b"a", &meta, &mut open).unwrap();
    writer.begin_dir(b"a", &meta).unwrap();
    writer.end_dir().unwrap();
    assert!(matches!(writer.finish(None), Err(Error::InvalidName { .. })));
    assert_eq!(repository.snapshots().unwrap().snapshots.len(), 1);

    let mut options = backup_options(&sandbox.source(), None);
    options.root_path[0].name = b".provault".to_vec();
    assert!(matches!(repository.backup(options), Err(Error::InvalidName { .. })));
    let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    assert!(matches!(writer.end_dir(), Err(Error::UnbalancedDirectories(_))));
    assert!(matches!(writer.finish(None), Err(Error::WriterBroken(_))));
    let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    writer.begin_dir(b"open", &meta).unwrap();
    assert!(matches!(writer.finish(None), Err(Error::UnbalancedDirectories(_))));
}

/// What an interrupted backup has stored is there for the next one, and nothing else of it.
#[test]
fn what_an_interrupted_backup_keeps_is_not_stored_again() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.source()).unwrap();
    for n in 0..5_u8 {
        // A full pack, and one that is not.
        fs::write(sandbox.source().join(n.to_string()), noise(u64::from(n), 300_000)).unwrap();
    }
    let repository = sandbox.init();
    let cancel = CancelFlag::new();
    let mut options = backup_options(&sandbox.source(), None);
    options.cancel = cancel.clone();
    let mut writer = repository.backup(options).unwrap();
    walk(&mut writer, &sandbox.source()).unwrap();
    let stored = writer.settled_stats().unwrap();
    assert!(stored.bytes_stored > 1_500_000);
    cancel.cancel();
    assert_eq!(writer.keep().unwrap().data_blobs, stored.data_blobs);
    assert!(repository.snapshots().unwrap().snapshots.is_empty());
    drop(repository);

    // By another process, which knows only what is on the disk.
    let repository = sandbox.open();
    let mut writer = repository.backup(backup_options(&sandbox.source(), None)).unwrap();
    walk(&mut writer, &sandbox.source()).unwrap();
    let again = writer.finish(None).unwrap();
    assert_eq!(again.stats.data_blobs, 0, "{:?}", again.stats);
    sandbox.assert_clean();
}

#[test]
fn a_cancelled_backup_commits_nothing() {
    let sandbox = Sandbox::new();
    small_tree(&sandbox.source());
    let repository = sandbox.init();
    let cancel = CancelFlag::new();
    let mut options = backup_options(&sandbox.source(), None);
    options.cancel = cancel.clone();
    let mut writer = repository.backup(options).unwrap();
    walk(&mut writer, &sandbox.source()).unwrap();
    cancel.cancel();
    assert!(matches!(writer.finish(None), Err(Error::Cancelled)));
    assert!(repository.snapshots().unwrap().snapshots.is_empty());
    sandbox.assert_clean();
}

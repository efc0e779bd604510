//! A disk that cannot read some of its sectors: what lies there is damaged, all else is not.

use std::fs;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use nix::errno::Errno;
use provault_repository::{
    CancelFlag, CheckLevel, CopyOptions, Error, PackVerdict, RepairOptions, RepairReport,
    Repository, SnapshotId, Storage, StorageError, StoredObject,
};

use crate::support::{Sandbox, assert_same, describe, noise, options, restore};

/// Reads that touch one range of one object fail, so many times.
#[derive(Debug)]
struct Sectors {
    inner: Arc<dyn Storage>,
    bad: Mutex<Option<Bad>>,
}

#[derive(Debug, Clone)]
struct Bad {
    name: String,
    range: Range<u64>,
    errno: Errno,
    times: u32,
}

impl Sectors {
    fn under(sandbox: &Sandbox) -> (Arc<Self>, Repository) {
        let sectors = Arc::new(Self { inner: sandbox.storage(), bad: Mutex::default() });
        let storage = Arc::clone(&sectors) as Arc<dyn Storage>;
        (sectors, Repository::open(storage, &sandbox.password, options()).unwrap())
    }

    fn set(&self, name: &str, range: Range<u64>, errno: Errno) {
        self.set_times(name, range, errno, u32::MAX);
    }

    fn set_times(&self, name: &str, range: Range<u64>, errno: Errno, times: u32) {
        *self.bad.lock().unwrap() = Some(Bad { name: name.to_owned(), range, errno, times });
    }

    fn read(&self, name: &str, range: &Range<u64>) -> Result<(), StorageError> {
        match self.bad.lock().unwrap().as_mut() {
            Some(bad)
                if bad.name == name
                    && bad.times > 0
                    && bad.range.start < range.end
                    && range.start < bad.range.end =>
            {
                bad.times -= 1;
                Err(StorageError::io("get", name, &std::io::Error::from(bad.errno)))
            }
            _ => Ok(()),
        }
    }
}

impl Storage for Sectors {
    fn get(&self, name: &str) -> Result<Bytes, StorageError> {
        self.read(name, &(0..u64::MAX)).and_then(|()| self.inner.get(name))
    }
    fn get_range(&self, name: &str, offset: u64, length: u64) -> Result<Bytes, StorageError> {
        let range = offset..offset.saturating_add(length);
        self.read(name, &range).and_then(|()| self.inner.get_range(name, offset, length))
    }
    fn put(&self, name: &str, content: Bytes) -> Result<(), StorageError> {
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

/// Nine files in one pack, their directories in another; a record of the backup is with them.
fn nine_files() -> (Sandbox, SnapshotId) {
    let sandbox = Sandbox::new();
    for number in 0..9 {
        let directory = sandbox.source().join(format!("d{number}"));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("file"), noise(number, 100_000)).unwrap();
    }
    let committed = sandbox.backup(&sandbox.init());
    (sandbox, committed.id)
}

fn files(sandbox: &Sandbox, directory: &str) -> Vec<String> {
    let mut files = sandbox.repository_files();
    files.retain(|name| name.starts_with(directory));
    files
}

/// The packs: that of data, then that of trees.
fn packs(sandbox: &Sandbox) -> [String; 2] {
    let mut packs = files(sandbox, "data/");
    packs.sort_by_key(|name| fs::metadata(sandbox.path("repo").join(name)).unwrap().len());
    packs.reverse();
    packs.try_into().unwrap()
}

fn repaired(
    repository: &Repository,
    others: &[Repository],
    read_data: bool,
) -> Result<RepairReport, Error> {
    repository.repair(others, &RepairOptions { read_data, ..RepairOptions::default() })
}

#[test]
fn a_pack_with_a_bad_sector_is_damaged_and_the_next_one_is_read() {
    let (sandbox, _) = nine_files();
    let (sectors, repository) = Sectors::under(&sandbox);
    let verifier = repository.verifier().unwrap();
    for name in packs(&sandbox) {
        sectors.set(&name, 50..51, Errno::EIO);
        let mut damaged = 0;
        for (id, size) in verifier.packs().unwrap() {
            match verifier.verify(id).unwrap() {
                PackVerdict::Damaged { reason, .. } => {
                    assert!(name.ends_with(&id.to_string()), "{name}: {id}");
                    assert!(reason.contains("kernel's log"), "{reason}");
                    damaged += 1;
                }
                other => assert_eq!(other, PackVerdict::Whole { bytes: size }),
            }
        }
        assert_eq!(damaged, 1);
        // What says nothing of the pack is no damage.
        sectors.set(&name, 50..51, Errno::ETIMEDOUT);
        let id = name.rsplit('/').next().unwrap().parse().unwrap();
        let error = verifier.verify(id).unwrap_err();
        assert!(matches!(error, Error::Storage(_)), "{error}");
    }
}

/// Also where the sector lies between two blobs that are read in one go.
#[test]
fn what_lies_around_a_bad_sector_is_saved() {
    let (sandbox, id) = nine_files();
    let expected = describe(&sandbox.source());
    let second = Sandbox::new();
    let copy = second.init();
    copy.copy_from(&sandbox.open(), &[id], &CopyOptions::default()).unwrap();
    fs::rename(sandbox.path("repo"), sandbox.path("original")).unwrap();
    for (pack, at) in [(0, 450_000..450_001), (1, 1000..1001)] {
        for others in [vec![], vec![copy.clone()]] {
            assert!(
                std::process::Command::new("cp")
                    .arg("-a")
                    .args([sandbox.path("original"), sandbox.path("repo")])
                    .status()
                    .unwrap()
                    .success()
            );
            let name = packs(&sandbox)[pack].clone();
            let (sectors, repository) = Sectors::under(&sandbox);
            sectors.set(&name, at.clone(), Errno::EACCES);
            let error = repaired(&repository, &others, true).unwrap_err();
            assert!(matches!(error, Error::Storage(_)), "{error}");
            sectors.set(&name, at.clone(), Errno::EIO);
            let report = repaired(&repository, &others, true).unwrap();
            let damaged: Vec<_> = report.damaged_packs.iter().map(ToString::to_string).collect();
            assert_eq!(damaged, [name.rsplit('/').next().unwrap()]);
            // With the record of the backup and the directories above.
            let all = if pack == 0 { 10 } else { 12 };
            assert_eq!(report.rescued_blobs, all - 1, "{report:?}");
            if others.is_empty() {
                assert_eq!((report.lost_blobs.len(), report.check.is_clean()), (1, false));
            } else {
                assert_eq!((report.fetched_blobs, report.lost_blobs.len()), (1, 0));
                assert!(report.check.is_clean(), "{:?}", report.check.problems);
                let out = sandbox.path("out");
                restore(&repository, id, b"data", &out).unwrap();
                assert_same(&expected, &describe(&out));
                fs::remove_dir_all(out).unwrap();
            }
            fs::remove_dir_all(sandbox.path("repo")).unwrap();
        }
    }
}

/// Without reading data: the look around itself comes upon it.
#[test]
fn a_repair_goes_on_over_unreadable_index_files_trees_and_snapshots() {
    for directory in ["index/", "data/", "snapshots/"] {
        let (sandbox, id) = nine_files();
        let second = Sandbox::new();
        let copy = second.init();
        copy.copy_from(&sandbox.open(), &[id], &CopyOptions::default()).unwrap();
        let name = match directory {
            "data/" => packs(&sandbox)[1].clone(),
            _ => files(&sandbox, directory).remove(0),
        };
        let (sectors, repository) = Sectors::under(&sandbox);
        sectors.set(&name, 0..100, Errno::ETIMEDOUT);
        let error = repaired(&repository, std::slice::from_ref(&copy), false).unwrap_err();
        assert!(matches!(error, Error::Storage(_)), "{directory} {error}");
        sectors.set(&name, 0..100, Errno::EIO);
        let report = repaired(&repository, &[copy], false).unwrap();
        if directory == "snapshots/" {
            assert_eq!(report.damaged_snapshots.len(), 1, "{report:?}");
            continue;
        }
        assert!(report.lost_blobs.is_empty() && report.check.is_clean(), "{report:?}");
        assert_eq!(report.index_files, u64::from(directory == "index/"));
        assert_eq!(report.listed_packs, if directory == "index/" { 2 } else { 0 });
        assert_eq!(report.fetched_blobs, u64::from(directory == "data/"), "{report:?}");
        let check = repository.check(CheckLevel::ReadData, &CancelFlag::new()).unwrap();
        assert!(check.is_clean(), "{:?}", check.problems);
        let restored = sandbox.restore(&repository, id, "out");
        assert_same(&describe(&sandbox.source()), &describe(&restored));
    }
}

/// A disk or a cable that fails now and then costs no index file.
#[test]
fn an_index_file_is_not_given_up_for_a_bad_reading() {
    for bad_readings in 1..6 {
        let (sandbox, id) = nine_files();
        let index = files(&sandbox, "index/").remove(0);
        let (sectors, repository) = Sectors::under(&sandbox);
        sectors.set_times(&index, 0..100, Errno::EIO, bad_readings);
        let report = repaired(&repository, &[], false).unwrap();
        // The look around reads it twice, and then it is read again before it would be deleted.
        let deleted = bad_readings >= 3;
        assert_eq!(report.index_files, u64::from(deleted), "{bad_readings}: {report:?}");
        assert_eq!(files(&sandbox, "index/").contains(&index), !deleted, "{bad_readings}");
        assert_eq!(report.listed_packs, if bad_readings < 2 { 0 } else { 2 });
        assert!(report.lost_blobs.is_empty() && report.check.is_clean(), "{report:?}");
        restore(&repository, id, b"data", &sandbox.path("out")).unwrap();
    }
}

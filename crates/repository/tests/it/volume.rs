//! Volumes: stock restic, holes, damage, lists of changes that do not fit.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Mutex;

use provault_repository::{
    ByteRange, CancelFlag, ChangedBlocks, Error, Extent, RawImage, RawTarget, SnapshotId,
    VolumeOptions, VolumeRestoreOptions, VolumeSource,
};

use crate::support::{Sandbox, noise};
use crate::volume_model::{Model, PAGE, assert_equal, back_up, open, options, volume};

const MIB: u64 = 1 << 20;

/// 150 MiB and a bit: data at the edges of segments, and holes between.
fn sample() -> Model {
    let mut model = Model::of_size(150 * MIB + 12_345);
    model.write(0, &noise(1, 300_000));
    model.write(64 * MIB - 8192, &noise(2, 16_384));
    model.write(100 * MIB, &vec![0; 1_000_000]);
    model.write(150 * MIB + 8192, &noise(3, 4153));
    model
}

fn write_image(model: &Model, path: &std::path::Path) {
    let file = File::create(path).unwrap();
    file.set_len(model.size).unwrap();
    for (number, page) in &model.pages {
        let length = usize::try_from(PAGE.min(model.size - number * PAGE)).unwrap();
        file.write_all_at(&page[..length], number * PAGE).unwrap();
    }
}

/// From a raw image into the repository; out of it by stock restic and `cat`, as the how-to says.
#[test]
fn stock_restic_restores_a_volume() {
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let (model, image) = (sample(), sandbox.path("image"));
    write_image(&model, &image);
    let source = RawImage::open(&image).unwrap();
    let data: u64 = source
        .extents(ByteRange { offset: 0, length: source.size() })
        .unwrap()
        .iter()
        .filter(|extent| !extent.zero)
        .map(|extent| extent.range.length)
        .sum();
    assert!(data < 2 * MIB, "TMPDIR must be on a file system with holes: {data} bytes of data");
    let (committed, stats) = back_up(&repository, None, None, &source).unwrap();
    assert!(stats.bytes_read <= data, "holes were read: {}", stats.bytes_read);
    assert_equal(&model, &open(&repository, committed.id));
    sandbox.assert_clean();

    let restored = sandbox.restic_restore(committed.id, "theirs");
    let joined = Command::new("sh")
        .args([
            "-c",
            "cat disk.volume/group-*/segment-*/data > ../joined && cmp ../joined ../image",
        ])
        .current_dir(&restored)
        .status()
        .unwrap();
    assert!(joined.success());
    let description = fs::read_to_string(restored.join("disk.volume/volume.json")).unwrap();
    assert!(description.contains("\"provault_volume\":1"), "{description}");

    // Equal content, once more: nothing is new but the snapshot.
    let (again, stats) = back_up(&repository, Some(committed.id), None, &source).unwrap();
    assert_eq!(again.tree, committed.tree);
    assert_eq!((stats.blocks_new, stats.lists_new), (0, 0));
}

/// An image that exists is overwritten, what were data become holes, and what lies behind stays.
#[test]
fn an_existing_image_is_overwritten() {
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let mut model = Model::of_size(3 * MIB);
    model.write(MIB, &noise(1, 8192));
    let (committed, _) = back_up(&repository, None, None, &model).unwrap();
    let path = sandbox.path("old");
    fs::write(&path, vec![7; 4 << 20]).unwrap();
    let stored = open(&repository, committed.id);
    assert!(RawTarget::create(&path, stored.size()).is_err(), "it exists");
    assert!(RawTarget::overwrite(&path, 5 * MIB).is_err(), "it is too small");
    assert!(RawTarget::overwrite(&sandbox.root.path().join("source"), 1).is_err());
    let target = RawTarget::overwrite(&path, stored.size()).unwrap();
    let outcome = stored.restore(&target, &VolumeRestoreOptions::default()).unwrap();
    assert!(outcome.is_whole());
    let mut bytes = Vec::new();
    File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
    assert!(bytes[..3 << 20] == model.expected(0, 3 << 20) && bytes[3 << 20..] == vec![7; 1 << 20]);
}

#[test]
fn a_list_from_elsewhere_is_refused() {
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let mut model = sample();
    let (first, _) = back_up(&repository, None, None, &model).unwrap();
    let (second, _) = back_up(&repository, Some(first.id), None, &model).unwrap();
    model.write(MIB, &noise(9, 4096));
    let list = |base: SnapshotId| {
        Some(ChangedBlocks { base, ranges: vec![ByteRange { offset: MIB, length: PAGE }] })
    };
    let before = sandbox.repository_files();
    let refused = |parent: Option<SnapshotId>, base: SnapshotId, reason: &str| match back_up(
        &repository,
        parent,
        list(base),
        &model,
    ) {
        Err(error @ Error::BaseUnusable { .. }) => {
            assert!(error.to_string().contains(reason), "{error}");
        }
        other => panic!("{other:?}"),
    };
    refused(Some(second.id), first.id, "the parent of this backup is");
    refused(None, first.id, "has no parent");
    refused(Some(SnapshotId::hash(b"gone")), SnapshotId::hash(b"gone"), "has no parent");

    // A snapshot without this volume, and one whose blocks are of another size.
    let other = VolumeOptions { name: b"other".to_vec(), ..volume(None) };
    let (elsewhere, _) = repository.backup_volume(options(None), other, &model, None).unwrap();
    refused(Some(elsewhere.id), elsewhere.id, "does not hold this volume");
    repository.forget(&[elsewhere.id]).unwrap();
    let small = VolumeOptions { block_size: Some(64 << 10), ..volume(list(first.id)) };
    let refused = repository.backup_volume(options(Some(first.id)), small, &model, None);
    assert!(matches!(refused, Err(Error::BaseUnusable { .. })));
    let odd = VolumeOptions { block_size: Some(100_000), ..volume(None) };
    let refused = repository.backup_volume(options(None), odd, &model, None);
    assert!(matches!(refused, Err(Error::InvalidVolume(_))));
    let snapshots =
        |files: &[String]| files.iter().filter(|name| name.starts_with("snapshots/")).count();
    assert_eq!(snapshots(&sandbox.repository_files()), snapshots(&before));

    // After a refusal the same writer takes the volume without the list.
    let mut writer = repository.backup(options(Some(second.id))).unwrap();
    assert!(writer.add_volume(volume(list(first.id)), &model).is_err());
    writer.add_volume(volume(None), &model).unwrap();
    let committed = writer.finish(None).unwrap();
    assert_equal(&model, &open(&repository, committed.id));
}

/// What is taken over unseen has to be kept by somebody: a base that is forgotten meanwhile is
/// an error, and not a snapshot that a prune may hollow out.
#[test]
fn a_base_that_goes_meanwhile_is_refused() {
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let model = sample();
    let (first, _) = back_up(&repository, None, None, &model).unwrap();
    let list =
        ChangedBlocks { base: first.id, ranges: vec![ByteRange { offset: 0, length: PAGE }] };
    let mut writer = repository.backup(options(Some(first.id))).unwrap();
    writer.add_volume(volume(Some(list)), &model).unwrap();
    repository.forget(&[first.id]).unwrap();
    assert!(matches!(writer.finish(None), Err(Error::BaseUnusable { .. })));
    assert!(repository.snapshots().unwrap().snapshots.is_empty());
}

/// With a block of the base gone, reads of that block fail and no others; a restore tells where;
/// an increment that touches it reads the whole block anew.
#[test]
fn damage_hurts_one_block_and_heals() {
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let mut model = Model::of_size(80 * MIB);
    for block in 0..8u64 {
        model.write(block * 256 * 1024, &noise(block, 256 << 10));
    }
    let (committed, _) = back_up(&repository, None, None, &model).unwrap();
    let stored = open(&repository, committed.id);
    // Blocks of noise are kept as they are, so a flipped byte in a large pack hurts one of them.
    let pack = sandbox
        .repository_files()
        .into_iter()
        .filter(|name| name.starts_with("data/"))
        .max_by_key(|name| fs::metadata(sandbox.path("repo").join(name)).unwrap().len())
        .unwrap();
    let path = sandbox.path("repo").join(pack);
    let mut bytes = fs::read(&path).unwrap();
    bytes[300_000] ^= 1;
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false)]
    permissions.set_readonly(false);
    fs::set_permissions(&path, permissions).unwrap();
    fs::write(&path, bytes).unwrap();

    let mut hurt = Vec::new();
    for block in 0..8u64 {
        let mut bytes = vec![0; 256 << 10];
        match stored.read_at(block * 256 * 1024, &mut bytes) {
            Ok(()) => assert!(bytes == model.expected(block * 256 * 1024, bytes.len())),
            Err(error) => {
                assert!(error.is_damage() && error.to_string().contains("disk.volume"), "{error}");
                hurt.push(block * 256 * 1024);
            }
        }
    }
    assert_eq!(hurt.len(), 1);
    let target = RawTarget::create(&sandbox.path("restored"), stored.size()).unwrap();
    let outcome = stored.restore(&target, &VolumeRestoreOptions::default()).unwrap();
    assert!(!outcome.is_whole());
    assert_eq!(outcome.bytes_damaged, 256 << 10);
    assert_eq!(outcome.damaged.len(), 1);
    assert_eq!(outcome.damaged[0].range, ByteRange { offset: hurt[0], length: 256 << 10 });

    let written = model.write(hurt[0] + 4096, &noise(99, 4096));
    let list = ChangedBlocks { base: committed.id, ranges: vec![written] };
    let (healed, stats) = back_up(&repository, Some(committed.id), Some(list), &model).unwrap();
    assert_eq!(stats.bytes_read, 256 << 10);
    assert_equal(&model, &open(&repository, healed.id));
}

/// A source that fails, stops the job, or tells nonsense about its holes, at one place.
struct Faulty<'a> {
    model: &'a Model,
    at: u64,
    fault: Fault<'a>,
}

enum Fault<'a> {
    Read,
    Map,
    Gap,
    Cancel(&'a CancelFlag),
}

impl VolumeSource for Faulty<'_> {
    fn size(&self) -> u64 {
        self.model.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if offset >= self.at {
            match self.fault {
                Fault::Read => return Err(io::Error::other("bad sector")),
                Fault::Cancel(flag) => flag.cancel(),
                _ => {}
            }
        }
        self.model.read_at(offset, buffer)
    }

    fn extents(&self, range: ByteRange) -> io::Result<Vec<Extent>> {
        let mut extents = self.model.extents(range)?;
        if range.end() > self.at {
            match self.fault {
                Fault::Map => return Err(io::Error::other("bad map")),
                Fault::Gap => extents.truncate(extents.len() - 1),
                _ => {}
            }
        }
        Ok(extents)
    }
}

/// Whatever ends a backup early leaves no snapshot, and packs only that nothing refers to.
#[test]
fn a_backup_that_fails_leaves_nothing() {
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let model = sample();
    let flag = CancelFlag::new();
    for (fault, words) in [
        (Fault::Read, "bad sector"),
        (Fault::Map, "bad map"),
        (Fault::Gap, "gaps"),
        (Fault::Cancel(&flag), "cancelled"),
    ] {
        let source = Faulty { model: &model, at: 64 * MIB, fault };
        let mut options = options(None);
        options.cancel = flag.clone();
        let error = repository.backup_volume(options, volume(None), &source, None).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(repository.snapshots().unwrap().snapshots.is_empty());
    let mut writer = repository.backup(options(None)).unwrap();
    writer.add_volume(volume(None), &model).unwrap();
    drop(writer);
    let left = sandbox.repository_files();
    assert!(!left.iter().any(|name| name.starts_with("snapshots/") || name.starts_with("locks/")));
    let (committed, _) = back_up(&sandbox.open(), None, None, &model).unwrap();
    assert_equal(&model, &open(&repository, committed.id));
    sandbox.assert_clean();
}

/// Progress only grows, and ends with all of it; empty volumes and whole zeros are volumes too.
#[test]
fn progress_and_empty_volumes() {
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    for size in [0, 1, 70_000, 64 * MIB, 200 * MIB] {
        let model = Model::of_size(size);
        let (committed, stats) = back_up(&repository, None, None, &model).unwrap();
        assert_eq!(stats.bytes_read, 0);
        assert_equal(&model, &open(&repository, committed.id));
        assert_eq!(committed.stats.bytes_total, size);
    }
    let seen = Mutex::new(Vec::new());
    let seen = std::sync::Arc::new(seen);
    let heard = std::sync::Arc::clone(&seen);
    let mut options = options(None);
    options.progress =
        Some(std::sync::Arc::new(move |stats: &provault_repository::BackupStats| {
            heard.lock().unwrap().push(stats.bytes_read);
        }));
    let model = sample();
    let (committed, stats) = repository.backup_volume(options, volume(None), &model, None).unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.is_sorted() && seen.len() > 3);
    assert_eq!(seen.last(), Some(&stats.bytes_read));
    assert_eq!(committed.stats.bytes_read, stats.bytes_read);
    let stored = open(&repository, committed.id);
    assert!(stored.read_at(model.size - 1, &mut [0; 2]).is_err());
    assert!(stored.read_at(u64::MAX, &mut [0; 2]).is_err());
    let reader = repository.reader().unwrap();
    let snapshot = repository.snapshot(committed.id).unwrap();
    assert_eq!(reader.volumes(&snapshot).unwrap(), [b"disk.volume".to_vec()]);
}

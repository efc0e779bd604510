//! A real mount, looked at with the system's own calls.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use provault_repository::{
    BackupOptions, ExtendedAttribute, FileTime, Metadata, NodeKind, ObjectStorage, Options,
    Password, Repository, SnapshotId, VolumeOptions, VolumeSource,
};

use super::{MountError, MountOptions, Mounted, mount};

/// A volume of 80 MiB with a few bytes in it.
struct Image;

const SIZE: u64 = 80 << 20;
const PLACE: u64 = (64 << 20) - 3;

impl VolumeSource for Image {
    fn size(&self) -> u64 {
        SIZE
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        for (at, byte) in (offset..).zip(buffer) {
            *byte = if (PLACE..PLACE + 6).contains(&at) {
                b"volume"[usize::try_from(at - PLACE).unwrap()]
            } else {
                0
            };
        }
        Ok(())
    }
}

fn repository(root: &Path) -> Repository {
    let storage = Arc::new(ObjectStorage::local(&root.join("repo")).unwrap());
    Repository::init(storage, &Password::generate(), Options::default()).unwrap()
}

fn large() -> Vec<u8> {
    (0..5_000_000u32).map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect()
}

fn back_up(repository: &Repository, time: &str) -> SnapshotId {
    let time = time.parse().unwrap();
    let options = BackupOptions { time, ..BackupOptions::default() };
    let mut writer = repository.backup(options).unwrap();
    let plain = Metadata { mode: 0o750, uid: 12, gid: 34, links: 1, ..Metadata::default() };
    let mtime = FileTime { seconds: 1_600_000_000, nanoseconds: 5 };
    let attribute = ExtendedAttribute { name: b"user.note".to_vec(), value: b"\0kept".to_vec() };
    writer.begin_dir(b"deep", &plain).unwrap();
    let of_file = Metadata {
        mode: 0o640,
        size: 5_000_000,
        mtime,
        extended_attributes: vec![attribute],
        ..plain.clone()
    };
    writer.add_file(b"large", &of_file, &mut || Ok(Box::new(io::Cursor::new(large())))).unwrap();
    let link = NodeKind::Symlink { target: b"large".to_vec() };
    writer.add_node(b"link", &plain, &link).unwrap();
    writer.end_dir().unwrap();
    for number in 0..2000 {
        let name = format!("file {number:04}");
        let content = io::Cursor::new(name.clone().into_bytes());
        let of_file = Metadata { size: 9, ..plain.clone() };
        let mut content = Some(content);
        writer
            .add_file(name.as_bytes(), &of_file, &mut || {
                Ok(Box::new(content.take().unwrap()) as Box<dyn Read + Send>)
            })
            .unwrap();
    }
    let volume = VolumeOptions { name: b"disk".to_vec(), ..VolumeOptions::default() };
    writer.add_volume(volume, &Image).unwrap();
    writer.finish(None).unwrap().id
}

/// Mounts, or says that this host does not let anybody mount.
fn try_mount(
    test: &str,
    repository: &Repository,
    options: MountOptions,
    at: &Path,
) -> Option<Mounted> {
    fs::create_dir_all(at).unwrap();
    match mount(repository, options, at) {
        Ok(mounted) => Some(mounted),
        Err(MountError::Refused { error, .. })
            if !Path::new("/dev/fuse").exists()
                || error.raw_os_error() == Some(nix::errno::Errno::EPERM as i32) =>
        {
            let line = format!("PROVAULT-NOT-TESTED: {test}: no FUSE mounts here ({error})\n");
            match std::env::var_os("PROVAULT_NOT_TESTED") {
                Some(file) => {
                    let file = fs::OpenOptions::new().append(true).create(true).open(file);
                    file.unwrap().write_all(line.as_bytes()).unwrap();
                }
                None => print!("{line}"),
            }
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn check_snapshot(root: &Path) {
    let large = large();
    let path = root.join("deep/large");
    let file = File::open(&path).unwrap();
    for (offset, length) in [(0, 10), (1_234_567, 70_000), (4_999_990, 10), (2_000_000, 3_000_000)]
    {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset as u64).unwrap();
        assert!(bytes == large[offset..offset + length], "at {offset}");
    }
    assert!(fs::read(&path).unwrap() == large);
    assert!(fs::read(root.join("deep/link")).unwrap() == large);
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o640, 12, 34));
    assert_eq!((meta.mtime(), meta.mtime_nsec(), meta.len()), (1_600_000_000, 5, 5_000_000));
    assert_eq!(xattr::get(&path, "user.note").unwrap().unwrap(), b"\0kept");
    assert_eq!(xattr::get(&path, "user.other").unwrap(), None);
    assert_eq!(xattr::list(&path).unwrap().collect::<Vec<_>>(), ["user.note"]);

    let mut names: Vec<_> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 2003, "each name once");
    assert_eq!(fs::read(root.join("file 1999")).unwrap(), b"file 1999");
    assert!(!root.join("file 2000").exists());

    // The volume as one file, with its holes, and as it is stored.
    let mut image = File::open(root.join("disk.raw")).unwrap();
    assert_eq!(image.metadata().unwrap().len(), SIZE);
    let mut bytes = [1; 10];
    image.read_exact_at(&mut bytes, PLACE - 2).unwrap();
    assert_eq!(&bytes, b"\0\0volume\0\0");
    let data = nix::unistd::lseek(&image, 0, nix::unistd::Whence::SeekData).unwrap();
    assert_eq!(data, (64 << 20) - (256 << 10));
    let hole = nix::unistd::lseek(&image, data, nix::unistd::Whence::SeekHole).unwrap();
    assert_eq!(hole, (64 << 20) + (256 << 10));
    assert!(nix::unistd::lseek(&image, hole, nix::unistd::Whence::SeekData).is_err());
    assert_eq!(image.seek(SeekFrom::End(0)).unwrap(), SIZE);
    assert!(root.join("disk.volume/group-000000/segment-001/data").exists());

    for write in [
        File::create(root.join("new")).err(),
        fs::OpenOptions::new().write(true).open(root.join("file 0000")).err(),
        fs::remove_file(root.join("file 0000")).err(),
    ] {
        assert_eq!(write.unwrap().raw_os_error(), Some(nix::errno::Errno::EROFS as i32));
    }
}

#[test]
fn snapshots_are_seen_as_directories() {
    let scratch = tempfile::tempdir().unwrap();
    let repository = repository(scratch.path());
    let first = back_up(&repository, "2024-05-06T07:08:09Z");
    let second = back_up(&repository, "2024-05-06T07:08:09Z");
    let test = "snapshots_are_seen_as_directories";

    let full: PathBuf = scratch.path().join("full");
    fs::create_dir(&full).unwrap();
    symlink("x", full.join("y")).unwrap();
    let refused = mount(&repository, MountOptions::default(), &full);
    assert!(matches!(refused, Err(MountError::NotEmpty(_))));

    let all = scratch.path().join("all");
    let options = MountOptions::default();
    let Some(mut mounted) = try_mount(test, &repository, options, &all) else { return };
    for id in [first, second] {
        check_snapshot(&all.join("ids").join(id.short()));
    }
    let latest = fs::read_link(all.join("snapshots/latest")).unwrap();
    assert_eq!(latest, Path::new("2024-05-06T07:08:09Z-2"));
    check_snapshot(&all.join("snapshots/latest"));
    // One that is made meanwhile is seen.
    back_up(&repository, "2024-06-01T00:00:00Z");
    check_snapshot(&all.join("snapshots/2024-06-01T00:00:00Z"));
    // Also while a file is open, it goes at once.
    let open = File::open(all.join("snapshots/2024-05-06T07:08:09Z/file 0001")).unwrap();
    mounted.unmount().unwrap();
    assert!(fs::read_dir(&all).unwrap().next().is_none(), "it is unmounted");
    drop(open);

    let one = scratch.path().join("one");
    let snapshot = Some(repository.snapshot(first).unwrap());
    let options = MountOptions { snapshot, allow_other: true };
    let Some(mounted) = try_mount(test, &repository, options, &one) else { return };
    check_snapshot(&one);
    let cancel = provault_repository::CancelFlag::new();
    cancel.cancel();
    mounted.wait(&cancel).unwrap();
    assert!(fs::read_dir(&one).unwrap().next().is_none());
}

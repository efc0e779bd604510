//! The copies of restore tests, and what a restore makes.

// A test may fail by panicking; that is what it is for.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use common::{Images, content, listing, not_tested, request, resource, run, sample, text, with};
use provault_driver::conformance::{capture, restore};
use provault_driver::memory::MemorySource;
use provault_driver::reserved::Reserved;
use provault_driver::{CancelFlag, Driver, DriverError, WorkContext};
use provault_driver_volume::{VOLUME, VolumeDriver};
use serde_json::json;

/// A restored copy as a restore test makes it.
fn copy_of(images: &Images, tree: &MemorySource) -> PathBuf {
    let copy = images.fresh("copy");
    let driver = VolumeDriver::new();
    let mut metadata = request(&images.fresh("elsewhere"));
    metadata.insert("overwriteDevice".to_owned(), "true".to_owned());
    driver.direct_to_copy(&mut metadata, &copy);
    restore(&driver, &metadata, tree, &CancelFlag::new()).unwrap();
    copy
}

fn checked(copy: &Path, tree: &MemorySource) -> Result<(bool, String), DriverError> {
    let context = WorkContext { cancel: &CancelFlag::new(), progress: &|_, _| {} };
    let answer = VolumeDriver::new().check_copy(copy, tree, &context)?.unwrap();
    assert_eq!(answer.label, "blocks");
    Ok((answer.passed, answer.detail))
}

fn formatted(images: &Images, mkfs: &str, size: u64) -> PathBuf {
    let source = images.fresh("tree");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("letter"), "dear reader\n".repeat(5000)).unwrap();
    let image = images.fresh("fs.img");
    fs::File::create(&image).unwrap().set_len(size).unwrap();
    match mkfs {
        "ext4" => run("mkfs.ext4", &["-q", "-d", text(&source), text(&image)]),
        "xfs" => run("mkfs.xfs", &["-q", text(&image)]),
        _ => run("mkfs.btrfs", &["-q", "--rootdir", text(&source), text(&image)]),
    };
    image
}

#[test]
fn the_file_system_in_a_copy_is_checked() {
    for (mkfs, size) in [("ext4", 16 << 20), ("xfs", 320 << 20), ("btrfs", 128 << 20)] {
        let images = Images::new("raw");
        let image = formatted(&images, mkfs, size);
        let (tree, _) = capture(&VolumeDriver::new(), &resource(&image));
        let copy = copy_of(&images, &tree);
        assert_eq!(fs::metadata(copy.join("volume.raw")).unwrap().size(), size);
        let (passed, detail) = checked(&copy, &tree).unwrap();
        assert!(passed && detail.contains("in order") && detail.contains(mkfs), "{mkfs}: {detail}");
    }
}

/// A copy that is exactly what was captured is no proof when what was captured was broken.
#[test]
fn a_file_system_that_was_captured_broken_fails() {
    let images = Images::new("raw");
    let image = formatted(&images, "ext4", 16 << 20);
    // The inode of the root directory becomes something else.
    run("debugfs", &["-w", "-R", "set_inode_field <2> mode 0100644", text(&image)]);
    let (tree, _) = capture(&VolumeDriver::new(), &resource(&image));
    let (passed, detail) = checked(&copy_of(&images, &tree), &tree).unwrap();
    assert!(!passed && detail.contains("damaged"), "{detail}");
}

/// What a power cut leaves has a journal to be replayed: that is no damage.
#[test]
fn a_journal_that_was_not_written_back_is_replayed_for_the_check() {
    let test = "a_journal_that_was_not_written_back_is_replayed_for_the_check";
    let images = Images::new("raw");
    let image = formatted(&images, "ext4", 32 << 20);
    let place = images.fresh("mounted");
    fs::create_dir(&place).unwrap();
    let mount =
        std::process::Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&place).output();
    let mount = mount.unwrap();
    if !mount.status.success() {
        not_tested(test, String::from_utf8_lossy(&mount.stderr).trim());
        return;
    }
    let cut = images.fresh("cut.img");
    for number in 0..50 {
        fs::write(place.join(format!("new-{number}")), "x".repeat(number * 100)).unwrap();
    }
    // In the journal and on the disk, but not where it belongs.
    run("sync", &["-f", text(&place)]);
    fs::write(place.join("last"), "y").unwrap();
    run("sync", &["-f", text(&place)]);
    fs::copy(&image, &cut).unwrap();
    run("umount", &[text(&place)]);
    let features = run("dumpe2fs", &["-h", text(&cut)]);
    assert!(features.contains("needs_recovery"), "the image is clean, the test proves nothing");
    let (tree, _) = capture(&VolumeDriver::new(), &resource(&cut));
    let copy = copy_of(&images, &tree);
    let (passed, detail) = checked(&copy, &tree).unwrap();
    assert!(passed && detail.contains("journal replayed"), "{detail}");
    // The copy itself is as it was.
    assert_eq!(listing(&copy).len(), 1);
    assert_eq!(
        tree.volume_bytes(VOLUME),
        Some(fs::read(copy.join("volume.raw")).unwrap().as_slice())
    );
}

#[test]
fn a_copy_that_was_broken_is_noticed() {
    let images = Images::new("raw");
    let (tree, _) = capture(&VolumeDriver::new(), &resource(&images.image(&sample(1))));
    let copy = copy_of(&images, &tree);
    let image = copy.join("volume.raw");
    let (passed, detail) = checked(&copy, &tree).unwrap();
    assert!(passed && detail.contains("no file system is recognised"), "{detail}");
    let file = fs::OpenOptions::new().write(true).open(&image).unwrap();
    // In what was data, and in what was a hole.
    for place in [123_456, 700_000] {
        let old = fs::read(&image).unwrap()[place];
        file.write_all_at(&[old ^ 1], place as u64).unwrap();
        let (passed, detail) = checked(&copy, &tree).unwrap();
        assert!(!passed && detail.contains("other content between"), "{detail}");
        file.write_all_at(&[old], place as u64).unwrap();
    }
    file.set_len(0).unwrap();
    assert!(!checked(&copy, &tree).unwrap().0, "emptied");
    fs::remove_file(&image).unwrap();
    assert!(!checked(&copy, &tree).unwrap().0, "gone");
}

#[test]
fn damaged_data_is_told_by_the_check() {
    let images = Images::new("raw");
    let (mut tree, _) = capture(&VolumeDriver::new(), &resource(&images.image(&sample(1))));
    tree.damage_volume(VOLUME);
    let copy = images.fresh("copy");
    let mut metadata = request(&copy);
    VolumeDriver::new().direct_to_copy(&mut metadata, &copy);
    let error = restore(&VolumeDriver::new(), &metadata, &tree, &CancelFlag::new()).unwrap_err();
    assert_eq!(error.fault(), provault_domain::verdict::Fault::Data);
    assert!(!copy.exists());
}

#[test]
fn a_new_image_is_its_owners_and_may_be_larger() {
    let images = Images::new("raw");
    let driver = VolumeDriver::new();
    let (tree, _) = capture(&driver, &resource(&images.image(&sample(1))));
    for name in ["large.raw", "large.qcow2"] {
        let target = images.fresh(name);
        let asked =
            with(with(request(&target), "volumeSize", "1"), "availabilityZone", "us-east-1a");
        let outcome = restore(&driver, &asked, &tree, &CancelFlag::new()).unwrap();
        assert!(outcome.notes[0].contains("availabilityZone"), "{:?}", outcome.notes);
        assert!(outcome.verified.is_some());
        let found = fs::metadata(&target).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        assert!(found.blocks() * 512 < 4 << 20, "holes take no room");
        let bytes = content(&target);
        assert_eq!(bytes.len(), 1 << 30);
        assert_eq!(bytes[..sample(1).len()], sample(1));
        assert!(bytes[sample(1).len()..].iter().all(|byte| *byte == 0));
        // What it made can be registered, and backed up.
        let config = driver.check_config(&outcome.created.unwrap().config).unwrap();
        assert_eq!(config["path"], json!(target));
    }
    // AWS's keys that mean nothing here are refused by name, not forgotten.
    for key in ["volumeType", "iops", "throughput", "kmsKeyId"] {
        let refused =
            driver.check_restore(&with(request(Path::new("/x/y")), key, "1")).unwrap_err();
        assert_eq!(refused.member, key);
    }
}

/// A disk that fills up in the middle leaves nothing.
#[test]
fn a_full_disk_leaves_nothing() {
    let test = "a_full_disk_leaves_nothing";
    let images = Images::new("raw");
    let driver = VolumeDriver::new();
    let (tree, _) = capture(&driver, &resource(&images.image(&sample(1))));
    let small = images.fresh("small");
    fs::create_dir(&small).unwrap();
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=128k", "none"])
        .arg(&small)
        .output()
        .unwrap();
    if !mount.status.success() {
        not_tested(test, String::from_utf8_lossy(&mount.stderr).trim());
        return;
    }
    let failures: Vec<_> = ["disk.raw", "disk.qcow2"]
        .map(|name| restore(&driver, &request(&small.join(name)), &tree, &CancelFlag::new()))
        .into_iter()
        .map(|result| result.unwrap_err().to_string())
        .collect();
    let left = listing(&small);
    run("umount", &[text(&small)]);
    assert_eq!(left, Vec::<String>::new());
    for failure in failures {
        assert!(failure.contains("full") || failure.contains("No space"), "{failure}");
    }
}

#[test]
fn the_servers_own_data_is_neither_source_nor_target() {
    let images = Images::new("raw");
    let image = images.image(&sample(1));
    let inside = image.parent().unwrap().to_owned();
    let driver = VolumeDriver::reserving(Reserved::new(vec![inside.clone()]));
    let refused = driver.check_config(&json!({ "path": text(&image) })).unwrap_err();
    assert_eq!(refused.member, "path");
    assert!(driver.capture(&resource(&image), &CancelFlag::new()).is_err());
    let refused = driver.check_restore(&request(&inside.join("new.img"))).unwrap_err();
    assert_eq!(refused.member, "targetPath");
}

#[test]
fn settings_are_what_they_say() {
    let images = Images::new("raw");
    let driver = VolumeDriver::new();
    let image = images.image(&sample(1));
    let config = |extra: serde_json::Value| {
        let mut config = json!({ "path": text(&image) });
        for (key, value) in extra.as_object().unwrap() {
            config[key] = value.clone();
        }
        driver.check_config(&config)
    };
    let whole = json!({ "path": text(&image), "format": "raw", "changedBlocks": "hash", "whileInUse": "refuse" });
    assert_eq!(config(json!({})), Ok(whole));
    // What is no qcow2 image is not registered as one.
    assert_eq!(config(json!({ "format": "qcow2" })).unwrap_err().member, "path");
    for (key, value) in [("format", "vmdk"), ("changedBlocks", "magic"), ("whileInUse", "yes")] {
        assert_eq!(config(json!({ key: value })).unwrap_err().member, key);
    }
    for path in ["relative", "/", "/a/../b", "/nonexistent/image"] {
        assert_eq!(driver.check_config(&json!({ "path": path })).unwrap_err().member, "path");
    }
    assert_eq!(driver.check_config(&json!({ "path": "/tmp" })).unwrap_err().member, "path");
    let empty = images.fresh("empty.img");
    fs::write(&empty, "").unwrap();
    let mut sink = provault_driver::memory::MemorySink::new();
    let captured = provault_driver::conformance::capture_into(
        &driver,
        &resource(&empty),
        &mut sink,
        &CancelFlag::new(),
    );
    assert!(matches!(captured, Err(DriverError::SourceEmpty { .. })), "{captured:?}");
}

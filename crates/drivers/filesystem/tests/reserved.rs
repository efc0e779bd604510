//! The server's own data directory: not backed up, not restored into.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::{Trees, differences, request, resource, resource_with, with_items};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use provault_driver::conformance::{capture, capture_into, restore};
use provault_driver::memory::{MemorySink, MemorySource};
use provault_driver::{CancelFlag, CaptureReport, Driver, DriverError};
use provault_driver_filesystem::FilesystemDriver;
use serde_json::json;

const NOTE: &str = "is this server's own data directory and is not part of the backup.";

fn reserving(directory: &Path) -> FilesystemDriver {
    FilesystemDriver::reserving(vec![PathBuf::from("/no/such/directory"), directory.to_owned()])
}

/// A host: `srv/files` next to the data directory `srv/data`.
fn host(trees: &Trees) -> (PathBuf, PathBuf) {
    let root = trees.source();
    fs::create_dir_all(root.join("srv/data/vaults")).unwrap();
    fs::write(root.join("srv/data/key"), b"the key").unwrap();
    fs::write(root.join("srv/data/vaults/blob"), b"blob").unwrap();
    fs::create_dir(root.join("srv/database")).unwrap();
    fs::write(root.join("srv/database/rows"), b"rows").unwrap();
    fs::create_dir(root.join("srv/files")).unwrap();
    fs::write(root.join("srv/files/one"), b"one").unwrap();
    let data = root.join("srv/data");
    (root, data)
}

fn paths(tree: &MemorySource) -> Vec<String> {
    tree.list().iter().map(|e| String::from_utf8_lossy(&e.path).into_owned()).collect()
}

fn assert_left_out(tree: &MemorySource, report: &CaptureReport) {
    let expected =
        ["", "srv", "srv/data", "srv/database", "srv/database/rows", "srv/files", "srv/files/one"];
    assert_eq!(paths(tree), expected);
    assert_eq!(report.notes, [format!("srv/data: {NOTE}")]);
    assert_eq!((report.files, report.bytes, report.skipped.len()), (2, 7, 0));
}

#[test]
fn its_content_is_left_out_of_a_tree_around_it() {
    let trees = Trees::new();
    let (root, data) = host(&trees);
    // Without reservation it is like any directory.
    let (tree, report) = capture(&FilesystemDriver::new(), &resource(&root));
    assert!(tree.get(b"srv/data/key").is_some() && report.notes.is_empty());

    let (tree, report) = capture(&reserving(&data), &resource(&root));
    assert_left_out(&tree, &report);
    let target = trees.fresh("target");
    assert!(restore(&reserving(&data), &request(&target), &tree, &CancelFlag::new()).is_ok());
    fs::remove_file(data.join("key")).unwrap();
    fs::remove_dir_all(data.join("vaults")).unwrap();
    let mtime = fs::metadata(target.join("srv/data")).unwrap().modified().unwrap();
    fs::File::open(&data).unwrap().set_modified(mtime).unwrap();
    assert_eq!(differences(&root, &target), [""; 0], "the empty directory comes back");
}

#[test]
fn it_is_known_through_links_and_when_it_is_made_late() {
    let trees = Trees::new();
    let (root, data) = host(&trees);
    // The server was told a link; the backup a link to the tree.
    let (alias, way) = (trees.fresh("alias"), trees.fresh("way"));
    symlink(&data, &alias).unwrap();
    symlink(&root, &way).unwrap();
    let driver = reserving(&alias);
    let (tree, report) = capture(&driver, &resource(&way));
    assert_left_out(&tree, &report);
    for path in [&data, &alias, &way.join("srv/data/vaults")] {
        let error = driver.check_config(&json!({ "path": path })).unwrap_err();
        assert_eq!(error.member, "path");
        assert!(error.to_string().contains("own data directory"), "{error}");
    }

    // A driver made before its directory.
    let late = root.join("late");
    let driver = reserving(&late);
    assert!(driver.check_restore(&request(&late.join("x"))).is_err());
    fs::create_dir(&late).unwrap();
    fs::write(late.join("key"), b"key").unwrap();
    assert!(driver.check_config(&json!({ "path": late })).is_err());
    let (tree, report) = capture(&driver, &resource(&root));
    assert!(tree.get(b"late").is_some() && tree.get(b"late/key").is_none());
    assert_eq!(report.notes, [format!("late: {NOTE}")]);
}

#[test]
fn it_is_no_source() {
    let trees = Trees::new();
    let (root, data) = host(&trees);
    let driver = reserving(&data);
    for path in [data.clone(), data.join("vaults")] {
        let error = driver.check_config(&json!({ "path": path })).unwrap_err();
        assert_eq!(error.member, "path");
        assert!(error.to_string().contains("own data directory"), "{error}");
        assert!(FilesystemDriver::new().check_config(&json!({ "path": path })).is_ok());
    }
    // Around it, beside it, and where only the name begins alike.
    for path in [root.clone(), root.join("srv/files"), root.join("srv/database")] {
        assert!(driver.check_config(&json!({ "path": path })).is_ok(), "{path:?}");
    }

    // A registered link that was bent to it afterwards.
    let link = trees.fresh("link");
    symlink(root.join("srv/files"), &link).unwrap();
    let config = driver.check_config(&json!({ "path": link })).unwrap();
    fs::remove_file(&link).unwrap();
    symlink(data.join("vaults"), &link).unwrap();
    let mut sink = MemorySink::new();
    let result = capture_into(&driver, &resource_with(config), &mut sink, &CancelFlag::new());
    assert!(matches!(&result, Err(DriverError::Invalid(i)) if i.member == "path"), "{result:?}");
    assert!(sink.into_source().list().is_empty());
}

#[test]
fn it_is_no_target_but_for_the_server_itself() {
    let trees = Trees::new();
    let (root, data) = host(&trees);
    let driver = reserving(&data);
    let link = trees.fresh("link");
    symlink(&data, &link).unwrap();
    let refused = |request: &_, member: &str| {
        let error = driver.check_restore(request).unwrap_err();
        assert_eq!(error.member, member, "{error}");
        assert!(error.to_string().contains("own data directory"), "{error}");
        assert_eq!(FilesystemDriver::new().check_restore(request), Ok(()));
    };
    for target in [&data, &data.join("new"), &data.join("not/yet/there"), &link, &link.join("x")] {
        refused(&request(target), "targetPath");
    }
    for target in [root.join("srv/data2"), root.join("srv/new"), trees.fresh("away/data")] {
        assert_eq!(driver.check_restore(&request(&target)), Ok(()), "{target:?}");
    }
    // By default it would be beside a source that lies in it.
    let mut beside = driver.restore_metadata(&resource(&data.join("vaults")));
    refused(&beside, "targetPath");
    beside = driver.restore_metadata(&resource(&root.join("srv/files")));
    assert_eq!(driver.check_restore(&beside), Ok(()));
    // Single items go into what exists: also into a directory around it.
    let around = request(&root.join("srv"));
    refused(&with_items(around.clone(), &["files/x", "/data/vaults/evil"]), "ItemsToRestore");
    refused(&with_items(around.clone(), &["data"]), "ItemsToRestore");
    assert_eq!(driver.check_restore(&with_items(around, &["files/x", "datax"])), Ok(()));

    // The server's own restore tests.
    let (tree, _) = capture(&driver, &resource(&root.join("srv/files")));
    let copy = data.join("copy");
    assert!(restore(&driver, &request(&copy), &tree, &CancelFlag::new()).is_ok());
    assert_eq!(differences(&root.join("srv/files"), &copy), [""; 0]);
}

/// One on a disk that may hang is not looked at: known by its name, and below links to it.
#[test]
fn one_that_is_told_by_its_name_is_kept_out_of_too() {
    let trees = Trees::new();
    let (root, data) = host(&trees);
    let driver = FilesystemDriver::new().and_by_name(vec!["/no/such".into(), data.clone()]);
    let (tree, report) = capture(&driver, &resource(&root));
    assert_left_out(&tree, &report);
    let link = trees.source().join("link");
    symlink(data.join("vaults"), &link).unwrap();
    for path in [data.clone(), data.join("vaults"), link] {
        assert!(driver.check_config(&json!({ "path": path })).is_err(), "{path:?}");
        assert!(driver.check_restore(&request(&path.join("new"))).is_err(), "{path:?}");
    }
    assert!(driver.check_restore(&request(&root.join("srv/data-too"))).is_ok());
    assert!(driver.check_restore(&request(Path::new("/no/such/new"))).is_err());
}

#[test]
fn it_is_known_through_bind_mounts() {
    let is_root = nix::unistd::geteuid().is_root();
    assert!(is_root, "run as root, with CAP_SYS_ADMIN: this test makes a bind mount");
    let trees = Trees::new();
    let (root, data) = host(&trees);
    let place = root.join("srv/files/mounted");
    fs::create_dir(&place).unwrap();
    // Only this thread sees the mount; nobody else's mounts are touched.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
    mount(Some(&data), &place, nothing, MsFlags::MS_BIND, nothing).unwrap();

    let driver = reserving(&data);
    let (tree, report) = capture(&driver, &resource(&root.join("srv/files")));
    assert_eq!(paths(&tree), ["", "mounted", "one"]);
    assert_eq!(report.notes, [format!("mounted: {NOTE}")]);
    for path in [place.clone(), place.join("vaults")] {
        assert!(driver.check_config(&json!({ "path": path })).is_err(), "{path:?}");
        let result =
            capture_into(&driver, &resource(&path), &mut MemorySink::new(), &CancelFlag::new());
        assert!(matches!(result, Err(DriverError::Invalid(_))), "{result:?}");
    }
    assert!(driver.check_restore(&request(&place.join("vaults/new"))).is_err());
    umount2(&place, MntFlags::empty()).unwrap();
}

//! Images and devices that are no resource.

// A test may fail by panicking; that is what it is for.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{Images, Loop, resource, run, text};
use provault_domain::Resource;
use provault_driver::reserved::Reserved;
use provault_driver::{CancelFlag, Coverage, DiscoverRequest, Discovery, Driver};
use provault_driver_volume::VolumeDriver;

fn look(driver: &VolumeDriver, registered: &[Resource], most: u64) -> Discovery {
    let request = DiscoverRequest {
        registered,
        deadline: Instant::now() + Duration::from_mins(10),
        max_entries: most,
        large_bytes: 1 << 30,
    };
    driver.discover(&request, &CancelFlag::new()).unwrap()
}

#[test]
fn images_are_offered_as_they_can_be_registered() {
    let images = Images::new("raw");
    let root = images.dir.path().to_owned();
    let place = root.join("var/lib/libvirt/images");
    fs::create_dir_all(place.join("pool")).unwrap();
    let web = place.join("web.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", text(&web), "1M"]);
    fs::write(place.join("pool/web.img"), vec![1; 8192]).unwrap();
    fs::write(place.join("notes.txt"), "no image").unwrap();
    let driver = VolumeDriver::new().discovering(root.clone());
    let found = look(&driver, &[], 1000).found;
    let told: Vec<_> = found.iter().map(|f| (f.location.as_str(), f.name.as_str())).collect();
    let inner = place.join("pool/web.img");
    assert_eq!(told.len(), 2);
    assert!(told.iter().any(|(location, _)| *location == text(&inner)));
    assert_ne!(found[0].name, found[1].name);
    for one in &found {
        assert_eq!(driver.check_config(&one.config).as_ref(), Ok(&one.config));
        assert_eq!(one.coverage, Coverage::Nothing);
    }
    // What is registered is told as such, by whatever name.
    let link = root.join("link");
    std::os::unix::fs::symlink(&web, &link).unwrap();
    let found = look(&driver, &[resource(&link)], 1000).found;
    let covered = found.iter().find(|one| one.location == text(&web)).unwrap();
    assert_eq!(covered.coverage, Coverage::Registered("disk".to_owned()));
    // Limits cut, and the server's own data is no offer.
    assert!(look(&driver, &[], 1).cut.is_some());
    let reserving = VolumeDriver::reserving(Reserved::new(vec![place])).discovering(root);
    assert!(look(&reserving, &[], 1000).found.is_empty());
}

/// A device with a file system that nobody has mounted.
#[test]
fn a_device_that_is_not_mounted_is_offered() {
    let test = "a_device_that_is_not_mounted_is_offered";
    let images = Images::new("raw");
    let image = images.fresh("fs.img");
    fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    run("mkfs.ext4", &["-q", text(&image)]);
    let Some(device) = Loop::over(&image, test) else { return };
    // The host of this test calls it a disk.
    let root = images.dir.path().join("root");
    for dir in ["sys/class/block/vdx", "dev"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::os::unix::fs::symlink(&device.path, root.join("dev/vdx")).unwrap();
    let driver = VolumeDriver::new().discovering(root.clone());
    let found = look(&driver, &[], 1000).found;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].location, text(&root.join("dev/vdx")));
    assert!(found[0].what.contains("ext4"), "{}", found[0].what);
    assert_eq!(found[0].bytes, 8 << 20);
}

//! What is mounted, running or too small is neither captured nor written over.

// A test may fail by panicking; that is what it is for.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{
    Images, Loop, content, listing, not_tested, request, resource, resource_with, run, sample,
    text, with,
};
use provault_driver::conformance::{capture, capture_into, restore};
use provault_driver::memory::MemorySink;
use provault_driver::{CancelFlag, Driver, DriverError};
use provault_driver_volume::{VOLUME, VolumeDriver};
use serde_json::json;

fn failed<T: std::fmt::Debug>(result: Result<T, DriverError>) -> String {
    match result {
        Ok(done) => panic!("it was done: {done:?}"),
        Err(error) => error.to_string(),
    }
}

/// Mounted where only this test sees it; `None` where that is forbidden.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

fn mount<'a>(device: &Path, at: &'a Path, test: &str) -> Option<Mounted<'a>> {
    fs::create_dir(at).unwrap();
    let output = Command::new("mount").arg(device).arg(at).output().unwrap();
    if output.status.success() {
        return Some(Mounted(at));
    }
    not_tested(test, String::from_utf8_lossy(&output.stderr).trim());
    None
}

/// Something else that holds a file open for writing, until it is dropped.
struct Writer(Child);

impl Writer {
    fn of(path: &Path) -> Self {
        let script = format!("exec 3<>'{}'; echo open; read -r _", path.display());
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "open\n");
        Self(child)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_image_that_a_process_writes_to_is_refused() {
    let images = Images::new("raw");
    let image = images.image(&sample(1));
    let driver = VolumeDriver::new();
    let writer = Writer::of(&image);
    let refused = failed(driver.capture(&resource(&image), &CancelFlag::new()).map(|_| ()));
    assert!(refused.contains("in use") && refused.contains("process"), "{refused}");
    // Unless the settings say so; then the recovery point says so too.
    let as_is = resource_with(json!({ "path": text(&image), "whileInUse": "as-is" }));
    let (tree, report) = capture(&driver, &as_is);
    assert_eq!(tree.volume_bytes(VOLUME), Some(sample(1).as_slice()));
    assert!(report.notes[0].contains("power cut"), "{:?}", report.notes);
    drop(writer);
    let (_, report) = capture(&driver, &resource(&image));
    assert_eq!(report.notes, Vec::<String>::new());
}

#[test]
fn an_image_that_a_machine_runs_on_is_refused() {
    let images = Images::new("qcow2");
    let image = images.image(&sample(1));
    let driver = VolumeDriver::new();
    // As a machine does: opened for writing, with QEMU's locks.
    let mut machine = Command::new("qemu-io")
        .args(["-f", "qcow2", text(&image)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut prompt = [0; 9];
    std::io::Read::read_exact(machine.stdout.as_mut().unwrap(), &mut prompt).unwrap();
    assert_eq!(&prompt, b"qemu-io> ");
    let mut sink = MemorySink::new();
    let refused = failed(capture_into(&driver, &resource(&image), &mut sink, &CancelFlag::new()));
    assert!(refused.contains("in use"), "{refused}");
    machine.kill().unwrap();
    machine.wait().unwrap();
    capture(&driver, &resource(&image));
}

#[test]
fn a_mounted_device_is_neither_captured_nor_written_over() {
    let test = "a_mounted_device_is_neither_captured_nor_written_over";
    let images = Images::new("raw");
    let image = images.fresh("fs.img");
    fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    run("mkfs.ext4", &["-q", text(&image)]);
    let Some(device) = Loop::over(&image, test) else { return };
    let (tree, _) = capture(&VolumeDriver::new(), &resource(&images.image(&sample(3))));
    let onto = with(request(&device.path), "overwriteDevice", "true");
    let place = images.dir.path().join("mounted");
    let driver = VolumeDriver::new();
    {
        let Some(_mounted) = mount(&device.path, &place, test) else { return };
        fs::write(place.join("precious"), "data").unwrap();
        for refused in [
            failed(driver.capture(&resource(&device.path), &CancelFlag::new()).map(|_| ())),
            failed(restore(&driver, &onto, &tree, &CancelFlag::new())),
        ] {
            assert!(refused.contains("in use") && refused.contains("mounted at"), "{refused}");
        }
        // Nor is the image of a device that is mounted.
        let refused = failed(driver.capture(&resource(&image), &CancelFlag::new()).map(|_| ()));
        assert!(refused.contains("it is the image of loop"), "{refused}");
        assert_eq!(fs::read_to_string(place.join("precious")).unwrap(), "data");
    }
    // Nobody uses it any more, so it may be written over: but only when that is said.
    let unsaid = failed(restore(&driver, &request(&device.path), &tree, &CancelFlag::new()));
    assert!(unsaid.contains("overwriteDevice"), "{unsaid}");
    let writer = Writer::of(&device.path);
    let running = failed(restore(&driver, &onto, &tree, &CancelFlag::new()));
    assert!(running.contains("in use") && running.contains("process"), "{running}");
    drop(writer);
    let before = fs::read(&device.path).unwrap();
    restore(&driver, &onto, &tree, &CancelFlag::new()).unwrap();
    let after = fs::read(&device.path).unwrap();
    assert_eq!(after[..sample(3).len()], sample(3));
    assert_eq!(after[sample(3).len()..], before[sample(3).len()..], "what is behind it stays");
}

#[test]
fn a_device_that_is_too_small_is_left_as_it_is() {
    let test = "a_device_that_is_too_small_is_left_as_it_is";
    let images = Images::new("raw");
    let small = images.fresh("small.img");
    fs::write(&small, vec![5; 1 << 20]).unwrap();
    let Some(device) = Loop::over(&small, test) else { return };
    let (tree, _) = capture(&VolumeDriver::new(), &resource(&images.image(&sample(1))));
    let onto = with(request(&device.path), "overwriteDevice", "true");
    let refused = failed(restore(&VolumeDriver::new(), &onto, &tree, &CancelFlag::new()));
    assert!(refused.contains("too small"), "{refused}");
    assert_eq!(fs::read(&device.path).unwrap(), vec![5; 1 << 20]);
}

#[test]
fn a_device_is_captured_and_comes_back() {
    let images = Images::new("raw");
    let image = images.fresh("disk.img");
    let mut bytes = sample(7);
    bytes.resize(2 << 20, 0);
    fs::write(&image, &bytes).unwrap();
    let Some(device) = Loop::over(&image, "a_device_is_captured_and_comes_back") else { return };
    let driver = VolumeDriver::new();
    let (tree, _) = capture(&driver, &resource(&device.path));
    let target = images.fresh("copy.qcow2");
    restore(&driver, &request(&target), &tree, &CancelFlag::new()).unwrap();
    assert_eq!(content(&target), bytes);
}

#[test]
fn device_keys_belong_together() {
    let driver = VolumeDriver::new();
    let images = Images::new("raw");
    let file = images.image(&sample(1));
    let onto = with(request(&file), "overwriteDevice", "true");
    assert_eq!(driver.writes_over(&onto), Ok(Some(text(&file).to_owned())));
    assert_eq!(driver.writes_over(&request(&file)), Ok(None));
    // An image is never written over.
    let (tree, _) = capture(&driver, &resource(&file));
    let before = listing(images.dir.path());
    let refused = failed(restore(&driver, &onto, &tree, &CancelFlag::new()));
    assert!(refused.contains("no block device"), "{refused}");
    assert_eq!(before, listing(images.dir.path()));
    for (key, value) in [("format", "qcow2"), ("layout", "directory"), ("volumeSize", "1")] {
        let refused = driver.check_restore(&with(onto.clone(), key, value)).unwrap_err();
        assert_eq!(refused.member, key);
    }
}

//! What a restore leaves that breaks off, and what it says of that.

// A test may fail by panicking; that is what it is for.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{Images, Loop, request, resource, sample, text, with};
use provault_driver::conformance::{Request, capture, next_job, restore};
use provault_driver::memory::MemorySource;
use provault_driver::{
    BlockSink, BrokenOff, CancelFlag, ContentSink, Driver, DriverError, Entry, RestoreRequest,
    Source, SourceError, StoredVolume, WorkContext,
};
use provault_driver_volume::VolumeDriver;

/// A device of two MiB over an image, and a recovery point of another volume.
fn device(images: &Images, test: &str) -> Option<(Loop, MemorySource)> {
    let below = images.fresh("device.img");
    fs::write(&below, vec![5; 2 << 20]).unwrap();
    let device = Loop::over(&below, test)?;
    let (tree, _) = capture(&VolumeDriver::new(), &resource(&images.image(&sample(1))));
    Some((device, tree))
}

fn onto(device: &Path) -> Request {
    with(request(device), "overwriteDevice", "true")
}

/// Restores and raises the flag when the first bytes are written.
fn stopped_at_once(asked: &Request, tree: &MemorySource, heard: &(dyn Fn() + Sync)) -> DriverError {
    let (cancel, job) = (CancelFlag::new(), next_job());
    let progress = |_, _| {
        heard();
        cancel.raise();
    };
    let context = WorkContext { cancel: &cancel, progress: &progress };
    VolumeDriver::new().restore(&RestoreRequest::new(&job, asked), tree, &context).unwrap_err()
}

#[track_caller]
fn assert_partly(error: &DriverError, device: &Path, how: BrokenOff) {
    assert_eq!(error.partly_written(), Some((device, how)), "{error}");
    let told = error.to_string();
    assert!(told.contains(&how.told(device)), "{told}");
    assert!(told.contains("Do not use it; restore onto it again"), "{told}");
}

#[test]
fn a_device_that_a_stop_leaves_half_written_is_named() {
    let images = Images::new("raw");
    let test = "a_device_that_a_stop_leaves_half_written_is_named";
    let Some((device, tree)) = device(&images, test) else { return };
    let error = stopped_at_once(&onto(&device.path), &tree, &|| {});
    assert!(error.is_cancelled(), "{error}");
    assert_partly(&error, &device.path, BrokenOff::Writing);
    // And what it says to do next helps.
    restore(&VolumeDriver::new(), &onto(&device.path), &tree, &CancelFlag::new()).unwrap();
    assert_eq!(fs::read(&device.path).unwrap()[..sample(1).len()], sample(1));
}

#[test]
fn a_device_that_a_failure_leaves_half_written_is_named() {
    let images = Images::new("raw");
    let test = "a_device_that_a_failure_leaves_half_written_is_named";
    let Some((device, mut tree)) = device(&images, test) else { return };
    tree.damage_volume(provault_driver_volume::VOLUME);
    let onto = onto(&device.path);
    let error = restore(&VolumeDriver::new(), &onto, &tree, &CancelFlag::new()).unwrap_err();
    assert!(!error.is_cancelled(), "{error}");
    assert!(error.to_string().contains("block 0 does not match"), "{error}");
    assert_partly(&error, &device.path, BrokenOff::Writing);
}

#[test]
fn a_device_that_was_not_written_to_is_not_called_so() {
    let images = Images::new("raw");
    let test = "a_device_that_was_not_written_to_is_not_called_so";
    let Some((device, tree)) = device(&images, test) else { return };
    let stopped = CancelFlag::new();
    stopped.raise();
    let onto = onto(&device.path);
    let error = restore(&VolumeDriver::new(), &onto, &tree, &stopped).unwrap_err();
    assert!(error.is_cancelled() && error.partly_written().is_none(), "{error}");
    assert_eq!(fs::read(&device.path).unwrap(), vec![5; 2 << 20]);
}

/// A source whose volume is never found to be what was written.
struct Strange<'a>(&'a MemorySource);

struct StrangeVolume<'a>(Box<dyn StoredVolume + 'a>);

impl Source for Strange<'_> {
    fn entries(
        &self,
    ) -> Result<Box<dyn Iterator<Item = Result<Entry, SourceError>> + '_>, SourceError> {
        self.0.entries()
    }
    fn copy_contents(&self, files: &[Entry], out: &dyn ContentSink) -> Result<(), DriverError> {
        self.0.copy_contents(files, out)
    }
    fn volume(&self, name: &[u8]) -> Result<Box<dyn StoredVolume + '_>, SourceError> {
        Ok(Box::new(StrangeVolume(self.0.volume(name)?)))
    }
}

impl StoredVolume for StrangeVolume<'_> {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn block_size(&self) -> u32 {
        self.0.block_size()
    }
    fn block_hash(&self, _: u64) -> Result<[u8; 32], SourceError> {
        Ok([0; 32])
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        self.0.read_at(offset, buffer)
    }
    fn copy_to(
        &self,
        out: &dyn BlockSink,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), DriverError> {
        self.0.copy_to(out, progress)
    }
}

#[test]
fn a_device_that_does_not_hold_what_was_written_is_named() {
    let images = Images::new("raw");
    let test = "a_device_that_does_not_hold_what_was_written_is_named";
    let Some((device, tree)) = device(&images, test) else { return };
    let onto = onto(&device.path);
    let error = restore(&VolumeDriver::new(), &onto, &Strange(&tree), &CancelFlag::new());
    let error = error.unwrap_err();
    assert!(error.to_string().contains("has other content between bytes 0 and"), "{error}");
    assert_partly(&error, &device.path, BrokenOff::Comparing);
}

#[test]
fn a_new_image_has_its_name_only_when_it_is_complete() {
    for format in ["raw", "qcow2"] {
        let images = Images::new(format);
        let (tree, _) = capture(&VolumeDriver::new(), &resource(&images.image(&sample(1))));
        let target = images.fresh(&format!("new.{format}"));
        let parent = target.parent().unwrap();
        let names = || -> Vec<String> {
            let entries = fs::read_dir(parent).unwrap().map(Result::unwrap);
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
        };
        let beside = format!(".new.{format}.provault-");
        let heard = || assert!(names().iter().all(|n| n.starts_with(&beside)), "{:?}", names());
        let error = stopped_at_once(&request(&target), &tree, &heard);
        assert!(error.is_cancelled() && error.partly_written().is_none(), "{error}");
        assert_eq!(names(), Vec::<String>::new());
        let mut damaged = tree.clone();
        damaged.damage_volume(provault_driver_volume::VOLUME);
        let failed = restore(&VolumeDriver::new(), &request(&target), &damaged, &CancelFlag::new());
        assert!(failed.unwrap_err().partly_written().is_none());
        assert_eq!(names(), Vec::<String>::new());
    }
}

#[test]
fn only_a_device_is_written_in_place() {
    let driver = VolumeDriver::new();
    let device = Path::new("/dev/vg0/new");
    assert_eq!(driver.writes_in_place(&onto(device)).as_deref(), Some(device));
    assert_eq!(driver.writes_in_place(&request(device)), None);
    let mut copy = onto(device);
    driver.direct_to_copy(&mut copy, Path::new("/srv/copy"));
    assert_eq!(driver.writes_in_place(&copy), None, "{}", text(device));
}

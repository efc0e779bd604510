//! Dirty bitmaps: each belongs to one recovery point, and one that cannot be believed is not.

// A test may fail by panicking; that is what it is for.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use common::{Images, resource_with, run, sample, text, write};
use provault_domain::Resource;
use provault_driver::conformance::capture_into;
use provault_driver::memory::{MemorySink, MemorySource};
use provault_driver::{
    BlockRange, BlockSource, CancelFlag, CaptureReport, Driver, DriverError, Lineage, Metadata,
    NodeKind, Sink, SinkError, VolumeOutcome,
};
use provault_driver_volume::{VOLUME, VolumeDriver};
use serde_json::json;

fn resource(image: &Path) -> Resource {
    resource_with(json!({ "path": text(image), "changedBlocks": "bitmap" }))
}

fn lineage(job: &str, base: Option<&str>) -> Lineage {
    let base = base.map(str::to_owned);
    Lineage { job_id: Some(job.to_owned()), kept: base.clone().into_iter().collect(), base }
}

/// Remembers what was said to have changed, and may fail.
struct Watching {
    inner: MemorySink,
    changed: Option<Vec<BlockRange>>,
    fails: bool,
}

impl Sink for Watching {
    fn begin_dir(&mut self, name: &[u8], metadata: &Metadata) -> Result<(), SinkError> {
        self.inner.begin_dir(name, metadata)
    }
    fn end_dir(&mut self) -> Result<(), SinkError> {
        self.inner.end_dir()
    }
    fn add_node(&mut self, _: &[u8], _: &Metadata, _: &NodeKind) -> Result<(), SinkError> {
        unreachable!("a volume has no nodes")
    }
    fn add_file(
        &mut self,
        _: &[u8],
        _: &Metadata,
        _: &mut dyn FnMut() -> std::io::Result<Box<dyn std::io::Read + Send>>,
    ) -> Result<provault_driver::FileOutcome, SinkError> {
        unreachable!("a volume has no files")
    }
    fn lineage(&self) -> Lineage {
        self.inner.lineage()
    }
    fn add_volume(
        &mut self,
        name: &[u8],
        blocks: &dyn BlockSource,
        changed: Option<&[BlockRange]>,
    ) -> Result<VolumeOutcome, SinkError> {
        self.changed = changed.map(<[BlockRange]>::to_vec);
        if self.fails {
            return Err(SinkError::Store("the disk is full".into()));
        }
        // It sees that no change is left out.
        self.inner.add_volume(name, blocks, changed)
    }
}

struct Backup {
    result: Result<CaptureReport, DriverError>,
    changed: Option<Vec<BlockRange>>,
    tree: MemorySource,
}

impl Backup {
    fn of(image: &Path, parent: Option<&MemorySource>, lineage: Lineage, fails: bool) -> Self {
        let inner = match parent {
            Some(parent) => MemorySink::with_parent(parent.clone()),
            None => MemorySink::new(),
        };
        let mut sink = Watching { inner: inner.of(lineage), changed: None, fails };
        let result =
            capture_into(&VolumeDriver::new(), &resource(image), &mut sink, &CancelFlag::new());
        Self { result, changed: sink.changed, tree: sink.inner.into_source() }
    }

    fn notes(&self) -> Vec<String> {
        self.result.as_ref().unwrap().notes.clone()
    }
}

fn bitmaps(image: &Path) -> Vec<String> {
    let json = run("qemu-img", &["info", "--output=json", "-f", "qcow2", text(image)]);
    let info: serde_json::Value = serde_json::from_str(&json).unwrap();
    let list = info["format-specific"]["data"]["bitmaps"].as_array().cloned().unwrap_or_default();
    let mut names: Vec<_> =
        list.iter().map(|bitmap| bitmap["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn image(images: &Images) -> PathBuf {
    images.image(&sample(1))
}

/// Whether a place is among the ranges.
fn names(changed: Option<&Vec<BlockRange>>, offset: u64) -> bool {
    changed.unwrap().iter().any(|range| range.offset <= offset && offset < range.end())
}

#[test]
fn an_increment_reads_what_the_bitmap_of_its_base_names() {
    let images = Images::new("qcow2");
    let image = image(&images);
    let first = Backup::of(&image, None, lineage("one", None), false);
    assert_eq!(first.changed, None);
    assert_eq!(first.notes(), Vec::<String>::new());
    assert_eq!(bitmaps(&image), ["provault-one"]);
    write(&image, 131_072, &[0xab; 4096]);
    let second = Backup::of(&image, Some(&first.tree), lineage("two", Some("one")), false);
    assert_eq!(second.notes(), Vec::<String>::new());
    assert!(names(second.changed.as_ref(), 131_072));
    assert!(!names(second.changed.as_ref(), 0), "what did not change is not read");
    // The older one goes when the newer point is in the catalog, and not before.
    assert_eq!(bitmaps(&image), ["provault-one", "provault-two"]);
    VolumeDriver::new().give_back(&resource(&image), &["two".to_owned()]).unwrap();
    assert_eq!(bitmaps(&image), ["provault-two"]);
    // What was written before the second is not named in the third.
    let third = Backup::of(&image, Some(&second.tree), lineage("three", Some("two")), false);
    assert!(!names(third.changed.as_ref(), 131_072));
    assert_eq!(third.tree.volume_bytes(VOLUME), second.tree.volume_bytes(VOLUME));
}

#[test]
fn a_failed_job_gives_its_bitmap_back_and_the_older_one_counts_on() {
    let images = Images::new("qcow2");
    let image = image(&images);
    let first = Backup::of(&image, None, lineage("one", None), false);
    write(&image, 65_536, &[1; 512]);
    let failed = Backup::of(&image, Some(&first.tree), lineage("two", Some("one")), true);
    assert!(matches!(failed.result, Err(DriverError::Sink(SinkError::Store(_)))));
    assert_eq!(bitmaps(&image), ["provault-one"]);
    write(&image, 262_144, &[2; 512]);
    let third = Backup::of(&image, Some(&first.tree), lineage("three", Some("one")), false);
    assert!(names(third.changed.as_ref(), 65_536) && names(third.changed.as_ref(), 262_144));
}

/// A server that died between the bitmap and the recovery point left a bitmap of no point.
#[test]
fn a_bitmap_of_a_job_that_died_is_removed_by_the_next() {
    let images = Images::new("qcow2");
    let image = image(&images);
    let first = Backup::of(&image, None, lineage("one", None), false);
    run("qemu-img", &["bitmap", "--add", text(&image), "provault-died"]);
    run("qemu-img", &["bitmap", "--add", text(&image), "somebody-elses"]);
    write(&image, 65_536, &[1; 512]);
    let second = Backup::of(&image, Some(&first.tree), lineage("two", Some("one")), false);
    assert!(names(second.changed.as_ref(), 65_536));
    assert_eq!(bitmaps(&image), ["provault-one", "provault-two", "somebody-elses"]);
    // The same job once more, after an attempt that died.
    let again = Backup::of(&image, Some(&first.tree), lineage("two", Some("one")), false);
    assert!(names(again.changed.as_ref(), 65_536));
    assert_eq!(bitmaps(&image), ["provault-one", "provault-two", "somebody-elses"]);
}

#[test]
fn an_inconsistent_bitmap_is_not_believed() {
    let images = Images::new("qcow2");
    let image = image(&images);
    let first = Backup::of(&image, None, lineage("one", None), false);
    // A machine that is killed does not write its bitmaps down.
    let script =
        format!("qemu-io -f qcow2 -c 'write -P 7 0 4096' -c 'abort' '{}' || true", text(&image));
    run("sh", &["-c", &script]);
    let second = Backup::of(&image, Some(&first.tree), lineage("two", Some("one")), false);
    assert_eq!(second.changed, None, "everything is read");
    assert!(second.notes()[0].contains("inconsistent"), "{:?}", second.notes());
    assert_eq!(second.tree.volume_bytes(VOLUME).unwrap()[..4096], [7; 4096]);
    // The new one counts, and the useless one goes with its point.
    VolumeDriver::new().give_back(&resource(&image), &["two".to_owned()]).unwrap();
    assert_eq!(bitmaps(&image), ["provault-two"]);
    let third = Backup::of(&image, Some(&second.tree), lineage("three", Some("two")), false);
    assert!(third.changed.is_some());
}

#[test]
fn a_bitmap_that_was_switched_off_or_is_gone_is_not_believed() {
    let images = Images::new("qcow2");
    let image = image(&images);
    let first = Backup::of(&image, None, lineage("one", None), false);
    run("qemu-img", &["bitmap", "--disable", text(&image), "provault-one"]);
    write(&image, 0, &[7; 512]);
    let second = Backup::of(&image, Some(&first.tree), lineage("two", Some("one")), false);
    assert_eq!(second.changed, None);
    assert!(second.notes()[0].contains("switched off"), "{:?}", second.notes());
    run("qemu-img", &["bitmap", "--remove", text(&image), "provault-two"]);
    let third = Backup::of(&image, Some(&second.tree), lineage("three", Some("two")), false);
    assert_eq!(third.changed, None);
    assert!(third.notes()[0].contains("lacks"), "{:?}", third.notes());
}

/// To make an image smaller and larger again loses what was there, and no bitmap says so.
#[test]
fn what_a_change_of_size_lost_is_noticed() {
    let images = Images::new("qcow2");
    let image = image(&images);
    let first = Backup::of(&image, None, lineage("one", None), false);
    let size = first.tree.volume_bytes(VOLUME).unwrap().len();
    run("qemu-img", &["resize", "-q", "-f", "qcow2", "--shrink", text(&image), "131072"]);
    run("qemu-img", &["resize", "-q", "-f", "qcow2", text(&image), &size.to_string()]);
    let second = Backup::of(&image, Some(&first.tree), lineage("two", Some("one")), false);
    let bytes = second.tree.volume_bytes(VOLUME).unwrap();
    assert!(second.changed.is_some(), "{:?}", second.notes());
    assert!(bytes[131_072..].iter().all(|byte| *byte == 0));
}

#[test]
fn an_image_that_relies_on_another_is_read_as_a_whole() {
    let images = Images::new("qcow2");
    let below = image(&images);
    let above = images.fresh("above.qcow2");
    run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", text(&below), text(&above)],
    );
    let first = Backup::of(&above, None, lineage("one", None), false);
    assert!(first.notes()[0].contains("relies on"), "{:?}", first.notes());
    assert_eq!(first.tree.volume_bytes(VOLUME), Some(sample(1).as_slice()));
    assert_eq!(bitmaps(&above), Vec::<String>::new());
}

#[test]
fn only_a_qcow2_image_is_asked_for_bitmaps() {
    let images = Images::new("raw");
    let raw = images.image(&sample(1));
    let refused = VolumeDriver::new()
        .check_config(&json!({ "path": text(&raw), "changedBlocks": "bitmap" }))
        .unwrap_err();
    assert_eq!(refused.member, "changedBlocks");
    assert!(!VolumeDriver::new().keeps_bases(&common::resource(&raw)));
}

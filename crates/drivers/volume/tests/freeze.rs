//! A file system stands still for a moment, and is let go whatever happens.

// A test may fail by panicking; that is what it is for.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Images, Loop, listing, not_tested, resource_with, run, text};
use provault_driver::conformance::capture;
use provault_driver_volume::freeze::Freeze;
use provault_driver_volume::{VOLUME, VolumeDriver};
use serde_json::json;

/// A file system of its own; taken down at the end.
struct Mounted {
    place: PathBuf,
    _device: Loop,
}

impl Mounted {
    fn of(image: &Path, place: PathBuf, test: &str) -> Option<Self> {
        let device = Loop::over(image, test)?;
        fs::create_dir(&place).unwrap();
        let output = Command::new("mount").arg(&device.path).arg(&place).output().unwrap();
        if output.status.success() {
            return Some(Self { place, _device: device });
        }
        not_tested(test, String::from_utf8_lossy(&output.stderr).trim());
        None
    }

    fn new(images: &Images, mkfs: &[&str], size: u64, test: &str) -> Option<Self> {
        let image = images.fresh("fs.img");
        fs::File::create(&image).unwrap().set_len(size).unwrap();
        let args = [&mkfs[1..], &[text(&image)]].concat();
        run(mkfs[0], &args);
        Self::of(&image, images.fresh("mounted"), test)
    }

    /// Whether it is frozen now: it can be thawed only then.
    fn is_frozen(&self) -> bool {
        let thawed = Command::new("fsfreeze").arg("--unfreeze").arg(&self.place).output().unwrap();
        thawed.status.success()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whatever went wrong: nothing stays frozen.
        let _ = Command::new("fsfreeze").arg("--unfreeze").arg(&self.place).output();
        let _ = Command::new("umount").arg(&self.place).status();
    }
}

const EXT4: &[&str] = &["mkfs.ext4", "-q"];

#[test]
fn it_stands_still_until_it_is_thawed() {
    let images = Images::new("raw");
    let Some(mounted) = Mounted::new(&images, EXT4, 16 << 20, "it_stands_still_until_it_is_thawed")
    else {
        return;
    };
    let freeze = Freeze::of(&mounted.place).unwrap();
    let written = Arc::new(AtomicBool::new(false));
    let writer = {
        let (written, path) = (Arc::clone(&written), mounted.place.join("file"));
        std::thread::spawn(move || {
            fs::write(path, "data").unwrap();
            written.store(true, Ordering::SeqCst);
        })
    };
    std::thread::sleep(std::time::Duration::from_millis(50));
    let early = written.load(Ordering::SeqCst);
    let thawed = freeze.thaw();
    writer.join().unwrap();
    // A host that was so slow that the watchdog let go proves nothing.
    if thawed.is_ok() {
        assert!(!early, "somebody wrote to a frozen file system");
    }
    assert!(!mounted.is_frozen());
}

#[test]
fn the_watchdog_lets_go_of_what_takes_too_long() {
    let images = Images::new("raw");
    let test = "the_watchdog_lets_go_of_what_takes_too_long";
    let Some(mounted) = Mounted::new(&images, EXT4, 16 << 20, test) else { return };
    let freeze = Freeze::of(&mounted.place).unwrap();
    // This returns only because somebody else lets go.
    fs::write(mounted.place.join("file"), "data").unwrap();
    let late = freeze.thaw().unwrap_err().to_string();
    assert!(late.contains("let go after"), "{late}");
    assert!(!mounted.is_frozen());
}

#[test]
fn a_freeze_that_is_dropped_is_over() {
    let images = Images::new("raw");
    let Some(mounted) = Mounted::new(&images, EXT4, 16 << 20, "a_freeze_that_is_dropped_is_over")
    else {
        return;
    };
    drop(Freeze::of(&mounted.place).unwrap());
    assert!(!mounted.is_frozen());
    // What is no file system of its own kind is not frozen, and says why.
    let none = Freeze::of(Path::new("/proc")).unwrap_err().to_string();
    assert!(none.contains("cannot be frozen"), "{none}");
}

/// The process that [`a_freeze_ends_with_a_process_that_is_killed`] kills.
#[test]
fn holder_of_a_freeze() {
    let Some(place) = std::env::var_os("PROVAULT_TEST_FREEZE") else { return };
    let _freeze = Freeze::of(Path::new(&place)).unwrap();
    println!("\nheld");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_freeze_ends_with_a_process_that_is_killed() {
    let images = Images::new("raw");
    let test = "a_freeze_ends_with_a_process_that_is_killed";
    let Some(mounted) = Mounted::new(&images, EXT4, 16 << 20, test) else { return };
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holder_of_a_freeze", "--nocapture"])
        .env("PROVAULT_TEST_FREEZE", &mounted.place)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    while lines.next().unwrap().unwrap() != "held" {}
    // SIGKILL: nothing of its own can clean up.
    holder.kill().unwrap();
    holder.wait().unwrap();
    // This returns only because the watchdog outlived it.
    fs::write(mounted.place.join("file"), "data").unwrap();
    assert!(!mounted.is_frozen());
}

/// An image on XFS with a mounted file system in it, which is written to all the time.
#[test]
fn an_image_in_use_is_captured_at_one_moment() {
    let images = Images::new("raw");
    let test = "an_image_in_use_is_captured_at_one_moment";
    let Some(outer) = Mounted::new(&images, &["mkfs.xfs", "-q"], 400 << 20, test) else { return };
    let image = outer.place.join("disk.img");
    fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    run("mkfs.ext4", &["-q", text(&image)]);
    let Some(inner) = Mounted::of(&image, images.fresh("inner"), test) else { return };
    fs::write(inner.place.join("before"), "written before").unwrap();
    // Left by a capture that died.
    fs::write(outer.place.join(".disk.img.provault-capture-1"), "left").unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (stop, place) = (Arc::clone(&stop), inner.place.clone());
        std::thread::spawn(move || {
            for number in 0.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                fs::write(place.join(format!("file-{}", number % 20)), vec![7; 5000]).unwrap();
            }
        })
    };
    let config = json!({ "path": text(&image), "whileInUse": "snapshot" });
    let (tree, report) = capture(&VolumeDriver::new(), &resource_with(config));
    stop.store(true, Ordering::SeqCst);
    writer.join().unwrap();
    assert!(report.notes.iter().any(|note| note.contains("stood still")), "{:?}", report.notes);
    assert!(!inner.is_frozen());
    // Nothing is left beside the image, not even what the one that died left.
    let left: Vec<_> =
        listing(&outer.place).into_iter().filter(|l| l.contains("capture")).collect();
    assert_eq!(left, Vec::<String>::new());
    // It is consistent without a replay of its journal.
    let copy = images.fresh("copy.img");
    fs::write(&copy, tree.volume_bytes(VOLUME).unwrap()).unwrap();
    run("e2fsck", &["-f", "-n", text(&copy)]);
    let said = run("debugfs", &["-R", "cat /before", text(&copy)]);
    assert_eq!(said, "written before");
}

#[test]
fn an_image_whose_blocks_cannot_be_shared_is_refused() {
    let images = Images::new("raw");
    let test = "an_image_whose_blocks_cannot_be_shared_is_refused";
    let Some(outer) = Mounted::new(&images, EXT4, 64 << 20, test) else { return };
    let image = outer.place.join("disk.img");
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    run("mkfs.ext4", &["-q", text(&image)]);
    let Some(inner) = Mounted::of(&image, images.fresh("inner"), test) else { return };
    let config = json!({ "path": text(&image), "whileInUse": "snapshot" });
    let mut sink = provault_driver::memory::MemorySink::new();
    let refused = provault_driver::conformance::capture_into(
        &VolumeDriver::new(),
        &resource_with(config),
        &mut sink,
        &provault_driver::CancelFlag::new(),
    );
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("no copy that shares its blocks"), "{refused}");
    assert!(!inner.is_frozen());
    assert!(listing(&outer.place).iter().all(|name| !name.contains("capture")));
}

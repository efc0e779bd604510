//! Files with several names: what is counted, and that captures and restores count alike.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod common;

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::Mutex;

use common::{Trees, counted, differences, populate, request, resource, with_items};
use provault_driver::conformance::{Request, capture, capture_into, restore};
use provault_driver::memory::{MemorySink, MemorySource};
use provault_driver::{
    CancelFlag, CaptureReport, Driver, FileOutcome, Metadata, NodeKind, RestoreRequest, Sink,
    SinkError, WorkContext,
};
use provault_driver_filesystem::FilesystemDriver;

static DRIVER: LazyLock<FilesystemDriver> = LazyLock::new(FilesystemDriver::new);

type Told = Vec<(u64, Option<u64>)>;

/// A capture and what it told of its progress.
fn told(root: &Path, mut sink: MemorySink) -> (MemorySink, CaptureReport, Told) {
    let told = Mutex::new(Vec::new());
    let tell = |done, expected| told.lock().unwrap().push((done, expected));
    let cancel = CancelFlag::new();
    let context = WorkContext { cancel: &cancel, progress: &tell };
    let opened = DRIVER.capture(&resource(root), &cancel).unwrap();
    let report = opened.read_into(&mut sink, &context).unwrap();
    (sink, report, told.into_inner().unwrap())
}

fn restored(request: &Request, tree: &MemorySource) -> ((u64, u64), Told) {
    let told = Mutex::new(Vec::new());
    let tell = |done, expected| told.lock().unwrap().push((done, expected));
    let context = WorkContext { cancel: &CancelFlag::new(), progress: &tell };
    let job = RestoreRequest::new("0a1b2c3d", request);
    let outcome = DRIVER.restore(&job, tree, &context).unwrap();
    ((outcome.files, outcome.bytes), told.into_inner().unwrap())
}

/// Five names of three inodes: 10 bytes, 100 bytes, and one whose other name lies outside.
fn linked(trees: &Trees) -> std::path::PathBuf {
    let root = trees.source();
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("a"), [b'a'; 10]).unwrap();
    fs::write(root.join("dir/big"), [b'b'; 100]).unwrap();
    fs::write(root.join("outside"), [b'o'; 1000]).unwrap();
    fs::hard_link(root.join("a"), root.join("dir/a-too")).unwrap();
    fs::hard_link(root.join("a"), root.join("z")).unwrap();
    fs::hard_link(root.join("outside"), trees.fresh("elsewhere")).unwrap();
    root
}

#[test]
fn every_name_is_a_file_and_bytes_count_once() {
    let trees = Trees::new();
    let root = linked(&trees);
    let (sink, report, progress) = told(&root, MemorySink::new());
    assert_eq!((report.files, report.bytes), (5, 1110));
    assert_eq!(progress.last(), Some(&(1110, Some(1110))), "{progress:?}");
    let tree = sink.into_source();
    for name in ["a", "dir/a-too", "z"] {
        assert_eq!(tree.get(name.as_bytes()).unwrap().1, [b'a'; 10], "{name}");
    }

    // Unchanged since: nothing is read, and it counts the same.
    let (again, report, progress) = told(&root, MemorySink::with_parent(tree.clone()));
    assert_eq!((again.unchanged(), report.files, report.bytes), (5, 5, 1110));
    assert_eq!(progress.last(), Some(&(1110, Some(1110))), "{progress:?}");

    let target = trees.fresh("target");
    let (count, progress) = restored(&request(&target), &tree);
    assert_eq!(count, (5, 1110));
    assert_eq!(progress.last(), Some(&(1110, Some(1110))), "{progress:?}");
    // Only a file that has its other names in the tree gets them back.
    fs::remove_file(root.join("outside")).unwrap();
    fs::remove_file(target.join("outside")).unwrap();
    assert_eq!(counted(&target), (4, 110));

    // Of an inode whose first name is not asked for, the second one counts.
    let target = trees.fresh("target");
    let (count, _) = restored(&with_items(request(&target), &["dir", "z"]), &tree);
    assert_eq!(count, (3, 110));
    assert_eq!(counted(&target), (3, 110));
}

#[test]
fn a_tree_of_everything_counts_alike_on_both_ways() {
    let trees = Trees::new();
    let root = trees.source();
    populate(&root);
    let (tree, report) = capture(&*DRIVER, &resource(&root));
    assert_eq!((report.files, report.bytes), counted(&root));
    let target = trees.fresh("target");
    let outcome = restore(&*DRIVER, &request(&target), &tree, &CancelFlag::new()).unwrap();
    assert_eq!((outcome.files, outcome.bytes), (report.files, report.bytes));
    assert_eq!(differences(&root, &target), [""; 0]);
}

/// Cannot read the file of one name, and does something before it takes that of another.
struct Meddling<'a> {
    inner: MemorySink,
    unreadable: &'a [u8],
    before: (&'a [u8], &'a dyn Fn()),
}

impl Sink for Meddling<'_> {
    fn begin_dir(&mut self, name: &[u8], metadata: &Metadata) -> Result<(), SinkError> {
        if name == self.before.0 {
            (self.before.1)();
        }
        self.inner.begin_dir(name, metadata)
    }
    fn end_dir(&mut self) -> Result<(), SinkError> {
        self.inner.end_dir()
    }
    fn add_node(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        kind: &NodeKind,
    ) -> Result<(), SinkError> {
        self.inner.add_node(name, metadata, kind)
    }
    fn add_file(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        open: &mut dyn FnMut() -> io::Result<Box<dyn Read + Send>>,
    ) -> Result<FileOutcome, SinkError> {
        if name == self.unreadable {
            return Err(SinkError::Read(io::Error::other("a bad sector")));
        }
        self.inner.add_file(name, metadata, open)
    }
}

#[test]
fn names_that_failed_or_changed_count_as_they_are_restored() {
    let trees = Trees::new();
    let root = linked(&trees);
    let run = |unreadable: &[u8], before: (&[u8], &dyn Fn())| {
        let mut sink = Meddling { inner: MemorySink::new(), unreadable, before };
        let report =
            capture_into(&*DRIVER, &resource(&root), &mut sink, &CancelFlag::new()).unwrap();
        let target = trees.fresh("target");
        let tree = sink.inner.into_source();
        let outcome = restore(&*DRIVER, &request(&target), &tree, &CancelFlag::new()).unwrap();
        let count = (outcome.files, outcome.bytes);
        assert_eq!((report.files, report.bytes), count);
        assert_eq!(counted(&target), count);
        let parted = outcome.notes.iter().any(|note| note.contains("hard links"));
        (count, report.skipped.len(), parted)
    };
    // The first name is not in the capture: the second one brings the bytes.
    assert_eq!(run(b"a", (b"-", &|| {})), ((4, 1110), 1, false));
    // It grows between its first and its second name: two contents, of 10 and of 14 bytes. Its
    // third name is of the second content, and so is linked to the second one.
    let grow = || {
        let mut file = fs::File::options().append(true).open(root.join("a")).unwrap();
        io::Write::write_all(&mut file, b"more").unwrap();
    };
    assert_eq!(run(b"-", (b"dir", &grow)), ((5, 1124), 0, true));
}

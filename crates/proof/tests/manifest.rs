//! The comparison finds every kind of difference, and none where there is none.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use nix::sys::stat::{Mode, SFlag, mknod};
use proptest::prelude::*;
use provault_driver::{
    CancelFlag, Chunk, ContentSink, DriverError, Entry, Metadata, NodeKind, Source, SourceError,
};
use provault_proof::{ManifestReport, ProofError, compare};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A manifest, written by an independent and simple reader of the tree.
#[derive(Clone)]
struct Manifest(Vec<Entry>);

impl Source for Manifest {
    fn entries(
        &self,
    ) -> Result<Box<dyn Iterator<Item = Result<Entry, SourceError>> + '_>, SourceError> {
        Ok(Box::new(self.0.iter().cloned().map(Ok)))
    }

    fn copy_contents(&self, _: &[Entry], _: &dyn ContentSink) -> Result<(), DriverError> {
        unreachable!("a comparison reads the copy, not the vault");
    }
}

fn entry(root: &Path, path: &Path) -> Entry {
    let found = fs::symlink_metadata(path).unwrap();
    let kind = found.file_type();
    let kind = if kind.is_dir() {
        NodeKind::Directory
    } else if kind.is_symlink() {
        NodeKind::Symlink { target: fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec() }
    } else if kind.is_char_device() {
        NodeKind::CharDevice { rdev: found.rdev() }
    } else if kind.is_fifo() {
        NodeKind::Fifo
    } else {
        NodeKind::File
    };
    let mut chunks = Vec::new();
    if kind == NodeKind::File {
        for piece in fs::read(path).unwrap().chunks(10) {
            chunks.push(Chunk { sha256: Sha256::digest(piece).into(), length: piece.len() as u64 });
        }
    }
    let mut xattrs: Vec<_> = xattr::list(path)
        .unwrap()
        .map(|name| (name.as_bytes().to_vec(), xattr::get(path, &name).unwrap().unwrap()))
        .collect();
    xattrs.sort();
    let at = |s, n| Timestamp::new(s, i32::try_from(n).unwrap()).unwrap();
    Entry {
        path: path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(),
        metadata: Metadata {
            mode: found.mode() & 0o7777,
            uid: found.uid(),
            gid: found.gid(),
            user: None,
            group: None,
            size: if kind == NodeKind::File { found.size() } else { 0 },
            mtime: at(found.mtime(), found.mtime_nsec()),
            atime: at(found.atime(), found.atime_nsec()),
            ctime: at(found.ctime(), found.ctime_nsec()),
            inode: found.ino(),
            device: found.dev(),
            links: found.nlink(),
            xattrs,
            data_extents: None,
        },
        kind,
        chunks,
    }
}

fn manifest(root: &Path) -> Manifest {
    fn add(root: &Path, path: &Path, entries: &mut Vec<Entry>) {
        let found = entry(root, path);
        let is_dir = found.kind == NodeKind::Directory;
        entries.push(found);
        if is_dir {
            let mut children: Vec<PathBuf> =
                fs::read_dir(path).unwrap().map(|child| child.unwrap().path()).collect();
            children.sort();
            for child in &children {
                add(root, child, entries);
            }
        }
    }
    let mut entries = Vec::new();
    add(root, root, &mut entries);
    Manifest(entries)
}

fn check(root: &Path, manifest: &Manifest) -> ManifestReport {
    compare(root, manifest, &CancelFlag::new(), &|_, _| {}).unwrap()
}

fn touch(path: &Path) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    File::open(path).unwrap().set_modified(time).unwrap();
}

/// One of everything.
fn sample() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    fs::create_dir_all(root.join("a/deep/er")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("a/file"), b"0123456789abcdefghijklmnopqrstuvwxyz").unwrap();
    fs::write(root.join("a/deep/er/other"), b"other").unwrap();
    fs::write(root.join("a/nothing"), b"").unwrap();
    fs::write(root.join("alone"), b"alone").unwrap();
    fs::hard_link(root.join("a/file"), root.join("a/linked")).unwrap();
    symlink("a/file", root.join("link")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"od\xffd \n name");
    fs::write(root.join(odd), b"odd").unwrap();
    mknod(&root.join("pipe"), SFlag::S_IFIFO, Mode::S_IRUSR, 0).unwrap();
    mknod(&root.join("null"), SFlag::S_IFCHR, Mode::S_IRUSR, 0x103).unwrap();
    xattr::set(root.join("alone"), "user.note", b"value").unwrap();
    for path in ["alone", "a/file", "a", "."] {
        touch(&root.join(path));
    }
    dir
}

#[test]
fn a_tree_is_equal_to_itself() {
    let dir = sample();
    let report = check(dir.path(), &manifest(dir.path()));
    assert!(report.is_equal(), "{report:?}");
    assert_eq!((report.files, report.directories, report.other), (6, 5, 3));
    assert_eq!(report.bytes, 36 + 36 + 5 + 5 + 3);
    assert!(report.probe_result(5).passed && report.notes.is_empty());
}

type Change = fn(&Path);

/// What is changed, and the path and words that must be reported. Times are put back where
/// something else is the point.
const CHANGES: &[(&str, Change, &str, &str)] = &[
    ("file gone", |r| fs::remove_file(r.join("alone")).unwrap(), "alone", "is missing"),
    (
        "directory gone",
        |r| fs::remove_dir_all(r.join("a/deep")).unwrap(),
        "a/deep/er/other",
        "is missing",
    ),
    (
        "byte flipped, time kept",
        |r| flip(&r.join("a/deep/er/other"), 2),
        "a/deep/er/other",
        "other content between bytes 0 and 5",
    ),
    (
        "last byte flipped",
        |r| flip(&r.join("a/file"), 35),
        "a/file",
        "other content between bytes 30 and 36",
    ),
    (
        "grown",
        |r| fs::write(r.join("alone"), "alone!").unwrap(),
        "alone",
        "has 6 bytes instead of 5",
    ),
    ("shrunk", |r| fs::write(r.join("alone"), "alon").unwrap(), "alone", "has 4 bytes"),
    ("filled", |r| fs::write(r.join("a/nothing"), "x").unwrap(), "a/nothing", "has 1 bytes"),
    ("mode", |r| set_mode(&r.join("alone"), 0o600), "alone", "has mode 0600 instead of 0644"),
    ("set-user-id", |r| set_mode(&r.join("alone"), 0o4644), "alone", "has mode 4644"),
    ("sticky directory", |r| set_mode(&r.join("empty"), 0o1755), "empty", "has mode 1755"),
    ("owner", |r| lchown(r.join("alone"), Some(7), None).unwrap(), "alone", "belongs to 7:0"),
    (
        "group of a link",
        |r| lchown(r.join("link"), None, Some(8)).unwrap(),
        "link",
        "belongs to 0:8",
    ),
    ("root's mode", |r| set_mode(r, 0o711), ".", "has mode 0711"),
    ("a nanosecond", |r| nanosecond(&r.join("alone")), "alone", "was changed at"),
    ("directory time", |r| nanosecond(&r.join("empty")), "empty", "was changed at"),
    ("link target", |r| relink(r, "a/other"), "link", "points to 'a/other'"),
    ("link to a directory", |r| into_link(r), "a/file", "is missing"),
    (
        "file to directory",
        |r| {
            fs::remove_file(r.join("alone")).unwrap();
            fs::create_dir(r.join("alone")).unwrap();
        },
        "alone",
        "is a directory instead of a regular file",
    ),
    (
        "pipe to file",
        |r| {
            fs::remove_file(r.join("pipe")).unwrap();
            fs::write(r.join("pipe"), "").unwrap();
        },
        "pipe",
        "is a regular file instead of a named pipe",
    ),
    (
        "device number",
        |r| {
            fs::remove_file(r.join("null")).unwrap();
            mknod(&r.join("null"), SFlag::S_IFCHR, Mode::S_IRUSR, 0x105).unwrap();
        },
        "null",
        "has device number",
    ),
    (
        "xattr gone",
        |r| xattr::remove(r.join("alone"), "user.note").unwrap(),
        "alone",
        "has no xattr user.note",
    ),
    (
        "xattr changed",
        |r| xattr::set(r.join("alone"), "user.note", b"other").unwrap(),
        "alone",
        "has another value of xattr",
    ),
    (
        "xattr too many",
        |r| xattr::set(r.join("a/file"), "user.new", b"").unwrap(),
        "a/file",
        "has xattr user.new too many",
    ),
    (
        "xattr of a directory",
        |r| xattr::set(r.join("a"), "user.new", b"").unwrap(),
        "a",
        "too many",
    ),
    ("hard link broken", |r| unlink_pair(r), "a/linked", "is not the same file as a/file"),
    (
        "hard link added",
        |r| {
            fs::remove_file(r.join("a/nothing")).unwrap();
            fs::hard_link(r.join("alone"), r.join("a/nothing")).unwrap();
        },
        "alone",
        "has 2 names instead of one",
    ),
    (
        "linked from elsewhere",
        |r| {
            fs::hard_link(r.join("a/file"), r.join("a/third")).unwrap();
        },
        "a/file",
        "has 3 names instead of 2",
    ),
    (
        "file too many",
        |r| {
            fs::write(r.join("a/deep/new"), "").unwrap();
        },
        "a/deep/new",
        "is not in the manifest",
    ),
    (
        "hidden directory too many",
        |r| fs::create_dir(r.join(".new")).unwrap(),
        ".new",
        "is not in the manifest",
    ),
    (
        "renamed",
        |r| fs::rename(r.join("alone"), r.join("renamed")).unwrap(),
        "renamed",
        "is not in the manifest",
    ),
];

fn flip(path: &Path, at: u64) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    file.set_modified(time).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn nanosecond(path: &Path) {
    let time = fs::metadata(path).unwrap().modified().unwrap() + Duration::from_nanos(1);
    File::open(path).unwrap().set_modified(time).unwrap();
}

fn relink(root: &Path, target: &str) {
    fs::remove_file(root.join("link")).unwrap();
    symlink(target, root.join("link")).unwrap();
}

/// The directory moves beside the root and a link takes its place: everything can still be
/// opened, by whoever follows links.
fn into_link(root: &Path) {
    let beside = root.with_extension("beside");
    fs::rename(root.join("a"), &beside).unwrap();
    symlink(&beside, root.join("a")).unwrap();
}

fn unlink_pair(root: &Path) {
    let content = fs::read(root.join("a/linked")).unwrap();
    fs::remove_file(root.join("a/linked")).unwrap();
    fs::write(root.join("a/linked"), content).unwrap();
}

#[test]
fn every_kind_of_difference_is_found() {
    for (name, change, path, what) in CHANGES {
        let dir = sample();
        let manifest = manifest(dir.path());
        change(dir.path());
        let report = check(dir.path(), &manifest);
        let found = report.differences.iter().any(|d| d.path == *path && d.what.contains(what));
        assert!(found, "{name}: {report:?}");
        assert!(!report.probe_result(0).passed);
        let _ = fs::remove_dir_all(dir.path().with_extension("beside"));
    }
}

#[test]
fn differences_are_all_counted_and_some_listed() {
    let dir = tempfile::tempdir().unwrap();
    let manifest = manifest(dir.path());
    for n in 0..250 {
        fs::write(dir.path().join(format!("{n}")), "").unwrap();
    }
    touch(dir.path());
    let report = check(dir.path(), &manifest);
    // The root's own time as well.
    assert_eq!((report.differences_total, report.differences.len()), (251, 100));
    assert!(report.probe_result(0).detail.starts_with("251 differences"));
}

#[test]
fn a_manifest_that_cannot_be_is_damaged_data() {
    let dir = sample();
    let whole = manifest(dir.path());
    for path in [&b"../out"[..], b"/etc/passwd", b"a//b", b"a/./b"] {
        let mut broken = whole.clone();
        broken.0[1].path = path.to_vec();
        let error = compare(dir.path(), &broken, &CancelFlag::new(), &|_, _| {}).unwrap_err();
        assert_eq!(error.fault(), provault_domain::verdict::Fault::Data);
    }
    let mut broken = whole.clone();
    let file = broken.0.iter_mut().find(|e| e.path == b"alone").unwrap();
    file.metadata.size += 1;
    assert!(compare(dir.path(), &broken, &CancelFlag::new(), &|_, _| {}).is_err());
    let mut twice = whole.clone();
    let again = twice.0.last().unwrap().clone();
    twice.0.push(again);
    assert!(!check(dir.path(), &twice).is_equal());
    assert!(!check(&dir.path().join("empty"), &Manifest(vec![])).is_equal());
}

#[test]
fn a_raised_flag_ends_the_comparison() {
    let dir = sample();
    let cancel = CancelFlag::new();
    cancel.raise();
    let error = compare(dir.path(), &manifest(dir.path()), &cancel, &|_, _| {}).unwrap_err();
    assert!(matches!(error, ProofError::Cancelled));
}

/// Owners and what only root can set are left out for others, and it is said.
#[test]
fn without_root_less_is_compared_and_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "content").unwrap();
    let mut manifest = manifest(dir.path());
    let device = Entry {
        path: b"device".to_vec(),
        kind: NodeKind::CharDevice { rdev: 0x103 },
        chunks: vec![],
        ..manifest.0[1].clone()
    };
    let file = &mut manifest.0[1].metadata;
    (file.uid, file.mode) = (4711, 0o4644);
    file.xattrs.push((b"security.capability".to_vec(), b"x".to_vec()));
    manifest.0.push(device);
    let report = check(dir.path(), &manifest);
    if nix::unistd::geteuid().is_root() {
        assert_eq!(report.differences_total, 4, "{report:?}");
    } else {
        assert!(report.is_equal(), "{report:?}");
        assert_eq!(report.notes.len(), 3);
        flip(&dir.path().join("file"), 0);
        assert!(!check(dir.path(), &manifest).is_equal());
    }
    support::again_as_nobody("without_root_less_is_compared_and_it_is_said");
}

#[test]
fn a_root_that_is_a_link_is_refused() {
    let dir = sample();
    let link = dir.path().with_extension("link");
    symlink(dir.path(), &link).unwrap();
    let refused = compare(&link, &manifest(dir.path()), &CancelFlag::new(), &|_, _| {});
    fs::remove_file(&link).unwrap();
    assert!(matches!(refused, Err(ProofError::Io { .. })));
}

/// What a random tree is made of: nested directories with files.
fn tree() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    proptest::collection::vec(
        ("([a-c]/){0,3}[d-k]", proptest::collection::vec(any::<u8>(), 0..60)),
        1..12,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever is changed in a random tree, with the time put back, is found.
    #[test]
    fn any_mutation_of_any_tree_is_found(
        files in tree(),
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        way in 0_u8..6,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (path, content) in &files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, content).unwrap();
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        let manifest = manifest(dir.path());
        prop_assert!(check(dir.path(), &manifest).is_equal());

        let path = which.get(&paths);
        let parent = path.parent().unwrap();
        let times = [path.as_path(), parent].map(|p| fs::metadata(p).unwrap().modified().unwrap());
        let length = fs::metadata(path).unwrap().len();
        match way {
            0 if length > 0 => flip(path, at.index(usize::try_from(length).unwrap()) as u64),
            1 if length > 0 => {
                let file = OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(at.index(usize::try_from(length).unwrap()) as u64).unwrap();
            }
            2 => {
                let mut file = OpenOptions::new().write(true).open(path).unwrap();
                file.seek(SeekFrom::End(0)).unwrap();
                file.write_all(b"x").unwrap();
            }
            3 => fs::remove_file(path).unwrap(),
            4 => fs::write(parent.join("zzz"), "").unwrap(),
            _ => fs::rename(path, parent.join("zzz")).unwrap(),
        }
        if path.exists() {
            File::open(path).unwrap().set_modified(times[0]).unwrap();
        }
        File::open(parent).unwrap().set_modified(times[1]).unwrap();
        let report = check(dir.path(), &manifest);
        prop_assert!(!report.is_equal(), "way {way}, {}", path.display());
    }
}

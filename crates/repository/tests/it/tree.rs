//! Whole trees: what we write, stock restic and we restore as it was.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;

use crate::support::{Sandbox, assert_same, describe, noise};

fn set_times(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = TimeSpec::new(seconds, nanoseconds);
    utimensat(AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
}

/// Files with names that need care.
pub fn odd_names(root: &Path) {
    let at = |name: &[u8]| root.join(OsStr::from_bytes(name));
    let long = [b'x'; 255];
    let names: [&[u8]; 18] = [
        b"new\nline",
        b"quo\"te",
        b"back\\slash",
        b"\\x41",
        b"tab\tbell\x07",
        b"\xff\xfe",
        b"half\xc3",
        "ünïcödé 日本 😀".as_bytes(),
        "e\u{301}\u{200b}\u{ad}".as_bytes(),
        b"<html> & 'co'",
        b" leading",
        b"trailing ",
        b"-dash",
        b"...",
        b"*?[a]",
        b"\x01\x7f",
        &long,
        "\u{2028}".as_bytes(),
    ];
    for (number, name) in names.iter().enumerate() {
        fs::write(at(name), format!("file {number}")).unwrap();
    }
    fs::create_dir(at(b"dir\xff\n")).unwrap();
    fs::write(at(b"dir\xff\n/in\x80side"), "deep in oddness").unwrap();
}

/// Everything that restic 0.14 can restore too.
fn odd_tree(root: &Path) {
    for directory in ["plain", "plain/deep", "plain/deep/deeper", "empty", "sticky", "setgid"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    fs::write(root.join("plain/hello"), "hello\n").unwrap();
    fs::write(root.join("plain/empty"), "").unwrap();
    fs::write(root.join("plain/deep/large"), noise(7, 20_000_000)).unwrap();
    fs::write(root.join("plain/deep/zeros"), vec![0; 17_000_001]).unwrap();
    fs::write(root.join("plain/deep/deeper/text"), "again and again\n".repeat(200_000)).unwrap();

    odd_names(root);
    for (number, mode) in [0o4755, 0o2755, 0o1777, 0o6711, 0o000, 0o400, 0o777].iter().enumerate() {
        let path = root.join(format!("mode{number}"));
        fs::write(&path, "mode").unwrap();
        chown(&path, Some(1000 + u32::try_from(number).unwrap()), Some(4_000_000_000)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
    }
    for (directory, mode) in [("sticky", 0o1777), ("setgid", 0o2770), ("empty", 0o500)] {
        fs::set_permissions(root.join(directory), fs::Permissions::from_mode(mode)).unwrap();
    }

    symlink("plain/hello", root.join("link")).unwrap();
    symlink("/no/such/thing", root.join("dangling")).unwrap();
    symlink("ünï\n\"quoted\"<>&", root.join("odd link")).unwrap();
    lchown(root.join("dangling"), Some(77), Some(78)).unwrap();
    set_times(&root.join("dangling"), 1_000_000_000, 123_456_789);

    fs::hard_link(root.join("plain/hello"), root.join("hard")).unwrap();
    fs::hard_link(root.join("plain/hello"), root.join("plain/deep/hard")).unwrap();
    let node = |name: &str, kind, device| {
        mknod(&root.join(name), kind, Mode::from_bits_truncate(0o640), device).unwrap();
    };
    node("fifo", SFlag::S_IFIFO, 0);
    node("null", SFlag::S_IFCHR, makedev(1, 3));
    node("loop", SFlag::S_IFBLK, makedev(7, 300));

    let attributed = root.join("attributed");
    fs::write(&attributed, "x").unwrap();
    let value: Vec<u8> = (0..=255).collect();
    for (name, value) in [("user.binary", &value[..]), ("user.empty", b""), ("user.text", b"hello")]
    {
        xattr::set(&attributed, name, value).unwrap_or_else(|error| {
            panic!("{error}: TMPDIR must be on a file system with extended attributes")
        });
    }
    xattr::set(root.join("plain"), "user.directory", b"\0\xff").unwrap();

    set_times(&attributed, 1, 1);
    set_times(&root.join("plain/empty"), -1_000_000, 999_999_999);
    set_times(&root.join("plain/deep"), 1_700_000_000, 120_000_000);
    set_times(root, 1_600_000_000, 5);
}

#[test]
fn restic_and_we_restore_what_we_wrote() {
    let sandbox = Sandbox::new();
    odd_tree(&sandbox.source());
    let repository = sandbox.init();
    let snapshot = sandbox.backup(&repository);
    sandbox.assert_clean();
    let source = describe(&sandbox.source());

    let ours = sandbox.restore(&sandbox.open(), snapshot.id, "ours");
    assert_same(&source, &describe(&ours));
    let theirs = sandbox.restic_restore(snapshot.id, "theirs");
    assert_same(&source, &describe(&theirs.join("data")));
    assert_eq!(fs::read(theirs.join(".provault/recovery-point.json")).unwrap(), b"{\"record\":1}");
    // Without reading anything again, restic finds nothing changed on the same source.
    let listed = sandbox.restic(&["snapshots", "--json"]);
    assert!(listed.contains("2024-05-06T07:08:09.123456789Z") && listed.contains("job-1"));
}

/// What stock restic 0.14 cannot carry: targets of links that are not UTF-8, names of attributes
/// that are not, attributes of links, and sockets.
#[test]
fn we_restore_what_restic_cannot() {
    let sandbox = Sandbox::new();
    let root = sandbox.source();
    symlink(OsStr::from_bytes(b"raw\xff\xfe\n"), root.join("raw link")).unwrap();
    xattr::set(root.join("raw link"), "trusted.link", b"on a link").unwrap();
    fs::write(root.join("attributed"), "").unwrap();
    xattr::set(root.join("attributed"), OsStr::from_bytes(b"user.\xff\xfe"), b"v").unwrap();
    mknod(&root.join("socket"), SFlag::S_IFSOCK, Mode::from_bits_truncate(0o700), 0).unwrap();
    let repository = sandbox.init();
    let snapshot = sandbox.backup(&repository);
    sandbox.assert_clean();
    let ours = sandbox.restore(&repository, snapshot.id, "ours");
    assert_same(&describe(&root), &describe(&ours));
}

#[test]
fn an_empty_source_is_a_snapshot_too() {
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let snapshot = sandbox.backup(&repository);
    sandbox.assert_clean();
    let ours = sandbox.restore(&repository, snapshot.id, "ours");
    assert_same(&describe(&sandbox.source()), &describe(&ours));
    let theirs = sandbox.restic_restore(snapshot.id, "theirs");
    assert!(fs::read_dir(theirs.join("data")).unwrap().next().is_none());
}

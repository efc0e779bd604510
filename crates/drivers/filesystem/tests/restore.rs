//! Restores: targets, items, hostile trees, missing privileges.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::LazyLock;

use common::{Trees, differences, look, metadata, mode, populate, request, resource, with_items};
use provault_driver::conformance::{Request, capture, restore, restore_as};
use provault_driver::memory::MemorySource;
use provault_driver::{
    CancelFlag, ContentSink, Driver, DriverError, Entry, NodeKind, RestoreOutcome, RestoreRequest,
    Source, SourceError,
};
use provault_driver_filesystem::FilesystemDriver;

static DRIVER: LazyLock<FilesystemDriver> = LazyLock::new(FilesystemDriver::new);

fn run(request: &Request, source: &dyn Source) -> Result<RestoreOutcome, DriverError> {
    restore(&*DRIVER, request, source, &CancelFlag::new())
}

fn populated(trees: &Trees) -> (std::path::PathBuf, MemorySource) {
    let root = trees.source();
    populate(&root);
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    (root, tree)
}

#[test]
fn keys_are_refused_by_name() {
    let base = request(Path::new("/tmp/x"));
    let with = |key: &str, value: &str| {
        let mut request = base.clone();
        request.insert(key.to_owned(), value.to_owned());
        DRIVER.check_restore(&request)
    };
    for (key, value) in [
        ("newFileSystem", "yes"),
        ("overwrite", "always"),
        ("overwrite", "sometimes"),
        ("deleteExtra", "true"),
        ("deleteExtra", "maybe"),
        ("verify", "perhaps"),
        ("include", "*.txt"),
        ("include", "[]"),
        ("exclude", "[\"../x\"]"),
        ("file-system-id", "vol-0123456789abcdef0"),
        ("file-system-id", "fs-../../../x"),
        ("targetPath", "relative"),
        ("targetPath", "/"),
        ("targetPath", "/a/../b"),
        ("targetPath", "/a//b"),
        ("sourcePath", "x"),
        ("ItemsToRestore", "a"),
        ("ItemsToRestore", "[]"),
        ("ItemsToRestore", "[\"/\"]"),
        ("ItemsToRestore", "[\"a/../../b\"]"),
        ("ItemsToRestore", "[\"a//b\"]"),
        ("itemsToRestore", "[1]"),
        ("KmsKeyId", "arn:aws:kms:us-east-1:123456789012:key/x"),
        ("PerformanceMode", "maxIO"),
        ("Encrypted", "maybe"),
        ("CreationToken", ""),
        ("TargetPath", "/x"),
    ] {
        let error = with(key, value).expect_err(&format!("{key}={value}"));
        assert_eq!(error.member, key, "{error}");
    }
    for (key, value) in [
        ("newFileSystem", "true"),
        // In place where nothing is yet.
        ("newFileSystem", "false"),
        ("verify", "false"),
        ("include", "[\"*.txt\"]"),
        ("exclude", "[\"/a/**/b\"]"),
        ("PerformanceMode", "generalPurpose"),
        ("Encrypted", "false"),
        ("CreationToken", "token"),
        ("itemsToRestore", "[\"/my.test\"]"),
    ] {
        assert_eq!(with(key, value), Ok(()), "{key}={value}");
    }
    for missing in ["file-system-id", "targetPath"] {
        let mut request = base.clone();
        request.remove(missing);
        let error = DRIVER.check_restore(&request).unwrap_err();
        assert_eq!((error.member.as_str(), error.absent), (missing, true));
    }
}

#[test]
fn the_default_target_lies_beside_the_source() {
    let trees = Trees::new();
    let (root, tree) = populated(&trees);
    let mut request = DRIVER.restore_metadata(&resource(&root));
    request.insert("Encrypted".to_owned(), "true".to_owned());
    let job = "0a1b2c3d-0000-4000-8000-000000000000";
    let outcome = restore_as(&*DRIVER, job, &request, &tree, &CancelFlag::new()).unwrap();
    let target = root.with_file_name("source-restored-0a1b2c3d");
    assert_eq!(differences(&root, &target), [""; 0]);
    let created = outcome.created.unwrap();
    assert_eq!(created.name, "source-restored-0a1b2c3d");
    assert_eq!(created.config["path"], target.to_str().unwrap());
    assert!(outcome.notes[0].starts_with("Encrypted:"), "{:?}", outcome.notes);
}

#[test]
fn targets_that_exist() {
    let trees = Trees::new();
    let (root, tree) = populated(&trees);
    let refused = |target: &Path| match run(&request(target), &tree) {
        Err(DriverError::TargetExists { path }) => assert_eq!(path, target),
        other => panic!("{other:?}"),
    };
    let file = trees.fresh("file");
    fs::write(&file, b"x").unwrap();
    refused(&file);
    // Neither a link to an empty directory nor a dangling one is followed.
    let empty = trees.source();
    let link = trees.fresh("link");
    symlink(&empty, &link).unwrap();
    refused(&link);
    let dangling = trees.fresh("dangling");
    symlink(trees.fresh("nowhere"), &dangling).unwrap();
    refused(&dangling);
    assert!(fs::symlink_metadata(&dangling).unwrap().is_symlink());

    // An empty directory is taken.
    assert!(run(&request(&empty), &tree).is_ok());
    assert_eq!(differences(&root, &empty), [""; 0]);

    // The parent must exist.
    let orphan = trees.fresh("no").join("such");
    let error = run(&request(&orphan), &tree).unwrap_err();
    assert!(matches!(&error, DriverError::Invalid(i) if i.member == "targetPath"), "{error}");

    // A mount point cannot be replaced.
    let error = run(&request(Path::new("/dev/pts")), &tree).unwrap_err();
    assert!(!error.to_string().is_empty());
}

#[test]
fn items_come_alone_into_a_new_directory() {
    let trees = Trees::new();
    let (root, tree) = populated(&trees);
    let target = trees.fresh("target");
    let wanted = with_items(request(&target), &["/deep/er/and", "one", "dir/link-too"]);
    let outcome = run(&wanted, &tree).unwrap();
    assert_eq!((outcome.files, outcome.bytes, outcome.created), (2, 5, None));
    let (source, copy) = (look(&root), look(&target));
    let names: Vec<_> = copy.keys().map(|p| p.to_str().unwrap()).collect();
    let expected = [
        "",
        "deep",
        "deep/er",
        "deep/er/and",
        "deep/er/and/deeper",
        "deep/er/and/deeper/leaf",
        "dir",
        "dir/link-too",
        "one",
    ];
    assert_eq!(names, expected);
    for (path, new) in &copy {
        let old = &source[path];
        assert_eq!(
            (new.mode, new.owner, new.mtime, &new.xattrs, &new.content),
            (old.mode, old.owner, old.mtime, &old.xattrs, &old.content),
            "{path:?}"
        );
    }
    let target = trees.fresh("target");
    let missing = with_items(request(&target), &["one", "no/such"]);
    match run(&missing, &tree) {
        Err(DriverError::NoSuchItem { path }) => assert_eq!(path, "no/such"),
        other => panic!("{other:?}"),
    }
    assert!(!target.exists());
}

#[test]
fn items_come_into_a_directory_that_exists_and_over_nothing() {
    let trees = Trees::new();
    let (root, tree) = populated(&trees);
    let target = trees.source();
    fs::create_dir(target.join("dir")).unwrap();
    mode(&target.join("dir"), 0o700);
    fs::write(target.join("dir/mine"), b"mine").unwrap();
    let wanted = with_items(request(&target), &["dir/inner", "deep/er/and/deeper/leaf", "hollow"]);
    assert!(run(&wanted, &tree).is_ok());
    let (source, copy) = (look(&root), look(&target));
    let names: Vec<_> = copy.keys().map(|p| p.to_str().unwrap()).collect();
    let expected = [
        "",
        "deep",
        "deep/er",
        "deep/er/and",
        "deep/er/and/deeper",
        "deep/er/and/deeper/leaf",
        "dir",
        "dir/inner",
        "dir/mine",
        "hollow",
    ];
    assert_eq!(names, expected);
    // What was there is as it was; what had to be made is as it was recorded.
    assert_eq!(copy[Path::new("dir")].mode, 0o700);
    for path in ["deep", "deep/er", "dir/inner", "hollow"] {
        let (old, new) = (&source[Path::new(path)], &copy[Path::new(path)]);
        assert_eq!(
            (new.mode, new.mtime, &new.xattrs),
            (old.mode, old.mtime, &old.xattrs),
            "{path}"
        );
    }

    // One item exists: none is restored.
    for (items, stands) in [
        (&["one", "dir/inner"][..], "dir/inner"),
        (&["dir"][..], "dir"),
        (&["big", "dir/inner/below"][..], "dir/inner"),
    ] {
        let before = look(&target);
        match run(&with_items(request(&target), items), &tree) {
            Err(DriverError::TargetExists { path }) => assert_eq!(path, target.join(stands)),
            other => panic!("{other:?}"),
        }
        assert_eq!(before, look(&target));
    }

    // A link in the way is not followed.
    let outside = trees.source();
    fs::remove_dir_all(target.join("deep")).unwrap();
    symlink(&outside, target.join("deep")).unwrap();
    let wanted = with_items(request(&target), &["deep/er/and"]);
    assert!(matches!(run(&wanted, &tree), Err(DriverError::TargetExists { .. })));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

/// A source that puts something into the target in the middle of the restore.
struct Racing<'a> {
    inner: &'a MemorySource,
    act: &'a (dyn Fn() + Sync),
}

impl Source for Racing<'_> {
    fn entries(
        &self,
    ) -> Result<Box<dyn Iterator<Item = Result<Entry, SourceError>> + '_>, SourceError> {
        self.inner.entries()
    }
    fn copy_contents(&self, files: &[Entry], out: &dyn ContentSink) -> Result<(), DriverError> {
        (self.act)();
        self.inner.copy_contents(files, out)
    }
}

#[test]
fn what_appears_at_the_target_meanwhile_is_not_written_over() {
    let trees = Trees::new();
    let (_, tree) = populated(&trees);
    let target = trees.fresh("target");
    let act = || {
        fs::create_dir(&target).unwrap();
        fs::write(target.join("late"), b"late").unwrap();
    };
    let result = run(&request(&target), &Racing { inner: &tree, act: &act });
    assert!(matches!(result, Err(DriverError::TargetExists { .. })), "{result:?}");
    assert_eq!(fs::read(target.join("late")).unwrap(), b"late");
    assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);

    // The second of two items is in the way: the first is taken back.
    let target = trees.source();
    let act = || fs::write(target.join("same"), b"late").unwrap();
    let wanted = with_items(request(&target), &["one", "same"]);
    let result = run(&wanted, &Racing { inner: &tree, act: &act });
    assert!(matches!(result, Err(DriverError::TargetExists { .. })), "{result:?}");
    let left: Vec<_> = look(&target).into_keys().collect();
    assert_eq!(left, [Path::new(""), Path::new("same")]);
}

#[test]
fn moves_cut_short_by_death_are_undone() {
    // The state between the first and the second move, made by hand.
    let trees = Trees::new();
    let target = trees.source();
    fs::write(target.join("mine"), b"mine").unwrap();
    fs::write(target.join("moved"), b"restored").unwrap();
    fs::write(target.join("replaced"), b"made by the user since").unwrap();
    let job = "0a1b2c3d-0000-4000-8000-000000000000";
    let private = target.join(format!(".source.provault-{job}"));
    fs::create_dir_all(private.join("tree")).unwrap();
    fs::write(private.join("tree/waiting"), b"x").unwrap();
    let found = fs::metadata(target.join("moved")).unwrap();
    let moves = serde_json::json!([
        [b"moved", found.dev(), found.ino()],
        [b"replaced", found.dev(), 1],
        [b"waiting", found.dev(), fs::metadata(private.join("tree/waiting")).unwrap().ino()],
    ]);
    fs::write(private.join("moves"), moves.to_string()).unwrap();
    let metadata = with_items(request(&target), &["moved", "replaced", "waiting"]);
    for _ in 0..2 {
        DRIVER.discard_partial(&RestoreRequest::new(job, &metadata)).unwrap();
        let left: Vec<_> = look(&target).into_keys().collect();
        assert_eq!(left, [Path::new(""), Path::new("mine"), Path::new("replaced")]);
    }
}

#[test]
fn hostile_trees_write_nothing() {
    let trees = Trees::new();
    let root = || {
        let mut tree = MemorySource::new();
        tree.push(Vec::new(), NodeKind::Directory, metadata(0o755, 0), b"");
        tree
    };
    let file = |tree: &mut MemorySource, path: &[u8]| {
        tree.push(path.to_vec(), NodeKind::File, metadata(0o644, 4), b"evil");
    };
    let mut cases: Vec<(&str, MemorySource)> = Vec::new();
    for path in [
        &b"../evil"[..],
        b"..",
        b".",
        b"/etc/evil",
        b"a/../../evil",
        b"",
        b"a//b",
        b"nul\0",
        b"no/parent",
        b"./a",
    ] {
        let mut tree = root();
        file(&mut tree, path);
        cases.push(("path", tree));
    }
    // Through a link that the tree itself brings along.
    let outside = trees.source();
    let target = outside.to_str().unwrap().as_bytes().to_vec();
    let mut tree = root();
    tree.push(
        b"link".to_vec(),
        NodeKind::Symlink { target: target.clone() },
        metadata(0o777, 0),
        b"",
    );
    file(&mut tree, b"link/evil");
    cases.push(("through a link", tree));
    let mut tree = root();
    tree.push(b"link".to_vec(), NodeKind::Symlink { target }, metadata(0o777, 0), b"");
    tree.push(b"link".to_vec(), NodeKind::Directory, metadata(0o755, 0), b"");
    file(&mut tree, b"link/evil");
    cases.push(("a name twice", tree));
    let mut tree = root();
    file(&mut tree, b"file");
    file(&mut tree, b"file/below");
    cases.push(("below a file", tree));
    let mut tree = MemorySource::new();
    file(&mut tree, b"");
    cases.push(("a root that is a file", tree));
    cases.push(("nothing at all", MemorySource::new()));
    let mut tree = root();
    file(&mut tree, b"longer");
    tree.list_mut()[1].metadata.size = 1 << 40;
    cases.push(("a size that its chunks do not have", tree));
    for (what, tree) in cases {
        let target = trees.fresh("target");
        match run(&request(&target), &tree) {
            Err(DriverError::Source(SourceError::Damaged { .. })) => {}
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 0, "{what}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn hostile_content_and_links_write_nothing_wrong() {
    // Content beyond the end, for another file, and not enough of it.
    type Lie = dyn Fn(&dyn ContentSink) -> Result<(), DriverError> + Sync;
    struct Liar<'a>(&'a MemorySource, &'a Lie);
    impl Source for Liar<'_> {
        fn entries(
            &self,
        ) -> Result<Box<dyn Iterator<Item = Result<Entry, SourceError>> + '_>, SourceError>
        {
            self.0.entries()
        }
        fn copy_contents(&self, _: &[Entry], out: &dyn ContentSink) -> Result<(), DriverError> {
            (self.1)(out)
        }
    }
    let trees = Trees::new();
    let mut tree = MemorySource::new();
    tree.push(Vec::new(), NodeKind::Directory, metadata(0o755, 0), b"");
    tree.push(b"f".to_vec(), NodeKind::File, metadata(0o644, 4), b"1234");
    let lies: [&Lie; 4] = [
        &|out| out.write_at(0, 2, b"123"),
        &|out| out.write_at(0, u64::MAX, b"1"),
        &|out| out.write_at(7, 0, b"1234"),
        &|out| out.write_at(0, 0, b"12"),
    ];
    for lie in lies {
        let target = trees.fresh("target");
        let result = run(&request(&target), &Liar(&tree, lie));
        assert!(
            matches!(result, Err(DriverError::Source(SourceError::Damaged { .. }))),
            "{result:?}"
        );
        assert!(!target.exists());
    }

    // Two files that claim one inode but differ are not linked; extents cannot hide content.
    let mut tree = MemorySource::new();
    let mut linked = metadata(0o644, 4);
    (linked.links, linked.inode, linked.device) = (2, 9, 9);
    tree.push(Vec::new(), NodeKind::Directory, metadata(0o755, 0), b"");
    tree.push(b"a".to_vec(), NodeKind::File, linked.clone(), b"aaaa");
    tree.push(b"b".to_vec(), NodeKind::File, linked, b"bbbb");
    let mut odd = metadata(0o644, 10);
    odd.data_extents = Some(vec![(8, 100), (2, 1), (u64::MAX, u64::MAX)]);
    tree.push(b"c".to_vec(), NodeKind::File, odd, b"0123456789");
    let target = trees.fresh("target");
    let outcome = run(&request(&target), &tree).unwrap();
    assert_eq!(fs::read(target.join("a")).unwrap(), b"aaaa");
    assert_eq!(fs::read(target.join("b")).unwrap(), b"bbbb");
    assert_eq!(fs::read(target.join("c")).unwrap(), b"0123456789");
    assert!(outcome.notes.iter().any(|n| n.contains("hard links")), "{:?}", outcome.notes);
}

#[test]
fn without_privileges_the_rest_comes_back_and_notes_say_what_did_not() {
    let is_root = nix::unistd::geteuid().is_root();
    assert!(is_root, "run as root: this test makes what an unprivileged user cannot restore");
    let trees = Trees::new();
    let root = trees.source();
    populate(&root);
    // Once it has its mode, nobody but root gets into it: what is below must be done before.
    fs::create_dir_all(root.join("locked/below")).unwrap();
    fs::write(root.join("locked/below/file"), b"x").unwrap();
    mode(&root.join("locked/below"), 0o500);
    mode(&root.join("locked"), 0o000);
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    let target = trees.fresh("target");
    let parent = target.parent().unwrap();
    let nobody = 65_534;
    std::os::unix::fs::chown(parent, Some(nobody), Some(nobody)).unwrap();
    mode(trees.dir.path(), 0o755);
    // nextest gives every test its own process, so nobody else loses the rights of root.
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setegid(nix::unistd::Gid::from_raw(nobody)).unwrap();
    nix::unistd::seteuid(nix::unistd::Uid::from_raw(nobody)).unwrap();
    let outcome = run(&request(&target), &tree);
    // One that fails at its very end must be able to remove directories it has locked.
    let other = parent.join("other");
    let act = || {
        if !other.exists() {
            fs::create_dir(&other).unwrap();
            fs::write(other.join("late"), b"late").unwrap();
        }
    };
    let late = run(&request(&other), &Racing { inner: &tree, act: &act });
    nix::unistd::seteuid(nix::unistd::Uid::from_raw(0)).unwrap();
    nix::unistd::setegid(nix::unistd::Gid::from_raw(0)).unwrap();

    let notes = outcome.unwrap().notes.join("\n");
    for said in [
        "Ownership could not be restored",
        "Set-user-id",
        "extended attributes",
        "device nodes",
        "disk, null",
    ] {
        assert!(notes.contains(said), "{said} is not in: {notes}");
    }
    assert!(matches!(late, Err(DriverError::TargetExists { .. })), "{late:?}");
    assert_eq!(fs::read_dir(parent).unwrap().count(), 2, "something was left over");
    let (source, copy) = (look(&root), look(&target));
    for (path, old) in &source {
        if old.kind == "char" || old.kind == "block" {
            continue;
        }
        let new = &copy[path];
        assert_eq!(new.owner, (nobody, nobody), "{path:?}");
        assert_eq!((&new.content, new.mtime, &new.first), (&old.content, old.mtime, &old.first));
        assert_eq!(
            new.mode,
            if path == Path::new("setuid") { 0o755 } else { old.mode },
            "{path:?}"
        );
    }
}

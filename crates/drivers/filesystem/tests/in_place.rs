//! Restores into a directory that exists: every mode, what stands in the way, previews.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use common::{
    Seen, Trees, bind, differences, in_own_mounts, mode, not_tested, populate, request, resource,
};
use provault_driver::conformance::{Request, capture, next_job, restore};
use provault_driver::memory::MemorySource;
use provault_driver::{
    CancelFlag, Driver, DriverError, PreviewFate, RestoreOutcome, RestorePreview, RestoreRequest,
    Source, WorkContext,
};
use provault_driver_filesystem::FilesystemDriver;

static DRIVER: LazyLock<FilesystemDriver> = LazyLock::new(FilesystemDriver::new);
const MODES: [&str; 4] = ["never", "if-older", "if-changed", "always"];

/// What is there, but for the times of access, which looking renews.
fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = common::look(root);
    for one in seen.values_mut() {
        one.atime = (0, 0);
    }
    seen
}

fn over(target: &Path, overwrite: &str) -> Request {
    let mut request = request(target);
    request.insert("newFileSystem".to_owned(), "false".to_owned());
    request.insert("overwrite".to_owned(), overwrite.to_owned());
    request
}

fn with(mut request: Request, key: &str, value: &str) -> Request {
    request.insert(key.to_owned(), value.to_owned());
    request
}

fn run(request: &Request, source: &dyn Source) -> Result<RestoreOutcome, DriverError> {
    restore(&*DRIVER, request, source, &CancelFlag::new())
}

fn preview(request: &Request, source: &dyn Source) -> Result<RestorePreview, DriverError> {
    let context = WorkContext { cancel: &CancelFlag::new(), progress: &|_, _| {} };
    let job = next_job();
    DRIVER.preview(&RestoreRequest::new(&job, request), source, &context)
}

fn fates(preview: &RestorePreview) -> Vec<(String, PreviewFate)> {
    preview.changes.iter().map(|change| (change.path.clone(), change.fate)).collect()
}

/// Sets a file's time of change, so many seconds after 2001.
fn changed(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn write(root: &Path, name: &str, content: &str, at: u64) {
    fs::write(root.join(name), content).unwrap();
    changed(&root.join(name), at);
}

/// Files that were captured at 100: `kept` is as it was, `gone` is missing, `older` was put back to 50,
/// `newer` was changed at 200, `quiet` was changed without a trace in size or time.
fn meddled(trees: &Trees) -> (PathBuf, MemorySource) {
    let root = trees.source();
    for name in ["gone", "kept", "newer", "older", "quiet"] {
        write(&root, name, "stored", 100);
    }
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    fs::remove_file(root.join("gone")).unwrap();
    write(&root, "older", "an older one", 50);
    write(&root, "newer", "work of today", 200);
    write(&root, "quiet", "STORED", 100);
    (root, tree)
}

fn content(root: &Path, name: &str) -> String {
    fs::read_to_string(root.join(name)).unwrap()
}

#[test]
fn every_mode_writes_over_what_it_says_and_its_preview_says_so_before() {
    use PreviewFate as F;
    let today = "work of today";
    let was = "an older one";
    for (mode, older, newer, quiet, told) in [
        ("never", was, today, "STORED", [F::Create, F::KeepNewer, F::Keep].as_slice()),
        ("if-older", "stored", today, "STORED", &[F::Create, F::KeepNewer, F::Overwrite]),
        ("if-changed", "stored", "stored", "STORED", &[F::Create, F::Overwrite, F::Overwrite]),
        (
            "always",
            "stored",
            "stored",
            "stored",
            &[F::Create, F::Overwrite, F::Overwrite, F::Overwrite],
        ),
    ] {
        let trees = Trees::new();
        let (root, tree) = meddled(&trees);
        let before = look(&root);
        let shown = preview(&over(&root, mode), &tree).unwrap();
        assert_eq!(before, look(&root), "{mode}: the preview wrote");
        let listed: Vec<F> =
            shown.changes.iter().filter(|c| c.path != ".").map(|c| c.fate).collect();
        assert_eq!(listed, told, "{mode}");
        let newer_one = shown.changes.iter().find(|c| c.path == "newer").unwrap();
        assert!(newer_one.is_newer(), "{mode}");

        let outcome = run(&over(&root, mode), &tree).unwrap();
        assert_eq!(outcome.in_place, Some(shown.counts), "{mode}");
        assert_eq!(outcome.created, None, "{mode}");
        let found = ["gone", "kept", "older", "newer", "quiet"].map(|name| content(&root, name));
        assert_eq!(found, ["stored", "stored", older, newer, quiet], "{mode}");
        let told = outcome.notes.join(" ");
        let keeps = newer == today;
        assert_eq!(told.contains("newer than what was backed up"), keeps, "{mode}: {told}");
        // Nothing of the making is left, and to do it again changes nothing.
        assert_eq!(look(&root).len(), 6, "{mode}");
        let after = look(&root);
        let again = run(&over(&root, mode), &tree).unwrap();
        assert_eq!(again.bytes, 0, "{mode}");
        let counts = again.in_place.unwrap();
        assert_eq!(counts.created.entries + counts.overwritten.entries, 0, "{mode}");
        assert_eq!(
            after.values().map(|seen| (&seen.content, seen.mtime)).collect::<Vec<_>>(),
            look(&root).values().map(|seen| (&seen.content, seen.mtime)).collect::<Vec<_>>(),
            "{mode}"
        );
    }
}

#[test]
fn a_target_that_is_not_empty_needs_a_mode_and_the_error_names_them() {
    let trees = Trees::new();
    let (root, tree) = meddled(&trees);
    let mut bare = request(&root);
    bare.insert("newFileSystem".to_owned(), "false".to_owned());
    let before = look(&root);
    let refused = DRIVER.check_restore(&bare).unwrap_err();
    assert_eq!(refused.member, "overwrite");
    for mode in MODES {
        assert!(refused.message.contains(mode), "{refused}");
    }
    let error = run(&bare, &tree).unwrap_err();
    assert!(matches!(&error, DriverError::Invalid(i) if i.member == "overwrite"), "{error}");
    assert_eq!(before, look(&root));

    // Where nothing is, none is needed; and no resource is made of a source that comes back.
    let (absent, empty) = (trees.fresh("absent"), trees.source());
    for target in [&absent, &empty] {
        let mut bare = request(target);
        bare.insert("newFileSystem".to_owned(), "false".to_owned());
        assert_eq!(DRIVER.check_restore(&bare), Ok(()));
        let outcome = run(&bare, &tree).unwrap();
        assert_eq!((outcome.created, outcome.files), (None, 5));
        assert_eq!(content(target, "newer"), "stored");
    }
    // Without a target it is the source.
    let mut bare = DRIVER.restore_metadata(&resource(&root));
    bare.extend([
        ("newFileSystem".to_owned(), "false".to_owned()),
        ("overwrite".to_owned(), "always".to_owned()),
    ]);
    run(&bare, &tree).unwrap();
    assert_eq!(content(&root, "newer"), "stored");
}

#[test]
fn everything_there_is_comes_back_over_anything() {
    let trees = Trees::new();
    let root = trees.source();
    populate(&root);
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    // Wrecked in every way: emptied, replaced by other kinds, links torn, modes and attributes off.
    let target = trees.source();
    populate(&target);
    fs::remove_dir_all(target.join("dir")).unwrap();
    fs::write(target.join("dir"), b"a file where a directory was").unwrap();
    fs::remove_file(target.join("one")).unwrap();
    fs::create_dir_all(target.join("one/two/three")).unwrap();
    fs::write(target.join("one/two/file"), b"in the way").unwrap();
    fs::remove_file(target.join("big-too")).unwrap();
    fs::write(target.join("big-too"), b"no longer a second name").unwrap();
    fs::remove_file(target.join("link")).unwrap();
    symlink("elsewhere", target.join("link")).unwrap();
    fs::write(target.join("sparse"), b"short").unwrap();
    mode(&target.join("deep"), 0o777);
    xattr::set(target.join("same"), "user.extra", b"x").unwrap();
    fs::write(target.join("extra"), b"not in the recovery point").unwrap();
    fs::create_dir_all(target.join("deep/extra/more")).unwrap();

    let request = with(over(&target, "always"), "deleteExtra", "true");
    let shown = preview(&request, &tree).unwrap();
    assert_eq!(shown.counts.conflicts.entries, 0);
    let outcome = run(&request, &tree).unwrap();
    assert_eq!(outcome.in_place, Some(shown.counts));
    assert!(outcome.verified.is_some_and(|verified| verified.bytes > 0));
    assert_eq!(differences(&root, &target), [""; 0]);
}

#[test]
fn a_directory_in_place_of_a_file_is_refused_before_anything_is_written() {
    type Wreck = fn(&Path, &Path);
    let trees = Trees::new();
    let root = trees.source();
    write(&root, "aaa", "stored", 100);
    write(&root, "file", "stored", 100);
    fs::create_dir(root.join("zdir")).unwrap();
    write(&root, "zdir/inner", "stored", 100);
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    let wrecks: [(&str, Wreck); 3] = [
        ("file", |root, _| {
            fs::remove_file(root.join("file")).unwrap();
            fs::create_dir(root.join("file")).unwrap();
            fs::write(root.join("file/precious"), b"precious").unwrap();
        }),
        ("zdir", |root, _| {
            fs::remove_dir_all(root.join("zdir")).unwrap();
            fs::write(root.join("zdir"), b"precious").unwrap();
        }),
        // A link to a directory is no directory, and leads nowhere.
        ("zdir", |root, outside| {
            fs::remove_dir_all(root.join("zdir")).unwrap();
            symlink(outside, root.join("zdir")).unwrap();
        }),
    ];
    for (stands, wreck) in wrecks {
        let target = trees.source();
        let outside = trees.source();
        write(&target, "file", "stored", 100);
        fs::create_dir(target.join("zdir")).unwrap();
        wreck(&target, &outside);
        let before = look(&target);
        for mode in ["never", "if-older", "if-changed"] {
            let shown = preview(&over(&target, mode), &tree).unwrap();
            assert_eq!(shown.counts.conflicts.entries, 1, "{mode} {stands}");
            assert!(fates(&shown).contains(&(stands.to_owned(), PreviewFate::Conflict)));
            match run(&over(&target, mode), &tree) {
                Err(DriverError::Conflict { path, .. }) => assert_eq!(path, target.join(stands)),
                other => panic!("{mode} {stands}: {other:?}"),
            }
            assert_eq!(before, look(&target), "{mode} {stands}");
        }
        run(&over(&target, "always"), &tree).unwrap();
        assert_eq!(differences(&root, &target), [""; 0], "{stands}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "followed a link");
    }
}

#[test]
fn a_link_in_the_target_is_replaced_and_never_followed() {
    let trees = Trees::new();
    let root = trees.source();
    write(&root, "file", "stored", 100);
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    let outside = trees.source();
    write(&outside, "victim", "victim", 50);
    fs::remove_file(root.join("file")).unwrap();
    symlink(outside.join("victim"), root.join("file")).unwrap();
    run(&over(&root, "if-changed"), &tree).unwrap();
    assert!(fs::symlink_metadata(root.join("file")).unwrap().is_file());
    assert_eq!(
        (content(&root, "file"), content(&outside, "victim")),
        ("stored".into(), "victim".into())
    );

    // Nor is the target itself.
    let link = trees.fresh("link");
    symlink(&outside, &link).unwrap();
    let error = run(&over(&link, "always"), &tree).unwrap_err();
    assert!(matches!(&error, DriverError::Invalid(i) if i.member == "targetPath"), "{error}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn extra_files_are_deleted_only_where_everything_is_wanted() {
    let trees = Trees::new();
    let (root, tree) = meddled(&trees);
    for name in ["extra", "extra.log"] {
        write(&root, name, "extra", 300);
    }
    fs::create_dir(root.join("more")).unwrap();
    write(&root, "more/inner", "extra", 300);
    // Another job's unfinished work is not extra.
    let private = root.join(".other.provault-0a1b2c3d-0000-4000-8000-000000000000");
    fs::create_dir(&private).unwrap();
    for mode in ["never", "if-older"] {
        let error = DRIVER.check_restore(&with(over(&root, mode), "deleteExtra", "true"));
        assert_eq!(error.unwrap_err().member, "deleteExtra");
    }
    run(&over(&root, "always"), &tree).unwrap();
    assert!(root.join("extra").exists());
    let wanted = with(over(&root, "always"), "deleteExtra", "true");
    let wanted = with(wanted, "exclude", r#"["*.log"]"#);
    let shown = preview(&wanted, &tree).unwrap();
    assert_eq!(shown.counts.deleted.entries, 3, "{shown:?}");
    run(&wanted, &tree).unwrap();
    assert!(!root.join("extra").exists() && !root.join("more").exists());
    assert!(root.join("extra.log").exists() && private.exists());
    // Of single items nothing beside them is extra.
    write(&root, "beside", "extra", 300);
    let items = with(over(&root, "always"), "deleteExtra", "true");
    run(&with(items, "ItemsToRestore", r#"["kept"]"#), &tree).unwrap();
    assert!(root.join("beside").exists());
}

#[test]
fn patterns_choose_what_comes_back() {
    let trees = Trees::new();
    let root = trees.source();
    populate(&root);
    fs::write(root.join("deep/er/note.txt"), b"note").unwrap();
    fs::write(root.join("deep/er/and/draft.txt"), b"draft").unwrap();
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    let target = trees.fresh("target");
    let wanted = with(request(&target), "include", r#"["*.txt", "/dir"]"#);
    let wanted = with(wanted, "exclude", r#"["draft.*"]"#);
    let outcome = run(&wanted, &tree).unwrap();
    assert_eq!(outcome.created, None, "a part is no resource");
    let names: Vec<_> = look(&target).into_keys().map(|p| p.to_str().unwrap().to_owned()).collect();
    let expected =
        ["", "deep", "deep/er", "deep/er/note.txt", "dir", "dir/inner", "dir/link-too", "dir.txt"];
    assert_eq!(names, expected);

    // In place only they are touched.
    for name in ["dir.txt", "one"] {
        fs::write(root.join(name), b"changed").unwrap();
    }
    run(&with(over(&root, "always"), "include", r#"["*.txt"]"#), &tree).unwrap();
    assert_ne!(content(&root, "dir.txt"), "changed");
    assert_eq!(content(&root, "one"), "changed");

    let nothing = with(request(&trees.fresh("none")), "include", r#"["*.nosuch"]"#);
    let error = run(&nothing, &tree).unwrap_err();
    assert!(matches!(&error, DriverError::Invalid(i) if i.member == "include"), "{error}");
}

#[test]
fn the_servers_own_directory_in_the_target_is_left_alone() {
    let trees = Trees::new();
    let root = trees.source();
    let data = root.join("var/data");
    fs::create_dir_all(&data).unwrap();
    write(&root, "file", "stored", 100);
    let driver = FilesystemDriver::reserving(vec![data.clone()]);
    fs::write(data.join("catalog.db"), b"catalog").unwrap();
    let (tree, _) = capture(&driver, &resource(&root));
    mode(&data, 0o700);
    let wanted = with(over(&root, "always"), "deleteExtra", "true");
    assert_eq!(driver.check_restore(&wanted), Ok(()));
    restore(&driver, &wanted, &tree, &CancelFlag::new()).unwrap();
    assert_eq!(fs::read(data.join("catalog.db")).unwrap(), b"catalog");
    assert_eq!(look(&root)[Path::new("var/data")].mode, 0o700);

    // Nor does it go with what is extra, or is it written into.
    let others = trees.source();
    write(&others, "file", "stored", 100);
    let (without, _) = capture(&driver, &resource(&others));
    let error = restore(&driver, &wanted, &without, &CancelFlag::new()).unwrap_err();
    assert!(matches!(error, DriverError::Invalid(_)), "{error}");
    fs::create_dir_all(others.join("var/data")).unwrap();
    write(&others, "var/data/catalog.db", "another", 100);
    let (within, _) = capture(&driver, &resource(&others));
    let error = restore(&driver, &over(&root, "always"), &within, &CancelFlag::new()).unwrap_err();
    assert!(error.to_string().contains("own data directory"), "{error}");
    assert_eq!(fs::read(data.join("catalog.db")).unwrap(), b"catalog");
    assert!(driver.check_restore(&over(&data, "always")).is_err());
}

/// A bind mount of the same file system has the same device as what is around it.
#[test]
fn what_is_mounted_in_the_target_is_never_touched() {
    let trees = Trees::new();
    let root = trees.source();
    write(&root, "file", "stored", 100);
    let outside = trees.source();
    fs::create_dir(outside.join("inner")).unwrap();
    write(&outside, "inner/precious", "precious", 100);
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    let refused = |target: &Path, tree: &MemorySource, request: &Request| {
        let before = (look(target), look(&outside));
        for error in [
            preview(request, tree).map(drop).unwrap_err(),
            run(request, tree).map(drop).unwrap_err(),
        ] {
            assert!(matches!(error, DriverError::Invalid(_)), "{error}");
        }
        assert_eq!(before, (look(target), look(&outside)));
    };
    let ran = in_own_mounts(|| {
        // Below what is extra: refused, and left out it stays, with what is above it.
        let target = trees.source();
        fs::create_dir_all(target.join("extra/mounted")).unwrap();
        write(&target, "extra/gone", "extra", 100);
        bind(&outside, &target.join("extra/mounted"))?;
        let deleting = with(over(&target, "always"), "deleteExtra", "true");
        refused(&target, &tree, &deleting);
        run(&with(deleting, "exclude", r#"["mounted"]"#), &tree).unwrap();
        assert!(!target.join("extra/gone").exists());
        assert_eq!(content(&target, "extra/mounted/inner/precious"), "precious");

        // What is extra itself stays, a single file too.
        let target = trees.source();
        fs::create_dir(target.join("mounted")).unwrap();
        write(&target, "single", "covered", 100);
        bind(&outside, &target.join("mounted"))?;
        bind(&outside.join("inner/precious"), &target.join("single"))?;
        run(&with(over(&target, "always"), "deleteExtra", "true"), &tree).unwrap();
        assert_eq!(content(&target, "mounted/inner/precious"), "precious");
        assert_eq!(content(&target, "single"), "precious");

        // In a directory that a file replaces.
        let target = trees.source();
        fs::create_dir_all(target.join("file/mounted")).unwrap();
        bind(&outside, &target.join("file/mounted"))?;
        refused(&target, &tree, &over(&target, "always"));

        // Nothing is written into one, or over one.
        let within = trees.source();
        fs::create_dir(within.join("mounted")).unwrap();
        write(&within, "mounted/new", "stored", 100);
        let (new, _) = capture(&*DRIVER, &resource(&within));
        let target = trees.source();
        fs::create_dir(target.join("mounted")).unwrap();
        bind(&outside, &target.join("mounted"))?;
        refused(&target, &new, &over(&target, "always"));
        let target = trees.source();
        write(&target, "file", "covered", 100);
        bind(&outside.join("inner/precious"), &target.join("file"))?;
        refused(&target, &tree, &over(&target, "always"));

        // Nor does it get other modes or times.
        let (all, _) = capture(&*DRIVER, &resource(&outside));
        let above = trees.source();
        fs::create_dir(above.join("mounted")).unwrap();
        let (holder, _) = capture(&*DRIVER, &resource(&above));
        mode(&above.join("mounted"), 0o711);
        bind(&outside, &above.join("mounted"))?;
        mode(&outside, 0o750);
        let before = look(&outside);
        let outcome = run(&over(&above, "always"), &holder).unwrap();
        let told = outcome.notes.join(" ");
        assert!(told.contains("mounted in the target differ"), "{told}");
        assert_eq!(before, look(&outside));
        // What is mounted on the target itself is the target.
        let target = trees.source();
        bind(&outside, &target)?;
        mode(&outside, 0o700);
        fs::remove_file(outside.join("inner/precious")).unwrap();
        run(&over(&target, "always"), &all).unwrap();
        assert_eq!(content(&outside, "inner/precious"), "precious");
        Ok(())
    });
    if let Err(error) = ran {
        not_tested("what_is_mounted_in_the_target_is_never_touched", &error.to_string());
    }
}

#[test]
fn what_is_excluded_stays_wherever_it_is() {
    let trees = Trees::new();
    let root = trees.source();
    write(&root, "file", "stored", 100);
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    let target = trees.source();
    fs::create_dir_all(target.join("extra/deep/er")).unwrap();
    for name in ["extra/gone", "extra/deep/gone", "extra/deep/er/app.log", "extra/deep/er/gone"] {
        write(&target, name, "extra", 300);
    }
    // Another job's unfinished work is nobody else's to delete.
    let private = target.join("extra/.other.provault-0a1b2c3d-0000-4000-8000-000000000000");
    fs::create_dir(&private).unwrap();
    let wanted = with(over(&target, "always"), "deleteExtra", "true");
    let wanted = with(wanted, "exclude", r#"["*.log"]"#);
    assert_eq!(preview(&wanted, &tree).unwrap().counts.deleted.entries, 3);
    let outcome = run(&wanted, &tree).unwrap();
    assert_eq!(outcome.in_place.unwrap().deleted.entries, 3);
    let names: Vec<_> = look(&target).into_keys().map(|p| p.to_str().unwrap().to_owned()).collect();
    let private = private.strip_prefix(&target).unwrap().to_str().unwrap();
    let stays =
        ["", "extra", private, "extra/deep", "extra/deep/er", "extra/deep/er/app.log", "file"];
    assert_eq!(names, stays);

    // A directory that holds it is not replaced either.
    fs::remove_file(target.join("file")).unwrap();
    fs::create_dir_all(target.join("file/deep")).unwrap();
    write(&target, "file/deep/app.log", "precious", 300);
    let before = look(&target);
    let wanted = with(over(&target, "always"), "exclude", r#"["*.log"]"#);
    assert_eq!(preview(&wanted, &tree).unwrap().counts.conflicts.entries, 1);
    match run(&wanted, &tree) {
        Err(DriverError::Conflict { path, what }) => {
            assert_eq!(path, target.join("file"));
            assert!(what.contains("file/deep/app.log"), "{what}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(before, look(&target));
}

#[test]
fn extra_files_with_several_names_go_and_a_directory_without_rights_too() {
    let trees = Trees::new();
    let root = trees.source();
    write(&root, "file", "stored", 100);
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    fs::create_dir(root.join("extra")).unwrap();
    write(&root, "extra/one", "extra", 300);
    fs::hard_link(root.join("extra/one"), root.join("extra/two")).unwrap();
    mode(&root.join("extra"), 0o500);
    let outcome = run(&with(over(&root, "always"), "deleteExtra", "true"), &tree).unwrap();
    assert!(!root.join("extra").exists(), "{:?}", outcome.notes);
}

#[test]
fn links_that_lead_out_of_the_target_are_told_of_before_and_never_followed() {
    let trees = Trees::new();
    let (root, outside) = (trees.source(), trees.source());
    fs::create_dir(root.join("sub")).unwrap();
    write(&outside, "victim", "victim", 50);
    symlink(&outside, root.join("absolute")).unwrap();
    symlink("../../elsewhere", root.join("sub/climbs")).unwrap();
    symlink("../inside", root.join("sub/stays")).unwrap();
    write(&root, "inside", "stored", 100);
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    let told = |preview: &RestorePreview| {
        assert_eq!(preview.leads_outside, preview.outside.len() as u64);
        preview.outside.iter().map(|link| link.path.clone()).collect::<Vec<_>>()
    };
    let fresh = trees.fresh("target");
    let shown = preview(&request(&fresh), &tree).unwrap();
    assert_eq!(told(&shown), ["absolute", "sub/climbs"]);
    assert_eq!(shown.outside[1].target, "../../elsewhere");
    // Excluded ones are not made.
    let shown = preview(&with(request(&fresh), "exclude", r#"["/sub"]"#), &tree).unwrap();
    assert_eq!(told(&shown), ["absolute"]);
    // One that is there as it is to be is not made either.
    let target = trees.source();
    run(&over(&target, "always"), &tree).unwrap();
    fs::remove_file(target.join("sub/climbs")).unwrap();
    assert_eq!(told(&preview(&over(&target, "always"), &tree).unwrap()), ["sub/climbs"]);
    run(&over(&target, "always"), &tree).unwrap();
    assert_eq!(fs::read_link(target.join("absolute")).unwrap(), outside);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(content(&outside, "victim"), "victim");
}

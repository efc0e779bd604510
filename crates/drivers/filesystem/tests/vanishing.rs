//! What happens to what a restore made, and to its target, between the making and the putting in place.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod common;

use std::fs;
use std::sync::LazyLock;

use common::watched::{Watched, in_place, private};
use common::{Trees, differences, populate, request, resource, with_items};
use provault_driver::conformance::{capture, restore};
use provault_driver::{CancelFlag, Driver, DriverError};
use provault_driver_filesystem::FilesystemDriver;

static DRIVER: LazyLock<FilesystemDriver> = LazyLock::new(FilesystemDriver::new);

/// A directory that is made, with all that is in it, is not counted as made when something took its place.
#[test]
fn what_would_have_come_with_a_directory_is_not_counted_when_that_is_left() {
    let trees = Trees::new();
    let root = trees.source();
    fs::create_dir(root.join("made")).unwrap();
    fs::write(root.join("made/inner"), b"stored").unwrap();
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    let target = trees.source();
    fs::write(target.join("mine"), b"mine").unwrap();
    let act = || {
        fs::create_dir(target.join("made")).unwrap();
        fs::write(target.join("made/work"), b"work of today").unwrap();
    };
    let watched = Watched { act_after: 3, act: &act, ..Watched::new(&tree) };
    let asked = in_place(&target, "if-changed");
    let outcome = restore(&*DRIVER, &asked, &watched, &CancelFlag::new()).unwrap();
    let counts = outcome.in_place.unwrap();
    assert_eq!((counts.created.entries, counts.created.bytes, counts.kept.entries), (0, 0, 1));
    assert!(!target.join("made/inner").exists());
}

#[test]
fn what_vanishes_before_it_is_put_in_place_is_named_and_is_no_success() {
    let trees = Trees::new();
    let root = trees.source();
    for name in ["here", "lost", "over"] {
        fs::write(root.join(name), b"stored").unwrap();
    }
    fs::create_dir(root.join("made")).unwrap();
    fs::write(root.join("made/inner"), b"stored").unwrap();
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    let target = trees.source();
    for name in ["lost", "over"] {
        fs::write(target.join(name), b"what was there").unwrap();
    }
    // All of it is verified when somebody tidies up.
    let act = || {
        let staged = private(&target).join("tree");
        fs::remove_file(staged.join("lost")).unwrap();
        fs::remove_dir_all(staged.join("made")).unwrap();
    };
    let watched = Watched { act_after: 3, act: &act, ..Watched::new(&tree) };
    let asked = in_place(&target, "always");
    let error = restore(&*DRIVER, &asked, &watched, &CancelFlag::new()).unwrap_err();
    let told = error.to_string();
    assert!(
        matches!(&error, DriverError::Vanished { count: 2, paths, .. } if paths == "lost, made"),
        "{told}"
    );
    assert!(told.contains("Everything else is in place"), "{told}");
    // The others are in place, and nothing went for what did not come.
    for (name, content) in [("here", "stored"), ("over", "stored"), ("lost", "what was there")] {
        assert_eq!(fs::read_to_string(target.join(name)).unwrap(), content, "{name}");
    }
    assert_eq!(fs::read_dir(&target).unwrap().count(), 3, "something is left of the making");
    restore(&*DRIVER, &asked, &tree, &CancelFlag::new()).unwrap();
    assert_eq!(differences(&root, &target), [""; 0]);
}

#[test]
fn files_that_were_written_and_not_read_back_are_not_verified() {
    let trees = Trees::new();
    let root = trees.source();
    populate(&root);
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    let (absent, existing) = (trees.fresh("target"), trees.source());
    fs::write(existing.join("big"), b"what was there").unwrap();
    for (target, asked) in [(&absent, request(&absent)), (&existing, in_place(&existing, "always"))]
    {
        // Another answer than before, when it is asked what to compare.
        let watched = Watched { hides: Some((3, b"dir.txt")), ..Watched::new(&tree) };
        let result = restore(&*DRIVER, &asked, &watched, &CancelFlag::new());
        assert!(matches!(result, Err(DriverError::Unverified { .. })), "{result:?}");
        assert!(!target.join("dir.txt").exists());
    }
    assert_eq!(fs::read(existing.join("big")).unwrap(), b"what was there");
}

#[test]
fn a_directory_that_becomes_a_link_meanwhile_leads_nowhere() {
    let trees = Trees::new();
    let root = trees.source();
    fs::create_dir(root.join("sub")).unwrap();
    fs::write(root.join("sub/file"), b"stored").unwrap();
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    for mode in ["if-changed", "always"] {
        let (target, outside) = (trees.source(), trees.source());
        for dir in [target.join("sub"), outside.clone()] {
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("file"), b"precious").unwrap();
        }
        let act = || {
            fs::remove_dir_all(target.join("sub")).unwrap();
            std::os::unix::fs::symlink(&outside, target.join("sub")).unwrap();
        };
        let watched = Watched { act_after: 3, act: &act, ..Watched::new(&tree) };
        let asked = in_place(&target, mode);
        // Times of the directory cannot be set either, which may end it.
        drop(restore(&*DRIVER, &asked, &watched, &CancelFlag::new()));
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"precious", "{mode}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{mode}");
    }
}

#[test]
fn what_vanishes_from_a_directory_that_is_made_is_named_too() {
    let trees = Trees::new();
    let root = trees.source();
    for dir in ["made/deep/er", "whole"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for name in ["made/deep/er/one", "made/deep/er/two", "made/here", "made/lost", "whole/all"] {
        fs::write(root.join(name), b"stored").unwrap();
    }
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    // After it was read back, and where nothing is read back.
    for (verify, act_after) in [(true, 3), (false, 2)] {
        let target = trees.source();
        fs::write(target.join("mine"), b"mine").unwrap();
        let act = || {
            let staged = private(&target).join("tree");
            fs::remove_file(staged.join("made/lost")).unwrap();
            if verify {
                fs::remove_dir_all(staged.join("made/deep/er")).unwrap();
            } else {
                fs::remove_file(staged.join("made/deep/er/two")).unwrap();
            }
        };
        let watched = Watched { act_after, act: &act, ..Watched::new(&tree) };
        let mut asked = in_place(&target, "always");
        if !verify {
            DRIVER.leave_unverified(&mut asked);
        }
        let error = restore(&*DRIVER, &asked, &watched, &CancelFlag::new()).unwrap_err();
        let expected =
            if verify { "made/deep/er, made/lost" } else { "made/deep/er/two, made/lost" };
        assert!(
            matches!(&error, DriverError::Vanished { count: 2, paths, .. } if paths == expected),
            "{error}"
        );
        for name in ["made/here", "whole/all", "mine"] {
            assert!(target.join(name).exists(), "{name}");
        }
        restore(&*DRIVER, &asked, &tree, &CancelFlag::new()).unwrap();
        assert!(target.join("made/deep/er/two").exists() && target.join("made/lost").exists());
    }
}

#[test]
fn a_new_directory_and_new_items_are_there_in_whole_or_not_at_all() {
    let trees = Trees::new();
    let root = trees.source();
    populate(&root);
    let (tree, _) = capture(&*DRIVER, &resource(&root));
    let (absent, items) = (trees.fresh("target"), trees.source());
    fs::write(items.join("mine"), b"mine").unwrap();
    let asked_items = with_items(request(&items), &["dir", "dir.txt"]);
    for (asked, target, place) in [
        (request(&absent), &absent, absent.parent().unwrap()),
        (asked_items, &items, items.as_path()),
    ] {
        for name in ["dir/inner", "dir.txt"] {
            let act = || {
                let mut staged = private(place);
                if staged.join("tree").is_dir() {
                    staged = staged.join("tree");
                }
                fs::remove_file(staged.join(name)).unwrap();
            };
            let watched = Watched { act_after: 3, act: &act, ..Watched::new(&tree) };
            let error = restore(&*DRIVER, &asked, &watched, &CancelFlag::new()).unwrap_err();
            assert!(
                matches!(&error, DriverError::Vanished { count: 1, paths, .. } if paths == name),
                "{error}"
            );
            assert!(error.to_string().contains("Nothing was put in place"), "{error}");
            assert!(!target.join("dir").exists() && !target.join("dir.txt").exists());
        }
        restore(&*DRIVER, &asked, &tree, &CancelFlag::new()).unwrap();
        assert!(target.join("dir/inner").exists());
    }
    assert_eq!(fs::read_dir(&items).unwrap().count(), 3);
}

//! What stands on a host: a made one.
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Trees, resource_with};
use provault_domain::Resource;
use provault_driver::{
    CancelFlag, Coverage, DiscoverRequest, Discovered, Discovery, Driver, DriverError,
};
use provault_driver_filesystem::FilesystemDriver;
use serde_json::json;

/// From this size on a directory that nobody knows is told.
const LARGE: u64 = 1000;

struct Made {
    _trees: Trees,
    root: PathBuf,
    mounts: PathBuf,
}

fn write(root: &Path, path: &str, bytes: usize) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, vec![b'x'; bytes]).unwrap();
}

impl Made {
    fn new() -> Self {
        let trees = Trees::new();
        let root = trees.source();
        write(&root, "etc/hosts", 10);
        write(&root, "home/ann/letter", 20);
        write(&root, "home/ann/.cache/big", 5000);
        write(&root, "srv/app/data", 30);
        write(&root, "var/lib/postgresql/16/base", 40);
        write(&root, "var/lib/docker/volumes/web/_data/index", 50);
        fs::create_dir_all(root.join("opt/empty")).unwrap();
        // Large, but of the system.
        write(&root, "usr/lib/big", 9000);
        write(&root, "var/log/big", 9000);
        // Large: most of it lies in one directory.
        write(&root, "data/photos/2024/a", 4000);
        write(&root, "data/notes", 5);
        // Not large.
        write(&root, "small/file", 999);
        let mounts = trees.fresh("mountinfo");
        fs::write(&mounts, "").unwrap();
        Self { _trees: trees, root, mounts }
    }

    fn path(&self, below: &str) -> String {
        self.root.join(below).to_str().unwrap().to_owned()
    }

    fn driver(&self) -> FilesystemDriver {
        FilesystemDriver::new().discovering(self.root.clone(), self.mounts.clone())
    }

    fn locations(&self, discovery: &Discovery) -> Vec<String> {
        let root = format!("{}/", self.root.display());
        discovery.found.iter().map(|f| f.location.strip_prefix(&root).unwrap().to_owned()).collect()
    }

    fn find<'d>(&self, discovery: &'d Discovery, below: &str) -> &'d Discovered {
        let path = self.path(below);
        discovery.found.iter().find(|found| found.location == path).unwrap()
    }
}

fn within(registered: &[Resource], max_entries: u64) -> DiscoverRequest<'_> {
    let deadline = Instant::now() + Duration::from_hours(1);
    DiscoverRequest { registered, deadline, max_entries, large_bytes: LARGE }
}

fn discover(driver: &FilesystemDriver, registered: &[Resource]) -> Discovery {
    driver.discover(&within(registered, 10_000), &CancelFlag::new()).unwrap()
}

#[test]
fn known_places_and_large_directories_are_found_and_measured() {
    let made = Made::new();
    let found = discover(&made.driver(), &[]);
    let expected = [
        "data/photos/2024",
        "etc",
        "home/ann",
        "srv/app",
        "var/lib/docker/volumes/web",
        "var/lib/postgresql",
    ];
    assert_eq!(made.locations(&found), expected);
    assert_eq!((found.cut.as_deref(), found.notes.len()), (None, 0));
    let home = made.find(&found, "home/ann");
    assert_eq!((home.bytes, home.files, home.counted), (20, 1, true), "without its cache");
    assert_eq!(home.config["exclude"], json!(["**/.cache"]));
    assert!(home.newest.is_some() && home.coverage == Coverage::Nothing);
    let large = made.find(&found, "data/photos/2024");
    assert_eq!((large.bytes, large.what.as_str()), (4000, "large directory"));
    assert!(large.advice.is_none());
    let database = made.find(&found, "var/lib/postgresql");
    assert!(database.advice.as_ref().unwrap().contains("running database"), "{database:?}");
    for one in &found.found {
        made.driver().check_config(&one.config).unwrap();
    }
}

#[test]
fn what_is_protected_already_is_told() {
    let made = Made::new();
    let named = |name: &str, config| Resource { name: name.to_owned(), ..resource_with(config) };
    let registered = [
        named("settings", json!({ "path": made.path("etc") })),
        named("homes", json!({ "path": made.path("home"), "exclude": ["bob"] })),
        named("without", json!({ "path": made.path("srv"), "exclude": ["app"] })),
        named("only", json!({ "path": made.path("data"), "include": ["photos"] })),
        named("inner", json!({ "path": made.path("var/lib/postgresql/16") })),
    ];
    let found = discover(&made.driver(), &registered);
    let coverage = |below: &str| made.find(&found, below).coverage.clone();
    assert_eq!(coverage("etc"), Coverage::Registered("settings".to_owned()));
    assert_eq!(coverage("home/ann"), Coverage::Inside("homes".to_owned()));
    assert_eq!(coverage("srv/app"), Coverage::Nothing, "it is left out of the one around it");
    assert_eq!(coverage("data/photos/2024"), Coverage::Inside("only".to_owned()));
    assert_eq!(coverage("var/lib/postgresql"), Coverage::Parts(vec!["inner".to_owned()]));
}

#[test]
fn the_servers_own_data_is_never_offered() {
    let made = Made::new();
    write(&made.root, "srv/provault/vaults/blob", 7000);
    write(&made.root, "srv/app/inner/provault/key", 7000);
    let with = [made.root.join("srv/provault"), made.root.join("srv/app/inner/provault")];
    let driver = FilesystemDriver::reserving(with.to_vec())
        .discovering(made.root.clone(), made.mounts.clone());
    let found = discover(&driver, &[]);
    assert!(!made.locations(&found).iter().any(|path| path.contains("provault")));
    assert_eq!(made.find(&found, "srv/app").bytes, 30);
    // Without the reservation it is like any directory.
    let found = discover(&made.driver(), &[]);
    assert_eq!(made.find(&found, "srv/provault").bytes, 7000);
}

#[test]
fn links_and_mounts_of_other_kinds_are_not_followed() {
    let made = Made::new();
    symlink(made.root.join("data"), made.root.join("srv/link")).unwrap();
    write(&made.root, "srv/far/file", 8000);
    write(&made.root, "srv/app/far/file", 8000);
    write(&made.root, "big/far/file", 8000);
    let line = |below: &str, kind: &str| {
        format!("1 1 0:1 / {} rw shared:1 - {kind} x rw\n", made.path(below))
    };
    let text =
        line("srv/far", "nfs4") + &line("srv/app/far", "fuse.sshfs") + &line("big/far", "tmpfs");
    fs::write(&made.mounts, text).unwrap();
    let found = discover(&made.driver(), &[]);
    let locations = made.locations(&found);
    assert!(
        !locations.iter().any(|path| path.contains("far") || path.contains("link")),
        "{locations:?}"
    );
    assert!(!locations.iter().any(|path| path.starts_with("big")), "{locations:?}");
    assert_eq!(made.find(&found, "srv/app").bytes, 30);
    // The same as a disk's.
    fs::write(&made.mounts, line("srv/far", "ext4")).unwrap();
    assert_eq!(made.find(&discover(&made.driver(), &[]), "srv/far").bytes, 8000);
    // Without a list of mounts only one disk is looked at, and that is told.
    fs::remove_file(&made.mounts).unwrap();
    let found = discover(&made.driver(), &[]);
    assert!(found.notes[0].contains("list of mounts"), "{:?}", found.notes);
    assert_eq!(made.find(&found, "etc").files, 1);
}

#[test]
fn limits_end_the_look_and_are_told() {
    let made = Made::new();
    let driver = made.driver();
    let found = driver.discover(&within(&[], 3), &CancelFlag::new()).unwrap();
    assert!(found.cut.as_ref().unwrap().contains("too many files"), "{:?}", found.cut);
    assert!(made.locations(&found).contains(&"srv/app".to_owned()), "known places are told still");
    assert!(!made.find(&found, "srv/app").counted);
    assert!(made.find(&found, "etc").counted);

    let late = DiscoverRequest { deadline: Instant::now(), ..within(&[], 10_000) };
    let found = driver.discover(&late, &CancelFlag::new()).unwrap();
    assert!(found.cut.as_ref().unwrap().contains("time was over"), "{:?}", found.cut);

    let cancel = CancelFlag::new();
    cancel.raise();
    let stopped = driver.discover(&within(&[], 10_000), &cancel);
    assert!(matches!(stopped, Err(DriverError::Cancelled)), "{stopped:?}");
}

#[test]
fn names_with_several_paths_count_once_and_odd_names_are_noted() {
    let made = Made::new();
    fs::hard_link(made.root.join("srv/app/data"), made.root.join("srv/app/again")).unwrap();
    write(&made.root, "srv/new\nline/file", 1);
    let found = discover(&made.driver(), &[]);
    let app = made.find(&found, "srv/app");
    assert_eq!((app.bytes, app.files), (30, 1));
    assert_eq!(found.found.iter().filter(|f| f.location.contains("new")).count(), 0);
    assert!(found.notes[0].contains("cannot be registered"), "{:?}", found.notes);
}

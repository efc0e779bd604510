//! Hooks before and after a capture: after runs once for every before, whatever happens.

// A test may fail by panicking; that is what it is for.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Images, resource_with, sample, text};
use provault_domain::Resource;
use provault_driver::conformance::capture_into;
use provault_driver::memory::MemorySink;
use provault_driver::{
    BlockRange, BlockSource, CancelFlag, CaptureReport, Driver, DriverError, FileOutcome, Metadata,
    NodeKind, Sink, SinkError, VolumeOutcome,
};
use provault_driver_volume::VolumeDriver;
use serde_json::{Value, json};

struct World {
    images: Images,
    home: PathBuf,
    log: PathBuf,
    image: PathBuf,
}

fn program(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

impl World {
    /// Hooks that say in a file that they ran.
    fn new(before: &str, after: &str) -> Self {
        let images = Images::new("raw");
        let home = images.fresh("hooks");
        let log = images.fresh("log");
        let dir = home.join("app");
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        let say = |word: &str| format!("echo {word} \"$PROVAULT_VOLUME\" >> '{}'", log.display());
        program(&dir.join("before"), &format!("{}\n{before}", say("before")));
        program(&dir.join("after"), &format!("{}\n{after}", say("after")));
        let image = images.image(&sample(1));
        Self { images, home, log, image }
    }

    fn driver(&self) -> VolumeDriver {
        VolumeDriver::new().with_hooks(self.home.clone())
    }

    fn resource(&self, extra: &[(&str, Value)]) -> Resource {
        let mut config = json!({ "path": text(&self.image), "hooks": "app" });
        for (key, value) in extra {
            config[*key] = value.clone();
        }
        resource_with(config)
    }

    fn captured(
        &self,
        sink: &mut dyn Sink,
        extra: &[(&str, Value)],
    ) -> Result<CaptureReport, DriverError> {
        let driver = self.driver();
        let resource = self.resource(extra);
        driver.check_config(&resource.config).unwrap();
        capture_into(&driver, &resource, sink, &CancelFlag::new())
    }

    /// The words of what ran.
    fn ran(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let words = text.lines().map(|line| {
            let (word, volume) = line.split_once(' ').unwrap();
            assert_eq!(Path::new(volume), self.image);
            word.to_owned()
        });
        words.collect()
    }
}

/// Does something while the volume is read.
struct During<'a>(&'a dyn Fn() -> Result<(), SinkError>);

impl Sink for During<'_> {
    fn begin_dir(&mut self, _: &[u8], _: &Metadata) -> Result<(), SinkError> {
        Ok(())
    }
    fn end_dir(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
    fn add_node(&mut self, _: &[u8], _: &Metadata, _: &NodeKind) -> Result<(), SinkError> {
        Ok(())
    }
    fn add_file(
        &mut self,
        _: &[u8],
        _: &Metadata,
        _: &mut dyn FnMut() -> std::io::Result<Box<dyn std::io::Read + Send>>,
    ) -> Result<FileOutcome, SinkError> {
        unreachable!("a volume has no files")
    }
    fn add_volume(
        &mut self,
        _: &[u8],
        _: &dyn BlockSource,
        _: Option<&[BlockRange]>,
    ) -> Result<VolumeOutcome, SinkError> {
        (self.0)()?;
        Ok(VolumeOutcome::default())
    }
}

#[test]
fn they_run_around_the_capture() {
    let world = World::new("", "");
    let seen = || {
        assert_eq!(world.ran(), ["before"]);
        Ok(())
    };
    world.captured(&mut During(&seen), &[]).unwrap();
    assert_eq!(world.ran(), ["before", "after"]);
}

#[test]
fn after_runs_when_the_capture_fails() {
    let world = World::new("", "");
    let fails = || Err(SinkError::Store("the disk is full".into()));
    world.captured(&mut During(&fails), &[]).unwrap_err();
    assert_eq!(world.ran(), ["before", "after"]);
}

#[test]
fn after_runs_when_before_fails_or_takes_too_long() {
    for (body, said) in [("echo no luck >&2; exit 7", "no luck"), ("sleep 1000", "took longer")] {
        let world = World::new(body, "");
        let mut sink = MemorySink::new();
        let failed =
            world.captured(&mut sink, &[("hookSeconds", json!(1))]).unwrap_err().to_string();
        assert!(failed.contains("before failed") && failed.contains(said), "{failed}");
        assert_eq!(world.ran(), ["before", "after"]);
        assert!(sink.into_source().volumes().is_empty(), "nothing was captured");
    }
}

#[test]
fn an_application_that_may_not_be_let_go_fails_the_capture() {
    let world = World::new("", "echo still down >&2; exit 1");
    let failed = world.captured(&mut MemorySink::new(), &[]).unwrap_err().to_string();
    assert!(failed.contains("after failed") && failed.contains("still down"), "{failed}");
}

#[test]
fn an_application_is_not_held_longer_than_its_limit() {
    let world = World::new("", "");
    let waits = || {
        // This ends only because somebody else lets it go.
        while world.ran().len() < 2 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Ok(())
    };
    let failed = world.captured(&mut During(&waits), &[("heldSeconds", json!(1))]).unwrap_err();
    assert!(failed.to_string().contains("longer than the application may be held"), "{failed}");
    assert_eq!(world.ran(), ["before", "after"]);
}

/// A program that a hook starts may live on, and holds nothing up.
#[test]
fn what_a_hook_starts_may_live_on() {
    let world = World::new("", "sleep 30 & echo $! > \"$0.pid\"");
    world.captured(&mut MemorySink::new(), &[]).unwrap();
    let pid = fs::read_to_string(world.home.join("app/after.pid")).unwrap();
    let killed = Command::new("kill").arg(pid.trim()).status().unwrap();
    assert!(killed.success(), "it does not live any more, the test proves nothing");
}

/// The process that [`after_runs_when_the_server_is_killed`] kills.
#[test]
fn holder_of_hooks() {
    let Some(place) = std::env::var_os("PROVAULT_TEST_HOOKS") else { return };
    let text = fs::read_to_string(place).unwrap();
    let (home, image) = text.split_once('\n').unwrap();
    let driver = VolumeDriver::new().with_hooks(PathBuf::from(home));
    let resource = resource_with(json!({ "path": image, "hooks": "app" }));
    let hangs = || {
        loop {
            std::thread::park();
        }
    };
    let _ = capture_into(&driver, &resource, &mut During(&hangs), &CancelFlag::new());
}

#[test]
fn after_runs_when_the_server_is_killed() {
    let world = World::new("", "");
    let place = world.images.fresh("place");
    fs::write(&place, format!("{}\n{}", text(&world.home), text(&world.image))).unwrap();
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holder_of_hooks", "--nocapture"])
        .env("PROVAULT_TEST_HOOKS", &place)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    while world.ran().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
    while world.ran().len() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(world.ran(), ["before", "after"]);
}

#[test]
fn only_what_the_administrator_put_there_is_run() {
    let world = World::new("", "");
    let refused = |config: &Value, driver: &VolumeDriver| {
        let refused = driver.check_config(config).unwrap_err();
        (refused.member, refused.message)
    };
    let config = world.resource(&[]).config;
    // No place for hooks; none of this name; a path instead of a name.
    assert_eq!(refused(&config, &VolumeDriver::new()).0, "hooks");
    for name in ["other", "../app", "/bin"] {
        let mut config = config.clone();
        config["hooks"] = name.into();
        assert_eq!(refused(&config, &world.driver()).0, "hooks");
    }
    let after = world.home.join("app/after");
    fs::set_permissions(&after, fs::Permissions::from_mode(0o777)).unwrap();
    let (_, why) = refused(&config, &world.driver());
    assert!(why.contains("may write to"), "{why}");
    fs::set_permissions(&after, fs::Permissions::from_mode(0o600)).unwrap();
    let (_, why) = refused(&config, &world.driver());
    assert!(why.contains("executable"), "{why}");
    // Found out again at every backup.
    assert!(world.driver().capture(&world.resource(&[]), &CancelFlag::new()).is_err());
    fs::remove_file(&after).unwrap();
    assert_eq!(refused(&config, &world.driver()).0, "hooks");
    // Limits without hooks mean nothing.
    let alone = json!({ "path": text(&world.image), "heldSeconds": 5 });
    assert_eq!(refused(&alone, &world.driver()).0, "heldSeconds");
}

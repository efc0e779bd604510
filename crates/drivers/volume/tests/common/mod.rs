//! A fixture of images, looked at without the driver.
#![allow(dead_code, reason = "every test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a fixture fails as its test does")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use provault_domain::{AccountId, Arn, Kind, Region, Resource, RetentionSettings};
use provault_driver::conformance::{Fixture, Request};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Bytes of a fixture's volume: no multiple of any block's size.
pub const SIZE: u64 = (1 << 20) + 512 * 7;

/// Images below one temporary directory.
pub struct Images {
    pub dir: TempDir,
    next: AtomicU32,
    /// `raw` or `qcow2`.
    pub format: &'static str,
}

impl Images {
    pub fn new(format: &'static str) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), next: AtomicU32::new(0), format }
    }

    /// A path below that nothing has yet; its parent is its own.
    pub fn fresh(&self, name: &str) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let parent = self.dir.path().join(format!("{number}"));
        fs::create_dir(&parent).unwrap();
        parent.join(name)
    }

    /// An image of the fixture's format with these bytes.
    pub fn image(&self, content: &[u8]) -> PathBuf {
        let raw = self.fresh("disk.raw");
        write_sparse(&raw, content);
        if self.format == "raw" {
            return raw;
        }
        let path = raw.with_extension("qcow2");
        run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", text(&raw), text(&path)]);
        fs::remove_file(raw).unwrap();
        path
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs a program that has to succeed.
pub fn run(program: &str, args: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = Command::new(program)
        .args(args)
        .env("PATH", path)
        .output()
        .unwrap_or_else(|error| panic!("{program} cannot be started ({error}); the packages qemu-utils, e2fsprogs, xfsprogs, btrfs-progs and util-linux have all that these tests need"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The bytes of an image, read by QEMU's own tool.
pub fn content(path: &Path) -> Vec<u8> {
    if path.extension().is_some_and(|e| e == "qcow2") {
        let raw = path.with_extension("as-raw");
        run("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", text(path), text(&raw)]);
        let bytes = fs::read(&raw).unwrap();
        fs::remove_file(raw).unwrap();
        return bytes;
    }
    fs::read(path).unwrap()
}

/// Writes into an image of either format.
pub fn write(path: &Path, offset: u64, bytes: &[u8]) {
    if path.extension().is_some_and(|e| e == "qcow2") {
        let pattern = bytes[0];
        assert!(
            bytes.iter().all(|byte| *byte == pattern),
            "qemu-io writes one byte again and again"
        );
        let command = format!("write -P {pattern} {offset} {}", bytes.len());
        run("qemu-io", &["-f", "qcow2", "-c", &command, text(path)]);
        return;
    }
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

/// Data, zeros that are written, and a hole.
pub fn sample(seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(SIZE).unwrap()];
    let mut state = u64::from(seed) * 0x9e37_79b9 + 1;
    for byte in &mut bytes[..300_000] {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = state.to_be_bytes()[0];
    }
    let end = bytes.len();
    bytes[end - 700..].fill(seed | 1);
    bytes
}

fn write_sparse(path: &Path, content: &[u8]) {
    let file = fs::File::create_new(path).unwrap();
    file.set_len(content.len() as u64).unwrap();
    for (number, block) in content.chunks(4096).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.write_all_at(block, number as u64 * 4096).unwrap();
        }
    }
}

pub fn resource(path: &Path) -> Resource {
    resource_with(json!({ "path": text(path) }))
}

pub fn resource_with(config: Value) -> Resource {
    let account: AccountId = "123456789012".parse().unwrap();
    let region: Region = "us-east-1".parse().unwrap();
    Resource {
        arn: Arn::resource_of(Kind::Volume, &region, &account, "0123456789abcdef0"),
        account,
        region,
        kind: Kind::Volume,
        name: "disk".to_owned(),
        config,
        tags: BTreeMap::new(),
        service: None,
        probes: Vec::new(),
        rpo_seconds: None,
        rto_seconds: None,
        testing: None,
        retention: RetentionSettings::default(),
        created_at: Timestamp::UNIX_EPOCH,
        imported: false,
    }
}

pub fn request(target: &Path) -> Request {
    Request::from([
        ("volumeId".to_owned(), "vol-0123456789abcdef0".to_owned()),
        ("targetPath".to_owned(), text(target).to_owned()),
    ])
}

pub fn with(mut request: Request, key: &str, value: &str) -> Request {
    request.insert(key.to_owned(), value.to_owned());
    request
}

pub fn path_of(resource: &Resource) -> &Path {
    Path::new(resource.config["path"].as_str().unwrap())
}

fn target_of(request: &Request) -> &Path {
    Path::new(&request["targetPath"])
}

/// Everything below a directory, with its content.
pub fn listing(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.push(path.display().to_string());
            found.extend(listing(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            let sum: u64 =
                bytes.iter().enumerate().map(|(n, b)| (n as u64 + 1) * u64::from(*b)).sum();
            found.push(format!("{} {} {sum}", path.display(), bytes.len()));
        }
    }
    found.sort();
    found
}

impl Fixture for Images {
    fn resource(&self) -> Resource {
        resource(&self.image(&sample(1)))
    }

    fn mutate(&self, resource: &Resource) {
        write(path_of(resource), 70_000, &[9; 1000]);
    }

    fn fingerprint(&self, resource: &Resource) -> String {
        let found = fs::metadata(path_of(resource)).unwrap();
        let times = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
        format!("{times:?} {:?}", listing(path_of(resource).parent().unwrap()))
    }

    fn request(&self, _: &Resource) -> Request {
        request(&self.fresh(&format!("restored.{}", self.format)))
    }

    fn occupy(&self, request: &Request) {
        fs::write(target_of(request), "somebody's").unwrap();
    }

    fn surroundings(&self, request: &Request) -> Vec<String> {
        listing(target_of(request).parent().unwrap())
    }

    fn differences(&self, resource: &Resource, request: &Request) -> Vec<String> {
        let (left, right) = (content(path_of(resource)), content(target_of(request)));
        if left == right { Vec::new() } else { vec!["the bytes differ".to_owned()] }
    }

    fn dispose(&self, request: &Request) {
        fs::remove_file(target_of(request)).unwrap();
    }
}

/// Says why the host kept a test from running.
pub fn not_tested(test: &str, why: &str) {
    let line = format!("PROVAULT-NOT-TESTED: {test}: {why}\n");
    match std::env::var_os("PROVAULT_NOT_TESTED") {
        Some(file) => {
            let file = fs::OpenOptions::new().create(true).append(true).open(file);
            file.unwrap().write_all(line.as_bytes()).unwrap();
        }
        None => print!("{line}"),
    }
}

/// A loop device over an image, taken down at the end.
pub struct Loop {
    pub path: PathBuf,
}

impl Loop {
    /// Nothing where the host does not let us make one, which is said.
    pub fn over(image: &Path, test: &str) -> Option<Self> {
        let output = Command::new("losetup").args(["--find", "--show", text(image)]).output();
        match output {
            Ok(output) if output.status.success() => {
                let path = String::from_utf8(output.stdout).unwrap();
                Some(Self { path: PathBuf::from(path.trim()) })
            }
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
                not_tested(test, &format!("no loop device can be made: {why}"));
                None
            }
            Err(error) => panic!("losetup (util-linux) cannot be started: {error}"),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", text(&self.path)]).status();
    }
}

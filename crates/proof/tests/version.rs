//! What the answers of broken copies depend on, and what they do not.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use provault_domain::{Probe, ServiceSpec};
use provault_proof::{ProofError, probe_version};
use tempfile::TempDir;

/// A copy, and beside it a file that is not its own.
struct Copy {
    dir: TempDir,
}

impl Copy {
    fn new() -> Self {
        let copy = Self { dir: TempDir::new().unwrap() };
        fs::create_dir_all(copy.at("bin")).unwrap();
        fs::create_dir_all(copy.at("data")).unwrap();
        copy.write("bin/app", "version 1");
        copy.write("data/notes", "many notes");
        fs::write(copy.beside(), "not of the copy").unwrap();
        copy
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("copy")
    }

    fn beside(&self) -> PathBuf {
        self.dir.path().join("beside")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.at(name), content).unwrap();
    }

    fn version(&self, command: &[&str]) -> String {
        version(&self.root(), command)
    }
}

fn service(command: &[&str]) -> ServiceSpec {
    ServiceSpec::new(command.iter().map(|word| (*word).to_owned()).collect())
}

fn version(root: &Path, command: &[&str]) -> String {
    probe_version(Some(&service(command)), &[Probe::Files], root).unwrap()
}

#[test]
fn it_follows_the_service_and_the_probes() {
    let copy = Copy::new();
    let probe = |port| Probe::Http { port, path: "/".to_owned(), assertions: vec![] };
    let of = |service: Option<&ServiceSpec>, probes: &[Probe]| {
        probe_version(service, probes, &copy.root()).unwrap()
    };
    let (a, b) = (service(&["a"]), service(&["b"]));
    let versions = [
        of(None, &[Probe::Files]),
        of(Some(&a), &[Probe::Files]),
        of(Some(&b), &[Probe::Files]),
        of(Some(&a), &[probe(1)]),
        of(Some(&a), &[probe(2)]),
        of(Some(&a), &[probe(1), probe(2)]),
        of(Some(&a), &[probe(2), probe(1)]),
    ];
    for (n, version) in versions.iter().enumerate() {
        assert_eq!(version.len(), 64);
        assert!(!versions[..n].contains(version), "{n}");
    }
    assert_eq!(versions[3], of(Some(&a), &[probe(1)]));
}

#[test]
fn it_follows_the_program_and_no_other_data() {
    let named: [&[&str]; 7] = [
        &["bin/app", "serve", "8080"],
        &["./bin/app"],
        &["bin/../bin//app"],
        &["/copy/bin/app"],
        &["../copy/bin/app"],
        &["python3", "-u", "bin/app"],
        &["env", "--", "/copy/bin/app"],
    ];
    for command in named {
        let copy = Copy::new();
        let first = copy.version(command);
        assert_eq!(first, Copy::new().version(command), "another place: {command:?}");
        copy.write("data/notes", "other notes");
        copy.write("data/more", "a new file");
        assert_eq!(first, copy.version(command), "other data: {command:?}");

        copy.write("bin/app", "version 2");
        let second = copy.version(command);
        assert_ne!(first, second, "another program: {command:?}");
        fs::set_permissions(copy.at("bin/app"), Permissions::from_mode(0o755)).unwrap();
        let executable = copy.version(command);
        assert_ne!(second, executable, "now a program: {command:?}");
        fs::remove_file(copy.at("bin/app")).unwrap();
        let absent = copy.version(command);
        assert!(![&first, &second, &executable].contains(&&absent), "absent: {command:?}");
        copy.write("bin/app", "version 1");
        assert_eq!(first, copy.version(command), "as it was: {command:?}");
        copy.write("bin/app", "");
        assert_ne!(absent, copy.version(command), "empty is not absent: {command:?}");
    }
    // A file that the command names is part of the application.
    let copy = Copy::new();
    let command = ["bin/app", "data/notes"];
    let first = copy.version(&command);
    copy.write("data/notes", "other notes");
    assert_ne!(first, copy.version(&command));
    // Each word has its own file.
    copy.write("bin/app", "other notes");
    copy.write("data/notes", "version 1");
    assert_ne!(first, copy.version(&command));
}

/// The last byte of a file of many pieces counts.
#[test]
fn it_reads_a_program_whole() {
    let copy = Copy::new();
    let mut program = vec![7_u8; 300_001];
    fs::write(copy.at("bin/app"), &program).unwrap();
    let first = copy.version(&["bin/app"]);
    *program.last_mut().unwrap() = 8;
    fs::write(copy.at("bin/app"), &program).unwrap();
    assert_ne!(first, copy.version(&["bin/app"]));
}

#[test]
fn links_are_followed_within_the_copy() {
    for target in ["../releases/1/app", "/copy/releases/1/app", "../../copy/releases/1/app"] {
        let copy = Copy::new();
        fs::create_dir_all(copy.at("releases/1")).unwrap();
        copy.write("releases/1/app", "version 1");
        symlink(target, copy.at("bin/current")).unwrap();
        symlink("bin", copy.at("sbin")).unwrap();
        let versions = || [["bin/current"], ["sbin/current"]].map(|words| copy.version(&words));
        let first = versions();
        copy.write("releases/1/app", "version 2");
        let second = versions();
        assert!(first.iter().zip(&second).all(|(a, b)| a != b), "{target}");
    }
}

#[test]
fn nothing_outside_of_the_copy_is_read() {
    let copy = Copy::new();
    let beside = copy.beside();
    let named = beside.to_str().unwrap();
    symlink(&beside, copy.at("bin/absolute")).unwrap();
    symlink("../../beside", copy.at("bin/relative")).unwrap();
    symlink(copy.dir.path(), copy.at("up")).unwrap();
    let commands: [&[&str]; 6] = [
        &["bin/absolute"],
        &["bin/relative"],
        &["up/beside"],
        &["../beside"],
        &["/copy/../beside"],
        &[named],
    ];
    let versions = || commands.map(|command| copy.version(command));
    let first = versions();
    fs::write(&beside, "changed").unwrap();
    assert_eq!(first, versions());
    fs::remove_file(&beside).unwrap();
    assert_eq!(first, versions(), "nobody looks whether it is there");
    // But where a link leads is the copy's.
    let link = copy.version(&["bin/absolute"]);
    fs::remove_file(copy.at("bin/absolute")).unwrap();
    symlink("/usr/bin/other", copy.at("bin/absolute")).unwrap();
    assert_ne!(link, copy.version(&["bin/absolute"]));
}

#[test]
fn words_that_can_be_no_file_are_no_trouble() {
    let copy = Copy::new();
    symlink("loop", copy.at("loop")).unwrap();
    nix::unistd::mkfifo(&copy.at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = "x".repeat(10_000);
    let deep = "a/".repeat(5_000);
    for word in ["", ".", "/", "/copy", "..", "loop", "fifo", "bin", "bin/app/x", "a\0b"] {
        assert_eq!(version(&copy.root(), &[word]).len(), 64, "{word:?}");
    }
    for word in [script.as_str(), deep.as_str()] {
        assert_eq!(version(&copy.root(), &["sh", "-c", word]).len(), 64);
    }
    // A copy that is not there is no copy without programs.
    let missing = copy.dir.path().join("missing");
    let error = probe_version(Some(&service(&["bin/app"])), &[], &missing).unwrap_err();
    assert!(matches!(error, ProofError::Io { .. }), "{error}");
}

#[test]
fn it_follows_what_a_command_probe_runs() {
    let copy = Copy::new();
    copy.write("check.sh", "#!/bin/sh\nexit 0\n");
    let command = |words: &[&str], timeout_seconds| Probe::Command {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        assertions: vec![],
        timeout_seconds,
    };
    let of =
        |probe: &Probe| probe_version(None, std::slice::from_ref(probe), &copy.root()).unwrap();
    let check = command(&["./check.sh", "data/notes"], 60);
    let first = of(&check);
    assert_eq!(first, of(&check));
    let others = [
        command(&["./check.sh"], 60),
        command(&["./check.sh", "data/notes"], 61),
        Probe::Tcp { port: 1, send: vec![], assertions: vec![], timeout_seconds: 10 },
        Probe::Tcp { port: 1, send: b"x".to_vec(), assertions: vec![], timeout_seconds: 10 },
        Probe::Files,
    ];
    let mut versions: Vec<String> = others.iter().map(of).collect();
    versions.push(first.clone());
    // Another script, and other data that it is told to read.
    copy.write("check.sh", "#!/bin/sh\nexit 1\n");
    versions.push(of(&check));
    copy.write("data/notes", "other notes");
    versions.push(of(&check));
    let count = versions.len();
    versions.sort();
    versions.dedup();
    assert_eq!(versions.len(), count);
}

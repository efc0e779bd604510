//! `provault lab`, as people run it first.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use provault_tests::{
    Finished, Manifest, Program, SampleApp, Sandbox, TestServer, vault_files, write_tree,
};
use serde_json::Value;

const VAULT: &str = "BACKUP-LAB-VAULT";

fn lab(directory: &Path, args: &[&str]) -> Command {
    let mut command = Program::bare(&["lab"]);
    command.arg("--data-dir").arg(directory).args(args);
    command
}

fn play(directory: &Path, args: &[&str]) -> Finished {
    Finished::of(&mut lab(directory, args), "")
}

#[test]
fn the_whole_story_passes_and_prints_one_object() {
    let sandbox = Sandbox::new();
    let directory = sandbox.path("lab");
    let finished = play(&directory, &["--once", "--json"]).expect(0);
    let object = finished.json();
    assert_eq!(object["Verdict"], "PASSED", "{object:#}");
    for key in ["Reason", "RecoveryPointArn", "BackupJobId", "RestoreJobId", "RestoreTestId"] {
        assert!(object[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {object:#}");
    }
    assert_eq!(object["RestoreTest"]["Isolation"], "full", "{object:#}");
    assert_eq!(object["Evidence"]["Body"]["verdict"], "PASSED", "{object:#}");
    assert_eq!(object["Evidence"]["Hash"].as_str().map(str::len), Some(64), "{object:#}");
    assert!(object["RestoreTest"]["Mutants"].as_array().unwrap().len() >= 2, "{object:#}");
    for key in ["RecoverySeconds", "TotalSeconds"] {
        assert!(object[key].as_f64().unwrap() > 0.0, "{key}: {object:#}");
    }
    for key in ["SourceBytes", "StoredBytes"] {
        assert!(object[key].as_u64().unwrap() > 0, "{key}: {object:#}");
    }
    let steps: Vec<&str> =
        object["Steps"].as_array().unwrap().iter().map(|s| s["Name"].as_str().unwrap()).collect();
    for step in [
        "sample application",
        "server",
        "resource",
        "vault",
        "plan",
        "selection",
        "notifications",
        "backup, kept 1 day",
        "source moved away",
        "test: restore",
        "test: start and probe",
        "test: negative control",
        "test: reap",
        "notification",
    ] {
        assert!(steps.contains(&step), "step {step}: {steps:?}");
    }
    assert!(object["Steps"].as_array().unwrap().iter().all(|s| s["Seconds"].is_number()));
    assert!(!object["Log"].as_array().unwrap().is_empty(), "{object:#}");
    let notification = &object["Notification"];
    assert_eq!(notification["Subject"], "Restore Test Status");
    let point = object["RecoveryPointArn"].as_str().unwrap();
    assert!(notification["Message"].as_str().unwrap().contains(point));
    // The mail lies where the lab said.
    let mails: Vec<PathBuf> =
        fs::read_dir(directory.join("mail")).unwrap().map(|e| e.unwrap().path()).collect();
    let told = |mail: &PathBuf| fs::read_to_string(mail).unwrap().contains("Restore Test Status");
    assert!(mails.iter().any(told), "{mails:?}");
    // The source is back at its place, and the server is not running.
    assert!(directory.join("myapp/bin/myapp").exists());
    let copies = directory.join("server/restore-tests");
    assert!(fs::read_dir(copies).map_or(0, Iterator::count) == 0);

    // A second run finds what the first one made.
    let again = play(&directory, &["--once", "--json"]).expect(0).json();
    assert_eq!(again["Verdict"], "PASSED", "{again:#}");
    assert_ne!(again["RecoveryPointArn"], object["RecoveryPointArn"]);

    let destroyed = play(&directory, &["--destroy"]).expect(0);
    assert!(!directory.exists(), "{destroyed}");
    let _ = play(&directory, &["--destroy"]).expect(0);
}

#[test]
fn people_are_told_every_step_and_the_verdict() {
    let sandbox = Sandbox::new();
    let text = play(&sandbox.path("lab"), &["--once"]).expect(0).stdout;
    for part in ["[", "backup, kept 1 day", "negative control", "PASSED", "Recovery time", "Stored"]
    {
        assert!(text.contains(part), "'{part}' not in\n{text}");
    }
}

/// The machine's own files: of every kind that a distribution installs.
fn real_tree() -> &'static Path {
    let share = Path::new("/usr/share");
    let output = Command::new("du").args(["-sxk", "/usr/share"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let kilobytes: u64 = text.split_whitespace().next().unwrap().parse().unwrap();
    // Stored, restored and read several times by a program that is not optimised.
    if kilobytes < 1 << 20 { share } else { Path::new("/usr/share/doc") }
}

#[test]
fn a_real_tree_passes_untouched_and_fails_when_a_stored_bit_is_flipped() {
    let sandbox = Sandbox::new();
    let directory = sandbox.path("lab");
    let source = real_tree();
    let before = Manifest::of(source);
    let path = source.to_str().unwrap();
    let finished = play(&directory, &["--once", "--json", "--source", path]).expect(0);
    let object = finished.json();
    assert_eq!(object["Verdict"], "PASSED", "{object:#}");
    before.assert_same(&Manifest::of(source), "the source after the lab");
    assert_eq!(object["SourceBytes"], before.bytes());
    println!(
        "{path} holds {} files, {} bytes; {} bytes stored, recovered in {} s",
        before.files(),
        before.bytes(),
        object["StoredBytes"],
        object["RecoverySeconds"]
    );
    assert!(before.files() > 100, "{path} holds only {} files", before.files());
    let compared = object["RestoreTest"]["Probes"].as_array().unwrap();
    assert!(compared.iter().any(|p| p["Label"] == "files" && p["Passed"] == true), "{object:#}");

    let data_dir = directory.join("server");
    vault_files::flip_a_byte(&data_dir, VAULT);
    let server = TestServer::start(&data_dir);
    let resources = server.program().json(&["resource", "list"]);
    let name = resources["Resources"][0]["Name"].as_str().unwrap().to_owned();
    let test = server.program().json_with(1, &["restore-test", &name, "--watch"]);
    assert_eq!(test["Verdict"], "FAILED", "{test:#}");
    assert!(test["Reason"].as_str().unwrap().contains("damaged"), "{test:#}");
}

#[test]
fn an_application_of_ones_own_is_asked_and_may_fail() {
    let sandbox = Sandbox::new();
    let app = SampleApp::write(&sandbox.path("app"));
    let before = Manifest::of(&app.directory);
    let source = app.directory.to_str().unwrap();
    let service = ["--service", "bin/myapp __sample-app --port 8099"];
    let args = |probe: &'static str| {
        [&["--once", "--json", "--source", source], &service[..], &["--probe", probe]].concat()
    };
    let directory = sandbox.path("lab");
    let passed = play(&directory, &args("http:8099/health,json:/notes>=25")).expect(0).json();
    assert_eq!(passed["Verdict"], "PASSED", "{passed:#}");
    before.assert_same(&Manifest::of(&app.directory), "the source after the lab");
    // The exit code is 0 for PASSED alone.
    let failed = play(&directory, &args("http:8099/health,json:/notes>=26"));
    assert_ne!(failed.code, Some(0), "{failed}");
    assert_eq!(failed.json()["Verdict"], "FAILED", "{failed}");
    let cannot_tell = play(&directory, &args("http:8099/,status=200"));
    assert_ne!(cannot_tell.code, Some(0), "{cannot_tell}");
    assert_eq!(cannot_tell.json()["Verdict"], "INCONCLUSIVE", "{cannot_tell}");
    before.assert_same(&Manifest::of(&app.directory), "the source after the lab");
}

#[test]
fn destroy_removes_nothing_but_a_lab() {
    let sandbox = Sandbox::new();
    let other = sandbox.path("precious");
    write_tree(&other);
    let before = Manifest::of(&other);
    let refused = play(&other, &["--destroy"]);
    assert_ne!(refused.code, Some(0), "{refused}");
    before.assert_same(&Manifest::of(&other), "a directory that is no lab");
    // Nor is a lab made in it.
    let refused = play(&other, &["--once"]);
    assert_ne!(refused.code, Some(0), "{refused}");
    before.assert_same(&Manifest::of(&other), "a directory that is no lab");
    // A lab of a directory of one's own: the source stays.
    let directory = sandbox.path("lab");
    let source = other.to_str().unwrap();
    let object: Value =
        play(&directory, &["--once", "--json", "--source", source]).expect(0).json();
    assert_eq!(object["Verdict"], "PASSED", "{object:#}");
    let _ = play(&directory, &["--destroy"]).expect(0);
    assert!(!directory.exists());
    before.assert_same(&Manifest::of(&other), "the source after --destroy");
}

#[test]
fn a_lab_that_cannot_work_says_so_before_it_makes_anything() {
    let sandbox = Sandbox::new();
    let directory = sandbox.path("lab");
    for args in [
        &["--once", "--source", "/no/such/directory"][..],
        &["--once", "--source", "/usr", "--service", "x"],
        &["--once", "--probe", "http:80/"],
        &["--once", "--source", "/usr", "--service", "x", "--probe", "nonsense"],
        &["--once", "--destroy"],
    ] {
        let refused = play(&directory, args);
        assert_ne!(refused.code, Some(0), "{refused}");
        assert!(!refused.stderr.is_empty(), "{refused}");
        assert!(!directory.exists(), "{refused}");
    }
}

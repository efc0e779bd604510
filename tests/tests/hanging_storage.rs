//! The storage of the vaults does not answer any more, as a network mount whose server is gone: no
//! job hangs with it. Each fails and says what to do, and all is well again when the storage is.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;

use provault_tests::disk::Disk;
use provault_tests::restic::Vault;
use provault_tests::{Manifest, Sandbox, Start, TestServer, VAULT, encode, not_tested, write_tree};
use serde_json::{Value, json};

/// A server that loses its patience soon, whose vaults lie on a disk of the tests; nothing where
/// the host allows no FUSE.
fn server(test: &str, sandbox: &Sandbox) -> Option<(Disk, TestServer)> {
    let disk = match Disk::mount(&sandbox.directory("server/vaults")) {
        Ok(disk) => disk,
        Err(error) => {
            not_tested(test, &format!("cannot mount by FUSE: {error}"));
            return None;
        }
    };
    let start = Start { args: vec!["--storage-timeout=1".to_owned()], ..Start::default() };
    Some((disk, TestServer::start_with(&sandbox.path("server"), &start)))
}

fn says_what_to_do(message: &Value) {
    let message = message.as_str().unwrap_or_default();
    assert!(message.contains("no answer within 1 s"), "{message}");
    assert!(message.contains("its disk, mount or server"), "{message}");
}

#[test]
fn jobs_fail_when_the_storage_hangs_and_go_well_when_it_answers_again() {
    let sandbox = Sandbox::new();
    let Some((disk, server)) = server("jobs_fail_when_the_storage_hangs", &sandbox) else {
        return;
    };
    let source = sandbox.path("source");
    write_tree(&source);
    let resource = server.add_directory("source", &source);
    let point = server.back_up(&resource);

    let silence = disk.hang();
    let backup = server.start_backup(&resource);
    let check = server.start_care(&json!({ "Operation": "CHECK", "ReadData": true }));
    let prune = server.start_care(&json!({ "Operation": "PRUNE" }));
    let metadata =
        format!("/backup-vaults/{VAULT}/recovery-points/{}/restore-metadata", encode(&point));
    assert!(server.api().get(&metadata)["RestoreMetadata"].is_object(), "the catalog answers");
    let target = sandbox.path("target");
    let restore = server.start_restore(&point, &target);
    let job = server.ended_backup(&backup);
    assert_eq!(job["State"], "FAILED", "{job}");
    says_what_to_do(&job["StatusMessage"]);
    for run in [check, prune] {
        let run = server.ended_care(&run);
        assert_eq!(run["State"], "FAILED", "{run}");
        says_what_to_do(&run["StatusMessage"]);
    }
    let job = server.ended_restore(&restore);
    assert_eq!(job["Status"], "FAILED", "{job}");
    says_what_to_do(&job["StatusMessage"]);
    assert!(!target.exists(), "whole or absent");

    drop(silence);
    server.restore(&point, &target);
    Manifest::of(&source).assert_same(&Manifest::of(&target), "after the trouble");
    fs::write(source.join("added"), "since then").unwrap();
    server.back_up(&resource);
    let run = server.program().json(&["vault", "check", VAULT, "--read-data", "--watch"]);
    assert_eq!(run["Report"]["Clean"], true, "{run}");
    let run = server.program().json(&["vault", "prune", VAULT, "--watch"]);
    assert_eq!(run["State"], "COMPLETED", "{run}");
    Vault::of(&server, VAULT).check();
}

/// The mount is dead already when the server starts: it starts nevertheless.
#[test]
fn a_server_starts_beside_a_storage_that_hangs() {
    let sandbox = Sandbox::new();
    let Some((disk, mut server)) = server("a_server_starts_beside_a_storage_that_hangs", &sandbox)
    else {
        return;
    };
    let source = sandbox.path("source");
    write_tree(&source);
    let resource = server.add_directory("source", &source);
    let point = server.back_up(&resource);
    let start = Start { args: vec!["--storage-timeout=1".to_owned()], ..Start::default() };
    assert!(server.stop().success());
    let silence = disk.hang();
    server.start_again_with(&start);
    let job = server.ended_backup(&server.start_backup(&resource));
    assert_eq!(job["State"], "FAILED", "{job}");
    says_what_to_do(&job["StatusMessage"]);
    drop(silence);
    server.restore(&point, &sandbox.path("target"));
    server.back_up(&resource);
}

/// Only one vault lies on the mount that is dead: the others are not held up by it.
#[test]
fn other_vaults_go_on() {
    let sandbox = Sandbox::new();
    let disk = match Disk::mount(&sandbox.directory("mount")) {
        Ok(disk) => disk,
        Err(error) => return not_tested("other_vaults_go_on", &format!("no FUSE: {error}")),
    };
    let source = sandbox.path("source");
    write_tree(&source);
    let password = sandbox.path("password");
    fs::write(&password, "of a vault that hangs").unwrap();
    let place = sandbox.path("mount/repository");
    let place = place.to_str().unwrap();
    Vault::init(place, "of a vault that hangs").back_up(&source);
    let start = Start { args: vec!["--storage-timeout=2".to_owned()], ..Start::default() };
    let mut server = TestServer::start_with(&sandbox.path("server"), &start);
    let program = server.program();
    let password = password.to_str().unwrap();
    let import = ["vault", "import", "old", "--location", place, "--password-file", password];
    program.run(0, &[&import[..], &["--watch"]].concat());
    let resource = server.add_directory("source", &source);
    assert!(server.stop().success());

    let silence = disk.hang();
    // Nothing of the vault is open any more, so it hangs in the opening.
    server.start_again_with(&start);
    let checks = "/provault/v1/vaults/old/care-runs";
    let check = server.api().post(checks, &json!({ "Operation": "CHECK" }));
    let point = server.back_up(&resource);
    server.restore(&point, &sandbox.path("target"));
    let run = server.ended_care(check["CareRunId"].as_str().unwrap());
    assert_eq!(run["State"], "FAILED", "{run}");
    let message = run["StatusMessage"].as_str().unwrap();
    assert!(message.contains("vault old") && message.contains("no answer within 2 s"), "{run}");
    // Whether it is the same place cannot be seen now; that it is not said to be another's can.
    let again = program.run(1, &import);
    assert!(again.stderr.contains("no answer within 2 s"), "{again}");

    drop(silence);
    let run = program.json(&["vault", "check", "old", "--watch"]);
    assert_eq!(run["Report"]["Clean"], true, "{run}");
}

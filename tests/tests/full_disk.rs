//! A disk runs full beneath a server: that of the catalog, of a vault, of what is restored. The job
//! that hits it fails and says what to do, nothing is lost, and when there is room again the server
//! goes on by itself.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::time::{Duration, Instant};

use provault_tests::{
    DEFAULT_ROLE, Manifest, PATIENCE, Random, Receiver, Sandbox, SmallDisk, Start, TestServer,
    VAULT, not_tested, until,
};
use serde_json::{Value, json};

/// Whether this host can have small disks; else it is said that it cannot.
fn is_possible(test: &str) -> bool {
    let possible = SmallDisk::is_possible();
    if let Err(error) = &possible {
        not_tested(test, &format!("cannot mount as a user: {error}"));
    }
    possible.is_ok()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn check(server: &TestServer) {
    let run = server.start_care(&json!({ "Operation": "CHECK", "ReadData": true }));
    let run = server.ended_care(&run);
    assert_eq!(run["State"], "COMPLETED", "{run:#}");
    assert_eq!(run["Report"]["Clean"], true, "{run:#}");
}

#[test]
fn of_a_vault() {
    if !is_possible("a full disk of a vault") {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = SmallDisk::new(&sandbox.directory("server/vaults"), 16 << 10);
    let mut server = TestServer::with_disks(&sandbox.path("server"), vec![disk.clone()]);
    server.start_again();
    let source = sandbox.directory("source");
    fs::write(source.join("first"), Random(1).bytes(3_000_000)).unwrap();
    let resource = server.add_directory("source", &source);
    let point = server.back_up(&resource);
    let first = Manifest::of(&source);

    fs::write(source.join("second"), Random(2).bytes(2_000_000)).unwrap();
    // No room at all, and room for a part of it.
    for left in [0, 1 << 10] {
        disk.leave(&server, left);
        let job = server.ended_backup(&server.start_backup(&resource));
        assert_eq!(job["State"], "FAILED", "{job:#}");
        let why = text(&job, "StatusMessage");
        assert!(why.contains("the storage is full: make room there, or prune"), "{why}");
        assert_eq!(server.points(), [&*point], "nothing is claimed");
        let health = server.api().get("/provault/v1/doctor");
        let findings = health["Findings"].as_array().unwrap();
        let told = findings.iter().find(|finding| {
            text(finding, "Check") == format!("vault {VAULT}") && text(finding, "State") == "FAILED"
        });
        let told = told.unwrap_or_else(|| panic!("{health:#}"));
        assert!(text(told, "Detail").contains("MiB are free"), "{told:#}");
        // What is there is there for whoever needs it, room or not.
        let target = sandbox.path(&format!("target-{left}"));
        server.restore(&point, &target);
        first.assert_same(&Manifest::of(&target), "restored from a full disk");
        disk.free(&server);
        check(&server);
    }
    let second = server.back_up(&resource);
    let target = sandbox.path("second");
    server.restore(&second, &target);
    Manifest::of(&source).assert_same(&Manifest::of(&target), "backed up when there was room");
    let run = server.ended_care(&server.start_care(&json!({ "Operation": "PRUNE" })));
    assert_eq!(run["State"], "COMPLETED", "{run:#}");
    check(&server);
}

#[test]
fn of_a_restore() {
    if !is_possible("a full disk of a restore") {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = SmallDisk::new(&sandbox.directory("targets"), 6 << 10);
    let mut server = TestServer::with_disks(&sandbox.path("server"), vec![disk.clone()]);
    server.start_again();
    let source = sandbox.directory("source");
    fs::create_dir(source.join("below")).unwrap();
    for n in 0..30 {
        let file = source.join(format!("below/{n}"));
        fs::write(file, Random(n).bytes(100_000)).unwrap();
    }
    let resource = server.add_directory("source", &source);
    let point = server.back_up(&resource);
    let target = sandbox.path("targets/target");

    // No room at all, and room for a part of it.
    for left in [0, 1 << 10] {
        disk.leave(&server, left);
        let job = server.ended_restore(&server.start_restore(&point, &target));
        assert_eq!(job["Status"], "FAILED", "{job:#}");
        let why = text(&job, "StatusMessage");
        assert!(why.contains("the file system is full: make room there"), "{why}");
        assert_eq!(disk.names(&server), Vec::<String>::new(), "what was begun is gone");
        disk.free(&server);
    }
    server.restore(&point, &target);
    let restored = Manifest::of(&disk.path(&server, "target"));
    Manifest::of(&source).assert_same(&restored, "restored when there was room");
}

#[test]
fn of_the_catalog() {
    if !is_possible("a full disk of the catalog") {
        return;
    }
    let sandbox = Sandbox::new();
    let disk = SmallDisk::new(&sandbox.directory("small"), 16 << 10);
    let data_dir = sandbox.directory("server");
    std::os::unix::fs::symlink(sandbox.path("small/catalog.db"), data_dir.join("catalog.db"))
        .unwrap();
    let mut server = TestServer::with_disks(&data_dir, vec![disk.clone()]);
    // A backup stands still when all is read, until it is told to go on.
    let (arrived, go) = (sandbox.path("arrived"), sandbox.path("go"));
    server.start_again_with(&Start::held_at("backup:read", &arrived, &go));
    let receiver = Receiver::start();
    server.notify(&receiver);
    let source = sandbox.directory("source");
    fs::write(source.join("first"), Random(1).bytes(1_000_000)).unwrap();
    let resource = server.add_directory("source", &source);
    let other = sandbox.directory("other");
    fs::write(other.join("file"), "of another resource\n").unwrap();
    let other = server.add_directory("other", &other);
    let id = server.start_backup(&resource);
    until("the backup", || arrived.exists().then_some(()));
    receiver.wait_for("Notification from AWS Backup", &id);

    disk.fill(&server);
    let asked = json!({
        "BackupVaultName": VAULT, "ResourceArn": other, "IamRoleArn": DEFAULT_ROLE,
    });
    let refused = server.api().call("PUT", "/backup-jobs", Some(&asked));
    assert!(refused.status >= 500, "{refused:?}");
    let advice = "free space on the file system that holds the catalog";
    assert!(refused.text.contains(advice), "{refused:?}");
    // Asking goes on.
    assert_eq!(server.api().get("/backup-jobs/")["BackupJobs"].as_array().unwrap().len(), 1);
    fs::write(&go, "").unwrap();
    until("the end of the work", || server.log_tail().contains("it will be adopted").then_some(()));
    let log = server.log_tail();
    assert!(log.contains(advice), "{log}");
    // Its data is stored, and nothing is claimed that the catalog does not hold.
    let job = server.api().get(&format!("/backup-jobs/{id}"));
    assert_eq!(job["State"], "RUNNING", "{job:#}");
    assert!(server.points().is_empty());

    disk.free(&server);
    let second = server.back_up(&other);
    assert_eq!(server.points(), [&*second]);
    // The first one is found when nobody holds it any more, and the round comes that looks for such.
    let deadline = Instant::now() + 2 * PATIENCE;
    let job = loop {
        let job = server.api().get(&format!("/backup-jobs/{id}"));
        if job["State"] != "RUNNING" {
            break job;
        }
        assert!(Instant::now() < deadline, "{job:#}\n{}", server.log_tail());
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(job["State"], "COMPLETED", "{job:#}");
    let target = sandbox.path("target");
    server.restore(text(&job, "RecoveryPointArn"), &target);
    Manifest::of(&source).assert_same(&Manifest::of(&target), "adopted when there was room");
    until("its end to be told", || {
        let all = receiver.all();
        let ends = |message: &&Value| {
            let attributes = &message["MessageAttributes"];
            attributes["Id"]["Value"] == *id && attributes["State"]["Value"] == "COMPLETED"
        };
        (all.iter().filter(ends).count() == 1).then_some(())
    });
    check(&server);
}

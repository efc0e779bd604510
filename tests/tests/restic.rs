//! Stock restic opens a vault: no lock-in, and an oracle for what we store.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::path::Path;

use provault_tests::restic::Vault;
use provault_tests::{Manifest, Sandbox, TestServer, write_tree};

#[test]
fn a_vault_is_checked_and_restored_with_the_exported_password_alone() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let source = sandbox.path("source");
    write_tree(&source);
    // What changed less than two seconds before a backup is read again by the next.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let resource = server.add_directory("source", &source);
    server.back_up(&resource);
    // A second one, so that parents and deduplication are looked at as well.
    fs::write(source.join("small.txt"), "changed").unwrap();
    fs::remove_file(source.join("docs/2024/may/report-07.txt")).unwrap();
    fs::write(source.join("new.bin"), vec![7; 2_000_000]).unwrap();
    let job = server.ended_backup(&server.start_backup(&resource));
    assert_eq!(job["State"], "COMPLETED", "{job}");
    let manifest = Manifest::of(&source);
    assert_eq!(job["BackupSizeInBytes"], manifest.bytes(), "{job}");
    let transferred = job["BytesTransferred"].as_u64().unwrap();
    assert!(transferred < 3_000_000, "only what changed is read: {job}");

    // As a user gets at it: by the command line.
    let shown = server.program().json(&["vault", "show", "Default"]);
    assert_eq!(shown["BackupVaultName"], "Default", "{shown}");
    assert_eq!(shown["NumberOfRecoveryPoints"], 2, "{shown}");
    let repository = &shown["repository"];
    let location = repository["Location"].as_str().unwrap_or_else(|| panic!("{shown}"));
    let password = server.program().run(0, &["vault", "export-password", "Default"]).stdout;
    let vault = Vault::at(location, password.trim_end());
    vault.check();
    assert_eq!(vault.snapshots(), 2);
    let target = sandbox.path("by-restic");
    vault.restore_latest(&target);
    let restored = target.join(source.strip_prefix(Path::new("/")).unwrap());
    let restored = Manifest::of(&restored);
    manifest.assert_same(&restored, "what restic restored");
    // The server can do the same, and goes on working beside restic.
    let ours = sandbox.path("by-provault");
    server.restore(&server.points()[1], &ours);
    manifest.assert_same(&Manifest::of(&ours), "what Provault restored");
    server.back_up(&resource);
    vault.check();
}

#[test]
fn a_deleted_recovery_point_is_gone_for_restic_too() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let source = sandbox.path("source");
    write_tree(&source);
    let resource = server.add_directory("source", &source);
    let first = server.back_up(&resource);
    server.back_up(&resource);
    let vault = Vault::of(&server, provault_tests::VAULT);
    assert_eq!(vault.snapshots(), 2);
    let first = provault_tests::encode(&first);
    server.api().delete(&format!("/backup-vaults/Default/recovery-points/{first}"));
    assert_eq!(vault.snapshots(), 1);
    vault.check();
}

/// Whoever has the password may keep snapshots of his own in a vault; they are his.
#[test]
fn a_snapshot_made_by_restic_is_never_deleted_by_the_server() {
    let sandbox = Sandbox::new();
    let mut server = TestServer::start(&sandbox.path("server"));
    server.program().run(0, &["vault", "create", "shared"]);
    let source = sandbox.path("source");
    write_tree(&source);
    let vault = Vault::of(&server, "shared");
    vault.back_up(&source);
    let refused = server.program().run(1, &["vault", "delete", "shared"]);
    assert!(refused.stderr.contains("1 snapshot"), "{refused}");
    assert!(server.stop().success());
    server.start_again();
    assert_eq!(vault.snapshots(), 1);
    vault.check();
    // An empty one goes.
    server.program().run(0, &["vault", "create", "empty"]);
    server.program().run(0, &["vault", "delete", "empty"]);
}

//! An existing restic repository becomes a vault.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::path::Path;

use provault_tests::restic::Vault;
use provault_tests::{Manifest, Sandbox, TestServer, write_tree};

fn import(server: &TestServer, code: i32, name: &str, at: &Path, password: &Path) -> String {
    let (at, password) = (at.to_str().unwrap(), password.to_str().unwrap());
    let done = server.program().run(
        code,
        &["vault", "import", name, "--location", at, "--password-file", password, "--watch"],
    );
    format!("{}{}", done.stdout, done.stderr)
}

fn points(server: &TestServer, vault: &str) -> Vec<serde_json::Value> {
    let listed = server.program().json(&["recovery-points", "list", "--vault", vault]);
    listed["RecoveryPoints"].as_array().unwrap().clone()
}

#[test]
fn snapshots_of_stock_restic_are_restored_and_proven_like_any_other() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let source = sandbox.path("source");
    write_tree(&source);
    let (place, password) = (sandbox.path("repository"), sandbox.path("password"));
    fs::write(&password, "correct horse battery staple\n").unwrap();
    let restic = Vault::init(place.to_str().unwrap(), "correct horse battery staple");
    restic.back_up(&source);
    let manifest = Manifest::of(&source);

    let wrong = sandbox.path("wrong");
    fs::write(&wrong, "guess\n").unwrap();
    let told = import(&server, 1, "old", &place, &wrong);
    assert!(told.contains("could not be adopted"), "{told}");
    assert!(!server.program().run(0, &["vault", "list"]).stdout.contains("old"));

    import(&server, 0, "old", &place, &password);
    let first = points(&server, "old");
    assert_eq!(first.len(), 1, "{first:?}");
    // From the trees alone, where a file of two names stands twice.
    let size = first[0]["BackupSizeInBytes"].as_u64().unwrap();
    assert!(size >= manifest.bytes() && size < manifest.bytes() + 1000, "{size}: {first:?}");
    assert_eq!(first[0]["Status"], "COMPLETED");
    // Again, with one snapshot more: nothing twice.
    fs::write(source.join("small.txt"), "changed").unwrap();
    restic.back_up(&source);
    import(&server, 0, "old", &place, &password);
    assert_eq!(points(&server, "old").len(), 2);
    server.program().run(0, &["vault", "refresh", "old", "--watch"]);
    let both = points(&server, "old");
    assert_eq!(both.len(), 2);
    // What is a vault already does not become one again.
    let told = import(&server, 1, "other", &place, &password);
    assert!(told.contains("is the vault old already"), "{told}");

    let arn = both[0]["RecoveryPointArn"].as_str().unwrap();
    let target = sandbox.path("restored");
    let restored =
        server.program().run(0, &["restore", arn, "--to", target.to_str().unwrap(), "--watch"]);
    assert!(target.is_dir(), "{restored}");
    manifest.assert_same(&Manifest::of(&target), "what was imported and restored");
    let resource = both[0]["ResourceArn"].as_str().unwrap();
    let test = server.test(resource);
    assert_eq!(test["Verdict"], "PASSED", "{test}");
    // It may be another host's: it is not backed up from here.
    let refused = server.program().run(1, &["backup", resource, "--vault", "old"]);
    assert!(refused.stderr.contains("imported vault"), "{refused}");
    restic.check();
    assert_eq!(restic.snapshots(), 2, "nothing was added to somebody's repository");
}

#[test]
fn a_vault_of_another_server_is_adopted_by_its_records() {
    let sandbox = Sandbox::new();
    let there = TestServer::start(&sandbox.path("there"));
    let source = sandbox.path("source");
    write_tree(&source);
    let resource = there.add_directory("source", &source);
    there.back_up(&resource);
    let vault = Vault::of(&there, "Default");
    let (place, password) = (sandbox.path("moved"), sandbox.path("password"));
    fs::write(&password, vault.password()).unwrap();
    let mut there = there;
    assert!(there.stop().success());
    fs::rename(vault.location(), &place).unwrap();

    let here = TestServer::start(&sandbox.path("here"));
    import(&here, 0, "theirs", &place, &password);
    let found = points(&here, "theirs");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["ResourceName"], "source");
    assert!(found[0]["Lifecycle"].is_null(), "nothing in it goes by itself: {found:?}");
    let target = sandbox.path("restored");
    let arn = found[0]["RecoveryPointArn"].as_str().unwrap();
    here.program().run(0, &["restore", arn, "--to", target.to_str().unwrap(), "--watch"]);
    Manifest::of(&source).assert_same(&Manifest::of(&target), "what was adopted and restored");
    // The vault goes, its repository stays.
    here.program().run(0, &["recovery-points", "delete", arn]);
    here.program().run(0, &["vault", "delete", "theirs"]);
    assert!(place.join("config").is_file());
}

//! Starts that mend what a kill left, and are killed themselves.

use std::fs;
use std::path::Path;

use provault_tests::kill::{Begin, Left, Seen, Stage, Work};
use provault_tests::{Api, DEFAULT_ROLE, Start, VAULT, until};
use serde_json::{Value, json};

use crate::{ask, point_path, protected, settled, text};

/// A start that mends what a kill left, and is killed itself: `begin` asks for work that stops at a
/// place, where the server is killed.
fn mended_start(
    name: &'static str,
    place: &str,
    least: u64,
    begin: impl Fn(&Api, &str, &Path) + Sync,
) {
    let stage = Stage::new(|server, stage| {
        let resource = protected(server, stage);
        server.back_up(&resource);
        settled(server);
        let arrived = stage.sandbox.path("arrived");
        server.restart_with(&Start::paused_at(place, &arrived));
        let api = server.api().clone();
        std::thread::scope(|scope| {
            scope.spawn(|| begin(&api, &resource, &stage.sandbox.path("target")));
            until(place, || fs::read_to_string(&arrived).ok().filter(|text| text == place));
            let seen = Seen::of(server.api()).unwrap();
            server.kill9();
            Left::Dead(seen)
        })
    });
    stage.kill_at_every_commit(&Work {
        name,
        least,
        begin: Begin::ByItself(&|_| true),
        check: &|server, _| {
            let resource = server.api().get("/provault/v1/resources/source");
            server.back_up(text(&resource, "ResourceArn"));
            if place.starts_with("test:") {
                assert_eq!(server.test("source")["Verdict"], "PASSED");
            }
        },
    });
}

fn begin_backup(api: &Api, resource: &str, _: &Path) {
    let asked = json!({
        "BackupVaultName": VAULT, "ResourceArn": resource, "IamRoleArn": DEFAULT_ROLE,
    });
    ask(api, "PUT", "/backup-jobs", &asked);
}

fn begin_test(api: &Api, _: &str, _: &Path) {
    ask(api, "POST", "/provault/v1/restore-tests", &json!({ "Resource": "source" }));
}

#[test]
fn start_after_a_backup_that_broke_off() {
    mended_start("start after a broken backup", "backup:read", 3, begin_backup);
}

#[test]
fn start_after_a_backup_that_was_stored() {
    mended_start("start after a stored backup", "backup:committed", 3, begin_backup);
}

#[test]
fn start_after_a_restore_that_broke_off() {
    mended_start("start after a broken restore", "restore:written", 3, |api, _, target| {
        let points = Seen::of(api).unwrap().points;
        let path = format!("{}/restore-metadata", point_path(&points[0].arn));
        let mut metadata = api.get(&path)["RestoreMetadata"].take();
        metadata["targetPath"] = json!(target);
        let asked = json!({
            "RecoveryPointArn": points[0].arn, "Metadata": metadata, "IamRoleArn": DEFAULT_ROLE,
        });
        ask(api, "PUT", "/restore-jobs", &asked);
    });
}

#[test]
fn start_after_a_restore_test_that_broke_off() {
    mended_start("start after a broken restore test", "test:restored", 5, begin_test);
}

#[test]
fn start_after_a_restore_test_without_its_verdict() {
    mended_start("start after a test without verdict", "test:controlled", 4, begin_test);
}

#[test]
fn start_after_a_deletion_that_broke_off() {
    mended_start("start after a broken deletion", "expiry:deleting", 1, |api, _, _| {
        let points = Seen::of(api).unwrap().points;
        ask(api, "DELETE", &point_path(&points[0].arn), &Value::Null);
    });
}

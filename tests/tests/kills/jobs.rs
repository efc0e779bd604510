//! Backups, restores, what is deleted and what is told.

use std::fs;
use std::path::Path;

use provault_tests::kill::{Begin, Left, Seen, Stage, Work};
use provault_tests::{DEFAULT_ROLE, Finished, Manifest, Start, TestServer, VAULT, until};
use serde_json::{Value, json};

use crate::{ask, fresh, in_catalog, just_missed, point_path, protected, settled, text};

#[test]
fn backup() {
    let mut resource = String::new();
    let mut stage = Stage::new(|server, stage| {
        resource = protected(server, stage);
        Left::InOrder
    });
    stage.change_source();
    let asked = json!({
        "BackupVaultName": VAULT, "ResourceArn": resource, "IamRoleArn": DEFAULT_ROLE,
        "IdempotencyToken": "the one that is killed",
    });
    stage.kill_at_every_commit(&Work {
        name: "backup",
        least: 6,
        begin: Begin::Asked(&|api| ask(api, "PUT", "/backup-jobs", &asked)),
        check: &|server, seen| {
            // Whoever got no answer asks again, and there is one job all the same.
            let again = server.api().put("/backup-jobs", &asked);
            let job = server.ended_backup(text(&again, "BackupJobId"));
            let all = settled(server);
            assert_eq!(all.backups.len(), 2, "{all:#?}");
            assert!(seen.backups.len() < 2 || all.points.len() == seen.points.len(), "{all:#?}");
            assert_eq!(all.points.len() == 2, job["State"] == "COMPLETED", "{job}");
            server.back_up(&resource);
        },
    });
}

/// What is asked for a restore of the only point to `target`, with more of its metadata.
fn to_target(server: &TestServer, stage: &Stage, more: &[(&str, &str)]) -> Value {
    let point = server.points().remove(0);
    let path = format!("{}/restore-metadata", point_path(&point));
    let mut metadata = server.api().get(&path)["RestoreMetadata"].take();
    metadata["targetPath"] = json!(stage.sandbox.path("target"));
    for (key, value) in more {
        metadata[*key] = json!(value);
    }
    json!({
        "RecoveryPointArn": point, "Metadata": metadata, "IamRoleArn": DEFAULT_ROLE,
        "IdempotencyToken": "the one that is killed",
    })
}

#[test]
fn restore() {
    let mut asked = Value::Null;
    let stage = Stage::new(|server, stage| {
        protected(server, stage);
        asked = to_target(server, stage, &[]);
        Left::InOrder
    });
    let target = stage.sandbox.path("target");
    let whole = Manifest::of(&stage.source);
    stage.kill_at_every_commit(&Work {
        name: "restore",
        least: 6,
        begin: Begin::Asked(&|api| ask(api, "PUT", "/restore-jobs", &asked)),
        check: &|server, seen| {
            // Whole or absent, nothing between; and what is said to be there is.
            let done = seen.restores.iter().any(|job| job["Status"] == "COMPLETED");
            assert!(!done || target.exists(), "{seen:#?}");
            let same = |what| whole.assert_same(&Manifest::of(&target), what);
            if target.exists() {
                same("the target after the kill");
            }
            let again = server.api().put("/restore-jobs", &asked);
            let job = server.ended_restore(text(&again, "RestoreJobId"));
            assert!(job["Status"] != "COMPLETED" || target.exists(), "{job}");
            if target.exists() {
                same("the target in the end");
            }
        },
    });
}

/// A directory in which somebody has been at work since the recovery point was made.
fn worked_in(source: &Path, target: &Path) {
    let mut copy = std::process::Command::new("cp");
    copy.arg("-a").arg(source).arg(target);
    let _ = Finished::of(&mut copy, "install coreutils").expect(0);
    fs::write(target.join("text"), "work of today\n").unwrap();
    fs::write(target.join("added"), "work of today\n").unwrap();
    fs::remove_file(target.join("noise")).unwrap();
}

#[test]
fn restore_in_place() {
    let mut asked = Value::Null;
    let stage = Stage::new(|server, stage| {
        protected(server, stage);
        let over = [("overwrite", "always"), ("deleteExtra", "true"), ("newFileSystem", "false")];
        asked = to_target(server, stage, &over);
        Left::InOrder
    });
    let target = stage.sandbox.path("target");
    let whole = Manifest::of(&stage.source);
    stage.kill_at_every_commit(&Work {
        name: "restore in place",
        least: 6,
        begin: Begin::Asked(&|api| {
            worked_in(&stage.source, &target);
            ask(api, "PUT", "/restore-jobs", &asked);
        }),
        check: &|server, seen| {
            let same = |what| whole.assert_same(&Manifest::of(&target), what);
            if seen.restores.iter().any(|job| {
                job["RecoveryPointArn"] == asked["RecoveryPointArn"] && job["Status"] == "COMPLETED"
            }) {
                same("the target after the kill");
            } else {
                let text = fs::read_to_string(target.join("text")).unwrap();
                assert_eq!(text, "work of today\n", "nobody knows of this restore");
            }
            let again = server.api().put("/restore-jobs", &asked);
            let job = server.ended_restore(text(&again, "RestoreJobId"));
            assert_eq!(job["Status"], "COMPLETED", "{job:#}");
            same("the target in the end");
        },
    });
}

#[test]
fn stop_of_a_backup() {
    let mut resource = String::new();
    let mut stage = Stage::new(|server, stage| {
        resource = protected(server, stage);
        Left::InOrder
    });
    stage.change_source();
    stage.hold_at("backup:read");
    let asked = json!({
        "BackupVaultName": VAULT, "ResourceArn": resource, "IamRoleArn": DEFAULT_ROLE,
        "IdempotencyToken": "the one that is stopped",
    });
    stage.kill_at_every_commit(&Work {
        name: "stop of a backup",
        least: 6,
        begin: Begin::Asked(&|api| {
            ask(api, "PUT", "/backup-jobs", &asked);
            if stage.is_held(api) {
                let job = Seen::of(api).unwrap().backups.remove(0);
                ask(
                    api,
                    "POST",
                    &format!("/backup-jobs/{}", text(&job, "BackupJobId")),
                    &json!({}),
                );
                stage.go_on();
            }
        }),
        check: &|server, _| {
            let again = server.api().put("/backup-jobs", &asked);
            server.ended_backup(text(&again, "BackupJobId"));
            server.back_up(&resource);
        },
    });
}

#[test]
fn deletion_of_a_recovery_point() {
    let stage = Stage::new(|server, stage| {
        let resource = protected(server, stage);
        server.back_up(&resource);
        settled(server);
        Left::InOrder
    });
    let server = fresh(&stage);
    let [first, second] = <[String; 2]>::try_from(server.points()).unwrap();
    drop(server);
    stage.kill_at_every_commit(&Work {
        name: "deletion",
        least: 3,
        begin: Begin::Asked(&|api| ask(api, "DELETE", &point_path(&first), &Value::Null)),
        check: &|server, seen| {
            if seen.points.len() == 2 {
                server.delete_point(&first);
            }
            assert_eq!(server.points(), [&*second]);
        },
    });
}

#[test]
fn expiry_of_recovery_points() {
    let stage = Stage::new(|server, stage| {
        let resource = protected(server, stage);
        server.back_up(&resource);
        server.back_up(&resource);
        let seen = settled(server);
        // Dies of the very commit that lets two of them expire, before anybody has looked.
        server.restart_with(&Start::killed_at(true, 1, Some(&stage.armed())));
        settled(server);
        fs::write(stage.armed(), "").unwrap();
        let path = "/provault/v1/resources/source/retention";
        ask(server.api(), "POST", path, &json!({ "KeepAtMost": 1 }));
        until("its death", || server.has_ended().then_some(()));
        Left::Dead(seen)
    });
    stage.kill_at_every_commit(&Work {
        name: "expiry",
        least: 3,
        begin: Begin::ByItself(&|seen| seen.points.len() == 1),
        check: &|server, _| {
            let resource = server.api().get("/provault/v1/resources/source");
            server.back_up(text(&resource, "ResourceArn"));
        },
    });
}

#[test]
fn scheduled_backup() {
    let (cron, earlier) = just_missed();
    let stage = Stage::new(|server, stage| {
        protected(server, stage);
        let program = server.program();
        program.run(0, &["plan", "create", "daily", "--vault", VAULT, "--schedule", &cron]);
        program.run(0, &["selection", "add", "daily", "all", "--resource", "source"]);
        Left::InOrder
    });
    // As if the server had been off when the plan was due.
    in_catalog(&stage.template(), async |catalog| {
        for plan in catalog.all_active_plans().await.unwrap() {
            let rule = &plan.rules[0].id;
            let mark = catalog.schedule_mark(&plan.id, rule).await.unwrap();
            assert!(catalog.advance_schedule(&plan, rule, mark, earlier, &[]).await.unwrap());
        }
    });
    stage.kill_at_every_commit(&Work {
        name: "scheduled backup",
        least: 7,
        begin: Begin::ByItself(&|seen| seen.backups.len() >= 2),
        check: &|server, seen| {
            assert_eq!(seen.backups.len(), 2, "an occurrence is carried out once: {seen:#?}");
            let resource = server.api().get("/provault/v1/resources/source");
            server.back_up(text(&resource, "ResourceArn"));
        },
    });
}

#[test]
fn deliveries_that_are_sent_again() {
    let mut dead = Vec::new();
    let stage = Stage::new(|server, stage| {
        stage.receiver.answer(404);
        protected(server, stage);
        stage.receiver.answer(200);
        let all = settled(server).deliveries;
        assert!(all.iter().all(|delivery| delivery["State"] == "DEAD"), "{all:#?}");
        dead = all.iter().map(|delivery| text(delivery, "DeliveryId").to_owned()).collect();
        Left::InOrder
    });
    assert_eq!(dead.len(), 2);
    let again = |id: &String| format!("/provault/v1/deliveries/{id}/send-again");
    stage.kill_at_every_commit(&Work {
        name: "delivery",
        least: 6,
        begin: Begin::Asked(&|api| {
            for id in &dead {
                ask(api, "POST", &again(id), &json!({}));
            }
        }),
        check: &|server, seen| {
            for delivery in seen.deliveries.iter().filter(|d| d["State"] == "DEAD") {
                server.api().post(&again(&text(delivery, "DeliveryId").to_owned()), &json!({}));
            }
            let all = settled(server).deliveries;
            assert!(all.iter().all(|delivery| delivery["State"] == "DELIVERED"), "{all:#?}");
            for id in &dead {
                let received = stage.receiver.all();
                assert!(received.iter().any(|message| text(message, "MessageId") == id), "{id}");
            }
        },
    });
}

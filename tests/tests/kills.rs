//! SIGKILL at every transaction boundary of every kind of work, enumerated: right before and right
//! after each commit that the server makes. What comes after the next start is looked at by
//! `provault_tests::kill`; what each kind has to hold besides, here.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp, Zoned};
use provault_catalog::Catalog;
use provault_tests::kill::{Begin, Left, Seen, Stage, Work};
use provault_tests::{
    Api, DEFAULT_ROLE, Finished, Manifest, Program, Start, TestServer, VAULT, encode, until,
};
use serde_json::{Value, json};

/// A resource with its first recovery point, and somebody who is told of everything; gives the
/// resource's ARN.
fn protected(server: &TestServer, stage: &Stage) -> String {
    server.notify(&stage.receiver);
    let resource = server.add_directory("source", &stage.source);
    server.back_up(&resource);
    settled(server);
    resource
}

fn settled(server: &TestServer) -> Seen {
    until("quiet", || Seen::of(server.api()).filter(Seen::is_quiet))
}

/// Sends a request and does not care what becomes of it.
fn ask(api: &Api, method: &str, path: &str, body: &Value) {
    let body = body.to_string();
    let body = (method != "DELETE").then_some(body.as_bytes());
    drop(api.send(method, path, body));
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn point_path(arn: &str) -> String {
    format!("/backup-vaults/{VAULT}/recovery-points/{}", encode(arn))
}

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

#[test]
fn restore() {
    let mut asked = Value::Null;
    let stage = Stage::new(|server, stage| {
        protected(server, stage);
        let point = server.points().remove(0);
        let path = format!("{}/restore-metadata", point_path(&point));
        let mut metadata = server.api().get(&path)["RestoreMetadata"].take();
        metadata["targetPath"] = json!(stage.sandbox.path("target"));
        asked = json!({
            "RecoveryPointArn": point, "Metadata": metadata, "IamRoleArn": DEFAULT_ROLE,
            "IdempotencyToken": "the one that is killed",
        });
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

#[test]
fn restore_test() {
    let stage = Stage::new(|server, stage| {
        protected(server, stage);
        Left::InOrder
    });
    stage.kill_at_every_commit(&Work {
        name: "restore test",
        least: 15,
        begin: Begin::Asked(&|api| {
            ask(api, "POST", "/provault/v1/restore-tests", &json!({ "Resource": "source" }));
        }),
        check: &|server, _| {
            let test = server.test("source");
            assert_eq!(test["Verdict"], "PASSED", "{test:#}");
            assert_eq!(server.api().get("/provault/v1/evidence")["Chain"], "VERIFIED");
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

/// Runs of care that are asked for, each of which can be done again afterwards.
fn care(name: &'static str, asked: &Value, least: u64) {
    let stage = Stage::new(|server, stage| {
        server.notify(&stage.receiver);
        let resource = server.add_directory("source", &stage.source);
        // Something to free: what only a deleted point needs, and what another needs too.
        let garbage = stage.source.join("garbage");
        fs::write(&garbage, provault_tests::Random(3).bytes(120_000)).unwrap();
        let gone = server.back_up(&resource);
        server.delete_point(&gone);
        fs::remove_file(garbage).unwrap();
        server.back_up(&resource);
        settled(server);
        Left::InOrder
    });
    let path = format!("/provault/v1/vaults/{VAULT}/care-runs");
    stage.kill_at_every_commit(&Work {
        name,
        least,
        begin: Begin::Asked(&|api| ask(api, "POST", &path, asked)),
        check: &|server, _| {
            for again in [asked, &json!({ "Operation": "CHECK", "ReadData": true })] {
                let run = server.ended_care(&server.start_care(again));
                assert_eq!(run["State"], "COMPLETED", "{run:#}");
                assert_eq!(run["Report"]["Clean"], true, "{run:#}");
            }
        },
    });
}

#[test]
fn care_check() {
    care("check", &json!({ "Operation": "CHECK", "ReadData": true }), 5);
}

#[test]
fn care_prune() {
    care("prune", &json!({ "Operation": "PRUNE" }), 5);
}

#[test]
fn care_repair() {
    care("repair", &json!({ "Operation": "REPAIR", "ReadData": true }), 5);
}

#[test]
fn care_verify() {
    care("verification", &json!({ "Operation": "VERIFY" }), 5);
}

#[test]
fn care_catalog_backup() {
    care("copy of the catalog", &json!({ "Operation": "CATALOG_BACKUP" }), 5);
}

#[test]
fn import_of_a_repository() {
    const SECRET: &str = "the password of an old repository";
    let stage = Stage::new(|_, stage| {
        let password = stage.sandbox.path("password");
        fs::write(&password, SECRET).unwrap();
        let place = stage.sandbox.path("repository");
        let source = stage.source.to_str().unwrap().to_owned();
        for args in [&["init"][..], &["backup", &source], &["backup", &source]] {
            let mut command = Program::bare(&["repository", "--quiet", "--repo"]);
            command.arg(&place).arg("--password-file").arg(&password).args(args);
            command.env("XDG_CACHE_HOME", stage.sandbox.path("cache"));
            let _ = Finished::of(&mut command, "it was just there").expect(0);
        }
        Left::InOrder
    });
    let path = "/provault/v1/vaults/adopted/import";
    let asked = json!({ "Location": stage.sandbox.path("repository"), "Password": SECRET });
    stage.kill_at_every_commit(&Work {
        name: "import",
        least: 6,
        begin: Begin::Asked(&|api| ask(api, "POST", path, &asked)),
        check: &|server, _| {
            for _ in 0..2 {
                let run = server.api().post(path, &asked);
                let run = server.ended_care(text(&run, "CareRunId"));
                assert_eq!(run["State"], "COMPLETED", "{run:#}");
                assert_eq!(settled(server).points_of("adopted").len(), 2, "each snapshot once");
            }
        },
    });
}

/// A daily schedule that was due some minutes ago, and a moment before that.
fn just_missed() -> (String, Timestamp) {
    let now = Timestamp::now();
    let due = now - SignedDuration::from_mins(10);
    let zoned: Zoned = due.to_zoned(jiff::tz::TimeZone::UTC);
    let cron = format!("cron({} {} * * ? *)", zoned.minute(), zoned.hour());
    (cron, now - SignedDuration::from_mins(20))
}

/// Works on the catalog of a server that does not run.
fn in_catalog(data_dir: &Path, work: impl AsyncFnOnce(Catalog)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("sqlite:{}", data_dir.join("catalog.db").display());
        let catalog = Catalog::open(&url).await.unwrap();
        work(catalog.clone()).await;
        catalog.close().await;
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
fn occurrence_of_a_restore_testing_plan() {
    let (cron, earlier) = just_missed();
    let stage = Stage::new(|server, stage| {
        protected(server, stage);
        let program = server.program();
        let plan = ["restore-testing-plan", "create", "daily", "--vault", VAULT];
        program.run(0, &[&plan[..], &["--schedule", &cron]].concat());
        let select = ["restore-testing-selection", "create", "daily", "one"];
        program.run(0, &[&select[..], &["--resource", "source"]].concat());
        Left::InOrder
    });
    in_catalog(&stage.template(), async |catalog| {
        for (plan, mark) in catalog.all_restore_testing_plans().await.unwrap() {
            let moved = catalog.advance_restore_testing(&plan.arn, mark, earlier, &[]).await;
            assert!(moved.unwrap());
        }
    });
    stage.kill_at_every_commit(&Work {
        name: "occurrence of a restore testing plan",
        least: 16,
        begin: Begin::ByItself(&|seen| !seen.tests.is_empty()),
        check: &|server, seen| {
            assert_eq!(seen.tests.len(), 1, "an occurrence is carried out once: {seen:#?}");
            assert_eq!(server.test("source")["Verdict"], "PASSED");
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

#[test]
fn first_start() {
    let stage = Stage::empty();
    let source = stage.source.clone();
    stage.kill_at_every_commit(&Work {
        name: "first start",
        least: 6,
        begin: Begin::ByItself(&|seen| seen.vaults == [VAULT]),
        check: &|server, _| {
            let resource = server.add_directory("source", &source);
            server.back_up(&resource);
            no_repository_without_a_vault(server);
        },
    });
}

/// Below the data directory lies a repository for each vault, and nothing else.
fn no_repository_without_a_vault(server: &TestServer) {
    let mut vaults = Seen::of(server.api()).unwrap().vaults;
    let entries = fs::read_dir(server.data_dir().join("vaults")).unwrap();
    let mut there: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.rsplit_once('-').map_or(name.clone(), |(vault, _)| vault.to_owned()))
        .collect();
    there.sort();
    vaults.sort();
    assert_eq!(there, vaults, "repositories and vaults");
}

#[test]
fn making_of_a_vault() {
    let stage = Stage::new(|_, _| Left::InOrder);
    stage.kill_at_every_commit(&Work {
        name: "making of a vault",
        least: 3,
        begin: Begin::Asked(&|api| ask(api, "PUT", "/backup-vaults/late", &json!({}))),
        check: &|server, seen| {
            no_repository_without_a_vault(server);
            if seen.vaults.len() == 1 {
                server.api().put("/backup-vaults/late", &json!({}));
            }
            server.api().delete("/backup-vaults/late");
            no_repository_without_a_vault(server);
        },
    });
}

#[test]
fn removal_of_a_vault() {
    let stage = Stage::new(|server, _| {
        server.api().put("/backup-vaults/late", &json!({}));
        Left::InOrder
    });
    stage.kill_at_every_commit(&Work {
        name: "removal of a vault",
        least: 3,
        begin: Begin::Asked(&|api| ask(api, "DELETE", "/backup-vaults/late", &Value::Null)),
        check: &|server, seen| {
            no_repository_without_a_vault(server);
            if seen.vaults.len() == 2 {
                server.api().delete("/backup-vaults/late");
            }
            server.api().put("/backup-vaults/late", &json!({}));
            no_repository_without_a_vault(server);
        },
    });
}

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

/// A server on a copy of the template, to look at.
fn fresh(stage: &Stage) -> TestServer {
    let mut copy = std::process::Command::new("cp");
    copy.arg("-a").arg(stage.template()).arg(stage.data_dir());
    let _ = Finished::of(&mut copy, "install coreutils").expect(0);
    TestServer::start(&stage.data_dir())
}

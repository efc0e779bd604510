//! The server dies with SIGKILL at every place between two steps of a job. After the next start
//! every job goes on or ends in a truthful state, every recovery point that is offered can be restored, the
//! vault is clean for stock restic, and nothing is left behind. Prunes and repairs die between all
//! their phases.
//!
//! The server is asked to wait for ever at a place (`PROVAULT_PAUSE_AT`) and killed when it is
//! there: no luck with timing is involved.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use provault_engine::pause::PLACES;
use provault_repository::pause;
use provault_tests::restic::Vault;
use provault_tests::{
    Manifest, Random, Receiver, Sandbox, Start, Store, TestServer, VAULT, encode, processes, until,
    vault_files, write_tree,
};
use serde_json::{Value, json};

macro_rules! killed_at {
    ($($test:ident: $drive:ident at $place:literal;)*) => {
        $(
            #[test]
            fn $test() {
                $drive($place);
            }
        )*

        #[test]
        fn every_place_has_its_test() {
            let mut tested = vec![$($place),*];
            let mut places = [PLACES, pause::PLACES].concat();
            tested.sort_unstable();
            // Some places are passed by several kinds of jobs.
            tested.dedup();
            places.sort_unstable();
            assert_eq!(tested, places, "a place to die at without a test, or the other way round");
        }
    };
}

killed_at! {
    backup_started: backup at "backup:started";
    backup_captured: backup at "backup:captured";
    backup_read: backup at "backup:read";
    backup_committed: backup at "backup:committed";
    restore_started: restore at "restore:started";
    restore_written: restore at "restore:written";
    test_started: restore_test at "test:started";
    test_chosen: restore_test at "test:chosen";
    test_copying: restore_test at "test:copying";
    test_restored: restore_test at "test:restored";
    test_tested: restore_test at "test:tested";
    test_controlled: restore_test at "test:controlled";
    test_reaped: restore_test at "test:reaped";
    expiry_deleting: deletion at "expiry:deleting";
    expiry_forgotten: deletion at "expiry:forgotten";
    delivery_sent: delivery at "delivery:sent";
    care_started: care at "care:started";
    care_done: care at "care:done";
    prune_copied: prune at "prune:copied";
    prune_marked: prune at "retire:marked";
    prune_replacing: prune at "retire:replacing";
    prune_switched: prune at "retire:switched";
    prune_named: prune at "retire:named";
    prune_sweeping: prune at "prune:sweeping";
    repair_listed: repair at "repair:listed";
    repair_rescued: repair at "repair:rescued";
    repair_fetched: repair at "repair:fetched";
    repair_marked: repair at "retire:marked";
    repair_replacing: repair at "retire:replacing";
    repair_switched: repair at "retire:switched";
    repair_named: repair at "retire:named";
    repair_retired: repair at "repair:retired";
    vault_made: vault at "vault:made";
    vault_deleted: vault at "vault:deleted";
    vault_removing: vault at "remove:begun";
}

/// A server with one resource, one recovery point of it, and somebody who is notified.
struct Scene {
    server: TestServer,
    receiver: Receiver,
    source: PathBuf,
    resource: String,
    /// What the source was and became.
    manifests: Vec<Manifest>,
    /// Which of these a recovery point has to give back.
    holds: BTreeMap<String, usize>,
    /// Where a paused server says that it is there.
    arrived: PathBuf,
    sandbox: Sandbox,
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let server = TestServer::start(&sandbox.path("server"));
        let source = sandbox.path("source");
        write_tree(&source);
        let receiver = Receiver::start();
        server.notify(&receiver);
        let resource = server.add_directory("source", &source);
        let point = server.back_up(&resource);
        let arrived = sandbox.path("arrived");
        let manifests = vec![Manifest::of(&source)];
        let holds = BTreeMap::from([(point, 0)]);
        Self { server, receiver, source, resource, manifests, holds, arrived, sandbox }
    }

    /// Changes the source, so that the next recovery point is another one.
    fn change_source(&mut self) {
        fs::write(self.source.join("small.txt"), "changed\n").unwrap();
        fs::write(self.source.join("added.bin"), vec![42; 1_234_567]).unwrap();
        self.manifests.push(Manifest::of(&self.source));
    }

    /// Leaves packs in the vault that nothing needs, and some of which a part is needed.
    fn leave_garbage(&mut self) {
        let noise = self.source.join("garbage.bin");
        for n in 0..GARBAGE {
            fs::write(&noise, Random(n).bytes(400_000)).unwrap();
            let kept = self.source.join(format!("kept-{n}.bin"));
            fs::write(kept, Random(100 + n).bytes(KEPT)).unwrap();
            let point = self.server.back_up(&self.resource);
            self.server.delete_point(&point);
        }
        fs::remove_file(noise).unwrap();
        self.manifests.push(Manifest::of(&self.source));
        let point = self.server.back_up(&self.resource);
        self.holds.insert(point, self.manifests.len() - 1);
    }

    fn packs_size(&self) -> u64 {
        let packs = vault_files::packs(self.server.data_dir(), VAULT);
        packs.iter().map(|pack| fs::metadata(pack).unwrap().len()).sum()
    }

    /// A care run that died with the server: it is begun anew, and comes to its end.
    fn care_goes_on(&self, id: &str) {
        let run = self.server.ended_care(id);
        assert_eq!(run["State"], "COMPLETED", "{run}");
        let log = self.server.api().get(&format!("/provault/v1/jobs/{id}/log"));
        assert!(log.to_string().contains("without warning"), "{log}");
    }

    /// Prunes, after which nothing is left that no recovery point needs.
    fn prune_leaves_nothing(&self) {
        let program = self.server.program();
        let run = program.json(&["vault", "prune", VAULT, "--watch"]);
        assert_eq!(run["State"], "COMPLETED", "{run}");
        let run = program.json(&["vault", "prune", VAULT, "--dry-run", "--watch"]);
        let figures = &run["Report"]["Figures"];
        for left in ["packsToDelete", "waitingPacks"] {
            assert_eq!(figures[left], 0, "{left}: {run}");
        }
        let marks = vault_files::directory(self.server.data_dir(), VAULT).join("provault/prune");
        assert_eq!(entries(&marks), 0, "marks that were left");
        let run = program.json(&["vault", "check", VAULT, "--read-data", "--watch"]);
        assert_eq!(run["Report"]["Clean"], true, "{run}");
        assert_eq!(run["Report"]["Figures"]["unreferencedPacks"], 0, "{run}");
    }

    fn pause_at(&mut self, place: &str) {
        self.settle();
        self.server.restart_with(&Start::paused_at(place, &self.arrived));
    }

    fn wait_and_kill(&mut self, place: &str) {
        let text =
            until(place, || fs::read_to_string(&self.arrived).ok().filter(|t| !t.is_empty()));
        assert_eq!(text, place);
        self.server.kill9();
        self.server.start_again();
    }

    /// Waits until every notification so far has been delivered.
    fn settle(&self) {
        until("every delivery", || {
            let all = self.server.api().get("/provault/v1/deliveries");
            let all = all["Deliveries"].as_array().unwrap().clone();
            all.iter().all(|delivery| delivery["State"] == "DELIVERED").then_some(())
        });
    }

    /// What holds after every crash, wherever it was.
    fn nothing_is_lost_or_left(&self) {
        let server = &self.server;
        for (list, key, ends) in [
            ("/backup-jobs/", "BackupJobs", &["COMPLETED", "FAILED", "ABORTED"][..]),
            ("/restore-jobs/", "RestoreJobs", &["COMPLETED", "FAILED", "ABORTED"][..]),
        ] {
            let state = if key == "BackupJobs" { "State" } else { "Status" };
            for job in server.api().get(list)[key].as_array().unwrap() {
                assert!(ends.iter().any(|end| job[state] == *end), "it does not end: {job}");
            }
        }
        for test in
            server.api().get("/provault/v1/restore-tests")["RestoreTests"].as_array().unwrap()
        {
            assert_eq!(test["State"], "FINISHED", "{test}");
        }
        // Every point that is offered gives back what was there, and no job claims more.
        let points = server.points();
        for (n, point) in points.iter().enumerate() {
            let target = self.sandbox.path(&format!("restored-{n}"));
            server.restore(point, &target);
            let restored = Manifest::of(&target);
            let source = self.holds.get(point);
            let source = source.unwrap_or_else(|| panic!("{point} should not be offered"));
            self.manifests[*source].assert_same(&restored, "the restored copy");
        }
        self.settle();
        let vault = Vault::of(server, VAULT);
        vault.check();
        assert_eq!(vault.snapshots(), points.len(), "snapshots and recovery points");
        self.nothing_is_left_on_disk();
        assert_eq!(processes::below(server.pid()), Vec::<i32>::new(), "helpers that still run");
        // The resource can be backed up again: nothing holds it.
        server.back_up(&self.resource);
    }

    fn nothing_is_left_on_disk(&self) {
        let tests = self.server.data_dir().join("restore-tests");
        let left: Vec<_> = match fs::read_dir(&tests) {
            Ok(entries) => entries.map(|entry| entry.unwrap().path()).collect(),
            Err(_) => Vec::new(),
        };
        assert!(left.is_empty(), "copies under test that were left: {left:?}");
        // The private names under which a restore works.
        let staging: Vec<_> = fs::read_dir(self.sandbox.root())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with('.'))
            .collect();
        assert!(staging.is_empty(), "staging directories that were left: {staging:?}");
    }
}

fn point_path(arn: &str) -> String {
    format!("/backup-vaults/{VAULT}/recovery-points/{}", encode(arn))
}

fn backup(place: &str) {
    let mut scene = Scene::new();
    scene.change_source();
    scene.pause_at(place);
    let id = scene.server.start_backup(&scene.resource);
    scene.wait_and_kill(place);
    let job = scene.server.ended_backup(&id);
    // What was stored before the crash is adopted, and what was not is stored by another attempt.
    assert_eq!(job["State"], "COMPLETED", "{job}");
    assert_eq!(scene.server.points().len(), 2);
    assert_eq!(job["RecoveryPointArn"], scene.server.points()[1], "{job}");
    let log = scene.server.api().get(&format!("/provault/v1/jobs/{id}/log")).to_string();
    assert_eq!(log.contains("without warning"), place != "backup:committed", "{log}");
    scene.holds.insert(text(&job, "RecoveryPointArn").to_owned(), 1);
    scene.receiver.wait_for("Notification from AWS Backup", &id);
    scene.nothing_is_lost_or_left();
}

fn restore(place: &str) {
    let mut scene = Scene::new();
    scene.pause_at(place);
    let target = scene.sandbox.path("target");
    let id = scene.server.start_restore(&scene.server.points()[0], &target);
    scene.wait_and_kill(place);
    let job = scene.server.ended_restore(&id);
    // The next start goes on with it, or finds that it had been completed.
    assert_eq!(job["Status"], "COMPLETED", "{job}");
    let message = job["StatusMessage"].as_str().unwrap();
    assert!(message.contains("Verified: "), "{job}");
    assert_eq!(message.contains("had been completed"), place == "restore:written", "{job}");
    scene.manifests[0].assert_same(&Manifest::of(&target), "the target");
    let log = scene.server.api().get(&format!("/provault/v1/jobs/{id}/log"));
    assert!(log.to_string().contains("taken up again"), "{log}");
    scene.nothing_is_lost_or_left();
}

fn restore_test(place: &str) {
    let mut scene = Scene::new();
    scene.pause_at(place);
    let id = scene.server.start_test("source");
    scene.wait_and_kill(place);
    let test = scene.server.ended_test(&id);
    // One that had found out everything keeps what it found out; the others are begun anew.
    let complete = ["test:controlled", "test:reaped"].contains(&place);
    assert_eq!(test["Verdict"], "PASSED", "{test:#}");
    assert_eq!(test["CleanedUp"], true, "{test:#}");
    assert!(
        !scene
            .server
            .data_dir()
            .join("restore-tests")
            .read_dir()
            .is_ok_and(|mut d| d.next().is_some())
    );
    let jobs = scene.server.api().get("/restore-jobs/");
    let jobs = jobs["RestoreJobs"].as_array().unwrap();
    // The attempt that died has a restore job of its own, unless it had come to none, or to its end.
    let died = !complete && place != "test:started";
    assert_eq!(jobs.len(), if died { 2 } else { 1 }, "{jobs:?}");
    for job in jobs {
        let id = text(job, "RestoreJobId");
        let job = scene.server.api().get(&format!("/restore-jobs/{id}"));
        let counts = test["RestoreJobId"] == job["RestoreJobId"];
        let restored = counts || ["test:restored", "test:tested"].contains(&place);
        let status = if restored { "COMPLETED" } else { "ABORTED" };
        assert_eq!(job["Status"], status, "{job:#}");
        let validated = if counts { "SUCCESSFUL" } else { "TIMED_OUT" };
        assert_eq!(job["ValidationStatus"], validated, "{job:#}");
        assert_eq!(job["DeletionStatus"], "SUCCESSFUL", "{job:#}");
    }
    scene.receiver.wait_for("Restore Test Status", &id);
    // The verdict stands in the evidence, whose chain holds.
    let evidence = scene.server.api().get("/provault/v1/evidence");
    assert_eq!(evidence["Records"].as_array().unwrap().len(), 1, "{evidence:#}");
    assert_eq!(text(&evidence, "Chain"), "VERIFIED", "{evidence:#}");
    scene.nothing_is_lost_or_left();
    assert_eq!(scene.server.test("source")["Verdict"], "PASSED");
}

fn deletion(place: &str) {
    let mut scene = Scene::new();
    scene.change_source();
    let changed = scene.server.back_up(&scene.resource);
    scene.holds.insert(changed, 1);
    let [first, second] = <[String; 2]>::try_from(scene.server.points()).unwrap();
    scene.pause_at(place);
    let api = scene.server.api().clone();
    let path = point_path(&first);
    let asking = thread::spawn(move || api.send("DELETE", &path, None).is_ok());
    scene.wait_and_kill(place);
    assert!(!asking.join().unwrap(), "the server answered although it was stopped before the end");
    until("the end of the deletion", || {
        (scene.server.api().call("GET", &point_path(&first), None).status == 400).then_some(())
    });
    assert_eq!(scene.server.points(), [second]);
    scene.nothing_is_lost_or_left();
}

fn delivery(place: &str) {
    let mut scene = Scene::new();
    scene.pause_at(place);
    let before = scene.receiver.all().len();
    let id = scene.server.start_backup(&scene.resource);
    scene.wait_and_kill(place);
    let job = scene.server.ended_backup(&id);
    scene.settle();
    let all = scene.receiver.all();
    let about: Vec<&Value> =
        all[before..].iter().filter(|m| text(m, "Message").contains(&id)).collect();
    let mut ids: Vec<&str> = about.iter().map(|m| text(m, "MessageId")).collect();
    let sent = ids.len();
    ids.sort_unstable();
    ids.dedup();
    // What was sent and not marked is sent again, under the same id: none is lost, and a receiver
    // can tell.
    assert!(sent > ids.len(), "nothing was sent twice: {about:#?}");
    let deliveries = scene.server.api().get(&format!("/provault/v1/deliveries?jobId={id}"));
    let mut recorded: Vec<&str> = deliveries["Deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|delivery| text(delivery, "DeliveryId"))
        .collect();
    recorded.sort_unstable();
    assert_eq!(ids, recorded, "{job}");
    // The backup went on while its start was being told: it was done, or went on after the start.
    assert_eq!(job["State"], "COMPLETED", "{job}");
    scene.holds.insert(text(&job, "RecoveryPointArn").to_owned(), 0);
    for first in &about {
        for other in about.iter().filter(|m| m["MessageId"] == first["MessageId"]) {
            assert_eq!(first["Message"], other["Message"]);
        }
    }
    scene.nothing_is_lost_or_left();
}

/// Whichever run of care comes there first, of those that are due and the one that is asked for.
fn care(place: &str) {
    let mut scene = Scene::new();
    scene.pause_at(place);
    let runs = format!("/provault/v1/vaults/{VAULT}/care-runs");
    let asked = json!({ "Operation": "CHECK", "ReadData": true });
    let answer = scene.server.api().call("POST", &runs, Some(&asked));
    assert!(answer.status < 300, "{}", answer.text);
    scene.wait_and_kill(place);
    until("the end of every run", || {
        let all = scene.server.api().get("/provault/v1/care-runs");
        let all = all["CareRuns"].as_array().unwrap().clone();
        let ended = |run: &Value| ["COMPLETED", "FAILED", "ABORTED"].contains(&text(run, "State"));
        (!all.is_empty() && all.iter().all(ended)).then_some(())
    });
    // Nothing holds the vault: it can be checked again, and is clean.
    let check = ["vault", "check", VAULT, "--read-data", "--watch"];
    let run = scene.server.program().json(&check);
    assert_eq!(run["Report"]["Clean"], true, "{run}");
    scene.nothing_is_lost_or_left();
}

/// Recovery points whose space is to be freed; enough for a sweep by several threads.
const GARBAGE: u64 = 5;
/// What later recovery points need of each, in bytes.
const KEPT: usize = 60_000;

fn prune(place: &str) {
    let mut scene = Scene::new();
    let before = scene.packs_size();
    scene.leave_garbage();
    scene.pause_at(place);
    let id = scene.server.start_care(&json!({ "Operation": "PRUNE" }));
    scene.wait_and_kill(place);
    scene.care_goes_on(&id);
    scene.nothing_is_lost_or_left();
    scene.prune_leaves_nothing();
    let kept = GARBAGE * KEPT as u64;
    let (now, slack) = (scene.packs_size(), 200_000);
    assert!(now < before + kept + slack, "{now} bytes, where {before} and {kept} are needed");
    Vault::of(&scene.server, VAULT).check();
    for (n, (point, source)) in scene.holds.iter().enumerate() {
        let target = scene.sandbox.path(&format!("pruned-{n}"));
        scene.server.restore(point, &target);
        scene.manifests[*source].assert_same(&Manifest::of(&target), "after the prune");
    }
}

/// A vault of which an index file is gone, and a pack is damaged that also holds what is whole.
fn repair(place: &str) {
    let mut scene = Scene::new();
    scene.change_source();
    // More than is in any other pack, so that this is the one that is damaged.
    fs::write(scene.source.join("more.bin"), Random(1).bytes(6_000_000)).unwrap();
    scene.manifests[1] = Manifest::of(&scene.source);
    let index = vault_files::directory(scene.server.data_dir(), VAULT).join("index");
    let first_index: Vec<_> = fs::read_dir(&index).unwrap().map(|e| e.unwrap().path()).collect();
    let first = scene.server.points().remove(0);
    let second = scene.server.back_up(&scene.resource);
    scene.holds.insert(second, 1);
    scene.settle();
    assert!(scene.server.stop().success());
    for file in first_index {
        fs::remove_file(file).unwrap();
    }
    let damaged = vault_files::flip_a_byte(scene.server.data_dir(), VAULT);
    scene.server.start_again_with(&Start::paused_at(place, &scene.arrived));
    let id = scene.server.start_care(&json!({ "Operation": "REPAIR", "ReadData": true }));
    scene.wait_and_kill(place);
    scene.care_goes_on(&id);
    // Of what was whole nothing is lost; what no index listed is back since the first step.
    let target = scene.sandbox.path("first");
    scene.server.restore(&first, &target);
    scene.manifests[0].assert_same(&Manifest::of(&target), "what was not damaged");
    // Whoever repairs again is told what only the source still has; a backup stores that again.
    let program = scene.server.program();
    let run = program.json_with(1, &["vault", "repair", VAULT, "--read-data", "--watch"]);
    assert_eq!(run["State"], "COMPLETED", "{run}");
    assert_eq!(run["Report"]["Figures"]["lostBlobs"], 1, "{run}");
    let third = scene.server.back_up(&scene.resource);
    scene.holds.insert(third, 1);
    let run = program.json(&["vault", "check", VAULT, "--read-data", "--watch"]);
    assert_eq!(run["Report"]["Clean"], true, "{run}");
    scene.nothing_is_lost_or_left();
    scene.prune_leaves_nothing();
    assert!(!damaged.exists(), "the damaged pack is still there");
    Vault::of(&scene.server, VAULT).check();
}

/// The same in the middle of a step: while the application of a copy runs in its isolation.
#[test]
fn killed_while_the_application_of_a_copy_runs() {
    let sandbox = Sandbox::new();
    let mut server = TestServer::start(&sandbox.path("server"));
    let source = sandbox.directory("source");
    fs::write(source.join("data"), "data\n").unwrap();
    // An application that never answers, so that the kill certainly comes while it runs.
    server.add(&json!({
        "Kind": "filesystem",
        "Name": "sleeper",
        "Config": { "path": source },
        "Service": { "Command": ["/bin/sh", "-c", "exec sleep 100"], "StartTimeoutSeconds": 100 },
        "Probes": [{ "Type": "Http", "Port": 8080, "Path": "/" }],
    }));
    let resource = server.api().get("/provault/v1/resources/sleeper");
    server.back_up(text(&resource, "ResourceArn"));
    let id = server.start_test("sleeper");
    let helpers = until("the application", || {
        let helpers = processes::below(server.pid());
        let runs = |pid: &i32| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\0"))
        };
        helpers.iter().any(runs).then_some(helpers)
    });
    server.kill9();
    until("the end of every helper", || {
        helpers.iter().all(|pid| !processes::is_alive(*pid)).then_some(())
    });
    server.start_again();
    // It is begun anew, with a copy of its own; the one of before is gone.
    until("the application again", || {
        let runs = |pid: &i32| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep\0"))
        };
        processes::below(server.pid()).iter().any(runs).then_some(())
    });
    assert_eq!(entries(&server.data_dir().join("restore-tests")), 1);
    server.api().post(&format!("/provault/v1/restore-tests/{id}/stop"), &json!({}));
    let test = server.ended_test(&id);
    assert_eq!(test["Verdict"], "INCONCLUSIVE", "{test:#}");
    assert_eq!(test["CleanedUp"], true, "{test:#}");
    assert_eq!(entries(&server.data_dir().join("restore-tests")), 0);
    let jobs = server.api().get("/restore-jobs/");
    let jobs = jobs["RestoreJobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 2, "{jobs:?}");
    for job in jobs {
        let job = server.api().get(&format!("/restore-jobs/{}", text(job, "RestoreJobId")));
        assert_eq!(job["Status"], "COMPLETED", "{job}");
        assert_eq!(job["DeletionStatus"], "SUCCESSFUL", "{job}");
    }
}

/// A vault that dies while it is made or removed, in a bucket and in a directory: what is left never
/// opens and lacks something, and is gone after the next start.
fn vault(place: &str) {
    let (store, sandbox) = (Store::start(), Sandbox::new());
    let directory = sandbox.path("vaults");
    for root in ["s3://bucket/site", directory.to_str().unwrap()] {
        let in_bucket = root.starts_with("s3:");
        if place == "remove:begun" && !in_bucket {
            // A directory is renamed first.
            continue;
        }
        let data_dir = sandbox.path(if in_bucket { "server" } else { "other-server" });
        let start = store.serve(root);
        let mut server = TestServer::start_with(&data_dir, &start);
        let left = || {
            let mut names = if in_bucket { store.objects("site") } else { Vec::new() };
            let there = fs::read_dir(&directory).into_iter().flatten();
            names.extend(there.map(|entry| entry.unwrap().file_name().into_string().unwrap()));
            names.retain(|name| !name.starts_with("Default-"));
            names
        };
        let making = place == "vault:made";
        let mut vault = None;
        if !making {
            server.api().put("/backup-vaults/late", &json!({}));
            server.program().run(0, &["vault", "backup-catalog", "late", "--watch"]);
            vault = Some(Vault::of(&server, "late").in_store(&store));
        }
        let arrived = sandbox.path(if in_bucket { "arrived" } else { "other-arrived" });
        let mut paused = Start::paused_at(place, &arrived);
        paused.args.extend(start.args.clone());
        paused.environment.extend(start.environment.clone());
        server.restart_with(&paused);
        let api = server.api().clone();
        let asked = thread::spawn(move || {
            let body = making.then(|| b"{}".as_slice());
            api.send(if making { "PUT" } else { "DELETE" }, "/backup-vaults/late", body)
        });
        until("the pause", || arrived.exists().then_some(()));
        server.kill9();
        assert!(asked.join().unwrap().is_err(), "nobody answered");
        assert!(!left().is_empty());
        if let Some(vault) = vault {
            assert_eq!(vault.opens(), place == "vault:deleted", "whole or nothing");
        }
        server.start_again_with(&start);
        assert_eq!(left(), Vec::<String>::new(), "{place}");
        let vaults = server.api().get("/backup-vaults/");
        assert_eq!(vaults["BackupVaultList"].as_array().unwrap().len(), 1, "{vaults}");
        // The name is free, and what is made under it stays.
        server.api().put("/backup-vaults/late", &json!({}));
        server.restart_with(&start);
        Vault::of(&server, "late").in_store(&store).check();
        Vault::of(&server, VAULT).in_store(&store).check();
    }
}

fn entries(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

//! Care of vaults by the command line, against a real server and stock restic.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::io::Write as _;

use provault_tests::restic::Vault;
use provault_tests::{
    Manifest, Random, Sandbox, Start, TestServer, encode, until, vault_files, write_tree,
};
use serde_json::{Value, json};

const INVALID: &str = "InvalidParameterValueException";
const UNKNOWN: &str = "ResourceNotFoundException";

fn point(server: &TestServer, arn: &str) -> Value {
    server.api().get(&format!("/backup-vaults/Default/recovery-points/{}", encode(arn)))
}

#[test]
fn a_check_names_what_is_hurt_and_a_forgotten_snapshot_is_noticed() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let source = sandbox.path("source");
    write_tree(&source);
    let resource = server.add_directory("source", &source);
    let first = server.back_up(&resource);
    fs::write(source.join("small.txt"), "changed").unwrap();
    let second = server.back_up(&resource);
    let program = server.program();
    let run = program.json(&["vault", "check", "Default", "--read-data", "--watch"]);
    assert_eq!(run["Report"]["Clean"], true, "{run}");
    let status = program.json(&["vault", "verify", "Default", "--status"]);
    let told = &status["Verification"];
    assert_eq!(told["VerifiedPacks"], told["Packs"], "all data was read: {status}");
    assert_ne!(told["Packs"], 0);

    // By restic, behind the server's back.
    Vault::of(&server, "Default").forget_oldest();
    let run = program.json_with(1, &["vault", "check", "Default", "--watch"]);
    assert_eq!(run["State"], "COMPLETED", "{run}");
    assert_eq!(run["Report"]["Hurt"][0]["RecoveryPointArn"], first.as_str(), "{run}");
    let shown = point(&server, &first);
    assert_eq!(shown["Status"], "PARTIAL", "{shown}");
    assert!(shown["StatusMessage"].as_str().unwrap().contains("MISSING"), "{shown}");
    let listed = program.run(0, &["recovery-points", "list"]);
    assert!(listed.stdout.contains("MISSING"), "still listed: {listed}");

    vault_files::flip_a_byte(server.data_dir(), "Default");
    let run = program.json_with(1, &["vault", "check", "Default", "--read-data", "--watch"]);
    let hurt = run["Report"]["Hurt"].as_array().unwrap();
    let hurt = hurt.iter().find(|hurt| hurt["RecoveryPointArn"] == second.as_str());
    let hurt = hurt.unwrap_or_else(|| panic!("{run}"));
    assert!(!hurt["Files"].as_array().unwrap().is_empty(), "{run}");
    assert!(point(&server, &second)["StatusMessage"].as_str().unwrap().contains("DAMAGED"));
    let failed = program.json_with(1, &["vault", "verify", "Default", "--status"]);
    assert_eq!(failed["Verification"]["DamagedPacks"], 1, "{failed}");
    let alarms = failed["Alarms"].as_array().unwrap();
    assert!(alarms.iter().any(|alarm| alarm["Alarm"] == "DAMAGED"), "{failed}");
    let test = server.test("source");
    assert_eq!(test["Verdict"], "FAILED", "{test}");
    let runs = program.json(&["vault", "runs", "Default"]);
    assert_eq!(runs["CareRuns"].as_array().unwrap().len(), 3, "{runs}");
}

#[test]
fn a_deleted_recovery_point_frees_space_when_the_vault_is_pruned() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let source = sandbox.path("source");
    write_tree(&source);
    let noise = Random(7).bytes(3_000_000);
    fs::write(source.join("noise"), &noise).unwrap();
    let resource = server.add_directory("source", &source);
    let first = server.back_up(&resource);
    fs::remove_file(source.join("noise")).unwrap();
    let kept = server.back_up(&resource);
    let program = server.program();
    let used = || vault_files::size(server.data_dir(), "Default");
    let full = used();

    let path = format!("/backup-vaults/Default/recovery-points/{}", encode(&first));
    assert_eq!(server.api().call("DELETE", &path, None).status, 200);
    let held = used();
    assert!(held + 65_536 > full, "only the snapshot is gone");
    let told = program.json(&["vault", "prune", "Default", "--dry-run", "--watch"]);
    let frees = told["Report"]["Figures"]["freedBytes"].as_u64().unwrap();
    assert!(frees >= noise.len() as u64 && told["DryRun"] == true, "{told}");
    assert_eq!(used(), held, "only told");
    let run = program.json(&["vault", "prune", "Default", "--watch"]);
    assert_eq!(run["State"], "COMPLETED", "{run}");
    // A prune keeps a reserve of a megabyte for a full disk; the rest is free.
    assert!(
        used() + noise.len() as u64 - (1 << 20) - 65_536 <= full,
        "{} of {full}: {run}",
        used()
    );
    let vault = Vault::of(&server, "Default");
    assert_eq!(vault.snapshots(), 1);
    vault.check();
    server.restore(&kept, &sandbox.path("out"));
    Manifest::of(&source).assert_same(&Manifest::of(&sandbox.path("out")), "after the prune");

    // Damage that nothing else has: named by the repair, mended by the next backup.
    vault_files::flip_a_byte(server.data_dir(), "Default");
    let run = program.json_with(1, &["vault", "repair", "Default", "--read-data", "--watch"]);
    assert_eq!(run["State"], "COMPLETED", "{run}");
    assert_ne!(run["Report"]["Figures"]["lostBlobs"], 0, "{run}");
    assert_eq!(run["Report"]["Hurt"][0]["RecoveryPointArn"], kept.as_str(), "{run}");
    server.back_up(&resource);
    let run = program.json(&["vault", "check", "Default", "--read-data", "--watch"]);
    assert_eq!(run["Report"]["Clean"], true, "{run}");
    assert_eq!(point(&server, &kept)["Status"], "COMPLETED");
    program.json(&["vault", "prune", "Default", "--watch"]);
    vault.check();
}

/// A server whose vault holds recovery points, and packs of others that were deleted.
struct Deleted {
    server: TestServer,
    kept: String,
    manifest: Manifest,
    /// What the packs take that are needed, in bytes.
    needed: u64,
    sandbox: Sandbox,
}

/// Deleted recovery points: more packs than are deleted at a time.
const DELETED: u64 = 6;
/// What is in each, in bytes.
const NOISE: usize = 300_000;

impl Deleted {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let server = TestServer::start(&sandbox.path("server"));
        let source = sandbox.path("source");
        write_tree(&source);
        let resource = server.add_directory("source", &source);
        server.back_up(&resource);
        let packs = vault_files::packs(server.data_dir(), "Default");
        let needed = packs.iter().map(|pack| fs::metadata(pack).unwrap().len()).sum();
        for n in 0..DELETED {
            fs::write(source.join("garbage"), Random(n).bytes(NOISE)).unwrap();
            let point = server.back_up(&resource);
            server.delete_point(&point);
        }
        fs::remove_file(source.join("garbage")).unwrap();
        let kept = server.back_up(&resource);
        let manifest = Manifest::of(&source);
        Self { server, kept, manifest, needed, sandbox }
    }

    fn packs_size(&self) -> u64 {
        let packs = vault_files::packs(self.server.data_dir(), "Default");
        packs.iter().map(|pack| fs::metadata(pack).unwrap().len()).sum()
    }

    /// The recovery point gives back what it holds, and stock restic finds no fault.
    fn is_whole(&self, when: &str) {
        let target = self.sandbox.path(&format!("restored {when}"));
        self.server.restore(&self.kept, &target);
        self.manifest.assert_same(&Manifest::of(&target), when);
        Vault::of(&self.server, "Default").check();
    }

    /// The next prune does what the one before it could not.
    fn prune_completes(&self) {
        let run = self.server.program().json(&["vault", "prune", "Default", "--watch"]);
        assert_eq!(run["State"], "COMPLETED", "{run}");
        // What was there before the points that were deleted, and little beside it.
        assert!(self.packs_size() < self.needed + 200_000, "{} bytes: {run}", self.packs_size());
        let run = self.server.program().json(&["vault", "check", "Default", "--watch"]);
        assert_eq!(run["Report"]["Figures"]["unreferencedPacks"], 0, "{run}");
        self.is_whole("after the next prune");
    }
}

#[test]
fn a_prune_beside_a_running_restic_is_postponed_and_says_for_whom() {
    let scene = Deleted::new();
    let program = scene.server.program();
    let vault = Vault::of(&scene.server, "Default");
    let locks = vault_files::directory(scene.server.data_dir(), "Default").join("locks");
    let full = scene.packs_size();
    let mut restic = vault.begin_backup();
    let _ = until("restic's lock", || fs::read_dir(&locks).ok()?.next());

    let told = program.json(&["vault", "prune", "Default", "--dry-run", "--watch"]);
    let process = format!("process {} of", restic.id());
    let says = |text: &Value| {
        let text = text.as_str().unwrap_or_else(|| panic!("{text}"));
        text.contains("other programs are at work") && text.contains(&process)
    };
    assert!(says(&told["Report"]["Summary"]), "{told}");
    let run = program.json_with(1, &["vault", "prune", "Default", "--watch"]);
    assert_eq!(run["State"], "FAILED", "{run}");
    assert!(says(&run["StatusMessage"]), "{run}");
    assert!(run["StatusMessage"].as_str().unwrap().contains("Prune again"), "{run}");
    assert!(scene.packs_size() >= full, "something went beside restic");
    // Whoever waits for the space is told, not only whoever asked.
    let alarms = || program.json(&["vault", "care", "Default"])["Alarms"].take();
    assert_eq!(alarms()[0]["Alarm"], "CARE_FAILED", "{}", alarms());
    // Backups and restores go on beside it.
    let target = scene.sandbox.path("beside");
    scene.server.restore(&scene.kept, &target);

    let mut input = restic.stdin.take().unwrap();
    input.write_all(b"what restic backs up").unwrap();
    drop(input);
    assert!(until("restic's end", || restic.try_wait().unwrap()).success());
    assert_eq!(vault.snapshots(), 3, "restic's own is there");
    scene.prune_completes();
    assert_eq!(vault.snapshots(), 3, "restic's own is still there");
    assert_eq!(alarms(), json!([]));
}

/// Stops a prune in the middle, by the API or the command line.
fn stopped_at(place: &str, by_api: bool) {
    let mut scene = Deleted::new();
    let (arrived, go_on) = (scene.sandbox.path("arrived"), scene.sandbox.path("go-on"));
    scene.server.restart_with(&Start::held_at(place, &arrived, &go_on));
    let server = &scene.server;
    let id = server.start_care(&json!({ "Operation": "PRUNE" }));
    until(place, || fs::read_to_string(&arrived).ok().filter(|text| text == place));
    assert_eq!(server.care_now(&id)["State"], "RUNNING");
    if by_api {
        server.api().post(&format!("/provault/v1/care-runs/{id}/stop"), &json!({}));
    } else {
        let told = server.program().run(0, &["vault", "stop-run", &id]);
        assert!(told.stderr.contains("to stop") || told.stdout.contains("to stop"), "{told}");
    }
    // It has not ended before it has noticed.
    assert_eq!(server.care_now(&id)["State"], "RUNNING");
    fs::write(&go_on, "").unwrap();
    let run = server.ended_care(&id);
    assert_eq!(run["State"], "ABORTED", "{run}");
    assert!(run["StatusMessage"].as_str().is_some_and(|text| !text.is_empty()), "{run}");
    assert_eq!(run["Report"], Value::Null, "nothing is said to be done: {run}");
    // Nor is it said to be an alarm: it was asked for.
    let care = server.api().get("/provault/v1/vaults/Default/care");
    assert_eq!(care["Alarms"], json!([]));
    let again = server.api().call("POST", &format!("/provault/v1/care-runs/{id}/stop"), None);
    assert!(again.status >= 400, "{}", again.text);
    scene.is_whole("after the stop");
    scene.prune_completes();
}

#[test]
fn a_prune_that_is_stopped_before_its_work_is_aborted() {
    stopped_at("care:started", true);
}

#[test]
fn a_prune_that_is_stopped_before_the_index_is_switched_is_aborted() {
    stopped_at("retire:marked", false);
}

#[test]
fn a_prune_that_is_stopped_after_the_index_is_switched_is_aborted() {
    stopped_at("retire:named", true);
}

#[test]
fn a_prune_that_is_stopped_in_its_sweep_is_aborted() {
    stopped_at("prune:sweeping", false);
}

#[test]
fn bad_input_changes_nothing() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let api = server.api();
    let before = api.get("/provault/v1/vaults/Default/care");
    let refuse = |method: &str, path: &str, body: Value, error: &str| {
        let answer = api.call(method, &format!("/provault/v1{path}"), Some(&body));
        assert_eq!(answer.error(), error, "{method} {path} {body}: {}", answer.text);
    };
    let runs = "/vaults/Default/care-runs";
    refuse("POST", runs, json!({ "Operation": "POLISH" }), INVALID);
    refuse("POST", runs, json!({ "Operation": "CHECK", "DryRun": true }), INVALID);
    refuse("POST", runs, json!({ "Operation": "VERIFY", "ReadData": true }), INVALID);
    refuse("POST", runs, json!({ "Operation": "PRUNE", "ReadData": true }), INVALID);
    refuse("POST", runs, json!({ "Operation": "PRUNE", "FromVault": "Default" }), INVALID);
    let repair = |from: &str| json!({ "Operation": "REPAIR", "FromVault": from });
    refuse("POST", runs, json!({ "Operation": "REPAIR", "DryRun": true }), INVALID);
    refuse("POST", runs, repair("Default"), INVALID);
    refuse("POST", runs, repair("nowhere"), UNKNOWN);
    refuse("POST", runs, json!({}), "MissingParameterValueException");
    refuse("POST", "/vaults/nowhere/care-runs", json!({ "Operation": "CHECK" }), UNKNOWN);
    refuse("POST", "/care-runs/none/stop", json!({}), UNKNOWN);
    let care = "/vaults/Default/care";
    refuse("POST", care, json!({ "VerifyWithinDays": 4000 }), INVALID);
    refuse("POST", care, json!({ "VerifyMaxBytesPerSecond": 0 }), INVALID);
    refuse("POST", care, json!({ "PruneEveryDays": 4000 }), INVALID);
    let import = "/vaults/adopted/import";
    let at = |location: &str| json!({ "Location": location, "Password": "x" });
    refuse("POST", import, at("relative"), INVALID);
    refuse("POST", import, at("/a/../b"), INVALID);
    refuse("POST", import, at("/nowhere/at/all"), "InvalidRequestException");
    refuse("POST", import, json!({ "Location": "/x", "Password": "" }), INVALID);
    refuse("POST", "/recovery-kit", json!({ "Passphrase": "short" }), INVALID);
    assert_eq!(api.get("/provault/v1/vaults/Default/care"), before);
    assert_eq!(api.get("/provault/v1/care-runs")["CareRuns"], json!([]));
    let vaults = api.get("/backup-vaults/");
    assert_eq!(vaults["BackupVaultList"].as_array().unwrap().len(), 1, "{vaults}");
}

#[test]
fn settings_are_shown_as_they_were_set() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let program = server.program();
    let set = program.json(&[
        "vault",
        "care",
        "Default",
        "--prune-every-days",
        "0",
        "--verify-within-days",
        "14",
    ]);
    assert_eq!(set["PruneEveryDays"], 0);
    assert_eq!(set["VerifyWithinDays"], 14);
    assert_eq!(set["CheckEveryDays"], 7, "what was not given stays: {set}");
    assert_eq!(program.json(&["vault", "care", "Default"]), set);
    let shown = program.run(0, &["vault", "show", "Default"]).stdout;
    assert!(shown.contains("never by itself") && shown.contains("within 14 days"), "{shown}");
}

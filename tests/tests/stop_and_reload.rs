//! A server that is stopped while it works, told to read its settings again, and looked over before an
//! upgrade.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use provault_tests::restic::Vault;
use provault_tests::{Manifest, Program, Sandbox, Start, TestServer, VAULT, until, write_tree};
use serde_json::{Value, json};

/// A server that waits at a place of a job until it is let go on.
struct Held {
    server: TestServer,
    arrived: PathBuf,
    go_on: PathBuf,
    sandbox: Sandbox,
    source: PathBuf,
    resource: String,
}

impl Held {
    /// With one recovery point of a tree.
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let server = TestServer::start(&sandbox.path("server"));
        let source = sandbox.path("source");
        write_tree(&source);
        let resource = server.add_directory("source", &source);
        server.back_up(&resource);
        let (arrived, go_on) = (sandbox.path("arrived"), sandbox.path("go-on"));
        Self { server, arrived, go_on, sandbox, source, resource }
    }

    fn at(&mut self, place: &str, args: &[&str]) {
        let mut start = Start::held_at(place, &self.arrived, &self.go_on);
        start.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self.server.restart_with(&start);
    }

    fn waits_at(&self, place: &str) {
        until(place, || fs::read_to_string(&self.arrived).ok().filter(|text| text == place));
    }

    /// Stops the server while the job waits, and starts it again.
    fn stopped_and_started(&mut self) {
        self.is_told_to_stop();
        fs::write(&self.go_on, "").unwrap();
        let status = self.server.ends();
        assert!(status.success(), "{status}");
        self.server.start_again();
    }

    /// Until it says so: of two signals that come before that the second may be none of its own.
    fn is_told_to_stop(&self) {
        let said = || self.server.log_tail().matches("stopping:").count();
        let before = said();
        self.server.signal(Signal::SIGTERM);
        until("stopping:", || (said() > before).then_some(()));
    }

    fn says(&self, text: &str) {
        until(text, || self.server.log_tail().contains(text).then_some(()));
    }

    fn was_interrupted(&self, id: &str) {
        let log = self.server.api().get(&format!("/provault/v1/jobs/{id}/log")).to_string();
        assert!(log.contains("suspended: The server was stopped while it ran"), "{log}");
    }
}

#[test]
fn a_backup_goes_on_after_a_stop_under_the_same_id() {
    for place in ["backup:started", "backup:captured", "backup:read"] {
        let mut held = Held::new();
        fs::write(held.source.join("added.bin"), vec![42; 1_234_567]).unwrap();
        held.at(place, &[]);
        let id = held.server.start_backup(&held.resource);
        held.waits_at(place);
        held.stopped_and_started();
        let job = held.server.ended_backup(&id);
        assert_eq!(job["State"], "COMPLETED", "{place}: {job}");
        held.was_interrupted(&id);
        let points = held.server.points();
        assert_eq!(points.len(), 2, "{place}");
        let target = held.sandbox.path("restored");
        let point = job["RecoveryPointArn"].as_str().unwrap();
        held.server.restore(point, &target);
        Manifest::of(&held.source).assert_same(&Manifest::of(&target), place);
        Vault::of(&held.server, VAULT).check();
    }
}

#[test]
fn a_restore_a_restore_test_and_care_go_on_after_a_stop() {
    let mut held = Held::new();
    let point = held.server.points().remove(0);

    held.at("restore:started", &[]);
    let target = held.sandbox.path("restored");
    let id = held.server.start_restore(&point, &target);
    held.waits_at("restore:started");
    held.stopped_and_started();
    assert_eq!(held.server.ended_restore(&id)["Status"], "COMPLETED");
    Manifest::of(&held.source).assert_same(&Manifest::of(&target), "the restored copy");
    held.was_interrupted(&id);

    fs::remove_file(&held.go_on).unwrap();
    held.at("test:copying", &[]);
    let id = held.server.start_test("source");
    held.waits_at("test:copying");
    held.stopped_and_started();
    let test = held.server.ended_test(&id);
    assert_eq!(test["Verdict"], "PASSED", "{test:#}");
    held.was_interrupted(&id);

    fs::remove_file(&held.go_on).unwrap();
    held.at("care:started", &[]);
    let id = held.server.start_care(&json!({ "Operation": "CHECK", "ReadData": true }));
    held.waits_at("care:started");
    held.stopped_and_started();
    let run = held.server.ended_care(&id);
    assert_eq!(
        (&run["State"], &run["Report"]["Clean"]),
        (&json!("COMPLETED"), &json!(true)),
        "{run}"
    );
    held.was_interrupted(&id);
}

#[test]
fn a_second_sigterm_ends_the_server_at_once() {
    let mut held = Held::new();
    held.at("backup:captured", &[]);
    let id = held.server.start_backup(&held.resource);
    held.waits_at("backup:captured");
    held.is_told_to_stop();
    // The job is never let go on.
    held.server.signal(Signal::SIGTERM);
    assert_eq!(held.server.ends().code(), Some(128 + 15));
    held.server.start_again();
    assert_eq!(held.server.ended_backup(&id)["State"], "COMPLETED");
    Vault::of(&held.server, VAULT).check();
}

#[test]
fn settings_are_read_again_while_a_backup_runs() {
    let mut held = Held::new();
    let config = held.sandbox.path("provault.toml");
    fs::write(&config, "log-level = \"info\"\n").unwrap();
    held.at("backup:captured", &["--config", config.to_str().unwrap(), "--connections=4"]);
    let id = held.server.start_backup(&held.resource);
    held.waits_at("backup:captured");
    let program = held.server.program();
    let missing = || {
        let answer = held.server.api().call("GET", "/backup-vaults/none", None);
        answer.error().to_owned()
    };
    assert_eq!(missing(), "AccessDeniedException");

    let elsewhere = held.sandbox.path("elsewhere");
    let text = format!(
        "missing-vault-not-found = true\nlog-level = \"debug\"\nstorage-timeout = 30\n\
         connections = 2\nvault-storage = {elsewhere:?}\n"
    );
    fs::write(&config, text).unwrap();
    let reloaded = program.json(&["reload"]);
    let now = json!(["log-level", "missing-vault-not-found", "vault-storage"]);
    assert_eq!(reloaded["Changed"], now, "the command line's connections win: {reloaded}");
    assert_eq!(reloaded["NeedsRestart"], json!(["storage-timeout"]), "{reloaded}");
    assert_eq!(missing(), "ResourceNotFoundException");
    program.run(0, &["vault", "create", "second"]);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1, "a new vault lies there");
    let inside = json!({
        "Kind": "filesystem", "Name": "inside", "Config": { "path": elsewhere },
    });
    let refused = held.server.api().call("POST", "/provault/v1/resources", Some(&inside));
    assert_eq!(refused.error(), "InvalidParameterValueException", "{refused:?}");

    // One that is wrong changes nothing, whoever asks.
    fs::write(&config, "missing-vault-not-found = false\nconections = 3\n").unwrap();
    let told = program.run(1, &["reload"]);
    assert!(told.stderr.contains("conections"), "{told}");
    assert_eq!(metric(&held.server), 1);
    held.server.signal(Signal::SIGHUP);
    held.says("the settings were not read again");
    assert_eq!(missing(), "ResourceNotFoundException");
    let audit = program.json(&["audit"]).to_string();
    assert!(audit.contains("provault:ReloadSettings") && audit.contains("failed"), "{audit}");

    fs::write(&config, "missing-vault-not-found = false\n").unwrap();
    held.server.signal(Signal::SIGHUP);
    until("the settings", || (missing() == "AccessDeniedException").then_some(()));
    until("the metric", || (metric(&held.server) == 0).then_some(()));

    // All the while the backup has waited, and nothing has hurt it.
    let job = held.server.api().get(&format!("/backup-jobs/{id}"));
    assert_eq!(job["State"], "RUNNING", "{job}");
    fs::write(&held.go_on, "").unwrap();
    assert_eq!(held.server.ended_backup(&id)["State"], "COMPLETED");
}

/// Whether the last reload failed, as monitoring sees it.
fn metric(server: &TestServer) -> u8 {
    let token = fs::read_to_string(server.data_dir().join("metrics-token")).unwrap();
    let answer = ureq::get(format!("{}/provault/v1/metrics", server.endpoint()))
        .header("authorization", format!("Bearer {}", token.trim()))
        .call();
    let text = answer.unwrap().into_body().read_to_string().unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("provault_settings_reload_failed "));
    line.unwrap_or_else(|| panic!("no such metric: {text}")).trim().parse().unwrap()
}

fn finding<'a>(report: &'a Value, check: &str) -> &'a Value {
    let all = report["Findings"].as_array().unwrap();
    let found = all.iter().find(|finding| finding["Check"] == check);
    found.unwrap_or_else(|| panic!("no {check}: {report:#}"))
}

#[test]
fn an_upgrade_is_checked_without_a_server_and_without_a_change() {
    let mut held = Held::new();
    let program = held.server.program();
    let beside = program.json(&["upgrade-check"]);
    assert_eq!(beside["CanBeUpgraded"], true, "{beside:#}");
    assert_eq!(finding(&beside, "server")["State"], "NOTE", "it runs: {beside:#}");
    assert_eq!(finding(&beside, "catalog")["State"], "OK", "{beside:#}");
    assert_eq!(finding(&beside, &format!("vault {VAULT}"))["State"], "OK", "{beside:#}");
    assert!(held.server.stop().success());

    let catalog = held.server.data_dir().join("catalog.db");
    let before = fs::read(&catalog).unwrap();
    let config = held.sandbox.path("provault.toml");
    fs::write(&config, "listen = \"127.0.0.1:0\"\n").unwrap();
    let config = config.to_str().unwrap();
    let well = program.json(&["upgrade-check", "--config", config]);
    assert_eq!(finding(&well, "server")["State"], "OK", "{well:#}");
    assert_eq!(finding(&well, "settings")["State"], "OK", "{well:#}");
    fs::write(config, "lisen = \"127.0.0.1:0\"\n").unwrap();
    let wrong = program.json_with(1, &["upgrade-check", "--config", config]);
    assert_eq!(wrong["CanBeUpgraded"], false, "{wrong:#}");
    assert_eq!(finding(&wrong, "settings")["State"], "FAILED", "{wrong:#}");
    assert_eq!(fs::read(&catalog).unwrap(), before);

    damage(&catalog);
    let hurt = program.json_with(1, &["upgrade-check"]);
    assert_eq!(finding(&hurt, "catalog")["State"], "FAILED", "{hurt:#}");
    fs::write(&catalog, before).unwrap();
    held.server.start_again();
    assert_eq!(held.server.points().len(), 1);

    let nowhere = held.sandbox.directory("nowhere");
    let none = Program::of(&nowhere).json_with(1, &["upgrade-check"]);
    assert_eq!(finding(&none, "catalog")["State"], "FAILED", "{none:#}");
    assert_eq!(fs::read_dir(&nowhere).unwrap().count(), 0);
}

/// Overwrites the pages in the middle of a database.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let (from, to) = (4096, bytes.len() / 2);
    bytes[from..to].fill(0xff);
    fs::write(file, bytes).unwrap();
}

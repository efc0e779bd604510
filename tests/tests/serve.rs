//! `provault serve`: what a start makes, what the next one finds, what is refused, how it ends.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use provault_tests::{
    ACCOUNT, DEFAULT_ROLE, Finished, Manifest, REGION, Sandbox, Start, TestServer, until,
};
use serde_json::Value;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Everything a client can see of the records that a start makes.
fn records(server: &TestServer) -> Value {
    let api = server.api();
    serde_json::json!([
        api.get("/backup-vaults/"),
        api.get("/provault/v1/roles"),
        api.get("/provault/v1/keys"),
        api.get("/provault/v1/resources"),
        fs::read_to_string(server.data_dir().join("credentials")).unwrap(),
    ])
}

#[test]
fn the_first_start_makes_everything_and_the_next_one_finds_it() {
    let sandbox = Sandbox::new();
    // The directory above does not exist either.
    let mut server = {
        fs::create_dir(sandbox.path("a")).unwrap();
        TestServer::start(&sandbox.path("a/server"))
    };
    let credentials = server.data_dir().join("credentials");
    assert_eq!(mode(&credentials), 0o600);
    assert_eq!(mode(server.data_dir()), 0o700);
    let text = fs::read_to_string(&credentials).unwrap();
    assert!(text.starts_with("[default]\n"), "the form of an AWS credentials file");
    assert!(text.contains("aws_access_key_id") && text.contains("aws_secret_access_key"));
    let first = records(&server);
    let vaults = first[0]["BackupVaultList"].as_array().unwrap();
    assert_eq!(vaults.len(), 1);
    assert_eq!(vaults[0]["BackupVaultName"], "Default");
    let arn = format!("arn:aws:backup:{REGION}:{ACCOUNT}:backup-vault:Default");
    assert_eq!(vaults[0]["BackupVaultArn"], arn);
    assert_eq!(first[1]["Items"][0]["Arn"], DEFAULT_ROLE);
    assert_eq!(vaults[0]["EncryptionKeyArn"], first[2]["Items"][0]["Arn"]);

    assert!(server.stop().success());
    server.start_again();
    assert_eq!(records(&server), first);
    server.kill9();
    server.start_again();
    assert_eq!(records(&server), first);
}

#[test]
fn account_and_region_are_the_first_starts() {
    let sandbox = Sandbox::new();
    let options = |account: &str, region: &str| Start {
        args: ["--account-id", account, "--region", region].map(str::to_owned).to_vec(),
        environment: Vec::new(),
    };
    let given = options("210987654321", "ap-southeast-2");
    let mut server = TestServer::start_with(&sandbox.path("server"), &given);
    let vaults = server.api().get("/backup-vaults/");
    let arn = "arn:aws:backup:ap-southeast-2:210987654321:backup-vault:Default";
    assert_eq!(vaults["BackupVaultList"][0]["BackupVaultArn"], arn);
    server.restart_with(&Start::default());
    assert_eq!(server.api().get("/backup-vaults/"), vaults);
    assert!(server.stop().success());
    for (account, region, option) in [
        ("123456789012", "ap-southeast-2", "--account-id"),
        ("210987654321", "us-east-1", "--region"),
    ] {
        let mut command = TestServer::command(server.data_dir());
        command.args(options(account, region).args);
        let refused = Finished::of(&mut command, "");
        assert_eq!(refused.code, Some(1), "{refused}");
        assert!(refused.stderr.contains(option), "{refused}");
    }
    server.start_again();
    assert_eq!(server.api().get("/backup-vaults/"), vaults);
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let before = records(&server);
    let announced = fs::read_to_string(server.data_dir().join("server.json")).unwrap();
    let refused = Finished::of(&mut TestServer::command(server.data_dir()), "");
    assert_eq!(refused.code, Some(1), "{refused}");
    assert!(refused.stderr.contains("another server runs on"), "{refused}");
    assert!(refused.stderr.contains("--data-dir"), "it says what to do: {refused}");
    assert_eq!(fs::read_to_string(server.data_dir().join("server.json")).unwrap(), announced);
    assert_eq!(records(&server), before, "the first one goes on");
}

#[test]
fn addresses_off_loopback_are_refused() {
    let sandbox = Sandbox::new();
    for address in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
        let data_dir = sandbox.path("server");
        let mut command = provault_tests::Program::bare(&["serve", "--listen", address]);
        command.arg("--data-dir").arg(&data_dir);
        let refused = Finished::of(&mut command, "");
        assert_ne!(refused.code, Some(0), "{refused}");
        assert!(refused.stderr.contains("loopback"), "{refused}");
        assert!(refused.stderr.contains("--tls-generate"), "it says what to do: {refused}");
        assert!(!data_dir.join("server.json").exists());
    }
}

#[test]
fn a_lost_credentials_file_is_written_again_with_the_same_key() {
    let sandbox = Sandbox::new();
    let mut server = TestServer::start(&sandbox.path("server"));
    let credentials = server.data_dir().join("credentials");
    let before = fs::read_to_string(&credentials).unwrap();
    assert!(server.stop().success());
    fs::remove_file(&credentials).unwrap();
    server.start_again();
    assert_eq!(fs::read_to_string(&credentials).unwrap(), before);
    assert_eq!(mode(&credentials), 0o600);
    server.api().get("/backup-vaults/");
}

#[test]
fn credentials_of_another_catalog_lock_nobody_out() {
    let sandbox = Sandbox::new();
    let mut server = TestServer::start(&sandbox.path("server"));
    let credentials = server.data_dir().join("credentials");
    let before = fs::read_to_string(&credentials).unwrap();
    assert!(server.stop().success());
    for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = fs::remove_file(server.data_dir().join(file));
    }
    server.start_again();
    server.api().get("/backup-vaults/");
    assert_ne!(fs::read_to_string(&credentials).unwrap(), before);
    assert_eq!(mode(&credentials), 0o600);
    let kept = server.data_dir().join("credentials.old");
    assert_eq!(fs::read_to_string(&kept).unwrap(), before);
}

/// Programs read the log: each line is an object with a time, a level and a message, and no secret.
#[test]
fn every_line_of_the_log_is_json_without_secrets() {
    let sandbox = Sandbox::new();
    let mut server = TestServer::start(&sandbox.path("server"));
    let source = sandbox.directory("source");
    fs::write(source.join("file"), "worth it\n").unwrap();
    let resource = server.add_directory("source", &source);
    let point = server.back_up(&resource);
    let test = server.api().call(
        "POST",
        "/provault/v1/restore-tests",
        Some(&serde_json::json!({ "RecoveryPointArn": point })),
    );
    assert_eq!(test.status, 200, "{test:?}");
    until("the verdict", || server.log_tail().contains("\"verdict\":\"PASSED\"").then_some(()));
    // One that fails, for what is said of errors.
    fs::remove_dir_all(&source).unwrap();
    let job = server.ended_backup(&server.start_backup(&resource));
    assert_eq!(job["State"], "FAILED", "{job:#}");
    let credentials = fs::read_to_string(server.data_dir().join("credentials")).unwrap();
    let secret = credentials.lines().find_map(|line| line.split_once("aws_secret_access_key"));
    let secret = secret.unwrap().1.trim_start_matches([' ', '=']);
    assert!(secret.len() > 20, "a secret");
    let token = fs::read_to_string(server.data_dir().join("metrics-token")).unwrap();
    assert!(server.stop().success());
    let log = server.log_tail();
    assert!(log.lines().count() > 3, "{log}");
    for line in log.lines() {
        let said: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        said["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        assert!(["ERROR", "WARN", "INFO"].contains(&said["level"].as_str().unwrap()), "{line}");
        assert!(!said["fields"]["message"].as_str().unwrap().is_empty(), "{line}");
        assert!(!line.contains(secret) && !line.contains(token.trim()), "{line}");
    }
    for (level, told) in [("INFO", "backup job completed: "), ("WARN", "backup job failed: ")] {
        let is_told = |line: &str| line.contains(told) && line.contains(level);
        assert!(log.lines().any(is_told), "{told} is not told:\n{log}");
    }
}

#[test]
fn a_job_that_sigterm_interrupts_goes_on_with_the_next_start() {
    let sandbox = Sandbox::new();
    let mut server = TestServer::start(&sandbox.path("server"));
    let source = sandbox.directory("source");
    for n in 0..100_u8 {
        // Different from each other and in themselves, so that all of it has to be stored.
        let mut state = u32::from(n) + 1;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_le_bytes()[3]
        })
        .take(1 << 20)
        .collect();
        fs::write(source.join(n.to_string()), noise).unwrap();
    }
    let resource = server.add_directory("source", &source);
    let id = server.start_backup(&resource);
    until("the job to run", || {
        let job = server.api().get(&format!("/backup-jobs/{id}"));
        (job["State"] == "RUNNING").then_some(())
    });
    assert!(server.stop().success(), "{}", server.log_tail());
    server.start_again();
    let job = server.ended_backup(&id);
    assert_eq!(job["State"], "COMPLETED", "{job}");
    let log = server.api().get(&format!("/provault/v1/jobs/{id}/log")).to_string();
    assert!(log.contains("The server was stopped while it ran"), "{log}");
    let points = server.points();
    assert_eq!(points.len(), 1);
    let target = sandbox.path("restored");
    server.restore(&points[0], &target);
    Manifest::of(&source).assert_same(&Manifest::of(&target), "what the interrupted job stored");
    provault_tests::restic::Vault::of(&server, "Default").check();
}

#[test]
fn a_missing_vault_may_be_answered_in_the_other_way() {
    let sandbox = Sandbox::new();
    let mut server = TestServer::start(&sandbox.path("server"));
    let missing = |server: &TestServer| {
        let answer = server.api().call("GET", "/backup-vaults/none", None);
        (answer.status, answer.error().to_owned())
    };
    assert_eq!(missing(&server), (403, "AccessDeniedException".to_owned()));
    let args = vec!["--missing-vault-not-found".to_owned()];
    server.restart_with(&Start { args, environment: Vec::new() });
    assert_eq!(missing(&server), (400, "ResourceNotFoundException".to_owned()));
}

/// Webhook addresses, environments of services, paths: nobody else's business.
#[test]
fn nobody_else_can_read_what_the_server_keeps() {
    let sandbox = Sandbox::new();
    // Made by somebody before, and open.
    let data_dir = sandbox.directory("server");
    fs::set_permissions(&data_dir, fs::Permissions::from_mode(0o755)).unwrap();
    let server = TestServer::start(&data_dir);
    let source = sandbox.directory("source");
    fs::write(source.join("file"), "content").unwrap();
    server.back_up(&server.add_directory("source", &source));
    let open: Vec<_> = fs::read_dir(&data_dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o077 != 0)
        .collect();
    assert!(open.is_empty(), "open to others: {open:?}");
}

#[test]
fn the_data_directory_is_nobodys_resource_and_strangers_in_it_stay() {
    let sandbox = Sandbox::new();
    let holder = sandbox.directory("holder");
    let mut server = TestServer::start(&holder.join("server"));
    let inside = server.data_dir().join("vaults");
    let body = serde_json::json!({
        "Kind": "filesystem", "Name": "inside", "Config": { "path": inside },
    });
    let refused = server.api().call("POST", "/provault/v1/resources", Some(&body));
    assert_eq!(refused.error(), "InvalidParameterValueException", "{refused:?}");
    assert!(refused.text.contains("data directory"), "{refused:?}");
    // A directory that holds it among other things is protected without it.
    fs::write(holder.join("mine.txt"), "mine").unwrap();
    let resource = server.add_directory("holder", &holder);
    let point = server.back_up(&resource);
    let target = sandbox.path("restored");
    server.restore(&point, &target);
    assert_eq!(fs::read_to_string(target.join("mine.txt")).unwrap(), "mine");
    assert!(!target.join("server/credentials").exists());
    assert!(!target.join("server/catalog.db").exists());

    // What somebody put among the vaults is not the server's to delete.
    let stranger = inside.join("archive-0123abcd");
    fs::create_dir(&stranger).unwrap();
    fs::write(stranger.join("precious"), "precious").unwrap();
    fs::create_dir(inside.join("lost+found")).unwrap();
    for _ in 0..2 {
        assert!(server.stop().success());
        server.start_again();
    }
    assert_eq!(fs::read_to_string(stranger.join("precious")).unwrap(), "precious");
    assert!(inside.join("lost+found").is_dir());
}

/// What is planted for tests never comes near anybody's backups, and a debug build says what it is.
#[cfg(debug_assertions)]
#[test]
fn a_debug_build_says_so_and_a_planted_bug_is_not_served() {
    let sandbox = Sandbox::new();
    let data_dir = sandbox.path("server");
    let mut command = TestServer::command(&data_dir);
    command.env("PROVAULT_PLANTED_BUG", "no-sync");
    let refused = Finished::of(&mut command, "it was just there").expect(1);
    assert!(refused.stderr.contains("PROVAULT_PLANTED_BUG=no-sync is set"), "{refused}");
    assert!(!data_dir.exists(), "a refusal changes nothing");
    // A misspelled bug is no reason to start either.
    let mut command = TestServer::command(&data_dir);
    command.env("PROVAULT_PLANTED_BUG", "no-such-bug");
    let _ = Finished::of(&mut command, "it was just there").expect(1);

    let environment =
        [("PROVAULT_PLANTED_BUG", "no-sync"), ("PROVAULT_TEST_SERVES_PLANTED_BUG", "1")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
    let insisting = Start { environment, ..Start::default() };
    let server = TestServer::start_with(&data_dir, &insisting);
    assert!(server.log_tail().contains("debug build"), "{}", server.log_tail());
}

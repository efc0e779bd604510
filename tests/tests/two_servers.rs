//! Two servers by mistake on one catalog in PostgreSQL: the second is refused, and one that was frozen while
//! another took its place does nothing more.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::path::Path;
use std::{fs, process};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use provault_testkit::PostgresServer;
use provault_tests::{Finished, Sandbox, Start, TestServer, until, write_tree};

const SESSIONS: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                        WHERE application_name LIKE 'provault%'";

fn catalog(url: &str, vaults: &Path) -> Start {
    let args = ["--vault-storage", vaults.to_str().unwrap()].map(str::to_owned).to_vec();
    let environment = vec![("PROVAULT_CATALOG".to_owned(), url.to_owned())];
    Start { args, environment }
}

/// The same server on another machine, by mistake: a copy of its data directory.
fn copied(from: &Path, to: &Path) {
    let status = process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

#[test]
fn only_one_server_works_at_any_time() {
    let postgres = PostgresServer::start().unwrap_or_else(|error| panic!("{error}"));
    let url = postgres.create_database().unwrap();
    let sandbox = Sandbox::new();
    let vaults = sandbox.directory("vaults");
    let start = catalog(&url, &vaults);
    let (first_dir, second_dir) = (sandbox.path("first"), sandbox.path("second"));
    let mut first = TestServer::start_with(&first_dir, &start);
    let source = sandbox.path("source");
    write_tree(&source);
    let path = source.to_str().unwrap();
    let cli = first.program();
    cli.run(0, &["resource", "add", "filesystem", path, "--name", "source"]);
    let backup = ["backup", "source", "--vault", "Default", "--keep", "7d", "--json"];
    cli.run(0, &[&backup[..], &["--watch"]].concat());
    assert!(!first_dir.join("catalog.db").exists());
    copied(&first_dir, &second_dir);

    // Beside the first there is no second.
    let mut command = TestServer::command(&second_dir);
    command.args(&start.args).envs(start.environment.iter().cloned());
    let refused = Finished::of(&mut command, "it was just there").expect(1);
    assert!(refused.stderr.contains("another server uses this catalog"), "{refused}");

    // The first freezes in the middle of a backup, long enough to be taken for dead.
    let (paused, go_on) = (sandbox.path("paused"), sandbox.path("go-on"));
    let mut held = Start::held_at("backup:read", &paused, &go_on);
    held.args.extend(start.args.clone());
    held.environment.extend(start.environment.clone());
    first.restart_with(&held);
    let job: serde_json::Value = first.program().json(&backup[..backup.len() - 1]);
    let id = job["BackupJobId"].as_str().unwrap().to_owned();
    until("the backup", || paused.exists().then_some(()));
    let pid = Pid::from_raw(first.pid());
    kill(pid, Signal::SIGSTOP).unwrap();
    let mut second = until("the catalog to be free", || {
        postgres.psql("postgres", SESSIONS).unwrap();
        let mut command = TestServer::command(&second_dir);
        command.args(&start.args).envs(start.environment.iter().cloned());
        // A start that is refused ends by itself; one that is not is ended for the real one.
        let _ = fs::remove_file(second_dir.join("server.json"));
        let mut child = command.stderr(process::Stdio::null()).spawn().unwrap();
        let started = until("a start", || {
            if child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            second_dir.join("server.json").exists().then_some(true)
        });
        if started {
            child.kill().unwrap();
        }
        child.wait().unwrap();
        started.then(|| TestServer::start_with(&second_dir, &start))
    });
    let state = |server: &TestServer| server.program().json(&["jobs", "show", &id]);
    let ended = until("the job's end by the second", || {
        let job = state(&second);
        ["COMPLETED", "FAILED", "ABORTED"].contains(&job["State"].as_str()?).then_some(job)
    });

    // It wakes, is refused what it still writes, and ends.
    fs::write(&go_on, "").unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    let status = first.ended();
    assert_eq!(status.code(), Some(1), "{status}\n{}", first.log_tail());
    assert!(
        first.log_tail().contains("another server has taken the catalog"),
        "{}",
        first.log_tail()
    );
    assert_eq!(state(&second)["State"], ended["State"]);
    let points = second.program().json(&["recovery-points", "list", "--vault", "Default"]);
    let expected = if ended["State"] == "COMPLETED" { 2 } else { 1 };
    assert_eq!(points["RecoveryPoints"].as_array().unwrap().len(), expected, "{points}");
    assert!(second.stop().success());
}

#[test]
fn a_password_is_no_argument() {
    let sandbox = Sandbox::new();
    let mut command = TestServer::command(&sandbox.path("server"));
    command.args(["--catalog", "postgres://provault:hush@127.0.0.1:1/provault"]);
    let refused = Finished::of(&mut command, "it was just there").expect(2);
    assert!(refused.stderr.contains("PROVAULT_CATALOG"), "{refused}");
    assert!(!refused.stderr.contains("hush"), "{refused}");
    let mut command = TestServer::command(&sandbox.path("server"));
    command.args(["--catalog", "mysql://127.0.0.1/provault"]);
    assert!(
        Finished::of(&mut command, "it was just there").expect(2).stderr.contains("postgres://")
    );
}

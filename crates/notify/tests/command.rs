//! Commands that take the message, fail, hang and leave others behind.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use std::fs;
use std::path::Path;
use std::time::Duration;

use provault_domain::SubscriptionTarget;
use provault_notify::{
    DEFAULT_TIME_LIMIT, DeliveryContext, DeliveryError, Message, Receipt, deliver,
};

fn context() -> DeliveryContext {
    DeliveryContext {
        delivery_id: "delivery-1".to_owned(),
        topic_arn: "arn:aws:sns:us-east-1:111122223333:alerts".parse().unwrap(),
        at: "2026-08-02T18:46:02.788Z".parse().unwrap(),
        now: "2026-08-02T19:00:00Z".parse().unwrap(),
        subscription_id: "sub-1".to_owned(),
        account: "111122223333".parse().unwrap(),
        time_limit: DEFAULT_TIME_LIMIT,
    }
}

fn message() -> Message {
    Message {
        subject: "Notification from AWS Backup".to_owned(),
        text: "An AWS Backup job failed.".to_owned(),
        attributes: [
            ("EventType".to_owned(), "BACKUP_JOB".to_owned()),
            ("State".to_owned(), "FAILED".to_owned()),
        ]
        .into(),
    }
}

/// Runs a script of the shell with one argument.
fn run(script: &str, argument: &Path, context: &DeliveryContext) -> Result<Receipt, DeliveryError> {
    let words = ["/bin/sh", "-c", script, "sh", argument.to_str().unwrap()];
    let command = words.iter().map(|word| (*word).to_owned()).collect();
    deliver(&SubscriptionTarget::Command { command }, None, &message(), context)
}

#[test]
fn the_command_reads_the_envelope_in_a_clean_environment() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let script = "cat > $1/stdin && env > $1/env && pwd > $1/pwd && echo paged";
    let receipt = run(script, root, &context()).unwrap();
    assert!(receipt.detail.contains("exit status: 0 (\"paged\")"), "{}", receipt.detail);
    let envelope: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(root.join("stdin")).unwrap()).unwrap();
    assert_eq!(envelope["Type"], "Notification");
    assert_eq!(envelope["MessageId"], "delivery-1");
    assert_eq!(envelope["Message"], "An AWS Backup job failed.");
    assert_eq!(envelope["MessageAttributes"]["State"]["Value"], "FAILED");
    let env = fs::read_to_string(root.join("env")).unwrap();
    for line in [
        "PROVAULT_DELIVERY_ID=delivery-1",
        "PROVAULT_TOPIC_ARN=arn:aws:sns:us-east-1:111122223333:alerts",
        "PROVAULT_EVENT_TYPE=BACKUP_JOB",
        "PROVAULT_STATE=FAILED",
        "LANG=C.UTF-8",
    ] {
        assert!(env.lines().any(|l| l == line), "{line} is not in {env}");
    }
    // Set for this test by cargo, and no business of a command.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert!(!env.contains("CARGO") && !env.contains("HOME"), "{env}");
    assert_eq!(fs::read_to_string(root.join("pwd")).unwrap(), "/\n");
}

#[test]
fn a_command_that_fails_is_tried_again_and_quoted() {
    let nowhere = Path::new("/");
    let error = run("echo out; echo err >&2; exit 3", nowhere, &context()).unwrap_err();
    assert!(error.retryable && error.message.contains("exit status: 3"), "{error}");
    assert!(error.message.contains("(\"out err\")"), "{error}");
    let error = run("kill -TERM $$", nowhere, &context()).unwrap_err();
    assert!(error.retryable && error.message.contains("signal: 15"), "{error}");
    let missing = SubscriptionTarget::Command { command: vec!["/no/such/program".to_owned()] };
    let error = deliver(&missing, None, &message(), &context()).unwrap_err();
    assert!(error.retryable && error.message.contains("cannot be started"), "{error}");
}

#[test]
fn a_command_need_not_read_and_may_say_more_than_is_kept() {
    let script = "exec 0<&-; head -c 10000000 /dev/zero | tr '\\0' x";
    let receipt = run(script, Path::new("/"), &context()).unwrap();
    assert!(receipt.detail.ends_with("xxx\")") && receipt.detail.len() < 400, "{receipt:?}");
}

/// Whether the process is gone or only its number is left.
fn is_gone(pid: &str) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(") ").next().unwrap().starts_with('Z'),
        Err(_) => true,
    }
}

fn wait_until_gone(pid: &str) {
    while !is_gone(pid) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_command_that_hangs_is_killed_with_all_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    // Both would outlive every patience, and neither ends at a friendly word.
    let script = "trap '' TERM; sleep 1000 & echo $$ $! > $1; wait; sleep 1000";
    // Its length decides nothing, as long as the shell gets to write the file.
    let hurried = DeliveryContext { time_limit: Duration::from_secs(2), ..context() };
    let error = run(script, &pids, &hurried).unwrap_err();
    assert!(error.retryable && error.message.contains("within 2000 ms"), "{error}");
    let pids = fs::read_to_string(&pids).unwrap();
    assert_eq!(pids.split_whitespace().count(), 2, "{pids}");
    pids.split_whitespace().for_each(wait_until_gone);
}

#[test]
fn what_a_command_leaves_behind_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    // The child holds the output open; it is not waited for.
    let receipt = run("sleep 1000 & echo $! > $1; echo done", &pid, &context()).unwrap();
    assert!(receipt.detail.contains("(\"done\")"), "{receipt:?}");
    wait_until_gone(fs::read_to_string(&pid).unwrap().trim());
}

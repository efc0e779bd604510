//! Restore tests after backups.

use serde_json::json;

use super::commands::{refused, run};
use super::server::{Server, error, ok};
use crate::exit::Exit;

const PLAN: &str = "7c1b2a5e-0000-4000-8000-000000000001";
const SELECTION: &str = "7c1b2a5e-0000-4000-8000-000000000002";

fn server() -> Server {
    let of_plan = format!("/provault/v1/backup-plans/{PLAN}/testing");
    let of_selection = format!("/provault/v1/backup-plans/{PLAN}/selections/{SELECTION}/testing");
    Server::start(move |request| {
        let list = "/backup/plans";
        let line = request.line();
        match line.split_once(' ') {
            Some(("GET", path)) if path.starts_with(&format!("{list}/{PLAN}/selections")) => {
                ok(&json!({ "BackupSelectionsList": [
                    { "SelectionName": "all", "SelectionId": SELECTION },
                ] }))
            }
            Some(("GET", path)) if path.starts_with(list) => ok(&json!({ "BackupPlansList": [
                { "BackupPlanName": "nightly", "BackupPlanId": PLAN },
            ] })),
            Some(("GET", path)) if path == of_plan || path == of_selection => ok(&json!({})),
            Some(("PUT", path)) if path == of_plan || path.ends_with("/docs/testing") => {
                let mut said = request.json();
                said["ChangeDate"] = json!(1_700_000_000);
                ok(&said)
            }
            Some(("DELETE", path)) if path == of_selection => ok(&json!({})),
            _ => error(404, "ResourceNotFoundException", &line),
        }
    })
}

#[test]
fn a_plan_says_that_its_backups_are_tested_at_night() {
    let server = server();
    let words = "plan testing nightly --on --share 25% --between 22:00-04:00 \
                 --timezone Europe/Berlin --at-once 2";
    let ran = run(&server, &words.split_whitespace().collect::<Vec<_>>());
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    for text in ["on", "25 %", "22:00-04:00 Europe/Berlin", "2023-11-14"] {
        assert!(ran.out.contains(text), "{text}: {}", ran.out);
    }
    assert_eq!(
        server.requests().last().unwrap().json(),
        json!({ "TestAfterBackup": true, "SharePercent": 25, "TestsAtOnce": 2,
            "Window": { "From": "22:00", "To": "04:00", "Timezone": "Europe/Berlin" } })
    );
    let ran = run(&server, &["plan", "testing", "nightly"]);
    assert!(ran.out.contains("not said"), "{}{}", ran.out, ran.err);
}

#[test]
fn a_resource_says_no_and_a_selection_nothing() {
    let server = server();
    let ran = run(&server, &["resource", "testing", "docs", "--off"]);
    assert!(ran.out.contains("off"), "{}{}", ran.out, ran.err);
    assert_eq!(server.requests()[0].json(), json!({ "TestAfterBackup": false }));
    let ran = run(&server, &["selection", "testing", "nightly", "all", "--unset"]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert!(ran.out.contains("says nothing"), "{}", ran.out);
}

#[test]
fn budgets_without_tests_are_not_asked_for() {
    for (words, names) in [
        ("--share 25%", "--on"),
        ("--off --share 25%", "--share"),
        ("--unset --at-once 2", "--at-once"),
        ("--on --off", "--off"),
        ("--on --share 0%", "--share"),
        ("--on --share x", "--share"),
        ("--on --timezone Europe/Berlin", "--between"),
        ("--on --between 22:00", "--between"),
    ] {
        let mut line = vec!["plan", "testing", "nightly"];
        line.extend(words.split(' '));
        let refusal = refused(&line);
        assert!(refusal.contains(names), "{words}: {refusal}");
    }
}

#[test]
fn a_validator_reports_by_the_test_or_by_its_restore_job() {
    let server = Server::start(|request| match request.line().as_str() {
        "GET /provault/v1/restore-tests/t1" => ok(&json!({
            "RestoreTestId": "t1", "ResourceArn": "arn", "ResourceName": "docs",
            "State": "VALIDATING", "RestoreJobId": "j1", "Probes": [], "Mutants": [],
            "MutantsCached": false, "Steps": [], "CreationDate": 1_700_000_000,
            "Validation": { "CopyPath": "/d/copy", "UntilDate": 1_700_003_600,
                "Status": "VALIDATING" },
        })),
        "PUT /restore-jobs/j1/validations" => ok(&json!({})),
        line => error(404, "ResourceNotFoundException", line),
    });
    let ran = run(&server, &["restore-test", "show", "t1"]);
    assert!(ran.out.contains("/d/copy until 2023-11-14"), "{}{}", ran.out, ran.err);
    for id in ["t1", "j1"] {
        let line = ["restore-test", "validate", id, "--failed", "--message", "no rows"];
        let ran = run(&server, &line);
        assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
        assert!(ran.out.contains("FAILED about restore job j1"), "{}", ran.out);
        assert_eq!(
            server.requests().last().unwrap().json(),
            json!({ "ValidationStatus": "FAILED", "ValidationStatusMessage": "no rows" })
        );
    }
    let ran = run(&server, &["restore-test", "validate", "t2", "--successful"]);
    assert_eq!(ran.exit, Exit::Failed);
    for line in ["t1", "t1 --successful --failed"] {
        let mut words = vec!["restore-test", "validate"];
        words.extend(line.split(' '));
        assert!(refused(&words).contains("--successful"), "{line}");
    }
    let line = "restore-testing-selection create weekly all --validation-window 90m";
    assert!(refused(&line.split(' ').collect::<Vec<_>>()).contains("hours"));
}

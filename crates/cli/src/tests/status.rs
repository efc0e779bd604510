//! `status`, by its exit codes.

use serde_json::{Value, json};

use super::commands::{FS, run};
use super::server::{Server, ok};
use crate::exit::Exit;

#[test]
fn the_status_is_an_exit_code_for_monitoring() {
    let resource = |name: &str, protection: &str, troubles: Value| json!({ "ResourceArn": FS, "Name": name, "Protection": protection, "Troubles": troubles });
    let well = json!({ "Time": 0, "Well": true, "Alarms": [],
        "Resources": [resource("docs", "PROTECTED", json!([]))] });
    let ill = json!({ "Time": 0, "Well": false,
        "Alarms": [{ "BackupVaultName": "main", "Alarm": "UNREACHABLE", "Since": 0, "Message": "gone" }],
        "Resources": [
            resource("docs", "PROTECTED", json!([])),
            resource("mail", "OVERDUE", json!([{ "Kind": "OVERDUE", "Reason": "it has not come." }])),
        ] });
    let server = Server::script(vec![ok(&well), ok(&ill), ok(&ill), ok(&ill)]);
    let ran = run(&server, &["status"]);
    assert_eq!(ran.exit, Exit::Done);
    assert!(ran.out.contains("docs") && ran.err.is_empty(), "{}{}", ran.out, ran.err);
    let ran = run(&server, &["status"]);
    assert_eq!(ran.exit, Exit::Failed);
    for wanted in ["docs", "mail", "OVERDUE", "it has not come.", "UNREACHABLE", "gone"] {
        assert!(ran.out.contains(wanted), "{wanted}: {}", ran.out);
    }
    assert!(ran.err.contains("1 resource of 2") && ran.err.contains("1 alarm"), "{}", ran.err);
    let ran = run(&server, &["status", "--troubles"]);
    assert!(!ran.out.contains("docs") && ran.out.contains("mail"), "{}", ran.out);
    let ran = run(&server, &["status", "--json"]);
    assert_eq!((ran.json(), ran.exit), (ill, Exit::Failed));
    assert_eq!(server.lines()[0], "GET /provault/v1/status");
}

#[test]
fn doctor_fails_only_on_what_has_failed() {
    let health = |state: &str| {
        json!({ "State": state, "Findings": [
            { "Check": "disk", "State": state, "Detail": "7 MiB are free" },
        ] })
    };
    let states = ["OK", "WARNING", "FAILED"];
    let server = Server::script(states.iter().map(|state| ok(&health(state))).collect());
    for (state, exit) in states.iter().zip([Exit::Done, Exit::Done, Exit::Failed]) {
        let ran = run(&server, &["doctor"]);
        assert_eq!(ran.exit, exit, "{state}");
        assert!(ran.out.contains(state) && ran.out.contains("7 MiB"), "{}", ran.out);
    }
}

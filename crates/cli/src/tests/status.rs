//! `status`, by its exit codes.

use clap::Parser as _;
use serde_json::{Value, json};

use super::commands::{Cli, FS, Ran, run, with_context};
use super::server::{REGION, Server, ok};
use crate::commands::Context;
use crate::exit::Exit;

/// Runs a command line where the server is known to have further regions.
fn run_in_regions(server: &Server, line: &[&str], further: &[&str]) -> Ran {
    let cli = Cli::try_parse_from([&["provault"], line].concat()).unwrap_or_else(|e| panic!("{e}"));
    with_context(server, cli.options.json, None, None, |context| {
        let client = context.client.clone().with_further_regions(further);
        cli.command.run(&Context { client: &client, ..*context })
    })
}

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

/// What is wrong in a further region is as wrong as in the first one.
#[test]
fn all_regions_of_the_server_are_asked() {
    let well = json!({ "Time": 0, "Well": true, "Alarms": [], "Resources": [
        { "ResourceArn": FS, "Name": "docs", "Protection": "PROTECTED", "Troubles": [] },
    ] });
    let ill = json!({ "Time": 0, "Well": false, "Alarms": [], "Resources": [
        { "ResourceArn": FS, "Name": "docs", "Protection": "OVERDUE",
          "Troubles": [{ "Kind": "OVERDUE", "Reason": "it has not come." }] },
    ] });
    let server =
        Server::script(vec![ok(&well), ok(&ill), ok(&ill), ok(&well), ok(&well), ok(&well)]);
    let far = ["eu-test-2"];
    let ran = run_in_regions(&server, &["status"], &far);
    assert_eq!(ran.exit, Exit::Failed);
    for wanted in ["eu-test-1: Resources", "PROTECTED", "eu-test-2: Resources", "OVERDUE"] {
        assert!(ran.out.contains(wanted), "{wanted}: {}", ran.out);
    }
    assert!(ran.err.contains("eu-test-2: not well") && !ran.err.contains(REGION), "{}", ran.err);
    let ran = run_in_regions(&server, &["status", "--json"], &far);
    let all = json!({ "Well": false, "Regions": { REGION: ill, "eu-test-2": well } });
    assert_eq!((ran.json(), ran.exit), (all, Exit::Failed));
    let ran = run_in_regions(&server, &["status"], &far);
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Done, ""));
    assert_eq!(server.regions(), [REGION, "eu-test-2"].repeat(3));

    let health = |state: &str| {
        json!({ "State": state, "Findings": [
        { "Check": "disk", "State": state, "Detail": "7 MiB are free" } ] })
    };
    for (states, worst, exit) in [
        (["OK", "FAILED"], "FAILED", Exit::Failed),
        (["FAILED", "OK"], "FAILED", Exit::Failed),
        (["WARNING", "OK"], "WARNING", Exit::Done),
        (["OK", "OK"], "OK", Exit::Done),
    ] {
        let server = Server::script(states.iter().map(|state| ok(&health(state))).collect());
        let ran = run_in_regions(&server, &["doctor", "--json"], &far);
        assert_eq!((ran.json()["State"].as_str(), ran.exit), (Some(worst), exit), "{states:?}");
        assert_eq!(ran.json()["Regions"]["eu-test-2"]["State"], states[1]);
    }
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

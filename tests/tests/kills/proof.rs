//! Restore tests.

use std::path::Path;

use jiff::Timestamp;
use provault_tests::kill::{Begin, Left, Seen, Stage, Work};
use provault_tests::{TestServer, VAULT, until};
use serde_json::json;

use crate::{ask, in_catalog, just_missed, protected, settled, text};

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

/// Lets the source be tested by a plan of which an occurrence was missed; gives the moment before that.
fn tested_by_plan(server: &TestServer, more: &[&str]) -> Timestamp {
    let (cron, earlier) = just_missed();
    let program = server.program();
    let plan = ["restore-testing-plan", "create", "daily", "--vault", VAULT];
    program.run(0, &[&plan[..], &["--schedule", &cron]].concat());
    let select = ["restore-testing-selection", "create", "daily", "one", "--resource", "source"];
    program.run(0, &[&select[..], more].concat());
    earlier
}

/// As if the server had been off when the restore testing plan was due.
fn missed_a_test(data_dir: &Path, earlier: Timestamp) {
    in_catalog(data_dir, async |catalog| {
        for (plan, mark) in catalog.all_restore_testing_plans().await.unwrap() {
            let moved = catalog.advance_restore_testing(&plan.arn, mark, earlier, &[]).await;
            assert!(moved.unwrap());
        }
    });
}

#[test]
fn report_of_a_validator_outside() {
    let mut restore = String::new();
    let stage = Stage::new(|server, stage| {
        protected(server, stage);
        let earlier = tested_by_plan(server, &["--validation-window", "1h"]);
        assert!(server.stop().success(), "{}", server.log_tail());
        missed_a_test(server.data_dir(), earlier);
        server.start_again();
        restore = until("somebody who is asked", || {
            let seen = Seen::of(server.api())?;
            let asked = seen.tests.iter().any(|test| test["State"] == "VALIDATING");
            asked.then(|| text(&seen.restores[0], "RestoreJobId").to_owned())
        });
        settled(server);
        Left::InOrder
    });
    let path = format!("/restore-jobs/{restore}/validations");
    let said = json!({ "ValidationStatus": "SUCCESSFUL", "ValidationStatusMessage": "12 rows" });
    stage.kill_at_every_commit(&Work {
        name: "report of a validator outside",
        least: 3,
        begin: Begin::AskedAgain(&|api| ask(api, "PUT", &path, &said)),
        check: &|server, _| {
            let restore = server.api().get(&format!("/restore-jobs/{restore}"));
            assert_eq!(restore["ValidationStatus"], "SUCCESSFUL", "{restore:#}");
            assert_eq!(restore["DeletionStatus"], "SUCCESSFUL", "{restore:#}");
        },
    });
}

#[test]
fn occurrence_of_a_restore_testing_plan() {
    let mut earlier = Timestamp::UNIX_EPOCH;
    let stage = Stage::new(|server, stage| {
        protected(server, stage);
        earlier = tested_by_plan(server, &[]);
        Left::InOrder
    });
    missed_a_test(&stage.template(), earlier);
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

//! Restore testing selections of volumes.
// An unwrap that fails is how a test fails.
#![allow(clippy::unwrap_used)]

use provault_tests::{DEFAULT_ROLE, Sandbox, TestServer};
use serde_json::{Value, json};

#[test]
fn metadata_of_volumes_may_be_overridden_as_far_as_a_test_does_not_set_it() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let plan = json!({ "RestoreTestingPlan": {
        "RestoreTestingPlanName": "weekly",
        "ScheduleExpression": "cron(0 5 ? * SUN *)",
        "RecoveryPointSelection": {
            "Algorithm": "LATEST_WITHIN_WINDOW",
            "IncludeVaults": ["*"],
            "RecoveryPointTypes": ["SNAPSHOT"],
        },
    } });
    let made = server.api().call("PUT", "/restore-testing/plans", Some(&plan));
    assert_eq!(made.status, 201, "{made:?}");
    let selection = |name: &str, overrides: Value| {
        let body = json!({ "RestoreTestingSelection": {
            "RestoreTestingSelectionName": name,
            "ProtectedResourceType": "EBS",
            "IamRoleArn": DEFAULT_ROLE,
            "ProtectedResourceArns": ["*"],
            "RestoreMetadataOverrides": overrides,
        } });
        server.api().call("PUT", "/restore-testing/plans/weekly/selections", Some(&body))
    };
    let taken = selection("taken", json!({ "encrypted": "false" }));
    assert_eq!(taken.status, 201, "{taken:?}");
    for (name, key, value) in [
        ("type", "volumeType", "gp3"),
        ("device", "overwriteDevice", "true"),
        ("id", "volumeId", "vol-01234567"),
    ] {
        let refused = selection(name, json!({ key: value }));
        assert_eq!(refused.status, 400, "{refused:?}");
        let context = refused.json()["Context"].to_string();
        assert!(context.contains(key), "{refused:?}");
    }
}

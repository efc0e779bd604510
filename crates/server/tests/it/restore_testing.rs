//! Restore testing plans and selections, and results from outside.

use std::path::Path;

use provault_app::Settings;
use provault_domain::plan::add_minutes;
use provault_domain::{Arn, PlannedTest};
use serde_json::{Value, json};

use crate::support::{ROLE, World, segment, text};

const INVALID: &str = "InvalidParameterValueException";
const MISSING: &str = "MissingParameterValueException";
const NOT_FOUND: &str = "ResourceNotFoundException";
const EXISTS: &str = "AlreadyExistsException";
const PLANS: &str = "/restore-testing/plans";
const NO_JOB: &str = "/restore-jobs/00000000-0000-0000-0000-000000000000/validations";

fn plan(name: &str) -> Value {
    json!({ "RestoreTestingPlan": {
        "RestoreTestingPlanName": name,
        "ScheduleExpression": "cron(0 5 ? * SUN *)",
        "RecoveryPointSelection": {
            "Algorithm": "LATEST_WITHIN_WINDOW",
            "IncludeVaults": ["*"],
            "RecoveryPointTypes": ["SNAPSHOT"],
        },
    } })
}

fn selection(name: &str) -> Value {
    json!({ "RestoreTestingSelection": {
        "RestoreTestingSelectionName": name,
        "ProtectedResourceType": "EFS",
        "IamRoleArn": ROLE,
        "ProtectedResourceArns": ["*"],
    } })
}

/// A request that has to be answered with this status; its output.
async fn answered(world: &World, status: u16, method: &str, target: &str, body: Value) -> Value {
    let reply = world.call(method, target, &body).await;
    assert_eq!(reply.status, status, "{method} {target}: {reply:?}");
    reply.body
}

#[tokio::test]
async fn a_plan_is_made_changed_listed_and_deleted() {
    let world = World::new().await;
    let mut body = plan("weekly");
    body["Tags"] = json!({ "env": "lab" });
    let made = answered(&world, 201, "PUT", PLANS, body).await;
    assert_eq!(made["RestoreTestingPlanName"], "weekly");
    assert!(made["CreationTime"].is_number(), "{made}");
    let arn = text(&made, "RestoreTestingPlanArn");
    let start = "arn:aws:backup:us-east-1:123456789012:restore-testing-plan:weekly-";
    assert!(arn.starts_with(start), "{arn}");
    let target = format!("{PLANS}/weekly");
    let got = world.ok("GET", &target, Value::Null).await;
    let got = &got["RestoreTestingPlan"];
    assert_eq!(got["RestoreTestingPlanArn"], arn.as_str());
    assert_eq!(got["StartWindowHours"], 24);
    assert_eq!(got["ScheduleExpressionTimezone"], "Etc/UTC");
    assert_eq!(
        got["RecoveryPointSelection"],
        json!({ "Algorithm": "LATEST_WITHIN_WINDOW", "IncludeVaults": ["*"], "ExcludeVaults": [],
            "RecoveryPointTypes": ["SNAPSHOT"], "SelectionWindowDays": 30 })
    );
    assert!(got.get("LastUpdateTime").is_none(), "{got}");

    // What is given replaces; the rest stays.
    let change = json!({ "RestoreTestingPlan": {
        "StartWindowHours": 48,
        "RecoveryPointSelection": { "Algorithm": "RANDOM_WITHIN_WINDOW" },
    } });
    let updated = world.ok("PUT", &target, change).await;
    assert_eq!(updated["RestoreTestingPlanArn"], arn.as_str());
    assert!(updated["UpdateTime"].is_number(), "{updated}");
    let got = world.ok("GET", &target, Value::Null).await;
    let got = &got["RestoreTestingPlan"];
    assert_eq!(got["StartWindowHours"], 48);
    assert_eq!(got["ScheduleExpression"], "cron(0 5 ? * SUN *)");
    assert_eq!(got["RecoveryPointSelection"]["Algorithm"], "RANDOM_WITHIN_WINDOW");
    assert_eq!(got["RecoveryPointSelection"]["IncludeVaults"], json!(["*"]));

    // Tags, as on any plan.
    let tags = format!("/tags/{}", segment(&arn));
    assert_eq!(world.ok("GET", &tags, Value::Null).await["Tags"], json!({ "env": "lab" }));
    world.ok("POST", &tags, json!({ "Tags": { "more": "1" } })).await;

    // Pages.
    for name in ["daily", "monthly"] {
        answered(&world, 201, "PUT", PLANS, plan(name)).await;
    }
    let mut names = Vec::new();
    let mut next = String::new();
    loop {
        let target = format!("{PLANS}?MaxResults=2{next}");
        let page = world.ok("GET", &target, Value::Null).await;
        let plans = page["RestoreTestingPlans"].as_array().unwrap();
        names.extend(plans.iter().map(|plan| text(plan, "RestoreTestingPlanName")));
        let Some(token) = page["NextToken"].as_str() else { break };
        next = format!("&NextToken={}", segment(token));
    }
    assert_eq!(names, ["weekly", "daily", "monthly"]);
    let forged = format!("{PLANS}?NextToken=forged");
    world.refused("GET", &forged, Value::Null, INVALID).await;

    // Held by its selections; gone is gone, and deleting it again is no error.
    let selections = format!("{target}/selections");
    answered(&world, 201, "PUT", &selections, selection("all")).await;
    world.refused("DELETE", &target, Value::Null, "InvalidRequestException").await;
    let one = format!("{selections}/all");
    answered(&world, 204, "DELETE", &one, Value::Null).await;
    world.refused("DELETE", &one, Value::Null, NOT_FOUND).await;
    answered(&world, 204, "DELETE", &target, Value::Null).await;
    answered(&world, 204, "DELETE", &target, Value::Null).await;
    world.refused("GET", &target, Value::Null, NOT_FOUND).await;
    world.refused("GET", &tags, Value::Null, NOT_FOUND).await;
}

#[tokio::test]
async fn a_repeated_request_makes_one_and_a_taken_name_is_refused() {
    let world = World::new().await;
    let with_token = |mut body: Value, token: &str| {
        body["CreatorRequestId"] = json!(token);
        body
    };
    let first = answered(&world, 201, "PUT", PLANS, with_token(plan("weekly"), "one")).await;
    let again = answered(&world, 201, "PUT", PLANS, with_token(plan("weekly"), "one")).await;
    assert_eq!(first, again);
    let reply = world.refused("PUT", PLANS, plan("weekly"), EXISTS).await;
    assert_eq!(reply.body["Arn"], first["RestoreTestingPlanArn"], "{reply:?}");
    assert_eq!(reply.body["CreatorRequestId"], "one", "{reply:?}");
    world.refused("PUT", PLANS, with_token(plan("other"), "one"), EXISTS).await;
    world.refused("PUT", PLANS, with_token(plan("other"), "not allowed!"), INVALID).await;

    let target = format!("{PLANS}/weekly/selections");
    let body = with_token(selection("all"), "two");
    let first = answered(&world, 201, "PUT", &target, body.clone()).await;
    assert_eq!(answered(&world, 201, "PUT", &target, body).await, first);
    world.refused("PUT", &target, selection("all"), EXISTS).await;
    world.refused("PUT", &target, with_token(selection("other"), "two"), EXISTS).await;
}

#[tokio::test]
async fn plans_that_could_not_be_honoured_are_refused_by_the_member() {
    let world = World::new().await;
    answered(&world, 201, "PUT", PLANS, plan("weekly")).await;
    let update = format!("{PLANS}/weekly");
    let of_points =
        |member: &str, value: Value| ("RecoveryPointSelection", member.to_owned(), value);
    let own = |member: &'static str, value: Value| (member, String::new(), value);
    for (member, inner, value) in [
        own("ScheduleExpression", json!("rate(1 day)")),
        own("ScheduleExpression", json!("cron(0/30 * ? * * *)")),
        own("ScheduleExpression", json!("cron(0 5 30 2 ? *)")),
        own("ScheduleExpressionTimezone", json!("Mars/Olympus")),
        own("StartWindowHours", json!(0)),
        own("StartWindowHours", json!(169)),
        of_points("Algorithm", json!("OLDEST")),
        of_points("IncludeVaults", json!([])),
        of_points("IncludeVaults", json!(["Default"])),
        of_points("ExcludeVaults", json!(["Default"])),
        of_points("RecoveryPointTypes", json!([])),
        of_points("RecoveryPointTypes", json!(["CONTINUOUS"])),
        of_points("RecoveryPointTypes", json!(["FILM"])),
        of_points("SelectionWindowDays", json!(0)),
        of_points("SelectionWindowDays", json!(366)),
    ] {
        let mut body = plan("another");
        let mut change = json!({ "RestoreTestingPlan": {} });
        let mut wanted = member.to_owned();
        for document in [&mut body, &mut change] {
            let place = &mut document["RestoreTestingPlan"][member];
            if inner.is_empty() {
                *place = value.clone();
            } else {
                place[&inner] = value.clone();
            }
        }
        if !inner.is_empty() {
            wanted = inner.clone();
        }
        for (target, body) in [(PLANS, body), (update.as_str(), change)] {
            let reply = world.refused("PUT", target, body, INVALID).await;
            assert!(reply.message().contains(&wanted), "{wanted} {value}: {reply:?}");
        }
    }
    for name in ["with-dash", "a b", "", &"x".repeat(51)] {
        world.refused("PUT", PLANS, plan(name), INVALID).await;
    }
    for member in ["RestoreTestingPlanName", "ScheduleExpression", "RecoveryPointSelection"] {
        let mut body = plan("another");
        body["RestoreTestingPlan"].as_object_mut().unwrap().remove(member);
        world.refused("PUT", PLANS, body, MISSING).await;
    }
    for member in ["Algorithm", "IncludeVaults", "RecoveryPointTypes"] {
        let mut body = plan("another");
        let points = &mut body["RestoreTestingPlan"]["RecoveryPointSelection"];
        points.as_object_mut().unwrap().remove(member);
        let reply = world.refused("PUT", PLANS, body, MISSING).await;
        assert!(reply.message().contains(member), "{reply:?}");
    }
    let missing = format!("{PLANS}/none");
    let change = json!({ "RestoreTestingPlan": { "StartWindowHours": 2 } });
    world.refused("PUT", &missing, change, NOT_FOUND).await;
}

#[tokio::test]
async fn a_selection_is_made_changed_and_listed() {
    let world = World::new().await;
    let resource = world.resource("docs").await;
    answered(&world, 201, "PUT", PLANS, plan("weekly")).await;
    let target = format!("{PLANS}/weekly/selections");
    let mut body = selection("tagged");
    body["RestoreTestingSelection"]["ProtectedResourceConditions"] = json!({
        "StringEquals": [{ "Key": "aws:ResourceTag/env", "Value": "prod" }],
    });
    body["RestoreTestingSelection"]["RestoreMetadataOverrides"] = json!({ "Encrypted": "false" });
    let made = answered(&world, 201, "PUT", &target, body).await;
    assert_eq!(made["RestoreTestingSelectionName"], "tagged");
    assert_eq!(made["RestoreTestingPlanName"], "weekly");
    let one = format!("{target}/tagged");
    let got = world.ok("GET", &one, Value::Null).await;
    let got = &got["RestoreTestingSelection"];
    assert_eq!(got["IamRoleArn"], ROLE);
    assert_eq!(got["ProtectedResourceType"], "EFS");
    assert_eq!(got["ProtectedResourceArns"], json!(["*"]));
    assert_eq!(got["ValidationWindowHours"], 0);
    assert_eq!(got["RestoreMetadataOverrides"], json!({ "Encrypted": "false" }));
    let condition = &got["ProtectedResourceConditions"]["StringEquals"][0];
    assert_eq!(*condition, json!({ "Key": "aws:ResourceTag/env", "Value": "prod" }));

    let change = json!({ "RestoreTestingSelection": {
        "ProtectedResourceArns": [resource], "ProtectedResourceConditions": {},
    } });
    let updated = world.ok("PUT", &one, change).await;
    assert!(updated["UpdateTime"].is_number(), "{updated}");
    let got = world.ok("GET", &one, Value::Null).await;
    let got = &got["RestoreTestingSelection"];
    assert_eq!(got["ProtectedResourceArns"], json!([resource]));
    assert_eq!(got["ProtectedResourceConditions"]["StringEquals"], json!([]));
    assert_eq!(got["RestoreMetadataOverrides"], json!({ "Encrypted": "false" }), "it stays");

    for change in [json!({ "ValidationWindowHours": 168 }), json!({})] {
        world.ok("PUT", &one, json!({ "RestoreTestingSelection": change })).await;
        let got = world.ok("GET", &one, Value::Null).await;
        assert_eq!(got["RestoreTestingSelection"]["ValidationWindowHours"], 168, "it stays");
        let listed = world.ok("GET", &target, Value::Null).await;
        assert_eq!(listed["RestoreTestingSelections"][0]["ValidationWindowHours"], 168);
    }

    answered(&world, 201, "PUT", &target, selection("other")).await;
    let page = world.ok("GET", &format!("{target}?MaxResults=1"), Value::Null).await;
    assert_eq!(page["RestoreTestingSelections"].as_array().unwrap().len(), 1);
    let next = segment(&text(&page, "NextToken"));
    let page = world.ok("GET", &format!("{target}?NextToken={next}"), Value::Null).await;
    assert_eq!(page["RestoreTestingSelections"][0]["RestoreTestingSelectionName"], "other");
    assert!(page.get("NextToken").is_none(), "{page}");
}

#[tokio::test]
async fn selections_that_could_not_be_honoured_are_refused_by_the_member() {
    let world = World::new().await;
    let resource = world.resource("docs").await;
    answered(&world, 201, "PUT", PLANS, plan("weekly")).await;
    let target = format!("{PLANS}/weekly/selections");
    answered(&world, 201, "PUT", &target, selection("kept")).await;
    let one = format!("{target}/kept");
    let condition = json!({ "StringEquals": [{ "Key": "env", "Value": "prod" }] });
    for (member, value) in [
        ("IamRoleArn", json!("arn:aws:iam::123456789012:role/unknown")),
        ("ProtectedResourceArns", json!([])),
        ("ProtectedResourceArns", json!(["*", resource])),
        ("ProtectedResourceArns", json!(["docs"])),
        ("ProtectedResourceArns", json!(["arn:aws:ec2:us-east-1:123456789012:volume/vol-1"])),
        ("ProtectedResourceConditions", condition),
        ("RestoreMetadataOverrides", json!({ "targetPath": "/elsewhere" })),
        ("RestoreMetadataOverrides", json!({ "KmsKeyId": "x" })),
        ("RestoreMetadataOverrides", json!({ "tragetPath": "x" })),
        ("ValidationWindowHours", json!(169)),
        ("ValidationWindowHours", json!(-1)),
    ] {
        let mut body = selection("another");
        body["RestoreTestingSelection"][member] = value.clone();
        let mut change = json!({ "RestoreTestingSelection": {} });
        change["RestoreTestingSelection"][member] = value.clone();
        for (target, body) in [(target.as_str(), body), (one.as_str(), change)] {
            let reply = world.refused("PUT", target, body, INVALID).await;
            assert!(reply.message().contains(member), "{member} {value}: {reply:?}");
        }
    }
    let mut other_type = selection("another");
    other_type["RestoreTestingSelection"]["ProtectedResourceType"] = json!("RDS");
    let reply = world.refused("PUT", &target, other_type, INVALID).await;
    assert!(reply.message().contains("known: EFS"), "{reply:?}");
    world.refused("PUT", &target, selection("a-b"), INVALID).await;
    for member in [
        "RestoreTestingSelectionName",
        "ProtectedResourceType",
        "IamRoleArn",
        "ProtectedResourceArns",
    ] {
        let mut body = selection("another");
        body["RestoreTestingSelection"].as_object_mut().unwrap().remove(member);
        let reply = world.refused("PUT", &target, body, MISSING).await;
        assert!(reply.message().contains(member), "{reply:?}");
    }
    let nowhere = format!("{PLANS}/none/selections");
    world.refused("PUT", &nowhere, selection("another"), NOT_FOUND).await;
    world.refused("GET", &nowhere, Value::Null, NOT_FOUND).await;
    world.refused("GET", &format!("{target}/none"), Value::Null, NOT_FOUND).await;
    let change = json!({ "RestoreTestingSelection": { "IamRoleArn": ROLE } });
    world.refused("PUT", &format!("{target}/none"), change, NOT_FOUND).await;
}

#[tokio::test]
async fn the_quotas_hold() {
    let settings = Settings {
        max_restore_testing_plans: 1,
        max_restore_testing_selections: 1,
        ..Settings::default()
    };
    let world = World::with(settings).await;
    let limit = "LimitExceededException";
    answered(&world, 201, "PUT", PLANS, plan("weekly")).await;
    world.refused("PUT", PLANS, plan("daily"), limit).await;
    let target = format!("{PLANS}/weekly/selections");
    answered(&world, 201, "PUT", &target, selection("all")).await;
    world.refused("PUT", &target, selection("other"), limit).await;
}

#[tokio::test]
async fn somebody_outside_says_what_became_of_a_restore() {
    let world = World::new().await;
    let running = world.start().await;
    let resource = world.resource("docs").await;
    let point = world.backup(&resource, "Default").await;
    let named = segment(&point);
    let inferred = format!(
        "/restore-testing/inferred-metadata?BackupVaultName=Default&RecoveryPointArn={named}"
    );
    let inferred = world.ok("GET", &inferred, Value::Null).await;
    let metadata = &inferred["InferredMetadata"];
    assert_eq!(metadata["newFileSystem"], "true", "{inferred}");
    assert!(text(metadata, "file-system-id").starts_with("fs-"), "{inferred}");
    assert!(metadata.get("targetPath").is_none(), "{inferred}");
    let elsewhere =
        format!("/restore-testing/inferred-metadata?BackupVaultName=none&RecoveryPointArn={named}");
    world.refused("GET", &elsewhere, Value::Null, NOT_FOUND).await;
    world.refused("GET", "/restore-testing/inferred-metadata", Value::Null, MISSING).await;

    let mut ask = json!({ "RecoveryPointArn": point, "IamRoleArn": ROLE });
    ask["Metadata"] = metadata.clone();
    let beside = tempfile::tempdir().unwrap();
    ask["Metadata"]["targetPath"] = json!(beside.path().join("restored"));
    let job = text(&world.ok("PUT", "/restore-jobs", ask).await, "RestoreJobId");
    let target = format!("/restore-jobs/{job}");
    world.wait(&target, "Status", "COMPLETED").await;
    let before = world.ok("GET", &target, Value::Null).await;
    assert!(before.get("ValidationStatus").is_none() && before.get("CreatedBy").is_none());

    let put = format!("{target}/validations");
    world.refused("PUT", &put, json!({}), MISSING).await;
    world.refused("PUT", &put, json!({ "ValidationStatus": "PERFECT" }), INVALID).await;
    let long = json!({ "ValidationStatus": "FAILED", "ValidationStatusMessage": "x".repeat(1025) });
    world.refused("PUT", &put, long, INVALID).await;
    let failed = json!({ "ValidationStatus": "FAILED" });
    world.refused("PUT", NO_JOB, failed.clone(), NOT_FOUND).await;
    answered(&world, 204, "PUT", &put, json!({ "ValidationStatus": "VALIDATING" })).await;
    let good = json!({ "ValidationStatus": "SUCCESSFUL", "ValidationStatusMessage": "rows: 12" });
    for _ in 0..2 {
        answered(&world, 204, "PUT", &put, good.clone()).await;
    }
    world.refused("PUT", &put, failed, "InvalidRequestException").await;
    let after = world.ok("GET", &target, Value::Null).await;
    assert_eq!(after["ValidationStatus"], "SUCCESSFUL");
    assert_eq!(after["ValidationStatusMessage"], "rows: 12");
    assert_eq!(after["Status"], "COMPLETED");

    let listed = format!("/resources/{}/restore-jobs/", segment(&resource));
    let jobs = world.ok("GET", &listed, Value::Null).await;
    assert_eq!(jobs["RestoreJobs"][0]["RestoreJobId"], job.as_str());
    for (query, count) in [
        ("status=COMPLETED", 1),
        ("status=FAILED", 0),
        ("recoveryPointCreationDateAfter=2020-01-01T00%3A00%3A00Z", 1),
        ("recoveryPointCreationDateBefore=2020-01-01T00%3A00%3A00Z", 0),
    ] {
        let jobs = world.ok("GET", &format!("{listed}?{query}"), Value::Null).await;
        assert_eq!(jobs["RestoreJobs"].as_array().unwrap().len(), count, "{query}");
    }
    world.refused("GET", "/resources/docs/restore-jobs/", Value::Null, INVALID).await;
    let other = "arn%3Aaws%3Abackup%3Aus-east-1%3A123456789012%3Arestore-testing-plan%3Ax";
    let jobs = format!("/restore-jobs/?restoreTestingPlanArn={other}");
    assert_eq!(world.ok("GET", &jobs, Value::Null).await["RestoreJobs"], json!([]));
    world.refused("GET", "/restore-jobs/?restoreTestingPlanArn=x", Value::Null, INVALID).await;
    running.stop("test over").await;
}

#[tokio::test]
async fn a_validator_outside_is_asked_and_heard() {
    let world = World::new().await;
    let running = world.start().await;
    let resource = world.resource("docs").await;
    let point = world.backup(&resource, "Default").await;
    // As a restore testing plan makes it when it is due.
    let engine = world.app.engine();
    let arn: Arn = resource.parse().unwrap();
    let found = engine.catalog().resource(&arn).await.unwrap().unwrap();
    let mut test = engine.new_restore_test(&found, Some(point.parse().unwrap()));
    test.planned = Some(PlannedTest {
        plan_arn: Arn::restore_testing_plan(&test.region, &test.account, "weekly", "1"),
        plan_name: "weekly".to_owned(),
        selection_name: "all".to_owned(),
        start_by: add_minutes(engine.now(), 60),
        role_arn: ROLE.parse().unwrap(),
        metadata_overrides: std::collections::BTreeMap::new(),
        validation_window_hours: 4,
        missed: None,
    });
    engine.catalog().insert_job(&test).await.unwrap();
    engine.wake();
    let one = format!("/provault/v1/restore-tests/{}", test.id);
    let waits = world.wait(&one, "State", "VALIDATING").await;
    let copy = text(&waits["Validation"], "CopyPath");
    assert_eq!(std::fs::read_to_string(Path::new(&copy).join("data.txt")).unwrap(), "docs");
    assert!(waits["Validation"]["UntilDate"].is_number(), "{waits}");
    let target = format!("/restore-jobs/{}", text(&waits, "RestoreJobId"));
    let job = world.ok("GET", &target, Value::Null).await;
    assert_eq!(job["ValidationStatus"], "VALIDATING");
    assert!(text(&job, "ValidationStatusMessage").contains(&copy), "{job}");

    let put = format!("{target}/validations");
    world.refused("PUT", &put, json!({ "ValidationStatus": "PERFECT" }), INVALID).await;
    answered(&world, 204, "PUT", &put, json!({ "ValidationStatus": "VALIDATING" })).await;
    let good = json!({ "ValidationStatus": "SUCCESSFUL", "ValidationStatusMessage": "rows: 12" });
    for _ in 0..2 {
        answered(&world, 204, "PUT", &put, good.clone()).await;
    }
    let ended = world.wait(&one, "State", "FINISHED").await;
    assert_eq!(ended["Verdict"], "PASSED", "{ended}");
    assert!(text(&ended, "Reason").contains("rows: 12"), "{ended}");
    let job = world.wait(&target, "DeletionStatus", "SUCCESSFUL").await;
    // Once the test has come to its end, for it changes by itself until then.
    let failed = json!({ "ValidationStatus": "FAILED" });
    world.refused("PUT", &put, failed, "InvalidRequestException").await;
    assert_eq!(job["ValidationStatus"], "SUCCESSFUL");
    assert!(!Path::new(&copy).exists());

    // A test that keeps nothing asks nobody.
    let body = json!({ "RecoveryPointArn": point });
    let own = text(&world.ok("POST", "/provault/v1/restore-tests", body).await, "RestoreTestId");
    let own = world.wait(&format!("/provault/v1/restore-tests/{own}"), "State", "FINISHED").await;
    let put = format!("/restore-jobs/{}/validations", text(&own, "RestoreJobId"));
    let reply = world.refused("PUT", &put, good, "InvalidRequestException").await;
    assert!(reply.message().contains("restore test"), "{reply:?}");
    running.stop("test over").await;
}

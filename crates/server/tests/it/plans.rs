//! Plans and selections.

use serde_json::{Value, json};

use crate::support::{ROLE, World, text};

fn document(name: &str, rules: &[(&str, &str)]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .map(|(rule, cron)| {
            json!({ "RuleName": rule, "TargetBackupVaultName": "Default",
                "ScheduleExpression": cron, "Lifecycle": { "DeleteAfterDays": 180 } })
        })
        .collect();
    json!({ "BackupPlan": { "BackupPlanName": name, "Rules": rules } })
}

#[tokio::test]
async fn a_plan_keeps_its_versions_and_its_rules_their_ids() {
    let world = World::new().await;
    let monthly = ("Monthly", "cron(0 3 1 * ? *)");
    let made = world.ok("PUT", "/backup/plans/", document("BACKUP-LAB", &[monthly])).await;
    let id = text(&made, "BackupPlanId");
    let target = format!("/backup/plans/{id}");
    let first = world.ok("GET", &format!("{target}/"), Value::Null).await;
    let rule = &first["BackupPlan"]["Rules"][0];
    assert_eq!(rule["ScheduleExpression"], "cron(0 3 1 * ? *)");
    assert_eq!(rule["StartWindowMinutes"], 480);
    assert_eq!(rule["CompletionWindowMinutes"], 10_080);
    assert_eq!(rule["ScheduleExpressionTimezone"], "Etc/UTC");
    assert_eq!(rule["Lifecycle"], json!({ "DeleteAfterDays": 180 }));

    let two = document("BACKUP-LAB", &[("Daily", "cron(0 5 ? * * *)"), monthly]);
    let updated = world.ok("POST", &target, two).await;
    assert_ne!(updated["VersionId"], made["VersionId"]);
    let second = world.ok("GET", &target, Value::Null).await;
    assert_eq!(second["BackupPlan"]["Rules"][1]["RuleId"], rule["RuleId"]);
    assert_eq!(second["BackupPlan"]["Rules"].as_array().unwrap().len(), 2);
    let old = format!("{target}/?versionId={}", text(&made, "VersionId"));
    assert_eq!(world.ok("GET", &old, Value::Null).await["BackupPlan"], first["BackupPlan"]);
    let versions = world.ok("GET", &format!("{target}/versions/"), Value::Null).await;
    assert_eq!(versions["BackupPlanVersionsList"].as_array().unwrap().len(), 2);

    let preview = format!("{target}/?MaxScheduledRunsPreview=3");
    let preview = world.ok("GET", &preview, Value::Null).await;
    let runs = preview["ScheduledRunsPreview"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    assert!(runs.is_sorted_by_key(|run| run["ExecutionTime"].as_i64()), "{runs:?}");

    // Deleted, and still to be read.
    let deleted = world.ok("DELETE", &target, Value::Null).await;
    assert!(deleted["DeletionDate"].is_number(), "{deleted}");
    let listed = world.ok("GET", "/backup/plans/", Value::Null).await;
    assert_eq!(listed["BackupPlansList"], json!([]));
    let all = world.ok("GET", "/backup/plans/?includeDeleted=true", Value::Null).await;
    assert_eq!(all["BackupPlansList"][0]["BackupPlanId"], id.as_str());
    assert!(world.ok("GET", &old, Value::Null).await["DeletionDate"].is_number());
    let again = document("BACKUP-LAB", &[monthly]);
    world.refused("POST", &target, again, "ResourceNotFoundException").await;
}

#[tokio::test]
async fn a_repeated_request_makes_one_plan_and_one_selection() {
    let world = World::new().await;
    let mut body = document("p", &[("r", "cron(0 5 ? * * *)")]);
    body["CreatorRequestId"] = json!("plan-token");
    let first = world.ok("PUT", "/backup/plans/", body.clone()).await;
    let second = world.ok("PUT", "/backup/plans/", body.clone()).await;
    assert_eq!(first, second);
    let target = format!("/backup/plans/{}", text(&first, "BackupPlanId"));
    let selection = json!({ "CreatorRequestId": "selection-token", "BackupSelection": {
        "SelectionName": "s", "IamRoleArn": ROLE, "ListOfTags": [{
            "ConditionType": "STRINGEQUALS", "ConditionKey": "workload", "ConditionValue": "myapp",
        }],
    } });
    let selections = format!("{target}/selections/");
    let one = world.ok("PUT", &selections, selection.clone()).await;
    assert_eq!(world.ok("PUT", &selections, selection).await, one);
    // The plan is held by its selection.
    world.refused("DELETE", &target, Value::Null, "InvalidRequestException").await;
    let id = text(&one, "SelectionId");
    let got = world.ok("GET", &format!("{selections}{id}"), Value::Null).await;
    assert_eq!(got["BackupSelection"]["ListOfTags"][0]["ConditionValue"], "myapp");
    assert_eq!(got["BackupSelection"]["IamRoleArn"], ROLE);
    let listed = world.ok("GET", &selections, Value::Null).await;
    assert_eq!(listed["BackupSelectionsList"][0]["SelectionName"], "s");
    world.ok("DELETE", &format!("{selections}{id}"), Value::Null).await;
    world.ok("DELETE", &target, Value::Null).await;
    // What is deleted is not what a repetition gets.
    let third = world.ok("PUT", "/backup/plans/", body).await;
    assert_ne!(third["BackupPlanId"], first["BackupPlanId"]);
}

#[tokio::test]
async fn a_selection_must_name_something() {
    let world = World::new().await;
    let made =
        world.ok("PUT", "/backup/plans/", document("p", &[("r", "cron(0 5 ? * * *)")])).await;
    let target = format!("/backup/plans/{}/selections/", text(&made, "BackupPlanId"));
    for selection in [
        json!({}),
        json!({ "Resources": ["not an arn"] }),
        json!({ "NotResources": ["*"] }),
        json!({ "Conditions": { "StringEquals": [
            { "ConditionKey": "workload", "ConditionValue": "x" }] } }),
    ] {
        let mut selection = selection;
        selection["SelectionName"] = json!("s");
        selection["IamRoleArn"] = json!(ROLE);
        let body = json!({ "BackupSelection": selection });
        world.refused("PUT", &target, body, "InvalidParameterValueException").await;
    }
}

#[tokio::test]
async fn what_a_plan_was_due_for_is_not_lost_when_it_is_changed() {
    let world = World::new().await;
    let resource = world.resource("data").await;
    let hourly = ("Hourly", "cron(0 * ? * * *)");
    let made = world.ok("PUT", "/backup/plans/", document("P", &[hourly])).await;
    let id = text(&made, "BackupPlanId");
    let selection = json!({ "BackupSelection": { "SelectionName": "s", "IamRoleArn": ROLE,
        "Resources": [resource] } });
    world.ok("PUT", &format!("/backup/plans/{id}/selections/"), selection).await;
    // No scheduler has looked at it for three hours, as after a time without a server.
    let catalog = world.app.engine().catalog();
    let plan = catalog.plan(world.app.account(), &id, None).await.unwrap().unwrap();
    let before = plan.created_at - jiff::SignedDuration::from_hours(3);
    let (rule, mark) = (&plan.rules[0].id, Some(plan.created_at));
    assert!(catalog.advance_schedule(&plan, rule, mark, before, &[]).await.unwrap());

    let refused = document("P", &[("Hourly", "cron(0/5 * ? * * *)")]);
    let target = format!("/backup/plans/{id}");
    world.refused("POST", &target, refused, "InvalidParameterValueException").await;
    world.ok("POST", &target, document("P", &[("Other", "cron(0 5 ? * * *)")])).await;
    let jobs = world.ok("GET", "/backup-jobs/", Value::Null).await;
    let jobs = jobs["BackupJobs"].as_array().unwrap().clone();
    assert!((3..=4).contains(&jobs.len()), "{jobs:?}");
    for job in jobs {
        assert_eq!(job["CreatedBy"]["BackupPlanVersion"], made["VersionId"]);
        assert_eq!(job["CreatedBy"]["BackupRuleName"], "Hourly");
    }
}

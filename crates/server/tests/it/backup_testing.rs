//! Whether restore tests follow backups, as resources, plans and selections say it.

use serde_json::{Value, json};

use crate::support::{ROLE, World, text};

const INVALID: &str = "InvalidParameterValueException";
const NOT_FOUND: &str = "ResourceNotFoundException";

/// A plan with a selection: their settings' paths, and the plan's id.
async fn plan(world: &World) -> (String, String, String) {
    let plan = json!({ "BackupPlan": { "BackupPlanName": "nightly", "Rules": [
        { "RuleName": "daily", "TargetBackupVaultName": "Default" },
    ] } });
    let id = text(&world.ok("PUT", "/backup/plans/", plan).await, "BackupPlanId");
    let selection = json!({ "BackupSelection": {
        "SelectionName": "all", "IamRoleArn": ROLE, "Resources": ["*"],
    } });
    let target = format!("/backup/plans/{id}/selections/");
    let selection = text(&world.ok("PUT", &target, selection).await, "SelectionId");
    let own = format!("/provault/v1/backup-plans/{id}");
    (format!("{own}/testing"), format!("{own}/selections/{selection}/testing"), id)
}

async fn register(world: &World, name: &str, more: Value) -> Value {
    let path = world.directory.path().join(name);
    std::fs::create_dir(&path).unwrap();
    let mut body = json!({ "Kind": "filesystem", "Name": name, "Config": { "path": path } });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.ok("POST", "/provault/v1/resources", body).await
}

#[tokio::test]
async fn a_setting_is_said_shown_replaced_and_taken_back() {
    let world = World::new().await;
    let (of_plan, of_selection, id) = plan(&world).await;
    register(&world, "docs", json!({})).await;
    let of_resource = "/provault/v1/resources/docs/testing";
    for target in [of_plan.as_str(), of_selection.as_str(), of_resource] {
        assert_eq!(world.ok("GET", target, Value::Null).await, json!({}), "nothing is said");
        world.refused("DELETE", target, Value::Null, NOT_FOUND).await;
        let window = json!({ "From": "22:00", "To": "04:00", "Timezone": "Europe/Berlin" });
        let body = json!({ "TestAfterBackup": true, "SharePercent": 25, "Window": window,
            "TestsAtOnce": 2 });
        let mut said = world.ok("PUT", target, body.clone()).await;
        assert_eq!(world.ok("GET", target, Value::Null).await, said);
        let date = said.as_object_mut().unwrap().remove("ChangeDate").unwrap();
        assert!(date.is_number(), "{date}");
        assert_eq!(said, body);
        let plain = world.ok("PUT", target, json!({ "TestAfterBackup": true })).await;
        assert_eq!((&plain["SharePercent"], plain.get("Window")), (&json!(100), None));
    }
    // A new version of the plan says what the plan says.
    let changed = json!({ "BackupPlan": { "BackupPlanName": "nightly", "Rules": [
        { "RuleName": "daily", "TargetBackupVaultName": "Default",
          "ScheduleExpression": "cron(0 3 ? * * *)" },
    ] } });
    world.ok("POST", &format!("/backup/plans/{id}"), changed).await;
    assert_eq!(world.ok("GET", &of_plan, Value::Null).await["TestAfterBackup"], true);
    world.ok("DELETE", &of_plan, Value::Null).await;
    assert_eq!(world.ok("GET", &of_plan, Value::Null).await, json!({}));
    let shown = world.ok("GET", "/provault/v1/resources/docs", Value::Null).await;
    assert_eq!(shown["Testing"]["TestAfterBackup"], true);
    world.ok("PUT", of_resource, json!({ "TestAfterBackup": false })).await;
    let shown = world.ok("GET", "/provault/v1/resources/docs", Value::Null).await;
    assert_eq!(
        (&shown["TestAfterBackup"], &shown["Testing"]["TestAfterBackup"]),
        (&json!(false), &json!(false))
    );
}

#[tokio::test]
async fn a_resource_says_yes_no_or_nothing_from_the_start() {
    let world = World::new().await;
    for (name, more, said) in [
        ("yes", json!({ "TestAfterBackup": true }), json!(true)),
        ("no", json!({ "TestAfterBackup": false }), json!(false)),
        ("open", json!({}), Value::Null),
    ] {
        let made = register(&world, name, more).await;
        assert_eq!(made["TestAfterBackup"], name == "yes");
        assert_eq!(made["Testing"]["TestAfterBackup"], said, "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_meant_changes_nothing() {
    let world = World::new().await;
    let (of_plan, of_selection, _) = plan(&world).await;
    let said = world.ok("PUT", &of_plan, json!({ "TestAfterBackup": true })).await;
    let window = |from: &str, to: &str, zone: &str| {
        json!({ "TestAfterBackup": true,
            "Window": { "From": from, "To": to, "Timezone": zone } })
    };
    for (body, member) in [
        (json!({ "TestAfterBackup": true, "SharePercent": 0 }), "SharePercent"),
        (json!({ "TestAfterBackup": true, "SharePercent": 101 }), "SharePercent"),
        (json!({ "TestAfterBackup": false, "SharePercent": 50 }), "SharePercent"),
        (json!({ "TestAfterBackup": true, "TestsAtOnce": 0 }), "TestsAtOnce"),
        (window("1:00", "05:00", "Etc/UTC"), "Window.From"),
        (window("01:00", "25:00", "Etc/UTC"), "Window.To"),
        (window("01:00", "01:00", "Etc/UTC"), "Window.To"),
        (window("01:00", "05:00", "Europe/Atlantis"), "Window.Timezone"),
        (json!({ "TestAfterBackup": true, "Sharepercent": 50 }), "Sharepercent"),
    ] {
        let reply = world.refused("PUT", &of_plan, body.clone(), INVALID).await;
        assert!(reply.message().contains(member), "{body}: {reply:?}");
        assert_eq!(world.ok("GET", &of_plan, Value::Null).await, said, "{body}");
    }
    world.refused("PUT", &of_plan, json!({}), "MissingParameterValueException").await;
    let plan_of_nobody = of_plan.replace("/testing", "x/testing");
    let selection_of_nobody = of_selection.replace("/testing", "x/testing");
    let on = json!({ "TestAfterBackup": true });
    for target in [
        plan_of_nobody.as_str(),
        selection_of_nobody.as_str(),
        "/provault/v1/resources/nobody/testing",
    ] {
        for (method, body) in [("GET", Value::Null), ("PUT", on.clone()), ("DELETE", Value::Null)] {
            world.refused(method, target, body, NOT_FOUND).await;
        }
    }
}

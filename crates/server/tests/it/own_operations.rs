//! What AWS Backup has no words for.

use serde_json::{Value, json};

use crate::support::{World, segment, text};

#[tokio::test]
async fn a_resource_is_registered_in_full_and_found_by_name_and_arn() {
    let world = World::new().await;
    let path = world.directory.path().join("app");
    std::fs::create_dir(&path).unwrap();
    let body = json!({
        "Kind": "filesystem", "Name": "app", "Config": { "path": path },
        "Tags": { "workload": "myapp" }, "RpoSeconds": 86_400, "RtoSeconds": 900,
        "TestAfterBackup": true, "Service": { "Command": ["./serve"] },
        "Probes": [{ "Type": "Http", "Port": 8080, "Path": "/",
            "Assertions": [{ "Type": "Status", "Equals": 200 }] }],
    });
    let made = world.ok("POST", "/provault/v1/resources", body.clone()).await;
    let arn = text(&made, "ResourceArn");
    assert!(arn.contains(":file-system/fs-"), "{arn}");
    assert_eq!(made["Probes"], body["Probes"]);
    assert_eq!(made["Service"]["StartTimeoutSeconds"], 60);
    assert_eq!(made["Config"]["oneFileSystem"], true, "settings are kept in full: {made}");
    assert_eq!(made["Verdict"], Value::Null);
    let by_arn = format!("/provault/v1/resources/{}", segment(&arn));
    assert_eq!(world.ok("GET", "/provault/v1/resources/app", Value::Null).await, made);
    assert_eq!(world.ok("GET", &by_arn, Value::Null).await, made);
    let tags = json!({ "Set": { "tier": "gold" }, "Remove": ["workload"] });
    let tagged = world.ok("POST", "/provault/v1/resources/app/tags", tags).await;
    assert_eq!(tagged["Tags"], json!({ "tier": "gold" }));
    let listed = world.ok("GET", "/provault/v1/resources?maxResults=1", Value::Null).await;
    assert_eq!(listed["Resources"].as_array().unwrap().len(), 1);
    let test = json!({ "Resource": "app" });
    let target = "/provault/v1/restore-tests";
    let reply = world.refused("POST", target, test, "InvalidRequestException").await;
    assert!(reply.message().contains("no recovery point"), "{reply:?}");
    let both = json!({ "Resource": "app", "RecoveryPointArn": "x" });
    world.refused("POST", target, both, "InvalidParameterValueException").await;
    world.ok("DELETE", &by_arn, Value::Null).await;
    let listed = world.ok("GET", "/provault/v1/resources", Value::Null).await;
    assert_eq!(listed["Resources"], json!([]));
}

#[tokio::test]
async fn a_resource_is_changed_and_stays_the_same_one() {
    const INVALID: &str = "InvalidParameterValueException";
    let world = World::new().await;
    let (arn, other) = (world.resource("app").await, world.resource("other").await);
    let target = format!("/provault/v1/resources/{}", segment(&arn));
    let probes = json!([{ "Type": "Http", "Port": 8080, "Path": "/",
        "Assertions": [{ "Type": "Status", "Equals": 200 }] }]);
    let body = json!({ "Name": "papers", "RpoSeconds": 86_400, "RtoSeconds": 900, "Probes": probes,
        "Service": { "Command": ["./serve"], "Environment": { "A": "b" } } });
    let before = world.ok("GET", &target, Value::Null).await;
    let changed = world.ok("POST", &target, body.clone()).await;
    let members = ["ResourceArn", "Config", "Tags", "Kind", "CreationDate"];
    for member in members {
        assert_eq!(changed[member], before[member], "{member}");
    }
    for member in ["Name", "RpoSeconds", "RtoSeconds", "Probes"] {
        assert_eq!(changed[member], body[member], "{member}");
    }
    assert_eq!(changed["Service"]["Environment"], json!({ "A": "b" }));
    assert_eq!(world.ok("GET", "/provault/v1/resources/papers", Value::Null).await, changed);
    // By its new name, and what is absent stays.
    let target = "/provault/v1/resources/papers";
    let changed = world.ok("POST", target, json!({ "RpoSeconds": 0 })).await;
    assert_eq!(changed["RpoSeconds"], Value::Null);
    assert_eq!((&changed["RtoSeconds"], &changed["Probes"]), (&json!(900), &probes));
    assert_eq!(changed["Service"]["Command"], json!(["./serve"]));
    for (body, error) in [
        (json!({ "Name": "other" }), "AlreadyExistsException"),
        (json!({ "Name": "no name" }), INVALID),
        // Its probe would have nothing to ask, and its application nobody to ask it.
        (json!({ "RemoveService": true }), INVALID),
        (json!({ "Probes": [] }), INVALID),
        (
            json!({ "RemoveService": true, "Service": { "Command": ["./x"] }, "Probes": [] }),
            INVALID,
        ),
        (json!({ "Service": { "Command": [] } }), INVALID),
        (json!({ "Config": { "path": "/" } }), INVALID),
        (json!({ "Tags": {} }), INVALID),
    ] {
        world.refused("POST", target, body.clone(), error).await;
        assert_eq!(world.ok("GET", target, Value::Null).await, changed, "{body}");
    }
    let bare = world.ok("POST", target, json!({ "RemoveService": true, "Probes": [] })).await;
    assert_eq!((&bare["Service"], &bare["Probes"]), (&Value::Null, &json!([])));
    let audit = world.ok("GET", "/provault/v1/audit?limit=100", Value::Null).await;
    let records = audit["AuditRecords"].as_array().unwrap().iter();
    let made = records.filter(|record| record["Action"] == "provault:UpdateResource");
    assert!(made.count() >= 3, "{audit}");
    world.ok("GET", &format!("/provault/v1/resources/{}", segment(&other)), Value::Null).await;
}

#[tokio::test]
async fn roles_and_keys_come_and_go_and_the_default_ones_stay() {
    const REFUSED: &str = "InvalidRequestException";
    let world = World::new().await;
    let role = world.ok("POST", "/provault/v1/roles", json!({ "Name": "ops/backup" })).await;
    assert_eq!(role["Arn"], "arn:aws:iam::123456789012:role/ops/backup");
    world.ok("DELETE", "/provault/v1/roles/ops%2Fbackup", Value::Null).await;
    let default = "/provault/v1/roles/service-role%2FAWSBackupDefaultServiceRole";
    world.refused("DELETE", default, Value::Null, REFUSED).await;

    let key = world.ok("POST", "/provault/v1/keys", json!({ "Name": "mine" })).await;
    let body = json!({ "EncryptionKeyArn": key["Arn"] });
    world.ok("PUT", "/backup-vaults/sealed", body).await;
    world.refused("DELETE", "/provault/v1/keys/mine", Value::Null, REFUSED).await;
    world.ok("DELETE", "/backup-vaults/sealed", Value::Null).await;
    world.ok("DELETE", "/provault/v1/keys/mine", Value::Null).await;
    world.refused("DELETE", "/provault/v1/keys/default", Value::Null, REFUSED).await;
}

#[tokio::test]
async fn subscriptions_come_and_go() {
    let world = World::new().await;
    world.ok("POST", "/provault/v1/topics", json!({ "Name": "alarms" })).await;
    let target = "/provault/v1/topics/alarms/subscriptions";
    let hook = world.ok("POST", target, json!({ "Webhook": "http://127.0.0.1:9/x" })).await;
    let mail = json!({ "MailFile": { "Directory": "/tmp/mail", "To": "me@example.com" } });
    world.ok("POST", target, mail.clone()).await;
    let listed = world.ok("GET", target, Value::Null).await;
    assert_eq!(listed["Subscriptions"][1]["MailFile"], mail["MailFile"]);
    let id = text(&hook, "SubscriptionId");
    world.ok("DELETE", &format!("/provault/v1/subscriptions/{id}"), Value::Null).await;
    let listed = world.ok("GET", target, Value::Null).await;
    assert_eq!(listed["Subscriptions"].as_array().unwrap().len(), 1);
    for body in [
        json!({}),
        json!({ "Webhook": "ftp://x/y" }),
        json!({ "Webhook": "http://x/y", "MailFile": mail["MailFile"] }),
        json!({ "MailFile": { "Directory": "relative", "To": "me@example.com" } }),
    ] {
        world.refused("POST", target, body, "InvalidParameterValueException").await;
    }
    let deliveries = world.ok("GET", "/provault/v1/deliveries?jobId=x", Value::Null).await;
    assert_eq!(deliveries["Deliveries"], json!([]));
}

#[tokio::test]
async fn exporting_a_password_is_recorded_also_when_it_is_refused() {
    let world = World::new().await;
    let target = "/provault/v1/vaults/Default/export-password";
    let exported = world.ok("POST", target, Value::Null).await;
    let password = text(&exported, "Password");
    assert!(password.len() >= 32, "too short for 256 random bits");
    let unknown =
        world.call("POST", "/provault/v1/vaults/none/export-password", &Value::Null).await;
    assert_eq!(unknown.error(), "ResourceNotFoundException");
    let audit = world.app.engine().catalog().list_audit(world.app.account()).await.unwrap();
    let exports: Vec<_> =
        audit.iter().filter(|record| record.action == "provault:ExportPassword").collect();
    let outcomes: Vec<_> = exports.iter().map(|record| record.outcome.as_str()).collect();
    assert_eq!(outcomes, ["exported", "ResourceNotFoundException"]);
    assert!(audit.iter().all(|record| !format!("{record:?}").contains(&password)));

    let repository = "/provault/v1/vaults/Default/repository";
    let repository = world.ok("GET", repository, Value::Null).await;
    assert_eq!((&repository["Format"], &repository["Version"]), (&json!("restic"), &json!(2)));
    let config = std::path::Path::new(repository["Location"].as_str().unwrap()).join("config");
    assert!(config.exists(), "{repository}");
}

#[tokio::test]
async fn lists_without_anything_in_them_are_empty_and_not_errors() {
    let world = World::new().await;
    for (target, member) in [
        ("/provault/v1/restore-tests", "RestoreTests"),
        ("/provault/v1/evidence", "Records"),
        ("/provault/v1/deliveries", "Deliveries"),
        ("/provault/v1/resources", "Resources"),
        ("/provault/v1/topics", "Items"),
        ("/backup-jobs/", "BackupJobs"),
        ("/restore-jobs/", "RestoreJobs"),
        ("/resources/", "Results"),
        ("/backup/plans/", "BackupPlansList"),
    ] {
        let list = world.ok("GET", target, Value::Null).await;
        assert_eq!(list[member], json!([]), "{target}");
    }
    let evidence = world.ok("GET", "/provault/v1/evidence", Value::Null).await;
    assert_eq!(evidence["Chain"], "VERIFIED");
    let bad = "/provault/v1/evidence?resourceArn=x";
    world.refused("GET", bad, Value::Null, "InvalidParameterValueException").await;
}

#[tokio::test]
async fn how_points_are_kept_is_a_setting_of_the_resource() {
    const WRONG: &str = "InvalidParameterValueException";
    let world = World::new().await;
    let path = world.directory.path().join("app");
    std::fs::create_dir(&path).unwrap();
    let body = |keep: i64| {
        json!({ "Kind": "filesystem", "Name": "app", "Config": { "path": path },
            "ShrinkAlarmPercent": 101, "KeepAtMost": keep })
    };
    world.refused("POST", "/provault/v1/resources", body(3), WRONG).await;
    let mut right = body(3);
    right["ShrinkAlarmPercent"] = json!(0);
    let made = world.ok("POST", "/provault/v1/resources", right).await;
    assert_eq!((&made["KeepAtMost"], &made["ShrinkAlarmPercent"]), (&json!(3), &Value::Null));
    let target = "/provault/v1/resources/app/retention";
    let changed = world.ok("POST", target, json!({ "ShrinkAlarmPercent": 80 })).await;
    assert_eq!((&changed["KeepAtMost"], &changed["ShrinkAlarmPercent"]), (&json!(3), &json!(80)));
    let changed = world.ok("POST", target, json!({ "KeepAtMost": 0 })).await;
    assert_eq!(
        (&changed["KeepAtMost"], &changed["ShrinkAlarmPercent"]),
        (&Value::Null, &json!(80))
    );
    world.refused("POST", target, json!({ "ShrinkAlarmPercent": 101 }), WRONG).await;
    world.refused("POST", target, json!({ "KeepAtLeast": 1 }), WRONG).await;
    let unknown = "/provault/v1/resources/none/retention";
    world.refused("POST", unknown, json!({ "KeepAtMost": 1 }), "ResourceNotFoundException").await;
    // Without a word of it the alarm is on.
    let other = world.resource("other").await;
    let other = format!("/provault/v1/resources/{}", segment(&other));
    assert_eq!(world.ok("GET", &other, Value::Null).await["ShrinkAlarmPercent"], 50);
}

#[tokio::test]
async fn every_kind_of_probe_is_registered_and_a_wrong_one_changes_nothing() {
    let world = World::new().await;
    let path = world.directory.path().join("app");
    std::fs::create_dir(&path).unwrap();
    let body = |service: Value, probes: Value| {
        let mut body = json!({
            "Kind": "filesystem", "Name": "app", "Config": { "path": path }, "Probes": probes,
        });
        if !service.is_null() {
            body["Service"] = service;
        }
        body
    };
    let tcp = json!({ "Type": "Tcp", "Port": 6379, "Send": "PING\r\n", "TimeoutSeconds": 5,
        "Assertions": [{ "Type": "BodyContains", "Text": "+PONG" }] });
    let command = json!({ "Type": "Command", "Command": ["./check.sh", "a b"], "TimeoutSeconds": 9,
        "Assertions": [{ "Type": "ExitCode", "Equals": 1 },
            { "Type": "BodyMatches", "Pattern": "^ok" }] });
    let target = "/provault/v1/resources";
    let with = |probe: &Value, member: &str, value: Value| {
        let mut probe = probe.clone();
        probe[member] = value;
        probe
    };
    for (probes, said) in [
        // Nobody would listen.
        (json!([tcp]), "Service"),
        (json!([with(&command, "Command", json!([]))]), "name a program"),
        (json!([with(&command, "TimeoutSeconds", json!(3601))]), "TimeoutSeconds"),
        (json!([with(&command, "Path", json!("/"))]), "Path"),
        (json!([with(&command, "Expect", json!("x"))]), "Expect"),
        (
            json!([with(
                &command,
                "Assertions",
                json!([{ "Type": "BodyMatches", "Pattern": "(" }])
            )]),
            "regular expression",
        ),
        (
            json!([with(&command, "Assertions", json!([{ "Type": "Status", "Equals": 200 }]))]),
            "Assertions",
        ),
    ] {
        let refused = world
            .refused("POST", target, body(Value::Null, probes), "InvalidParameterValueException")
            .await;
        assert!(refused.message().contains(said), "{said}: {refused:?}");
    }
    let listed = world.ok("GET", target, Value::Null).await;
    assert_eq!(listed["Resources"], json!([]));
    // A command needs no application; an application may be asked by it alone.
    world.ok("POST", target, body(Value::Null, json!([command]))).await;
    world.ok("DELETE", "/provault/v1/resources/app", Value::Null).await;
    let service = json!({ "Command": ["./serve"] });
    let made = world.ok("POST", target, body(service, json!([tcp, command]))).await;
    assert_eq!(made["Probes"], json!([tcp, command]));
}

#[tokio::test]
async fn the_records_of_evidence_are_asked_for_by_number() {
    let world = World::new().await;
    let path = "/provault/v1/evidence/records";
    for query in ["", "?after=0", "?after=7"] {
        let page = world.ok("GET", &format!("{path}{query}"), Value::Null).await;
        assert_eq!(page, json!({ "Records": [] }), "{query}");
    }
    for query in ["?after=-1", "?after=x", "?after=", "?limit=1"] {
        let target = format!("{path}{query}");
        world.refused("GET", &target, Value::Null, "InvalidParameterValueException").await;
    }
}

#[tokio::test]
async fn values_of_an_environment_are_for_those_who_may_register() {
    let mut world = World::new().await;
    let path = world.directory.path().join("app");
    std::fs::create_dir(&path).unwrap();
    let body = json!({ "Kind": "filesystem", "Name": "app", "Config": { "path": path },
        "Probes": [{ "Type": "Http", "Port": 8080, "Path": "/",
            "Assertions": [{ "Type": "Status", "Equals": 200 }] }],
        "Service": { "Command": ["./serve"], "Environment": { "PASSWORD": "hush-hush" } } });
    world.ok("POST", "/provault/v1/resources", body).await;
    for policy in ["Auditor", "RestoreOnly", "Operator"] {
        let root = world.sign_as(policy).await;
        for target in ["/provault/v1/resources", "/provault/v1/resources/app"] {
            let shown = world.ok("GET", target, Value::Null).await.to_string();
            assert!(shown.contains("PASSWORD"), "{shown}");
            assert_eq!(shown.contains("hush-hush"), policy == "Operator", "{policy}: {shown}");
        }
        world.credentials = root;
    }
}

//! Bad input: the modelled error, what to do about it, and nothing changed.

use serde_json::{Value, json};

use crate::support::{ROLE, World, segment, text};

const INVALID: &str = "InvalidParameterValueException";
const MISSING: &str = "MissingParameterValueException";
const NOT_FOUND: &str = "ResourceNotFoundException";
const SERIALIZATION: &str = "SerializationException";
const NOWHERE: &str = "arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-0";

fn plan(rule: &Value) -> Value {
    json!({ "BackupPlan": { "BackupPlanName": "p", "Rules": [rule] } })
}

fn rule(member: &str, value: &Value) -> Value {
    let mut rule = json!({ "RuleName": "r", "TargetBackupVaultName": "Default" });
    rule[member] = value.clone();
    rule
}

#[tokio::test]
async fn malformed_json() {
    let world = World::new().await;
    for body in ["{", "not json", "{\"BackupPlan\":}", "[]", "\"text\"", "{\"a\":\"\u{0}\"}"] {
        let target = "/backup/plans/";
        let reply = world.refused_raw("PUT", target, body.as_bytes(), SERIALIZATION).await;
        assert_eq!(reply.status, 400, "{body}");
        let target = "/provault/v1/resources";
        world.refused_raw("POST", target, body.as_bytes(), SERIALIZATION).await;
    }
    world.refused_raw("PUT", "/backup/plans/", b"\xff\xfe", SERIALIZATION).await;
}

#[tokio::test]
async fn oversized_bodies() {
    let world = World::new().await;
    for size in [(64 << 10) + 1, 3 << 20] {
        let body = vec![b' '; size];
        let reply = world
            .refused_raw("PUT", "/backup/plans/", &body, "RequestEntityTooLargeException")
            .await;
        assert_eq!(reply.status, 413);
    }
    // One byte less is read, and is nothing but blanks.
    let body = vec![b' '; 64 << 10];
    world.refused_raw("PUT", "/backup/plans/", &body, SERIALIZATION).await;
}

#[tokio::test]
async fn wrong_types() {
    let world = World::new().await;
    for (body, path) in [
        (json!({ "BackupPlan": 1 }), "BackupPlan"),
        (plan(&rule("RuleName", &json!(7))), "BackupPlan.Rules[0].RuleName"),
        (plan(&rule("StartWindowMinutes", &json!("60"))), "BackupPlan.Rules[0].StartWindowMinutes"),
        (plan(&rule("Lifecycle", &json!([]))), "BackupPlan.Rules[0].Lifecycle"),
        (json!({ "BackupPlan": { "Rules": {} } }), "BackupPlan.Rules"),
    ] {
        let reply = world.refused("PUT", "/backup/plans/", body, SERIALIZATION).await;
        assert!(reply.message().starts_with(path), "{reply:?}");
    }
    for query in ["maxResults=many", "maxResults=1&maxResults=2", "createdAfter=yesterday"] {
        world.refused("GET", &format!("/backup-jobs/?{query}"), Value::Null, SERIALIZATION).await;
    }
    let body = json!({ "Kind": "filesystem", "Name": 1, "Config": {} });
    world.refused("POST", "/provault/v1/resources", body, SERIALIZATION).await;
}

#[tokio::test]
async fn bad_cron() {
    let world = World::new().await;
    for schedule in [
        "rate(1 day)",
        "cron(0 5 * * *)",
        "cron(0 5 * * * *)",
        "cron(61 5 ? * * *)",
        "cron(0/30 * ? * * *)",
        "daily",
        "",
    ] {
        let rule = rule("ScheduleExpression", &json!(schedule));
        let reply = world.refused("PUT", "/backup/plans/", plan(&rule), INVALID).await;
        assert_eq!(
            reply.body["Context"], "BackupPlan.Rules[0].ScheduleExpression",
            "{schedule}: {reply:?}"
        );
    }
    let zone = rule("ScheduleExpressionTimezone", &json!("Mars/Olympus"));
    let reply = world.refused("PUT", "/backup/plans/", plan(&zone), INVALID).await;
    assert!(reply.message().contains("ScheduleExpressionTimezone"), "{reply:?}");
}

#[tokio::test]
async fn impossible_lifecycles() {
    let world = World::new().await;
    let resource = world.resource("data").await;
    for lifecycle in [
        json!({ "DeleteAfterDays": 0 }),
        json!({ "DeleteAfterDays": -2 }),
        json!({ "DeleteAfterDays": 36_501 }),
        json!({ "DeleteAfterDays": 100, "MoveToColdStorageAfterDays": 30 }),
        json!({ "DeleteAfterDays": 365, "MoveToColdStorageAfterDays": 30 }),
        json!({ "OptInToArchiveForSupportedResources": true }),
        json!({ "DeleteAfterEvent": "DELETE_AFTER_COPY" }),
    ] {
        let body = plan(&rule("Lifecycle", &lifecycle));
        let reply = world.refused("PUT", "/backup/plans/", body, INVALID).await;
        assert!(reply.message().contains("Lifecycle"), "{lifecycle}: {reply:?}");
        let body = json!({
            "BackupVaultName": "Default", "ResourceArn": resource, "IamRoleArn": ROLE,
            "Lifecycle": lifecycle,
        });
        world.refused("PUT", "/backup-jobs", body, INVALID).await;
    }
}

#[tokio::test]
async fn missing_paths() {
    let world = World::new().await;
    let add = |config: Value| json!({ "Kind": "filesystem", "Name": "data", "Config": config });
    let target = "/provault/v1/resources";
    for (config, name) in [
        (json!({}), MISSING),
        (json!({ "path": "/does/not/exist" }), INVALID),
        (json!({ "path": "relative/path" }), INVALID),
        (json!({ "path": "/etc/hostname" }), INVALID),
        (json!({ "path": "/etc", "pathh": "/etc" }), INVALID),
    ] {
        let reply = world.refused("POST", target, add(config), name).await;
        assert!(reply.message().starts_with("Config.path"), "{reply:?}");
    }
}

#[tokio::test]
async fn missing_members() {
    let world = World::new().await;
    let reply = world.refused("PUT", "/backup/plans/", json!({}), MISSING).await;
    assert!(reply.message().contains("BackupPlan"), "{reply:?}");
    let body = json!({ "BackupVaultName": "Default", "ResourceArn": NOWHERE });
    let reply = world.refused("PUT", "/backup-jobs", body, MISSING).await;
    assert!(reply.message().contains("IamRoleArn"), "{reply:?}");
    let body = json!({ "Kind": "filesystem", "Config": {} });
    world.refused("POST", "/provault/v1/resources", body, MISSING).await;
    world.refused("PUT", "/backup-jobs", Value::Null, MISSING).await;
}

#[tokio::test]
async fn unknown_members_of_our_own_operations() {
    let world = World::new().await;
    let body = json!({ "Name": "r", "Colour": "red" });
    let reply = world.refused("POST", "/provault/v1/roles", body, INVALID).await;
    assert!(reply.message().contains("Colour"), "{reply:?}");
    let reply = world.refused("GET", "/provault/v1/roles?name=x", Value::Null, INVALID).await;
    assert!(reply.message().contains("name"), "{reply:?}");
}

#[tokio::test]
async fn unknown_arns_and_ids() {
    let world = World::new().await;
    let point = "arn:aws:backup:us-east-1:123456789012:recovery-point:none";
    let job = |vault: &str| {
        json!({
            "BackupVaultName": vault, "ResourceArn": NOWHERE, "IamRoleArn": ROLE,
        })
    };
    let reply = world.refused("PUT", "/backup-jobs", job("Default"), NOT_FOUND).await;
    assert!(reply.message().contains("provault resource add"), "{reply:?}");
    world.refused("PUT", "/backup-jobs", job("nowhere"), NOT_FOUND).await;
    let body = json!({ "RecoveryPointArn": point, "Metadata": {}, "IamRoleArn": ROLE });
    world.refused("PUT", "/restore-jobs", body, NOT_FOUND).await;
    for (method, target) in [
        ("GET", "/backup-jobs/none".to_owned()),
        ("POST", "/backup-jobs/none".to_owned()),
        ("GET", "/restore-jobs/none".to_owned()),
        ("GET", "/backup/plans/none/".to_owned()),
        ("DELETE", "/backup/plans/none".to_owned()),
        ("GET", "/backup/plans/none/versions/".to_owned()),
        ("GET", "/backup/plans/none/selections/".to_owned()),
        ("DELETE", "/backup-vaults/nowhere".to_owned()),
        ("GET", "/backup-vaults/nowhere/recovery-points/".to_owned()),
        ("GET", "/backup-vaults/nowhere/notification-configuration".to_owned()),
        ("GET", "/backup-vaults/Default/notification-configuration".to_owned()),
        ("GET", format!("/backup-vaults/Default/recovery-points/{}", segment(point))),
        ("DELETE", format!("/backup-vaults/Default/recovery-points/{}", segment(point))),
        ("GET", format!("/resources/{}", segment(NOWHERE))),
        ("GET", format!("/tags/{}/", segment(NOWHERE))),
        ("GET", format!("/tags/{}/", segment("no-arn"))),
        ("GET", "/provault/v1/resources/none".to_owned()),
        ("DELETE", "/provault/v1/topics/none".to_owned()),
        ("DELETE", "/provault/v1/roles/none".to_owned()),
        ("DELETE", "/provault/v1/keys/none".to_owned()),
        ("DELETE", "/provault/v1/subscriptions/none".to_owned()),
        ("GET", "/provault/v1/jobs/none/log".to_owned()),
        ("GET", "/provault/v1/restore-tests/none".to_owned()),
        ("POST", "/provault/v1/restore-jobs/none/stop".to_owned()),
    ] {
        let reply = world.refused(method, &target, Value::Null, NOT_FOUND).await;
        assert_eq!(reply.status, 400, "{method} {target}");
    }
    // Another account's vault is nobody's business.
    let other = segment("arn:aws:backup:us-east-1:999999999999:backup-vault:Default");
    let reply = world.call("GET", &format!("/tags/{other}/"), &Value::Null).await;
    assert_eq!((reply.error(), reply.status), ("AccessDeniedException", 403));
}

#[tokio::test]
async fn unknown_role_key_or_topic() {
    let world = World::new().await;
    let resource = world.resource("data").await;
    let role = "arn:aws:iam::123456789012:role/nobody";
    let body = json!({ "BackupVaultName": "Default", "ResourceArn": resource, "IamRoleArn": role });
    let reply = world.refused("PUT", "/backup-jobs", body, INVALID).await;
    assert!(reply.message().contains("provault role add"), "{reply:?}");

    let made = world.ok("PUT", "/backup/plans/", plan(&rule("RuleName", &json!("r")))).await;
    let target = format!("/backup/plans/{}/selections/", text(&made, "BackupPlanId"));
    let selection = json!({ "BackupSelection": {
        "SelectionName": "s", "IamRoleArn": role, "Resources": ["*"],
    } });
    let reply = world.refused("PUT", &target, selection, INVALID).await;
    assert!(reply.message().contains("provault role add"), "{reply:?}");

    for key in ["arn:aws:kms:us-east-1:123456789012:key/none", "alias/none"] {
        let body = json!({ "EncryptionKeyArn": key });
        let reply = world.refused("PUT", "/backup-vaults/sealed", body, INVALID).await;
        assert!(reply.message().contains("provault key"), "{reply:?}");
    }
    let target = "/backup-vaults/Default/notification-configuration";
    let body = json!({
        "SNSTopicArn": "arn:aws:sns:us-east-1:123456789012:none",
        "BackupVaultEvents": ["BACKUP_JOB_COMPLETED"],
    });
    let reply = world.refused("PUT", target, body, INVALID).await;
    assert!(reply.message().contains("provault topic add"), "{reply:?}");
    let body = json!({ "SNSTopicArn": "arn:aws:sns:us-east-1:123456789012:none",
        "BackupVaultEvents": ["BACKUP_JOB_FINISHED"] });
    world.refused("PUT", target, body, INVALID).await;
}

#[tokio::test]
async fn duplicate_names() {
    const EXISTS: &str = "AlreadyExistsException";
    let world = World::new().await;
    let reply = world.refused("PUT", "/backup-vaults/Default", json!({}), EXISTS).await;
    assert_eq!(reply.body["Arn"], "arn:aws:backup:us-east-1:123456789012:backup-vault:Default");

    let body = plan(&rule("RuleName", &json!("r")));
    let made = world.ok("PUT", "/backup/plans/", body.clone()).await;
    let reply = world.refused("PUT", "/backup/plans/", body, EXISTS).await;
    assert_eq!(reply.body["Arn"], made["BackupPlanArn"]);
    let two = json!({ "BackupPlan": { "BackupPlanName": "q", "Rules": [
        rule("RuleName", &json!("r")), rule("RuleName", &json!("r")),
    ] } });
    world.refused("PUT", "/backup/plans/", two, INVALID).await;

    let target = format!("/backup/plans/{}/selections/", text(&made, "BackupPlanId"));
    let selection = json!({ "BackupSelection": {
        "SelectionName": "s", "IamRoleArn": ROLE, "Resources": ["*"],
    } });
    world.ok("PUT", &target, selection.clone()).await;
    world.refused("PUT", &target, selection, EXISTS).await;

    world.resource("data").await;
    let path = world.directory.path().join("sources");
    let body = json!({ "Kind": "filesystem", "Name": "data", "Config": { "path": path } });
    world.refused("POST", "/provault/v1/resources", body, EXISTS).await;
    let path = path.join("data");
    let body = json!({ "Kind": "filesystem", "Name": "again", "Config": { "path": path } });
    let reply = world.refused("POST", "/provault/v1/resources", body, EXISTS).await;
    assert!(reply.message().contains("registered under another name"), "{reply:?}");

    for noun in ["roles", "keys", "topics"] {
        let target = format!("/provault/v1/{noun}");
        world.ok("POST", &target, json!({ "Name": "twice" })).await;
        world.refused("POST", &target, json!({ "Name": "twice" }), EXISTS).await;
    }
}

#[tokio::test]
async fn bad_names_tags_and_windows() {
    let world = World::new().await;
    let resource = world.resource("data").await;
    for name in ["x", "with%20blank", "with.dot", &"x".repeat(51)] {
        let target = format!("/backup-vaults/{name}");
        world.refused("PUT", &target, json!({}), INVALID).await;
    }
    for tags in [json!({ "aws:x": "y" }), json!({ "": "y" }), json!({ "k": "v".repeat(257) })] {
        let body = json!({ "BackupVaultTags": tags });
        world.refused("PUT", "/backup-vaults/tagged", body, INVALID).await;
    }
    let body = json!({ "CreatorRequestId": "with blank" });
    world.refused("PUT", "/backup-vaults/asked", body, INVALID).await;
    for (member, value) in [
        ("StartWindowMinutes", json!(59)),
        ("CompleteWindowMinutes", json!(1)),
        ("BackupOptions", json!({ "WindowsVSS": "enabled" })),
        ("Index", json!("ENABLED")),
        ("IdempotencyToken", json!("x".repeat(257))),
        ("RecoveryPointTags", json!({ "aws:x": "y" })),
    ] {
        let mut body = json!({
            "BackupVaultName": "Default", "ResourceArn": resource, "IamRoleArn": ROLE,
        });
        body[member] = value;
        world.refused("PUT", "/backup-jobs", body, INVALID).await;
    }
    for noun in ["roles", "keys", "topics"] {
        let target = format!("/provault/v1/{noun}");
        world.refused("POST", &target, json!({ "Name": "no good" }), INVALID).await;
    }
    let many: serde_json::Map<String, Value> =
        (0..51).map(|n| (format!("k{n}"), json!("v"))).collect();
    let target = format!("/tags/{}", segment(&resource));
    world.refused("POST", &target, json!({ "Tags": many }), INVALID).await;
}

#[tokio::test]
async fn settings_that_cannot_be_honoured_are_refused_by_name() {
    let world = World::new().await;
    let vault = "arn:aws:backup:us-east-1:123456789012:backup-vault:Default";
    for (member, value) in [
        ("CopyActions", json!([{ "DestinationBackupVaultArn": vault }])),
        ("EnableContinuousBackup", json!(true)),
        ("IndexActions", json!([{ "ResourceTypes": ["EBS"] }])),
        ("ScanActions", json!([{ "MalwareScanner": "GUARDDUTY", "ScanMode": "FULL_SCAN" }])),
        ("TargetLogicallyAirGappedBackupVaultArn", json!(vault)),
    ] {
        let body = plan(&rule(member, &value));
        let reply = world.refused("PUT", "/backup/plans/", body, INVALID).await;
        let wanted = format!("BackupPlan.Rules[0].{member}: is not supported by this server yet");
        assert!(reply.message().starts_with(&wanted), "{reply:?}");
    }
    let mut body = plan(&rule("RuleName", &json!("r")));
    body["BackupPlan"]["AdvancedBackupSettings"] =
        json!([{ "ResourceType": "EC2", "BackupOptions": { "WindowsVSS": "enabled" } }]);
    let reply = world.refused("PUT", "/backup/plans/", body, INVALID).await;
    assert!(reply.message().contains("AdvancedBackupSettings"), "{reply:?}");
    // Off is what this server does anyway.
    let body = plan(&rule("EnableContinuousBackup", &json!(false)));
    world.ok("PUT", "/backup/plans/", body).await;
}

//! A real directory: backed up, looked at, restored, deleted.

use serde_json::{Value, json};

use crate::support::{ROLE, World, segment, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_backed_up_restored_and_its_point_deleted() {
    let world = World::new().await;
    world.ok("PUT", "/backup-vaults/lab", json!({})).await;
    let resource = world.resource("data").await;
    let running = world.start().await;
    let point = world.backup(&resource, "lab").await;

    let in_vault = format!("/backup-vaults/lab/recovery-points/{}", segment(&point));
    let described = world.ok("GET", &in_vault, Value::Null).await;
    assert_eq!(described["Status"], "COMPLETED");
    assert_eq!(described["StorageClass"], "WARM");
    assert_eq!(described["IsEncrypted"], true);
    assert_eq!(described["ResourceName"], "data");
    assert_eq!(described["BackupSizeInBytes"], 4);
    // In another vault it is not.
    let elsewhere = format!("/backup-vaults/Default/recovery-points/{}", segment(&point));
    let reply = world.refused("GET", &elsewhere, Value::Null, "ResourceNotFoundException").await;
    assert!(reply.message().contains("it is in 'lab'"), "{reply:?}");
    world.refused("DELETE", &elsewhere, Value::Null, "ResourceNotFoundException").await;

    let list = "/backup-vaults/lab/recovery-points/";
    for (query, count) in [
        (String::new(), 1),
        ("?resourceType=EFS".to_owned(), 1),
        ("?resourceType=EBS".to_owned(), 0),
        (format!("?resourceArn={}", segment(&resource)), 1),
        ("?backupPlanId=none".to_owned(), 0),
        ("?createdAfter=2999-01-01T00:00:00Z".to_owned(), 0),
        ("?createdBefore=2999-01-01T00:00:00Z".to_owned(), 1),
        ("?parentRecoveryPointArn=x".to_owned(), 0),
    ] {
        let points = world.ok("GET", &format!("{list}{query}"), Value::Null).await;
        assert_eq!(points["RecoveryPoints"].as_array().unwrap().len(), count, "{query}");
    }
    let of_resource = format!("/resources/{}/recovery-points/", segment(&resource));
    let points = world.ok("GET", &of_resource, Value::Null).await;
    assert_eq!(points["RecoveryPoints"][0]["RecoveryPointArn"], point.as_str());
    let protected = world.ok("GET", "/resources/", Value::Null).await;
    assert_eq!(protected["Results"][0]["ResourceArn"], resource.as_str());
    let shown = world.ok("GET", &format!("/resources/{}", segment(&resource)), Value::Null).await;
    assert_eq!(shown["LastRecoveryPointArn"], point.as_str());
    let shown = world.ok("GET", "/provault/v1/resources/data", Value::Null).await;
    assert_eq!(shown["Verdict"], "NOT_TESTED");

    // A vault with a point in it is not deleted.
    let target = "/backup-vaults/lab";
    let reply = world.refused("DELETE", target, Value::Null, "InvalidRequestException").await;
    assert!(reply.message().contains("there is 1 recovery point"), "{reply:?}");
    assert!(reply.message().contains("delete-recovery-point"), "{reply:?}");

    restore(&world, &point, &in_vault).await;

    world.ok("DELETE", &in_vault, Value::Null).await;
    for _ in 0..1200 {
        let vault = world.ok("GET", target, Value::Null).await;
        if vault["NumberOfRecoveryPoints"] == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    world.ok("DELETE", target, Value::Null).await;
    running.stop("the test is over").await;
}

async fn restore(world: &World, point: &str, in_vault: &str) {
    let metadata = world.ok("GET", &format!("{in_vault}/restore-metadata"), Value::Null).await;
    assert_eq!(metadata["ResourceType"], "EFS");
    let mut metadata = metadata["RestoreMetadata"].clone();
    let to = world.directory.path().join("restored");
    metadata["targetPath"] = json!(to);
    let ask = |metadata: &Value, token: &str| {
        json!({ "RecoveryPointArn": point, "Metadata": metadata, "IamRoleArn": ROLE,
            "IdempotencyToken": token })
    };
    // What the driver does not know is refused by its name, before there is a job.
    let mut wrong = metadata.clone();
    wrong["colour"] = json!("red");
    let reply = world
        .refused("PUT", "/restore-jobs", ask(&wrong, "t"), "InvalidParameterValueException")
        .await;
    assert!(reply.message().contains("colour"), "{reply:?}");
    for (member, value) in [
        ("ResourceType", json!("RDS")),
        ("CopySourceTagsToRestoredResource", json!(true)),
        ("IamRoleArn", json!("arn:aws:iam::123456789012:role/nobody")),
    ] {
        let mut body = ask(&metadata, "t");
        body[member] = value;
        let reply =
            world.refused("PUT", "/restore-jobs", body, "InvalidParameterValueException").await;
        assert!(reply.message().starts_with(member), "{reply:?}");
    }

    let job = world.ok("PUT", "/restore-jobs", ask(&metadata, "t")).await;
    let id = text(&job, "RestoreJobId");
    let done = world.wait(&format!("/restore-jobs/{id}"), "Status", "COMPLETED").await;
    assert_eq!(done["PercentDone"], "100.0");
    assert_eq!(std::fs::read_to_string(to.join("data.txt")).unwrap(), "data");
    // Repeated it is the same job; with other parameters it is a contradiction.
    assert_eq!(world.ok("PUT", "/restore-jobs", ask(&metadata, "t")).await, job);
    let mut other = metadata.clone();
    other["verify"] = json!("false");
    let reply = world.refused("PUT", "/restore-jobs", ask(&other, "t"), "ConflictException").await;
    assert!(reply.message().contains(&id), "{reply:?}");
    let listed = world.ok("GET", "/restore-jobs/?status=COMPLETED", Value::Null).await;
    assert_eq!(listed["RestoreJobs"][0]["RestoreJobId"], id.as_str());
    let nobodys = segment("arn:aws:backup:us-east-1:123456789012:restore-testing-plan:none");
    let of_none = format!("/restore-jobs/?restoreTestingPlanArn={nobodys}");
    let none = world.ok("GET", &of_none, Value::Null).await;
    assert_eq!(none["RestoreJobs"], json!([]));
    let log = world.ok("GET", &format!("/provault/v1/jobs/{id}/log"), Value::Null).await;
    assert_eq!(log["JobType"], "RESTORE");
    assert!(!log["Entries"].as_array().unwrap().is_empty(), "{log}");
}

/// Without a running engine jobs stay where they are.
#[tokio::test]
async fn a_waiting_job_is_repeated_listed_and_stopped() {
    let world = World::new().await;
    let resource = world.resource("data").await;
    let ask = |minutes: i64| {
        json!({ "BackupVaultName": "Default", "ResourceArn": resource, "IamRoleArn": ROLE,
            "IdempotencyToken": "token", "StartWindowMinutes": minutes,
            "Lifecycle": { "DeleteAfterDays": 1 }, "RecoveryPointTags": { "a": "b" } })
    };
    let job = world.ok("PUT", "/backup-jobs", ask(60)).await;
    assert_eq!(world.ok("PUT", "/backup-jobs", ask(60)).await, job);
    let reply = world.refused("PUT", "/backup-jobs", ask(61), "ConflictException").await;
    assert!(reply.message().contains("IdempotencyToken 'token'"), "{reply:?}");

    let id = text(&job, "BackupJobId");
    let shown = world.ok("GET", &format!("/backup-jobs/{id}"), Value::Null).await;
    assert_eq!(shown["State"], "CREATED");
    assert_eq!(shown["PercentDone"], "0.0");
    assert_eq!(shown["RecoveryPointLifecycle"], json!({ "DeleteAfterDays": 1 }));
    let vault = world.ok("GET", "/backup-vaults/Default", Value::Null).await;
    assert_eq!(shown["EncryptionKeyArn"], vault["EncryptionKeyArn"]);
    let window = shown["StartBy"].as_f64().unwrap() - shown["CreationDate"].as_f64().unwrap();
    assert!((window - 3600.0).abs() < 0.01, "{shown}");

    for (query, count) in [
        ("", 1),
        ("?state=CREATED", 1),
        ("?state=RUNNING", 0),
        ("?backupVaultName=Default", 1),
        ("?backupVaultName=other", 0),
        ("?resourceType=EFS", 1),
        ("?resourceType=DynamoDB", 0),
        ("?accountId=123456789012", 1),
        ("?parentJobId=x", 0),
        ("?messageCategory=SUCCESS", 0),
        ("?createdAfter=2999-01-01T00:00:00Z", 0),
        ("?completeBefore=2999-01-01T00:00:00Z", 0),
    ] {
        let jobs = world.ok("GET", &format!("/backup-jobs/{query}"), Value::Null).await;
        assert_eq!(jobs["BackupJobs"].as_array().unwrap().len(), count, "{query}");
    }
    for (query, name) in [
        ("accountId=999999999999", "AccessDeniedException"),
        ("messageCategory=WEIRD", "InvalidParameterValueException"),
        ("resourceArn=x", "InvalidParameterValueException"),
        ("state=DONE", "InvalidParameterValueException"),
    ] {
        let reply = world.call("GET", &format!("/backup-jobs/?{query}"), &Value::Null).await;
        assert_eq!(reply.error(), name, "{query}");
    }
    // Jobs that wait hold what they need.
    let remove = "/provault/v1/resources/data";
    world.refused("DELETE", remove, Value::Null, "InvalidRequestException").await;

    world.ok("POST", &format!("/backup-jobs/{id}"), Value::Null).await;
    let shown = world.ok("GET", &format!("/backup-jobs/{id}"), Value::Null).await;
    assert_eq!(shown["State"], "ABORTED");
    assert!(text(&shown, "StatusMessage").contains("root"), "{shown}");
    let target = format!("/backup-jobs/{id}");
    world.refused("POST", &target, Value::Null, "InvalidRequestException").await;
    world.ok("DELETE", remove, Value::Null).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shrunk_point_says_so_until_it_is_accepted() {
    let world = World::new().await;
    let resource = world.resource("data").await;
    let file = world.directory.path().join("sources/data/more.txt");
    std::fs::write(&file, "much more than the other").unwrap();
    let running = world.start().await;
    let good = world.backup(&resource, "Default").await;
    std::fs::remove_file(&file).unwrap();
    let small = world.backup(&resource, "Default").await;
    running.stop("enough is backed up").await;

    let own = |point: &str| format!("/provault/v1/recovery-points/{}", segment(point));
    let shown = world.ok("GET", &own(&good), Value::Null).await;
    assert_eq!((&shown["Good"], &shown["Shrunk"]), (&json!(true), &Value::Null));
    let shown = world.ok("GET", &own(&small), Value::Null).await;
    assert_eq!((&shown["Good"], &shown["Status"]), (&json!(false), &json!("COMPLETED")));
    assert_eq!(shown["Shrunk"]["BeforeRecoveryPointArn"], good.as_str());
    assert_eq!(
        (&shown["Shrunk"]["BytesBefore"], &shown["Shrunk"]["Bytes"]),
        (&json!(28), &json!(4))
    );
    let in_vault = format!("/backup-vaults/Default/recovery-points/{}", segment(&small));
    let described = world.ok("GET", &in_vault, Value::Null).await;
    let message = text(&described, "StatusMessage");
    assert!(message.contains("recovery-points accept"), "{message}");
    let shown = world.ok("GET", "/provault/v1/resources/data", Value::Null).await;
    assert_eq!(shown["LastGoodRecoveryPointArn"], good.as_str());
    assert!(text(&shown, "Shrunk").starts_with("SHRUNK"), "{shown}");

    let accept = |point: &str| format!("{}/accept", own(point));
    let none = "InvalidRequestException";
    let reply = world.refused("POST", &accept(&good), Value::Null, none).await;
    assert!(reply.message().contains("not marked"), "{reply:?}");
    let unknown = "ResourceNotFoundException";
    world.refused("POST", &accept("arn:aws:backup:x"), Value::Null, unknown).await;
    let accepted = world.ok("POST", &accept(&small), Value::Null).await;
    assert_eq!(accepted["Good"], true);
    assert!(accepted["Shrunk"]["AcceptanceDate"].is_number(), "{accepted}");
    let shown = world.ok("GET", "/provault/v1/resources/data", Value::Null).await;
    assert_eq!(shown["LastGoodRecoveryPointArn"], small.as_str());
    assert_eq!(shown["Shrunk"], Value::Null);
}

//! Vaults, their tags and notifications.

use provault_app::Settings;
use serde_json::{Value, json};

use crate::support::{World, segment, text};

#[tokio::test]
async fn a_repeated_request_makes_one_vault() {
    let world = World::new().await;
    let body = json!({ "CreatorRequestId": "token-1", "BackupVaultTags": { "team": "a" } });
    let first = world.ok("PUT", "/backup-vaults/mine", body.clone()).await;
    let before = world.app.engine().catalog().list_audit(world.app.account()).await.unwrap();
    let second = world.ok("PUT", "/backup-vaults/mine", body).await;
    assert_eq!(first, second);
    let other = json!({ "CreatorRequestId": "token-2" });
    let reply = world.refused("PUT", "/backup-vaults/mine", other, "AlreadyExistsException").await;
    assert_eq!(reply.body["CreatorRequestId"], "token-1");
    let made = before.iter().find(|r| r.action == "backup:CreateBackupVault").unwrap();
    assert_eq!(made.resource, text(&first, "BackupVaultArn"));
    assert_eq!(made.principal, "arn:aws:iam::123456789012:root");
}

#[tokio::test]
async fn a_vault_that_does_not_exist_is_denied_or_not_found_by_setting() {
    let world = World::new().await;
    let reply = world.call("GET", "/backup-vaults/nowhere", &Value::Null).await;
    assert_eq!((reply.error(), reply.status), ("AccessDeniedException", 403));
    assert_eq!(reply.message(), "Insufficient privileges to perform this action.");
    let settings = Settings { missing_vault_is_access_denied: false, ..Settings::default() };
    let world = World::with(settings).await;
    let reply = world.call("GET", "/backup-vaults/nowhere", &Value::Null).await;
    assert_eq!((reply.error(), reply.status), ("ResourceNotFoundException", 400));
}

#[tokio::test]
async fn an_empty_vault_can_be_deleted_and_the_default_one_cannot() {
    let world = World::new().await;
    world.ok("PUT", "/backup-vaults/gone", json!({})).await;
    let described = world.ok("GET", "/backup-vaults/gone", Value::Null).await;
    assert_eq!(described["NumberOfRecoveryPoints"], 0);
    assert_eq!(described["VaultType"], "BACKUP_VAULT");
    assert!(described["CreationDate"].is_number(), "{described}");
    let reply = world.call("DELETE", "/backup-vaults/gone", &Value::Null).await;
    assert_eq!((reply.status, reply.body), (200, Value::Null));
    let list = world.ok("GET", "/backup-vaults/", Value::Null).await;
    assert_eq!(list["BackupVaultList"].as_array().unwrap().len(), 1);
    let target = "/backup-vaults/Default";
    world.refused("DELETE", target, Value::Null, "InvalidRequestException").await;
    let shared = world.ok("GET", "/backup-vaults/?shared=true", Value::Null).await;
    assert_eq!(shared["BackupVaultList"], json!([]));
}

#[tokio::test]
async fn a_quota_is_a_limit() {
    let world = World::with(Settings { max_vaults: 2, ..Settings::default() }).await;
    world.ok("PUT", "/backup-vaults/second", json!({})).await;
    let target = "/backup-vaults/third";
    world.refused("PUT", target, json!({}), "LimitExceededException").await;
}

#[tokio::test]
async fn notifications_are_set_read_and_deleted() {
    let world = World::new().await;
    let topic = world.ok("POST", "/provault/v1/topics", json!({ "Name": "alarms" })).await;
    let arn = text(&topic, "Arn");
    assert_eq!(arn, "arn:aws:sns:us-east-1:123456789012:alarms");
    let target = "/backup-vaults/Default/notification-configuration";
    let events = json!(["BACKUP_JOB_COMPLETED", "RESTORE_JOB_COMPLETED"]);
    let body = json!({ "SNSTopicArn": arn, "BackupVaultEvents": events });
    world.ok("PUT", target, body).await;
    let setting = world.ok("GET", target, Value::Null).await;
    assert_eq!(setting["SNSTopicArn"], arn.as_str());
    assert_eq!(setting["BackupVaultEvents"], events);
    // The topic is needed while a vault sends to it.
    let remove = "/provault/v1/topics/alarms";
    world.refused("DELETE", remove, Value::Null, "InvalidRequestException").await;
    world.ok("DELETE", target, Value::Null).await;
    world.refused("GET", target, Value::Null, "ResourceNotFoundException").await;
    world.ok("DELETE", remove, Value::Null).await;
}

#[tokio::test]
async fn tags_are_set_and_removed_on_vaults_plans_and_resources() {
    let world = World::new().await;
    let vault = text(&world.ok("PUT", "/backup-vaults/v1", json!({})).await, "BackupVaultArn");
    let resource = world.resource("data").await;
    let plan = json!({ "BackupPlan": { "BackupPlanName": "p",
        "Rules": [{ "RuleName": "r", "TargetBackupVaultName": "v1" }] } });
    let plan = text(&world.ok("PUT", "/backup/plans/", plan).await, "BackupPlanArn");
    for arn in [vault, plan, resource.clone()] {
        let target = format!("/tags/{}", segment(&arn));
        let body = json!({ "Tags": { "workload": "myapp", "Workload": "other" } });
        world.ok("POST", &target, body).await;
        let untag = format!("/untag/{}", segment(&arn));
        world.ok("POST", &untag, json!({ "TagKeyList": ["Workload", "absent"] })).await;
        let tags = world.ok("GET", &target, Value::Null).await;
        assert_eq!(tags["Tags"], json!({ "workload": "myapp" }), "{arn}");
    }
    let shown = world.ok("GET", "/provault/v1/resources/data", Value::Null).await;
    assert_eq!(shown["Tags"], json!({ "workload": "myapp" }));
}

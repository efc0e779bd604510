//! Pages, and tokens that were made up or carried elsewhere.

use serde_json::{Value, json};

use crate::support::{World, segment, text};

#[tokio::test]
async fn pages_hold_every_vault_once_in_the_order_of_creation() {
    let world = World::new().await;
    for name in ["zz", "aa", "mm"] {
        world.ok("PUT", &format!("/backup-vaults/{name}"), json!({})).await;
    }
    let mut seen = Vec::new();
    let mut target = "/backup-vaults/?maxResults=1".to_owned();
    loop {
        let page = world.ok("GET", &target, Value::Null).await;
        let list = page["BackupVaultList"].as_array().unwrap();
        assert_eq!(list.len(), 1);
        seen.push(text(&list[0], "BackupVaultName"));
        let Some(token) = page["NextToken"].as_str() else { break };
        target = format!("/backup-vaults/?maxResults=1&nextToken={token}");
    }
    assert_eq!(seen, ["Default", "zz", "aa", "mm"]);
}

#[tokio::test]
async fn a_forged_or_stale_token_is_an_error() {
    const INVALID: &str = "InvalidParameterValueException";
    let world = World::new().await;
    world.ok("PUT", "/backup-vaults/second", json!({})).await;
    for name in ["a", "b"] {
        world
            .ok(
                "PUT",
                "/backup/plans/",
                json!({ "BackupPlan": { "BackupPlanName": name,
            "Rules": [{ "RuleName": "r", "TargetBackupVaultName": "Default" }] } }),
            )
            .await;
    }
    let page = world.ok("GET", "/backup/plans/?maxResults=1", Value::Null).await;
    let token = text(&page, "NextToken");
    for target in [
        // Of another operation, of another filter, changed, made up.
        format!("/backup-vaults/?nextToken={token}"),
        format!("/backup/plans/?nextToken={token}&includeDeleted=true"),
        format!("/backup/plans/?nextToken={}", token.replacen(&token[..2], "zz", 1)),
        "/backup/plans/?nextToken=made-up".to_owned(),
        "/backup-jobs/?nextToken=made-up".to_owned(),
        "/provault/v1/resources?nextToken=made-up".to_owned(),
    ] {
        let reply = world.refused("GET", &target, Value::Null, INVALID).await;
        assert!(reply.message().starts_with("NextToken"), "{target}: {reply:?}");
    }
    for results in ["0", "1001", "-1"] {
        let target = format!("/backup-vaults/?maxResults={results}");
        world.refused("GET", &target, Value::Null, INVALID).await;
    }
    // Where it belongs it works.
    let target = format!("/backup/plans/?nextToken={token}");
    let page = world.ok("GET", &target, Value::Null).await;
    assert_eq!(page["BackupPlansList"][0]["BackupPlanName"], "b");
}

#[tokio::test]
async fn tags_page_by_their_keys() {
    let world = World::new().await;
    let tags = json!({ "BackupVaultTags": { "a": "1", "B": "2", "c": "3" } });
    let vault = world.ok("PUT", "/backup-vaults/tagged", tags).await;
    let target = format!("/tags/{}/", segment(&text(&vault, "BackupVaultArn")));
    let first = world.ok("GET", &format!("{target}?maxResults=2"), Value::Null).await;
    assert_eq!(first["Tags"], json!({ "B": "2", "a": "1" }));
    let token = text(&first, "NextToken");
    let rest = world.ok("GET", &format!("{target}?nextToken={token}"), Value::Null).await;
    assert_eq!(rest["Tags"], json!({ "c": "3" }));
    assert_eq!(rest["NextToken"], Value::Null);
}

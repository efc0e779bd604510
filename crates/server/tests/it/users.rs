//! Users: what each may do, their access keys, and what the audit trail says of it.

use provault_app::{App, Settings};
use provault_iam::{Credentials, Secret};
use serde_json::{Value, json};

use crate::support::{Reply, World, engine, setup, text};

const USERS: &str = "/provault/v1/users";

/// A new access key of somebody.
async fn key_of(world: &World, name: &str) -> Credentials {
    let made = world.ok("POST", &format!("{USERS}/{name}/access-keys"), Value::Null).await;
    Credentials {
        access_key_id: text(&made, "AccessKeyId"),
        secret_access_key: Secret::new(text(&made, "SecretAccessKey")),
        session_token: None,
    }
}

/// A request that somebody else signs.
async fn as_user(
    world: &mut World,
    who: &Credentials,
    method: &str,
    target: &str,
    body: Value,
) -> Reply {
    let before = std::mem::replace(&mut world.credentials, who.clone());
    let reply = world.call(method, target, &body).await;
    world.credentials = before;
    reply
}

#[tokio::test]
async fn a_user_may_do_what_its_policies_say() {
    let mut world = World::new().await;
    let auditor = json!({ "Name": "eve", "ManagedPolicies": ["auditor"] });
    let made = world.ok("POST", USERS, auditor).await;
    assert_eq!(made["ManagedPolicies"], json!(["Auditor"]), "as it is written");
    assert_eq!(made["Arn"], "arn:aws:iam::123456789012:user/eve");
    let eve = key_of(&world, "eve").await;
    let reply = as_user(&mut world, &eve, "GET", "/backup-vaults/", Value::Null).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = as_user(&mut world, &eve, "PUT", "/backup-vaults/hers", json!({})).await;
    assert_eq!((reply.status, reply.error()), (403, "AccessDeniedException"));
    assert!(reply.message().contains("user/eve"), "{reply:?}");
    for (method, target) in [
        ("POST", "/provault/v1/vaults/Default/export-password"),
        ("POST", "/provault/v1/users/eve/access-keys"),
        ("POST", "/provault/v1/users/root/access-keys"),
    ] {
        let reply = as_user(&mut world, &eve, method, target, Value::Null).await;
        assert_eq!(reply.status, 403, "{target}: {reply:?}");
    }
    // More, and then less, at once.
    world.ok("POST", &format!("{USERS}/eve"), json!({ "ManagedPolicies": ["Operator"] })).await;
    let reply = as_user(&mut world, &eve, "PUT", "/backup-vaults/hers", json!({})).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = as_user(&mut world, &eve, "DELETE", "/backup-vaults/hers", Value::Null).await;
    assert_eq!(reply.status, 403, "{reply:?}");
    let own = r#"{"Statement":{"Effect":"Allow","Action":"backup:DeleteBackupVault",
        "Resource":"arn:aws:backup:us-east-1:123456789012:backup-vault:hers"}}"#;
    world.ok("POST", &format!("{USERS}/eve"), json!({ "PolicyDocument": own })).await;
    let reply = as_user(&mut world, &eve, "DELETE", "/backup-vaults/Default", Value::Null).await;
    assert_eq!(reply.status, 403, "{reply:?}");
    let reply = as_user(&mut world, &eve, "DELETE", "/backup-vaults/hers", Value::Null).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    world
        .ok("POST", &format!("{USERS}/eve"), json!({ "ManagedPolicies": [], "PolicyDocument": "" }))
        .await;
    let reply = as_user(&mut world, &eve, "GET", "/backup-vaults/", Value::Null).await;
    assert_eq!(reply.status, 403, "{reply:?}");

    // Changes and denials stand in the audit trail, the newest first.
    let audit = world.ok("GET", "/provault/v1/audit?limit=1000", Value::Null).await;
    let records = audit["AuditRecords"].as_array().unwrap();
    let of = |action: &str, outcome: &str| {
        let same = |r: &&Value| r["Action"] == action && r["Outcome"] == outcome;
        records.iter().find(same).unwrap_or_else(|| panic!("no {action} {outcome}: {audit:#}"))
    };
    let eves = "arn:aws:iam::123456789012:user/eve";
    assert_eq!(of("backup:CreateBackupVault", "AccessDeniedException")["PrincipalArn"], eves);
    assert_eq!(of("backup:DeleteBackupVault", "done")["PrincipalArn"], eves);
    assert_eq!(of("provault:AddUser", "done")["PrincipalArn"], "arn:aws:iam::123456789012:root");
    assert!(records[0]["Time"].as_f64() >= records[records.len() - 1]["Time"].as_f64());
    let one = world.ok("GET", "/provault/v1/audit?limit=1", Value::Null).await;
    assert_eq!(one["AuditRecords"].as_array().unwrap().len(), 1);
    let none = world.ok("GET", "/provault/v1/audit?since=2999-01-01T00:00:00Z", Value::Null).await;
    assert_eq!(none["AuditRecords"], json!([]));
    for query in ["limit=0", "limit=many", "since=yesterday", "until=now"] {
        let target = format!("/provault/v1/audit?{query}");
        world.refused("GET", &target, Value::Null, "InvalidParameterValueException").await;
    }
}

#[tokio::test]
async fn keys_are_rotated_disabled_and_deleted() {
    let mut world = World::new().await;
    world.ok("POST", USERS, json!({ "Name": "bob", "ManagedPolicies": ["Auditor"] })).await;
    let (old, new) = (key_of(&world, "bob").await, key_of(&world, "bob").await);
    let third = format!("{USERS}/bob/access-keys");
    world.refused("POST", &third, Value::Null, "LimitExceededException").await;
    let old_key = format!("/provault/v1/access-keys/{}", old.access_key_id);
    world.ok("POST", &old_key, json!({ "Status": "Inactive" })).await;
    let reply = as_user(&mut world, &old, "GET", "/backup-vaults/", Value::Null).await;
    assert_eq!(reply.status, 403, "{reply:?}");
    let reply = as_user(&mut world, &new, "GET", "/backup-vaults/", Value::Null).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    world.ok("POST", &old_key, json!({ "Status": "Active" })).await;
    let reply = as_user(&mut world, &old, "GET", "/backup-vaults/", Value::Null).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    world.ok("DELETE", &old_key, Value::Null).await;
    let reply = as_user(&mut world, &old, "GET", "/backup-vaults/", Value::Null).await;
    assert_eq!(reply.status, 403, "{reply:?}");
    world.refused("DELETE", &old_key, Value::Null, "ResourceNotFoundException").await;
    let listed = world.ok("GET", USERS, Value::Null).await;
    assert_eq!(listed["Users"][0]["Name"], "root");
    assert_eq!(listed["Users"][1]["AccessKeys"].as_array().unwrap().len(), 1);
    assert!(!listed.to_string().contains("Secret"), "{listed:#}");
    world.ok("DELETE", &format!("{USERS}/bob"), Value::Null).await;
    let reply = as_user(&mut world, &new, "GET", "/backup-vaults/", Value::Null).await;
    assert_eq!(reply.status, 403, "{reply:?}");
}

#[tokio::test]
async fn the_root_never_locks_itself_out_and_its_file_follows() {
    let mut world = World::new().await;
    let first = format!("/provault/v1/access-keys/{}", world.credentials.access_key_id);
    world.refused("DELETE", &first, Value::Null, "InvalidRequestException").await;
    world.refused("POST", &first, json!({ "Status": "Inactive" }), "InvalidRequestException").await;
    // An administrator is not the root.
    world.ok("POST", USERS, json!({ "Name": "ann", "ManagedPolicies": ["Administrator"] })).await;
    let ann = key_of(&world, "ann").await;
    let roots = "/provault/v1/users/root/access-keys";
    let reply = as_user(&mut world, &ann, "POST", roots, Value::Null).await;
    assert_eq!(reply.status, 403, "{reply:?}");
    let reply = as_user(&mut world, &ann, "DELETE", &first, Value::Null).await;
    assert_eq!(reply.status, 403, "{reply:?}");

    let new = key_of(&world, "root").await;
    let file = || std::fs::read_to_string(world.app.credentials_path()).unwrap();
    assert!(!file().contains(&new.access_key_id));
    world.ok("POST", &first, json!({ "Status": "Inactive" })).await;
    assert!(file().contains(&new.access_key_id), "the file names a key that works");
    assert_eq!(world.call("GET", USERS, &Value::Null).await.status, 403);
    world.credentials = new.clone();
    world.ok("DELETE", &first, Value::Null).await;
    let second = format!("/provault/v1/access-keys/{}", new.access_key_id);
    world.refused("DELETE", &second, Value::Null, "InvalidRequestException").await;

    // All of it holds after a start.
    let directory = world.stop().await;
    let again = engine(directory.path()).await;
    let app = App::open(setup(again, directory.path(), Settings::default())).await.unwrap();
    assert!(app.access_key(&new.access_key_id).is_some());
    assert!(app.access_key(&ann.access_key_id).is_some());
    let file = std::fs::read_to_string(app.credentials_path()).unwrap();
    assert!(file.contains(&new.access_key_id));
}

#[tokio::test]
async fn what_is_no_user_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let invalid = "InvalidParameterValueException";
    for body in [
        json!({ "Name": "root" }),
        json!({ "Name": "Root" }),
        json!({ "Name": "a/b" }),
        json!({ "Name": "" }),
        json!({ "Name": "a", "ManagedPolicies": ["Everybody"] }),
        json!({ "Name": "a", "PolicyDocument": "{}" }),
        json!({ "Name": "a", "PolicyDocument": "no" }),
        json!({ "Name": "a", "Password": "x" }),
    ] {
        world.refused("POST", USERS, body, invalid).await;
    }
    world.ok("POST", USERS, json!({ "Name": "a" })).await;
    world.refused("POST", USERS, json!({ "Name": "a" }), "AlreadyExistsException").await;
    let missing = "ResourceNotFoundException";
    world.refused("POST", &format!("{USERS}/b"), json!({}), missing).await;
    world.refused("DELETE", &format!("{USERS}/b"), Value::Null, missing).await;
    world.refused("DELETE", &format!("{USERS}/root"), Value::Null, missing).await;
    world.refused("POST", &format!("{USERS}/b/access-keys"), Value::Null, missing).await;
    let nobodys = "/provault/v1/access-keys/AKIAAAAAAAAAAAAAAAAA";
    world.refused("DELETE", nobodys, Value::Null, missing).await;
    world.refused("POST", nobodys, json!({ "Status": "Asleep" }), invalid).await;
}

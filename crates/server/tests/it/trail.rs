//! The audit trail: which key, how long, how often, and what the server did by itself.

use provault_app::{Reload, Reloaded};
use provault_domain::AccountId;
use serde_json::{Value, json};

use crate::support::{World, text};

async fn records(world: &World) -> Vec<Value> {
    let audit = world.ok("GET", "/provault/v1/audit?limit=1000", Value::Null).await;
    audit["AuditRecords"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_record_says_which_key_acted_and_the_root_key_has_one_too() {
    let world = World::new().await;
    world.ok("POST", "/provault/v1/users", json!({ "Name": "bob" })).await;
    let found = records(&world).await;
    assert_eq!(found[0]["Action"], "provault:AddUser");
    assert_eq!(found[0]["AccessKeyId"], world.credentials.access_key_id.as_str());
    assert_eq!(found[0]["Outcome"], "done");
    let made = found.last().unwrap();
    assert_eq!(made["Action"], "provault:CreateAccessKey");
    assert_eq!(made["PrincipalArn"], "provault");
    assert_eq!(made["Resource"], world.credentials.access_key_id.as_str());
    assert_eq!(found.len(), 2, "one record each: {found:#?}");
    let commands = World::that_runs_commands().await;
    let found = records(&commands).await;
    let started = found.iter().find(|record| record["Action"] == "provault:StartServer").unwrap();
    assert_eq!(started["Resource"], "--allow-command-subscriptions");
}

/// Takes over what it is told to.
struct Changes(provault_engine::Engine);

impl Reload for Changes {
    fn reload(&self) -> Result<Reloaded, String> {
        let commands = !self.0.runs_commands();
        self.0.let_commands_run(commands);
        Ok(Reloaded {
            changed: vec!["allow-command-subscriptions".to_owned(), "log-level".to_owned()],
            needs_restart: vec!["listen".to_owned()],
            missing_vault_is_access_denied: true,
        })
    }
}

/// What a start is recorded for when it loosens something, a reload is too, and says which way it went.
#[tokio::test]
async fn what_loosens_the_server_is_recorded() {
    let world = World::new().await;
    world.app.trust_the_clock().await.unwrap();
    let found = records(&world).await;
    assert_eq!(found[0]["Action"], "provault:StartServer", "{found:#?}");
    assert_eq!(found[0]["Resource"], "--trust-the-clock");
    assert_eq!(
        (&found[0]["PrincipalArn"], &found[0]["Outcome"]),
        (&json!("provault"), &json!("done"))
    );

    world.app.reload_with(std::sync::Arc::new(Changes(world.app.engine().clone())));
    for on in [true, false] {
        world.ok("POST", "/provault/v1/server/reload", Value::Null).await;
        let found = records(&world).await;
        assert_eq!(found[0]["Action"], "provault:ReloadSettings", "{found:#?}");
        let said = format!("settings: allow-command-subscriptions={on}, log-level");
        assert_eq!(found[0]["Resource"], said);
    }
}

/// Whoever may sign can be refused without end; the trail does not grow by it.
#[tokio::test]
async fn denials_are_joined_and_long_names_cut() {
    let mut world = World::new().await;
    let root = world.sign_as("Auditor").await;
    let long = "x".repeat(30_000);
    for _ in 0..5 {
        let denied = world.call("POST", "/provault/v1/users", &json!({ "Name": long })).await;
        assert_eq!(denied.status, 403, "{denied:?}");
    }
    world.denied("POST", "/provault/v1/users/bob/access-keys").await;
    let key = world.credentials.access_key_id.clone();
    world.credentials = root;
    let found = records(&world).await;
    let denials: Vec<&Value> =
        found.iter().filter(|record| record["Outcome"] == "AccessDeniedException").collect();
    assert_eq!(denials.len(), 2, "{denials:?}");
    let joined = denials.iter().find(|record| record["Action"] == "provault:AddUser").unwrap();
    assert_eq!(joined["Count"], 5);
    assert!(joined["LastTime"].as_f64() >= joined["Time"].as_f64());
    assert_eq!(joined["AccessKeyId"], key.as_str());
    assert!(text(joined, "Resource").len() < 600, "{joined}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_deletes_is_recorded() {
    let world = World::new().await;
    let resource = world.resource("data").await;
    let running = world.start().await;
    let first = world.backup(&resource, "Default").await;
    world.backup(&resource, "Default").await;
    let one = json!({ "KeepAtMost": 1 });
    world.ok("POST", "/provault/v1/resources/data/retention", one).await;
    for _ in 0..1200 {
        let found = records(&world).await;
        if let Some(gone) = found.iter().find(|r| r["Action"] == "provault:ExpireRecoveryPoint") {
            assert_eq!(
                (&gone["Resource"], &gone["PrincipalArn"]),
                (&json!(first), &json!("provault"))
            );
            running.stop("the test is over").await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("nothing was recorded");
}

/// A key whose answer was lost is the one that was never used.
#[tokio::test]
async fn a_key_tells_when_it_was_used_last() {
    let world = World::new().await;
    world.ok("POST", "/provault/v1/users/root/access-keys", Value::Null).await;
    let users = world.ok("GET", "/provault/v1/users", Value::Null).await;
    let keys = users["Users"][0]["AccessKeys"].as_array().unwrap();
    let used = |id: &str| keys.iter().find(|key| key["AccessKeyId"] == id).unwrap();
    assert!(used(&world.credentials.access_key_id)["LastUsedDate"].is_number(), "{users:#}");
    let other =
        keys.iter().find(|key| key["AccessKeyId"] != world.credentials.access_key_id.as_str());
    assert_eq!(other.unwrap().get("LastUsedDate"), None);
    // It is in the catalog, too.
    let account: AccountId = world.app.account().clone();
    for _ in 0..1200 {
        let rows = world.app.engine().catalog().list_access_keys(&account).await.unwrap();
        if rows.iter().any(|row| row.last_used_at.is_some()) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the use was never noted");
}

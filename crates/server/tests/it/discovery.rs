//! What stands on the host of the server: a made one.

use provault_iam::{Credentials, Secret};
use serde_json::{Value, json};

use crate::support::{World, text};

const TARGET: &str = "/provault/v1/discoveries";

fn write(world: &World, path: &str) {
    let path = world.directory.path().join("host").join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "text").unwrap();
}

fn found<'v>(discovery: &'v Value, below: &str) -> &'v Value {
    let found = discovery["Found"].as_array().unwrap();
    let ends = |one: &&Value| one["Location"].as_str().unwrap().ends_with(below);
    found.iter().find(ends).unwrap_or_else(|| panic!("no {below} in {discovery:#}"))
}

#[tokio::test]
async fn what_stands_unprotected_is_found_registered_and_exempted() {
    let world = World::new().await;
    let nothing = world.ok("GET", TARGET, Value::Null).await;
    assert_eq!((&nothing["Found"], &nothing["Cut"]), (&json!([]), &json!([])), "{nothing:#}");
    for path in ["etc/hosts", "home/ann/letter", "srv/app/data", "srv/server/vaults/blob"] {
        write(&world, path);
    }
    let before = world.state().await;
    let seen = world.ok("GET", TARGET, Value::Null).await;
    assert_eq!(world.state().await, before, "a look changes nothing, not even the audit trail");
    assert_eq!(seen["Found"].as_array().unwrap().len(), 3, "its own data is not offered: {seen:#}");
    let home = found(&seen, "host/home/ann");
    assert_eq!((&home["Coverage"], &home["Bytes"]), (&json!("NOTHING"), &json!(4)), "{home:#}");
    assert!(home["NewestDate"].is_number() && home["Counted"] == true, "{home:#}");

    let body = json!({ "Kind": home["Kind"], "Name": home["Name"], "Config": home["Config"] });
    world.ok("POST", "/provault/v1/resources", body).await;
    let name = text(home, "Name");
    let seen = world.ok("GET", TARGET, Value::Null).await;
    let home = found(&seen, "host/home/ann");
    assert_eq!((&home["Coverage"], &home["Exempt"]), (&json!("REGISTERED"), &json!(false)));
    assert_eq!(home["Resources"], json!([name]));

    let until = jiff::Timestamp::now().as_second() + 86_400;
    let exemption = json!({ "Reason": "made again", "Owner": "ann", "EndDate": until });
    world.ok("POST", &format!("/provault/v1/resources/{name}/exemption"), exemption).await;
    let seen = world.ok("GET", TARGET, Value::Null).await;
    assert_eq!(found(&seen, "host/home/ann")["Exempt"], true);

    let body = json!({ "Kind": "filesystem", "Name": "all",
        "Config": { "path": world.directory.path().join("host") } });
    world.ok("POST", "/provault/v1/resources", body).await;
    let seen = world.ok("GET", &format!("{TARGET}?seconds=45"), Value::Null).await;
    assert_eq!(found(&seen, "host/srv/app")["Coverage"], "INSIDE", "{seen:#}");
}

#[tokio::test]
async fn a_look_has_a_limit_that_is_a_number() {
    const WRONG: &str = "InvalidParameterValueException";
    let world = World::new().await;
    for seconds in ["0", "46", "-1", "x", ""] {
        world.refused("GET", &format!("{TARGET}?seconds={seconds}"), Value::Null, WRONG).await;
    }
    world.refused("GET", &format!("{TARGET}?path=/etc"), Value::Null, WRONG).await;
}

#[tokio::test]
async fn who_may_not_register_may_not_look() {
    let mut world = World::new().await;
    let user = json!({ "Name": "ann", "ManagedPolicies": ["Auditor"] });
    world.ok("POST", "/provault/v1/users", user).await;
    let root = world.credentials.clone();
    let key = world.ok("POST", "/provault/v1/users/ann/access-keys", Value::Null).await;
    let ann = Credentials {
        access_key_id: text(&key, "AccessKeyId"),
        secret_access_key: Secret::new(text(&key, "SecretAccessKey")),
        session_token: None,
    };
    world.credentials = ann.clone();
    world.refused("GET", TARGET, Value::Null, "AccessDeniedException").await;
    world.credentials = root;
    let change = json!({ "ManagedPolicies": ["Operator"] });
    world.ok("POST", "/provault/v1/users/ann", change).await;
    world.credentials = ann;
    world.ok("GET", TARGET, Value::Null).await;
}

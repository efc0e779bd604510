//! Several regions behind one listener.

use jiff::Timestamp;
use provault_app::{App, Settings, Setup};
use provault_server::{Server, ServerOptions};
use serde_json::{Value, json};

use crate::support::{REGION, Reply, World, engine};

const OTHER: &str = "eu-west-1";

/// A second region beside the world's own.
async fn other(world: &World, directory: &tempfile::TempDir) -> App {
    let setup = Setup {
        engine: engine(directory.path()).await,
        data_dir: directory.path().to_owned(),
        account: None,
        region: Some(OTHER.parse().unwrap()),
        settings: Settings::default(),
    };
    App::open_site(setup, &world.app).await.unwrap()
}

async fn call(world: &World, region: &str, method: &str, target: &str, body: Value) -> Reply {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let headers = world.sign(method, target, &body, region, Timestamp::now());
    world.send(method, target, &headers, &body).await
}

#[tokio::test]
async fn a_request_goes_to_the_region_it_was_signed_for_and_users_are_everywhere() {
    let mut world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let other = other(&world, &directory).await;
    let token = Some("hush".to_owned());
    let options = ServerOptions { metrics_token: token, ..ServerOptions::default() };
    let any = "127.0.0.1:0".parse().unwrap();
    let sites = vec![other.clone()];
    let server = Server::bind_sites(world.app.clone(), sites, any, options).await.unwrap();
    world.addr = server.local_addr();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(async move {
        let _ = stopped.await;
    }));

    // Vaults are a region's own, and so are their names.
    let made = call(&world, OTHER, "PUT", "/backup-vaults/far", json!({})).await;
    assert_eq!(made.status, 200, "{made:?}");
    let arn = made.body["BackupVaultArn"].as_str().unwrap();
    assert!(arn.contains(":eu-west-1:"), "{arn}");
    let names = async |region| {
        let list = call(&world, region, "GET", "/backup-vaults/", Value::Null).await;
        let vaults = list.body["BackupVaultList"].as_array().unwrap().clone();
        vaults.iter().map(|v| v["BackupVaultName"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(REGION).await, ["Default"]);
    assert_eq!(names(OTHER).await, ["Default", "far"]);

    // A user that is made in one is a user of all, with the same policies.
    let user = json!({ "Name": "ann", "ManagedPolicies": ["Auditor"] });
    let added = call(&world, OTHER, "POST", "/provault/v1/users", user).await;
    assert_eq!(added.status, 200, "{added:?}");
    let key = call(&world, OTHER, "POST", "/provault/v1/users/ann/access-keys", Value::Null).await;
    assert_eq!(key.status, 200, "{key:?}");
    assert!(other.access_key(key.body["AccessKeyId"].as_str().unwrap()).is_some());
    world.credentials = provault_iam::Credentials {
        access_key_id: key.body["AccessKeyId"].as_str().unwrap().to_owned(),
        secret_access_key: provault_iam::Secret::new(key.body["SecretAccessKey"].as_str().unwrap()),
        session_token: None,
    };
    for region in [REGION, OTHER] {
        let read = call(&world, region, "GET", "/backup-vaults/", Value::Null).await;
        assert_eq!(read.status, 200, "{region}: {read:?}");
        let denied = call(&world, region, "PUT", "/backup-vaults/hers", json!({})).await;
        assert_eq!(denied.error(), "AccessDeniedException", "{region}: {denied:?}");
    }
    // Nobody is entered in the other region's catalog.
    assert!(other.engine().catalog().list_users(other.account()).await.unwrap().is_empty());
    assert!(other.engine().catalog().list_access_keys(other.account()).await.unwrap().is_empty());
    assert!(!directory.path().join("credentials").exists());

    let nowhere = call(&world, "ap-south-1", "GET", "/backup-vaults/", Value::Null).await;
    assert_eq!(nowhere.error(), "InvalidSignatureException");
    assert!(nowhere.message().contains("us-east-1 and eu-west-1"), "{nowhere:?}");

    // Metrics are those of all regions, or of one.
    let metrics = async |query: &str| {
        let mut headers = http::HeaderMap::new();
        headers.insert("host", world.addr.to_string().parse().unwrap());
        headers.insert("authorization", "Bearer hush".parse().unwrap());
        world.send("GET", &format!("/provault/v1/metrics{query}"), &headers, b"").await
    };
    for good in ["", "?region=us-east-1", "?region=eu-west-1"] {
        assert_eq!(metrics(good).await.status, 200, "{good}");
    }
    let well = async |query: &str| {
        let text = metrics(query).await.body.as_str().unwrap().to_owned();
        [REGION, OTHER]
            .map(|region| text.contains(&format!("provault_well{{region=\"{region}\"}} 1")))
    };
    assert_eq!(well("").await, [true, true]);
    assert_eq!(well("?region=us-east-1").await, [true, false]);
    assert_eq!(well("?region=eu-west-1").await, [false, true]);
    for bad in ["?region=ap-south-1", "?site=eu-west-1", "?region="] {
        assert_eq!(metrics(bad).await.error(), "InvalidParameterValueException", "{bad}");
    }
    drop(stop);
    serving.await.unwrap();
}

//! The first start and the ones after it.

use std::os::unix::fs::PermissionsExt;

use provault_app::{App, BootstrapError, Settings, Setup};
use provault_iam::CredentialsFile;
use serde_json::Value;

use crate::support::{ACCOUNT, ROLE, World, engine, setup};

#[tokio::test]
async fn the_first_start_makes_what_every_account_has() {
    let world = World::new().await;
    let vaults = world.ok("GET", "/backup-vaults/", Value::Null).await;
    assert_eq!(vaults["BackupVaultList"][0]["BackupVaultName"], "Default");
    assert_eq!(
        vaults["BackupVaultList"][0]["BackupVaultArn"],
        "arn:aws:backup:us-east-1:123456789012:backup-vault:Default"
    );
    let roles = world.ok("GET", "/provault/v1/roles", Value::Null).await;
    assert_eq!(roles["Items"][0]["Arn"], ROLE);
    let keys = world.ok("GET", "/provault/v1/keys", Value::Null).await;
    assert_eq!(keys["Items"][0]["Name"], "default");
    assert_eq!(vaults["BackupVaultList"][0]["EncryptionKeyArn"], keys["Items"][0]["Arn"]);
    let server = world.ok("GET", "/provault/v1/server", Value::Null).await;
    assert_eq!(server["AccountId"], ACCOUNT);
    let mode = std::fs::metadata(world.app.credentials_path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The secret stands nowhere else in clear.
    let secret = world.credentials.secret_access_key.expose_secret().as_bytes().to_vec();
    for name in ["catalog.db", "catalog.db-wal"] {
        let bytes = std::fs::read(world.directory.path().join(name)).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret), "secret in {name}");
    }
}

#[tokio::test]
async fn the_next_start_finds_everything_again_and_a_lost_credentials_file_comes_back() {
    let world = World::new().await;
    let before = world.state().await;
    let id = world.credentials.access_key_id.clone();
    let directory = world.stop().await;
    let path = directory.path().join("credentials");
    std::fs::remove_file(&path).unwrap();

    let again = engine(directory.path()).await;
    let app = App::open(setup(again, directory.path(), Settings::default())).await.unwrap();
    let credentials = CredentialsFile::load(&path).unwrap().profile("default").unwrap();
    assert_eq!(credentials.access_key_id, id);
    let known = app.access_key(&id).unwrap();
    assert_eq!(
        known.secret.expose_secret(),
        credentials.secret_access_key.expose_secret(),
        "the file must hold what the server verifies with"
    );
    let vaults = app.engine().catalog();
    let vaults = vaults.list_vaults(app.account(), provault_catalog::Page::all()).await.unwrap();
    assert_eq!(vaults.items.len(), 1);
    assert!(before.contains(vaults.items[0].location.as_str()));
}

#[tokio::test]
async fn account_and_region_are_fixed_by_the_first_start() {
    let world = World::new().await;
    let directory = world.stop().await;
    for (account, region, what) in
        [(Some("999999999999"), None, "--account-id"), (None, Some("eu-west-1"), "--region")]
    {
        let setup = Setup {
            account: account.map(|account| account.parse().unwrap()),
            region: region.map(|region| region.parse().unwrap()),
            ..setup(engine(directory.path()).await, directory.path(), Settings::default())
        };
        let Err(error) = App::open(setup).await else { panic!("{what} was accepted") };
        assert!(matches!(error, BootstrapError::Fixed { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    // The same values again are no contradiction.
    let same = Setup {
        account: Some(ACCOUNT.parse().unwrap()),
        region: Some("us-east-1".parse().unwrap()),
        ..setup(engine(directory.path()).await, directory.path(), Settings::default())
    };
    assert!(App::open(same).await.is_ok());
}

#[tokio::test]
async fn a_lost_server_key_is_an_error_and_not_replaced_by_a_new_one() {
    let world = World::new().await;
    let directory = world.stop().await;
    std::fs::remove_file(directory.path().join("keys/server.key")).unwrap();
    let setup = setup(engine(directory.path()).await, directory.path(), Settings::default());
    let Err(error) = App::open(setup).await else { panic!("started without its key") };
    assert!(error.to_string().contains("server.key"), "{error}");
    assert!(!directory.path().join("keys/server.key").exists());
}

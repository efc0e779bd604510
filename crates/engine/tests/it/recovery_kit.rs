//! Which copy of the catalog a recovery kit takes.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use provault_catalog::Catalog;
use provault_domain::care::CareOptions;
use provault_domain::*;
use provault_driver_filesystem::FilesystemDriver;
use provault_engine::{Clock, Kit, Parts, Restored, StorageOptions};
use provault_proof::HelperCommand;
use provault_repository::{CopyOptions, LocalStorage, Options, Password, Repository};

use crate::support::World;

const CODE: &str = "a code that is long enough";

impl World {
    async fn copy_of_catalog(&self) {
        let run = self.care(CareOperation::CatalogBackup, CareOptions::default()).await;
        assert_eq!(run.state, CareState::Completed, "{run:?}");
    }

    /// What the first start of a server enters.
    async fn is_server(&self, secret: &str) {
        let catalog = self.engine.catalog();
        catalog.put_setting("account-id", self.account.as_str()).await.unwrap();
        catalog.put_setting("page-token-secret", secret).await.unwrap();
    }

    async fn password(&self) -> String {
        self.engine.export_password(&self.vault).await.unwrap()
    }

    async fn opened(&self) -> Repository {
        let storage = LocalStorage::local(&self.repository()).unwrap();
        let password = Password::from_text(self.password().await);
        Repository::open(Arc::new(storage), &password, Options::default()).unwrap()
    }

    async fn kit(&self) -> String {
        self.engine.export_kit(&self.account, CODE).await.unwrap()
    }

    /// Restores from a kit into a directory of its own.
    async fn restored(&self, kit: &str, now: Timestamp) -> Restored {
        let directory = tempfile::tempdir().unwrap();
        let parts = |catalog: Catalog| Parts {
            catalog,
            data_dir: directory.path().to_owned(),
            clock: Arc::<crate::support::TestClock>::clone(&self.clock),
            drivers: vec![Arc::new(FilesystemDriver::new())],
            helper: HelperCommand::new("/nonexistent", Vec::<String>::new()),
            hostname: "test".into(),
            storage: StorageOptions::default(),
            vault_storage: None,
            command_subscriptions: false,
            tests: provault_engine::TestLimits::default(),
            at_work: Arc::default(),
        };
        let kit = Kit::open(kit, CODE).unwrap();
        kit.restore(&directory.path().join("catalog.db"), &StorageOptions::default(), now, parts)
            .await
            .unwrap()
    }
}

fn days(n: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * n)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_of_another_server_is_not_taken() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    world.is_server("ours").await;
    let running = world.start().await;
    world.copy_of_catalog().await;
    let other = World::new("2026-04-01T12:00:00Z").await;
    other.is_server("theirs").await;
    let others = other.start().await;
    other.copy_of_catalog().await;
    others.stop("copied").await;

    let imported = BackupVault {
        name: "theirs".into(),
        arn: Arn::backup_vault(&world.region, &world.account, "theirs"),
        location: other.repository().to_str().unwrap().to_owned(),
        sealed_password: String::new(),
        imported: true,
        ..world.vault.clone()
    };
    let password = other.password().await;
    let run = world.engine.import_vault(imported, &password, &Tags::new()).await.unwrap();
    assert_eq!(world.end_of::<CareRun>(&run.id).await.state, CareState::Completed);
    let kit = world.kit().await;
    let (ours, now) = (world.clock.now(), other.clock.now() + days(1));
    let restored = world.restored(&kit, now).await;
    assert_eq!(restored.catalog_copy, Some((ours, "lab".to_owned())));
    assert_eq!(restored.problems, Vec::<String>::new());

    // Not even from a vault of our own, where somebody has put it.
    let (from, to) = (other.opened().await, world.opened().await);
    let all: Vec<_> = from.snapshot_ids().unwrap().into_iter().collect();
    assert_eq!(to.copy_from(&from, &all, &CopyOptions::default()).unwrap().copied.len(), 1);
    let restored = world.restored(&kit, now).await;
    assert_eq!(restored.catalog_copy, Some((ours, "lab".to_owned())));
    assert_eq!(restored.problems.len(), 1);
    assert!(restored.problems[0].contains("another server"), "{:?}", restored.problems);
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_from_the_future_is_the_last_choice() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    world.is_server("ours").await;
    let running = world.start().await;
    world.copy_of_catalog().await;
    let right = world.clock.now();
    world.clock.advance(days(400));
    let ahead = world.clock.now();
    world.copy_of_catalog().await;
    world.clock.advance(days(-399));
    let kit = world.kit().await;
    let restored = world.restored(&kit, right + days(1)).await;
    assert_eq!(restored.catalog_copy, Some((right, "lab".to_owned())));
    assert!(restored.problems[0].contains("A copy is"), "{:?}", restored.problems);
    // On a machine whose own clock is wrong it is the newest nevertheless.
    let restored = world.restored(&kit, right - days(1)).await;
    assert_eq!(restored.catalog_copy, Some((ahead, "lab".to_owned())));
    assert!(restored.problems[0].contains("2 copies are"), "{:?}", restored.problems);
    let restored = world.restored(&kit, ahead).await;
    assert_eq!(restored.catalog_copy, Some((ahead, "lab".to_owned())));
    assert!(restored.problems.is_empty(), "{:?}", restored.problems);
    running.stop("test over").await;
}

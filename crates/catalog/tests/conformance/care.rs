//! Care of vaults.

use provault_catalog::PackRead;
use provault_domain::care::{CareOptions, CareTrigger, VaultAlarm};
use provault_domain::recovery_point::{PointCondition, PointTrouble};
use provault_domain::{CareOperation, CareRun, Tags};

use crate::fixture::*;

fn run(n: u32, at_seconds: i64) -> CareRun {
    let vault = vault("main", at(0));
    let (operation, trigger) = (CareOperation::Check, CareTrigger::Schedule);
    CareRun::new(uuid(n), &vault, operation, CareOptions::default(), trigger, at(at_seconds))
}

pub async fn a_care_run_is_scheduled_once(world: &World) {
    let catalog = &world.catalog;
    with_vault(catalog).await;
    let first = run(1, 10);
    assert!(catalog.schedule_care(None, &first).await.unwrap());
    assert!(!catalog.schedule_care(None, &run(2, 10)).await.unwrap(), "another was faster");
    let vault = vault("main", at(0));
    let care = catalog.vault_care(&vault.arn).await.unwrap();
    assert_eq!(care.last_scheduled[&CareOperation::Check], at(10));
    assert!(catalog.schedule_care(Some(at(10)), &run(3, 20)).await.unwrap());
    assert_eq!(catalog.job::<CareRun>(&account(), &uuid(1)).await.unwrap(), Some(first));
    assert_eq!(catalog.job::<CareRun>(&account(), &uuid(2)).await.unwrap(), None);
}

pub async fn packs_and_alarms_of_a_vault(world: &World) {
    let catalog = &world.catalog;
    with_vault(catalog).await;
    let vault = vault("main", at(0));
    let there = |ids: &[&str]| ids.iter().map(|id| ((*id).to_owned(), 7)).collect::<Vec<_>>();
    catalog.sync_packs(&vault.arn, &there(&["a", "b"]), at(1)).await.unwrap();
    let read = [PackRead { pack: "a".to_owned(), damage: Some("bits".to_owned()) }];
    let check = run(1, 5);
    let damage = Some(("it is damaged", Some(&check)));
    catalog.packs_read(&vault, &read, Some(at(9)), damage, at(5)).await.unwrap();
    catalog.sync_packs(&vault.arn, &there(&["a", "c"]), at(6)).await.unwrap();
    let packs = catalog.verified_packs(&vault.arn).await.unwrap();
    let told: Vec<_> = packs
        .iter()
        .map(|p| (p.id.as_str(), p.seen_at, p.verified_at, p.damage.is_some()))
        .collect();
    assert_eq!(told, [("a", at(1), Some(at(5)), true), ("c", at(6), None, false)]);
    let care = catalog.vault_care(&vault.arn).await.unwrap();
    assert_eq!(care.verify_next_at, Some(at(9)));
    assert_eq!(care.alarms[&VaultAlarm::Damaged].since, at(5));
    assert!(catalog.job::<CareRun>(&account(), &uuid(1)).await.unwrap().is_some());

    let behind = VaultAlarm::VerificationBehind;
    assert!(catalog.raise_alarm(&vault, behind, "slow", at(7)).await.unwrap());
    assert!(!catalog.raise_alarm(&vault, behind, "slower", at(8)).await.unwrap(), "told once");
    let note = catalog.vault_care(&vault.arn).await.unwrap().alarms[&behind].clone();
    assert_eq!((note.since, note.message.as_str()), (at(7), "slower"));
    assert!(catalog.clear_alarm(&vault.arn, behind).await.unwrap());
    assert!(!catalog.clear_alarm(&vault.arn, behind).await.unwrap());

    // Another vault is another matter, and a vault that goes takes its rows along.
    let empty = vault_named("other");
    catalog.insert_vault(&empty, &Tags::new()).await.unwrap();
    catalog.sync_packs(&empty.arn, &there(&["x"]), at(1)).await.unwrap();
    catalog.raise_alarm(&empty, behind, "slow", at(1)).await.unwrap();
    catalog.delete_vault(&account(), "other").await.unwrap();
    assert!(catalog.verified_packs(&empty.arn).await.unwrap().is_empty());
    assert!(catalog.vault_care(&empty.arn).await.unwrap().alarms.is_empty());
    assert_eq!(catalog.verified_packs(&vault.arn).await.unwrap().len(), 2);
}

fn vault_named(name: &str) -> provault_domain::BackupVault {
    vault(name, at(1))
}

pub async fn an_imported_point_is_entered_once_and_its_condition_is_kept(world: &World) {
    let catalog = &world.catalog;
    with_vault(catalog).await;
    let vault = vault("main", at(0));
    let (point, new) = (point(1, 1, at(3)), (resource(1, "web"), "imported:1".to_owned()));
    let entered = catalog.enter_imported(&point, &Tags::new(), Some(&new)).await.unwrap();
    assert!(entered.point && entered.resource);
    let again = catalog.enter_imported(&point, &Tags::new(), Some(&new)).await.unwrap();
    assert!(!again.point && !again.resource);
    let condition = PointCondition {
        trouble: PointTrouble::Missing,
        since: at(4),
        message: "gone".to_owned(),
        restore_test_id: None,
    };
    let arn = point.arn.clone();
    let conditions = [(arn.clone(), Some(condition.clone())), (resource_arn(9), None)];
    catalog.set_point_conditions(&vault, &conditions, None, at(4)).await.unwrap();
    let read = catalog.recovery_point(&account(), &arn).await.unwrap().unwrap();
    assert_eq!(read.condition, Some(condition));
    // What the point holds is as it was.
    assert_eq!(provault_domain::RecoveryPoint { condition: None, ..read }, point);
}

pub async fn a_copy_of_the_catalog_is_a_catalog(world: &World) {
    let catalog = &world.catalog;
    with_vault(catalog).await;
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("it's a copy.db");
    let outcome = catalog.copy_to(&copy).await;
    assert_eq!(outcome.is_ok(), catalog.is_a_file(), "{outcome:?}");
    if !catalog.is_a_file() {
        assert!(!copy.exists());
        return;
    }
    catalog.insert_job(&run(1, 1)).await.unwrap();
    assert!(catalog.copy_to(&copy).await.is_err(), "a copy is never written over");
    let copied = World::open(&format!("sqlite:{}", copy.display())).await.catalog;
    let found = copied.vault(&account(), "main").await.unwrap();
    assert_eq!(found, Some(vault("main", at(0))));
    assert_eq!(copied.job::<CareRun>(&account(), &uuid(1)).await.unwrap(), None, "it is older");
}

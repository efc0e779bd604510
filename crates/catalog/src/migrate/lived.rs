//! Catalogs that older programs wrote, brought to this version.
//!
//! `tests/lived/NNNN.sql` holds rows as the server wrote them while N was the newest version of the
//! schema: in its columns, and with the members that bodies had then. A catalog that has lived through
//! all versions up to N gets them one after the other, each before the next migration is made.

use provault_domain::care::VaultAlarm;
use provault_domain::evidence::{GENESIS, verify_chain};
use provault_domain::retention::RetentionSettings;
use provault_domain::{
    AccountId, BackupJob, BackupJobEvent, CareRun, RestoreJob, RestoreJobEvent, RestoreTest,
    RestoreTestState,
};
use sqlx::Row as _;

use super::{MIGRATIONS, bring_up, change};
use crate::{Catalog, DeliveryState, JobFilter, Page, PointFilter, UnsettledState};

/// Rows of the versions whose rows had a shape of their own; the newest one's is what all other tests write.
const ROWS: &[&str] = &[
    include_str!("../../tests/lived/0001.sql"),
    include_str!("../../tests/lived/0002.sql"),
    include_str!("../../tests/lived/0003.sql"),
    include_str!("../../tests/lived/0004.sql"),
    include_str!("../../tests/lived/0005.sql"),
    include_str!("../../tests/lived/0006.sql"),
    include_str!("../../tests/lived/0007.sql"),
    include_str!("../../tests/lived/0008.sql"),
    include_str!("../../tests/lived/0009.sql"),
];

/// How many of the things that versions up to `version` wrote there are, by the version that wrote each.
fn up_to(version: usize, written: &[usize]) -> usize {
    written.iter().filter(|by| **by <= version).count()
}

fn account() -> AccountId {
    "111122223333".parse().unwrap()
}

/// A catalog that has lived up to `version`.
async fn lived(file: &str, version: usize) -> Catalog {
    sqlx::any::install_default_drivers();
    let catalog = Catalog::open_sqlite(file).await.unwrap();
    for number in 1..=version {
        change(&catalog, &MIGRATIONS[..number]).await.unwrap();
        let mut connection = catalog.write.acquire().await.unwrap();
        let rows = sqlx::raw_sql(ROWS[number - 1]).execute(&mut *connection).await;
        rows.unwrap_or_else(|error| panic!("rows of version {number}: {error}"));
    }
    catalog
}

#[tokio::test]
async fn every_older_catalog_is_read_after_its_upgrade() {
    // A migration that is added brings the rows of the version before it.
    assert_eq!(
        ROWS.len(),
        MIGRATIONS.len() - 1,
        "tests/lived has no rows of the newest older version"
    );
    for version in 1..=ROWS.len() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("catalog.db");
        lived(file.to_str().unwrap(), version).await.close().await;
        let catalog = Catalog::open_sqlite(file.to_str().unwrap()).await.unwrap();
        bring_up(&catalog, Some(&file), MIGRATIONS).await.unwrap();
        whole(&catalog).await;
        nouns(&catalog, version).await;
        jobs(&catalog, version).await;
        points(&catalog, version).await;
        chain(&catalog, version).await;
        later(&catalog, version).await;
        goes_on(&catalog).await;
    }
}

/// The database finds nothing wrong with it.
async fn whole(catalog: &Catalog) {
    let mut connection = catalog.write.acquire().await.unwrap();
    let sound = sqlx::query("SELECT integrity_check FROM pragma_integrity_check")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    assert_eq!(sound.len(), 1);
    assert_eq!(sound[0].get::<String, _>(0), "ok");
    let dangling = sqlx::query("SELECT 1 FROM pragma_foreign_key_check")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    assert!(dangling.is_empty(), "{} rows name what is not there", dangling.len());
}

/// What one row cannot be read of is left out of a list, so everything is counted.
async fn nouns(catalog: &Catalog, version: usize) {
    let account = account();
    let vaults = catalog.list_vaults(&account, Page::all()).await.unwrap().items;
    assert_eq!(vaults.len(), up_to(version, &[1, 2]));
    let main = &vaults[0];
    // One that nobody was said to look after is looked after as a new one is.
    assert_eq!((main.name.as_str(), main.imported), ("main", false));
    assert_eq!(main.care, provault_domain::care::CareSettings::default());
    assert_eq!(main.notifications.as_ref().unwrap().events, ["BACKUP_JOB_COMPLETED"]);
    assert_eq!(catalog.tags(&main.arn).await.unwrap()["team"], "ops");

    let plans = catalog.list_plans(&account, false, Page::all()).await.unwrap().items;
    assert_eq!(plans.len(), 1);
    let (plan, rule) = (&plans[0], &plans[0].rules[0]);
    assert!(plan.last_execution_at.is_some());
    assert_eq!((rule.name.as_str(), rule.start_window_minutes), ("daily", 480));
    let versions = catalog.list_plan_versions(&account, &plan.id, Page::all()).await.unwrap();
    assert_eq!(versions.items.len(), 1);
    let selections = catalog.list_selections(&account, &plan.id, Page::all()).await.unwrap().items;
    assert_eq!(selections.len(), 1);
    assert_eq!(selections[0].conditions.string_equals.len(), 1);
    assert!(catalog.schedule_mark(&plan.id, &rule.id).await.unwrap().is_some());

    let resources = catalog.list_resources(&account, Page::all()).await.unwrap().items;
    assert_eq!(resources.len(), up_to(version, &[1, 1, 2, 4, 8]));
    let testing = |name: &str| {
        let resource = resources.iter().find(|resource| resource.name == name).unwrap();
        resource.testing.as_ref().map(|testing| (testing.enabled, testing.share_percent))
    };
    // A resource that said no before plans could say anything leaves it to them now.
    assert_eq!((testing("r1"), testing("r2")), (Some((true, 100)), None));
    assert_eq!(resources[0].retention, RetentionSettings::default());
    assert_eq!(resources[0].probes.len(), 2);
    assert_eq!(resources[0].service.as_ref().unwrap().environment["MODE"], "test");
    if version >= 2 {
        assert!(resources[2].imported);
    }
    if version >= 4 {
        assert_eq!(resources[3].retention.keep_at_most, Some(5));
    }
    if version >= 8 {
        assert_eq!(testing("r5"), Some((true, 25)));
    }

    assert_eq!(catalog.list_roles(&account).await.unwrap().len(), 1);
    assert_eq!(catalog.list_keys(&account).await.unwrap().len(), 1);
    let keys = catalog.list_access_keys(&account).await.unwrap();
    assert_eq!(keys.len(), up_to(version, &[1, 5]));
    assert!(keys.iter().all(|key| key.active && key.last_used_at.is_none()));
    let topics = catalog.list_topics(&account).await.unwrap();
    assert_eq!(topics.len(), 1);
    let subscriptions = catalog.list_subscriptions(&topics[0].arn).await.unwrap();
    assert_eq!(subscriptions.len(), 2);
    assert!(subscriptions.iter().all(|s| s.events.is_empty() && s.sealed_secret.is_none()));
}

async fn jobs(catalog: &Catalog, version: usize) {
    let any = JobFilter { account: Some(account()), ..JobFilter::default() };
    let backups = catalog.list_jobs::<BackupJob>(&any, Page::all()).await.unwrap().items;
    assert_eq!(backups.len(), 3);
    assert!(backups.iter().all(|job| job.interruptions == 0));
    assert_eq!(backups.iter().filter(|job| !job.state.is_final()).count(), 1);
    let log = catalog.job_log(&account(), &backups[0].id).await.unwrap();
    assert_eq!(log.len(), 1);
    let restores = catalog.list_jobs::<RestoreJob>(&any, Page::all()).await.unwrap().items;
    assert_eq!(restores.len(), 2);
    assert!(restores.iter().all(|job| job.attempts == 0 && job.stop_requested.is_none()));
    let tests = catalog.list_jobs::<RestoreTest>(&any, Page::all()).await.unwrap().items;
    assert_eq!(tests.len(), up_to(version, &[1, 7]));
    let done = tests.iter().find(|test| test.state == RestoreTestState::Finished).unwrap();
    assert_eq!((done.findings.probes.len(), done.findings.mutants.len()), (1, 1));
    assert_eq!(done.steps.len(), 1);
    let runs = catalog.list_jobs::<CareRun>(&any, Page::all()).await.unwrap().items;
    assert_eq!(runs.len(), up_to(version, &[2]));
    let waiting = catalog.list_deliveries(&account(), None, Some(DeliveryState::Waiting)).await;
    assert_eq!(waiting.unwrap().len(), 1);
    let all = catalog.list_deliveries(&account(), None, None).await.unwrap();
    assert_eq!(all.len(), 2);
}

async fn points(catalog: &Catalog, version: usize) {
    let filter = PointFilter { account: Some(account()), ..PointFilter::default() };
    let points = catalog.list_recovery_points(&filter, Page::all()).await.unwrap().items;
    assert_eq!(points.len(), up_to(version, &[1, 2, 4]));
    let first = &points[0];
    assert!(first.condition.is_none() && first.shrunk.is_none() && first.hold.is_none());
    assert!(first.last_verdict.is_some());
    assert_eq!(catalog.tags(&first.arn).await.unwrap()["a"], "b");
    if version >= 2 {
        assert!(points[1].condition.is_some());
    }
    if version >= 4 {
        assert!(points[2].shrunk.is_some() && points[2].hold.is_some());
    }
    let protected = catalog.list_protected_resources(&account(), Page::all()).await.unwrap().items;
    assert_eq!(protected.len(), points.len());
    let newest = catalog
        .newest_recovery_point(
            &account(),
            &first.resource_arn,
            "2026-06-01T00:00:00Z".parse().unwrap(),
        )
        .await
        .unwrap();
    assert_eq!(newest.unwrap().arn, first.arn);
}

/// What was proven stays proven.
async fn chain(catalog: &Catalog, version: usize) {
    let records = catalog.list_evidence(&account()).await.unwrap();
    assert_eq!(records.len(), up_to(version, &[1, 1, 7]));
    verify_chain(&records).unwrap();
    assert_eq!(records[0].previous_hash, GENESIS);
    let resource =
        "arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-00000000000000001";
    let of = catalog.evidence_of_resource(&account(), &resource.parse().unwrap()).await.unwrap();
    assert_eq!(of.len(), up_to(version, &[1, 7]));
    let known = catalog.mutants(&resource.parse().unwrap(), "v1").await.unwrap();
    assert_eq!(known.unwrap().len(), 1);

    // Of what was recorded before denials were counted those that are denials are known for such.
    let trail = catalog.list_audit(&account()).await.unwrap();
    assert_eq!(trail.len(), 2);
    assert!(trail.iter().all(|record| record.count == 1 && record.access_key_id.is_none()));
    let mut connection = catalog.write.acquire().await.unwrap();
    let denials = sqlx::query("SELECT body FROM audit WHERE denial IS NOT NULL")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    assert_eq!(denials.len(), 1);
    assert!(denials[0].get::<String, _>(0).contains("AccessDeniedException"));
}

/// What came with later versions.
async fn later(catalog: &Catalog, version: usize) {
    let account = account();
    let cared = "arn:aws:backup:us-east-1:111122223333:backup-vault:cared".parse().unwrap();
    let care = catalog.vault_care(&cared).await.unwrap();
    assert_eq!(care.alarms.contains_key(&VaultAlarm::Damaged), version >= 2);
    assert_eq!(catalog.verified_packs(&cared).await.unwrap().len(), up_to(version, &[2]));
    let unsettled = catalog.unsettled_vaults().await.unwrap();
    assert_eq!(unsettled.len(), up_to(version, &[3]));
    assert!(unsettled.iter().all(|vault| vault.state == UnsettledState::Making));
    let users = catalog.list_users(&account).await.unwrap();
    assert_eq!(users.len(), up_to(version, &[5]));
    assert_eq!(catalog.list_exemptions(&account).await.unwrap().len(), up_to(version, &[6]));
    let plans = catalog.list_restore_testing_plans(&account, Page::all()).await.unwrap().items;
    assert_eq!(plans.len(), up_to(version, &[7]));
    for plan in &plans {
        let chosen = catalog.list_restore_testing_selections(&plan.arn, Page::all()).await.unwrap();
        assert_eq!(chosen.items.len(), 1);
        assert!(catalog.restore_testing_mark(&plan.arn).await.unwrap().is_some());
        let of_plan =
            JobFilter { testing_plan_arn: Some(plan.arn.clone()), ..JobFilter::default() };
        let tests = catalog.list_jobs::<RestoreTest>(&of_plan, Page::all()).await.unwrap().items;
        assert_eq!(tests.len(), 1);
        assert_eq!(tests[0].planned.as_ref().unwrap().validation_window_hours, 0);
    }
    let settings = catalog.testing_settings(&account).await.unwrap();
    assert_eq!(settings.plans.len(), up_to(version, &[8]));
    assert!(settings.selections.is_empty());
    // An alarm of a time when nobody asked was told.
    let mut connection = catalog.write.acquire().await.unwrap();
    let alarms = sqlx::query("SELECT told FROM resource_alarms ORDER BY since")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    let told: Vec<i64> = alarms.iter().map(|row| row.get(0)).collect();
    assert_eq!(told, [1, 0][..up_to(version, &[6, 9])]);
}

/// What was unfinished is gone on with.
async fn goes_on(catalog: &Catalog) {
    let unfinished =
        JobFilter { account: Some(account()), unfinished_only: true, ..JobFilter::default() };
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    let backup = catalog.list_jobs::<BackupJob>(&unfinished, Page::all()).await.unwrap().items;
    let [backup] = &backup[..] else { panic!("{backup:?}") };
    let expired = BackupJobEvent::StartWindowClosed;
    let step =
        catalog.step_job::<BackupJob>(&account(), &backup.id, None, expired, now, Vec::new()).await;
    assert!(step.unwrap().state.is_final());
    let restore = catalog.list_jobs::<RestoreJob>(&unfinished, Page::all()).await.unwrap().items;
    let [restore] = &restore[..] else { panic!("{restore:?}") };
    let failed = RestoreJobEvent::Failed { message: "it was too old".to_owned() };
    let step = catalog
        .step_job::<RestoreJob>(&account(), &restore.id, None, failed, now, Vec::new())
        .await;
    assert!(step.unwrap().state.is_final());
}

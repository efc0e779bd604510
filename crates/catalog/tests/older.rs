//! A catalog with rows that an older program wrote is brought up to date, and everything in it reads.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use provault_catalog::{Catalog, JobFilter, Page, PointFilter};
use provault_domain::backup_job::BackupJobState;
use provault_domain::evidence::verify_chain;
use provault_domain::restore_job::RestoreJobState;
use provault_domain::{AccountId, BackupJob, CareRun, CareState, RestoreJob, RestoreTest, Verdict};
use sqlx::{Connection as _, Row as _, SqliteConnection};

/// Written by the program of that version itself.
const VERSION_7: &str = include_str!("older/0007.sql");

async fn open(directory: &std::path::Path, dump: &'static str) -> Catalog {
    let file = directory.join("catalog.db");
    let url = format!("sqlite:{}", file.display());
    let mut old = SqliteConnection::connect(&format!("{url}?mode=rwc")).await.unwrap();
    sqlx::raw_sql(dump).execute(&mut old).await.unwrap();
    let newest = "SELECT MAX(version) AS version FROM schema_versions";
    let row = sqlx::query(newest).fetch_one(&mut old).await.unwrap();
    assert_eq!(row.get::<i64, _>("version"), 7);
    old.close().await.unwrap();
    Catalog::open(&url).await.unwrap()
}

#[tokio::test]
async fn what_version_7_wrote_is_read_and_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let c = open(directory.path(), VERSION_7).await;
    let account: AccountId = "123456789012".parse().unwrap();
    let resources = c.list_resources(&account, Page::all()).await.unwrap().items;
    let app = resources.iter().find(|resource| resource.name == "app").unwrap();
    assert_eq!(app.tags.get("workload").map(String::as_str), Some("myapp"));
    assert_eq!((resources.len(), app.rpo_seconds), (2, Some(86_400)));

    let [plan] = <[_; 1]>::try_from(c.all_active_plans().await.unwrap()).unwrap();
    let selections = c.list_selections(&account, &plan.id, Page::all()).await.unwrap().items;
    assert!(selections[0].matches(&app.arn, &app.tags));
    assert!(c.schedule_mark(&plan.id, &plan.rules[0].id).await.unwrap().is_some());

    let all = JobFilter::default();
    let backups = c.list_jobs::<BackupJob>(&all, Page::all()).await.unwrap().items;
    assert_eq!(backups[0].state, BackupJobState::Completed);
    let restores = c.list_jobs::<RestoreJob>(&all, Page::all()).await.unwrap().items;
    assert_eq!(restores.len(), 2, "one by hand, and the test's");
    assert!(restores.iter().all(|job| job.state == RestoreJobState::Completed));
    let tests = c.list_jobs::<RestoreTest>(&all, Page::all()).await.unwrap().items;
    assert_eq!(tests[0].verdict, Some(Verdict::Passed));
    let care = c.list_jobs::<CareRun>(&all, Page::all()).await.unwrap().items;
    assert_eq!(care[0].state, CareState::Completed);
    for id in [&backups[0].id, &tests[0].id] {
        assert!(!c.job_log(&account, id).await.unwrap().is_empty());
    }

    let points = c.list_recovery_points(&PointFilter::default(), Page::all()).await.unwrap().items;
    assert_eq!(Some(&points[0].arn), backups[0].recovery_point_arn.as_ref());
    assert_eq!(points[0].last_verdict.as_ref().unwrap().verdict, Verdict::Passed);
    let now = points[0].completed_at;
    let arns = [app.arn.clone()];
    let record = c.on_record(&account, &arns, now).await.unwrap().remove(&app.arn).unwrap();
    assert_eq!(record.unwrap().newest.as_ref(), Some(&points[0]));

    let evidence = c.list_evidence(&account).await.unwrap();
    assert_eq!(evidence.len(), 1);
    verify_chain(&evidence).unwrap();

    let vaults = c.list_vaults(&account, Page::all()).await.unwrap().items;
    assert_eq!(vaults.len(), 1);
    c.vault_care(&vaults[0].arn).await.unwrap();
    let topics = c.list_topics(&account).await.unwrap();
    assert_eq!(c.list_subscriptions(&topics[0].arn).await.unwrap().len(), 1);
    assert_eq!(c.list_users(&account).await.unwrap()[0].name, "bob");
    assert_eq!(c.list_exemptions(&account).await.unwrap()[0].owner, "ann");
    assert!(c.newest_audit(&account, None, 100).await.unwrap().len() >= 5);

    // A change goes on where the older program ended.
    let changed = c.update_resource(&app.arn, |resource| resource.rto_seconds = Some(60)).await;
    assert_eq!(changed.unwrap().rto_seconds, Some(60));
    c.insert_job(&BackupJob {
        id: "next".to_owned(),
        idempotency_token: None,
        ..backups[0].clone()
    })
    .await
    .unwrap();
}

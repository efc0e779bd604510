//! Two months in one test: every occurrence of every rule, every expiry, on the hour.
//!
//! Time, the scheduler, the windows, retention, the catalog and the vault are the real ones; only the
//! reading of data is left out, so that thousands of backups take a minute.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use provault_catalog::{Change, JobFilter, Page, PointFilter};
use provault_domain::backup_job::BackupResult;
use provault_domain::*;
use provault_engine::Clock;

use crate::support::World;

const DAYS: i64 = 62;
/// How long the rules keep what they make.
const HOURLY_DAYS: i64 = 1;
const DAILY_DAYS: i64 = 7;
const RESOURCES: usize = 20;
/// The server is off from this day on, for three days.
const OFF_FROM_DAY: i64 = 30;
const OFF_DAYS: i64 = 3;

fn hours(n: i64) -> SignedDuration {
    SignedDuration::from_hours(n)
}

/// A plan of one rule for the resources with this tag.
pub async fn plan(world: &World, name: &str, schedule: &str, kept_days: i64) {
    let id = uuid::Uuid::new_v4().to_string();
    let lifecycle = Lifecycle { delete_after_days: Some(kept_days), ..Lifecycle::default() };
    let plan = BackupPlan {
        arn: Arn::backup_plan(&world.region, &world.account, &id),
        id,
        account: world.account.clone(),
        name: name.into(),
        version_id: "v1".into(),
        rules: vec![BackupRule {
            id: format!("rule-{name}"),
            name: name.into(),
            target_vault: world.vault.name.clone(),
            schedule: cron::CronExpression::parse(schedule).unwrap(),
            timezone: "Etc/UTC".into(),
            start_window_minutes: 60,
            completion_window_minutes: 180,
            lifecycle,
            recovery_point_tags: Tags::new(),
            since: None,
        }],
        creator_request_id: None,
        created_at: world.clock.now(),
        deleted_at: None,
        last_execution_at: None,
    };
    world.engine.catalog().insert_plan(&plan, &Tags::new()).await.unwrap();
    let selection = BackupSelection {
        id: uuid::Uuid::new_v4().to_string(),
        account: world.account.clone(),
        plan_id: plan.id.clone(),
        name: name.into(),
        role_arn: Arn::role(&world.account, role::DEFAULT_ROLE),
        resources: Vec::new(),
        not_resources: Vec::new(),
        list_of_tags: vec![selection::TagCondition { key: name.into(), value: "yes".into() }],
        conditions: selection::Conditions::default(),
        creator_request_id: None,
        created_at: world.clock.now(),
    };
    world.engine.catalog().insert_selection(&selection).await.unwrap();
}

fn point(world: &World, job: &BackupJob, now: Timestamp) -> RecoveryPoint {
    RecoveryPoint {
        arn: Arn::recovery_point(&job.region, &job.account, &job.id),
        account: job.account.clone(),
        region: job.region.clone(),
        vault_name: job.vault_name.clone(),
        vault_arn: job.vault_arn.clone(),
        resource_arn: job.resource_arn.clone(),
        resource_name: job.resource_name.clone(),
        kind: job.kind,
        backup_job_id: job.id.clone(),
        role_arn: job.role_arn.clone(),
        created_by: job.created_by.clone(),
        encryption_key_arn: world.vault.encryption_key_arn.clone(),
        status: RecoveryPointStatus::Completed,
        status_message: None,
        captured_at: now,
        created_at: job.created_at.max(now),
        completed_at: now,
        backup_size_bytes: 1000,
        lifecycle: job.lifecycle,
        payload: Payload::Stored {
            // No such snapshot: deleting it asks the vault all the same.
            snapshot_id: job.id.replace('-', "").repeat(2),
            tree_path: "source".into(),
            bytes_stored: 10,
            files: 10,
        },
        restore_metadata: BTreeMap::new(),
        last_restore_at: None,
        last_verdict: None,
        condition: None,
        shrunk: None,
        hold: None,
    }
}

/// Completes every job that waits, as a runner would.
async fn run_jobs(world: &World) {
    let catalog = world.engine.catalog();
    let now = world.clock.now();
    let open = JobFilter { unfinished_only: true, ..JobFilter::default() };
    for job in catalog.list_jobs::<BackupJob>(&open, Page::all()).await.unwrap().items {
        let step = async |event: BackupJobEvent, changes: Vec<Change>| {
            catalog
                .step_job::<BackupJob>(&job.account, &job.id, None, event, now, changes)
                .await
                .unwrap();
        };
        step(BackupJobEvent::Started, Vec::new()).await;
        let point = point(world, &job, now);
        let result = BackupResult {
            recovery_point_arn: point.arn.clone(),
            backup_size_bytes: 1000,
            bytes_transferred: 1000,
            bytes_stored: 10,
            skipped: Vec::new(),
            message: None,
        };
        let enter = vec![Change::InsertRecoveryPoint(Box::new(point), Tags::new())];
        step(BackupJobEvent::Completed(Box::new(result)), enter).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_months_of_schedules_and_retention_are_exact() {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let world = World::with("2026-01-01T00:00:00Z", |resource| {
        resource.tags = [("daily".into(), "yes".into()), ("hourly".into(), "yes".into())].into();
    })
    .await;
    let catalog = world.engine.catalog();
    for n in 1..RESOURCES {
        let resource = Resource {
            arn: Arn::resource_of(
                Kind::Filesystem,
                &world.region,
                &world.account,
                &format!("{n:017x}"),
            ),
            name: format!("r{n}"),
            tags: [("daily".into(), "yes".into())].into(),
            ..world.resource.clone()
        };
        catalog.insert_resource(&resource, &format!("/srv/r{n}")).await.unwrap();
    }
    plan(&world, "hourly", "cron(0 * ? * * *)", HOURLY_DAYS).await;
    plan(&world, "daily", "cron(0 5 ? * * *)", DAILY_DAYS).await;

    let mut hour = 0;
    while hour < DAYS * 24 {
        // The first look after the downtime is at its end.
        let off = hour == OFF_FROM_DAY * 24;
        let by = if off { OFF_DAYS * 24 } else { 1 };
        hour += by;
        world.clock.advance(hours(by));
        world.engine.look_at_the_time().await.unwrap();
        if off {
            let all = catalog.list_recovery_points(&PointFilter::default(), Page::all()).await;
            let held = all.unwrap().items.into_iter().filter(|point| point.hold.is_some());
            assert_eq!(held.count(), 1, "the newest hourly one outlived its day: it was the last");
        }
        run_jobs(&world).await;
        if hour % (7 * 24) != 0 {
            continue;
        }
        // What is there is what was made and whose retention is not over, and nothing else.
        let now = start + hours(hour);
        let mut kept: BTreeMap<Arn, Vec<Timestamp>> = BTreeMap::new();
        let lately = JobFilter {
            states: vec!["COMPLETED".into()],
            completed_after: Some(now - hours(DAILY_DAYS * 24)),
            ..JobFilter::default()
        };
        for job in catalog.list_jobs::<BackupJob>(&lately, Page::all()).await.unwrap().items {
            if job.lifecycle.delete_at(job.created_at).unwrap() > now {
                kept.entry(job.resource_arn).or_default().push(job.created_at);
            }
        }
        let mut there: BTreeMap<Arn, Vec<Timestamp>> = BTreeMap::new();
        let all = catalog.list_recovery_points(&PointFilter::default(), Page::all()).await.unwrap();
        for point in all.items {
            assert!(point.is_good() && point.hold.is_none(), "{point:?}");
            there.entry(point.resource_arn).or_default().push(point.created_at);
        }
        assert_eq!(there, kept, "at {now}");
    }

    // Every occurrence of every rule has its job, once; those of the downtime are told.
    let mut jobs: BTreeMap<(String, Arn), Vec<BackupJob>> = BTreeMap::new();
    for job in world.jobs::<BackupJob>().await {
        let rule = job.created_by.as_ref().unwrap().rule_name.clone();
        jobs.entry((rule, job.resource_arn.clone())).or_default().push(job);
    }
    assert_eq!(jobs.len(), RESOURCES + 1);
    let off = start + hours(OFF_FROM_DAY * 24);
    for ((rule, resource), jobs) in jobs {
        let (first, every) = if rule == "hourly" { (1, 1) } else { (5, 24) };
        let mut expected: Vec<Timestamp> = (first..=DAYS * 24)
            .step_by(usize::try_from(every).unwrap())
            .map(|h| start + hours(h))
            .collect();
        if rule == "hourly" {
            // Of 72 hours the newest 24 have a job each, and one tells of the other 48.
            let told = off + hours(48);
            expected.retain(|at| *at <= off || *at >= told);
            let job = jobs.iter().find(|job| job.created_at == told).unwrap();
            assert!(job.status_message.as_ref().unwrap().starts_with("48 scheduled backups"));
        }
        let due: Vec<_> = jobs.iter().map(|job| job.created_at).collect();
        assert_eq!(due, expected, "{rule} of {resource}");
        for job in jobs {
            let late = job.created_at > off && job.created_at < off + hours(OFF_DAYS * 24);
            let state = if late { BackupJobState::Expired } else { BackupJobState::Completed };
            assert_eq!(job.state, state, "{job:?}");
        }
    }
    let points = catalog.list_recovery_points(&PointFilter::default(), Page::all()).await.unwrap();
    assert_eq!(points.items.len(), 24 + 7 * RESOURCES, "what is kept does not grow");
}

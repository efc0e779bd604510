//! Plans and time.

use jiff::SignedDuration;
use provault_domain::*;
use provault_engine::Clock;

use crate::support::World;

async fn plan(world: &World, rules: &[(&str, &str, i64)]) -> BackupPlan {
    let plan = BackupPlan {
        id: uuid::Uuid::new_v4().to_string(),
        arn: Arn::backup_plan(&world.region, &world.account, "p"),
        account: world.account.clone(),
        name: "plan".into(),
        version_id: "v1".into(),
        rules: rules
            .iter()
            .map(|(name, schedule, days)| BackupRule {
                id: format!("rule-{name}"),
                name: (*name).into(),
                target_vault: world.vault.name.clone(),
                schedule: cron::CronExpression::parse(schedule).unwrap(),
                timezone: "Etc/UTC".into(),
                start_window_minutes: 60,
                completion_window_minutes: 180,
                lifecycle: Lifecycle { delete_after_days: Some(*days), ..Lifecycle::default() },
                recovery_point_tags: Tags::new(),
            })
            .collect(),
        creator_request_id: None,
        created_at: world.clock.now(),
        deleted_at: None,
        last_execution_at: None,
    };
    plan.validate().unwrap();
    world.engine.catalog().insert_plan(&plan, &Tags::new()).await.unwrap();
    let selection = BackupSelection {
        id: uuid::Uuid::new_v4().to_string(),
        account: world.account.clone(),
        plan_id: plan.id.clone(),
        name: "tagged".into(),
        role_arn: Arn::role(&world.account, role::DEFAULT_ROLE),
        resources: Vec::new(),
        not_resources: Vec::new(),
        list_of_tags: vec![selection::TagCondition {
            key: "workload".into(),
            value: "myapp".into(),
        }],
        conditions: selection::Conditions::default(),
        creator_request_id: None,
        created_at: world.clock.now(),
    };
    world.engine.catalog().insert_selection(&selection).await.unwrap();
    plan
}

#[tokio::test(flavor = "multi_thread")]
async fn a_due_rule_makes_its_job_once_however_often_the_server_starts() {
    let mut world = World::new("2026-03-01T04:00:00Z").await;
    plan(&world, &[("daily", "cron(0 5 ? * * *)", 35)]).await;
    for _ in 0..2 {
        let running = world.start().await;
        assert!(world.jobs::<BackupJob>().await.is_empty(), "nothing is due yet");
        running.stop("restart").await;
        world = world.restarted().await;
    }
    world.clock.advance(SignedDuration::from_mins(61));
    for _ in 0..3 {
        let running = world.start().await;
        let jobs = loop {
            let jobs = world.jobs::<BackupJob>().await;
            if !jobs.is_empty() {
                break jobs;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        };
        assert_eq!(jobs.len(), 1);
        let job: BackupJob = world.end_of(&jobs[0].id).await;
        assert_eq!(job.state, BackupJobState::Completed, "{:?}", job.status_message);
        assert_eq!(job.created_at, "2026-03-01T05:00:00Z".parse().unwrap());
        assert_eq!(job.start_by, "2026-03-01T06:00:00Z".parse().unwrap());
        assert_eq!(job.created_by.unwrap().rule_name, "daily");
        running.stop("restart").await;
        world = world.restarted().await;
    }
    assert_eq!(world.jobs::<BackupJob>().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_while_the_server_was_off_is_a_row() {
    let world = World::new("2026-03-01T04:00:00Z").await;
    plan(&world, &[("daily", "cron(0 5 ? * * *)", 35)]).await;
    // Off for three days, back half an hour after the last occurrence.
    world.clock.advance(SignedDuration::from_mins(2 * 24 * 60 + 90));
    let running = world.start().await;
    let states = loop {
        let jobs = world.jobs::<BackupJob>().await;
        if jobs.len() == 3 && jobs.iter().all(|job| job.state.is_final()) {
            break jobs.iter().map(|job| job.state).collect::<Vec<_>>();
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    let expired = BackupJobState::Expired;
    assert_eq!(states, [expired, expired, BackupJobState::Completed]);
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_rules_due_together_the_longer_retention_wins() {
    let world = World::new("2026-03-01T04:00:00Z").await;
    plan(&world, &[("daily", "cron(0 5 ? * * *)", 7), ("monthly", "cron(0 5 1 * ? *)", 365)]).await;
    world.clock.advance(SignedDuration::from_mins(90));
    let running = world.start().await;
    let jobs = loop {
        let jobs = world.jobs::<BackupJob>().await;
        if !jobs.is_empty() && jobs.iter().all(|job| job.state.is_final()) {
            break jobs;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].created_by.as_ref().unwrap().rule_name, "monthly");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_ahead_does_not_stop_the_schedule() {
    let world = World::new("2026-03-01T04:00:00Z").await;
    let plan = plan(&world, &[("daily", "cron(0 5 ? * * *)", 35)]).await;
    let mark =
        || async { world.engine.catalog().schedule_mark(&plan.id, "rule-daily").await.unwrap() };
    let reached = |moment| async move {
        while mark().await != Some(moment) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    world.clock.advance(SignedDuration::from_hours(30));
    let running = world.start().await;
    reached(world.clock.now()).await;
    running.stop("the clock is set back").await;

    world.clock.advance(SignedDuration::from_hours(-30));
    let running = world.engine.start(true).await.unwrap();
    reached(world.clock.now()).await;
    running.stop("an hour later").await;
    let before = world.jobs::<BackupJob>().await.len();

    world.clock.advance(SignedDuration::from_mins(61));
    let running = world.engine.start(true).await.unwrap();
    reached(world.clock.now()).await;
    let jobs = world.jobs::<BackupJob>().await;
    assert_eq!(jobs.len(), before + 1, "today's occurrence comes due today, not in thirty hours");
    let five: jiff::Timestamp = "2026-03-01T05:00:00Z".parse().unwrap();
    assert!(jobs.iter().filter(|job| job.created_at == five).count() == 2);
    running.stop("test over").await;
}

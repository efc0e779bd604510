//! Plans and time.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use provault_domain::*;
use provault_engine::Clock;

use crate::support::World;

pub async fn plan(world: &World, rules: &[(&str, &str, i64)]) -> BackupPlan {
    plan_in("Etc/UTC", world, rules).await
}

async fn plan_in(zone: &str, world: &World, rules: &[(&str, &str, i64)]) -> BackupPlan {
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
                timezone: zone.into(),
                start_window_minutes: 60,
                completion_window_minutes: 180,
                lifecycle: Lifecycle { delete_after_days: Some(*days), ..Lifecycle::default() },
                recovery_point_tags: Tags::new(),
                since: None,
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
    let five: Timestamp = "2026-03-01T05:00:00Z".parse().unwrap();
    assert!(jobs.iter().filter(|job| job.created_at == five).count() == 2);
    running.stop("test over").await;
}

/// When the jobs were due, in order.
async fn due(world: &World) -> Vec<String> {
    let jobs = world.jobs::<BackupJob>().await;
    jobs.iter().map(|job| job.created_at.to_string()).collect()
}

/// Lets time pass without a server at work, looking every so many minutes.
async fn pass(world: &World, step_minutes: i64, until: &str) {
    let until: Timestamp = until.parse().unwrap();
    while world.clock.now() < until {
        world.clock.advance(SignedDuration::from_mins(step_minutes));
        world.engine.look_at_the_time().await.unwrap();
    }
}

fn hours(from: &str, until: &str) -> Vec<String> {
    let (mut at, until): (Timestamp, Timestamp) = (from.parse().unwrap(), until.parse().unwrap());
    let mut all = Vec::new();
    while at <= until {
        all.push(at.to_string());
        at += SignedDuration::from_hours(1);
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_time_that_does_not_exist_is_passed_over() {
    let world = World::new("2026-03-28T12:00:00Z").await;
    let rules = [("nightly", "cron(30 2 ? * * *)", 7)];
    plan_in("Europe/Berlin", &world, &rules).await;
    pass(&world, 15, "2026-03-30T12:00:00Z").await;
    assert_eq!(due(&world).await, ["2026-03-30T00:30:00Z"], "there is no 02:30 on the 29th");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_time_that_comes_twice_is_due_once() {
    let world = World::new("2026-10-24T12:00:00Z").await;
    let rules = [("nightly", "cron(30 2 ? * * *)", 7)];
    plan_in("Europe/Berlin", &world, &rules).await;
    pass(&world, 15, "2026-10-26T12:00:00Z").await;
    assert_eq!(due(&world).await, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hourly_rule_goes_through_both_changes_of_the_clocks() {
    let world = World::new("2026-03-28T20:30:00Z").await;
    plan_in("Europe/Berlin", &world, &[("hourly", "cron(0 * ? * * *)", 7)]).await;
    pass(&world, 20, "2026-03-29T06:30:00Z").await;
    assert_eq!(due(&world).await, hours("2026-03-28T21:00:00Z", "2026-03-29T06:00:00Z"));

    let world = World::new("2026-10-24T20:30:00Z").await;
    plan_in("Europe/Berlin", &world, &[("hourly", "cron(0 * ? * * *)", 7)]).await;
    pass(&world, 20, "2026-10-25T06:30:00Z").await;
    let mut expected = hours("2026-10-24T21:00:00Z", "2026-10-25T06:00:00Z");
    expected.retain(|at| at != "2026-10-25T01:00:00Z"); // The second 02:00 of that night.
    assert_eq!(due(&world).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leap_day_comes_once_in_four_years() {
    let world = World::new("2027-02-20T00:00:00Z").await;
    plan(&world, &[("leap", "cron(0 5 29 2 ? *)", 7)]).await;
    pass(&world, 24 * 60, "2028-03-02T00:00:00Z").await;
    assert_eq!(due(&world).await, ["2028-02-29T05:00:00Z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_off_is_made_up_for_hour_by_hour() {
    let world = World::new("2026-03-01T00:30:00Z").await;
    plan(&world, &[("hourly", "cron(0 * ? * * *)", 7)]).await;
    world.clock.advance(SignedDuration::from_hours(24));
    world.engine.look_at_the_time().await.unwrap();
    assert_eq!(due(&world).await, hours("2026-03-01T01:00:00Z", "2026-03-02T00:00:00Z"));
    let jobs = world.jobs::<BackupJob>().await;
    let (last, before) = jobs.split_last().unwrap();
    assert_eq!(last.state, BackupJobState::Created, "there is still time for it");
    assert!(before.iter().all(|job| job.state == BackupJobState::Expired));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_off_is_told_in_one_job_beside_the_newest() {
    let world = World::new("2026-03-01T04:00:00Z").await;
    world.listen(&["BACKUP_JOB_EXPIRED"]).await;
    plan(&world, &[("daily", "cron(0 5 ? * * *)", 35)]).await;
    world.clock.advance(SignedDuration::from_mins(365 * 24 * 60 + 90));
    for _ in 0..2 {
        world.engine.look_at_the_time().await.unwrap();
        let jobs = world.jobs::<BackupJob>().await;
        assert_eq!(jobs.len(), 25);
        let told = &jobs[0];
        assert_eq!(told.state, BackupJobState::Expired);
        assert_eq!(told.created_at, "2027-02-05T05:00:00Z".parse().unwrap());
        let message = told.status_message.as_deref().unwrap();
        for part in ["342 scheduled backups", "2026-03-01T05:00:00Z", "2027-02-05T05:00:00Z"] {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(jobs[1].created_at, "2027-02-06T05:00:00Z".parse().unwrap());
        assert_eq!(jobs[24].state, BackupJobState::Created);
        let told =
            world.engine.catalog().list_deliveries(&world.account, None, None).await.unwrap();
        assert_eq!(told.len(), 24, "whoever asked for it hears of all but the one to come");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_never_ran_keeps_what_it_was_due_for_when_its_plan_changes() {
    let world = World::new("2026-03-01T04:00:00Z").await;
    let old = plan(&world, &[("daily", "cron(0 5 ? * * *)", 35)]).await;
    world.clock.advance(SignedDuration::from_mins(61));
    // As the use case does it: no scheduler has looked since five o'clock.
    let now = world.clock.now();
    let mut new = BackupPlan { version_id: "v2".into(), created_at: now, ..old.clone() };
    new.rules[0].schedule = cron::CronExpression::parse("cron(30 4 ? * * *)").unwrap();
    world.engine.settle_schedule(&old, now).await.unwrap();
    world.engine.catalog().update_plan(&new).await.unwrap();
    for _ in 0..2 {
        world.engine.look_at_the_time().await.unwrap();
        // A scheduler that read the plan before it was changed.
        world.engine.settle_schedule(&old, world.clock.now()).await.unwrap();
        let jobs = world.jobs::<BackupJob>().await;
        assert_eq!(due(&world).await, ["2026-03-01T05:00:00Z"], "not 04:30, which nobody meant");
        assert_eq!(jobs[0].created_by.as_ref().unwrap().plan_version, "v1");
        world.clock.advance(SignedDuration::from_mins(5));
    }
    pass(&world, 10, "2026-03-02T06:00:00Z").await;
    assert_eq!(due(&world).await, ["2026-03-01T05:00:00Z", "2026-03-02T04:30:00Z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_corrected_by_seconds_repeats_nothing() {
    let world = World::new("2026-03-01T04:59:50Z").await;
    plan(&world, &[("hourly", "cron(0 * ? * * *)", 7)]).await;
    for seconds in [20, -25, 10, -5, 40, 3600] {
        world.clock.advance(SignedDuration::from_secs(seconds));
        world.engine.look_at_the_time().await.unwrap();
    }
    assert_eq!(due(&world).await, ["2026-03-01T05:00:00Z", "2026-03-01T06:00:00Z"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_leaps_ahead_and_back_loses_no_later_occurrence() {
    let world = World::new("2026-03-01T04:30:00Z").await;
    plan(&world, &[("hourly", "cron(0 * ? * * *)", 7)]).await;
    world.clock.advance(SignedDuration::from_hours(24 * 365));
    world.engine.look_at_the_time().await.unwrap();
    assert_eq!(world.jobs::<BackupJob>().await.len(), 25, "24 and the one that tells of the rest");
    world.clock.advance(SignedDuration::from_hours(-24 * 365));
    pass(&world, 20, "2026-03-01T09:30:00Z").await;
    let real: Vec<_> =
        due(&world).await.into_iter().filter(|at| at.starts_with("2026-03-01")).collect();
    assert_eq!(real, hours("2026-03-01T05:00:00Z", "2026-03-01T09:00:00Z"));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_catalog_make_each_job_once() {
    let world = World::new("2026-03-01T00:30:00Z").await;
    plan(&world, &[("hourly", "cron(0 * ? * * *)", 7), ("daily", "cron(0 5 ? * * *)", 35)]).await;
    let other = world.another().await;
    for _ in 0..72 {
        world.clock.advance(SignedDuration::from_mins(40));
        let (one, two) = tokio::join!(world.engine.look_at_the_time(), other.look_at_the_time());
        one.unwrap();
        two.unwrap();
    }
    assert_eq!(due(&world).await, hours("2026-03-01T01:00:00Z", "2026-03-03T00:00:00Z"));
    other.catalog().close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_by_less_than_an_hour_repeats_nothing() {
    let world = World::new("2026-03-01T04:30:00Z").await;
    plan(&world, &[("hourly", "cron(0 * ? * * *)", 7)]).await;
    for minutes in [35, -34, 20, 20, -50, 30, 30, 30] {
        world.clock.advance(SignedDuration::from_mins(minutes));
        world.engine.look_at_the_time().await.unwrap();
    }
    assert_eq!(due(&world).await, ["2026-03-01T05:00:00Z"]);
    pass(&world, 10, "2026-03-01T07:00:00Z").await;
    assert_eq!(due(&world).await, hours("2026-03-01T05:00:00Z", "2026-03-01T07:00:00Z"));
}

/// A loop that never comes round must not pass for one that turns: all of them are known from the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_loop_that_does_not_turn_is_named() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    assert_eq!(world.engine.stuck(), ["the engine is not started"]);
    let running = world.start().await;
    assert_eq!(world.engine.stuck(), Vec::<&str>::new());
    // These three look for the first time after a minute, and this minute has not passed for them.
    world.clock.advance(SignedDuration::from_mins(16));
    assert!(world.engine.stuck().contains(&"absence"));
    world.clock.advance(SignedDuration::from_hours(6));
    let stuck = world.engine.stuck();
    for name in ["absence", "care of vaults", "reconcilers"] {
        assert!(stuck.contains(&name), "{name}: {stuck:?}");
    }
    running.stop("The test is over").await;
}

#[tokio::test]
async fn two_thousand_plans_that_are_due_at_once_make_a_job_each() {
    const PLANS: usize = 2000;
    let world = World::new("2026-03-01T04:00:00Z").await;
    let mut ids = BTreeSet::new();
    for _ in 0..PLANS {
        ids.insert(plan(&world, &[("daily", "cron(0 5 ? * * *)", 35)]).await.id);
    }
    world.clock.advance(SignedDuration::from_mins(61));
    for _ in 0..2 {
        world.engine.look_at_the_time().await.unwrap();
        let jobs = world.jobs::<BackupJob>().await;
        assert_eq!(jobs.len(), PLANS);
        let made: BTreeSet<String> =
            jobs.iter().map(|job| job.created_by.as_ref().unwrap().plan_id.clone()).collect();
        assert_eq!(made, ids, "each plan one");
    }
}

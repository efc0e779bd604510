//! Restore testing plans and time.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use provault_domain::restore_job::ValidationStatus;
use provault_domain::restore_testing_plan::{PointAlgorithm, PointSelection, PointType};
use provault_domain::*;
use provault_engine::Clock;

use crate::support::World;

const START: &str = "2026-03-01T04:00:00Z";

pub fn plan(world: &World, change: impl FnOnce(&mut RestoreTestingPlan)) -> RestoreTestingPlan {
    let mut plan = RestoreTestingPlan {
        name: "daily".into(),
        arn: Arn::restore_testing_plan(&world.region, &world.account, "daily", "1"),
        account: world.account.clone(),
        region: world.region.clone(),
        schedule: cron::CronExpression::parse("cron(0 5 ? * * *)").unwrap(),
        timezone: "Etc/UTC".into(),
        start_window_hours: 1,
        points: PointSelection {
            algorithm: PointAlgorithm::Latest,
            include_vaults: vec!["*".into()],
            exclude_vaults: Vec::new(),
            types: vec![PointType::Snapshot],
            window_days: 30,
        },
        creator_request_id: None,
        created_at: world.clock.now(),
        updated_at: None,
        scheduled_since: None,
        last_execution_at: None,
    };
    change(&mut plan);
    plan.validate().unwrap();
    plan
}

pub fn selection(world: &World, plan: &RestoreTestingPlan) -> RestoreTestingSelection {
    RestoreTestingSelection {
        name: "all".into(),
        account: world.account.clone(),
        plan_arn: plan.arn.clone(),
        plan_name: plan.name.clone(),
        role_arn: Arn::role(&world.account, role::DEFAULT_ROLE),
        kind: Kind::Filesystem,
        resource_arns: vec!["*".into()],
        conditions: selection::Conditions::default(),
        metadata_overrides: [("Encrypted".to_owned(), "false".to_owned())].into(),
        validation_window_hours: 0,
        creator_request_id: None,
        created_at: world.clock.now(),
        updated_at: None,
    }
}

pub async fn enter(world: &World, plan: &RestoreTestingPlan, selection: &RestoreTestingSelection) {
    let catalog = world.engine.catalog();
    selection.validate().unwrap();
    catalog.insert_restore_testing_plan(plan, &Tags::new()).await.unwrap();
    catalog.insert_restore_testing_selection(selection).await.unwrap();
}

/// Waits until there are so many tests and all of them have ended.
async fn ended(world: &World, count: usize) -> Vec<RestoreTest> {
    loop {
        let tests = world.jobs::<RestoreTest>().await;
        assert!(tests.len() <= count, "{tests:?}");
        if tests.len() == count && tests.iter().all(|t| t.state == RestoreTestState::Finished) {
            return tests;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Backs up with an engine of its own, and stops that.
pub async fn backed_up(world: World) -> (World, BackupJob) {
    let running = world.start().await;
    let job = world.back_up().await;
    assert_eq!(job.state, BackupJobState::Completed, "{:?}", job.status_message);
    running.stop("backed up").await;
    (world.restarted().await, job)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_due_plan_tests_its_resources_once_however_often_the_server_starts() {
    let (mut world, job) = backed_up(World::new(START).await).await;
    let plan = plan(&world, |_| {});
    // Two selections that match the same resource make one test of it.
    enter(&world, &plan, &selection(&world, &plan)).await;
    let twice = RestoreTestingSelection {
        name: "later".into(),
        resource_arns: vec![world.resource.arn.to_string()],
        ..selection(&world, &plan)
    };
    world.engine.catalog().insert_restore_testing_selection(&twice).await.unwrap();
    world.clock.advance(SignedDuration::from_mins(61));
    for _ in 0..2 {
        let running = world.start().await;
        let test = ended(&world, 1).await.remove(0);
        assert_eq!(test.verdict, Some(Verdict::Passed), "{:?}", test.reason);
        assert_eq!(test.created_at, "2026-03-01T05:00:00Z".parse().unwrap());
        assert_eq!(test.recovery_point_arn, job.recovery_point_arn);
        assert_eq!(test.planned.as_ref().unwrap().selection_name, "all");
        let restore: RestoreJob = world.end_of(test.restore_job_id.as_ref().unwrap()).await;
        assert_eq!(restore.state, RestoreJobState::Completed);
        assert_eq!(restore.testing_plan_arn, Some(plan.arn.clone()));
        assert_eq!(restore.validation, Some(ValidationStatus::Successful));
        assert_eq!(restore.metadata["Encrypted"], "false");
        assert_eq!(restore.role_arn, Arn::role(&world.account, role::DEFAULT_ROLE));
        running.stop("restart").await;
        world = world.restarted().await;
    }
    let catalog = world.engine.catalog();
    let now = catalog.restore_testing_plan(&world.account, "daily").await.unwrap().unwrap();
    assert_eq!(now.last_execution_at, Some(world.clock.now()));
    let copies = world.directory.path().join("restore-tests");
    assert_eq!(std::fs::read_dir(copies).map_or(0, Iterator::count), 0, "copies are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_start_in_time_is_a_row_evidence_and_a_notification() {
    let (world, _) = backed_up(World::new(START).await).await;
    world.listen(&["RESTORE_JOB_COMPLETED"]).await;
    let plan = plan(&world, |_| {});
    enter(&world, &plan, &selection(&world, &plan)).await;
    // Off for nine days, back two hours after the last occurrence: every window has closed. The newest
    // seven are told of each by itself, those before them by one test.
    world.clock.advance(SignedDuration::from_hours(8 * 24 + 3));
    let running = world.start().await;
    let tests = ended(&world, 8).await;
    let missed = tests[0].reason.as_deref().unwrap();
    for part in ["2 occurrences", "daily", "2026-03-01T05:00:00Z", "2026-03-02T05:00:00Z"] {
        assert!(missed.contains(part), "{missed}");
    }
    for (place, test) in tests.iter().enumerate() {
        assert_eq!(test.verdict, Some(Verdict::Inconclusive), "{:?}", test.reason);
        let reason = test.reason.as_deref().unwrap();
        let late = reason.contains("start window of restore testing plan daily");
        assert!(late || place == 0, "{reason}");
        assert_eq!(test.restore_job_id, None, "nothing was restored");
        let told =
            world.engine.catalog().list_deliveries(&world.account, Some(&test.id), None).await;
        assert_eq!(told.unwrap().len(), 1);
    }
    assert_eq!(tests[7].created_at, "2026-03-09T05:00:00Z".parse().unwrap());
    let evidence = world.engine.catalog().list_evidence(&world.account).await.unwrap();
    assert_eq!(evidence.len(), 8);
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_waits_too_long_for_its_turn_is_ended() {
    let (world, job) = backed_up(World::new(START).await).await;
    let plan = plan(&world, |_| {});
    enter(&world, &plan, &selection(&world, &plan)).await;
    world.clock.advance(SignedDuration::from_mins(61));
    world.engine.hold_restore_tests();
    let running = world.start().await;
    let test = loop {
        if let Some(test) = world.jobs::<RestoreTest>().await.pop() {
            break test;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!(test.requested_point, job.recovery_point_arn);
    // The point that a waiting test will read cannot go before it has its turn.
    let point = job.recovery_point_arn.clone().unwrap();
    world.engine.delete_recovery_point(&world.account, &point).await.unwrap_err();
    running.stop("restart").await;
    let world = world.restarted().await;
    world.engine.hold_restore_tests();
    world.clock.advance(SignedDuration::from_hours(2));
    let running = world.start().await;
    let tests = ended(&world, 1).await;
    assert_eq!(tests[0].verdict, Some(Verdict::Inconclusive));
    world.engine.delete_recovery_point(&world.account, &point).await.unwrap();
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_eligible_fails_and_what_is_not_in_the_vaults_is_left_alone() {
    let (world, _) = backed_up(World::new(START).await).await;
    let short = plan(&world, |plan| plan.points.window_days = 1);
    enter(&world, &short, &selection(&world, &short)).await;
    let elsewhere = plan(&world, |plan| {
        plan.name = "elsewhere".into();
        plan.arn = Arn::restore_testing_plan(&world.region, &world.account, "elsewhere", "2");
        plan.points.exclude_vaults = vec![world.vault.arn.to_string()];
    });
    enter(&world, &elsewhere, &selection(&world, &elsewhere)).await;
    let named = RestoreTestingSelection {
        name: "named".into(),
        resource_arns: vec![
            Arn::resource_of(Kind::Filesystem, &world.region, &world.account, "00000000")
                .to_string(),
        ],
        metadata_overrides: BTreeMap::new(),
        ..selection(&world, &elsewhere)
    };
    world.engine.catalog().insert_restore_testing_selection(&named).await.unwrap();
    // Two occurrences of each plan; the newest backup is older than a day at the execution.
    world.clock.advance(SignedDuration::from_hours(25) + SignedDuration::from_mins(30));
    let running = world.start().await;
    let tests = ended(&world, 4).await;
    let of = |name: &str| -> Vec<&RestoreTest> {
        tests.iter().filter(|t| t.planned.as_ref().unwrap().plan_name == name).collect()
    };
    let failed = of("daily");
    assert_eq!(failed.len(), 2);
    assert_eq!(failed[1].verdict, Some(Verdict::Failed), "{:?}", failed[1].reason);
    assert!(failed[1].reason.as_ref().unwrap().contains("found no recovery point"));
    assert_eq!(failed[1].vault_name.as_deref(), Some("lab"), "whose topic is told");
    // Of the other plan only what it names itself, which nobody has registered.
    let unknown = of("elsewhere");
    assert_eq!(unknown.len(), 2);
    assert!(unknown.iter().all(|t| t.planned.as_ref().unwrap().selection_name == "named"));
    assert_eq!(unknown[1].verdict, Some(Verdict::Inconclusive));
    assert!(unknown[1].reason.as_ref().unwrap().contains("no longer registered"));
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_ahead_does_not_stop_the_plan() {
    let (world, _) = backed_up(World::new(START).await).await;
    let plan = plan(&world, |_| {});
    // By its ARN: thirty hours on its only recovery point expires.
    let named = RestoreTestingSelection {
        resource_arns: vec![world.resource.arn.to_string()],
        ..selection(&world, &plan)
    };
    enter(&world, &plan, &named).await;
    let reached = |world: World| async move {
        loop {
            let all = world.engine.catalog().all_restore_testing_plans().await.unwrap();
            if all[0].1 == world.clock.now() {
                return world;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    world.clock.advance(SignedDuration::from_hours(30));
    let running = world.start().await;
    let world = reached(world).await;
    running.stop("the clock is set back").await;
    world.clock.advance(SignedDuration::from_hours(-30));
    let running = world.engine.start(true).await.unwrap();
    let world = reached(world).await;
    running.stop("an hour later").await;
    let before = world.jobs::<RestoreTest>().await.len();
    world.clock.advance(SignedDuration::from_mins(61));
    let running = world.engine.start(true).await.unwrap();
    let world = reached(world).await;
    let tests = world.jobs::<RestoreTest>().await;
    assert_eq!(tests.len(), before + 1, "today's occurrence comes due today, not in thirty hours");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_due_under_the_old_schedule_is_not_lost_with_it() {
    let (world, _) = backed_up(World::new(START).await).await;
    let old = plan(&world, |_| {});
    enter(&world, &old, &selection(&world, &old)).await;
    world.clock.advance(SignedDuration::from_mins(61));
    // As the use case does it: no scheduler has looked since five o'clock.
    let (now, catalog) = (world.clock.now(), world.engine.catalog());
    let mut new = old.clone();
    new.schedule = cron::CronExpression::parse("cron(0 9 ? * * *)").unwrap();
    world.engine.settle_restore_testing(&old, now).await.unwrap();
    catalog.update_restore_testing_plan(&old, &new, now).await.unwrap();
    let tests = world.jobs::<RestoreTest>().await;
    assert_eq!(tests.len(), 1);
    assert_eq!(tests[0].created_at, "2026-03-01T05:00:00Z".parse().unwrap());
}

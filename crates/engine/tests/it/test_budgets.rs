//! Restore tests that follow backups: who says so, and the budgets they keep.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use provault_catalog::TestingSettings;
use provault_domain::backup_job::CreatedBy;
use provault_domain::backup_testing::Obstacle;
use provault_domain::evidence::verify_chain;
use provault_domain::*;
use provault_engine::{Clock, DiskReserve, TestLimits};

use crate::support::World;

const START: &str = "2026-03-01T12:00:00Z";

fn on(world: &World) -> BackupTesting {
    BackupTesting::plain(true, world.clock.now())
}

fn night(world: &World) -> BackupTesting {
    let window = DailyWindow::parse("01:00", "05:00", "Etc/UTC").unwrap();
    BackupTesting { window: Some(window), ..on(world) }
}

/// Lets the resource say something.
async fn say(world: &World, testing: Option<BackupTesting>) {
    let arn = &world.resource.arn;
    world.engine.catalog().update_resource(arn, |r| r.testing = testing).await.unwrap();
}

/// A plan with a selection of everything; nothing is due by it while a test lasts.
async fn plan(world: &World) -> (BackupPlan, BackupSelection) {
    let (account, now) = (world.account.clone(), world.clock.now());
    let plan = BackupPlan {
        id: "plan".into(),
        arn: Arn::backup_plan(&world.region, &account, "plan"),
        account: account.clone(),
        name: "nightly".into(),
        version_id: "v1".into(),
        rules: Vec::new(),
        creator_request_id: None,
        created_at: now,
        deleted_at: None,
        last_execution_at: None,
    };
    world.engine.catalog().insert_plan(&plan, &Tags::new()).await.unwrap();
    let selection = BackupSelection {
        id: "selection".into(),
        account: account.clone(),
        plan_id: plan.id.clone(),
        name: "all".into(),
        role_arn: Arn::role(&account, role::DEFAULT_ROLE),
        resources: vec!["*".into()],
        not_resources: Vec::new(),
        list_of_tags: Vec::new(),
        conditions: selection::Conditions::default(),
        creator_request_id: None,
        created_at: now,
    };
    world.engine.catalog().insert_selection(&selection).await.unwrap();
    (plan, selection)
}

/// A backup that the plan made.
async fn back_up_by(world: &World, plan: &BackupPlan, selection: &BackupSelection) -> BackupJob {
    let job = BackupJob {
        created_by: Some(CreatedBy {
            plan_id: plan.id.clone(),
            plan_arn: plan.arn.clone(),
            plan_name: plan.name.clone(),
            plan_version: plan.version_id.clone(),
            rule_id: "rule".into(),
            rule_name: "daily".into(),
            rule_cron: "cron(0 5 ? * * *)".into(),
            rule_timezone: "Etc/UTC".into(),
            selection_id: Some(selection.id.clone()),
        }),
        ..world.backup_job()
    };
    world.engine.catalog().insert_job(&job).await.unwrap();
    world.engine.wake();
    let job = world.end_of::<BackupJob>(&job.id).await;
    assert_eq!(job.state, BackupJobState::Completed, "{:?}", job.status_message);
    job
}

/// The test that followed a backup.
async fn test_of(world: &World, job: &BackupJob) -> Option<RestoreTest> {
    let tests = world.jobs::<RestoreTest>().await;
    tests.into_iter().find(|test| test.after_backup_job.as_ref() == Some(&job.id))
}

/// Waits until the test that followed a backup waits because of `obstacle`.
async fn waits(world: &World, job: &BackupJob, obstacle: Obstacle) -> RestoreTest {
    loop {
        let test = test_of(world, job).await.unwrap();
        assert_eq!(test.state, RestoreTestState::Pending, "{:?}", test.reason);
        if test.waiting.as_ref().is_some_and(|waiting| waiting.obstacle == obstacle) {
            return test;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_specific_that_says_anything_wins() {
    let world = World::new(START).await;
    let running = world.start().await;
    let (plan, selection) = plan(&world).await;
    let catalog = world.engine.catalog();
    let (account, off) = (&world.account, BackupTesting::plain(false, world.clock.now()));
    let followed = async || {
        let job = back_up_by(&world, &plan, &selection).await;
        // It is entered in the transaction that ends the job.
        let test = test_of(&world, &job).await?;
        let _ = world.end_of::<RestoreTest>(&test.id).await;
        Some(test.budget.unwrap().said_by)
    };
    assert_eq!(followed().await, None, "nobody says anything");
    catalog.set_plan_testing(account, &plan.id, Some(&on(&world))).await.unwrap();
    assert_eq!(followed().await.as_deref(), Some("plan nightly"));
    let on_demand = world.back_up().await;
    assert!(test_of(&world, &on_demand).await.is_none(), "the plan has no say in it");
    let set = async |testing: BackupTesting| {
        let set = catalog.set_selection_testing(account, &plan.id, &selection.id, Some(&testing));
        set.await.unwrap();
    };
    set(off.clone()).await;
    assert_eq!(followed().await, None, "off is an answer, too");
    set(on(&world)).await;
    assert_eq!(followed().await.as_deref(), Some("a selection of plan nightly"));
    say(&world, Some(off)).await;
    assert_eq!(followed().await, None);
    say(&world, Some(on(&world))).await;
    assert_eq!(followed().await.as_deref(), Some("resource source"));
    let on_demand = world.back_up().await;
    assert!(test_of(&world, &on_demand).await.is_some());
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_point_is_tested_when_the_window_opens() {
    let world = World::new(START).await;
    let running = world.start().await;
    say(&world, Some(night(&world))).await;
    let first = world.back_up().await;
    let waiting = waits(&world, &first, Obstacle::Window).await.waiting.unwrap();
    assert!(waiting.reason.contains("2026-03-02T01:00:00Z"), "{}", waiting.reason);
    // Another backup comes before the window: the first one's turn is over, and its row says so.
    world.clock.advance(SignedDuration::from_hours(1));
    let second = world.back_up().await;
    let first = test_of(&world, &first).await.unwrap();
    let first: RestoreTest = world.end_of(&first.id).await;
    assert_eq!(first.verdict, Some(Verdict::NotTested));
    assert!(first.reason.as_ref().unwrap().contains("took its place"), "{:?}", first.reason);
    waits(&world, &second, Obstacle::Window).await;
    world.clock.advance(SignedDuration::from_mins(12 * 60 + 30));
    world.engine.wake();
    let second = test_of(&world, &second).await.unwrap();
    let second: RestoreTest = world.end_of(&second.id).await;
    assert_eq!(second.verdict, Some(Verdict::Passed), "{:?}", second.reason);
    assert_eq!(second.started_at, Some("2026-03-02T01:30:00Z".parse().unwrap()));
    assert!(second.waiting.is_none());
    let evidence = world.engine.catalog().list_evidence(&world.account).await.unwrap();
    verify_chain(&evidence).unwrap();
    let verdicts: Vec<_> = evidence.iter().map(|e| e.body["verdict"].clone()).collect();
    assert_eq!(verdicts, ["NOT_TESTED", "PASSED"]);
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_begin_in_two_windows_is_told() {
    let world = World::new(START).await;
    world.listen(&["RESTORE_JOB_COMPLETED"]).await;
    let running = world.start().await;
    say(&world, Some(night(&world))).await;
    let job = world.back_up().await;
    waits(&world, &job, Obstacle::Window).await;
    // The server was off for both.
    running.stop("for some days").await;
    world.clock.advance(SignedDuration::from_hours(41));
    let world = world.restarted().await;
    let running = world.start().await;
    let test = test_of(&world, &job).await.unwrap();
    let test: RestoreTest = world.end_of(&test.id).await;
    assert_eq!(test.verdict, Some(Verdict::Inconclusive));
    assert!(test.reason.unwrap().contains("two of its daily windows"));
    assert_eq!(test.started_at, None);
    let told = world.engine.catalog().list_deliveries(&world.account, None, None).await.unwrap();
    let ended = told.iter().any(|delivery| {
        matches!(
            delivery.notification.event,
            NotificationEvent::RestoreTestEnded { verdict: Verdict::Inconclusive, .. }
        )
    });
    assert!(ended, "{told:?}");
    running.stop("test over").await;
}

/// Leaves no test any room.
fn full() -> TestLimits {
    TestLimits { reserve: DiskReserve::Bytes(u64::MAX), ..TestLimits::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_waits_for_room_but_not_for_ever() {
    let world = World::new(START).await.limited(full()).await;
    let running = world.start().await;
    say(&world, Some(on(&world))).await;
    let job = world.back_up().await;
    let waiting = waits(&world, &job, Obstacle::Room).await.waiting.unwrap();
    assert!(waiting.reason.contains("--test-disk-reserve"), "{}", waiting.reason);
    // Who asks by hand is told at once.
    let asked = world.engine.new_restore_test(&world.resource, None);
    world.engine.catalog().insert_job(&asked).await.unwrap();
    world.engine.wake();
    let asked: RestoreTest = world.end_of(&asked.id).await;
    assert_eq!(asked.verdict, Some(Verdict::Inconclusive));
    assert!(asked.reason.unwrap().contains("no room"));
    world.clock.advance(SignedDuration::from_hours(24));
    world.engine.wake();
    let test = test_of(&world, &job).await.unwrap();
    let test: RestoreTest = world.end_of(&test.id).await;
    assert_eq!(test.verdict, Some(Verdict::Inconclusive));
    let reason = test.reason.unwrap();
    assert!(reason.contains("waited a day") && reason.contains("--test-disk-reserve"), "{reason}");
    running.stop("test over").await;
}

/// A backup every day, and never any room: were each test passed over for the next one, none would ever be
/// missed.
#[tokio::test(flavor = "multi_thread")]
async fn a_test_whose_window_has_opened_is_not_passed_over() {
    let world = World::new(START).await.limited(full()).await;
    let running = world.start().await;
    say(&world, Some(night(&world))).await;
    let first = world.back_up().await;
    world.clock.advance(SignedDuration::from_mins(13 * 60 + 30));
    world.engine.wake();
    waits(&world, &first, Obstacle::Room).await;
    world.clock.advance(SignedDuration::from_mins(10 * 60 + 30));
    let second = world.back_up().await;
    // The first waits for its second window, and stays.
    waits(&world, &second, Obstacle::Window).await;
    waits(&world, &first, Obstacle::Window).await;
    world.clock.advance(SignedDuration::from_hours(17));
    world.engine.wake();
    let test = test_of(&world, &first).await.unwrap();
    let test: RestoreTest = world.end_of(&test.id).await;
    assert_eq!(test.verdict, Some(Verdict::Inconclusive), "{:?}", test.reason);
    assert!(test.reason.unwrap().contains("two of its daily windows"));
    running.stop("test over").await;
}

/// What a newer point took the place of is still owed a test, which what the share left out is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_was_passed_over_is_missed_after_a_day() {
    let world = World::new(START).await;
    let running = world.start().await;
    say(&world, Some(night(&world))).await;
    // What was completed in the very moment of the saying is not owed.
    world.clock.advance(SignedDuration::from_secs(1));
    let first = world.back_up().await;
    world.clock.advance(SignedDuration::from_hours(10));
    world.back_up().await;
    let test = test_of(&world, &first).await.unwrap();
    let test: RestoreTest = world.end_of(&test.id).await;
    assert_eq!(test.verdict, Some(Verdict::NotTested));
    let mark = world.point_of(&first).await.last_verdict.unwrap();
    assert!(mark.overtaken);
    let resource = world.engine.catalog().resource(&world.resource.arn).await.unwrap().unwrap();
    let troubles = async || {
        let promises = world.engine.promises(&world.account).await.unwrap();
        let standing = world.engine.standing(&promises, &resource).await.unwrap();
        let kinds = standing.assessment.troubles.into_iter().map(|(kind, _)| kind);
        kinds.filter(|kind| *kind == ResourceTrouble::NotTested).count()
    };
    assert_eq!(troubles().await, 0);
    // A day after the first point, but not after the second.
    world.clock.advance(SignedDuration::from_mins(14 * 60 + 30));
    assert_eq!(troubles().await, 1);
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_begins_when_there_is_room_after_all() {
    let world = World::new(START).await.limited(full()).await;
    let running = world.start().await;
    say(&world, Some(on(&world))).await;
    let job = world.back_up().await;
    waits(&world, &job, Obstacle::Room).await;
    running.stop("for a smaller reserve").await;
    let world = world.restarted().await;
    let running = world.start().await;
    let test = test_of(&world, &job).await.unwrap();
    let test: RestoreTest = world.end_of(&test.id).await;
    assert_eq!(test.verdict, Some(Verdict::Passed), "{:?}", test.reason);
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_quarter_every_fourth_point_is_tested_and_no_trouble_is_made_of_the_others() {
    let world = World::new(START).await;
    let running = world.start().await;
    say(&world, Some(BackupTesting { share_percent: 25, ..on(&world) })).await;
    let mut verdicts = Vec::new();
    for _ in 0..5 {
        let job = world.back_up().await;
        let test = test_of(&world, &job).await.unwrap();
        let test: RestoreTest = world.end_of(&test.id).await;
        verdicts.push(test.verdict.unwrap());
        world.clock.advance(SignedDuration::from_hours(1));
    }
    let left_out = Verdict::NotTested;
    assert_eq!(verdicts, [Verdict::Passed, left_out, left_out, left_out, Verdict::Passed]);
    let job = world.back_up().await;
    assert!(world.point_of(&job).await.is_left_out());
    let promises = world.engine.promises(&world.account).await.unwrap();
    let resource = world.engine.catalog().resource(&world.resource.arn).await.unwrap().unwrap();
    world.clock.advance(SignedDuration::from_hours(25));
    let standing = world.engine.standing(&promises, &resource).await.unwrap();
    assert_eq!(standing.assessment.verdict, Some(Verdict::NotTested));
    let tested = standing.judged.unwrap();
    assert_eq!(tested.last_verdict.unwrap().verdict, Verdict::Passed);
    let of_tests = |(kind, _): &(ResourceTrouble, String)| {
        matches!(kind, ResourceTrouble::NotTested | ResourceTrouble::TestFailed)
    };
    assert!(!standing.assessment.troubles.iter().any(of_tests), "{:?}", standing.assessment);
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_may_let_fewer_tests_run_than_the_server() {
    let limits = TestLimits { at_once: NonZeroUsize::new(4).unwrap(), ..TestLimits::default() };
    let world = World::new(START).await.limited(limits).await;
    let running = world.start().await;
    say(&world, Some(BackupTesting { at_once: Some(1), ..on(&world) })).await;
    world.engine.hold_restore_tests();
    let jobs = [world.back_up().await, world.back_up().await];
    world.engine.release_restore_tests();
    let mut waited = 0;
    for job in &jobs {
        let test = test_of(&world, job).await.unwrap();
        let test: RestoreTest = world.end_of(&test.id).await;
        assert_eq!(test.verdict, Some(Verdict::Passed), "{:?}", test.reason);
        let log = world.engine.catalog().job_log(&world.account, &test.id).await.unwrap();
        waited += log.iter().filter(|line| line.message.contains("waits for its turn")).count();
    }
    assert_eq!(waited, 1, "the second says that it waits for the first");
    let settings = world.engine.catalog().testing_settings(&world.account).await.unwrap();
    assert_eq!(settings, TestingSettings::default(), "a resource has its setting with it");
    running.stop("test over").await;
}

/// Two regions of one server have one limit, and leave each other a turn.
#[tokio::test(flavor = "multi_thread")]
async fn engines_of_one_server_keep_the_limit_together() {
    let home = World::new(START).await;
    let running = home.start().await;
    home.back_up().await;
    running.stop("restart").await;
    let (driver, seen) = crate::stopping::held();
    let home = home.restarted_with(driver).await;
    let mut other = World::new(START).await;
    other.at_work = Arc::clone(&home.at_work);
    let other = other.restarted().await;
    let (at_home, elsewhere) = (home.start().await, other.start().await);
    other.back_up().await;
    let ask = async |world: &World| {
        let asked = world.engine.new_restore_test(&world.resource, None);
        world.engine.catalog().insert_job(&asked).await.unwrap();
        world.engine.wake();
        asked.id
    };
    ask(&home).await;
    let begun = tokio::task::spawn_blocking(move || {
        seen.recv().unwrap();
        seen
    });
    let _seen = begun.await.unwrap();
    let id = ask(&other).await;
    loop {
        let test = other.engine.catalog().job::<RestoreTest>(&other.account, &id).await;
        let test = test.unwrap().unwrap();
        assert_eq!(test.state, RestoreTestState::Pending);
        if let Some(waiting) = test.waiting {
            assert_eq!(waiting.obstacle, Obstacle::Turn);
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    at_home.stop("test over").await;
    other.engine.wake();
    let test: RestoreTest = other.end_of(&id).await;
    assert_eq!(test.verdict, Some(Verdict::Passed), "{:?}", test.reason);
    elsewhere.stop("test over").await;
}

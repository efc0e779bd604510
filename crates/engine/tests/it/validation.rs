//! Copies of restore tests that are kept for somebody outside to look at.

use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;
use provault_domain::restore_job::{DeletionStatus, ValidationStatus};
use provault_domain::*;
use provault_engine::Clock;

use crate::support::{World, assert_same};
use crate::testing_plans::{backed_up, enter, plan, selection};

const START: &str = "2026-03-01T04:00:00Z";

/// A world in which a test is due that keeps its copy for an hour.
async fn with_window(change: impl FnOnce(&mut Resource)) -> World {
    let (world, _) = backed_up(World::with(START, change).await).await;
    let plan = plan(&world, |_| {});
    let selection =
        RestoreTestingSelection { validation_window_hours: 1, ..selection(&world, &plan) };
    enter(&world, &plan, &selection).await;
    world.listen(&["RESTORE_JOB_COMPLETED"]).await;
    world.clock.advance(SignedDuration::from_mins(61));
    world
}

/// The test, once it waits for somebody outside.
async fn validating(world: &World) -> RestoreTest {
    loop {
        let test = world.jobs::<RestoreTest>().await.pop();
        if let Some(test) = test.filter(|test| test.state == RestoreTestState::Validating) {
            return test;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn now(world: &World, test: &RestoreTest) -> RestoreTest {
    let catalog = world.engine.catalog();
    catalog.job::<RestoreTest>(&world.account, &test.id).await.unwrap().unwrap()
}

fn copies(world: &World) -> usize {
    std::fs::read_dir(world.directory.path().join("restore-tests")).map_or(0, Iterator::count)
}

async fn restore_of(world: &World, test: &RestoreTest) -> RestoreJob {
    world.end_of(test.restore_job_id.as_ref().unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_is_whole_outlives_the_server_and_goes_with_the_report() {
    let world = with_window(|_| {}).await;
    let running = world.start().await;
    let test = validating(&world).await;
    let asked = test.findings.validation.clone().unwrap();
    assert_eq!(asked.until, world.clock.now() + SignedDuration::from_hours(1));
    // What the negative controls broke is not what somebody is asked about.
    assert_same(&world.source(), Path::new(&asked.copy));
    let restore = restore_of(&world, &test).await;
    assert_eq!(restore.validation, Some(ValidationStatus::Validating));
    assert!(restore.validation_message.unwrap().contains(&asked.copy));
    let told = world.engine.catalog().list_deliveries(&world.account, None, None).await.unwrap();
    let about: Vec<_> = told
        .iter()
        .filter(|delivery| delivery.notification.event == NotificationEvent::ValidationAsked)
        .collect();
    assert_eq!(about.len(), 1, "{told:?}");
    assert_eq!(Some(&about[0].notification.job_id), test.restore_job_id.as_ref());
    assert!(about[0].notification.reason.as_ref().unwrap().contains(&asked.copy));

    running.stop("restart").await;
    let world = world.restarted().await;
    let running = world.start().await;
    // It holds up no other test, of which one at a time runs.
    let other = world.engine.new_restore_test(&world.resource, None);
    world.engine.catalog().insert_job(&other).await.unwrap();
    world.engine.wake();
    let other: RestoreTest = world.end_of(&other.id).await;
    assert_eq!(other.verdict, Some(Verdict::Passed), "{:?}", other.reason);
    let test = now(&world, &test).await;
    assert_eq!(test.state, RestoreTestState::Validating);
    assert_same(&world.source(), Path::new(&asked.copy));

    let half = Some("half way".to_owned());
    world.engine.report_validation(&test, ValidationStatus::Validating, half).await.unwrap();
    let test = now(&world, &test).await;
    assert_eq!(test.state, RestoreTestState::Validating);
    let said = Some("12 rows".to_owned());
    let good = ValidationStatus::Successful;
    world.engine.report_validation(&test, good, said).await.unwrap();
    let ended: RestoreTest = world.end_of(&test.id).await;
    assert_eq!(ended.verdict, Some(Verdict::Passed), "{:?}", ended.reason);
    assert!(ended.reason.unwrap().contains("12 rows"));
    assert_eq!((ended.cleaned_up, copies(&world)), (Some(true), 0));
    let restore = restore_of(&world, &test).await;
    assert_eq!(restore.validation, Some(ValidationStatus::Successful));
    assert_eq!(restore.deletion, Some(DeletionStatus::Successful));
    world.engine.report_validation(&test, good, None).await.unwrap_err();
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_inconclusive_when_the_window_closes_and_no_earlier() {
    let world = with_window(|_| {}).await;
    let running = world.start().await;
    let test = validating(&world).await;
    world.clock.advance(SignedDuration::from_mins(59));
    world.engine.look_at_the_time().await.unwrap();
    assert_eq!(now(&world, &test).await.state, RestoreTestState::Validating);
    // The point is needed as long as its copy is looked at.
    let point = test.recovery_point_arn.clone().unwrap();
    world.engine.delete_recovery_point(&world.account, &point).await.unwrap_err();
    // It dies without a word, and nobody is there when the window closes.
    drop(running);
    let world = world.restarted().await;
    world.clock.advance(SignedDuration::from_mins(2));
    let running = world.start().await;
    let ended: RestoreTest = world.end_of(&test.id).await;
    assert_eq!(ended.verdict, Some(Verdict::Inconclusive));
    assert!(ended.reason.as_ref().unwrap().contains("no result was reported"), "{ended:?}");
    assert_eq!(copies(&world), 0);
    let restore = restore_of(&world, &test).await;
    assert_eq!(restore.validation, Some(ValidationStatus::TimedOut));
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_report_is_a_failure_of_the_point() {
    let world = with_window(|_| {}).await;
    let running = world.start().await;
    let test = validating(&world).await;
    let said = Some("the newest row is a week old".to_owned());
    let bad = ValidationStatus::Failed;
    world.engine.report_validation(&test, bad, said).await.unwrap();
    let ended: RestoreTest = world.end_of(&test.id).await;
    assert_eq!(ended.verdict, Some(Verdict::Failed));
    assert!(ended.reason.unwrap().contains("a week old"));
    let arn = test.recovery_point_arn.as_ref().unwrap();
    let catalog = world.engine.catalog();
    let point = catalog.recovery_point(&world.account, arn).await.unwrap().unwrap();
    assert_eq!(point.last_verdict.unwrap().verdict, Verdict::Failed);
    assert_eq!(catalog.list_evidence(&world.account).await.unwrap().len(), 1);
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_waiting() {
    let world = with_window(|_| {}).await;
    let running = world.start().await;
    let test = validating(&world).await;
    let stopped = loop {
        // The worker that made the copy may be about to leave, and hear it or not.
        let _ = world.engine.stop_restore_test(&world.account, &test.id, "enough").await;
        let test = now(&world, &test).await;
        if test.state == RestoreTestState::Finished {
            break test;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(stopped.verdict, Some(Verdict::Inconclusive));
    assert!(stopped.reason.unwrap().contains("enough"));
    assert_eq!(copies(&world), 0);
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_by_itself_is_told_at_once() {
    let world = with_window(|resource| resource.rpo_seconds = Some(60)).await;
    let running = world.start().await;
    let test = loop {
        if let Some(test) = world.jobs::<RestoreTest>().await.pop() {
            break test;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let test: RestoreTest = world.end_of(&test.id).await;
    assert_eq!(test.verdict, Some(Verdict::Failed), "{:?}", test.reason);
    assert_eq!(test.planned.unwrap().validation_window_hours, 1);
    assert_eq!(test.findings.validation, None);
    running.stop("test over").await;
}

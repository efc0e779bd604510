//! What becomes of running jobs when their server is stopped, and that the next one goes on with them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use jiff::SignedDuration;
use provault_domain::restore_job::{DeletionStatus, ValidationStatus};
use provault_domain::*;
use provault_driver::{CancelFlag, Driver, DriverError};
use provault_engine::{Clock as _, Running};

use crate::interposed::Interposed;
use crate::support::World;

const START: &str = "2026-03-01T12:00:00Z";
const WHY: &str = "The server was stopped";

/// Every capture and every restore waits before its end until it is cancelled, after it has said that it
/// waits.
pub fn held() -> (Arc<dyn Driver>, Receiver<()>) {
    let (waits, seen) = channel();
    let at_read = waits.clone();
    let driver = Interposed::default()
        .after_read(move |context| until_cancelled(&at_read, context.cancel))
        .restoring(move |context| until_cancelled(&waits, context.cancel));
    (Arc::new(driver), seen)
}

fn until_cancelled(waits: &Sender<()>, cancel: &CancelFlag) -> Result<(), DriverError> {
    let _ = waits.send(());
    while !cancel.is_raised() {
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(DriverError::Cancelled)
}

/// Waits until the driver waits, and stops the engine.
async fn stop_held(running: Running, seen: Receiver<()>) {
    // Kept until the stop is over: the driver may say it again.
    let seen = is_held(seen).await;
    running.stop(WHY).await;
    drop(seen);
}

/// Waits until the driver waits.
async fn is_held(seen: Receiver<()>) -> Receiver<()> {
    let waits = tokio::task::spawn_blocking(move || {
        seen.recv().unwrap();
        seen
    });
    waits.await.unwrap()
}

async fn job<J: provault_catalog::Job>(world: &World, id: &str) -> J {
    world.engine.catalog().job::<J>(&world.account, id).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_a_stop_interrupts_goes_on_under_the_same_id() {
    let (driver, seen) = held();
    let world = World::new(START).await.restarted_with(driver).await;
    let asked = world.backup_job();
    world.engine.catalog().insert_job(&asked).await.unwrap();
    stop_held(world.start().await, seen).await;

    let waiting: BackupJob = job(&world, &asked.id).await;
    assert_eq!(waiting.state, BackupJobState::Created, "{waiting:?}");
    assert_eq!(waiting.interruptions, 0, "an orderly stop is no attempt");
    assert_eq!(waiting.started_at, Some(asked.created_at));
    let message = waiting.status_message.clone().unwrap();
    assert!(message.starts_with(WHY) && message.contains("goes on"), "{message}");
    let locks = std::fs::read_dir(world.repository().join("locks")).unwrap().count();
    assert_eq!(locks, 0, "the lock of the repository is given back");
    assert!(!crate::care::files_below(&world.repository().join("index")).is_empty());

    // It had started in its start window, which closes now; the completion window does not.
    world.clock.advance(SignedDuration::from_hours(9));
    world.engine.look_at_the_time().await.unwrap();
    assert_eq!(job::<BackupJob>(&world, &asked.id).await, waiting);

    let world = world.restarted().await;
    let running = world.start().await;
    let done: BackupJob = world.end_of(&asked.id).await;
    assert_eq!(done.state, BackupJobState::Completed, "{done:?}");
    assert_eq!(done.started_at, waiting.started_at);
    world.assert_restores(&world.point_of(&done).await, "out").await;
    assert_eq!(world.jobs::<BackupJob>().await.len(), 1, "nothing was made anew for it");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backup_ends_with_its_completion_window() {
    let (driver, seen) = held();
    let world = World::new(START).await.restarted_with(driver).await;
    let asked = world.backup_job();
    world.engine.catalog().insert_job(&asked).await.unwrap();
    stop_held(world.start().await, seen).await;
    world.clock.advance(SignedDuration::from_hours(11));
    world.engine.look_at_the_time().await.unwrap();
    let ended: BackupJob = job(&world, &asked.id).await;
    assert_eq!(ended.state, BackupJobState::Aborted, "{ended:?}");
    assert!(ended.status_message.unwrap().contains("completion window"));
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_orderly_stops_fails_no_backup() {
    let mut world = World::new(START).await;
    let asked = world.backup_job();
    world.engine.catalog().insert_job(&asked).await.unwrap();
    for _ in 0..=MOST_ATTEMPTS {
        let (driver, seen) = held();
        world = world.restarted_with(driver).await;
        stop_held(world.start().await, seen).await;
        let now: BackupJob = job(&world, &asked.id).await;
        assert_eq!((now.state, now.interruptions), (BackupJobState::Created, 0), "{now:?}");
    }
    let world = world.restarted().await;
    let running = world.start().await;
    let done: BackupJob = world.end_of(&asked.id).await;
    assert_eq!(done.state, BackupJobState::Completed, "{done:?}");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_stopped_stays_stopped() {
    let (driver, seen) = held();
    let world = World::new(START).await.restarted_with(driver).await;
    let asked = world.backup_job();
    world.engine.catalog().insert_job(&asked).await.unwrap();
    let running = world.start().await;
    let seen = tokio::task::spawn_blocking(move || {
        seen.recv().unwrap();
        seen
    });
    let _seen = seen.await.unwrap();
    world.engine.stop_backup_job(&world.account, &asked.id, "not now").await.unwrap();
    running.stop(WHY).await;
    let ended: BackupJob = job(&world, &asked.id).await;
    assert_eq!(ended.state, BackupJobState::Aborted, "{ended:?}");
    assert_eq!(ended.status_message.as_deref(), Some("not now"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_a_stop_interrupts_goes_on() {
    let world = World::new(START).await;
    let running = world.start().await;
    let point = world.point_of(&world.back_up().await).await;
    running.stop("restart").await;
    let (driver, seen) = held();
    let world = world.restarted_with(driver).await;
    let target = world.directory.path().join("target");
    let asked = world.restore_job(&point, &target);
    world.engine.catalog().insert_job(&asked).await.unwrap();
    stop_held(world.start().await, seen).await;
    let waiting: RestoreJob = job(&world, &asked.id).await;
    assert_eq!(waiting.state, RestoreJobState::Running, "{waiting:?}");
    assert_eq!((waiting.attempts, waiting.started_at), (0, Some(asked.created_at)));

    let world = world.restarted().await;
    let running = world.start().await;
    let done: RestoreJob = world.end_of(&asked.id).await;
    assert_eq!(done.state, RestoreJobState::Completed, "{done:?}");
    crate::support::assert_same(&world.source(), &target);
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_test_that_a_stop_interrupts_is_begun_anew() {
    let world = World::new(START).await;
    let running = world.start().await;
    world.back_up().await;
    running.stop("restart").await;
    let (driver, seen) = held();
    let world = world.restarted_with(driver).await;
    let asked = world.engine.new_restore_test(&world.resource, None);
    world.engine.catalog().insert_job(&asked).await.unwrap();
    stop_held(world.start().await, seen).await;

    let waiting: RestoreTest = job(&world, &asked.id).await;
    assert_eq!(waiting.state, RestoreTestState::Pending, "{waiting:?}");
    assert_eq!((waiting.interruptions, waiting.restore_job_id.as_deref()), (0, None));
    let copies = world.directory.path().join("restore-tests");
    assert_eq!(std::fs::read_dir(&copies).unwrap().count(), 0, "its copy is reaped");
    let restores = world.jobs::<RestoreJob>().await;
    assert_eq!(restores.len(), 1);
    assert_eq!(restores[0].state, RestoreJobState::Aborted, "{restores:?}");
    assert_eq!(restores[0].validation, Some(ValidationStatus::TimedOut));
    assert_eq!(restores[0].deletion, Some(DeletionStatus::Successful));

    let world = world.restarted().await;
    let running = world.start().await;
    let done: RestoreTest = world.end_of(&asked.id).await;
    assert_eq!(done.verdict, Some(Verdict::Passed), "{done:?}");
    assert_eq!(world.jobs::<RestoreJob>().await.len(), 2);
    let evidence = world.engine.catalog().list_evidence(&world.account).await.unwrap();
    assert_eq!(evidence.len(), 1, "one verdict of one test");
    running.stop("test over").await;
}

/// The machine sleeps with a backup at work, or its clock leaps: its lease is over, its worker is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_whose_lease_is_over_and_whose_worker_lives_is_left_to_it() {
    let (driver, seen) = held();
    let world = World::new(START).await.restarted_with(driver).await;
    let asked = world.backup_job();
    world.engine.catalog().insert_job(&asked).await.unwrap();
    let running = world.start().await;
    let seen = is_held(seen).await;
    world.clock.advance(SignedDuration::from_hours(1));
    let abandoned = world.engine.catalog().abandoned_jobs::<BackupJob>(world.clock.now());
    assert_eq!(abandoned.await.unwrap().len(), 1, "its lease is over, or nothing is tried here");
    world.engine.look_for_abandoned_jobs().await;
    let same: BackupJob = job(&world, &asked.id).await;
    assert_eq!((same.state, same.interruptions), (BackupJobState::Running, 0), "{same:?}");
    assert!(seen.try_recv().is_err(), "it is not begun again beside itself");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_outlives_its_completion_window_is_aborted() {
    let (driver, seen) = held();
    let world = World::new(START).await.restarted_with(driver).await;
    world.listen(&["BACKUP_JOB_FAILED"]).await;
    let asked = BackupJob { completion_window_minutes: 180, ..world.backup_job() };
    world.engine.catalog().insert_job(&asked).await.unwrap();
    let running = world.start().await;
    let seen = is_held(seen).await;
    world.clock.advance(SignedDuration::from_mins(179));
    world.engine.look_at_the_time().await.unwrap();
    let still: BackupJob = job(&world, &asked.id).await;
    assert_eq!(still.state, BackupJobState::Running);
    world.clock.advance(SignedDuration::from_mins(2));
    world.engine.look_at_the_time().await.unwrap();
    let ended: BackupJob = world.end_of(&asked.id).await;
    assert_eq!((ended.state, ended.recovery_point_arn), (BackupJobState::Aborted, None));
    let message = ended.status_message.unwrap();
    assert!(message.contains("completion window closed at 2026-03-01T15:00:00Z"), "{message}");
    let locks = std::fs::read_dir(world.repository().join("locks")).unwrap().count();
    assert_eq!(locks, 0, "the lock of the repository is given back");
    let told = world.engine.catalog().list_deliveries(&world.account, None, None).await.unwrap();
    let about = told.iter().filter(|d| d.notification.job_id == asked.id).count();
    assert_eq!(about, 1, "{told:?}");
    drop(seen);
    running.stop("test over").await;
}

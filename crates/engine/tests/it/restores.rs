//! Restores that lost their server, restores in place, and the copies that restores make.

use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use provault_domain::restore_job::MAX_RESTORE_ATTEMPTS;
use provault_domain::*;
use provault_engine::Clock;

use crate::support::World;

/// A world with one recovery point, whose engine is stopped.
async fn backed_up() -> (World, RecoveryPoint) {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    let done = world.back_up().await;
    let point = world.point_of(&done).await;
    running.stop("restart").await;
    (world.restarted().await, point)
}

/// Leaves the job as a worker does that died after it was begun so many times.
async fn died(world: &World, job: &RestoreJob, times: u32) {
    let catalog = world.engine.catalog();
    catalog.insert_job(job).await.unwrap();
    let now = world.clock.now();
    let until = now + SignedDuration::from_mins(1);
    let claimed = catalog.claim_job::<RestoreJob>("dead", now, until).await.unwrap().unwrap();
    for time in 0..times {
        let event = if time == 0 { RestoreJobEvent::Started } else { RestoreJobEvent::Resumed };
        let claim = Some(&claimed.claim);
        catalog
            .step_job::<RestoreJob>(&world.account, &job.id, claim, event, now, vec![])
            .await
            .unwrap();
    }
}

fn names(directory: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_lost_its_server_is_gone_on_with() {
    let (world, point) = backed_up().await;
    let target = world.directory.path().join("out");
    let job = world.restore_job(&point, &target);
    // It had staged a part, and not well.
    let staged = world.directory.path().join(format!(".out.provault-{}", job.id));
    std::fs::create_dir(&staged).unwrap();
    std::fs::write(staged.join("half"), "half").unwrap();
    died(&world, &job, MAX_RESTORE_ATTEMPTS - 1).await;
    let running = world.start().await;
    let ended: RestoreJob = world.end_of(&job.id).await;
    assert_eq!(ended.state, RestoreJobState::Completed, "{ended:?}");
    assert!(ended.status_message.unwrap().contains("Verified:"));
    assert!(!staged.exists());
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_completed_before_its_server_died_is_completed() {
    let (world, point) = backed_up().await;
    let target = world.directory.path().join("out");
    let first = world.restore_job(&point, &target);
    let running = world.start().await;
    world.engine.catalog().insert_job(&first).await.unwrap();
    world.engine.wake();
    let ended: RestoreJob = world.end_of(&first.id).await;
    assert_eq!(ended.state, RestoreJobState::Completed, "{ended:?}");
    running.stop("restart").await;
    let world = world.restarted().await;
    // As if the end had not been recorded: another job with the same target, begun and dead.
    let job = world.restore_job(&point, &target);
    died(&world, &job, 1).await;
    let running = world.start().await;
    let ended: RestoreJob = world.end_of(&job.id).await;
    assert_eq!(ended.state, RestoreJobState::Completed, "{ended:?}");
    running.stop("restart").await;

    // What is there and is not what the recovery point holds is nobody's restore.
    let world = world.restarted().await;
    let other = world.directory.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("precious"), "precious").unwrap();
    let job = world.restore_job(&point, &other);
    died(&world, &job, 1).await;
    let running = world.start().await;
    let ended: RestoreJob = world.end_of(&job.id).await;
    assert_eq!(ended.state, RestoreJobState::Failed, "{ended:?}");
    assert!(ended.status_message.unwrap().contains("exists already"));
    assert_eq!(names(&other), [other.join("precious")]);
    let log = world.engine.catalog().job_log(&world.account, &job.id).await.unwrap();
    let step = log.into_iter().filter_map(|event| event.step).next_back().unwrap();
    assert!(!step.ok && step.detail.contains("exists already"), "{step:?}");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_dies_again_and_again_is_given_up() {
    let (world, point) = backed_up().await;
    let target = world.directory.path().join("out");
    let job = world.restore_job(&point, &target);
    let staged = world.directory.path().join(format!(".out.provault-{}", job.id));
    std::fs::create_dir(&staged).unwrap();
    died(&world, &job, MAX_RESTORE_ATTEMPTS).await;
    let running = world.start().await;
    let ended: RestoreJob = world.end_of(&job.id).await;
    assert_eq!(ended.state, RestoreJobState::Failed, "{ended:?}");
    assert!(ended.status_message.unwrap().contains("5 times"));
    assert!(!staged.exists() && !target.exists());
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_is_exempt_for_a_while_and_a_restore_in_place_makes_none() {
    let (world, point) = backed_up().await;
    let running = world.start().await;
    let target = world.directory.path().join("out");
    let job = world.restore_job(&point, &target);
    let catalog = world.engine.catalog();
    catalog.insert_job(&job).await.unwrap();
    world.engine.wake();
    let ended: RestoreJob = world.end_of(&job.id).await;
    let copy = ended.created_resource_arn.unwrap();
    let exemptions = catalog.list_exemptions(&world.account).await.unwrap();
    let [exemption] = exemptions.as_slice() else { panic!("{exemptions:?}") };
    assert_eq!(exemption.resource_arn, copy);
    assert_eq!(exemption.reason, format!("restored from {}", point.arn));
    assert_eq!(exemption.validate(), Ok(()));
    assert_eq!(exemption.until, world.clock.now() + SignedDuration::from_hours(14 * 24));

    let mut job = world.restore_job(&point, &world.source());
    job.metadata.insert("newFileSystem".into(), "false".into());
    job.metadata.insert("overwrite".into(), "always".into());
    std::fs::remove_dir_all(world.source()).unwrap();
    std::fs::create_dir(world.source()).unwrap();
    std::fs::write(world.source().join("mine"), "mine").unwrap();
    let shown = world.engine.preview_restore(&point, job.metadata.clone()).await.unwrap();
    assert!(shown.in_place && shown.counts.created.entries > 0);
    assert_eq!(names(&world.source()), [world.source().join("mine")], "the preview wrote");
    catalog.insert_job(&job).await.unwrap();
    world.engine.wake();
    let ended: RestoreJob = world.end_of(&job.id).await;
    assert_eq!(ended.state, RestoreJobState::Completed, "{ended:?}");
    assert_eq!(ended.created_resource_arn, None);
    assert!(ended.status_message.unwrap().starts_with("In place: "));
    assert_eq!(std::fs::read_to_string(world.source().join("mine")).unwrap(), "mine");
    assert_eq!(catalog.list_exemptions(&world.account).await.unwrap().len(), 1);
    running.stop("test over").await;
}

/// The job died with its server after it had staged a part.
async fn half_done(world: &World, point: &RecoveryPoint) -> (RestoreJob, PathBuf, PathBuf) {
    let target = world.directory.path().join("out");
    let job = world.restore_job(point, &target);
    let staged = world.directory.path().join(format!(".out.provault-{}", job.id));
    std::fs::create_dir(&staged).unwrap();
    std::fs::write(staged.join("half"), "half").unwrap();
    died(world, &job, 1).await;
    (job, target, staged)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_without_a_worker_can_be_stopped() {
    let (world, point) = backed_up().await;
    let (job, target, staged) = half_done(&world, &point).await;
    // Its lease is over, and nobody has taken it up yet.
    world.clock.advance(SignedDuration::from_mins(2));
    let ended = world.engine.stop_restore_job(&world.account, &job.id, "Asked.").await.unwrap();
    assert_eq!(ended.state, RestoreJobState::Aborted, "{ended:?}");
    assert!(ended.status_message.unwrap().starts_with("Asked. "));
    assert!(!staged.exists() && !target.exists());
    let again = world.engine.stop_restore_job(&world.account, &job.id, "Again.").await;
    assert!(again.unwrap_err().to_string().contains("ABORTED already"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_to_stop_is_not_gone_on_with_after_its_server_died() {
    let (world, point) = backed_up().await;
    let (job, target, staged) = half_done(&world, &point).await;
    // Another server holds the lease, is told, and dies before it obeys.
    let stopping = world.engine.stop_restore_job(&world.account, &job.id, "Asked.").await.unwrap();
    assert_eq!(stopping.state, RestoreJobState::Running, "{stopping:?}");
    assert!(staged.exists());
    let world = world.restarted().await;
    let running = world.start().await;
    let ended: RestoreJob = world.end_of(&job.id).await;
    assert_eq!(ended.state, RestoreJobState::Aborted, "{ended:?}");
    assert!(ended.status_message.unwrap().starts_with("Asked. "));
    assert!(!staged.exists() && !target.exists());
    running.stop("test over").await;
}

/// The wish is in the row before the worker comes to its end, whatever the server was told before.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_counts_while_the_server_stops_too() {
    let (world, point) = backed_up().await;
    let target = world.directory.path().join("out");
    let job = world.restore_job(&point, &target);
    let catalog = world.engine.catalog();
    died(&world, &job, 1).await;
    let stop = RestoreJobEvent::StopRequested { reason: "Asked.".into() };
    let now = world.clock.now();
    catalog.step_job::<RestoreJob>(&world.account, &job.id, None, stop, now, vec![]).await.unwrap();
    // Its worker only hears that the server stops.
    let suspended = RestoreJobEvent::Suspended { reason: "The server was stopped.".into() };
    catalog
        .step_job::<RestoreJob>(&world.account, &job.id, None, suspended, now, vec![])
        .await
        .unwrap();
    let world = world.restarted().await;
    let running = world.start().await;
    let ended: RestoreJob = world.end_of(&job.id).await;
    assert_eq!(ended.state, RestoreJobState::Aborted, "{ended:?}");
    assert!(!target.exists());
    running.stop("test over").await;
}

/// Takes the vault's place away, as a disk does that is not mounted; back with the other name.
fn away(world: &World) -> (PathBuf, PathBuf) {
    let there = world.repository();
    let away = there.with_file_name("away");
    std::fs::rename(&there, &away).unwrap();
    (away, there)
}

/// Waits until a restore says that it waits.
async fn waits(world: &World, id: &str) -> RestoreJob {
    loop {
        let catalog = world.engine.catalog();
        let job = catalog.job::<RestoreJob>(&world.account, id).await.unwrap().unwrap();
        assert_eq!(job.state, RestoreJobState::Running, "{job:?}");
        if job.status_message.as_ref().is_some_and(|told| told.starts_with("It cannot go on yet")) {
            return job;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_taken_up_waits_for_its_vault() {
    let (world, point) = backed_up().await;
    let (job, target, staged) = half_done(&world, &point).await;
    let (gone, there) = away(&world);
    let running = world.start().await;
    waits(&world, &job.id).await;
    // However often it is tried, that is no attempt of the restore.
    for _ in 0..2 * MAX_RESTORE_ATTEMPTS {
        world.clock.advance(SignedDuration::from_mins(11));
        world.engine.wake();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let waiting = waits(&world, &job.id).await;
    assert_eq!(waiting.attempts, 1);
    assert!(staged.exists() && !target.exists(), "what it had written is kept");
    std::fs::rename(gone, there).unwrap();
    world.clock.advance(SignedDuration::from_mins(11));
    world.engine.wake();
    let ended: RestoreJob = world.end_of(&job.id).await;
    assert_eq!(ended.state, RestoreJobState::Completed, "{ended:?}");
    assert!(!staged.exists() && target.exists());
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_waits_for_its_vault_can_be_stopped() {
    let (world, point) = backed_up().await;
    let (job, target, staged) = half_done(&world, &point).await;
    away(&world);
    let running = world.start().await;
    waits(&world, &job.id).await;
    let ended = world.engine.stop_restore_job(&world.account, &job.id, "Asked.").await.unwrap();
    // The worker may just be trying again.
    let ended = if ended.state.is_final() { ended } else { world.end_of(&job.id).await };
    assert_eq!(ended.state, RestoreJobState::Aborted, "{ended:?}");
    assert!(ended.status_message.unwrap().starts_with("Asked. "));
    assert!(!staged.exists() && !target.exists());
    running.stop("test over").await;
}

/// Whoever asked for it is there to hear why it cannot be.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_begins_does_not_wait_for_its_vault() {
    let (world, point) = backed_up().await;
    let job = world.restore_job(&point, &world.directory.path().join("out"));
    world.engine.catalog().insert_job(&job).await.unwrap();
    away(&world);
    let running = world.start().await;
    let ended: RestoreJob = world.end_of(&job.id).await;
    assert_eq!(ended.state, RestoreJobState::Failed, "{ended:?}");
    running.stop("test over").await;
}

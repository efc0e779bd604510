//! Start windows: what cannot begin yet is tried again, and what is too late is not begun.

use std::time::Duration;

use jiff::SignedDuration;
use provault_domain::*;

use crate::schedule::plan;
use crate::support::World;

/// A job of a plan that is due, as it was put off because its vault is away.
async fn put_off(world: &World) -> BackupJob {
    std::fs::rename(world.repository(), world.directory.path().join("away")).unwrap();
    plan(world, &[("daily", "cron(0 5 ? * * *)", 35)]).await;
    world.clock.advance(SignedDuration::from_mins(60));
    world.engine.look_at_the_time().await.unwrap();
    world.engine.wake();
    loop {
        let job = world.jobs::<BackupJob>().await.remove(0);
        assert_eq!(job.state, BackupJobState::Created, "{:?}", job.status_message);
        if job.status_message.is_some() {
            return job;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_backup_waits_for_its_vault() {
    let world = World::new("2026-03-01T04:00:00Z").await;
    let running = world.start().await;
    let job = put_off(&world).await;
    let message = job.status_message.unwrap();
    assert!(message.starts_with("Not started yet: vault lab"), "{message}");
    std::fs::rename(world.directory.path().join("away"), world.repository()).unwrap();
    // Another job of the same resource need not wait for it.
    assert_eq!(world.back_up().await.state, BackupJobState::Completed);
    world.clock.advance(SignedDuration::from_mins(10));
    world.engine.wake();
    let job: BackupJob = world.end_of(&job.id).await;
    assert_eq!((job.state, job.status_message), (BackupJobState::Completed, None));
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_backup_whose_vault_does_not_come_says_so_when_its_window_closes() {
    let world = World::new("2026-03-01T04:00:00Z").await;
    let running = world.start().await;
    let job = put_off(&world).await;
    world.clock.advance(SignedDuration::from_mins(60));
    world.engine.look_at_the_time().await.unwrap();
    let job: BackupJob = world.end_of(&job.id).await;
    assert_eq!(job.state, BackupJobState::Expired);
    assert_eq!(job.started_at, None);
    let message = job.status_message.unwrap();
    assert!(message.contains("start window closed") && message.contains("vault lab"), "{message}");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_backup_waits_for_its_source() {
    let world = World::new("2026-03-01T04:00:00Z").await;
    let running = world.start().await;
    let hidden = world.directory.path().join("hidden");
    std::fs::rename(world.source(), &hidden).unwrap();
    plan(&world, &[("daily", "cron(0 5 ? * * *)", 35)]).await;
    world.clock.advance(SignedDuration::from_mins(60));
    world.engine.look_at_the_time().await.unwrap();
    world.engine.wake();
    let job = loop {
        let job = world.jobs::<BackupJob>().await.remove(0);
        if job.status_message.is_some() {
            break job;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(job.state, BackupJobState::Created, "{:?}", job.status_message);
    std::fs::rename(&hidden, world.source()).unwrap();
    world.clock.advance(SignedDuration::from_mins(10));
    world.engine.wake();
    let job: BackupJob = world.end_of(&job.id).await;
    assert_eq!(job.state, BackupJobState::Completed, "{:?}", job.status_message);
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_backup_hears_at_once_that_it_cannot_begin() {
    let world = World::new("2026-03-01T04:00:00Z").await;
    std::fs::rename(world.repository(), world.directory.path().join("away")).unwrap();
    let running = world.start().await;
    let job = world.back_up().await;
    assert_eq!(job.state, BackupJobState::Failed);
    assert!(job.status_message.unwrap().contains("vault lab"));
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_window_has_closed_is_not_begun() {
    let world = World::new("2026-03-01T04:00:00Z").await;
    let mut job = world.backup_job();
    job.start_by = job.created_at;
    world.engine.catalog().insert_job(&job).await.unwrap();
    let running = world.start().await;
    let job: BackupJob = world.end_of(&job.id).await;
    assert_eq!((job.state, job.started_at), (BackupJobState::Expired, None));
    running.stop("test over").await;
}

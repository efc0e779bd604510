//! Retention and deletion.

use jiff::SignedDuration;
use provault_catalog::{Page, PointFilter};

use provault_domain::BackupJob;
use provault_engine::Clock;

use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_point_goes_when_its_retention_is_over_and_not_before() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    let job = world.back_up().await;
    let point = world.point_of(&job).await;
    running.stop("restart").await;

    world.clock.advance(SignedDuration::from_mins(24 * 60 - 1));
    let world = world.restarted().await;
    let running = world.start().await;
    let kept = world.back_up().await;
    assert_eq!(world.point_of(&job).await.arn, point.arn, "a minute is left");
    running.stop("restart").await;

    world.clock.advance(SignedDuration::from_mins(1));
    let world = world.restarted().await;
    let running = world.start().await;
    let catalog = world.engine.catalog();
    while catalog.recovery_point(&world.account, &point.arn).await.unwrap().is_some() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let left = catalog.list_recovery_points(&PointFilter::default(), Page::all()).await.unwrap();
    assert_eq!(left.items.len(), 1);
    assert_eq!(Some(&left.items[0].arn), kept.recovery_point_arn.as_ref());
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_with_points_in_it_is_not_deleted() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    let job = world.back_up().await;
    let point = world.point_of(&job).await;
    assert!(world.engine.delete_vault(&world.account, "lab").await.is_err());
    world.engine.delete_recovery_point(&world.account, &point.arn).await.unwrap();
    world.engine.delete_vault(&world.account, "lab").await.unwrap();
    let vaults = world.directory.path().join("vaults");
    assert_eq!(std::fs::read_dir(vaults).unwrap().count(), 0, "its repository is gone as well");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_had_to_wait_makes_a_point_that_is_kept_its_full_time() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let mut job = world.backup_job();
    job.created_at -= SignedDuration::from_hours(72);
    job.completion_window_minutes = 7 * 24 * 60;
    assert_eq!(job.lifecycle.delete_days(), Some(1));
    world.engine.catalog().insert_job(&job).await.unwrap();
    let running = world.start().await;
    let job: BackupJob = world.end_of(&job.id).await;
    assert_eq!(world.point_of(&job).await.created_at, world.clock.now());
    running.stop("restart").await;
    let world = world.restarted().await;
    let overdue = world.engine.catalog().overdue_recovery_points(world.clock.now()).await.unwrap();
    assert!(overdue.is_empty(), "a point is not overdue at its birth");
}

//! Retention and deletion.

use jiff::SignedDuration;
use provault_catalog::{Page, PointFilter};

use provault_domain::*;
use provault_engine::Clock;

use crate::support::{World, assert_same};

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
    let catalog = world.engine.catalog();
    let due = catalog.resources_with_due_points(world.clock.now()).await.unwrap();
    assert!(due.is_empty(), "a point is not overdue at its birth");
}

/// Two points a minute apart, and their retention over.
async fn two_overdue(world: &World) -> (RecoveryPoint, RecoveryPoint) {
    let old = world.point_of(&world.back_up().await).await;
    world.clock.advance(SignedDuration::from_mins(1));
    let last = world.point_of(&world.back_up().await).await;
    world.clock.advance(SignedDuration::from_hours(48));
    (old, last)
}

async fn is_gone(world: &World, point: &RecoveryPoint) -> bool {
    let found = world.engine.catalog().recovery_point(&world.account, &point.arn).await.unwrap();
    found.is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_point_outlives_its_retention_and_is_of_use_meanwhile() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    let (old, last) = two_overdue(&world).await;
    world.engine.look_at_the_time().await.unwrap();
    assert!(is_gone(&world, &old).await);
    let kept = world.point_now(&last.arn).await;
    assert_eq!(kept.shown_status(), RecoveryPointStatus::Expired);
    let message = kept.shown_message().unwrap();
    assert!(message.contains("last good") && message.contains("Back the resource up"), "{message}");

    let target = world.directory.path().join("restored");
    let restore = world.restore_job(&kept, &target);
    world.engine.catalog().insert_job(&restore).await.unwrap();
    world.engine.wake();
    let restore: RestoreJob = world.end_of(&restore.id).await;
    assert_eq!(restore.state, RestoreJobState::Completed, "{:?}", restore.status_message);
    assert_same(&world.source(), &target);
    let test = world.engine.new_restore_test(&world.resource, None);
    world.engine.catalog().insert_job(&test).await.unwrap();
    world.engine.wake();
    let test: RestoreTest = world.end_of(&test.id).await;
    assert_eq!(test.recovery_point_arn.as_ref(), Some(&last.arn), "it is the newest");
    assert_eq!(test.verdict, Some(Verdict::Passed), "{:?}", test.reason);

    let new = world.point_of(&world.back_up().await).await;
    world.engine.look_at_the_time().await.unwrap();
    assert!(is_gone(&world, &last).await, "a newer good one exists");
    assert_eq!(world.point_now(&new.arn).await.hold, None);
    // Whoever asks for it by hand gets it deleted.
    world.engine.delete_recovery_point(&world.account, &new.arn).await.unwrap();
    let protected =
        world.engine.catalog().protected_resource(&world.account, &world.resource.arn).await;
    assert_eq!(protected.unwrap(), None);
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_deleted_says_so_and_goes_when_it_can() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    let (old, last) = two_overdue(&world).await;
    running.stop("the disk of the vault is taken away").await;
    let away = world.directory.path().join("away");
    std::fs::rename(world.repository(), &away).unwrap();
    world.engine.look_at_the_time().await.unwrap();
    let stuck = world.point_now(&old.arn).await;
    assert_eq!(stuck.status, RecoveryPointStatus::Deleting);
    assert_eq!(stuck.shown_status(), RecoveryPointStatus::Expired);
    let message = stuck.shown_message().unwrap();
    assert!(message.contains("tried again"), "{message}");
    assert!(world.point_now(&last.arn).await.is_good());

    let world = world.restarted().await;
    let running = world.start().await;
    world.clock.advance(SignedDuration::from_hours(1));
    world.engine.look_at_the_time().await.unwrap();
    let still = world.point_now(&old.arn).await;
    assert_eq!(still.hold.map(|hold| hold.since), stuck.hold.map(|hold| hold.since));
    running.stop("the disk is put back").await;
    let _ = std::fs::remove_dir_all(world.repository());
    std::fs::rename(&away, world.repository()).unwrap();
    let world = world.restarted().await;
    let running = world.start().await;
    while !is_gone(&world, &old).await {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let snapshots = std::fs::read_dir(world.repository().join("snapshots")).unwrap();
    assert_eq!(snapshots.count(), 1, "the snapshot went with its point");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_was_emptied_takes_no_good_point_with_it() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    world.listen(&["RECOVERY_POINT_MODIFIED"]).await;
    let running = world.start().await;
    let good = world.point_of(&world.back_up().await).await;
    std::fs::remove_file(world.source().join("data/b.bin")).unwrap();
    world.clock.advance(SignedDuration::from_mins(1));
    let shrunk = world.back_up().await;
    assert_eq!(shrunk.state, BackupJobState::Completed);
    let shrunk = world.point_of(&shrunk).await;
    assert!(shrunk.is_shrunk() && !good.is_shrunk(), "{shrunk:?}");
    let told = world.engine.catalog().list_deliveries(&world.account, None, None).await.unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].notification.event, NotificationEvent::RecoveryPointShrunk);
    let newest = world.engine.catalog();
    let newest = newest
        .newest_recovery_point(&world.account, &world.resource.arn, world.clock.now())
        .await
        .unwrap();
    assert_eq!(newest.unwrap().arn, shrunk.arn, "it is a recovery point like any other");

    world.clock.advance(SignedDuration::from_hours(48));
    world.engine.look_at_the_time().await.unwrap();
    assert!(is_gone(&world, &shrunk).await);
    assert!(world.point_now(&good.arn).await.is_good());
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_after_a_restart_expires_nothing() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    let old = world.point_of(&world.back_up().await).await;
    world.clock.advance(SignedDuration::from_mins(10));
    world.back_up().await;
    world.engine.look_at_the_time().await.unwrap();
    running.stop("the machine is started with a wrong clock").await;
    world.clock.advance(SignedDuration::from_hours(30 * 24));
    let world = world.restarted().await;
    let look = async || world.engine.look_at_the_time().await.unwrap();
    look().await;
    assert!(!is_gone(&world, &old).await);
    let clock = async || {
        let findings = world.engine.doctor(&world.account).await.unwrap();
        findings.into_iter().find(|finding| finding.check == "clock").unwrap()
    };
    let finding = clock().await;
    assert_eq!(finding.level, provault_engine::Level::Warning);
    assert!(finding.detail.contains("--trust-the-clock"), "{finding:?}");
    world.clock.advance(SignedDuration::from_hours(23));
    look().await;
    assert!(!is_gone(&world, &old).await);
    // Somebody has looked at it.
    world.engine.trust_the_clock().await.unwrap();
    look().await;
    assert!(is_gone(&world, &old).await);
    assert_eq!(clock().await.level, provault_engine::Level::Fine);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_off_for_a_week_expires_after_a_day() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    let (old, _) = two_overdue(&world).await;
    running.stop("switched off").await;
    world.clock.advance(SignedDuration::from_hours(7 * 24));
    let world = world.restarted().await;
    for hours in [0, 23, 1] {
        assert!(!is_gone(&world, &old).await);
        world.clock.advance(SignedDuration::from_hours(hours));
        world.engine.look_at_the_time().await.unwrap();
    }
    assert!(is_gone(&world, &old).await);
}

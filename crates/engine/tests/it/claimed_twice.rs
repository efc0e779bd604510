//! Backup jobs that another worker took while the first went on without knowing it.

use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use provault_domain::*;

use crate::care::files_below;
use crate::interposed::Interposed;
use crate::support::World;

const START: &str = "2026-03-01T12:00:00Z";

fn snapshots(world: &World) -> Vec<PathBuf> {
    // Made with the first of them.
    let directory = world.repository().join("snapshots");
    if directory.exists() { files_below(&directory) } else { Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lost_its_job_writes_no_snapshot() {
    let ((read, seen), (tell, go_on)) = (channel(), channel());
    let go_on = Mutex::new(go_on);
    // Every capture is held up after its last byte: it says so, and goes on when it is told to.
    let slow = Interposed::default().after_read(move |_| {
        let _ = read.send(());
        let _ = go_on.lock().unwrap().recv();
        Ok(())
    });
    let world = World::new(START).await.restarted_with(Arc::new(slow)).await;
    let asked = world.backup_job();
    let catalog = world.engine.catalog();
    catalog.insert_job(&asked).await.unwrap();
    let running = world.start().await;
    tokio::task::spawn_blocking(move || seen.recv().unwrap()).await.unwrap();
    // Another server finds its lease over.
    catalog.release_leases_of_others("another").await.unwrap();
    tell.send(()).unwrap();
    // The worker holds a lock of the repository until it is done with it.
    let locks = world.repository().join("locks");
    while std::fs::read_dir(&locks).unwrap().count() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(snapshots(&world), Vec::<PathBuf>::new());
    assert!(!files_below(&world.repository().join("index")).is_empty(), "what it read is kept");
    let left = catalog.job::<BackupJob>(&world.account, &asked.id).await.unwrap().unwrap();
    assert_eq!(left.state, BackupJobState::Running, "it is not its own to end: {left:?}");
    drop(tell);
    running.stop("restart").await;

    let world = world.restarted().await;
    let running = world.start().await;
    let done: BackupJob = world.end_of(&asked.id).await;
    assert_eq!(done.state, BackupJobState::Completed, "{done:?}");
    assert_eq!(snapshots(&world).len(), 1);
    world.assert_restores(&world.point_of(&done).await, "out").await;
    running.stop("test over").await;
}

/// A job that made two snapshots, of which its recovery point names the second. The engine is stopped.
async fn made_twice() -> (World, BackupJob) {
    let world = World::new(START).await;
    let job = world.backup_job();
    let catalog = world.engine.catalog();
    catalog.insert_job(&job).await.unwrap();
    let before = world.directory.path().join("before.db");
    catalog.copy_to(&before).await.unwrap();
    let running = world.start().await;
    world.end_of::<BackupJob>(&job.id).await;
    running.stop("restart").await;
    // As if it had been another worker's, which was not yet done.
    world.bring_back_catalog(&before).await;
    std::fs::write(world.source().join("data/new.txt"), "new").unwrap();
    let world = world.restarted().await;
    let running = world.start().await;
    let done: BackupJob = world.end_of(&job.id).await;
    assert_eq!(done.state, BackupJobState::Completed, "{done:?}");
    running.stop("restart").await;
    assert_eq!(snapshots(&world).len(), 2);
    (world.restarted().await, done)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_snapshot_of_a_job_is_forgotten_when_the_server_starts() {
    let (world, done) = made_twice().await;
    let running = world.start().await;
    assert_eq!(snapshots(&world).len(), 1);
    world.assert_restores(&world.point_of(&done).await, "out").await;
    running.stop("test over").await;
}

/// The one that counts is gone: the other is all there is, and nobody's to remove.
#[tokio::test(flavor = "multi_thread")]
async fn the_only_snapshot_of_a_job_is_kept_whatever_the_catalog_names() {
    let (world, done) = made_twice().await;
    let point = world.point_of(&done).await;
    let Payload::Stored { snapshot_id, .. } = &point.payload;
    let named = snapshots(&world).into_iter().find(|path| path.ends_with(snapshot_id)).unwrap();
    std::fs::remove_file(named).unwrap();
    let running = world.start().await;
    assert_eq!(snapshots(&world).len(), 1);
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_point_is_deleted_with_every_snapshot_of_its_job() {
    let (world, done) = made_twice().await;
    // Not started as a server is, which would look for what is too much itself.
    let arn = done.recovery_point_arn.unwrap();
    world.engine.delete_recovery_point(&world.account, &arn).await.unwrap();
    assert_eq!(snapshots(&world), Vec::<PathBuf>::new());
}

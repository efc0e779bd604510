//! What reconcilers make of a state that a crash left. Real crashes are tried end to end.

use jiff::SignedDuration;
use provault_domain::*;
use provault_engine::Clock;

use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_a_worker_fails_truthfully() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let job = world.backup_job();
    let catalog = world.engine.catalog();
    catalog.insert_job(&job).await.unwrap();
    let now = world.clock.now();
    let until = now + SignedDuration::from_mins(1);
    let claimed = catalog.claim_job::<BackupJob>("dead", now, until).await.unwrap().unwrap();
    let started = BackupJobEvent::Started;
    catalog
        .step_job::<BackupJob>(&world.account, &job.id, Some(&claimed.claim), started, now, vec![])
        .await
        .unwrap();
    let running = world.start().await;
    let job: BackupJob = world.end_of(&job.id).await;
    assert_eq!(job.state, BackupJobState::Failed);
    assert!(job.status_message.unwrap().contains("The server stopped"));
    assert!(job.recovery_point_arn.is_none());
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_empty_repository_that_no_vault_names_is_removed() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let vaults = world.directory.path().join("vaults");
    let (empty, full) = (vaults.join("orphan-1"), vaults.join("orphan-2"));
    std::fs::create_dir_all(empty.join("snapshots")).unwrap();
    std::fs::create_dir_all(full.join("snapshots")).unwrap();
    std::fs::write(full.join("snapshots/aa"), "somebody's").unwrap();
    let running = world.start().await;
    assert!(!empty.exists());
    assert!(full.join("snapshots/aa").exists());
    assert!(vaults.join(world.vault.location.strip_prefix("vaults/").unwrap()).exists());
    running.stop("test over").await;
}

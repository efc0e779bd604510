//! Backup and restore jobs from request to end.

use provault_domain::*;
use provault_engine::Engine;

use crate::support::{World, assert_same};

const START: &str = "2026-03-01T12:00:00Z";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_backed_up_is_what_is_restored() {
    let world = World::new(START).await;
    let running = world.start().await;
    let job = world.back_up().await;
    assert_eq!(job.state, BackupJobState::Completed, "{:?}", job.status_message);
    assert_eq!(job.backup_size_bytes, Some(6 + (3 << 20)));
    let point = world.point_of(&job).await;
    assert_eq!(point.status, RecoveryPointStatus::Completed);
    assert_eq!(point.captured_at, START.parse().unwrap());

    let target = world.directory.path().join("restored");
    let restore = world.restore_job(&point, &target);
    world.engine.catalog().insert_job(&restore).await.unwrap();
    world.engine.wake();
    let restore: RestoreJob = world.end_of(&restore.id).await;
    assert_eq!(restore.state, RestoreJobState::Completed, "{:?}", restore.status_message);
    assert_same(&world.source(), &target);

    // What was made can be protected in its turn.
    let made = restore.created_resource_arn.unwrap();
    let made = world.engine.catalog().resource(&made).await.unwrap().unwrap();
    assert_eq!(made.tags["provault:restored-from"], point.arn.as_str());
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_backup_reads_only_what_changed() {
    let world = World::new(START).await;
    let running = world.start().await;
    // What changed less than two seconds before a backup is read again by the next.
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    world.back_up().await;
    std::fs::write(world.source().join("data/a.txt"), "changed\n").unwrap();
    let second = world.back_up().await;
    assert_eq!(second.state, BackupJobState::Completed);
    assert_eq!(second.bytes_transferred, 8, "only the changed file is read");
    assert_eq!(second.backup_size_bytes, Some(8 + (3 << 20)));
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_or_missing_source_fails_and_says_so() {
    let world = World::new(START).await;
    let running = world.start().await;
    std::fs::remove_dir_all(world.source()).unwrap();
    let missing = world.back_up().await;
    assert_eq!(missing.state, BackupJobState::Failed);
    assert!(missing.status_message.unwrap().contains("is not there"));
    std::fs::create_dir(world.source()).unwrap();
    let empty = world.back_up().await;
    assert_eq!(empty.state, BackupJobState::Failed);
    assert!(empty.status_message.unwrap().contains("--allow-empty"));
    assert!(empty.recovery_point_arn.is_none());
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_never_writes_over_anything() {
    let world = World::new(START).await;
    let running = world.start().await;
    let job = world.back_up().await;
    let point = world.point_of(&job).await;
    let target = world.directory.path().join("taken");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("mine"), "keep me").unwrap();
    let restore = world.restore_job(&point, &target);
    world.engine.catalog().insert_job(&restore).await.unwrap();
    world.engine.wake();
    let restore: RestoreJob = world.end_of(&restore.id).await;
    assert_eq!(restore.state, RestoreJobState::Failed);
    assert!(restore.status_message.unwrap().contains("exists already"));
    assert_eq!(std::fs::read_to_string(target.join("mine")).unwrap(), "keep me");
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 1);
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_waits_is_aborted_at_once() {
    let world = World::new(START).await;
    let job = world.backup_job();
    world.engine.catalog().insert_job(&job).await.unwrap();
    let stopped = world.engine.stop_backup_job(&world.account, &job.id, "not today").await.unwrap();
    assert_eq!(stopped.state, BackupJobState::Aborted);
    let running = world.start().await;
    let again = world.back_up().await;
    assert_eq!(again.state, BackupJobState::Completed, "and it is not run later");
    let first: BackupJob = world.end_of(&job.id).await;
    assert_eq!(first.state, BackupJobState::Aborted);
    assert_eq!(first.status_message.as_deref(), Some("not today"));
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_vaults_made_at_once_under_one_name_one_is_made_and_it_works() {
    let mut world = World::new(START).await;
    let running = world.start().await;
    let twin = BackupVault {
        name: "twin".into(),
        arn: Arn::backup_vault(&world.region, &world.account, "twin"),
        location: String::new(),
        ..world.vault.clone()
    };
    let made = all_at_once(&world.engine, &twin, 6).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
    let twin = world.engine.catalog().vault(&world.account, "twin").await.unwrap().unwrap();
    let others: Vec<_> = std::fs::read_dir(world.directory.path().join("vaults"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("twin") && !twin.location.ends_with(name.as_str()))
        .collect();
    assert!(others.is_empty(), "the losers' repositories are gone: {others:?}");
    world.vault = twin;
    let job = world.back_up().await;
    let point = world.point_of(&job).await;
    let target = world.directory.path().join("restored");
    let restore = world.restore_job(&point, &target);
    world.engine.catalog().insert_job(&restore).await.unwrap();
    world.engine.wake();
    let restore: RestoreJob = world.end_of(&restore.id).await;
    assert_eq!(restore.state, RestoreJobState::Completed, "{:?}", restore.status_message);
    running.stop("test over").await;
}

async fn all_at_once(
    engine: &Engine,
    vault: &BackupVault,
    times: usize,
) -> Vec<provault_engine::Result<BackupVault>> {
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..times {
        let (engine, vault) = (engine.clone(), vault.clone());
        asked.spawn(async move { engine.create_vault(vault, &Tags::new()).await });
    }
    asked.join_all().await
}

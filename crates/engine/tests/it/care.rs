//! Care of vaults: checks, missing snapshots, schedules, and runs that lose their worker.

use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use provault_domain::care::{CareOptions, CareTrigger, VaultAlarm};
use provault_domain::recovery_point::PointTrouble;
use provault_domain::*;
use provault_engine::Clock;

use crate::support::World;

pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

pub fn write_over(path: &Path, content: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(path, content).unwrap();
}

impl World {
    pub fn repository(&self) -> PathBuf {
        self.directory.path().join(&self.vault.location)
    }

    /// Flips a bit in the middle of the largest pack; gives the pack and what it held.
    pub fn damage_a_pack(&self) -> (PathBuf, Vec<u8>) {
        let packs = files_below(&self.repository().join("data"));
        let pack = packs.into_iter().max_by_key(|p| p.metadata().unwrap().len()).unwrap();
        let whole = std::fs::read(&pack).unwrap();
        let mut hurt = whole.clone();
        let middle = hurt.len() / 2;
        hurt[middle] ^= 1;
        write_over(&pack, &hurt);
        (pack, whole)
    }

    pub async fn care(&self, operation: CareOperation, options: CareOptions) -> CareRun {
        let vault = self.vault_now().await;
        let run = self.engine.start_care(&vault, operation, options).await.unwrap();
        self.end_of::<CareRun>(&run.id).await
    }

    pub async fn vault_now(&self) -> BackupVault {
        self.engine.catalog().vault(&self.account, &self.vault.name).await.unwrap().unwrap()
    }

    pub async fn alarms(&self) -> Vec<VaultAlarm> {
        let care = self.engine.catalog().vault_care(&self.vault.arn).await.unwrap();
        care.alarms.into_keys().collect()
    }

    pub async fn point_now(&self, arn: &Arn) -> RecoveryPoint {
        self.engine.catalog().recovery_point(&self.account, arn).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_names_the_points_and_files_that_are_hurt_until_they_are_not() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    // Incompressible, so that the largest pack is its.
    let noise: Vec<u8> = (0..2_000_000_u64)
        .flat_map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes())
        .collect();
    std::fs::write(world.source().join("data/noise.bin"), noise).unwrap();
    let point = world.point_of(&world.back_up().await).await;
    let clean = world.care(CareOperation::Check, CareOptions::default()).await;
    assert_eq!(clean.state, CareState::Completed, "{clean:?}");
    assert!(clean.report.as_ref().unwrap().clean, "{clean:?}");

    let (pack, whole) = world.damage_a_pack();
    let thorough = CareOptions { read_data: true, ..CareOptions::default() };
    let run = world.care(CareOperation::Check, thorough).await;
    let report = run.report.clone().unwrap();
    assert_eq!(run.state, CareState::Completed);
    assert!(!report.clean && report.problems_total > 0, "{report:?}");
    assert_eq!(report.hurt.len(), 1);
    assert_eq!(report.hurt[0].recovery_point_arn.as_ref(), Some(&point.arn));
    assert!(report.hurt[0].files[0].ends_with("data/noise.bin"), "{report:?}");
    let hurt = world.point_now(&point.arn).await.condition.unwrap();
    assert_eq!(hurt.trouble, PointTrouble::Damaged);
    assert!(hurt.message.contains("noise.bin"), "{hurt:?}");
    assert_eq!(world.alarms().await, [VaultAlarm::Damaged]);

    // What was found stays found: a look at the structure alone does not call it clean.
    let run = world.care(CareOperation::Check, CareOptions::default()).await;
    assert!(!run.report.unwrap().clean);
    assert_eq!(world.point_now(&point.arn).await.condition, Some(hurt));

    let target = world.directory.path().join("out");
    let job = world.restore_job(&point, &target);
    world.engine.catalog().insert_job(&job).await.unwrap();
    world.engine.wake();
    let job: RestoreJob = world.end_of(&job.id).await;
    assert_eq!(job.state, RestoreJobState::Failed);

    write_over(&pack, &whole);
    let run = world.care(CareOperation::Check, CareOptions::default()).await;
    assert!(run.report.as_ref().unwrap().clean, "{run:?}");
    assert_eq!(world.point_now(&point.arn).await.condition, None);
    assert!(world.alarms().await.is_empty());
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_was_taken_away_is_told_and_never_forgotten() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    let point = world.point_of(&world.back_up().await).await;
    let kept = world.point_of(&world.back_up().await).await;
    let Payload::Stored { snapshot_id, .. } = &point.payload;
    let file = world.repository().join("snapshots").join(snapshot_id);
    let content = std::fs::read(&file).unwrap();
    world.engine.look_after_vaults().await;
    assert!(world.alarms().await.is_empty());

    std::fs::remove_file(&file).unwrap();
    world.clock.advance(SignedDuration::from_mins(16));
    world.engine.look_after_vaults().await;
    let condition = world.point_now(&point.arn).await.condition.unwrap();
    assert_eq!(condition.trouble, PointTrouble::Missing);
    assert_eq!(world.point_now(&kept.arn).await.condition, None);
    assert_eq!(world.alarms().await, [VaultAlarm::PointsMissing]);
    let run = world.care(CareOperation::Check, CareOptions::default()).await;
    let report = run.report.unwrap();
    assert!(!report.clean && report.hurt.len() == 1 && report.hurt[0].gone, "{report:?}");

    std::fs::write(&file, content).unwrap();
    world.clock.advance(SignedDuration::from_mins(16));
    world.engine.look_after_vaults().await;
    assert_eq!(world.point_now(&point.arn).await.condition, None);
    assert!(world.alarms().await.is_empty());

    // A disk that is not mounted is no vault that lost everything.
    let away = world.directory.path().join("away");
    std::fs::rename(world.repository(), &away).unwrap();
    world.clock.advance(SignedDuration::from_mins(16));
    world.engine.look_after_vaults().await;
    assert_eq!(world.alarms().await, [VaultAlarm::Unreachable]);
    assert_eq!(world.point_now(&kept.arn).await.condition, None);
    let _ = std::fs::remove_dir_all(world.repository());
    std::fs::rename(&away, world.repository()).unwrap();
    world.engine.look_after_vaults().await;
    assert!(world.alarms().await.is_empty());
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_scheduled_once_and_a_run_without_worker_ends() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    world.engine.look_after_vaults().await;
    let count = async |operation: CareOperation| {
        let runs = world.jobs::<CareRun>().await;
        assert!(runs.iter().all(|run| run.trigger == CareTrigger::Schedule));
        runs.iter().filter(|run| run.operation == operation).count()
    };
    assert_eq!(count(CareOperation::Check).await, 0);
    world.clock.advance(SignedDuration::from_hours(7 * 24));
    world.engine.look_after_vaults().await;
    world.engine.look_after_vaults().await;
    assert_eq!(count(CareOperation::Check).await, 1);
    assert_eq!(count(CareOperation::CatalogBackup).await, 1);
    world.clock.advance(SignedDuration::from_hours(3 * 7 * 24));
    world.engine.look_after_vaults().await;
    assert_eq!(count(CareOperation::Check).await, 2, "what was missed is done once");
    // A clock that was ahead when the mark was made does not stop it for ever.
    world.clock.advance(SignedDuration::from_hours(-20 * 24));
    world.engine.look_after_vaults().await;
    assert_eq!(count(CareOperation::Check).await, 3);

    let catalog = world.engine.catalog();
    let now = world.clock.now();
    let until = now + SignedDuration::from_mins(1);
    // A prune would fail: nothing was backed up to this vault.
    let check = |run: &CareRun| run.operation == CareOperation::Check;
    let id = world.jobs::<CareRun>().await.into_iter().find(check).unwrap().id;
    let claimed = catalog.claim_job_by_id::<CareRun>(&id, "dead", now, until).await;
    let claim = claimed.unwrap().unwrap().claim;
    catalog
        .step_job::<CareRun>(&world.account, &id, Some(&claim), CareEvent::Started, now, vec![])
        .await
        .unwrap();
    let waiting = world.jobs::<CareRun>().await.into_iter().find(|run| run.id != id).unwrap();
    let stopped = world.engine.stop_care(&world.account, &waiting.id, "enough").await.unwrap();
    assert_eq!(stopped.state, CareState::Aborted);
    let running = world.start().await;
    let run: CareRun = world.end_of(&id).await;
    assert_eq!(run.state, CareState::Completed, "{run:?}");
    assert_eq!((run.interruptions, run.started_at), (1, Some(now)));
    running.stop("test over").await;
}

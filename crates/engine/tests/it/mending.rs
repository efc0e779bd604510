//! Prunes and repairs of a vault: what no recovery point needs goes, what is hurt comes back.

use std::path::Path;

use jiff::SignedDuration;
use provault_catalog::{Page, PointFilter};
use provault_domain::care::{CareOptions, CareTrigger};
use provault_domain::*;

use crate::care::files_below;
use crate::support::{World, assert_same};

/// Incompressible bytes that differ for each `n`.
fn noise(n: u64, length: usize) -> Vec<u8> {
    let mut state = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

fn size(directory: &Path) -> u64 {
    files_below(directory).iter().map(|path| path.metadata().unwrap().len()).sum()
}

impl World {
    fn data_size(&self) -> u64 {
        size(&self.repository().join("data"))
    }

    /// Restores a point and compares it with the source.
    pub async fn assert_restores(&self, point: &RecoveryPoint, name: &str) {
        let target = self.directory.path().join(name);
        let job = self.restore_job(point, &target);
        self.engine.catalog().insert_job(&job).await.unwrap();
        self.engine.wake();
        let job: RestoreJob = self.end_of(&job.id).await;
        assert_eq!(job.state, RestoreJobState::Completed, "{job:?}");
        assert_same(&self.source(), &target);
    }

    async fn assert_whole(&self) {
        let thorough = CareOptions { read_data: true, ..CareOptions::default() };
        let run = self.care(CareOperation::Check, thorough).await;
        assert!(run.report.as_ref().is_some_and(|report| report.clean), "{run:?}");
        assert!(self.alarms().await.is_empty());
    }
}

const NOISE: usize = 4_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_point_frees_its_space_with_the_next_prune() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    let big = world.source().join("data/noise.bin");
    std::fs::write(&big, noise(1, NOISE)).unwrap();
    let first = world.point_of(&world.back_up().await).await;
    std::fs::remove_file(&big).unwrap();
    let kept = world.point_of(&world.back_up().await).await;

    // While a point needs it, nothing goes.
    let full = world.data_size();
    assert!(full > NOISE as u64);
    let run = world.care(CareOperation::Prune, CareOptions::default()).await;
    assert_eq!(run.state, CareState::Completed, "{run:?}");
    assert!(world.data_size() > NOISE as u64, "{run:?}");

    world.engine.delete_recovery_point(&world.account, &first.arn).await.unwrap();
    let before = files_below(&world.repository().join("data"));
    let dry = CareOptions { dry_run: true, ..CareOptions::default() };
    let run = world.care(CareOperation::Prune, dry).await;
    let report = run.report.clone().unwrap();
    assert!(report.clean && report.figures["freedBytes"] >= NOISE as u64, "{report:?}");
    assert!(report.summary.contains("MiB would be freed"), "{report:?}");
    assert_eq!(files_below(&world.repository().join("data")), before, "only told");

    let run = world.care(CareOperation::Prune, CareOptions::default()).await;
    let report = run.report.clone().unwrap();
    assert!(world.data_size() + NOISE as u64 <= full, "{report:?}");
    assert!(report.figures["deletedBytes"] >= NOISE as u64, "{report:?}");
    assert!(report.summary.contains("MiB freed"), "{report:?}");
    let known = world.engine.catalog().verified_packs(&world.vault.arn).await.unwrap();
    let there = files_below(&world.repository().join("data"));
    assert_eq!(known.len(), there.len(), "what went is not verified any more");
    let run = world.care(CareOperation::Prune, CareOptions::default()).await;
    assert_eq!(run.report.unwrap().figures["deletedPacks"], 0, "nothing is left to go");
    world.assert_whole().await;
    world.assert_restores(&kept, "out").await;
    running.stop("test over").await;
}

/// Nobody does anything: retention ends, the week ends, and the space is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_expired_is_freed_within_a_week_without_being_asked() {
    // The second point is much smaller, and is to count as good all the same.
    let no_alarm = |resource: &mut Resource| resource.retention.shrink_alarm_percent = None;
    let world = World::with("2026-03-01T12:00:00Z", no_alarm).await;
    let running = world.start().await;
    std::fs::write(world.source().join("data/noise.bin"), noise(2, NOISE)).unwrap();
    world.point_of(&world.back_up().await).await;
    std::fs::remove_file(world.source().join("data/noise.bin")).unwrap();
    // A moment later: of two points of one moment neither is newer.
    world.clock.advance(SignedDuration::from_secs(1));
    world.point_of(&world.back_up().await).await;
    running.stop("restart").await;
    assert!(world.data_size() > NOISE as u64);

    world.clock.advance(SignedDuration::from_hours(7 * 24));
    let world = world.restarted().await;
    // A week that no server saw pass: nothing would expire for a day.
    world.engine.trust_the_clock().await.unwrap();
    let running = world.start().await;
    let points = async || {
        let all = PointFilter::default();
        world.engine.catalog().list_recovery_points(&all, Page::all()).await.unwrap().items.len()
    };
    // The newer one is the last good one, and stays.
    while points().await > 1 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // The first prune may have begun before the point went, and the next may wait for a job.
    for _ in 0..3 {
        world.engine.look_after_vaults().await;
        for run in world.jobs::<CareRun>().await {
            let run: CareRun = world.end_of(&run.id).await;
            assert_eq!(run.trigger, CareTrigger::Schedule);
            assert_eq!(run.state, CareState::Completed, "{run:?}");
        }
        world.clock.advance(SignedDuration::from_hours(7 * 24));
    }
    let runs = world.jobs::<CareRun>().await;
    assert!(runs.iter().any(|run| run.operation == CareOperation::Prune));
    assert!(world.data_size() < NOISE as u64 / 4, "{runs:?}");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_mended_from_a_second_vault() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    let second = BackupVault {
        name: "second".into(),
        arn: Arn::backup_vault(&world.region, &world.account, "second"),
        location: String::new(),
        sealed_password: String::new(),
        ..world.vault.clone()
    };
    let second = world.engine.create_vault(second, &Tags::new()).await.unwrap();
    // Of one chunk, which is the same in every repository.
    std::fs::write(world.source().join("data/noise.bin"), noise(3, 400_000)).unwrap();
    let point = world.point_of(&world.back_up().await).await;
    let mut copy = world.backup_job();
    copy.vault_name.clone_from(&second.name);
    copy.vault_arn.clone_from(&second.arn);
    world.engine.catalog().insert_job(&copy).await.unwrap();
    world.engine.wake();
    let copy: BackupJob = world.end_of(&copy.id).await;
    assert_eq!(copy.state, BackupJobState::Completed, "{copy:?}");

    world.damage_a_pack();
    let thorough = CareOptions { read_data: true, ..CareOptions::default() };
    let run = world.care(CareOperation::Check, thorough).await;
    assert!(!run.report.unwrap().clean);
    assert!(world.point_now(&point.arn).await.condition.is_some());
    // What the check found is enough to know: the repair need not read everything again.
    let from = CareOptions { from_vault: Some(second.name.clone()), ..CareOptions::default() };
    let run = world.care(CareOperation::Repair, from).await;
    let report = run.report.clone().unwrap();
    assert!(report.clean, "{report:?}");
    assert_eq!((report.figures["damagedPacks"], report.figures["lostBlobs"]), (1, 0));
    assert!(report.figures["fetchedBlobs"] > 0, "{report:?}");
    assert_eq!(world.point_now(&point.arn).await.condition, None);
    world.assert_whole().await;
    world.assert_restores(&point, "out").await;
    // The damaged pack is out of the index, and goes with the prune.
    let with = files_below(&world.repository().join("data")).len();
    let run = world.care(CareOperation::Prune, CareOptions::default()).await;
    assert!(run.report.as_ref().is_some_and(|report| report.clean), "{run:?}");
    assert!(files_below(&world.repository().join("data")).len() < with);
    world.assert_restores(&point, "again").await;
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_else_has_comes_back_with_the_next_backup() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    std::fs::write(world.source().join("data/noise.bin"), noise(4, 400_000)).unwrap();
    let point = world.point_of(&world.back_up().await).await;
    world.damage_a_pack();
    // Without a check before, a look at every byte finds it.
    let thorough = CareOptions { read_data: true, ..CareOptions::default() };
    let run = world.care(CareOperation::Repair, thorough).await;
    let report = run.report.clone().unwrap();
    assert_eq!(run.state, CareState::Completed, "{run:?}");
    assert!(!report.clean && report.figures["lostBlobs"] > 0, "{report:?}");
    assert!(report.summary.contains("back up the same resources"), "{report:?}");
    assert_eq!(report.hurt[0].recovery_point_arn.as_ref(), Some(&point.arn), "{report:?}");
    assert!(world.point_now(&point.arn).await.condition.is_some());
    // Pruning now could take away what can still be saved.
    let run = world.care(CareOperation::Prune, CareOptions::default()).await;
    assert_eq!(run.state, CareState::Failed, "{run:?}");
    assert!(run.status_message.unwrap().contains("nothing was deleted"));

    let again = world.back_up().await;
    assert_eq!(again.state, BackupJobState::Completed, "{again:?}");
    world.assert_whole().await;
    assert_eq!(world.point_now(&point.arn).await.condition, None);
    world.assert_restores(&point, "out").await;
    running.stop("test over").await;
}

/// A repair of a whole vault changes nothing; a missing vault to take from is told by name.
#[tokio::test(flavor = "multi_thread")]
async fn a_prune_and_a_repair_exclude_each_other_and_change_nothing_that_is_well() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let vault = world.vault_now().await;
    let plain = CareOptions::default;
    let start = async |operation| world.engine.start_care(&vault, operation, plain()).await;
    let run = start(CareOperation::Prune).await.unwrap();
    let refused = start(CareOperation::Repair).await.unwrap_err().to_string();
    assert!(refused.contains("PRUNE") && refused.contains(&run.id), "{refused}");
    start(CareOperation::Check).await.unwrap();
    let stopped = world.engine.stop_care(&world.account, &run.id, "enough").await.unwrap();
    assert_eq!(stopped.state, CareState::Aborted);
    let repair = start(CareOperation::Repair).await.unwrap();
    assert!(start(CareOperation::Prune).await.is_err());
    // Nor is one scheduled, until the repair has ended.
    world.clock.advance(SignedDuration::from_hours(8 * 24));
    world.engine.look_after_vaults().await;
    let scheduled = async || {
        let runs = world.jobs::<CareRun>().await;
        let prune = |run: &&CareRun| run.operation == CareOperation::Prune && run.id != stopped.id;
        runs.iter().filter(prune).count()
    };
    assert_eq!(scheduled().await, 0);

    let running = world.start().await;
    let run: CareRun = world.end_of(&repair.id).await;
    let report = run.report.clone().unwrap();
    assert!(report.clean && report.summary.starts_with("There was nothing"), "{report:?}");
    world.engine.look_after_vaults().await;
    assert_eq!(scheduled().await, 1);
    for run in world.jobs::<CareRun>().await {
        let _: CareRun = world.end_of(&run.id).await;
    }
    let from = CareOptions { from_vault: Some("gone".to_owned()), ..plain() };
    let run = world.care(CareOperation::Repair, from).await;
    assert_eq!(run.state, CareState::Failed, "{run:?}");
    assert!(run.status_message.unwrap().contains("the vault gone"));
    running.stop("test over").await;
}

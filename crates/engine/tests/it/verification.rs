//! Rotating verification, with months in seconds.

use jiff::SignedDuration;
use provault_domain::care::{CareOptions, CareSettings, CareTrigger, VaultAlarm};
use provault_domain::verification::Coverage;
use provault_domain::*;

use crate::care::{files_below, write_over};
use crate::support::World;

const STEP: SignedDuration = SignedDuration::from_hours(4);

impl World {
    /// Makes a file of noise and backs it up: a few packs more.
    async fn grow(&self, n: u64) -> BackupJob {
        let noise: Vec<u8> = (n * 100_000..n * 100_000 + 20_000)
            .flat_map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes())
            .collect();
        std::fs::write(self.source().join(format!("noise-{n}")), noise).unwrap();
        let job = self.back_up().await;
        assert_eq!(job.state, BackupJobState::Completed, "{job:?}");
        job
    }

    async fn set_care(&self, change: impl FnOnce(&mut CareSettings)) {
        let mut vault = self.vault_now().await;
        change(&mut vault.care);
        self.engine.catalog().update_vault(&vault).await.unwrap();
    }

    async fn coverage(&self) -> Coverage {
        self.engine.care_of(&self.vault_now().await).await.unwrap().coverage
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pack_is_read_in_time_for_months_while_packs_come_and_go() {
    let mut world = World::new("2026-03-01T12:00:00Z").await;
    let nothing_else = |care: &mut CareSettings| {
        (care.prune_every_days, care.check_every_days) = (None, None);
        care.catalog_backup_every_days = None;
    };
    world.set_care(nothing_else).await;
    let mut running = world.start().await;
    for n in 0..4 {
        world.grow(n).await;
    }
    let mut dropped = Vec::new();
    for step in 0..(90 * 6) {
        world.clock.advance(STEP);
        world.engine.look_after_vaults().await;
        let told = world.coverage().await;
        // Told is what the rows say, and they say no more than the files allow.
        let packs = world.engine.catalog().verified_packs(&world.vault.arn).await.unwrap();
        assert_eq!(told.packs, packs.len() as u64);
        assert_eq!(
            usize::try_from(told.packs).unwrap(),
            files_below(&world.repository().join("data")).len() - dropped.len()
        );
        assert_eq!(told.overdue_packs, 0, "after {step} steps: {told:?}");
        if (30 * 6..40 * 6).contains(&step) {
            assert_eq!(told.verified_packs, told.packs, "after {step} steps: {told:?}");
        }
        match step {
            // New packs are seen and verified in their turn.
            240 => drop(world.grow(10).await),
            // A server that comes back goes on where it was, whatever it was at.
            300 => {
                running.stop("a crash, as far as verification can see").await;
                let before = world.coverage().await;
                world = world.restarted().await;
                assert_eq!(world.coverage().await, before);
                running = world.start().await;
            }
            // Packs that leave the index are no longer asked for.
            360 => {
                let index = files_below(&world.repository().join("index"));
                let oldest =
                    index.into_iter().min_by_key(|p| p.metadata().unwrap().modified().unwrap());
                std::fs::remove_file(oldest.unwrap()).unwrap();
                world.clock.advance(SignedDuration::from_mins(16));
                world.engine.look_after_vaults().await;
                let left = world.engine.catalog().verified_packs(&world.vault.arn).await.unwrap();
                let all = files_below(&world.repository().join("data"));
                dropped =
                    all.into_iter().filter(|p| !left.iter().any(|l| p.ends_with(&l.id))).collect();
                assert!(!dropped.is_empty());
            }
            _ => {}
        }
    }
    assert!(world.alarms().await.is_empty());
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_that_cannot_keep_the_promise_raises_an_alarm() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    // Too much for a byte a second in a day.
    world.grow(0).await;
    world
        .set_care(|care| {
            care.verify_max_bytes_per_second = 1;
            care.verify_within_days = Some(1);
        })
        .await;
    world.engine.look_after_vaults().await;
    assert_eq!(world.alarms().await, [VaultAlarm::VerificationBehind]);
    world.set_care(|care| care.verify_max_bytes_per_second = 1_000_000).await;
    world.clock.advance(SignedDuration::from_mins(16));
    world.engine.look_after_vaults().await;
    assert!(world.alarms().await.is_empty());
    // A server that slept for a week has broken the promise, and says so until it has caught up.
    world.clock.advance(SignedDuration::from_hours(7 * 24));
    world.engine.look_after_vaults().await;
    assert_eq!(world.coverage().await.overdue_packs, 0, "it caught up in one round");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_verification_finds_is_told_and_checked() {
    let world = World::new("2026-03-01T12:00:00Z").await;
    let running = world.start().await;
    let job = world.grow(0).await;
    let (pack, whole) = world.damage_a_pack();
    let mut runs = Vec::new();
    for _ in 0..(28 * 6) {
        world.clock.advance(STEP);
        world.engine.look_after_vaults().await;
        runs = world.jobs::<CareRun>().await;
        runs.retain(|run| run.trigger == CareTrigger::Verification);
        if !runs.is_empty() {
            break;
        }
    }
    assert!(world.alarms().await.contains(&VaultAlarm::Damaged));
    assert_eq!(world.coverage().await.damaged_packs, 1);
    let run: CareRun = world.end_of(&runs[0].id).await;
    let point = world.point_of(&job).await;
    let report = run.report.unwrap();
    assert_eq!(report.hurt[0].recovery_point_arn.as_ref(), Some(&point.arn), "{report:?}");
    assert!(point.condition.is_some());
    // By hand, all at once; and once it is put right, that is seen.
    write_over(&pack, &whole);
    world.clock.advance(SignedDuration::from_hours(31 * 24));
    let run = world.care(CareOperation::Verify, CareOptions::default()).await;
    assert!(run.report.as_ref().unwrap().clean, "{run:?}");
    let told = world.coverage().await;
    assert_eq!((told.verified_packs, told.damaged_packs), (told.packs, 0));
    running.stop("test over").await;
}

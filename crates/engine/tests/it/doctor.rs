//! What `provault doctor` finds wrong with a server that cannot do its work.

use jiff::SignedDuration;
use provault_domain::*;
use provault_engine::{Finding, Level};

use crate::support::World;

/// What was found of one thing.
async fn found(world: &World, check: &str) -> Vec<Finding> {
    let mut all = world.engine.doctor(&world.account).await.unwrap();
    all.retain(|finding| finding.check == check);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_does_not_turn_has_failed() {
    let world = World::new("2026-03-01T04:00:00Z").await;
    let [before] = &found(&world, "engine").await[..] else { panic!("one engine") };
    assert_eq!(before.level, Level::Failed);
    assert!(before.detail.contains("the engine is not started"), "{before:?}");
    let running = world.start().await;
    assert_eq!(found(&world, "engine").await[0].level, Level::Fine);
    running.stop("the test is over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_behind_what_was_made_has_failed() {
    let world = World::new("2026-03-01T04:00:00Z").await;
    world.engine.catalog().insert_job(&world.backup_job()).await.unwrap();
    assert_eq!(found(&world, "clock").await[0].level, Level::Fine);
    // A few minutes are those of a clock that was set.
    world.clock.set_back(SignedDuration::from_mins(4));
    assert_eq!(found(&world, "clock").await[0].level, Level::Fine);
    world.clock.set_back(SignedDuration::from_mins(2));
    let [wrong] = &found(&world, "clock").await[..] else { panic!("one clock") };
    assert_eq!(wrong.level, Level::Failed);
    for part in ["2026-03-01T03:54:00Z", "2026-03-01T04:00:00Z", "Set it right"] {
        assert!(wrong.detail.contains(part), "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_not_answer_is_a_warning_with_what_to_do() {
    let world = World::new("2026-03-01T04:00:00Z").await;
    world.listen(&["BACKUP_JOB_COMPLETED"]).await;
    assert_eq!(found(&world, "topic alarms").await, []);
    let running = world.start().await;
    let job = world.back_up().await;
    assert_eq!(job.state, BackupJobState::Completed, "{:?}", job.status_message);
    let told = loop {
        if let Some(told) = found(&world, "topic alarms").await.pop() {
            break told;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!(told.level, Level::Warning);
    assert!(told.detail.contains("provault subscription test "), "{told:?}");
    running.stop("the test is over").await;
}

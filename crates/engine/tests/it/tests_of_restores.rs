//! Restore tests that start no application: every file against the manifest.

use jiff::SignedDuration;
use provault_domain::evidence::verify_chain;
use provault_domain::restore_job::{DeletionStatus, ValidationStatus};
use provault_domain::*;

use crate::support::World;

const START: &str = "2026-03-01T12:00:00Z";

async fn test_now(world: &World) -> RestoreTest {
    let test = world.engine.new_restore_test(&world.resource, None);
    world.engine.catalog().insert_job(&test).await.unwrap();
    world.engine.wake();
    world.end_of(&test.id).await
}

fn copies(world: &World) -> usize {
    std::fs::read_dir(world.directory.path().join("restore-tests")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_point_passes_and_leaves_nothing_but_evidence() {
    let world = World::with(START, |resource| {
        resource.testing = Some(BackupTesting::plain(true, resource.created_at));
    })
    .await;
    let running = world.start().await;
    let job = world.back_up().await;
    let test = loop {
        if let Some(test) = world.jobs::<RestoreTest>().await.pop() {
            break test;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    let test: RestoreTest = world.end_of(&test.id).await;
    assert_eq!(test.verdict, Some(Verdict::Passed), "{:?}", test.reason);
    assert_eq!(test.after_backup_job.as_deref(), Some(job.id.as_str()));
    assert_eq!(test.cleaned_up, Some(true));
    assert_eq!(copies(&world), 0);
    let point = world.point_of(&job).await;
    assert_eq!(point.last_verdict.unwrap().verdict, Verdict::Passed);
    let restore: RestoreJob = world.end_of(test.restore_job_id.as_ref().unwrap()).await;
    assert_eq!(restore.state, RestoreJobState::Completed);
    assert_eq!(restore.validation, Some(ValidationStatus::Successful));
    assert_eq!(restore.deletion, Some(DeletionStatus::Successful));
    let required: Vec<_> = test.findings.mutants.iter().filter(|m| m.required).collect();
    assert_eq!(required.len(), 3);
    assert!(required.iter().all(|m| m.killed == Some(true)));

    let again = test_now(&world).await;
    assert_eq!(again.verdict, Some(Verdict::Passed));
    assert!(again.findings.mutants_cached, "the same probes need no second negative control");
    let evidence = world.engine.catalog().list_evidence(&world.account).await.unwrap();
    assert_eq!(evidence.len(), 2);
    verify_chain(&evidence).unwrap();
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_the_vault_fails_the_test() {
    let world = World::new(START).await;
    let running = world.start().await;
    let job = world.back_up().await;
    let mut packs = Vec::new();
    let data = world.directory.path().join(&world.vault.location).join("data");
    for shard in std::fs::read_dir(data).unwrap() {
        packs.extend(std::fs::read_dir(shard.unwrap().path()).unwrap().map(|p| p.unwrap().path()));
    }
    assert!(!packs.is_empty());
    for pack in packs {
        use std::os::unix::fs::PermissionsExt;
        let mut bytes = std::fs::read(&pack).unwrap();
        bytes[20] ^= 1;
        std::fs::set_permissions(&pack, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&pack, bytes).unwrap();
    }
    let test = test_now(&world).await;
    assert_eq!(test.verdict, Some(Verdict::Failed), "{:?}", test.reason);
    assert!(test.reason.unwrap().contains("damaged"));
    assert_eq!(copies(&world), 0);
    // Retention knows of it: an older point that is whole would stay for it.
    let point = world.point_of(&job).await;
    assert_eq!(point.worth(), retention::Worth::Damaged);
    let condition = point.condition.unwrap();
    assert_eq!(condition.restore_test_id.as_ref(), Some(&test.id));
    assert!(condition.message.contains("a restore test could not read it"), "{condition:?}");
    // One that cannot be read again says what is wrong, not that it is known.
    let again = test_now(&world).await;
    assert!(again.reason.unwrap().starts_with("restore: "));
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_point_fails_and_no_point_fails() {
    let world = World::with(START, |resource| resource.rpo_seconds = Some(3600)).await;
    let running = world.start().await;
    let none = test_now(&world).await;
    assert_eq!(none.verdict, Some(Verdict::Failed));
    assert!(none.reason.unwrap().contains("no recovery point"));
    world.back_up().await;
    world.clock.advance(SignedDuration::from_mins(61));
    let old = test_now(&world).await;
    assert_eq!(old.verdict, Some(Verdict::Failed), "{:?}", old.reason);
    assert!(old.reason.unwrap().contains("recovery point objective"));
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bears_no_token_is_never_touched() {
    let world = World::new(START).await;
    let root = world.directory.path().join("restore-tests");
    let foreign = root.join("5d0fdc7e-9e6b-4bb5-9aee-1b8a1d0a2a11");
    std::fs::create_dir_all(foreign.join("copy")).unwrap();
    std::fs::write(foreign.join("copy/mine"), "keep").unwrap();
    let running = world.start().await;
    world.back_up().await;
    assert_eq!(test_now(&world).await.verdict, Some(Verdict::Passed));
    assert_eq!(std::fs::read_to_string(foreign.join("copy/mine")).unwrap(), "keep");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_lacks_something_does_not_pass() {
    let world = World::new(START).await;
    let running = world.start().await;
    // Deeper than the driver goes: it lists what it leaves out.
    let mut deep = world.source();
    std::fs::write(deep.join("shallow"), "here").unwrap();
    std::env::set_current_dir(&deep).unwrap();
    for _ in 0..600 {
        std::fs::create_dir("d").unwrap();
        std::env::set_current_dir("d").unwrap();
        deep.push("d");
    }
    std::fs::write("bottom", "lost").unwrap();
    std::env::set_current_dir("/").unwrap();
    let job = world.back_up().await;
    assert_eq!(job.state, BackupJobState::Partial);
    assert_eq!(world.point_of(&job).await.status, RecoveryPointStatus::Partial);
    let test = test_now(&world).await;
    assert_eq!(test.verdict, Some(Verdict::Failed));
    let reason = test.reason.unwrap();
    assert!(reason.contains("not complete") && reason.contains("could not be read"), "{reason}");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_from_the_future_has_no_age_to_meet_a_target_with() {
    let world = World::with(START, |resource| resource.rpo_seconds = Some(3600)).await;
    let running = world.start().await;
    world.clock.advance(SignedDuration::from_hours(10));
    let job = world.back_up().await;
    assert_eq!(job.state, BackupJobState::Completed, "{:?}", job.status_message);
    world.clock.advance(SignedDuration::from_hours(-10));
    let test = test_now(&world).await;
    assert_eq!(test.verdict, Some(Verdict::Inconclusive), "{:?}", test.reason);
    assert!(test.reason.unwrap().contains("age is not known"));
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_state_is_tried_as_soon_as_there_is_one_that_differs() {
    let world = World::new(START).await;
    let running = world.start().await;
    let older = |test: &RestoreTest| {
        let found = test.findings.mutants.iter().find(|m| m.name == "older-state");
        found.map(|m| (m.required, m.killed)).unwrap()
    };
    world.back_up().await;
    let first = test_now(&world).await;
    assert_eq!(first.verdict, Some(Verdict::Passed), "{:?}", first.reason);
    assert_eq!(older(&first), (false, None), "there is nothing older yet");

    world.clock.advance(SignedDuration::from_secs(10));
    world.back_up().await;
    let same = test_now(&world).await;
    assert_eq!(older(&same), (false, None), "the same state proves nothing");

    world.clock.advance(SignedDuration::from_secs(10));
    std::fs::write(world.source().join("data/a.txt"), "newer\n").unwrap();
    world.back_up().await;
    let third = test_now(&world).await;
    assert_eq!(third.verdict, Some(Verdict::Passed), "{:?}", third.reason);
    assert_eq!(older(&third), (false, Some(true)));
    assert!(third.findings.mutants_cached, "the others are remembered");
    assert!(third.reason.unwrap().contains("noticed 6 of 6"));
    assert_eq!(copies(&world), 0);
    running.stop("test over").await;
}

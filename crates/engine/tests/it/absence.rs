//! Alarms that time raises by passing.

use jiff::SignedDuration;
use provault_catalog::Delivery;
use provault_domain::*;
use provault_engine::Clock;

use crate::support::World;
use crate::testing_plans;

async fn told(world: &World) -> Vec<Delivery> {
    let all = world.engine.catalog().list_deliveries(&world.account, None, None).await.unwrap();
    let alarm = |d: &Delivery| matches!(d.notification.event, NotificationEvent::ResourceAlarm(_));
    all.into_iter().filter(alarm).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_grows_overdue_is_told_once_until_it_is_well_again() {
    let world = World::with("2026-03-01T04:00:00Z", |resource| {
        resource.rpo_seconds = Some(86_400);
    })
    .await;
    world.listen(&["BACKUP_JOB_FAILED"]).await;
    let running = world.start().await;
    let back_up = async || {
        let job = world.back_up().await;
        assert_eq!(job.state, BackupJobState::Completed, "{:?}", job.status_message);
    };
    back_up().await;
    let look = async || world.engine.look_for_absence().await.unwrap();
    world.clock.advance(SignedDuration::from_hours(24));
    look().await;
    assert!(told(&world).await.is_empty(), "the objective is still met");
    world.clock.advance(SignedDuration::from_secs(1));
    look().await;
    look().await;
    let first = told(&world).await;
    assert_eq!(first.len(), 1, "once");
    let notification = &first[0].notification;
    assert_eq!(notification.event, NotificationEvent::ResourceAlarm(ResourceTrouble::Overdue));
    assert_eq!(notification.resource_arn.as_ref(), Some(&world.resource.arn));
    assert!(
        notification.reason.as_deref().unwrap().contains("objective is 24 h"),
        "{notification:?}"
    );

    // Well again, and then again not.
    back_up().await;
    look().await;
    world.clock.advance(SignedDuration::from_hours(25));
    look().await;
    assert_eq!(told(&world).await.len(), 2);

    // An exemption ends the alarm, its end raises it again.
    let exemption = Exemption {
        resource_arn: world.resource.arn.clone(),
        account: world.account.clone(),
        reason: "made again from its sources".into(),
        owner: "ann".into(),
        until: world.clock.now() + SignedDuration::from_hours(48),
        created_at: world.clock.now(),
    };
    world.engine.catalog().put_exemption(&exemption).await.unwrap();
    look().await;
    world.clock.advance(SignedDuration::from_hours(47));
    look().await;
    assert_eq!(told(&world).await.len(), 2);
    world.clock.advance(SignedDuration::from_hours(1));
    look().await;
    assert_eq!(told(&world).await.len(), 3);

    // A resource that is removed is nobody's debt, and what was known of it goes along.
    world.engine.catalog().delete_resource(&world.resource.arn).await.unwrap();
    assert!(world.engine.catalog().list_exemptions(&world.account).await.unwrap().is_empty());
    look().await;
    assert_eq!(told(&world).await.len(), 3);
    running.stop("the test is over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_that_should_have_come_is_told_to_who_asked_for_tests() {
    let world = World::new("2026-03-01T04:00:00Z").await;
    world.listen(&["RESTORE_JOB_COMPLETED"]).await;
    let running = world.start().await;
    let job = world.back_up().await;
    running.stop("the clock is the test's").await;
    assert_eq!(job.state, BackupJobState::Completed, "{:?}", job.status_message);
    // From now on a test is to follow every backup; the one that was made has none.
    let arn = &world.resource.arn;
    world
        .engine
        .catalog()
        .update_resource(arn, |r| {
            r.testing = Some(BackupTesting::plain(true, jiff::Timestamp::UNIX_EPOCH));
        })
        .await
        .unwrap();
    world.clock.advance(SignedDuration::from_hours(24));
    world.engine.look_for_absence().await.unwrap();
    assert!(told(&world).await.is_empty());
    world.clock.advance(SignedDuration::from_hours(1));
    world.engine.look_for_absence().await.unwrap();
    let told = told(&world).await;
    assert_eq!(told.len(), 1);
    let wanted = NotificationEvent::ResourceAlarm(ResourceTrouble::NotTested);
    assert_eq!(told[0].notification.event, wanted);
}

/// A plan whose looks never come, as in a server that was not there, or that cannot: time alone tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_planned_test_that_gave_no_verdict_is_told() {
    let (world, _) = testing_plans::backed_up(World::new("2026-03-01T04:00:00Z").await).await;
    world.listen(&["RESTORE_JOB_COMPLETED"]).await;
    let plan = testing_plans::plan(&world, |_| {});
    testing_plans::enter(&world, &plan, &testing_plans::selection(&world, &plan)).await;
    // Due at five; its window is an hour, and the test has a day.
    world.clock.advance(SignedDuration::from_mins(26 * 60 - 1));
    world.engine.look_for_absence().await.unwrap();
    assert!(told(&world).await.is_empty());
    world.clock.advance(SignedDuration::from_mins(1));
    for _ in 0..2 {
        world.engine.look_for_absence().await.unwrap();
        let told = told(&world).await;
        assert_eq!(told.len(), 1, "once");
        let wanted = NotificationEvent::ResourceAlarm(ResourceTrouble::NotTested);
        assert_eq!(told[0].notification.event, wanted);
        let reason = told[0].notification.reason.as_deref().unwrap();
        for part in ["restore testing plan daily", "2026-03-01T05:00:00Z", "no verdict"] {
            assert!(reason.contains(part), "{reason}");
        }
    }
}

//! Alarms that time raises by passing.

use jiff::SignedDuration;
use provault_catalog::Delivery;
use provault_domain::*;
use provault_engine::Clock;

use crate::support::World;

/// Lets the vault's events go to a topic with one receiver, which is never reached.
async fn listen(world: &World, events: &[&str]) {
    let catalog = world.engine.catalog();
    let topic = Topic {
        arn: Arn::topic(&world.region, &world.account, "alerts"),
        account: world.account.clone(),
        name: "alerts".into(),
        created_at: world.clock.now(),
    };
    catalog.insert_topic(&topic).await.unwrap();
    let subscription = Subscription {
        id: uuid::Uuid::new_v4().to_string(),
        account: world.account.clone(),
        topic_arn: topic.arn.clone(),
        target: SubscriptionTarget::Webhook { url: "http://127.0.0.1:9/".into() },
        events: Vec::new(),
        digest_minutes: None,
        sealed_secret: None,
        created_at: world.clock.now(),
    };
    catalog.insert_subscription(&subscription).await.unwrap();
    let notifications = vault::VaultNotifications {
        topic_arn: topic.arn,
        events: events.iter().map(|&event| event.to_owned()).collect(),
    };
    let name = world.vault.name.clone();
    catalog.set_vault_notifications(&world.account, &name, Some(notifications)).await.unwrap();
}

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
    listen(&world, &["BACKUP_JOB_FAILED"]).await;
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
    listen(&world, &["RESTORE_JOB_COMPLETED"]).await;
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

//! Digests, and a receiver that fails and recovers, with the clock of the test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use provault_catalog::{Delivery, DeliveryState};
use provault_domain::vault::VaultNotifications;
use provault_domain::*;

use crate::support::World;

const START: &str = "2026-03-01T12:00:00Z";

impl World {
    /// Lets every end of a backup go to a subscription that writes mail into a directory.
    async fn notify(&self, directory: &Path, digest_minutes: Option<u32>) {
        let topic = Topic {
            arn: Arn::topic(&self.region, &self.account, "ops"),
            account: self.account.clone(),
            name: "ops".into(),
            created_at: self.clock_now(),
        };
        let catalog = self.engine.catalog();
        catalog.insert_topic(&topic).await.unwrap();
        let directory = directory.to_str().unwrap().to_owned();
        let subscription = Subscription {
            id: "subscription-1".into(),
            account: self.account.clone(),
            topic_arn: topic.arn.clone(),
            target: SubscriptionTarget::MailFile { directory, to: "ops@example.org".into() },
            events: Vec::new(),
            digest_minutes,
            sealed_secret: None,
            created_at: self.clock_now(),
        };
        self.engine.subscribe(subscription, None).await.unwrap();
        let events = vec!["BACKUP_JOB_COMPLETED".to_owned()];
        let setting = Some(VaultNotifications { topic_arn: topic.arn, events });
        catalog.set_vault_notifications(&self.account, "lab", setting).await.unwrap();
    }

    fn clock_now(&self) -> jiff::Timestamp {
        self.engine.now()
    }

    async fn deliveries(&self) -> Vec<Delivery> {
        self.engine.catalog().list_deliveries(&self.account, None, None).await.unwrap()
    }

    /// Waits until so many deliveries have arrived. The test runner has a limit.
    async fn arrived(&self, count: usize) {
        loop {
            let all = self.deliveries().await;
            if all.iter().filter(|d| d.state == DeliveryState::Delivered).count() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn advance(&self, by: SignedDuration) {
        self.clock.advance(by);
        self.engine.wake();
    }
}

/// The texts of all mails.
fn mails(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_one_message_about_all_that_happened() {
    let world = World::new(START).await;
    let mail = world.directory.path().join("mail");
    world.notify(&mail, Some(30)).await;
    let running = world.start().await;
    let first = world.back_up().await;
    world.advance(SignedDuration::from_mins(20));
    let second = world.back_up().await;
    let due: Vec<_> = world.deliveries().await.iter().map(|d| d.next_attempt_at).collect();
    let half_past: jiff::Timestamp = "2026-03-01T12:30:00Z".parse().unwrap();
    assert_eq!(due, [half_past, half_past]);
    assert!(mails(&mail).is_empty(), "nothing before its time");

    world.advance(SignedDuration::from_mins(10));
    world.arrived(2).await;
    let sent = mails(&mail);
    assert_eq!(sent.len(), 1, "{sent:#?}");
    assert!(sent[0].contains("Subject: 2 notifications of topic ops"), "{}", sent[0]);
    // Long lines of a mail are broken, but ids are found once that is undone.
    let text = sent[0].replace("=\r\n", "");
    let places = [&first, &second].map(|job| text.find(&job.id).expect("both jobs are told of"));
    assert!(places[0] < places[1], "oldest first: {text}");

    // What comes after a digest begins another one; alone it is a message like any other.
    let third = world.back_up().await;
    assert_eq!(mails(&mail).len(), 1);
    world.advance(SignedDuration::from_mins(30));
    world.arrived(3).await;
    let sent = mails(&mail);
    assert_eq!(sent.len(), 2, "{sent:#?}");
    let alone = sent.iter().find(|mail| !mail.contains("notifications of")).unwrap();
    assert!(alone.replace("=\r\n", "").contains(&third.id), "{alone}");
    running.stop("test over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_does_not_arrive_is_tried_again_as_a_whole() {
    let world = World::new(START).await;
    // A file where the directory should be: nothing can be written there.
    let mail = world.directory.path().join("mail");
    std::fs::write(&mail, "in the way").unwrap();
    world.notify(&mail, Some(30)).await;
    let running = world.start().await;
    world.back_up().await;
    world.back_up().await;
    world.advance(SignedDuration::from_mins(30));
    loop {
        let all = world.deliveries().await;
        if all.iter().all(|d| d.attempts == 1) {
            assert!(all.iter().all(|d| d.state == DeliveryState::Waiting), "{all:#?}");
            assert!(all[0].last_error.as_ref().unwrap().contains("cannot be written"), "{all:#?}");
            assert_eq!(all[0].next_attempt_at, all[1].next_attempt_at);
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    std::fs::remove_file(&mail).unwrap();
    world.advance(SignedDuration::from_secs(5));
    world.arrived(2).await;
    assert_eq!(mails(&mail).len(), 1);
    running.stop("test over").await;
}

/// A sender dies after it has sent and before it has said so. What has come up since does not join what is sent
/// again: it is the same message, under the same id.
#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_is_sent_again_after_a_crash_holds_the_same() {
    let world = World::new(START).await;
    let mail = world.directory.path().join("mail");
    world.notify(&mail, Some(30)).await;
    let running = world.start().await;
    let first = [world.back_up().await, world.back_up().await];
    running.stop("test").await;
    let world = world.restarted().await;
    world.clock.advance(SignedDuration::from_mins(30));
    let now = world.clock_now();
    let lease = now + SignedDuration::from_mins(50);
    let catalog = world.engine.catalog();
    let sent = catalog.claim_digest("subscription-1", "dead", now, lease, 500).await.unwrap();
    assert_eq!(sent.len(), 2);
    let running = world.engine.start(false).await.unwrap();
    let third = world.back_up().await;
    running.stop("test").await;
    let world = world.restarted().await;
    world.clock.advance(SignedDuration::from_mins(40));
    // All three are due, and nobody holds any.
    let running = world.start().await;
    world.arrived(3).await;
    let mails: Vec<String> =
        mails(&mail).into_iter().map(|mail| mail.replace("=\r\n", "")).collect();
    assert_eq!(mails.len(), 2, "{mails:#?}");
    let (again, alone): (Vec<_>, Vec<_>) =
        mails.iter().partition(|mail| mail.contains("Subject: 2 notifications of topic ops"));
    assert!(first.iter().all(|job| again[0].contains(&job.id)), "{again:#?}");
    assert!(!again[0].contains(&third.id) && alone[0].contains(&third.id), "{mails:#?}");
    running.stop("test over").await;
}

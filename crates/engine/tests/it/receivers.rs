//! Receivers that hang or refuse, beside one that does not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use provault_catalog::{Delivery, DeliveryState};
use provault_domain::*;
use provault_notify::MAX_ATTEMPTS;

use crate::support::World;

const START: &str = "2026-03-01T12:00:00Z";

/// Listens on a free port of this machine until the test's process ends; `serve` gets every client.
fn listen(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    address
}

fn mail_server(address: SocketAddr) -> SubscriptionTarget {
    SubscriptionTarget::Smtp(Box::new(SmtpTarget {
        server: address.ip().to_string(),
        port: address.port(),
        tls: SmtpTls::None,
        user: None,
        from: "provault@example.org".into(),
        to: "ops@example.org".into(),
        ca_file: None,
    }))
}

/// A webhook that answers with the status it is told.
struct Webhook {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Webhook {
    fn start() -> Self {
        let (status, bodies) = (Arc::new(AtomicU16::new(204)), Arc::default());
        let (answer, kept) = (Arc::clone(&status), Arc::clone(&bodies));
        let address = listen(move |stream| {
            // A sender that parts in the middle has sent nothing.
            let _ = take(stream, answer.load(Ordering::SeqCst), &kept);
        });
        Self { address, status, bodies }
    }

    fn target(&self) -> SubscriptionTarget {
        SubscriptionTarget::Webhook { url: format!("http://{}/", self.address) }
    }

    fn count(&self) -> usize {
        self.bodies.lock().unwrap().len()
    }
}

fn take(mut stream: TcpStream, status: u16, bodies: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut length) = (String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut body = String::new();
    reader.take(length).read_to_string(&mut body)?;
    bodies.lock().unwrap().push(body);
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

/// Takes every connection and never says a word.
#[derive(Default)]
struct Silent(Arc<Mutex<Vec<TcpStream>>>);

impl Silent {
    fn start() -> (Self, SocketAddr) {
        let this = Self::default();
        let kept = Arc::clone(&this.0);
        (this, listen(move |stream| kept.lock().unwrap().push(stream)))
    }

    /// Connections whose other side still waits for a word, and all there ever were.
    fn waiting(&self) -> (usize, usize) {
        let all = self.0.lock().unwrap();
        let waits = |stream: &&TcpStream| {
            stream.set_nonblocking(true).unwrap();
            let mut byte = [0];
            loop {
                match (&mut &**stream).read(&mut byte) {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
                }
            }
        };
        (all.iter().filter(waits).count(), all.len())
    }

    /// Lets go of everybody: whoever waits has an error.
    fn let_go(&self) {
        self.0.lock().unwrap().clear();
    }
}

/// A mail server that answers every recipient with what it is told, one client after the other.
struct MailServer {
    address: SocketAddr,
    says: Arc<Mutex<&'static str>>,
    mails: Arc<Mutex<Vec<String>>>,
}

impl MailServer {
    fn start(says: &'static str) -> Self {
        let (says, mails) = (Arc::new(Mutex::new(says)), Arc::default());
        let (answer, kept) = (Arc::clone(&says), Arc::clone(&mails));
        let address = listen(move |stream| {
            let answer = *answer.lock().unwrap();
            // Ends with an error where the client parts in the middle.
            let _ = talk(stream, answer, &kept);
        });
        Self { address, says, mails }
    }

    fn say(&self, answer: &'static str) {
        *self.says.lock().unwrap() = answer;
    }
}

fn talk(mut stream: TcpStream, to_rcpt: &str, mails: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    stream.write_all(b"220 test ready\r\n")?;
    while reader.read_line(&mut line)? > 0 {
        let word = line.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let answer = match word.as_str() {
            "RCPT" => to_rcpt,
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        write!(stream, "{answer}\r\n")?;
        line.clear();
        if word == "QUIT" {
            return Ok(());
        }
        if word == "DATA" {
            let mut mail = String::new();
            while reader.read_line(&mut line)? > 0 && line != ".\r\n" {
                mail += &line;
                line.clear();
            }
            line.clear();
            mails.lock().unwrap().push(mail);
            stream.write_all(b"250 queued\r\n")?;
        }
    }
    Ok(())
}

impl World {
    /// Tells these receivers of every end of a backup; gives the ids of the subscriptions.
    async fn tell(&self, targets: Vec<SubscriptionTarget>) -> Vec<String> {
        let topic = Topic {
            arn: Arn::topic(&self.region, &self.account, "ops"),
            account: self.account.clone(),
            name: "ops".into(),
            created_at: self.engine.now(),
        };
        let catalog = self.engine.catalog();
        catalog.insert_topic(&topic).await.unwrap();
        let mut ids = Vec::new();
        for target in targets {
            let subscription = Subscription {
                id: format!("subscription-{:03}", ids.len()),
                account: self.account.clone(),
                topic_arn: topic.arn.clone(),
                target,
                events: Vec::new(),
                digest_minutes: None,
                sealed_secret: None,
                created_at: self.engine.now(),
            };
            ids.push(self.engine.subscribe(subscription, None).await.unwrap().id);
        }
        let events = vec!["BACKUP_JOB_COMPLETED".to_owned()];
        let setting = Some(vault::VaultNotifications { topic_arn: topic.arn, events });
        catalog.set_vault_notifications(&self.account, "lab", setting).await.unwrap();
        ids
    }

    async fn deliveries_to(&self, subscription: &str) -> Vec<Delivery> {
        let all = self.engine.catalog().list_deliveries(&self.account, None, None).await.unwrap();
        all.into_iter().filter(|delivery| delivery.subscription_id == subscription).collect()
    }
}

/// Looks until it is so. The test runner has a limit.
async fn until(mut so: impl AsyncFnMut() -> bool) {
    while !so().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_hang_hold_up_nobody() {
    // More than any bound that all receivers could share; those that hang come first.
    const HANGING: usize = 20;
    let world = World::new(START).await;
    let (silent, address) = Silent::start();
    let hook = Webhook::start();
    let mut targets = vec![mail_server(address); HANGING];
    targets.push(hook.target());
    world.tell(targets).await;
    let running = world.start().await;
    for n in 1..=3 {
        world.back_up().await;
        until(async || hook.count() == n).await;
        // All of the first messages were begun, and every one of them is still on its way.
        until(async || silent.waiting().1 >= HANGING * n).await;
        let (waiting, all) = silent.waiting();
        assert_eq!(waiting, all, "message {n} came only after somebody had given up");
    }
    running.stop("test over").await;
    silent.let_go();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_hangs_is_tried_again() {
    let world = World::new(START).await;
    let (silent, address) = Silent::start();
    let hook = SubscriptionTarget::Webhook { url: format!("http://{address}/") };
    let id = world.tell(vec![hook]).await.remove(0);
    let running = world.start().await;
    world.back_up().await;
    let first = async || world.deliveries_to(&id).await.into_iter().next();
    until(async || first().await.is_some_and(|d| d.attempts == 1)).await;
    let delivery = first().await.unwrap();
    assert_eq!(delivery.state, DeliveryState::Waiting, "{delivery:?}");
    let why = delivery.last_error.unwrap();
    assert!(why.contains("did not answer") && why.contains("tried again"), "{why}");
    assert_eq!(silent.waiting(), (0, 1), "nobody waits for it any more");
    world.clock.advance(SignedDuration::from_secs(5));
    world.engine.wake();
    until(async || silent.waiting().1 == 2).await;
    running.stop("test over").await;
    silent.let_go();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_refuses_is_tried_again_and_given_up() {
    let world = World::new(START).await;
    let (mail, hook) = (MailServer::start("451 4.3.0 not now"), Webhook::start());
    let ids = world.tell(vec![mail_server(mail.address), hook.target()]).await;
    let running = world.start().await;
    let catalog = world.engine.catalog();
    world.back_up().await;
    let now = async || world.deliveries_to(&ids[0]).await.pop().unwrap();
    for attempts in 1..=MAX_ATTEMPTS {
        until(async || now().await.attempts == attempts).await;
        let delivery = now().await;
        let why = delivery.last_error.as_deref().unwrap_or_default();
        assert!(why.contains("does not take the mail now"), "{why}");
        let last = attempts == MAX_ATTEMPTS;
        let expected = if last { DeliveryState::Dead } else { DeliveryState::Waiting };
        assert_eq!(delivery.state, expected, "after {attempts} tries");
        world.clock.advance(delivery.next_attempt_at.duration_since(world.engine.now()));
        world.engine.wake();
    }
    // The other had it at once, and once.
    until(async || hook.count() == 1).await;
    assert_eq!(world.deliveries_to(&ids[1]).await.pop().unwrap().attempts, 1);

    // Mended, it gets the same message.
    mail.say("250 ok");
    let id = now().await.id;
    catalog.send_delivery_again(&world.account, &id, world.engine.now()).await.unwrap();
    world.engine.wake();
    until(async || now().await.state == DeliveryState::Delivered).await;
    let sent = mail.mails.lock().unwrap().pop().unwrap();
    assert!(sent.contains(&id), "{sent}");

    // What is refused for good is not tried again, and waits for somebody who sends it again.
    mail.say("550 5.1.1 no such user");
    world.back_up().await;
    until(async || now().await.state == DeliveryState::Dead).await;
    let delivery = now().await;
    assert_eq!(delivery.attempts, 1);
    let why = delivery.last_error.unwrap();
    assert!(why.contains("refuses the mail for good"), "{why}");
    until(async || hook.count() == 2).await;
    running.stop("test over").await;
}

/// A receiver that is busy with errors gets one message at a time, and all of them in the end.
#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_a_receiver_arrives_when_it_recovers() {
    let world = World::new(START).await;
    let hook = Webhook::start();
    hook.status.store(503, Ordering::SeqCst);
    let id = world.tell(vec![hook.target()]).await.remove(0);
    let running = world.start().await;
    for _ in 0..6 {
        world.back_up().await;
    }
    until(async || world.deliveries_to(&id).await.iter().all(|d| d.attempts == 1)).await;
    hook.status.store(204, Ordering::SeqCst);
    world.clock.advance(SignedDuration::from_secs(5));
    world.engine.wake();
    until(async || {
        let all = world.deliveries_to(&id).await;
        all.iter().all(|delivery| delivery.state == DeliveryState::Delivered)
    })
    .await;
    assert_eq!(hook.count(), 12);
    running.stop("test over").await;
}

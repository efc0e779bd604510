//! Subscriptions: which events they want, and what could never be delivered to.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use provault_domain::care::VaultAlarm;
use provault_domain::notification::SUBSCRIPTION_EVENTS;
use provault_domain::topic::{validate_digest, validate_events};
use provault_domain::{
    BackupJobState, NotificationEvent, ResourceTrouble, RestoreJobState, SmtpTarget, SmtpTls,
    SnsTarget, Subscription, SubscriptionTarget, Verdict,
};

const FAILED_TEST: NotificationEvent =
    NotificationEvent::RestoreTestEnded { verdict: Verdict::Failed, cleaned_up: true };
const PASSED_TEST: NotificationEvent =
    NotificationEvent::RestoreTestEnded { verdict: Verdict::Passed, cleaned_up: true };

fn subscription(events: &[&str]) -> Subscription {
    Subscription {
        id: "s".to_owned(),
        account: "111122223333".parse().unwrap(),
        topic_arn: "arn:aws:sns:us-east-1:111122223333:alerts".parse().unwrap(),
        target: SubscriptionTarget::Webhook { url: "http://127.0.0.1/".to_owned() },
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        digest_minutes: None,
        sealed_secret: None,
        created_at: "2026-01-01T00:00:00Z".parse().unwrap(),
    }
}

fn smtp() -> SmtpTarget {
    SmtpTarget {
        server: "mail.example.org".to_owned(),
        port: 587,
        tls: SmtpTls::Starttls,
        user: Some("me".to_owned()),
        from: "provault@example.org".to_owned(),
        to: "ops@example.org".to_owned(),
        ca_file: None,
    }
}

#[test]
fn a_subscription_without_a_filter_wants_all_and_one_with_a_filter_what_it_names() {
    let failed = NotificationEvent::BackupJobEnded(BackupJobState::Failed);
    let completed = NotificationEvent::BackupJobEnded(BackupJobState::Completed);
    for event in [failed, completed, FAILED_TEST, PASSED_TEST] {
        assert!(subscription(&[]).wants(event), "{event:?}");
    }
    assert!(subscription(&["BACKUP_JOB_FAILED"]).wants(failed));
    assert!(!subscription(&["BACKUP_JOB_FAILED"]).wants(completed));
    assert!(!subscription(&["BACKUP_JOB_FAILED"]).wants(FAILED_TEST));
    // Ours choose exactly; AWS's mean what they mean in a vault's setting.
    let tests = subscription(&["RESTORE_TEST_NOT_PASSED"]);
    assert!(tests.wants(FAILED_TEST) && !tests.wants(PASSED_TEST));
    assert!(!tests.wants(NotificationEvent::RestoreJobEnded(RestoreJobState::Failed)));
    assert!(subscription(&["RESTORE_JOB_FAILED"]).wants(FAILED_TEST));
    let alarms = subscription(&["BACKUP_VAULT_ALARM"]);
    assert!(alarms.wants(NotificationEvent::VaultAlarm(VaultAlarm::Damaged)));
    assert!(!alarms.wants(failed));
}

#[test]
fn the_names_to_choose_from_are_those_that_events_have() {
    use BackupJobState as Backup;
    let events = [
        NotificationEvent::BackupJobStarted,
        NotificationEvent::BackupJobEnded(Backup::Completed),
        NotificationEvent::BackupJobEnded(Backup::Failed),
        NotificationEvent::BackupJobEnded(Backup::Expired),
        NotificationEvent::RestoreJobStarted,
        NotificationEvent::RestoreJobEnded(RestoreJobState::Completed),
        NotificationEvent::RestoreJobEnded(RestoreJobState::Failed),
        PASSED_TEST,
        FAILED_TEST,
        NotificationEvent::ValidationAsked,
        NotificationEvent::VaultAlarm(VaultAlarm::Damaged),
        NotificationEvent::RecoveryPointShrunk,
        NotificationEvent::ResourceAlarm(ResourceTrouble::Overdue),
    ];
    let mut named: Vec<&str> =
        events.iter().flat_map(|e| e.names().iter().copied().chain(e.own_name())).collect();
    named.sort_unstable();
    named.dedup();
    let mut offered = SUBSCRIPTION_EVENTS.to_vec();
    offered.sort_unstable();
    assert_eq!(named, offered);
    validate_events(&SUBSCRIPTION_EVENTS.map(str::to_owned)).unwrap();
    let error = validate_events(&["BACKUP_JOB_FAILD".to_owned()]).unwrap_err();
    assert_eq!(error.member, "Events");
    assert!(error.message.contains("BACKUP_JOB_FAILD"), "{error}");
}

#[test]
fn a_mail_server_in_clear_is_one_of_this_machine() {
    SubscriptionTarget::Smtp(Box::new(smtp())).validate().unwrap();
    for server in ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "::1"] {
        let target = SmtpTarget { server: server.to_owned(), tls: SmtpTls::None, ..smtp() };
        SubscriptionTarget::Smtp(Box::new(target)).validate().unwrap();
    }
    for server in ["mail.example.org", "localhost.example.org", "10.0.0.1", "0.0.0.0", "::"] {
        let target = SmtpTarget { server: server.to_owned(), tls: SmtpTls::None, ..smtp() };
        let error = SubscriptionTarget::Smtp(Box::new(target)).validate().unwrap_err();
        assert_eq!(error.member, "Smtp.Tls", "{server}");
    }
}

#[test]
fn what_could_never_be_delivered_to_is_refused_by_its_member() {
    let wrong = [
        ("Smtp.Server", SmtpTarget { server: String::new(), ..smtp() }),
        ("Smtp.Server", SmtpTarget { server: "a b".to_owned(), ..smtp() }),
        ("Smtp.Server", SmtpTarget { server: "smtp://host".to_owned(), ..smtp() }),
        ("Smtp.Port", SmtpTarget { port: 0, ..smtp() }),
        ("Smtp.User", SmtpTarget { user: Some(String::new()), ..smtp() }),
        ("Smtp.CaFile", SmtpTarget { ca_file: Some("ca.pem".to_owned()), ..smtp() }),
        ("Smtp.From", SmtpTarget { from: "provault".to_owned(), ..smtp() }),
        ("Smtp.To", SmtpTarget { to: "a@b\r\nRCPT TO:<c@d>".to_owned(), ..smtp() }),
    ];
    for (member, target) in wrong {
        let error = SubscriptionTarget::Smtp(Box::new(target)).validate().unwrap_err();
        assert_eq!(error.member, member);
    }
    for command in [&[][..], &["relative"], &["./x"], &["/bin/x", "a\0b"]] {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let error = SubscriptionTarget::Command { command }.validate().unwrap_err();
        assert_eq!(error.member, "Target.Command");
    }
}

fn sns() -> SnsTarget {
    SnsTarget {
        topic_arn: "arn:aws:sns:eu-central-1:123456789012:backups".to_owned(),
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        endpoint: None,
    }
}

#[test]
fn an_sns_topic_has_an_arn_a_key_and_maybe_an_endpoint() {
    for arn in [
        "arn:aws:sns:eu-central-1:123456789012:backups",
        "arn:aws-cn:sns:cn-north-1:123456789012:backups_2.fifo",
    ] {
        SubscriptionTarget::Sns(SnsTarget { topic_arn: arn.to_owned(), ..sns() })
            .validate()
            .unwrap();
    }
    for endpoint in
        ["https://sns.example.org", "https://h:8443/", "http://127.0.0.1:1", "http://[::1]:1"]
    {
        let target = SnsTarget { endpoint: Some(endpoint.to_owned()), ..sns() };
        SubscriptionTarget::Sns(target).validate().unwrap();
    }
    let endpoint = |text: &str| SnsTarget { endpoint: Some(text.to_owned()), ..sns() };
    let arn = |text: &str| SnsTarget { topic_arn: text.to_owned(), ..sns() };
    for (member, target) in [
        ("Sns.TopicArn", arn("backups")),
        ("Sns.TopicArn", arn("arn:aws:sqs:eu-central-1:123456789012:backups")),
        ("Sns.TopicArn", arn("arn:aws:sns:eu-central-1:12345678901:backups")),
        // The region becomes a part of a host name.
        ("Sns.TopicArn", arn("arn:aws:sns:evil.example/:123456789012:backups")),
        ("Sns.TopicArn", arn("arn:aws:sns:eu-central-1:123456789012:a:subscription")),
        ("Sns.AccessKeyId", SnsTarget { access_key_id: "AKIA".to_owned(), ..sns() }),
        (
            "Sns.AccessKeyId",
            SnsTarget { access_key_id: "AKIA/IOSFODNN7EXAMPLE".to_owned(), ..sns() },
        ),
        ("Sns.Endpoint", endpoint("http://sns.example.org")),
        ("Sns.Endpoint", endpoint("http://localhost.example.org")),
        ("Sns.Endpoint", endpoint("https://user@h")),
        ("Sns.Endpoint", endpoint("https://h/path")),
        ("Sns.Endpoint", endpoint("https://")),
        ("Sns.Endpoint", endpoint("ftp://h")),
    ] {
        let shown = format!("{target:?}");
        let error = SubscriptionTarget::Sns(target).validate().unwrap_err();
        assert_eq!(error.member, member, "{shown}");
    }
}

#[test]
fn a_digest_has_a_length() {
    for good in [None, Some(1), Some(1440)] {
        validate_digest(good).unwrap();
    }
    for bad in [0, 1441, u32::MAX] {
        assert_eq!(validate_digest(Some(bad)).unwrap_err().member, "DigestMinutes", "{bad}");
    }
}

#[test]
fn a_secret_is_strong_enough_and_has_a_use() {
    let webhook = SubscriptionTarget::Webhook { url: "http://h/".to_owned() };
    let with_user = SubscriptionTarget::Smtp(Box::new(smtp()));
    let without = SubscriptionTarget::Smtp(Box::new(SmtpTarget { user: None, ..smtp() }));
    let command = SubscriptionTarget::Command { command: vec!["/bin/x".to_owned()] };
    let topic = SubscriptionTarget::Sns(sns());
    for (target, secret) in [
        (&webhook, None),
        (&webhook, Some("0123456789abcdef")),
        (&with_user, Some("p ä")),
        (&without, None),
        (&command, None),
        (&topic, Some("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")),
    ] {
        target.validate_secret(secret).unwrap();
    }
    for (target, secret) in [
        (&webhook, Some("too-short")),
        (&webhook, Some("0123456789 abcdef")),
        (&with_user, None),
        (&with_user, Some("")),
        (&with_user, Some("secret\r\nRSET")),
        (&without, Some("secret-secret-secret")),
        (&command, Some("secret-secret-secret")),
        (&topic, None),
        (&topic, Some("too-short")),
    ] {
        let error = target.validate_secret(secret).unwrap_err();
        assert_eq!(error.member, "Secret");
        if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
            assert!(!error.message.contains(secret), "{error}");
        }
    }
}

#[test]
fn what_lets_others_send_is_hidden_and_the_rest_is_not() {
    let hook = |url: &str| SubscriptionTarget::Webhook { url: url.to_owned() };
    for (url, shown) in [
        ("https://hooks.example.com/T0/secret", "https://hooks.example.com/…"),
        ("https://ann:secret@example.com:8443?token=secret", "https://example.com:8443/…"),
        ("http://[::1]:80#secret", "http://[::1]:80/…"),
    ] {
        assert_eq!(hook(url).without_secrets(), hook(shown));
    }
    let command = |words: &[&str]| SubscriptionTarget::Command {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
    };
    assert_eq!(
        command(&["/bin/tell", "-k", "secret"]).without_secrets(),
        command(&["/bin/tell", "…"])
    );
    assert_eq!(command(&["/bin/tell"]).without_secrets(), command(&["/bin/tell"]));
}

#[test]
fn nothing_is_sent_to_addresses_of_the_link() {
    let hook = |url: &str| SubscriptionTarget::Webhook { url: url.to_owned() }.validate();
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://169.254.1.1",
        "https://ann@169.254.1.1:8080?x",
        "http://[fe80::1]/x",
        "http://[fe80::1%25eth0]:80/x",
        "http://[::ffff:169.254.169.254]/",
    ] {
        assert!(hook(url).is_err(), "{url}");
    }
    for url in ["http://169.253.1.1/", "http://[2001:db8::1]/", "http://169.254.1.1.example.org/"] {
        hook(url).unwrap();
    }
}

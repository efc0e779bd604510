//! Every event in every state, worded: compared with `messages.txt`, and checked for claims.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use std::fmt::Write;
use std::path::Path;

use provault_domain::care::VaultAlarm;
use provault_domain::{
    Arn, BackupJobState, Notification, NotificationEvent, ResourceTrouble, RestoreJobState, Verdict,
};
use provault_notify::{Message, render};

fn arn(text: &str) -> Arn {
    text.parse().unwrap()
}

/// Everything is known.
fn full(event: NotificationEvent) -> Notification {
    Notification {
        event,
        account: "111122223333".parse().unwrap(),
        region: "us-east-1".parse().unwrap(),
        vault_name: "vault".to_owned(),
        at: "2026-08-02T18:46:02.788123Z".parse().unwrap(),
        job_id: "1b2345b2-f22c-4dab-8eb6-bbc7890ed123".to_owned(),
        started_at: "2026-08-02T13:48:52.2269Z".parse().unwrap(),
        resource_arn: Some(arn(
            "arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-0a",
        )),
        recovery_point_arn: Some(arn("arn:aws:backup:us-east-1:111122223333:recovery-point:p")),
        created_resource_arn: Some(arn(
            "arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-0b",
        )),
        reason: Some("the source is empty".to_owned()),
    }
}

/// Nothing is known but the event.
fn bare(event: NotificationEvent) -> Notification {
    Notification {
        resource_arn: None,
        recovery_point_arn: None,
        created_resource_arn: None,
        reason: None,
        ..full(event)
    }
}

fn events() -> Vec<NotificationEvent> {
    use NotificationEvent as E;
    let mut all = vec![E::BackupJobStarted];
    all.extend(BackupJobState::ALL.iter().map(|state| E::BackupJobEnded(*state)));
    all.push(E::RestoreJobStarted);
    all.extend(RestoreJobState::ALL.iter().map(|state| E::RestoreJobEnded(*state)));
    for verdict in Verdict::ALL {
        for cleaned_up in [true, false] {
            all.push(E::RestoreTestEnded { verdict: *verdict, cleaned_up });
        }
    }
    all.push(E::ValidationAsked);
    all.extend([E::RecoveryPointShrunk, E::RecoveryPointHeld]);
    all.extend(ResourceTrouble::ALL.iter().map(|trouble| E::ResourceAlarm(*trouble)));
    all.extend(VaultAlarm::ALL.iter().map(|alarm| E::VaultAlarm(*alarm)));
    all
}

fn show(out: &mut String, title: &str, message: &Message) {
    writeln!(out, "=== {title}\nSubject: {}", message.subject).unwrap();
    for (name, value) in &message.attributes {
        writeln!(out, "{name}: {value}").unwrap();
    }
    writeln!(out, "\n{}\n", message.text).unwrap();
}

#[test]
fn wording_is_as_committed() {
    let mut text = String::new();
    for event in events() {
        show(&mut text, &format!("{event:?}"), &render(&full(event)));
        show(&mut text, &format!("{event:?}, nothing else known"), &render(&bare(event)));
    }
    let verdict = |reason: &str| Notification {
        reason: Some(reason.to_owned()),
        ..full(NotificationEvent::RestoreTestEnded { verdict: Verdict::Passed, cleaned_up: true })
    };
    for (title, reason) in [
        (
            "passed, an application answered",
            "HTTP 200 returned by the application; recovered after 0.912 s, 2 probes passed, and \
             failed on broken copies.",
        ),
        (
            "passed, files only",
            "files compared; recovered after 0.120 s, 1 probe passed, and failed on broken copies.",
        ),
    ] {
        show(&mut text, title, &render(&verdict(reason)));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/messages.txt");
    if std::env::var_os("PROVAULT_WRITE_MESSAGES").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    // Line by line, so that a difference can be read.
    for (n, (now, then)) in text.lines().zip(committed.lines()).enumerate() {
        assert_eq!(
            now,
            then,
            "line {} of messages.txt; if the new wording is meant, run the test once with \
             PROVAULT_WRITE_MESSAGES=1 and read the difference",
            n + 1
        );
    }
    assert_eq!(text, committed);
}

/// AWS's example of a completed job, to the letter.
#[test]
fn a_completed_backup_reads_as_in_the_developer_guide() {
    let event = NotificationEvent::BackupJobEnded(BackupJobState::Completed);
    let message = render(&Notification { reason: None, ..full(event) });
    assert_eq!(message.subject, "Notification from AWS Backup");
    assert_eq!(
        message.text,
        "An AWS Backup job was completed successfully. Recovery point ARN: \
         arn:aws:backup:us-east-1:111122223333:recovery-point:p. Resource ARN : \
         arn:aws:elasticfilesystem:us-east-1:111122223333:file-system/fs-0a. BackupJob ID : \
         1b2345b2-f22c-4dab-8eb6-bbc7890ed123"
    );
    let attributes: Vec<_> = message.attributes.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(
        attributes,
        [
            ("AccountId", "111122223333"),
            ("EventType", "BACKUP_JOB"),
            ("Id", "1b2345b2-f22c-4dab-8eb6-bbc7890ed123"),
            ("StartTime", "2026-08-02T13:48:52.226Z"),
            ("State", "COMPLETED"),
        ]
    );
}

/// No text claims what its event does not say.
#[test]
fn claims() {
    for event in events() {
        for notification in [full(event), bare(event)] {
            let text = render(&notification).text;
            let success = matches!(
                event,
                NotificationEvent::BackupJobEnded(BackupJobState::Completed)
                    | NotificationEvent::RestoreJobEnded(RestoreJobState::Completed)
                    | NotificationEvent::RestoreTestEnded { verdict: Verdict::Passed, .. }
            );
            assert_eq!(text.contains("success"), success, "{text}");
            assert!(!text.contains("HTTP"), "{text}");
            match event {
                NotificationEvent::RestoreTestEnded { cleaned_up, verdict } => {
                    assert_eq!(text.contains("has been cleaned up"), cleaned_up, "{text}");
                    assert_eq!(text.contains("has NOT been cleaned up"), !cleaned_up, "{text}");
                    assert_eq!(text.contains("FAILED"), verdict == Verdict::Failed, "{text}");
                }
                _ => assert!(!text.contains("cleaned up"), "{text}"),
            }
            // An alarm of a vault is about no one point or resource.
            let is_vaults = matches!(event, NotificationEvent::VaultAlarm(_));
            for (arn, known) in [
                ("Recovery point ARN: arn", &notification.recovery_point_arn),
                ("Resource ARN : arn", &notification.resource_arn),
            ] {
                assert_eq!(text.contains(arn), known.is_some() && !is_vaults, "{text}");
            }
            let told = text.contains("the source is empty.");
            assert_eq!(told, notification.reason.is_some(), "{text}");
        }
    }
}

#[test]
fn reasons_stay_on_their_line_and_within_bounds() {
    let event = NotificationEvent::BackupJobEnded(BackupJobState::Failed);
    let with =
        |reason: &str| render(&Notification { reason: Some(reason.to_owned()), ..bare(event) });
    let message = with("first\r\nBackupJob ID : forged\u{1b}[31m");
    assert_eq!(message.text.lines().count(), 2, "{}", message.text);
    assert!(!message.text.contains('\u{1b}'));
    assert_eq!(with(" \n ").text.lines().count(), 1);
    let long = with(&"é".repeat(100_000));
    assert!(long.text.chars().count() < 2200 && long.text.contains("shortened"));
}

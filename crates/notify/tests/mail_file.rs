//! Mail files: whole or absent, written once, and nothing in them but what was meant.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use std::fs;
use std::path::Path;
use std::thread;

use jiff::Timestamp;
use provault_domain::SubscriptionTarget;
use provault_notify::{
    DEFAULT_TIME_LIMIT, DeliveryContext, DeliveryError, Message, Receipt, deliver,
};

fn context() -> DeliveryContext {
    DeliveryContext {
        delivery_id: "delivery-1".to_owned(),
        topic_arn: "arn:aws:sns:us-east-1:111122223333:alerts".parse().unwrap(),
        at: "2026-08-02T18:46:02.788Z".parse().unwrap(),
        now: "2026-08-02T19:00:00Z".parse().unwrap(),
        subscription_id: "sub-1".to_owned(),
        account: "111122223333".parse().unwrap(),
        time_limit: DEFAULT_TIME_LIMIT,
    }
}

fn message(subject: &str, text: &str) -> Message {
    Message { subject: subject.to_owned(), text: text.to_owned(), attributes: [].into() }
}

fn send(
    directory: &Path,
    to: &str,
    message: &Message,
    context: &DeliveryContext,
) -> Result<Receipt, DeliveryError> {
    let directory = directory.to_str().unwrap().to_owned();
    let target = SubscriptionTarget::MailFile { directory, to: to.to_owned() };
    deliver(&target, None, message, context)
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Header lines, with folded ones put together again, and the body.
fn parts(mail: &str) -> (Vec<String>, String) {
    let (head, body) = mail.split_once("\r\n\r\n").expect("an empty line after the headers");
    (head.replace("\r\n ", " ").split("\r\n").map(str::to_owned).collect(), body.to_owned())
}

#[test]
fn a_whole_rfc_5322_message() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("not/yet/there");
    let status = message("Restore Test Status", "Restore was successful.\nSecond line.");
    let receipt = send(&directory, "ops@example.org", &status, &context()).unwrap();
    assert_eq!(receipt.detail, directory.join("delivery-1.eml").to_str().unwrap());
    assert_eq!(names(&directory), ["delivery-1.eml"]);
    let (headers, body) = parts(&fs::read_to_string(directory.join("delivery-1.eml")).unwrap());
    for header in [
        "From: provault@localhost",
        "To: ops@example.org",
        "Subject: Restore Test Status",
        "Date: Sun, 02 Aug 2026 18:46:02 +0000",
        "Message-ID: <delivery-1@provault.localhost>",
        "X-Provault-Account: 111122223333",
        "Content-Type: text/plain; charset=utf-8",
    ] {
        assert!(headers.iter().any(|h| h == header), "{header} is not in {headers:#?}");
    }
    assert_eq!(body, "Restore was successful.\r\nSecond line.\r\n");
}

#[test]
fn the_same_delivery_is_written_once() {
    let root = tempfile::tempdir().unwrap();
    let first = message("Subject", "first");
    let receipt = send(root.path(), "ops@example.org", &first, &context()).unwrap();
    let bytes = fs::read(root.path().join("delivery-1.eml")).unwrap();
    let again = send(root.path(), "ops@example.org", &message("Subject", "second"), &context());
    assert_eq!(again.unwrap(), receipt);
    assert_eq!(fs::read(root.path().join("delivery-1.eml")).unwrap(), bytes);
    let other = DeliveryContext { delivery_id: "delivery-2".to_owned(), ..context() };
    send(root.path(), "ops@example.org", &first, &other).unwrap();
    assert_eq!(names(root.path()), ["delivery-1.eml", "delivery-2.eml"]);
}

#[test]
fn what_a_killed_try_left_is_taken_away() {
    let root = tempfile::tempdir().unwrap();
    // As left behind before the rename: half a message under a temporary name.
    fs::write(root.path().join(".delivery-1:99999-0.tmp"), "From: prov").unwrap();
    // Another delivery's, still being written, whose id begins alike.
    fs::write(root.path().join(".delivery-12:99999-0.tmp"), "From: prov").unwrap();
    send(root.path(), "ops@example.org", &message("S", "t"), &context()).unwrap();
    assert_eq!(names(root.path()), [".delivery-12:99999-0.tmp", "delivery-1.eml"]);
    assert!(fs::read_to_string(root.path().join("delivery-1.eml")).unwrap().ends_with("t\r\n"));
}

/// A stale worker and its successor may deliver the same thing at once.
#[test]
fn two_workers_at_once_leave_one_whole_file() {
    for _ in 0..50 {
        let root = tempfile::tempdir().unwrap();
        thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        // Losing the race is an error that a retry cures.
                        while let Err(error) =
                            send(root.path(), "ops@example.org", &message("S", "t"), &context())
                        {
                            assert!(error.retryable, "{error}");
                        }
                    })
                })
                .collect();
            for worker in workers {
                worker.join().unwrap();
            }
        });
        assert_eq!(names(root.path()), ["delivery-1.eml"]);
        let mail = fs::read_to_string(root.path().join("delivery-1.eml")).unwrap();
        assert!(mail.ends_with("\r\n\r\nt\r\n"), "{mail}");
    }
}

#[test]
fn headers_cannot_be_smuggled_in() {
    let root = tempfile::tempdir().unwrap();
    let forged =
        message("a\r\nBcc: thief@example.org\r\n\r\nx", "b\r\n.\r\nBcc: thief@example.org");
    send(root.path(), "ops@example.org", &forged, &context()).unwrap();
    let (headers, _) = parts(&fs::read_to_string(root.path().join("delivery-1.eml")).unwrap());
    assert!(!headers.iter().any(|h| h.to_lowercase().starts_with("bcc")), "{headers:#?}");
    assert_eq!(headers.iter().filter(|h| h.starts_with("Subject:")).count(), 1);

    for to in [
        "",
        "ops",
        "ops@example.org\r\nBcc: thief@example.org",
        "ops@example.org, thief@example.org",
        "Ops <ops@example.org>",
        "ops@example.org\0",
    ] {
        let error = send(root.path(), to, &forged, &context()).unwrap_err();
        assert!(!error.retryable, "{to:?}: {error}");
    }
    for id in ["", ".", "..", "../x", "a/b", ".hidden", "a\r\nb", "a\0b", &"x".repeat(129)] {
        let bad = DeliveryContext { delivery_id: id.to_owned(), ..context() };
        let error = send(root.path(), "ops@example.org", &forged, &bad).unwrap_err();
        assert!(!error.retryable, "{id:?}: {error}");
    }
    assert_eq!(names(root.path()), ["delivery-1.eml"]);
}

#[test]
fn other_scripts_and_long_lines_arrive() {
    let root = tempfile::tempdir().unwrap();
    let long = message("Prüfung ✓", &"ä".repeat(5000));
    send(root.path(), "ops@example.org", &long, &context()).unwrap();
    let bytes = fs::read(root.path().join("delivery-1.eml")).unwrap();
    assert!(bytes.is_ascii());
    assert!(bytes.split(|b| *b == b'\n').all(|line| line.len() <= 999), "RFC 5322's line limit");
}

#[test]
fn dates_no_mail_can_bear() {
    for at in [Timestamp::MIN, Timestamp::MAX] {
        let root = tempfile::tempdir().unwrap();
        let odd = DeliveryContext { at, ..context() };
        send(root.path(), "ops@example.org", &message("S", "t"), &odd).unwrap();
    }
}

#[test]
fn a_directory_that_cannot_be_is_worth_a_retry() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let error = send(&file, "ops@example.org", &message("S", "t"), &context()).unwrap_err();
    assert!(error.retryable && error.message.contains("cannot be written"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "in the way");
}

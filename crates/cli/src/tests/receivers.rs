//! Subscriptions of every kind, tests of them, and deliveries that were given up.

use serde_json::{Value, json};

use super::commands::{refused, run};
use super::server::{Reply, Request, Server, error, ok};
use crate::exit::Exit;

const TARGET: &str = "POST /provault/v1/topics/ops/subscriptions";

/// A server that makes every subscription.
fn server() -> Server {
    Server::start(|request: &Request| match request.line().as_str() {
        TARGET => ok(&json!({ "SubscriptionId": "sub-1", "TopicArn": "arn:aws:sns:x:1:ops",
            "HasSecret": true, "CreationDate": 0 })),
        line => error(404, "ResourceNotFoundException", &format!("nothing at {line}")),
    })
}

fn subscribe(server: &Server, options: &[&str]) -> super::commands::Ran {
    let ran = run(server, &[&["topic", "subscribe", "ops"], options].concat());
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    ran
}

fn sent(server: &Server) -> Value {
    server.requests().last().unwrap().json()
}

#[test]
fn receivers_of_every_kind() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    std::fs::write(&file, "a secret of the file\nand not this\n").unwrap();
    let file = file.to_str().unwrap();
    let server = server();
    let hook = "https://h/x";

    subscribe(&server, &["--webhook", hook]);
    assert_eq!(sent(&server), json!({ "Webhook": hook }));
    let ran = subscribe(&server, &["--webhook", hook, "--secret-file", file, "--event", "A"]);
    assert_eq!(ran.out, "sub-1\n", "a secret that was there before is not shown");
    let secret = "a secret of the file";
    assert_eq!(sent(&server), json!({ "Webhook": hook, "Secret": secret, "Events": ["A"] }));

    // The address has a secret in its path, and comes from a file.
    let path = directory.path().join("hook");
    std::fs::write(&path, format!("{hook}\n")).unwrap();
    let hook_file = path.to_str().unwrap();
    subscribe(&server, &["--webhook-file", hook_file]);
    assert_eq!(sent(&server), json!({ "Webhook": hook }));
    subscribe(&server, &["--webhook-file", hook_file, "--secret-file", file]);
    assert_eq!(sent(&server), json!({ "Webhook": hook, "Secret": secret }));
    let before = server.requests().len();
    std::fs::write(&path, "\n").unwrap();
    let ran = run(&server, &["topic", "subscribe", "ops", "--webhook-file", hook_file]);
    assert_eq!((ran.exit, server.requests().len()), (Exit::Usage, before), "{}", ran.err);

    let smtp = ["--smtp", "mail.example.org", "--mail-from", "p@h", "--mail-to", "o@h"];
    subscribe(&server, &smtp);
    let plain = json!({ "Server": "mail.example.org", "From": "p@h", "To": "o@h" });
    assert_eq!(sent(&server), json!({ "Smtp": plain }));
    let more = [
        "--smtp-tls",
        "implicit",
        "--smtp-user",
        "me",
        "--password-file",
        file,
        "--ca-file",
        "/etc/ca.pem",
    ];
    subscribe(&server, &[&smtp[..], &more].concat());
    let full = json!({ "Server": "mail.example.org", "Tls": "implicit", "User": "me",
        "From": "p@h", "To": "o@h", "CaFile": "/etc/ca.pem" });
    assert_eq!(sent(&server), json!({ "Smtp": full, "Secret": secret }));

    let topic = "arn:aws:sns:eu-central-1:123456789012:backups";
    let sns = ["--sns", topic, "--sns-access-key", "AKIAIOSFODNN7EXAMPLE", "--secret-file", file];
    subscribe(&server, &sns);
    let target = json!({ "TopicArn": topic, "AccessKeyId": "AKIAIOSFODNN7EXAMPLE" });
    assert_eq!(sent(&server), json!({ "Sns": target, "Secret": secret }));

    subscribe(&server, &["--command", "/usr/bin/page --who 'on call'"]);
    assert_eq!(sent(&server), json!({ "Command": ["/usr/bin/page", "--who", "on call"] }));
    subscribe(&server, &["--mail-dir", "/var/spool/x", "--mail-to", "o@h", "--digest", "60"]);
    let mail = json!({ "Directory": "/var/spool/x", "To": "o@h" });
    assert_eq!(sent(&server), json!({ "MailFile": mail, "DigestMinutes": 60 }));
}

#[test]
fn a_new_secret_is_shown_once() {
    let server = server();
    let ran = subscribe(&server, &["--webhook", "http://h", "--new-secret"]);
    let secret = sent(&server)["Secret"].as_str().unwrap().to_owned();
    assert!(secret.len() == 64 && secret.bytes().all(|b| b.is_ascii_hexdigit()), "{secret}");
    assert_eq!(ran.out, format!("sub-1\n{secret}\n"));
    assert!(ran.err.contains("shown this once") && !ran.err.contains(&secret), "{}", ran.err);
    let ran = subscribe(&server, &["--webhook", "http://h", "--new-secret", "--json"]);
    let other = sent(&server)["Secret"].clone();
    assert_ne!(other, secret);
    assert_eq!(ran.json()["Secret"], other);
    assert_eq!(ran.json()["SubscriptionId"], "sub-1");
}

#[test]
fn options_that_do_not_belong_together_are_refused() {
    let smtp = ["--smtp", "h", "--mail-from", "p@h", "--mail-to", "o@h"];
    for options in [
        &["--webhook", "http://h", "--command", "/bin/x"][..],
        &["--webhook", "http://h", "--webhook-file", "f"],
        &["--webhook-file", "f", "--mail-to", "o@h"],
        &["--webhook-file", "f", "--sns-endpoint", "https://h"],
        &["--webhook", "http://h", "--secret-file", "f", "--new-secret"],
        &["--webhook", "http://h", "--mail-to", "o@h"],
        &["--webhook", "http://h", "--smtp-tls", "none"],
        &["--webhook", "http://h", "--digest", "0"],
        &["--command", "/bin/x", "--new-secret"],
        &["--command", ""],
        &["--smtp", "h", "--mail-to", "o@h"],
        &["--smtp", "h", "--mail-from", "p@h"],
        &[&smtp[..], &["--smtp-user", "me"]].concat()[..],
        &[&smtp[..], &["--password-file", "f"]].concat()[..],
        &[&smtp[..], &["--smtp-tls", "perhaps"]].concat()[..],
        &[&smtp[..], &["--new-secret"]].concat()[..],
        &["--sns", "arn", "--sns-access-key", "AKIA"],
        &["--sns", "arn", "--secret-file", "f"],
        &["--webhook", "http://h", "--sns-endpoint", "https://h"],
        &["--mail-dir", "/d", "--mail-to", "o@h", "--ca-file", "/f"],
    ] {
        let line = [&["topic", "subscribe", "ops"], options].concat();
        assert!(!refused(&line).is_empty(), "{options:?}");
    }
}

#[test]
fn a_test_tells_whether_it_arrived() {
    let server = Server::start(|request: &Request| match request.path.as_str() {
        "/provault/v1/subscriptions/good/test" => {
            ok(&json!({ "Delivered": true, "Detail": "HTTP 204 from http://h" }))
        }
        "/provault/v1/subscriptions/bad/test" => {
            ok(&json!({ "Delivered": false, "Detail": "http://h answers HTTP 500." }))
        }
        path => error(404, "ResourceNotFoundException", path),
    });
    let ran = run(&server, &["subscription", "test", "good"]);
    assert_eq!((ran.exit, &*ran.out), (Exit::Done, "delivered: HTTP 204 from http://h\n"));
    let ran = run(&server, &["subscription", "test", "bad"]);
    assert_eq!(
        (ran.exit, &*ran.out),
        (Exit::Failed, "not delivered: http://h answers HTTP 500.\n")
    );
    assert_eq!(run(&server, &["subscription", "test", "none"]).exit, Exit::Failed);
}

#[test]
fn dead_deliveries_are_listed_shown_and_sent_again() {
    let delivery = |state: &str| {
        json!({ "DeliveryId": "d-1", "SubscriptionId": "sub-1", "TopicArn": "arn:aws:sns:x:1:ops",
            "Subject": "S", "Message": "M", "JobId": "j-1", "State": state, "Attempts": 33,
            "LastError": "http://h answers HTTP 500.", "CreationDate": 0 })
    };
    let server = Server::start(move |request: &Request| -> Reply {
        match request.line().as_str() {
            "GET /provault/v1/deliveries?state=DEAD" | "GET /provault/v1/deliveries?jobId=j-1" => {
                ok(&json!({ "Deliveries": [delivery("DEAD")] }))
            }
            "GET /provault/v1/deliveries/d-1" => ok(&delivery("DEAD")),
            "POST /provault/v1/deliveries/d-1/send-again" => ok(&delivery("WAITING")),
            "DELETE /provault/v1/deliveries/d-1" => ok(&json!({})),
            line => error(404, "ResourceNotFoundException", line),
        }
    });
    for list in [&["delivery", "list", "--dead"][..], &["delivery", "list", "--job", "j-1"]] {
        let ran = run(&server, list);
        assert!(ran.out.contains("d-1") && ran.out.contains("HTTP 500"), "{}{}", ran.out, ran.err);
    }
    let shown = run(&server, &["delivery", "show", "d-1"]).out;
    assert!(shown.contains("Last error") && shown.contains("HTTP 500"), "{shown}");
    let ran = run(&server, &["delivery", "send-again", "d-1"]);
    assert_eq!((ran.exit, &*ran.out), (Exit::Done, "delivery d-1 is WAITING\n"), "{}", ran.err);
    assert_eq!(run(&server, &["delivery", "forget", "d-1"]).exit, Exit::Done);
    assert_eq!(run(&server, &["delivery", "forget", "d-2"]).exit, Exit::Failed);
}

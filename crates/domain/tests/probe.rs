//! Probes: which questions are refused, and how they are called.

#![allow(clippy::unwrap_used)] // In a test's helper, too, a panic is the report.

use provault_domain::probe::pattern;
use provault_domain::{Assertion, Probe};
use serde_json::json;

fn tcp(send: &[u8], assertions: Vec<Assertion>) -> Probe {
    Probe::Tcp { port: 6379, send: send.to_vec(), assertions, timeout_seconds: 10 }
}

fn command(words: &[&str], assertions: Vec<Assertion>) -> Probe {
    let command = words.iter().map(|word| (*word).to_owned()).collect();
    Probe::Command { command, assertions, timeout_seconds: 60 }
}

fn contains(text: &str) -> Assertion {
    Assertion::BodyContains { text: text.to_owned() }
}

fn matches(pattern: &str) -> Assertion {
    Assertion::BodyMatches { pattern: pattern.to_owned() }
}

fn refused(probe: &Probe) -> String {
    probe.validate().expect_err(&format!("{probe:?}")).member
}

#[test]
fn what_could_never_be_asked_is_refused_by_its_member() {
    let long = |seconds| Probe::Command {
        command: vec!["true".to_owned()],
        assertions: vec![],
        timeout_seconds: seconds,
    };
    let least = Assertion::JsonAtLeast { pointer: "/n".to_owned(), minimum: 1 };
    for (probe, member) in [
        (Probe::Tcp { port: 0, send: vec![], assertions: vec![], timeout_seconds: 1 }, "Port"),
        (
            Probe::Tcp { port: 1, send: vec![], assertions: vec![], timeout_seconds: 0 },
            "TimeoutSeconds",
        ),
        (tcp(&[0; 4097], vec![]), "Send"),
        (tcp(b"", vec![contains("")]), "Assertions"),
        (tcp(b"", vec![matches("(")]), "Assertions"),
        (tcp(b"", vec![matches("x*")]), "Assertions"),
        (tcp(b"", vec![Assertion::Status { equals: 200 }]), "Assertions"),
        (tcp(b"", vec![Assertion::ExitCode { equals: 0 }]), "Assertions"),
        (tcp(b"", vec![least]), "Assertions"),
        (command(&[], vec![]), "Command"),
        (command(&["", "x"], vec![]), "Command"),
        (command(&["x", "a\0b"], vec![]), "Command"),
        (command(&["x"], vec![Assertion::Status { equals: 200 }]), "Assertions"),
        (long(0), "TimeoutSeconds"),
        (long(3601), "TimeoutSeconds"),
        (
            Probe::Http {
                port: 80,
                path: "/".to_owned(),
                assertions: vec![Assertion::ExitCode { equals: 0 }],
            },
            "Assertions",
        ),
    ] {
        assert_eq!(refused(&probe), member, "{probe:?}");
    }
}

#[test]
fn what_can_be_asked_is_taken_and_comes_back_from_the_catalog() {
    for probe in [
        tcp(b"", vec![]),
        tcp(b"\xff\0PING\r\n", vec![contains("+PONG"), matches(r"^\+PONG\r\n")]),
        command(&["./check.sh", "a b"], vec![Assertion::ExitCode { equals: 3 }, matches("(?i)OK")]),
    ] {
        probe.validate().unwrap();
        let text = serde_json::to_string(&probe).unwrap();
        assert_eq!(serde_json::from_str::<Probe>(&text).unwrap(), probe, "{text}");
    }
    // What is left out is at its default, whatever is added to probes later.
    let short: Probe = serde_json::from_value(json!({ "type": "tcp", "port": 25 })).unwrap();
    assert_eq!(
        short,
        Probe::Tcp { port: 25, send: vec![], assertions: vec![], timeout_seconds: 10 }
    );
    let short = json!({ "type": "command", "command": ["true"] });
    assert_eq!(serde_json::from_value::<Probe>(short).unwrap(), command(&["true"], vec![]));
}

#[test]
fn a_label_is_short_and_says_what_is_asked() {
    assert_eq!(tcp(b"", vec![]).label(), "tcp:6379");
    assert_eq!(command(&["./check.sh", "--all"], vec![]).label(), "command:./check.sh --all");
    let long = command(&["sh", "-c", &"ü".repeat(500)], vec![]).label();
    assert_eq!(long.chars().count(), "command:".len() + 61);
    assert!(long.ends_with("ü…"));
}

#[test]
fn only_what_talks_to_an_application_needs_one() {
    assert!(tcp(b"", vec![]).needs_service() && tcp(b"", vec![]).needs_isolation());
    let check = command(&["true"], vec![]);
    assert!(!check.needs_service() && check.needs_isolation());
    assert!(!Probe::Files.needs_isolation());
}

#[test]
fn patterns_look_at_bytes_and_have_a_limit() {
    assert!(pattern(r"^220[ -]").unwrap().is_match(b"220 mail ready\r\n"));
    assert!(!pattern(r"^220").unwrap().is_match(b"hello\n220"));
    assert!(pattern(r"(?m)^220").unwrap().is_match(b"hello\n220"));
    assert!(pattern(r"\xff\d").unwrap().is_match(b"\xfe\xff7"));
    let error = pattern("(x{999}){999}").unwrap_err().to_string();
    assert!(error.contains("regular expression"), "{error}");
    let error = pattern("a(b").unwrap_err().to_string();
    assert!(error.contains("'a(b'") && error.contains("unclosed group"), "{error}");
}

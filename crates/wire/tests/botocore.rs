//! The wire, compared with botocore: it makes the requests we decode and reads the answers we make.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests too.

mod common;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use common::{Samples, calls, fitting};
use provault_wire::{Operation, Pattern, ServiceError, Shape, match_route};
use serde_json::{Value, json};

/// Runs the peer and gives its lines.
fn peer(mode: &str, input: &[Value]) -> Vec<Value> {
    let root = env!("CARGO_MANIFEST_DIR");
    let mut child = Command::new("python3")
        .arg(format!("{root}/tests/botocore_peer.py"))
        .arg(format!("{root}/../../model/backup-2018-11-15.json"))
        .arg(mode)
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| {
            panic!("cannot run python3 ({e}): install Python 3 and `pip install botocore`")
        });
    let mut stdin = child.stdin.take().unwrap();
    let mut text = String::new();
    for line in input {
        text.push_str(&line.to_string());
        text.push('\n');
    }
    let feeder = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !errors.contains("No module named 'botocore'"),
        "this test needs botocore: pip install botocore"
    );
    assert!(output.status.success(), "botocore_peer.py {mode} failed:\n{errors}");
    feeder.join().unwrap().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn requests_made_by_botocore_are_routed_decoded_and_valid() {
    let calls: BTreeMap<Operation, _> = calls().into_iter().map(|c| (c.operation, c)).collect();
    let requests = peer("requests", &[]);
    assert_eq!(requests.len(), 9 * Operation::ALL.len());
    for request in requests {
        let text = |key: &str| request[key].as_str().unwrap();
        let operation: Operation = text("operation").parse().unwrap();
        let (path, query) = text("target").split_once('?').unwrap_or((text("target"), ""));
        let route =
            match_route(text("method"), path, query).unwrap_or_else(|e| panic!("{operation}: {e}"));
        assert_eq!(route.operation, operation);
        let body = text("body").as_bytes();
        let (decoded, validated) = (calls[&operation].decode)(&route, query, body)
            .unwrap_or_else(|e| panic!("{operation}: {e}\n{request}"));
        assert_eq!(decoded, request["members"], "{operation}\n{request}");
        validated.unwrap_or_else(|e| panic!("{operation}: {e}\n{request}"));
    }
}

#[test]
fn answers_made_by_us_are_read_by_botocore() {
    let mut answers = Vec::new();
    let mut wanted = Vec::new();
    for calls in calls() {
        for seed in 0..6 {
            let sample = calls.operation.output().map_or(json!({}), |output| {
                Samples::new(seed).structure(output, |required| required || seed % 3 != 0)
            });
            answers.push(json!({
                "operation": calls.operation.name(),
                "status": calls.operation.success_status(),
                "headers": {},
                "body": String::from_utf8((calls.respond)(sample.clone())).unwrap(),
            }));
            wanted.push(sample);
        }
    }
    let read = peer("responses", &answers);
    assert_eq!(read.len(), wanted.len());
    for ((answer, read), wanted) in answers.iter().zip(read).zip(wanted) {
        assert_eq!(read, wanted, "{answer}");
    }
}

#[test]
fn errors_are_read_by_botocore() {
    let mut answers = Vec::new();
    let mut wanted = Vec::new();
    for operation in Operation::ALL {
        let modelled = operation.errors().iter().map(|shape| ServiceError::new(shape, "why & how"));
        for error in modelled.chain([ServiceError::not_implemented(operation)]) {
            for header in [true, false] {
                let headers =
                    if header { json!({"x-amzn-ErrorType": error.name}) } else { json!({}) };
                answers.push(json!({
                    "operation": operation.name(),
                    "status": error.status,
                    "headers": headers,
                    "body": String::from_utf8(error.to_body()).unwrap(),
                }));
                wanted.push(error.clone());
            }
        }
    }
    let read = peer("responses", &answers);
    assert_eq!(read.len(), wanted.len());
    for ((answer, read), wanted) in answers.iter().zip(read).zip(wanted) {
        assert_eq!(read["Error"]["Message"], wanted.message, "{answer}");
        // Without the header botocore looks for `code`, not `Code`: the server must send it.
        if answer["headers"].get("x-amzn-ErrorType").is_some() {
            assert_eq!(read["Error"]["Code"], wanted.name.as_ref(), "{answer}");
        }
    }
}

#[test]
fn patterns_agree_with_pythons_engine() {
    let mut patterns = BTreeMap::new();
    for operation in Operation::ALL {
        for member in operation.input().members {
            collect(member.shape, &mut patterns);
        }
    }
    assert_eq!(patterns.len(), 11);
    let mut candidates = Vec::new();
    let mut ours = Vec::new();
    for pattern in patterns.values() {
        for text in edits(fitting(pattern.text)) {
            ours.push((pattern.matches)(&text));
            candidates.push(json!({"pattern": pattern.text, "text": text}));
        }
    }
    let theirs = peer("patterns", &candidates);
    assert_eq!(theirs.len(), ours.len());
    let mut matched = 0;
    for ((candidate, theirs), ours) in candidates.iter().zip(theirs).zip(ours) {
        assert_eq!(theirs, json!(ours), "{candidate}");
        matched += usize::from(ours);
    }
    // The comparison means something only where both answers occur.
    assert!(matched > 500 && candidates.len() - matched > 500, "{matched} of {}", candidates.len());
}

fn collect(shape: &'static Shape, patterns: &mut BTreeMap<&'static str, &'static Pattern>) {
    match shape {
        Shape::String { pattern: Some(pattern), .. } => {
            patterns.insert(pattern.text, pattern);
        }
        Shape::List { member, .. } => collect(member, patterns),
        Shape::Map { key, value, .. } => {
            collect(key, patterns);
            collect(value, patterns);
        }
        Shape::Structure(structure) => {
            for member in structure.members {
                collect(member.shape, patterns);
            }
        }
        _ => {}
    }
}

/// The text with one character inserted, replaced or removed anywhere, and of other lengths.
fn edits(text: &str) -> Vec<String> {
    const CHARACTERS: &[char] =
        &['a', 'Z', '0', '-', '_', '.', ':', '/', '*', ' ', '\n', '\u{b}', '\u{85}', 'ë', '٣', '%'];
    let chars: Vec<char> = text.chars().collect();
    let join = |head: &[char], middle: &str, tail: &[char]| -> String {
        head.iter().collect::<String>() + middle + &tail.iter().collect::<String>()
    };
    let mut all: Vec<String> =
        ["", " ", "\n", "\t \u{b}", "\u{85}", "\u{a0}"].map(str::to_owned).into();
    for suffix in ["-s3alias", "-ext-s3alias", "s3alias", "--s3alias-"] {
        all.push(format!("{text}{suffix}"));
    }
    for length in [1, 2, 3, 11, 12, 13, 49, 50, 51, 199, 200, 201] {
        all.push("a".repeat(length));
        all.push("1".repeat(length));
        all.push(format!("{text}{}", "a".repeat(length)));
    }
    for index in 0..=chars.len() {
        let (head, tail) = chars.split_at(index);
        for c in CHARACTERS {
            all.push(join(head, &c.to_string(), tail));
            if !tail.is_empty() {
                all.push(join(head, &c.to_string(), &tail[1..]));
            }
        }
        if !tail.is_empty() {
            all.push(join(head, "", &tail[1..]));
        }
    }
    all
}

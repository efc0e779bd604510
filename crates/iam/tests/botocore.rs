//! Requests signed by botocore, the reference that most clients rest on: each must verify as it
//! would stand on the wire, and none may verify once any one part of it was changed.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

mod common;

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Request, key, time};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use provault_iam::{AccessKey, Ini, normalize_path};
use serde_json::Value;

const RANDOM_REQUESTS: &str = "400";

struct Case {
    line: String,
    kind: String,
    request: Request,
    key: AccessKey,
    region: String,
    now: Timestamp,
}

fn python(arguments: &[&str]) -> String {
    let output = Command::new("python3")
        .args(arguments)
        .output()
        .expect("python3 must be installed: it runs botocore, the oracle of this test");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "the botocore oracle failed; install it with `pip install botocore` for the python3 in \
         PATH: {errors}"
    );
    String::from_utf8(output.stdout).unwrap()
}

fn read(line: &str) -> Case {
    let value: Value = serde_json::from_str(line).unwrap();
    let text = |name: &str| value[name].as_str().unwrap().to_owned();
    let mut headers = HeaderMap::new();
    for pair in value["headers"].as_array().unwrap() {
        let name = HeaderName::from_bytes(pair[0].as_str().unwrap().as_bytes()).unwrap();
        // HTTP servers strip the blanks around a value.
        let content = pair[1].as_str().unwrap().trim_matches([' ', '\t']);
        headers.append(name, HeaderValue::from_str(content).unwrap());
    }
    Case {
        line: line.to_owned(),
        kind: text("kind"),
        request: Request {
            method: Method::from_bytes(text("method").as_bytes()).unwrap(),
            path: text("path"),
            query: text("query"),
            headers,
            body: STANDARD.decode(text("body")).unwrap(),
        },
        key: key(&text("access_key_id"), &text("secret"), value["token"].as_str()),
        region: text("region"),
        now: time(&text("date")),
    }
}

fn cases() -> Vec<Case> {
    let seed = std::env::var("PROVAULT_TEST_SEED")
        .unwrap_or_else(|_| Timestamp::now().as_nanosecond().to_string());
    println!("PROVAULT_TEST_SEED={seed} repeats these requests");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/botocore_signer.py");
    let cases: Vec<Case> = python(&[script, &seed, RANDOM_REQUESTS]).lines().map(read).collect();
    for kind in ["client", "header", "presigned"] {
        let count = cases.iter().filter(|case| case.kind == kind).count();
        println!("{count} requests of kind {kind}");
        assert!(count >= 20, "only {count} requests of kind {kind}");
    }
    cases
}

#[test]
fn what_botocore_signs_verifies() {
    for case in cases() {
        let verified = case
            .request
            .verify(&case.key, case.now)
            .unwrap_or_else(|error| panic!("{error}\n{}", case.line));
        assert_eq!(verified.region, case.region);
        assert_eq!(verified.access_key_id, case.key.access_key_id);
        assert_eq!(verified.signed_at, case.now);
        assert_eq!(verified.presigned, case.kind == "presigned");

        // What is not signed may change on the way.
        let mut proxied = case.request.clone();
        proxied.set("user-agent", "a proxy");
        proxied.set("x-forwarded-for", "192.0.2.1");
        proxied.verify(&case.key, case.now).unwrap();
    }
}

/// Replaces one character by another of its sort, so that the request stays well-formed.
fn flip(c: char) -> char {
    match c {
        '0'..='8' => (c as u8 + 1) as char,
        '9' => '0',
        'z' => 'y',
        'Z' => 'Y',
        c if c.is_ascii_alphabetic() => (c as u8 + 1) as char,
        _ => 'q',
    }
}

fn with_flipped(text: &str, at: usize) -> String {
    text.chars().enumerate().map(|(i, c)| if i == at { flip(c) } else { c }).collect()
}

/// What a query means: its decoded pairs, in any order.
fn meaning(query: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).collect::<Vec<u8>>()
    };
    let mut pairs: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect();
    pairs.sort();
    pairs
}

fn signed_headers(request: &Request) -> Vec<String> {
    let list = if let Some(value) = request.headers.get("authorization") {
        let (_, rest) = value.to_str().unwrap().split_once("SignedHeaders=").unwrap();
        rest.split(',').next().unwrap().to_owned()
    } else {
        let (_, rest) = request.query.split_once("X-Amz-SignedHeaders=").unwrap();
        rest.split('&').next().unwrap().replace("%3B", ";")
    };
    list.split(';').map(str::to_owned).collect()
}

/// Every way to change one part of a request.
fn mutants(original: &Request) -> Vec<(String, Request)> {
    let mut mutants = Vec::new();
    let mut mutate = |name: String, change: &dyn Fn(&mut Request)| {
        let mut mutant = original.clone();
        change(&mut mutant);
        mutants.push((name, mutant));
    };
    mutate("method".into(), &|r| {
        r.method = if r.method == Method::PUT { Method::DELETE } else { Method::PUT };
    });
    for at in 0..original.path.chars().count() {
        let path = with_flipped(&original.path, at);
        if normalize_path(&path) != normalize_path(&original.path) {
            mutate(format!("path {path}"), &|r| r.path.clone_from(&path));
        }
    }
    for path in [format!("{}x", original.path), format!("/x{}", original.path)] {
        mutate(format!("path {path}"), &|r| r.path.clone_from(&path));
    }
    for at in 0..original.query.chars().count() {
        let query = with_flipped(&original.query, at);
        if meaning(&query) != meaning(&original.query) {
            mutate(format!("query {query}"), &|r| r.query.clone_from(&query));
        }
    }
    let joiner = if original.query.is_empty() { "" } else { "&" };
    for extra in ["x", "delete", "a=b", "=x"] {
        mutate(format!("query with {extra}"), &|r| r.query.extend([joiner, extra]));
    }
    if !original.query.is_empty() {
        let pairs: Vec<&str> = original.query.split('&').collect();
        for at in 0..pairs.len() {
            let mut rest = pairs.clone();
            let gone = rest.remove(at);
            mutate(format!("query without {gone}"), &|r| r.query = rest.join("&"));
            let doubled = format!("{}&{gone}", original.query);
            mutate(format!("query with {gone} twice"), &|r| r.query.clone_from(&doubled));
        }
    }
    for name in signed_headers(original) {
        let value = original.headers[&name].to_str().unwrap().to_owned();
        mutate(format!("header {name} changed"), &|r| r.set(&name, &format!("{value}x")));
        mutate(format!("header {name} removed"), &|r| {
            r.headers.remove(&name);
        });
        mutate(format!("header {name} sent again"), &|r| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            r.headers.append(name, HeaderValue::from_static("again"));
        });
        if let Some(at) = value.find(|c: char| c.is_ascii_alphanumeric()) {
            let flipped = with_flipped(&value, at);
            mutate(format!("header {name} flipped"), &|r| r.set(&name, &flipped));
        }
    }
    mutate("body longer".into(), &|r| r.body.push(b' '));
    for at in [0, original.body.len() / 2] {
        if at < original.body.len() {
            mutate(format!("body byte {at}"), &|r| r.body[at] ^= 1);
            mutate(format!("body cut at {at}"), &|r| r.body.truncate(at));
        }
    }
    if let Some(value) = original.headers.get("authorization") {
        let value = value.to_str().unwrap().to_owned();
        for at in 0..value.chars().count() {
            let flipped = with_flipped(&value, at);
            mutate(format!("Authorization {flipped}"), &|r| r.set("authorization", &flipped));
        }
        mutate("Authorization removed".into(), &|r| {
            r.headers.remove("authorization");
        });
        let cut = value[..value.len() - 1].to_owned();
        mutate("signature one digit short".into(), &|r| r.set("authorization", &cut));
        let none = value[..value.len() - 64].to_owned();
        mutate("signature empty".into(), &|r| r.set("authorization", &none));
        let upper = format!("{none}{}", value[value.len() - 64..].to_uppercase());
        if upper != value {
            mutate("signature in upper case".into(), &|r| r.set("authorization", &upper));
        }
    }
    mutants
}

#[test]
fn what_was_changed_after_signing_is_refused() {
    let mut count = 0;
    for case in cases() {
        for (name, mutant) in mutants(&case.request) {
            count += 1;
            let answer = mutant.verify(&case.key, case.now);
            assert!(answer.is_err(), "accepted after: {name}\n{}", case.line);
        }
        let secret = case.key.secret.expose_secret();
        for at in 0..secret.len() {
            count += 1;
            let token = case.key.session.as_ref().map(|session| session.token.expose_secret());
            let other = key(&case.key.access_key_id, &with_flipped(secret, at), token);
            let error = case.request.verify(&other, case.now).unwrap_err();
            assert_eq!(error.code(), "InvalidSignatureException", "{}", case.line);
        }
    }
    println!("{count} changed requests were refused");
    assert!(count > 10_000);
}

#[test]
fn a_replay_is_refused_once_the_window_has_passed() {
    for case in cases().iter().filter(|case| case.kind != "presigned") {
        let window = SignedDuration::from_mins(15);
        case.request.verify(&case.key, case.now + window).unwrap();
        let late = case.now + window + SignedDuration::from_secs(1);
        let error = case.request.verify(&case.key, late).unwrap_err();
        assert_eq!((error.code(), error.status().as_u16()), ("RequestExpired", 403));
    }
}

#[test]
fn ini_files_read_as_botocore_reads_them() {
    const SCRIPT: &str = "
import json, sys
from botocore.configloader import raw_config_parse
from botocore.exceptions import ConfigParseError
try:
    print(json.dumps(raw_config_parse(sys.argv[1], parse_subsections=False)))
except ConfigParseError:
    print('null')
";
    let texts = [
        "[default]\naws_access_key_id = AKIA\naws_secret_access_key=a/b+c=\n",
        "[default]\nAWS_Access_Key_ID: x = y\n[other one]\nkey =\nempty=\n\n",
        "# comment\n; another\n\n[a]\nk = v # not a comment\n  # a comment\nl = w\n",
        "[a]\ns3 =\n  signature_version = s3v4\n\n  style = path\n\nnext = 1\n",
        "[a]\nk = one\n\ttwo\n\n\n[b]\nk = v\n",
        "[ spaced ]\n  k = v\n  l = w\nm = x\n",
        "[a] trailing\nk = [b]\n[x]y]\nk=1\n",
        "[DEFAULT]\nregion = r\n[a]\nk = v\n[b]\nregion = own\n",
        "[a]\r\nk = v\r\nl = w\r\n",
        "[a]\nk = v\nno pair\n",
        "k = v\n[a]\n",
        "[a]\nk = v\n[a]\nl = w\n",
        "[a]\nk = v\nK = w\n",
        "[]\nk = v\n",
        "[a]\n= v\n",
        "",
        "[a]\nk = v\n  [b]\nl = w\n",
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials");
    for text in texts {
        std::fs::write(&path, text).unwrap();
        let theirs: Value =
            serde_json::from_str(&python(&["-c", SCRIPT, path.to_str().unwrap()])).unwrap();
        let ours = Ini::parse(text).map_or(Value::Null, |ini| {
            ini.names()
                .map(|name| (name.to_owned(), serde_json::json!(ini.section(name).unwrap())))
                .collect()
        });
        assert_eq!(ours, theirs, "{text:?}");
    }
}

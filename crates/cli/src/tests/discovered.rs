//! What was found on the host, and registering it.

use serde_json::{Value, json};

use super::commands::{FS, refused, run};
use super::server::{Server, error, ok};
use crate::exit::Exit;

fn found(location: &str, name: &str, coverage: &str, more: &Value) -> Value {
    let mut found = json!({ "Kind": "filesystem", "Location": location, "What": "files",
        "Name": name, "Config": { "path": location }, "Bytes": 2048, "Files": 3, "Counted": true,
        "NewestDate": 0, "Coverage": coverage });
    for (key, value) in more.as_object().unwrap() {
        found[key] = value.clone();
    }
    found
}

fn server() -> Server {
    Server::start(|request| match request.line().as_str() {
        "GET /provault/v1/discoveries" | "GET /provault/v1/discoveries?seconds=5" => ok(&json!({
            "Found": [
                found("/etc", "etc", "NOTHING", &json!({})),
                found("/home/ann", "home-ann", "INSIDE", &json!({ "Resources": ["homes"] })),
                found("/srv/app", "srv-app", "PARTS", &json!({ "Resources": ["inner"] })),
                found("/var/lib/mysql", "var-lib-mysql", "NOTHING",
                    &json!({ "Advice": "not consistent.", "Counted": false })),
            ],
            "Cut": ["the time was over"], "Notes": [],
        })),
        "POST /provault/v1/resources" => {
            let asked = request.json();
            ok(&json!({ "ResourceArn": FS, "Kind": "filesystem", "ResourceType": "EFS",
                "Name": asked["Name"], "Config": asked["Config"], "Tags": asked["Tags"],
                "Probes": [], "TestAfterBackup": false, "CreationDate": 0 }))
        }
        line => error(404, "ResourceNotFoundException", line),
    })
}

fn registered(server: &Server) -> Vec<Value> {
    let requests = server.requests();
    requests.iter().filter(|r| r.method == "POST").map(|r| r.json()["Name"].clone()).collect()
}

#[test]
fn what_is_unprotected_is_listed_with_what_to_know() {
    let server = server();
    let ran = run(&server, &["discover", "--seconds", "5"]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert!(ran.out.contains("/etc") && ran.out.contains("parts: inner"), "{}", ran.out);
    assert!(!ran.out.contains("/home/ann"), "it is protected: {}", ran.out);
    assert!(ran.out.contains(">2.0 KiB"), "not all was counted: {}", ran.out);
    assert!(ran.err.contains("not consistent") && ran.err.contains("time was over"), "{}", ran.err);
    assert!(ran.err.contains("2 of 4 unprotected"), "{}", ran.err);
    let ran = run(&server, &["discover", "--all"]);
    assert!(ran.out.contains("within homes"), "{}", ran.out);
    let ran = run(&server, &["discover", "--json"]);
    assert_eq!(ran.json()["Found"].as_array().unwrap().len(), 4);
    assert_eq!(registered(&server), [] as [Value; 0]);
}

#[test]
fn all_is_what_can_be_copied_as_it_is() {
    let server = server();
    let ran = run(&server, &["discover", "--register", "all", "--tag", "backup=daily", "--json"]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert_eq!(registered(&server), ["etc"]);
    assert_eq!(ran.json()["Resources"][0]["Tags"], json!({ "backup": "daily" }));
    let skipped = ran.json()["Skipped"].as_array().unwrap().len();
    assert_eq!(skipped, 3, "{}", ran.out);
}

#[test]
fn named_ones_are_registered_and_protected_ones_are_not() {
    let server = server();
    let line =
        ["--register", "/var/lib/mysql/", "--register", "srv-app", "--register", "/home/ann"];
    let ran = run(&server, &[&["discover"], &line[..]].concat());
    assert_eq!(registered(&server), ["var-lib-mysql", "srv-app"], "{}", ran.err);
    assert!(ran.err.contains("skipped /home/ann: it is protected by homes"), "{}", ran.err);
    assert!(ran.err.contains("no plan backs them up"), "{}", ran.err);
    let ran = run(&server, &["discover", "--register", "etc", "--register", "/nowhere"]);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("'/nowhere'") && ran.err.contains("resource add"), "{}", ran.err);
    assert_eq!(registered(&server).len(), 2, "nothing is registered when a word names nothing");
    for line in [&["discover", "--tag", "a=b"][..], &["discover", "--seconds", "46"]] {
        assert!(!refused(line).is_empty());
    }
}

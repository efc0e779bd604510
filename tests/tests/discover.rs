//! What stands on this very host, found by a real server and registered.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use provault_tests::{Sandbox, TestServer};
use serde_json::Value;

fn find<'v>(seen: &'v Value, location: &str) -> Option<&'v Value> {
    seen["Found"].as_array().unwrap().iter().find(|one| one["Location"] == location)
}

/// Every Linux has an `/etc` with something in it.
#[test]
fn the_settings_of_the_host_are_found_and_registered() {
    let sandbox = Sandbox::new();
    let data = sandbox.path("server");
    let server = TestServer::start(&data);
    let cli = server.program();
    let discover = ["discover", "--seconds", "5"];
    let seen = cli.json(&discover);
    let etc = find(&seen, "/etc").unwrap_or_else(|| panic!("{seen:#}"));
    assert_eq!(etc["Coverage"], "NOTHING");
    assert!(etc["Files"].as_u64().unwrap() > 0, "{etc}");
    let data = data.to_str().unwrap();
    let own = |one: &&Value| one["Location"].as_str().unwrap().starts_with(data);
    assert!(!seen["Found"].as_array().unwrap().iter().any(|one| own(&one)), "{seen:#}");

    let register = ["--register", "/etc", "--tag", "backup=daily"];
    let made = cli.json(&[&discover[..], &register[..]].concat());
    assert_eq!(made["Resources"][0]["Tags"]["backup"], "daily", "{made:#}");
    let again = cli.json(&[&discover[..], &register[..]].concat());
    assert_eq!(again["Resources"], serde_json::json!([]), "{again:#}");
    assert_eq!(again["Skipped"][0]["Location"], "/etc");
    let seen = cli.json(&discover);
    assert_eq!(find(&seen, "/etc").unwrap()["Coverage"], "REGISTERED");
    let listed = cli.run(0, &["discover", "--seconds", "5"]);
    assert!(!listed.stdout.lines().any(|line| line.starts_with("/etc ")), "{listed}");
    cli.run(2, &["discover", "--seconds", "0"]);
    cli.run(1, &["discover", "--seconds", "5", "--register", "/no/such/thing"]);
}

//! What is shipped beside the program: completions, manual pages, the dashboard, the unit.
#![allow(clippy::unwrap_used, reason = "a test panics where an error surprises it")]

use std::fs;
use std::path::{Path, PathBuf};

use provault_tests::{Finished, Program, Sandbox, TestServer};
use serde_json::Value;

fn packaging(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(file)
}

#[test]
fn shells_and_man_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let made = Finished::of(&mut Program::bare(&["completions", shell]), "it was just there");
        let text = made.expect(0).stdout;
        for word in ["restore-test", "recovery-points", "vault-storage"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
        assert!(!text.contains("__isolate "), "{shell} offers what is hidden");
    }
    let sandbox = Sandbox::new();
    let pages = sandbox.directory("man");
    let directory = pages.to_str().unwrap();
    Finished::of(&mut Program::bare(&["man", directory]), "it was just there").expect(0);
    let page = fs::read_to_string(pages.join("provault-serve.1")).unwrap();
    assert!(page.contains("tls"), "{page}");
    assert!(!pages.join("provault-__isolate.1").exists());
    let missing = Finished::of(&mut Program::bare(&["man", "/nowhere"]), "it was just there");
    assert!(missing.expect(1).stderr.contains("/nowhere"));
}

/// Every metric that the dashboard asks for is one that the server gives, and the token is the file's.
#[test]
fn the_dashboard_asks_for_what_there_is() {
    let sandbox = Sandbox::new();
    let server = TestServer::start(&sandbox.path("server"));
    let source = sandbox.directory("source");
    fs::write(source.join("file"), "text").unwrap();
    let program = server.program();
    program.run(0, &["resource", "add", "filesystem", source.to_str().unwrap(), "--name", "notes"]);
    program.run(0, &["backup", "notes", "--vault", "Default", "--watch"]);
    let token = fs::read_to_string(server.data_dir().join("metrics-token")).unwrap();
    let answer = ureq::get(format!("{}/provault/v1/metrics", server.endpoint()))
        .header("authorization", format!("Bearer {token}"))
        .call()
        .unwrap();
    let metrics = answer.into_body().read_to_string().unwrap();
    let dashboard: Value =
        serde_json::from_slice(&fs::read(packaging("grafana/provault.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() >= 5);
    for panel in panels {
        let asked = panel["targets"][0]["expr"].as_str().unwrap();
        let start = asked.find("provault_").unwrap();
        let name: String = asked[start..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        assert!(metrics.contains(&format!("# TYPE {name} gauge")), "{name} is not in\n{metrics}");
    }
    assert!(metrics.contains("provault_resource_last_backup_timestamp_seconds{resource=\"notes\"}"));
}

#[test]
fn the_unit_starts_the_program_with_options_that_exist() {
    let unit = fs::read_to_string(packaging("systemd/provault.service")).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let help = Finished::of(&mut Program::bare(&["serve", "--help"]), "it was just there").expect(0);
    let mut words = start.split(' ');
    assert!(words.next().unwrap().ends_with("/provault"));
    assert_eq!(words.next(), Some("serve"));
    for option in words.filter(|word| word.starts_with("--")) {
        assert!(help.stdout.contains(option), "{option}");
    }
}

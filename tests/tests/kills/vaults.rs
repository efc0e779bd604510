//! Vaults that come and go, the first of them with the first start.

use std::fs;

use provault_tests::kill::{Begin, Left, Seen, Stage, Work};
use provault_tests::{TestServer, VAULT};
use serde_json::{Value, json};

use crate::ask;

#[test]
fn first_start() {
    let stage = Stage::empty();
    let source = stage.source.clone();
    stage.kill_at_every_commit(&Work {
        name: "first start",
        least: 6,
        begin: Begin::ByItself(&|seen| seen.vaults == [VAULT]),
        check: &|server, _| {
            let resource = server.add_directory("source", &source);
            server.back_up(&resource);
            no_repository_without_a_vault(server);
        },
    });
}

/// Below the data directory lies a repository for each vault, and nothing else.
fn no_repository_without_a_vault(server: &TestServer) {
    let mut vaults = Seen::of(server.api()).unwrap().vaults;
    let entries = fs::read_dir(server.data_dir().join("vaults")).unwrap();
    let mut there: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| name.rsplit_once('-').map_or(name.clone(), |(vault, _)| vault.to_owned()))
        .collect();
    there.sort();
    vaults.sort();
    assert_eq!(there, vaults, "repositories and vaults");
}

#[test]
fn making_of_a_vault() {
    let stage = Stage::new(|_, _| Left::InOrder);
    stage.kill_at_every_commit(&Work {
        name: "making of a vault",
        least: 3,
        begin: Begin::Asked(&|api| ask(api, "PUT", "/backup-vaults/late", &json!({}))),
        check: &|server, seen| {
            no_repository_without_a_vault(server);
            if seen.vaults.len() == 1 {
                server.api().put("/backup-vaults/late", &json!({}));
            }
            server.api().delete("/backup-vaults/late");
            no_repository_without_a_vault(server);
        },
    });
}

#[test]
fn removal_of_a_vault() {
    let stage = Stage::new(|server, _| {
        server.api().put("/backup-vaults/late", &json!({}));
        Left::InOrder
    });
    stage.kill_at_every_commit(&Work {
        name: "removal of a vault",
        least: 3,
        begin: Begin::Asked(&|api| ask(api, "DELETE", "/backup-vaults/late", &Value::Null)),
        check: &|server, seen| {
            no_repository_without_a_vault(server);
            if seen.vaults.len() == 2 {
                server.api().delete("/backup-vaults/late");
            }
            server.api().put("/backup-vaults/late", &json!({}));
            no_repository_without_a_vault(server);
        },
    });
}

//! Runs of care, and imports.

use std::fs;

use provault_tests::kill::{Begin, Left, Stage, Work};
use provault_tests::{Finished, Program, VAULT};
use serde_json::{Value, json};

use crate::{ask, settled, text};

/// Runs of care that are asked for, each of which can be done again afterwards.
fn care(name: &'static str, asked: &Value, least: u64) {
    let stage = Stage::new(|server, stage| {
        server.notify(&stage.receiver);
        let resource = server.add_directory("source", &stage.source);
        // Something to free: what only a deleted point needs, and what another needs too.
        let garbage = stage.source.join("garbage");
        fs::write(&garbage, provault_tests::Random(3).bytes(120_000)).unwrap();
        let gone = server.back_up(&resource);
        server.delete_point(&gone);
        fs::remove_file(garbage).unwrap();
        server.back_up(&resource);
        settled(server);
        Left::InOrder
    });
    let path = format!("/provault/v1/vaults/{VAULT}/care-runs");
    stage.kill_at_every_commit(&Work {
        name,
        least,
        begin: Begin::Asked(&|api| ask(api, "POST", &path, asked)),
        check: &|server, _| {
            for again in [asked, &json!({ "Operation": "CHECK", "ReadData": true })] {
                let run = server.ended_care(&server.start_care(again));
                assert_eq!(run["State"], "COMPLETED", "{run:#}");
                assert_eq!(run["Report"]["Clean"], true, "{run:#}");
            }
        },
    });
}

#[test]
fn care_check() {
    care("check", &json!({ "Operation": "CHECK", "ReadData": true }), 5);
}

#[test]
fn care_prune() {
    care("prune", &json!({ "Operation": "PRUNE" }), 5);
}

#[test]
fn care_repair() {
    care("repair", &json!({ "Operation": "REPAIR", "ReadData": true }), 5);
}

#[test]
fn care_verify() {
    care("verification", &json!({ "Operation": "VERIFY" }), 5);
}

#[test]
fn care_catalog_backup() {
    care("copy of the catalog", &json!({ "Operation": "CATALOG_BACKUP" }), 5);
}

#[test]
fn import_of_a_repository() {
    const SECRET: &str = "the password of an old repository";
    let stage = Stage::new(|_, stage| {
        let password = stage.sandbox.path("password");
        fs::write(&password, SECRET).unwrap();
        let place = stage.sandbox.path("repository");
        let source = stage.source.to_str().unwrap().to_owned();
        for args in [&["init"][..], &["backup", &source], &["backup", &source]] {
            let mut command = Program::bare(&["repository", "--quiet", "--repo"]);
            command.arg(&place).arg("--password-file").arg(&password).args(args);
            command.env("XDG_CACHE_HOME", stage.sandbox.path("cache"));
            let _ = Finished::of(&mut command, "it was just there").expect(0);
        }
        Left::InOrder
    });
    let path = "/provault/v1/vaults/adopted/import";
    let asked = json!({ "Location": stage.sandbox.path("repository"), "Password": SECRET });
    stage.kill_at_every_commit(&Work {
        name: "import",
        least: 6,
        begin: Begin::Asked(&|api| ask(api, "POST", path, &asked)),
        check: &|server, _| {
            for _ in 0..2 {
                let run = server.api().post(path, &asked);
                let run = server.ended_care(text(&run, "CareRunId"));
                assert_eq!(run["State"], "COMPLETED", "{run:#}");
                assert_eq!(settled(server).points_of("adopted").len(), 2, "each snapshot once");
            }
        },
    });
}

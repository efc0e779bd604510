//! `recovery-points`: the vault of a point.

use serde_json::json;

use super::commands::{POINT, basics, run};
use super::retention::shrunk;
use super::server::{Request, Server, ok};
use crate::exit::Exit;

#[test]
fn a_points_vault_is_looked_for() {
    let handler = |request: &Request| {
        if request.path.starts_with("/backup-vaults/b/recovery-points/") {
            return ok(&json!({ "RecoveryPointArn": POINT, "BackupVaultName": "b" }));
        }
        if request.path.starts_with("/provault/v1/recovery-points/") {
            return ok(&shrunk(POINT));
        }
        match request.path.trim_end_matches('/') {
            "/backup-vaults" => ok(&json!({ "BackupVaultList": [
                { "BackupVaultName": "a" }, { "BackupVaultName": "b" } ] })),
            _ => basics(request),
        }
    };
    let server = Server::start(handler);
    let ran = run(&server, &["recovery-points", "show", POINT]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert!(ran.out.contains(POINT), "{}", ran.out);
    let server = Server::start(move |request| {
        if request.path.contains("/recovery-points/") { basics(request) } else { handler(request) }
    });
    let ran = run(&server, &["recovery-points", "delete", POINT]);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("looked in a, b"), "{}", ran.err);
    assert!(server.lines().iter().all(|line| line.starts_with("GET")), "{:?}", server.lines());
}

//! `recovery-points`: the vault of a point, its size, accepting it.

use serde_json::json;

use super::commands::{FS, POINT, basics, run};
use super::server::{Request, Server, ok};
use crate::exit::Exit;

#[test]
fn a_points_vault_is_looked_for() {
    let handler = |request: &Request| {
        if request.path.starts_with("/backup-vaults/b/recovery-points/") {
            return ok(&json!({ "RecoveryPointArn": POINT, "BackupVaultName": "b" }));
        }
        if request.path.starts_with("/provault/v1/recovery-points/") {
            return ok(
                &json!({ "RecoveryPointArn": POINT, "ResourceArn": FS, "Status": "COMPLETED",
                "Good": false, "Shrunk": { "Bytes": 1, "Files": 2, "BytesBefore": 30,
                    "FilesBefore": 40, "BeforeRecoveryPointArn": "arn:before", "Percent": 50 } }),
            );
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
    assert!(ran.out.contains("below 50 %") && ran.out.contains("arn:before"), "{}", ran.out);
    let ran = run(&server, &["--json", "recovery-points", "show", POINT]);
    assert_eq!(ran.json()["Retention"]["Shrunk"]["FilesBefore"], 40);
    let ran = run(&server, &["recovery-points", "accept", POINT]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    let asked = server.lines();
    let asked = asked.iter().find(|line| line.starts_with("POST")).unwrap();
    assert!(asked.ends_with("/accept"), "{asked}");
    let server = Server::start(move |request| {
        if request.path.contains("/recovery-points/") { basics(request) } else { handler(request) }
    });
    let ran = run(&server, &["recovery-points", "delete", POINT]);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("looked in a, b"), "{}", ran.err);
    assert!(server.lines().iter().all(|line| line.starts_with("GET")), "{:?}", server.lines());
}

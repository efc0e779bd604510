//! How recovery points are kept.

use serde_json::{Value, json};

use super::commands::run;
use super::server::{Server, error, ok};
use crate::exit::Exit;

const POINT: &str = "arn:aws:backup:eu-test-1:123456789012:recovery-point:0001";

/// A point that holds much less than the one before it.
pub(super) fn shrunk(point: &str) -> Value {
    json!({ "RecoveryPointArn": point, "ResourceArn": "arn:fs", "Status": "COMPLETED",
        "Good": false, "Shrunk": { "Bytes": 1, "Files": 2, "BytesBefore": 30, "FilesBefore": 40,
            "BeforeRecoveryPointArn": "arn:before", "Percent": 50 } })
}

#[test]
fn a_shrunk_point_is_shown_and_accepted() {
    let server = Server::start(|request| {
        let accepted = request.path.ends_with("/accept");
        if request.path.starts_with("/provault/v1/recovery-points/") {
            let mut point = shrunk(POINT);
            if accepted {
                assert_eq!(request.method, "POST");
                point["Shrunk"]["AcceptanceDate"] = json!(1_700_000_000);
            }
            return ok(&point);
        }
        ok(&json!({ "RecoveryPointArn": POINT, "BackupVaultName": "b" }))
    });
    let show = ["recovery-points", "show", POINT, "--vault", "b"];
    let ran = run(&server, &show);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert!(ran.out.contains("below 50 %") && ran.out.contains("arn:before"), "{}", ran.out);
    let ran = run(&server, &[&["--json"], &show[..]].concat());
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["Retention"]["Shrunk"]["FilesBefore"], 40);
    assert_eq!(json["BackupVaultName"], "b");
    let ran = run(&server, &["recovery-points", "accept", POINT]);
    assert!(ran.out.contains("accepted 2023-11-14"), "{}{}", ran.out, ran.err);
}

#[test]
fn retention_is_changed_by_what_is_named_alone() {
    let server = Server::start(|request| match request.line().as_str() {
        "POST /provault/v1/resources/docs/retention" => ok(&json!({
            "ResourceArn": "arn:fs", "Kind": "filesystem", "ResourceType": "EFS", "Name": "docs",
            "Config": {}, "Tags": {}, "Probes": [], "TestAfterBackup": false, "CreationDate": 0,
            "KeepAtMost": 30 })),
        line => error(404, "ResourceNotFoundException", line),
    });
    let ran = run(&server, &["resource", "retention", "docs", "--keep-at-most", "30"]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert!(ran.out.contains("30 recovery points"), "{}", ran.out);
    assert_eq!(server.requests()[0].json(), json!({ "KeepAtMost": 30 }));
    let ran = run(&server, &["resource", "retention", "docs"]);
    assert_eq!(ran.exit, Exit::Usage);
    assert_eq!(server.requests().len(), 1, "nothing was asked");
}

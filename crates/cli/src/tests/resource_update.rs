//! Changing a resource.

use serde_json::json;

use super::commands::run;
use super::server::{Server, error, ok};
use crate::exit::Exit;

#[test]
fn a_resource_is_changed_by_what_is_named_alone() {
    let server = Server::start(|request| match request.line().as_str() {
        "POST /provault/v1/resources/docs" => ok(&json!({
            "ResourceArn": "arn:fs", "Kind": "filesystem", "ResourceType": "EFS", "Name": "docs",
            "Config": {}, "Tags": {}, "Probes": [], "TestAfterBackup": false, "CreationDate": 0,
            "RpoSeconds": 3600 })),
        line => error(404, "ResourceNotFoundException", line),
    });
    let update =
        |options: &[&str]| run(&server, &[&["resource", "update", "docs"], options].concat());
    let ran = update(&["--rpo", "1h", "--no-rto"]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert_eq!(server.requests()[0].json(), json!({ "RpoSeconds": 3600, "RtoSeconds": 0 }));
    let ran = update(&["--service", "./app -v", "--start-timeout", "5s", "--name", "papers"]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    let asked = json!({ "Name": "papers",
        "Service": { "Command": ["./app", "-v"], "Environment": {}, "StartTimeoutSeconds": 5 } });
    assert_eq!(server.requests()[1].json(), asked);
    let ran = update(&["--no-service", "--no-probes"]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert_eq!(server.requests()[2].json(), json!({ "RemoveService": true, "Probes": [] }));
    assert_eq!(update(&[]).exit, Exit::Usage);
    assert_eq!(server.requests().len(), 3, "nothing was asked");
}

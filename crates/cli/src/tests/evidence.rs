//! The chain of evidence on the command line.

use serde_json::json;

use super::commands::run;
use super::server::{Server, ok};
use crate::exit::Exit;

#[test]
fn a_broken_chain_is_no_success() {
    let chain = |state: &str| {
        ok(
            &json!({ "Chain": state, "Records": [{ "Sequence": 1, "RecordedAt": "2024-05-31T13:00:00Z",
            "Body": { "resource_name": "docs", "verdict": "PASSED" }, "PreviousHash": "0", "Hash": "1" }] }),
        )
    };
    let server = Server::script(vec![chain("VERIFIED"), chain("record 1 does not follow")]);
    let ran = run(&server, &["evidence", "list"]);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert!(ran.out.contains("docs") && ran.out.contains("PASSED"), "{}", ran.out);
    let ran = run(&server, &["evidence", "list", "--json"]);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("broken: record 1"), "{}", ran.err);
    assert_eq!(server.lines(), ["GET /provault/v1/evidence"; 2]);
}

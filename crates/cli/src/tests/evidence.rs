//! The chain of evidence on the command line.

use clap::Parser as _;
use serde_json::{Value, json};

use super::commands::{Ran, with_context};
use super::server::{Server, error, ok};
use crate::EvidenceRecords;
use crate::commands::evidence::ListEvidenceArgs;
use crate::error::CliError;
use crate::exit::Exit;

/// As the binary has it.
#[derive(Debug, clap::Parser)]
struct List {
    #[command(flatten)]
    args: ListEvidenceArgs,
}

fn list(server: &Server, json: bool) -> Ran {
    let List { args } = List::try_parse_from(["list"]).unwrap();
    with_context(server, json, None, None, |context| args.run(context))
}

fn record(sequence: i64) -> Value {
    json!({
        "Account": "123456789012", "Sequence": sequence, "RecordedAt": "2024-05-31T13:00:00Z",
        "Body": { "resource_name": "docs", "verdict": "PASSED" }, "PreviousHash": "0", "Hash": "1",
    })
}

#[test]
fn a_broken_chain_is_no_success() {
    let chain = |state: &str| ok(&json!({ "Chain": state, "Records": [record(1)] }));
    let server = Server::script(vec![chain("VERIFIED"), chain("record 1 does not follow")]);
    let ran = list(&server, false);
    assert_eq!(ran.exit, Exit::Done, "{}", ran.err);
    assert!(ran.out.contains("docs") && ran.out.contains("PASSED"), "{}", ran.out);
    let ran = list(&server, true);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("broken: record 1"), "{}", ran.err);
    assert_eq!(server.lines(), ["GET /provault/v1/evidence"; 2]);
}

/// The numbers of the records that came, and how it ended.
fn read(server: &Server) -> (Vec<i64>, Ran) {
    let mut numbers = Vec::new();
    let ran = with_context(server, false, None, None, |context| {
        for record in EvidenceRecords::of(context.client) {
            numbers.push(record?.sequence);
        }
        Ok::<_, CliError>(Exit::Done)
    });
    (numbers, ran)
}

#[test]
fn the_whole_chain_is_asked_for_page_by_page() {
    let page = |numbers: &[i64]| {
        let records: Vec<Value> = numbers.iter().map(|number| record(*number)).collect();
        ok(&json!({ "Records": records }))
    };
    let server = Server::script(vec![page(&[1, 2]), page(&[3]), page(&[])]);
    let (numbers, ran) = read(&server);
    assert_eq!((numbers, ran.exit), (vec![1, 2, 3], Exit::Done));
    let path = "GET /provault/v1/evidence/records?after=";
    assert_eq!(server.lines(), [0, 2, 3].map(|after| format!("{path}{after}")));
    // One that leads back ends; so does a refusal.
    let (numbers, ran) = read(&Server::script(vec![page(&[1, 2]), page(&[2])]));
    assert_eq!(numbers, [1, 2]);
    assert!(ran.exit != Exit::Done && ran.err.contains("does not come after"), "{}", ran.err);
    let denied = error(403, "AccessDeniedException", "not for you");
    let (numbers, ran) = read(&Server::script(vec![page(&[1]), denied]));
    assert_eq!((numbers, ran.exit), (vec![1], Exit::Failed), "{}", ran.err);
}

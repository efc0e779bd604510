//! `evidence`: the record of all verdicts.

use provault_wire::provault::{EvidenceList, EvidenceRecord};
use serde_json::Value;

use super::Context;
use crate::client::Answer;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, dash};
use crate::resolve;

/// What the server says of a chain that verifies.
const WHOLE: &str = "VERIFIED";

#[derive(Debug, clap::Subcommand)]
pub enum EvidenceCommand {
    /// List the records, and say whether the chain of their hashes is whole (exit code 1 if not)
    List {
        /// Only those of this resource, by name or ARN
        #[arg(long)]
        resource: Option<String>,
    },
}

impl EvidenceCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let Self::List { resource } = self;
        let arn = resource.map(|name| resolve::resource_arn(context.client, &name)).transpose()?;
        let query: Vec<(&str, &str)> =
            arn.iter().map(|arn| ("resourceArn", arn.as_str())).collect();
        let list: Answer<EvidenceList> = context.client.own("GET", "/evidence", &query, None)?;
        context.out.show(&list.json, || {
            let rows = list.typed.records.iter().map(row);
            let chain = View::fields().field("Chain", list.typed.chain.clone());
            vec![
                View::table(&["NUMBER", "RECORDED", "RESOURCE", "VERDICT", "REASON", "HASH"])
                    .rows(rows),
                chain,
            ]
        })?;
        if list.typed.chain == WHOLE {
            return Ok(Exit::Done);
        }
        context.out.note(&format!(
            "error: the chain of evidence is broken: {}; records were changed or removed outside of \
             the server",
            list.typed.chain
        ))?;
        Ok(Exit::Failed)
    }
}

/// The body is shown as it was hashed, whatever version of the server wrote it.
fn row(record: &EvidenceRecord) -> Vec<String> {
    let text = |keys: [&str; 2]| {
        let found = keys.iter().find_map(|key| record.body.get(*key)).and_then(Value::as_str);
        dash(found.map(str::to_owned))
    };
    vec![
        record.sequence.to_string(),
        record.recorded_at.clone(),
        text(["resource_name", "ResourceName"]),
        text(["verdict", "Verdict"]),
        text(["reason", "Reason"]),
        record.hash.clone(),
    ]
}

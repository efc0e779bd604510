//! `evidence`: the record of all verdicts. Listing it is here; exporting and verifying it needs the
//! rule by which it is chained, which the binary knows.

use provault_wire::provault::{EvidenceList, EvidencePage, EvidenceRecord};
use serde_json::Value;

use super::Context;
use crate::client::{Answer, Client};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, dash};
use crate::resolve;

/// What the server says of a chain that verifies.
const WHOLE: &str = "VERIFIED";

/// Arguments of `evidence list`.
#[derive(Debug, clap::Args)]
pub struct ListEvidenceArgs {
    /// Only those of this resource, by name or ARN
    #[arg(long)]
    resource: Option<String>,
}

impl ListEvidenceArgs {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let arn =
            self.resource.map(|name| resolve::resource_arn(context.client, &name)).transpose()?;
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

/// The records of the account's whole chain, oldest first, asked for a page at a time.
pub struct EvidenceRecords<'a> {
    client: &'a Client,
    after: i64,
    page: std::vec::IntoIter<EvidenceRecord>,
    over: bool,
}

impl<'a> EvidenceRecords<'a> {
    pub(crate) fn of(client: &'a Client) -> Self {
        Self { client, after: 0, page: Vec::new().into_iter(), over: false }
    }

    fn next_page(&mut self) -> Result<(), CliError> {
        let after = self.after.to_string();
        let query = [("after", after.as_str())];
        let page: Answer<EvidencePage> =
            self.client.own("GET", "/evidence/records", &query, None)?;
        // A page that leads back would be asked for for ever.
        let last = page.typed.records.last().map_or(i64::MAX, |record| record.sequence);
        if last <= self.after {
            return Err(CliError::Answer {
                what: format!("GET /evidence/records?after={after}"),
                why: format!("record {last} does not come after record {after}"),
                endpoint: self.client.endpoint().to_owned(),
            });
        }
        (self.after, self.over) = (last, page.typed.records.is_empty());
        self.page = page.typed.records.into_iter();
        Ok(())
    }
}

impl Iterator for EvidenceRecords<'_> {
    type Item = Result<EvidenceRecord, CliError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(record) = self.page.next() {
            return Some(Ok(record));
        }
        if self.over {
            return None;
        }
        if let Err(error) = self.next_page() {
            self.over = true;
            return Some(Err(error));
        }
        self.page.next().map(Ok)
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

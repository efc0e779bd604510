//! The chain of evidence.

use provault_domain::Evidence;
use provault_wire::provault as wire;

use super::{Answered, Call, invalid};
use crate::answer::Answer;

pub(super) async fn list(call: &Call<'_>) -> Answered {
    let resource_arn = call.query.get("resourceArn");
    let found = Call::done(call.app.list_evidence(call.caller, resource_arn).await)?;
    let records = found.records.into_iter().map(record).collect();
    Answer::json(&wire::EvidenceList { records, chain: found.chain })
}

pub(super) async fn records(call: &Call<'_>) -> Answered {
    let after = match call.query.get("after") {
        None => 0,
        Some(text) => text.parse().ok().filter(|after| *after >= 0).ok_or_else(|| {
            invalid(&format!("after: {text:?} is not the number of a record, nor 0."))
        })?,
    };
    let records = Call::done(call.app.evidence_after(call.caller, after).await)?;
    Answer::json(&wire::EvidencePage { records: records.into_iter().map(record).collect() })
}

fn record(record: Evidence) -> wire::EvidenceRecord {
    wire::EvidenceRecord {
        account: record.account.to_string(),
        sequence: record.sequence,
        recorded_at: record.recorded_at.to_string(),
        body: record.body,
        previous_hash: record.previous_hash,
        hash: record.hash,
    }
}

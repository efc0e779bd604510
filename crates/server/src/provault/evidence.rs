//! The chain of evidence.

use provault_wire::provault as wire;

use super::{Answered, Call};
use crate::answer::Answer;

pub(super) async fn list(call: &Call<'_>) -> Answered {
    let resource_arn = call.query.get("resourceArn");
    let found = Call::done(call.app.list_evidence(call.caller, resource_arn).await)?;
    let records = found.records.into_iter().map(|record| wire::EvidenceRecord {
        sequence: record.sequence,
        recorded_at: record.recorded_at.to_string(),
        body: record.body,
        previous_hash: record.previous_hash,
        hash: record.hash,
    });
    Answer::json(&wire::EvidenceList { records: records.collect(), chain: found.chain })
}

//! Logs of jobs, and stopping a restore.

use provault_domain::StepRecord;
use provault_wire::provault as wire;

use super::{Answered, Call};
use crate::answer::Answer;
use crate::convert::epoch;

pub(super) async fn log(call: &Call<'_>, id: &str) -> Answered {
    let log = Call::done(call.app.job_log(call.caller, id).await)?;
    let entries = log.events.into_iter().map(|event| wire::JobLogEntry {
        sequence: event.seq,
        time: epoch(event.at),
        state: event.state,
        step: event.step.map(step),
        message: event.message,
    });
    let skipped = log.skipped.into_iter();
    Answer::json(&wire::JobLog {
        job_id: id.to_owned(),
        job_type: log.job_type.as_str().to_owned(),
        entries: entries.collect(),
        skipped: skipped
            .map(|skipped| wire::SkippedPath { path: skipped.path, reason: skipped.reason })
            .collect(),
    })
}

pub(super) async fn stop_restore(call: &Call<'_>, id: &str) -> Answered {
    Call::nothing(call.app.stop_restore_job(call.caller, id).await)
}

/// A timed step.
pub(super) fn step(step: StepRecord) -> wire::Step {
    wire::Step {
        name: step.name,
        start_date: epoch(step.started_at),
        seconds: seconds(step.millis),
        ok: step.ok,
        detail: step.detail,
    }
}

/// Milliseconds as seconds.
pub(super) fn seconds(millis: u64) -> f64 {
    // No step takes 2^53 milliseconds.
    #[allow(clippy::cast_precision_loss)]
    let millis = millis as f64;
    millis / 1000.0
}

//! Whether all is well.

use provault_app::{ResourceView, StandingAlarm};
use provault_wire::provault as wire;

use super::{Answered, Call};
use crate::answer::Answer;
use crate::convert::epoch;

pub(super) async fn describe(call: &Call<'_>) -> Answered {
    let status = Call::done(call.app.status(call.caller).await)?;
    Answer::json(&wire::Status {
        time: epoch(status.at),
        well: status.is_well(),
        resources: status.resources.into_iter().map(resource).collect(),
        alarms: status.alarms.into_iter().map(alarm).collect(),
    })
}

fn resource(view: ResourceView) -> wire::ResourceStatus {
    wire::ResourceStatus {
        resource_arn: view.resource.arn.to_string(),
        name: view.resource.name,
        protection: view.protection.to_string(),
        verdict: view.verdict.map(|verdict| verdict.to_string()),
        last_backup_time: view.last_backup_at.map(epoch),
        troubles: view.troubles,
    }
}

fn alarm(standing: StandingAlarm) -> wire::StandingAlarm {
    wire::StandingAlarm {
        backup_vault_name: standing.vault_name,
        alarm: standing.alarm.to_string(),
        since: epoch(standing.note.since),
        message: standing.note.message,
    }
}

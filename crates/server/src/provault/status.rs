//! Whether all is well.

use jiff::Timestamp;
use provault_app::{Finding, Level, NewExemption, ResourceView, StandingAlarm};
use provault_domain::{Exemption, ResourceTrouble};
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

pub(super) async fn doctor(call: &Call<'_>) -> Answered {
    let findings = Call::done(call.app.doctor(call.caller).await)?;
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Fine);
    let finding = |finding: Finding| wire::Finding {
        check: finding.check,
        state: finding.level.as_str().to_owned(),
        detail: finding.detail,
    };
    Answer::json(&wire::Health {
        state: worst.as_str().to_owned(),
        findings: findings.into_iter().map(finding).collect(),
    })
}

fn resource(view: ResourceView) -> wire::ResourceStatus {
    wire::ResourceStatus {
        resource_arn: view.resource.arn.to_string(),
        name: view.resource.name,
        protection: view.protection.to_string(),
        verdict: view.verdict.map(|verdict| verdict.to_string()),
        last_backup_time: view.last_backup_at.map(epoch),
        troubles: view.troubles.into_iter().map(trouble).collect(),
        exemption: view.exemption.map(exemption),
        left_out: view.left_out,
    }
}

pub(super) fn trouble((kind, reason): (ResourceTrouble, String)) -> wire::Trouble {
    wire::Trouble { kind: kind.to_string(), reason }
}

pub(super) fn exemption(exemption: Exemption) -> wire::Exemption {
    wire::Exemption {
        reason: exemption.reason,
        owner: exemption.owner,
        end_date: epoch(exemption.until),
        creation_date: epoch(exemption.created_at),
    }
}

pub(super) async fn exempt(call: &Call<'_>, name: &str) -> Answered {
    let input: wire::ExemptResourceInput = call.input()?;
    // What is too large for the type saturates, and no such time exists.
    #[allow(clippy::cast_possible_truncation)]
    let millis = (input.end_date * 1000.0) as i64;
    let until = Timestamp::from_millisecond(millis)
        .map_err(|_| super::invalid("EndDate: there is no such time; give seconds since 1970."))?;
    let new = NewExemption { reason: input.reason, owner: input.owner, until };
    let view = Call::done(call.app.exempt_resource(call.caller, name, new).await)?;
    Answer::json(&super::resource::resource(view))
}

pub(super) async fn end_exemption(call: &Call<'_>, name: &str) -> Answered {
    let view = Call::done(call.app.end_exemption(call.caller, name).await)?;
    Answer::json(&super::resource::resource(view))
}

fn alarm(standing: StandingAlarm) -> wire::StandingAlarm {
    wire::StandingAlarm {
        backup_vault_name: standing.vault_name,
        alarm: standing.alarm.to_string(),
        since: epoch(standing.note.since),
        message: standing.note.message,
    }
}

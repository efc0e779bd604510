//! How recovery points are kept, beside the lifecycle of each.

use provault_app::RetentionUpdate;
use provault_domain::RecoveryPoint;
use provault_wire::provault as wire;

use super::resource::resource;
use super::{Answered, Call};
use crate::answer::Answer;
use crate::convert::epoch;

pub(super) async fn update(call: &Call<'_>, name: &str) -> Answered {
    let input: wire::UpdateRetentionInput = call.input()?;
    let update = RetentionUpdate {
        shrink_alarm_percent: input.shrink_alarm_percent,
        keep_at_most: input.keep_at_most,
    };
    let updated = call.app.update_retention(call.caller, name, update).await;
    Answer::json(&resource(Call::done(updated)?))
}

pub(super) async fn describe(call: &Call<'_>, arn: &str) -> Answered {
    Answer::json(&retention(&Call::done(call.app.point_retention(call.caller, arn).await)?))
}

pub(super) async fn accept(call: &Call<'_>, arn: &str) -> Answered {
    Answer::json(&retention(&Call::done(call.app.accept_recovery_point(call.caller, arn).await)?))
}

fn retention(point: &RecoveryPoint) -> wire::PointRetention {
    wire::PointRetention {
        recovery_point_arn: point.arn.to_string(),
        resource_arn: point.resource_arn.to_string(),
        status: point.shown_status().to_string(),
        status_message: point.shown_message(),
        good: point.is_good(),
        hold: point.hold.as_ref().map(|hold| wire::PointHold {
            since: epoch(hold.since),
            message: hold.message.clone(),
        }),
        shrunk: point.shrunk.as_ref().map(|shrunk| wire::ShrunkPoint {
            bytes: point.backup_size_bytes,
            files: point.files(),
            before_recovery_point_arn: shrunk.before.to_string(),
            bytes_before: shrunk.bytes_before,
            files_before: shrunk.files_before,
            percent: shrunk.percent,
            acceptance_date: shrunk.accepted_at.map(epoch),
        }),
    }
}

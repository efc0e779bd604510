//! What a restore would do.

use provault_app::{Counted, PreviewChange, PreviewLink, RestorePreview, StartRestore};
use provault_wire::provault as wire;

use super::{Answered, Call};
use crate::answer::Answer;
use crate::convert::epoch;

pub(super) async fn preview(call: &Call<'_>) -> Answered {
    let input: wire::PreviewRestoreInput = call.input()?;
    let ask = StartRestore {
        recovery_point_arn: input.recovery_point_arn,
        metadata: input.metadata,
        resource_type: input.resource_type,
        ..StartRestore::default()
    };
    let preview = Call::done(call.app.preview_restore(call.caller, ask).await)?;
    Answer::json(&answer(preview))
}

fn answer(preview: RestorePreview) -> wire::RestorePreview {
    let RestorePreview { target, in_place, counts, changes, left_off, outside, leads_outside } =
        preview;
    wire::RestorePreview {
        target,
        in_place,
        created: counted(counts.created),
        overwritten: counted(counts.overwritten),
        updated: counted(counts.updated),
        same: counted(counts.same),
        kept_newer: counted(counts.kept_newer),
        kept: counted(counts.kept),
        deleted: counted(counts.deleted),
        conflicts: counted(counts.conflicts),
        changes: changes.into_iter().map(change).collect(),
        changes_left_off: left_off,
        outside_links: outside.into_iter().map(link).collect(),
        outside_link_count: leads_outside,
    }
}

fn counted(counted: Counted) -> wire::PreviewCount {
    wire::PreviewCount { entries: counted.entries, bytes: counted.bytes }
}

fn link(link: PreviewLink) -> wire::PreviewLink {
    wire::PreviewLink { path: link.path, points_to: link.target }
}

fn change(change: PreviewChange) -> wire::PreviewChange {
    wire::PreviewChange {
        newer: change.is_newer(),
        path: change.path,
        action: change.fate.as_str().to_owned(),
        bytes: change.bytes,
        existing_time: change.existing_mtime.map(epoch),
        recovery_point_time: change.stored_mtime.map(epoch),
    }
}

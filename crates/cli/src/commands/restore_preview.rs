//! `restore --dry-run`: what a restore would do.

use provault_wire::provault::{PreviewChange, PreviewCount, PreviewRestoreInput, RestorePreview};

use super::Context;
use super::resource::body;
use crate::client::Answer;
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, dash, epoch, size};

/// Asks, and shows the answer. A conflict is no failure of the command: the restore is not asked for.
pub(super) fn show(context: &Context<'_>, asked: &PreviewRestoreInput) -> Result<Exit, CliError> {
    let path = "/restore-previews";
    let answer: Answer<RestorePreview> =
        context.client.own("POST", path, &[], Some(&body(asked)?))?;
    context.out.show(&answer.json, || views(&answer.typed))?;
    if answer.typed.conflicts.entries > 0 {
        context.out.note(
            "note: the restore would be refused while a directory is where a file belongs, or the \
             reverse: move it away, leave it out with --exclude, or use --overwrite always",
        )?;
    }
    if answer.typed.outside_link_count > 0 {
        context.out.note(
            "note: symbolic links would be made that point out of the target; the restore follows none, \
             but whoever uses what it made may",
        )?;
    }
    Ok(Exit::Done)
}

fn views(preview: &RestorePreview) -> Vec<View> {
    let count = |counted: &PreviewCount| {
        let bytes = i64::try_from(counted.bytes).unwrap_or(i64::MAX);
        Some(format!("{}, {}", counted.entries, size(bytes)))
    };
    let some = |counted: &PreviewCount| count(counted).filter(|_| counted.entries > 0);
    let mut fields = View::fields()
        .field("Target", preview.target.clone())
        .field("In place", Some(if preview.in_place { "yes" } else { "no" }.to_owned()))
        .field("Created", count(&preview.created));
    if preview.in_place {
        fields = fields
            .field("Overwritten", count(&preview.overwritten))
            .field("Set right", count(&preview.updated))
            .field("The same", count(&preview.same))
            .field("Left, newer", count(&preview.kept_newer))
            .field("Left", some(&preview.kept))
            .field("Deleted", some(&preview.deleted))
            .field("Conflicts", some(&preview.conflicts));
    }
    let mut views = vec![fields];
    if !preview.changes.is_empty() {
        let title = match preview.changes_left_off {
            0 => "Changes".to_owned(),
            more => format!("Changes (the first; {more} more are only counted)"),
        };
        let headers = ["ACTION", "PATH", "SIZE", "NOW FROM", "BACKED UP FROM", "NEWER"];
        views.push(View::table(&headers).titled(title).rows(preview.changes.iter().map(row)));
    }
    if !preview.outside_links.is_empty() {
        let title = match preview
            .outside_link_count
            .saturating_sub(preview.outside_links.len() as u64)
        {
            0 => "Links out of the target".to_owned(),
            more => format!("Links out of the target (the first; {more} more are only counted)"),
        };
        let links = preview.outside_links.iter();
        let rows = links.map(|link| vec![link.path.clone(), link.points_to.clone()]);
        views.push(View::table(&["PATH", "POINTS TO"]).titled(title).rows(rows));
    }
    views
}

fn row(change: &PreviewChange) -> Vec<String> {
    vec![
        change.action.clone(),
        change.path.clone(),
        size(i64::try_from(change.bytes).unwrap_or(i64::MAX)),
        dash(change.existing_time.map(epoch)),
        dash(change.recovery_point_time.map(epoch)),
        if change.newer { "newer" } else { "-" }.to_owned(),
    ]
}

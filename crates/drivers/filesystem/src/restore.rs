//! Writing a recovery point back.

use std::collections::BTreeSet;
use std::path::Path;

use provault_driver::{
    CreatedResource, DriverError, NodeKind, RestoreOutcome, RestoreRequest, Source, WorkContext,
};

use crate::capture::check;
use crate::config::Config;
use crate::guard::Guard;
use crate::inodes::{Content, Inodes};
use crate::order::{Items, Order, Wanted, job_id};
use crate::staging::{self, Staging};
use crate::writer::{Writer, Written};

/// Restores what is asked for to a place where nothing is; on an error nothing is left.
pub(crate) fn run(
    request: &RestoreRequest<'_>,
    source: &dyn Source,
    context: &WorkContext<'_>,
) -> Result<RestoreOutcome, DriverError> {
    let order = Order::parse(request.metadata)?;
    let job = job_id(request)?;
    let target = order.target(job)?;
    check(context.cancel)?;
    // A job that is run again begins anew.
    staging::discard(&target, job)?;
    let items = order.items.as_ref();
    let staging = Staging::choose(target.clone(), job, items)?;
    let total = look_through(source, items, context)?;
    let written = write(&staging, &target, source, items, total, context).inspect_err(|_| {
        if let Err(error) = staging::discard(&target, job) {
            tracing::error!(%error, job, "cannot remove what an unfinished restore left");
        }
    })?;

    let mut notes = order.notes.clone();
    notes.extend(written.tally.notes());
    let created = if items.is_some() {
        None
    } else {
        let config = Config::parse(&serde_json::json!({ "path": target.to_string_lossy() }))?;
        Some(CreatedResource { name: order.resource_name(job), config: config.to_value() })
    };
    Ok(RestoreOutcome { bytes: written.bytes, files: written.files, created, notes })
}

/// Checks every entry and that every item is there, before anything is made. Returns the bytes
/// there are to write.
fn look_through(
    source: &dyn Source,
    items: Option<&Items>,
    context: &WorkContext<'_>,
) -> Result<u64, DriverError> {
    let mut guard = Guard::default();
    let mut found = BTreeSet::new();
    let mut bytes = 0_u64;
    let mut inodes = Inodes::default();
    for entry in source.entries()? {
        check(context.cancel)?;
        let entry = entry?;
        guard.check(&entry)?;
        if items.is_none_or(|items| items.wants(&entry.path) == Wanted::Yes) {
            if entry.kind == NodeKind::File {
                bytes = bytes.saturating_add(inodes.add(Content::from(&entry.metadata)));
            }
            if items.is_some_and(|items| items.asked.contains_key(&entry.path)) {
                found.insert(entry.path);
            }
        }
    }
    guard.finish()?;
    check(context.cancel)?;
    let missing = items.and_then(|i| i.asked.iter().find(|(path, _)| !found.contains(*path)));
    match missing {
        None => Ok(bytes),
        Some((_, asked)) => Err(DriverError::NoSuchItem { path: asked.clone() }),
    }
}

fn write(
    staging: &Staging,
    target: &Path,
    source: &dyn Source,
    items: Option<&Items>,
    total: u64,
    context: &WorkContext<'_>,
) -> Result<Written, DriverError> {
    let root = staging.create()?;
    let copy = root.try_clone().map_err(crate::capture::io_error("opening", target))?;
    let mut writer = Writer::new(copy, target, source, context, total);
    // The source is asked a second time, so it is checked a second time.
    let mut guard = Guard::default();
    for entry in source.entries()? {
        check(context.cancel)?;
        let entry = entry?;
        guard.check(&entry)?;
        let wanted = items.map_or(Wanted::Yes, |items| items.wants(&entry.path));
        if wanted == Wanted::Yes || (wanted == Wanted::Above && entry.kind == NodeKind::Directory) {
            writer.add(entry)?;
        }
    }
    let written = writer.finish()?;
    check(context.cancel)?;
    staging.put_in_place(&root)?;
    Ok(written)
}

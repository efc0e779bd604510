//! `restore`: a snapshot, or a part of one, to a new place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use provault_driver::entry::printable;
use provault_driver::{
    CancelFlag, Driver as _, DriverError, RestoreRequest, SourceError, WorkContext,
};
use provault_driver_filesystem::FilesystemDriver;
use provault_engine::offline;
use serde_json::json;

use super::context::Context;
use super::failure::Failure;
use super::patterns::{self, Patterns, is_pattern, upwards};
use super::pick::{Filter, Wanted};
use super::progress::Progress;
use super::stored::Stored;
use super::{bytes_text, signals, usage};

/// Restore a snapshot, or a part of one, to a new place.
///
/// Everything comes back as it was: owners (as root), modes, times, attributes, links, holes. Every
/// byte is verified on its way. The target is complete or absent, and nothing is ever written over.
///
/// Without a path, the target gets the whole tree: TARGET/srv/app/... With SNAPSHOT:/srv/app it
/// gets what is in that directory.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// The snapshot: its id, the beginning of it, or latest; with :PATH, a directory in it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: Wanted,
    /// A directory that does not exist yet, or is empty
    #[arg(value_name = "TARGET")]
    target: PathBuf,
    /// Only this path (relative to the snapshot, or to :PATH) and what is below it; may be given
    /// several times. With *, ? or [...] it is a pattern, as for --exclude
    #[arg(short, long, value_name = "PATH|PATTERN")]
    include: Vec<String>,
    /// Leave this out and what is below it; may be given several times: '*.log' at any depth,
    /// '/etc/*' from the top; ** stands for any directories
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Restore all that is whole from a damaged repository, and list the rest. Reads everything
    /// twice
    #[arg(long)]
    skip_damaged: bool,
    #[command(flatten)]
    filter: Filter,
}

pub(crate) fn run(args: &RestoreArgs, context: &Context<'_>) -> Result<(), Failure> {
    let began = Instant::now();
    let cancel = signals::install();
    let exclude = patterns::of_option("--exclude", &args.exclude)?;
    let (patterns, paths): (Vec<String>, Vec<String>) =
        args.include.iter().cloned().partition(|text| is_pattern(text));
    let include = patterns::of_option("--include", &patterns)?;
    // Reserving nothing: a restore beside or into anything is the operator's to say.
    let driver = FilesystemDriver::new();
    let check = |metadata: &BTreeMap<String, String>| {
        driver.check_restore(metadata).map_err(|invalid| {
            // Told in the words of the command line.
            let message = invalid.message.replace("ItemsToRestore", "--include");
            usage(message.replace("targetPath", "TARGET"))
        })
    };
    check(&order(&args.target, &paths)?)?;
    let repository = context.open()?;
    let warn = |text: &str| context.warn(text);
    let snapshot = args.snapshot.find(&repository, &args.filter, &warn)?;
    let source = offline::source(&repository, &snapshot, &args.snapshot.path, &cancel)?;
    let mut source = Stored::new(source, args.snapshot.path.is_empty(), exclude);
    let mut items = paths;
    if !patterns.is_empty() {
        let _progress = Progress::start(context, "looking for what matches");
        items.extend(matches(&source, &include, &patterns, &cancel)?);
    }
    let metadata = order(&args.target, &items)?;
    check(&metadata)?;
    let wanted: BTreeSet<&[u8]> =
        items.iter().map(|item| item.trim_matches('/').as_bytes()).collect();
    let is_wanted =
        |path: &[u8]| wanted.is_empty() || upwards(path).any(|path| wanted.contains(path));
    let lost = if args.skip_damaged {
        let _progress = Progress::start(context, "looking for damage");
        source.leave_out_damaged(&is_wanted, &cancel)?
    } else {
        Vec::new()
    };
    let outcome = {
        let progress = Progress::start(context, "restoring");
        let tell = |done: u64, total: Option<u64>| progress.set(done, total);
        let context = WorkContext { cancel: &cancel, progress: &tell };
        let job = uuid::Uuid::new_v4().to_string();
        let request = RestoreRequest::new(&job, &metadata);
        driver.restore(&request, &source, &context).map_err(|error| match error {
            DriverError::Source(SourceError::Damaged { .. }) => Failure::Damaged(format!(
                "{error}. Nothing was restored; add --skip-damaged to restore all that is whole"
            )),
            error => error.into(),
        })?
    };
    for (path, reason) in &lost {
        context.warn(&format!("not restored: {path}: {reason}"));
    }
    for note in &outcome.notes {
        context.note(note);
    }
    let id = snapshot.id.to_string();
    let seconds = began.elapsed().as_secs_f64();
    let value = json!({
        "message_type": "summary",
        "snapshot_id": id,
        "target": metadata.get("targetPath"),
        "files_restored": outcome.files,
        "bytes_restored": outcome.bytes,
        "seconds_elapsed": seconds,
        "notes": outcome.notes,
        "not_restored": lost
            .iter()
            .map(|(path, reason)| json!({ "path": path, "reason": reason }))
            .collect::<Vec<_>>(),
    });
    let text = format!(
        "restored {} files, {} of snapshot {} to {} in {seconds:.1} s",
        outcome.files,
        bytes_text(outcome.bytes),
        &id[..8],
        args.target.display(),
    );
    context.out.show_line(&value, &text)?;
    if lost.is_empty() {
        return Ok(());
    }
    Err(Failure::Damaged(format!(
        "{} damaged files or directories were not restored; they are listed above",
        lost.len()
    )))
}

/// The paths that the patterns mean.
fn matches(
    source: &Stored,
    include: &Patterns,
    patterns: &[String],
    cancel: &CancelFlag,
) -> Result<Vec<String>, Failure> {
    let found = source.matching(include, cancel)?;
    if found.is_empty() {
        return Err(Failure::Failed(format!(
            "nothing in the snapshot matches --include '{}'; 'provault repository ls' lists what is \
             there",
            patterns.join("' or '")
        )));
    }
    let text = |path: Vec<u8>| {
        String::from_utf8(path).map_err(|error| {
            usage(format!(
                "'{}' matches --include and is not UTF-8; restore the directory that holds it",
                printable(error.as_bytes())
            ))
        })
    };
    found.into_iter().map(text).collect()
}

/// What is asked of the driver.
fn order(target: &Path, include: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let shown = target.display();
    let target = std::path::absolute(target)
        .map_err(|error| usage(format!("'{shown}' is no usable path: {error}")))?;
    let plain: PathBuf = target.components().collect();
    let Some(target) = plain.to_str() else {
        return Err(usage(format!("'{shown}' is not UTF-8; choose another target")));
    };
    let mut metadata = BTreeMap::from([
        ("file-system-id".to_owned(), "fs-00000000000000000".to_owned()),
        ("targetPath".to_owned(), target.to_owned()),
        // Every byte is verified on its way; reading it back is not this command's promise.
        ("verify".to_owned(), "false".to_owned()),
    ]);
    if !include.is_empty() {
        metadata.insert("ItemsToRestore".to_owned(), json!(include).to_string());
    }
    Ok(metadata)
}

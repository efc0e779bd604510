//! `copy`: snapshots of another repository.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use provault_repository::{CopyOptions, CopyReport, SnapshotId};
use serde_json::json;

use super::context::{Context, repository_flag};
use super::failure::Failure;
use super::pick::{Filter, Wanted};
use super::progress::Progress;
use super::{bytes_text, signals, usage};

/// What a copy that was stopped leaves.
const STOPPED: &str = "snapshots that were copied stay, and the next copy goes on";

/// Copy snapshots from another repository.
///
/// Only what is missing here is copied, and everything is verified on the way. Each repository keeps
/// its own key and password.
#[derive(Debug, clap::Args)]
pub(crate) struct CopyArgs {
    /// These snapshots [default: all]
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<Wanted>,
    #[command(flatten)]
    filter: Filter,
    /// The repository to copy from: a directory, or a URL
    #[arg(long, value_name = "PATH|URL")]
    from_repo: String,
    /// File with its password, - for standard input
    #[arg(long, value_name = "FILE")]
    from_password_file: PathBuf,
}

pub(crate) fn run(args: &CopyArgs, context: &Context<'_>) -> Result<(), Failure> {
    let began = Instant::now();
    let cancel = signals::install();
    if args.snapshots.iter().any(|wanted| !wanted.path.is_empty()) {
        return Err(usage("snapshots are copied whole; name them without a path"));
    }
    let from = context.open_other(&args.from_repo, &args.from_password_file)?;
    let mut unreadable = 0;
    let mut ids: Vec<SnapshotId> = Vec::new();
    if args.snapshots.is_empty() {
        let all = from.snapshots()?;
        for (id, error) in &all.damaged {
            context.warn(&format!("snapshot {id} cannot be read there: {error}"));
        }
        unreadable = all.damaged.len();
        ids.extend(all.snapshots.iter().filter(|s| args.filter.lets_through(s)).map(|s| s.id));
    }
    for wanted in &args.snapshots {
        let warn = |text: &str| context.warn(text);
        let id = wanted.find(&from, &args.filter, &warn)?.id;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let to = context.open()?;
    let report = {
        let progress = Arc::new(Progress::start(context, "copying"));
        let heard = Arc::clone(&progress);
        let options = CopyOptions {
            cancel: repository_flag(&cancel),
            progress: Some(Arc::new(move |stats| heard.set(stats.bytes, None))),
        };
        to.copy_from(&from, &ids, &options).map_err(|error| Failure::from(error).after(STOPPED))?
    };
    tell(context, &report, unreadable, began.elapsed().as_secs_f64())
}

fn tell(
    context: &Context<'_>,
    report: &CopyReport,
    unreadable: usize,
    seconds: f64,
) -> Result<(), Failure> {
    let pairs = |pairs: &[(SnapshotId, SnapshotId)]| -> Vec<_> {
        let pair = |(original, id): &(SnapshotId, SnapshotId)| json!({ "source": original.to_string(), "snapshot_id": id.to_string() });
        pairs.iter().map(pair).collect()
    };
    let failed: Vec<_> = report
        .failed
        .iter()
        .map(|(id, error)| json!({ "source": id.to_string(), "error": error.to_string() }))
        .collect();
    let value = json!({
        "message_type": "summary",
        "copied": pairs(&report.copied),
        "present": pairs(&report.present),
        "failed": failed,
        "unreadable": unreadable,
        "trees": report.stats.trees,
        "blobs_copied": report.stats.blobs,
        "bytes_copied": report.stats.bytes,
        "total_duration": seconds,
    });
    for (there, here) in &report.copied {
        context.note(&format!("snapshot {} is {} here", there.short(), here.short()));
    }
    for (id, error) in &report.failed {
        context.warn(&format!("snapshot {id} is not whole there, and was not copied: {error}"));
    }
    let text = format!(
        "{} snapshots copied, {} were here already; {} blobs, {} in {seconds:.1} s",
        report.copied.len(),
        report.present.len(),
        report.stats.blobs,
        bytes_text(report.stats.bytes),
    );
    context.out.show_line(&value, &text)?;
    let lacking = report.failed.len() + unreadable;
    if lacking == 0 {
        return Ok(());
    }
    Err(Failure::Damaged(format!(
        "{lacking} snapshots are damaged in the other repository and were not copied; a check there \
         tells more"
    )))
}

//! `repair`: mends what is damaged.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use provault_repository::{RepairOptions, RepairReport};
use serde_json::json;

use super::check;
use super::context::{Context, repository_flag};
use super::failure::Failure;
use super::progress::Progress;
use super::signals;

/// What a repair that was stopped leaves.
const STOPPED: &str = "what is whole can be restored, and the next repair begins anew";

/// Mend what is damaged, as far as it can be had anywhere.
///
/// Lost index files are made anew, what is whole in damaged packs is copied, and what is lost is
/// taken from another repository that has it. Nothing is deleted but damaged index files: damaged
/// packs go with the next prune.
#[derive(Debug, clap::Args)]
pub(crate) struct RepairArgs {
    /// Only tell what would be mended, and what would stay lost; the other repository is asked, and
    /// nothing is changed
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Read every pack to the last byte to find what is damaged
    #[arg(long)]
    read_data: bool,
    /// Take what is lost from this repository, such as a copy: a directory, or a URL
    #[arg(long, value_name = "PATH|URL", requires = "from_password_file")]
    from_repo: Option<String>,
    /// File with its password, - for standard input
    #[arg(long, value_name = "FILE", requires = "from_repo")]
    from_password_file: Option<PathBuf>,
}

pub(crate) fn run(args: &RepairArgs, context: &Context<'_>) -> Result<(), Failure> {
    let began = Instant::now();
    let cancel = signals::install();
    let mut others = Vec::new();
    if let (Some(repo), Some(file)) = (&args.from_repo, &args.from_password_file) {
        others.push(context.open_other(repo, file)?);
    }
    let repository = context.open()?;
    let report = {
        let progress = Arc::new(Progress::start(context, "repairing"));
        let heard = Arc::clone(&progress);
        let options = RepairOptions {
            read_data: args.read_data,
            dry_run: args.dry_run,
            cancel: repository_flag(&cancel),
            progress: Some(Arc::new(move |done, total| {
                heard.count("looking into packs", done, Some(total));
            })),
            ..RepairOptions::default()
        };
        repository.repair(&others, &options).map_err(|error| Failure::from(error).after(STOPPED))?
    };
    tell(args.dry_run, context, &report, began.elapsed().as_secs_f64())
}

fn tell(
    dry_run: bool,
    context: &Context<'_>,
    report: &RepairReport,
    seconds: f64,
) -> Result<(), Failure> {
    let lost: Vec<_> = report
        .lost_blobs
        .iter()
        .map(|(kind, id)| json!({ "type": kind.to_string(), "id": id.to_string() }))
        .collect();
    let snapshots: Vec<_> = report
        .damaged_snapshots
        .iter()
        .map(|(id, error)| json!({ "snapshot": id.to_string(), "error": error.to_string() }))
        .collect();
    let damaged: Vec<String> = report.damaged_packs.iter().map(ToString::to_string).collect();
    let value = json!({
        "message_type": "summary",
        "dry_run": dry_run,
        "removed_index_files": report.index_files,
        "listed_packs": report.listed_packs,
        "damaged_packs": damaged,
        "postponed_for": report.postponed,
        "out_of_space": report.out_of_space,
        "rescued_blobs": report.rescued_blobs,
        "fetched_blobs": report.fetched_blobs,
        "lost_blobs": lost,
        "damaged_snapshots": snapshots,
        "check": check::to_json(&report.check),
        "total_duration": seconds,
    });
    if !context.out.is_json() {
        for (id, error) in &report.damaged_snapshots {
            context.warn(&format!(
                "snapshot {id} cannot be read: {error}; copy it from another repository, or forget \
                 it"
            ));
        }
        check::list(context, &report.check);
    }
    let taken_out = report.postponed.is_empty() && !report.out_of_space;
    if !damaged.is_empty() && !dry_run && taken_out {
        context.note("the damaged packs are out of the index; 'prune' deletes them");
    }
    let would = if dry_run { "would be: " } else { "" };
    let text = format!(
        "{would}{} packs listed again, {} damaged index files removed, {} damaged packs: {} blobs rescued, \
         {} fetched, {} lost, in {seconds:.1} s",
        report.listed_packs,
        report.index_files,
        damaged.len(),
        report.rescued_blobs,
        report.fetched_blobs,
        lost.len(),
    );
    context.out.show_line(&value, &text)?;
    if report.out_of_space {
        return Err(Failure::Failed(
            "the storage is too full to mend it; nothing was taken out of the index. Make room, and \
             repair again"
                .to_owned(),
        ));
    }
    if !report.postponed.is_empty() {
        return Err(Failure::Locked(format!(
            "other programs are at work, and nothing was taken out of the index; repair again when \
             they have ended: {}",
            report.postponed.join("; ")
        )));
    }
    // A dry run leaves what could be mended as it is, so the check tells of that too.
    if lost.is_empty() && snapshots.is_empty() && (dry_run || report.check.is_clean()) {
        return Ok(());
    }
    if dry_run {
        return Err(Failure::Damaged(
            "not everything could be mended; what is hurt now is listed above. Back the same source \
             up again, or name a copy with --from-repo"
                .to_owned(),
        ));
    }
    Err(Failure::Damaged(
        "not everything could be mended; what is hurt is listed above. Back the same source up \
         again, or repair --from-repo a copy; else forget those snapshots"
            .to_owned(),
    ))
}

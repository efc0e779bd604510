//! `check`: is everything there, and is it whole?

use std::time::Instant;

use provault_repository::{CheckLevel, CheckReport};
use serde_json::{Value, json};

use super::context::{Context, repository_flag};
use super::failure::Failure;
use super::progress::Progress;
use super::{bytes_text, signals};

/// Check that everything the snapshots need is there and whole.
///
/// Without options: keys, indexes, snapshots and all directories are read, and each chunk of each
/// file must be in a pack of the right size. With --read-data every byte is read and verified too.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// Read every pack to the last byte
    #[arg(long)]
    read_data: bool,
}

pub(crate) fn run(args: &CheckArgs, context: &Context<'_>) -> Result<(), Failure> {
    let began = Instant::now();
    let cancel = signals::install();
    let repository = context.open()?;
    let level = if args.read_data { CheckLevel::ReadData } else { CheckLevel::Structure };
    let report = {
        let _progress = Progress::start(context, "checking");
        repository.check(level, &repository_flag(&cancel))?
    };
    tell(context, &report, began.elapsed().as_secs_f64())
}

fn tell(context: &Context<'_>, report: &CheckReport, seconds: f64) -> Result<(), Failure> {
    let mut value = to_json(report);
    value["message_type"] = json!("summary");
    value["seconds_elapsed"] = json!(seconds);
    if !context.out.is_json() {
        list(context, report);
        if report.unreferenced_packs > 0 {
            let advice = if report.is_clean() {
                "they are left from interrupted backups and harmless, and 'prune' removes them"
            } else {
                "'repair' lists those of them again that snapshots need"
            };
            context.note(&format!("{} packs are in no index; {advice}", report.unreferenced_packs));
        }
    }
    let found = match report.problems.len() {
        0 => "no problems".to_owned(),
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    };
    let read = if report.bytes_read > 0 {
        format!("{} read", bytes_text(report.bytes_read))
    } else {
        "data not read".to_owned()
    };
    let text = format!(
        "{found}: {} snapshots, {} packs, {} blobs; {read} in {seconds:.1} s",
        report.snapshots, report.packs, report.blobs
    );
    context.out.show_line(&value, &text)?;
    if report.is_clean() {
        return Ok(());
    }
    Err(Failure::Damaged(format!(
        "the repository is damaged: {found}, {} files and directories hurt. All others can be \
         restored. 'repair' mends what can be had, and a new backup stores again what is still \
         there at the source",
        report.hurt_total
    )))
}

/// What a check found, by restic's names where it has them.
pub(crate) fn to_json(report: &CheckReport) -> Value {
    let problems: Vec<_> = report
        .problems
        .iter()
        .map(|problem| json!({ "object": problem.object, "error": problem.error.to_string() }))
        .collect();
    let hurt: Vec<_> = report
        .hurt
        .iter()
        .map(|hurt| {
            json!({
                "snapshot": hurt.snapshot.to_string(),
                "path": format!("/{}", String::from_utf8_lossy(&hurt.path)),
            })
        })
        .collect();
    json!({
        "num_errors": report.problems.len(),
        "problems": problems,
        "hurt": hurt,
        "hurt_total": report.hurt_total,
        "snapshots": report.snapshots,
        "trees": report.trees,
        "packs": report.packs,
        "blobs": report.blobs,
        "unreferenced_packs": report.unreferenced_packs,
        "bytes_read": report.bytes_read,
    })
}

/// Lists for people what is wrong, and who suffers.
pub(crate) fn list(context: &Context<'_>, report: &CheckReport) {
    for problem in &report.problems {
        context.warn(&format!("{}: {}", problem.object, problem.error));
    }
    for hurt in &report.hurt {
        context.warn(&format!(
            "cannot be restored whole: snapshot {} /{}",
            &hurt.snapshot.to_string()[..8],
            String::from_utf8_lossy(&hurt.path)
        ));
    }
    let more = report.hurt_total.saturating_sub(report.hurt.len() as u64);
    if more > 0 {
        context.warn(&format!("and {more} more files and directories"));
    }
}

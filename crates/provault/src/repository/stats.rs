//! `stats`: how much there is.

use provault_cli::View;
use serde_json::json;

use super::bytes_text;
use super::context::{Context, repository_flag};
use super::failure::Failure;
use super::pick::{Filter, Wanted};
use super::signals;

/// Tell how much the repository holds, and how much space that takes.
///
/// Without a snapshot: the sizes of all snapshots as they would be restored, one by one added up,
/// and what they take in the storage.
#[derive(Debug, clap::Args)]
pub(crate) struct StatsArgs {
    /// Only this snapshot's size
    #[arg(value_name = "SNAPSHOT")]
    snapshot: Option<Wanted>,
    #[command(flatten)]
    filter: Filter,
}

pub(crate) fn run(args: &StatsArgs, context: &Context<'_>) -> Result<(), Failure> {
    let cancel = repository_flag(&signals::install());
    let repository = context.open()?;
    if let Some(wanted) = &args.snapshot {
        let warn = |text: &str| context.warn(text);
        let snapshot = wanted.find(&repository, &args.filter, &warn)?;
        let (files, bytes) = repository.measure(&snapshot, &cancel)?;
        let id = snapshot.id.to_string();
        let value = json!({
            "snapshot_id": id,
            "snapshots_count": 1,
            "total_file_count": files,
            "total_size": bytes,
        });
        let text = format!("snapshot {}: {files} files, {}", &id[..8], bytes_text(bytes));
        return Ok(context.out.show_line(&value, &text)?);
    }
    let survey = repository.survey(&cancel)?;
    let chosen: Vec<_> = survey
        .snapshots
        .iter()
        .filter(|surveyed| args.filter.lets_through(&surveyed.snapshot))
        .collect();
    let files: u64 = chosen.iter().map(|surveyed| surveyed.files).sum();
    let bytes = chosen.iter().fold(0_u64, |sum, surveyed| sum.saturating_add(surveyed.bytes));
    let usage = repository.usage()?;
    let value = json!({
        "snapshots_count": chosen.len(),
        "total_file_count": files,
        "total_size": bytes,
        "packs": usage.packs,
        "pack_bytes": usage.pack_bytes,
        "indexes": usage.indexes,
        "index_bytes": usage.index_bytes,
        "total_blob_count": usage.blobs,
    });
    context.out.show(&value, || {
        vec![
            View::fields()
                .field("Snapshots", chosen.len().to_string())
                .field("Files, restored", files.to_string())
                .field("Bytes, restored", bytes_text(bytes))
                .field(
                    "Stored",
                    format!("{} in {} packs", bytes_text(usage.pack_bytes), usage.packs),
                )
                .field(
                    "Index",
                    format!("{} in {} files", bytes_text(usage.index_bytes), usage.indexes),
                )
                .field("Blobs", usage.blobs.to_string()),
        ]
    })?;
    let mut hurt = survey.damaged.len();
    for (id, error) in &survey.damaged {
        context.warn(&format!("snapshot {id} cannot be read: {error}"));
    }
    for surveyed in chosen {
        if let Some(error) = &surveyed.trouble {
            context
                .warn(&format!("snapshot {} is not counted whole: {error}", surveyed.snapshot.id));
            hurt += 1;
        }
    }
    if hurt == 0 {
        return Ok(());
    }
    Err(Failure::Damaged(format!(
        "{hurt} snapshots are damaged; 'provault repository check' tells more"
    )))
}

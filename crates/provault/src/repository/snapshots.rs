//! `snapshots`: what there is.

use provault_cli::View;
use provault_repository::Snapshot;
use serde_json::{Value, json};

use super::context::Context;
use super::failure::Failure;
use super::pick::Filter;

/// List the snapshots, oldest first.
#[derive(Debug, clap::Args)]
pub(crate) struct SnapshotsArgs {
    #[command(flatten)]
    filter: Filter,
    /// Only the newest N
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
}

pub(crate) fn run(args: &SnapshotsArgs, context: &Context<'_>) -> Result<(), Failure> {
    let repository = context.open()?;
    let all = repository.snapshots()?;
    let mut shown: Vec<&Snapshot> =
        all.snapshots.iter().filter(|snapshot| args.filter.lets_through(snapshot)).collect();
    if let Some(latest) = args.latest {
        shown.drain(..shown.len().saturating_sub(latest));
    }
    let value = Value::Array(shown.iter().map(|snapshot| to_json(snapshot)).collect());
    context.out.show(&value, || {
        let mut table = View::table(&["ID", "TIME", "HOST", "TAGS", "PATH"]);
        for snapshot in &shown {
            table.row([
                snapshot.id.to_string()[..8].to_owned(),
                snapshot.time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
                snapshot.hostname.clone(),
                snapshot.tags.join(","),
                snapshot.paths.join(" "),
            ]);
        }
        vec![table]
    })?;
    if all.damaged.is_empty() {
        return Ok(());
    }
    for (id, error) in &all.damaged {
        context.warn(&format!("snapshot {id} cannot be read: {error}"));
    }
    Err(Failure::Damaged(format!(
        "{} snapshots are damaged; 'provault repository check' tells more",
        all.damaged.len()
    )))
}

/// A snapshot by restic's names.
pub(crate) fn to_json(snapshot: &Snapshot) -> Value {
    let id = snapshot.id.to_string();
    json!({
        "time": snapshot.time.to_string(),
        "parent": snapshot.parent.map(|id| id.to_string()),
        "tree": snapshot.tree.to_string(),
        "paths": snapshot.paths,
        "hostname": snapshot.hostname,
        "username": snapshot.username,
        "tags": snapshot.tags,
        "program_version": snapshot.program_version,
        "short_id": &id[..8],
        "id": id,
    })
}

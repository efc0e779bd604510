//! `unlock`: locks of programs that are gone.

use serde_json::json;

use super::context::Context;
use super::failure::Failure;

/// Remove the locks of programs that are gone.
///
/// Locks of this machine whose program is gone, and locks older than 30 minutes, are in nobody's
/// way and need no unlocking; this removes them all the same.
#[derive(Debug, clap::Args)]
pub(crate) struct UnlockArgs {
    /// Remove every lock, also those that seem to be held: make sure first that no program works on
    /// the repository, on no machine
    #[arg(long)]
    remove_all: bool,
}

pub(crate) fn run(args: &UnlockArgs, context: &Context<'_>) -> Result<(), Failure> {
    let repository = context.open()?;
    let removed = repository.unlock(args.remove_all)?;
    for lock in &removed {
        context.note(&format!("removed lock {}: {}", &lock.id.to_string()[..8], lock.holder));
    }
    let left = repository.locks()?;
    for lock in &left {
        context.note(&format!("kept lock {}: {}", &lock.id.to_string()[..8], lock.holder));
    }
    let value = json!({
        "message_type": "summary",
        "removed": removed.iter().map(|lock| lock.id.to_string()).collect::<Vec<_>>(),
        "left": left.iter().map(|lock| lock.id.to_string()).collect::<Vec<_>>(),
    });
    let text = format!("{} locks removed, {} left", removed.len(), left.len());
    Ok(context.out.show_line(&value, &text)?)
}

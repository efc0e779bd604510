//! `reload`: the server reads its file of settings again.

use provault_wire::provault::ReloadedSettings;

use super::Context;
use crate::client::Answer;
use crate::error::CliError;
use crate::exit::Exit;

#[derive(Debug, clap::Args)]
pub struct ReloadArgs {}

impl ReloadArgs {
    #[allow(clippy::unused_self, reason = "commands with and without options are run alike")]
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let reloaded: Answer<ReloadedSettings> =
            context.client.own("POST", "/server/reload", &[], None)?;
        context.out.show_line(&reloaded.json, &told(&reloaded.typed))?;
        Ok(Exit::Done)
    }
}

/// What changed, in a line.
fn told(reloaded: &ReloadedSettings) -> String {
    let changed = match reloaded.changed.as_slice() {
        [] => "No setting changed that holds at once.".to_owned(),
        changed => format!("In force: {}.", changed.join(", ")),
    };
    match reloaded.needs_restart.as_slice() {
        [] => changed,
        waiting => format!("{changed} Needs a restart: {}.", waiting.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_hold_yet_is_told() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let reloaded = |changed: &[&str], waiting: &[&str]| {
            told(&ReloadedSettings { changed: list(changed), needs_restart: list(waiting) })
        };
        assert_eq!(reloaded(&[], &[]), "No setting changed that holds at once.");
        assert_eq!(reloaded(&["a", "b"], &[]), "In force: a, b.");
        assert_eq!(reloaded(&["a"], &["c", "d"]), "In force: a. Needs a restart: c, d.");
    }
}

//! The commands, over the HTTP API.
//!
//! A command is a client like any other: it finds the server and a key as AWS clients do, or in the
//! data directory when it runs on the server's own machine; it signs with SigV4; it speaks AWS
//! Backup's operations and, under `/provault/v1/`, our own. It knows no room of the server but the
//! wire types.
//!
//! The binary flattens [`Command`] beside its own `serve` and `lab`, and [`GlobalOptions`] into its
//! root; [`run`] does the rest. The lab uses [`Client`] directly.
//!
//! Invariants:
//!
//! * **Standard output is the result**, one JSON document with `--json`; progress, hints and errors
//!   go to standard error. What the server sends cannot steer the terminal.
//! * **No secret is printed** but by `vault export-password`, which prints nothing else, and where a
//!   command made it: the code of a recovery kit, the secret of a webhook or of an access key, once.
//! * **Nothing is done twice.** A request is repeated only where it was certainly not carried out,
//!   or changes nothing; requests that start something bear an idempotency token.
//! * **No setting is forgotten**: a file with a member the API does not know is refused by its
//!   name, and so is a key given twice.
//! * **A name stands for exactly one thing.** Names are looked up in the lists; an unknown or
//!   ambiguous one ends the command before anything is changed.
//! * **Watching only looks.** Ctrl-C ends the watching, never the job.
//! * The exit code says how it ended: [`EXIT_CODES_HELP`].

mod client;
mod commands;
mod discover;
mod duration;
mod environment;
mod error;
mod exit;
mod input_file;
mod interrupt;
mod options;
mod output;
mod probe_spec;
mod resolve;
mod server_file;
#[cfg(test)]
mod tests;
mod watch;
mod words;

use std::cell::OnceCell;
use std::process::ExitCode;

pub use client::{Answer, Client, segment};
pub use commands::Command;
pub use commands::evidence::{EvidenceRecords, ListEvidenceArgs};
pub use commands::recovery_kit::ExportKitArgs;
pub use commands::vault_access::VaultAccess;
pub use error::{ApiError, CliError};
pub use exit::EXIT_CODES_HELP;
pub use options::{GlobalOptions, default_data_dir};
pub use output::{Output, View, clean, size};
pub use probe_spec::ProbeSpec;
pub use server_file::ServerFile;
pub use words::CommandLine;

use commands::Context;
use environment::Environment;
use exit::Exit;
use interrupt::Interrupt;

/// Does what `command` says and prints what comes of it. See [`EXIT_CODES_HELP`] for the code.
pub fn run(command: Command, options: &GlobalOptions) -> ExitCode {
    with_server(options, |context| command.run(context))
}

/// Writes a recovery kit of the server. See [`EXIT_CODES_HELP`] for the code.
pub fn export_recovery_kit(args: ExportKitArgs, options: &GlobalOptions) -> ExitCode {
    with_server(options, |context| args.run(context))
}

/// Lists the record of all verdicts. See [`EXIT_CODES_HELP`] for the code.
pub fn list_evidence(args: ListEvidenceArgs, options: &GlobalOptions) -> ExitCode {
    with_server(options, |context| args.run(context))
}

/// Does something with the chain of evidence that the server has; `work` says whether it holds. See
/// [`EXIT_CODES_HELP`] for the code.
pub fn with_evidence(
    options: &GlobalOptions,
    work: impl FnOnce(&Output, EvidenceRecords<'_>) -> Result<bool, CliError>,
) -> ExitCode {
    with_server(options, |context| {
        let holds = work(context.out, EvidenceRecords::of(context.client))?;
        Ok(if holds { Exit::Done } else { Exit::Failed })
    })
}

/// Asks the server for what opens the vault of a recovery point without it. The point has to be of this AWS
/// resource type; without `vault` it is looked for in all vaults.
///
/// # Errors
///
/// The exit code, see [`EXIT_CODES_HELP`]; why has been said.
pub fn vault_access(
    recovery_point_arn: &str,
    vault: Option<&str>,
    resource_type: &str,
    options: &GlobalOptions,
) -> Result<VaultAccess, ExitCode> {
    let mut access = None;
    let code = with_server(options, |context| {
        let found = commands::vault_access::ask(context, recovery_point_arn, vault, resource_type)?;
        access = Some(found);
        Ok(Exit::Done)
    });
    access.ok_or(code)
}

fn with_server(
    options: &GlobalOptions,
    work: impl FnOnce(&Context<'_>) -> Result<Exit, CliError>,
) -> ExitCode {
    let env = Environment::of_process();
    let out = Output::of_process(options, &env);
    let interrupt = OnceCell::new();
    let result = Client::discover_in(options, &env).and_then(|client| {
        let context = Context {
            client: &client,
            out: &out,
            before_watch: &|| {
                interrupt.get_or_init(Interrupt::install);
            },
            sleep: &|time| interrupt.get_or_init(Interrupt::install).sleep(time),
            confirm: &confirm,
        };
        work(&context)
    });
    finish(result, &out).into()
}

/// Asks on the terminal; nothing but a plain yes is one. Nothing where there is no terminal.
fn confirm(question: &str) -> Option<bool> {
    use std::io::{IsTerminal as _, Write as _};

    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return None;
    }
    let mut answer = String::new();
    let mut error = std::io::stderr();
    error.write_all(question.as_bytes()).and_then(|()| error.flush()).ok()?;
    std::io::stdin().read_line(&mut answer).ok()?;
    Some(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Reports an error, if it is one.
fn finish(result: Result<Exit, CliError>, out: &Output) -> Exit {
    result.unwrap_or_else(|error| {
        let exit = error.exit();
        if exit != Exit::Done {
            let kind = if exit == Exit::Interrupted { "provault" } else { "error" };
            // Where standard error cannot be written the exit code still tells.
            let _ = out.note(&format!("{kind}: {error}"));
        }
        exit
    })
}

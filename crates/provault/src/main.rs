//! `provault`: one binary for the server, the command line, the lab and the isolation helper.
//!
//! This crate only wires the rooms together; what they do is theirs.

mod certificate;
mod clock;
mod config_file;
mod evidence;
mod instance;
mod lab;
mod mount;
mod receiver;
mod recovery_kit;
mod reload;
mod repository;
mod sample_app;
mod secret;
mod serve;
mod settings;
mod signals;
mod site;
mod storage_limits;
mod story;
mod upgrade_check;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser};

/// Backup that is proven: every recovery point is restored in isolation and asked.
#[derive(Debug, Parser)]
#[command(name = "provault", version, about, after_help = provault_cli::EXIT_CODES_HELP)]
struct Args {
    #[command(flatten)]
    global: provault_cli::GlobalOptions,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run the server.
    Serve(serve::ServeArgs),
    /// Play the whole story on this machine: back up, restore in isolation, prove.
    Lab(lab::LabArgs),
    Repository(repository::RepositoryArgs),
    /// Recovery kits: bring a server back from a kit and the storage of its vaults
    #[command(subcommand)]
    RecoveryKit(recovery_kit::RecoveryKitCommand),
    /// The hash-chained record of all verdicts: list, export, verify without a server
    #[command(subcommand)]
    Evidence(evidence::EvidenceCommand),
    UpgradeCheck(upgrade_check::UpgradeCheckArgs),
    /// Print a completion script for a shell, such as `provault completions bash`
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of all commands into a directory
    Man {
        /// The directory; it must be there
        directory: std::path::PathBuf,
    },
    #[command(flatten)]
    Client(provault_cli::Command),
    /// The isolation helper; started by the server.
    #[command(name = "__isolate", hide = true)]
    Isolate,
    /// The lab's sample application.
    #[command(name = "__sample-app", hide = true)]
    SampleApp(sample_app::SampleAppArgs),
}

/// The command line, and what a file of settings adds to it.
fn parse() -> Result<Args, ExitCode> {
    let given: Vec<OsString> = std::env::args_os().collect();
    let args = Args::parse_from(&given);
    let Command::Serve(serve) = &args.command else { return Ok(args) };
    let Some(path) = serve.config() else { return Ok(args) };
    with_file(&given, &path).map_err(|message| {
        eprintln!("provault: {message}");
        ExitCode::from(serve::USAGE)
    })
}

/// A command line of `serve` with what the file at `path` says that it does not.
fn with_file(given: &[OsString], path: &Path) -> Result<Args, String> {
    let settings = config_file::arguments(path, given)?;
    let serve = given.iter().position(|argument| argument == "serve");
    // The subcommand was parsed, so it is there.
    let (head, tail) = given.split_at(serve.unwrap_or(0) + 1);
    let whole = head.iter().chain(&settings).chain(tail);
    Args::try_parse_from(whole).map_err(|error| format!("{}: {error}", path.display()))
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    if matches!(
        args.command,
        Command::Serve(_)
            | Command::Lab(_)
            | Command::RecoveryKit(recovery_kit::RecoveryKitCommand::Restore { .. })
    ) {
        // What the server keeps is nobody else's to read: rows, logs, mail, copies under test.
        // What is restored gets the modes it had.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    }
    match args.command {
        Command::Serve(serve) => serve::run(&serve, &args.global),
        Command::Lab(lab) => lab::run(&lab, &args.global),
        Command::Repository(repository) => repository::run(&repository, &args.global),
        Command::RecoveryKit(command) => recovery_kit::run(command, &args.global),
        Command::Evidence(command) => evidence::run(command, &args.global),
        Command::UpgradeCheck(check) => upgrade_check::run(&check, &args.global),
        Command::Completions { shell } => {
            let mut command = Args::command();
            clap_complete::generate(shell, &mut command, "provault", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
        Command::Man { directory } => match clap_mangen::generate_to(Args::command(), &directory) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => serve::fail(&format!("{}: {error}", directory.display())),
        },
        Command::Client(command) => provault_cli::run(command, &args.global),
        Command::Isolate => provault_proof::helper_main(),
        Command::SampleApp(sample) => sample_app::run(&sample),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every room brings its own part of the command line; only here do they meet.
    #[test]
    fn the_whole_command_line_is_sound() {
        Args::command().debug_assert();
    }
}

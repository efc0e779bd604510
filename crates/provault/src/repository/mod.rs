//! `provault repository`: work on a repository without a server and without a catalog.
//!
//! For the day when the server is gone, for scripts, and for repositories of stock restic. The
//! options, the exit codes and the names in JSON are restic's wherever restic has them.
//!
//! Invariants:
//!
//! * **The password is never an argument**: a file, standard input, the environment or a prompt.
//! * **Ctrl-C ends a command cleanly**: nothing half-committed, no lock left, exit code 130.
//! * **Only a whole success is 0.** A backup that lacks paths is 3, a check that finds damage 1.
//! * Standard output is the result, one JSON document with `--json`; all else is standard error.
#![allow(
    clippy::doc_markdown,
    reason = "doc comments are help texts here, and backticks would show"
)]

mod backup;
mod check;
mod context;
mod copy;
mod dump;
mod failure;
mod forget;
mod init;
mod key;
mod location;
mod ls;
mod mount;
mod new_image;
mod password;
mod patterns;
mod pick;
mod point_volume;
mod progress;
mod prune;
mod repair;
mod restore;
mod signals;
mod size;
mod snapshots;
mod sources;
mod stats;
mod stored;
mod unlock;
mod volume;

use std::process::ExitCode;

use provault_cli::{GlobalOptions, Output};

use context::Context;
use failure::{EXIT_CODES, Failure};

pub use point_volume::{VolumeCommand, run_volume};

/// Back up, restore and check a repository without a server.
///
/// A repository is a directory or an S3 bucket in the format of restic: the storage of one vault, or one made by
/// 'init' or by restic itself. No server has to run; one that does is not disturbed.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct RepositoryArgs {
    #[command(flatten)]
    options: RepositoryOptions,
    #[command(subcommand)]
    command: RepositoryCommand,
}

/// What all commands of `repository` need.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Repository options")]
pub(crate) struct RepositoryOptions {
    /// Where the repository is: a directory, file:///PATH, or s3://BUCKET/PREFIX with AWS's
    /// environment variables [default: PROVAULT_REPOSITORY, else
    /// RESTIC_REPOSITORY]
    #[arg(short = 'r', long, global = true, value_name = "PATH|URL")]
    repo: Option<String>,
    /// File with the repository's password, - for standard input [default: PROVAULT_PASSWORD_FILE,
    /// RESTIC_PASSWORD_FILE, RESTIC_PASSWORD, else asked for on the terminal]
    #[arg(short = 'p', long, global = true, value_name = "FILE")]
    password_file: Option<std::path::PathBuf>,
    /// Where to remember what directories looked like, so that the next backup of the same paths is
    /// quick [default: XDG_CACHE_HOME/provault, else ~/.cache/provault]
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "no_cache")]
    cache_dir: Option<std::path::PathBuf>,
    /// Remember nothing on this machine
    #[arg(long, global = true)]
    no_cache: bool,
    /// No progress and no notes; errors and results only
    #[arg(short, long, global = true)]
    quiet: bool,
    #[command(flatten)]
    limits: crate::storage_limits::StorageLimits,
}

#[derive(Debug, clap::Subcommand)]
enum RepositoryCommand {
    /// Make a new, empty repository
    Init(init::InitArgs),
    /// Back up directories and files into a new snapshot
    Backup(backup::BackupArgs),
    /// List the snapshots, oldest first
    Snapshots(snapshots::SnapshotsArgs),
    /// Restore a snapshot, or a part of one, to a new place
    Restore(restore::RestoreArgs),
    /// List what is in a snapshot
    Ls(ls::LsArgs),
    /// Write one file of a snapshot to standard output
    #[command(visible_alias = "cat")]
    Dump(dump::DumpArgs),
    /// Check that everything the snapshots need is there and whole
    Check(check::CheckArgs),
    /// Tell how much the repository holds, and how much space that takes
    Stats(stats::StatsArgs),
    /// Forget snapshots, by a policy or one by one
    Forget(Box<forget::ForgetArgs>),
    /// Free the space of what no snapshot needs
    Prune(prune::PruneArgs),
    /// Copy snapshots from another repository
    Copy(copy::CopyArgs),
    /// Mend what is damaged, as far as it can be had anywhere
    Repair(repair::RepairArgs),
    /// List, add, change and remove the passwords that open the repository
    Key(key::KeyArgs),
    /// Remove the locks of programs that are gone
    Unlock(unlock::UnlockArgs),
    /// Look around in snapshots as in a directory
    Mount(mount::MountArgs),
    /// Back up a block device or a raw image
    BackupVolume(volume::BackupVolumeArgs),
    /// Restore a volume to an image or a block device
    RestoreVolume(volume::RestoreVolumeArgs),
    /// Serve the volumes of a snapshot over NBD, read-only
    Nbd(volume::NbdArgs),
}

/// Runs the command and says how it ended by the exit code.
pub fn run(args: &RepositoryArgs, global: &GlobalOptions) -> ExitCode {
    let out = Output::standard(global);
    let context = Context::new(&args.options, &out);
    let result = match &args.command {
        RepositoryCommand::Init(args) => init::run(args, &context),
        RepositoryCommand::Backup(args) => backup::run(args, &context),
        RepositoryCommand::Snapshots(args) => snapshots::run(args, &context),
        RepositoryCommand::Restore(args) => restore::run(args, &context),
        RepositoryCommand::Ls(args) => ls::run(args, &context),
        RepositoryCommand::Dump(args) => dump::run(args, &context),
        RepositoryCommand::Check(args) => check::run(args, &context),
        RepositoryCommand::Stats(args) => stats::run(args, &context),
        RepositoryCommand::Forget(args) => forget::run(args, &context),
        RepositoryCommand::Prune(args) => prune::run(args, &context),
        RepositoryCommand::Copy(args) => copy::run(args, &context),
        RepositoryCommand::Repair(args) => repair::run(args, &context),
        RepositoryCommand::Key(args) => key::run(args, &context),
        RepositoryCommand::Unlock(args) => unlock::run(args, &context),
        RepositoryCommand::Mount(args) => mount::run(args, &context),
        RepositoryCommand::BackupVolume(args) => volume::backup(args, &context),
        RepositoryCommand::RestoreVolume(args) => volume::restore(args, &context),
        RepositoryCommand::Nbd(args) => volume::nbd(args, &context),
    };
    ended(result, &out)
}

/// Says why a command did not do what it was asked, and gives its exit code.
fn ended(result: Result<(), Failure>, out: &Output) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where standard error cannot be written the exit code still tells.
            if let Some(text) = failure.text() {
                let _ = out.note(&text);
            }
            failure.exit_code()
        }
    }
}

/// A number as JSON and tables can both show it.
pub(crate) fn bytes_text(bytes: u64) -> String {
    provault_cli::size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// The failure of a command that was not given what it needs.
pub(crate) fn usage(message: impl Into<String>) -> Failure {
    Failure::Usage(message.into())
}

//! `volume`: the volume of a server's recovery point, used before it is restored.
//!
//! The server says where the vault is and what opens it, and this program reads the storage itself: the
//! server's work and its stops do not touch what is exported, and the socket is its user's alone. Nothing is
//! written but a lock, for which a prune of the vault waits.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use provault_cli::{GlobalOptions, Output, VaultAccess};
use provault_repository::{NbdAddress, Options, Password, Repository, Snapshot};
use serde_json::json;

use super::context::repository_flag;
use super::failure::Failure;
use super::location::Location;
use super::volume::{name_of, serve};
use super::{ended, signals, usage};
use crate::mount::{self, MountError, MountOptions};
use crate::storage_limits::StorageLimits;

/// AWS's resource type of volumes.
const VOLUME: &str = "EBS";

/// Subcommands of `volume`.
#[derive(Debug, clap::Subcommand)]
pub enum VolumeCommand {
    /// Serve the volume of a recovery point over NBD, read-only, until Ctrl-C
    ///
    /// A machine can boot from it, and nbdcopy or qemu-img can read it, before anything is restored. This
    /// program reads the vault itself: it has to reach the vault's storage, for a directory on the server's
    /// machine, and its user has to be allowed to export the vault's password.
    Export(ExportArgs),
    /// Show the volume of a recovery point as a read-only file, until Ctrl-C or until it is unmounted
    ///
    /// Tools for file systems and partitions take the file: single files come out of it with debugfs, or with
    /// a loop device. As for export, this program reads the vault itself.
    Mount(MountArgs),
}

/// Which recovery point.
#[derive(Debug, clap::Args)]
pub struct PointArgs {
    /// The recovery point's ARN
    recovery_point_arn: String,
    /// Its vault [default: looked for in all]
    #[arg(long)]
    vault: Option<String>,
}

/// Arguments of `volume export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    #[command(flatten)]
    point: PointArgs,
    /// Listen on a Unix socket at this path, which must not exist, for its owner only
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
}

/// Arguments of `volume mount`.
#[derive(Debug, clap::Args)]
pub struct MountArgs {
    #[command(flatten)]
    point: PointArgs,
    /// An empty directory
    directory: PathBuf,
    /// Let other users look too
    #[arg(long)]
    allow_other: bool,
}

/// Runs a subcommand and says how it ended by the exit code.
pub fn run_volume(command: &VolumeCommand, global: &GlobalOptions) -> ExitCode {
    // First: the signals are blocked in all threads that are started from here on.
    let cancel = signals::install();
    let point = match command {
        VolumeCommand::Export(args) => &args.point,
        VolumeCommand::Mount(args) => &args.point,
    };
    let vault = point.vault.as_deref();
    let access = match provault_cli::vault_access(&point.recovery_point_arn, vault, VOLUME, global)
    {
        Ok(access) => access,
        Err(code) => return code,
    };
    let out = Output::standard(global);
    let flag = repository_flag(&cancel);
    let result = match command {
        VolumeCommand::Export(args) => export(args, &access, &out, &flag),
        VolumeCommand::Mount(args) => show(args, &access, &out, &flag),
    };
    ended(result, &out)
}

/// The recovery point's repository, its snapshot in it, and the paths of the volumes there.
fn open(access: &VaultAccess) -> Result<(Repository, Snapshot, Vec<Vec<u8>>), Failure> {
    let location = Location::parse(&access.location)?;
    let storage = location.existing(StorageLimits::default()).map_err(|failure| match failure {
        Failure::NoRepository(_) => Failure::NoRepository(format!(
            "the storage of vault {} is not at {} on this machine; run this where the server runs, \
             as a user who may read it",
            access.vault, access.location
        )),
        other => other,
    })?;
    let password = Password::from_text(access.password.as_str());
    let repository = Repository::open(storage, &password, Options::default())?;
    let tag = format!("provault-job-{}", access.backup_job_id);
    let snapshots = repository.snapshots()?.snapshots;
    let snapshot = snapshots.into_iter().find(|snapshot| snapshot.tags.contains(&tag));
    let snapshot = snapshot.ok_or_else(|| {
        Failure::Failed(format!(
            "vault {} holds no snapshot of backup job {}; 'provault vault check {}' tells what is \
             missing",
            access.vault, access.backup_job_id, access.vault
        ))
    })?;
    let paths = repository.reader()?.volumes(&snapshot)?;
    if paths.is_empty() {
        return Err(Failure::Damaged(format!(
            "there is no volume in snapshot {} of the recovery point",
            snapshot.id.short()
        )));
    }
    Ok((repository, snapshot, paths))
}

fn export(
    args: &ExportArgs,
    access: &VaultAccess,
    out: &Output,
    cancel: &provault_repository::CancelFlag,
) -> Result<(), Failure> {
    let (repository, snapshot, paths) = open(access)?;
    let reader = Arc::new(repository.reader()?);
    serve(&reader, &snapshot, &paths, &NbdAddress::Unix(args.socket.clone()), out, cancel)
}

fn show(
    args: &MountArgs,
    access: &VaultAccess,
    out: &Output,
    cancel: &provault_repository::CancelFlag,
) -> Result<(), Failure> {
    let (repository, snapshot, paths) = open(access)?;
    let options = MountOptions { snapshot: Some(snapshot), allow_other: args.allow_other };
    let mounted =
        mount::mount(&repository, options, &args.directory).map_err(|error| match error {
            MountError::Repository(error) => error.into(),
            MountError::NotEmpty(_) => usage(error.to_string()),
            other => Failure::Failed(other.to_string()),
        })?;
    // Whoever reads the line may be somewhere else.
    let directory = std::path::absolute(&args.directory).unwrap_or_else(|_| args.directory.clone());
    let files: Vec<String> = paths.iter().map(|path| file_of(&directory, path)).collect();
    out.show_line(&json!({ "message_type": "mounted", "files": files }), &files.join("\n"))?;
    mounted
        .wait(cancel)
        .map_err(|error| Failure::Failed(format!("{}: {error}", args.directory.display())))
}

/// Where a volume is as one file in a mount of its snapshot.
fn file_of(directory: &Path, path: &[u8]) -> String {
    directory.join(format!("{}.raw", name_of(path))).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_a_file_below_the_mount() {
        let file = file_of(Path::new("/mnt"), b"srv/web.img/disk.volume");
        assert_eq!(file, "/mnt/srv/web.img/disk.raw");
    }
}

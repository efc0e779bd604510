//! Backup and restore without a catalog: the port between drivers and a repository, for commands
//! that need no server.
//!
//! What a job does beyond this (its row, its lease, its recovery point) is the runner's.

use std::path::Path;

use provault_domain::{BackupVault, Key};
use provault_driver::{CancelFlag, Capture, CaptureReport, DriverError, Source, WorkContext};
use provault_driver::{SinkError, SourceError};
use provault_repository::{Password, RootComponent, Snapshot, SnapshotWriter, StorageOptions};

use crate::sink::SnapshotSink;
use crate::source::SnapshotSource;
use crate::vault_place::VaultPlace;
use crate::vaults::open_place;
use crate::{EngineError, Keyring, Result};

/// Where a directory goes in its snapshot: the directories above it, and its own name. A whole host
/// (`/`) has no name of its own and is called `root`.
pub fn place_in_tree(path: &str) -> (Vec<RootComponent>, Vec<u8>) {
    crate::backup::place_in_tree(path)
}

/// Reads a capture into the directory of the writer that was entered last, under the name `root`.
pub fn read_into(
    capture: Box<dyn Capture>,
    writer: &mut SnapshotWriter,
    root: Vec<u8>,
    context: &WorkContext<'_>,
) -> std::result::Result<CaptureReport, DriverError> {
    let mut sink = SnapshotSink::new(writer, root, context.progress);
    capture.read_into(&mut sink, context)
}

/// What lies at `path` of a snapshot and below (an empty path is all of it), as drivers restore it.
/// Holds the repository's shared lock while it lives.
pub fn source(
    repository: &provault_repository::Repository,
    snapshot: &Snapshot,
    path: &str,
    cancel: &CancelFlag,
) -> std::result::Result<Box<dyn Source>, SourceError> {
    let source = SnapshotSource::open(repository, &snapshot.id.to_string(), path, cancel)?;
    Ok(Box::new(source))
}

/// A repository's refusal as a driver's error.
pub fn refused(error: provault_repository::Error) -> DriverError {
    match error {
        provault_repository::Error::Cancelled => DriverError::Cancelled,
        other => DriverError::Sink(SinkError::Store(Box::new(other))),
    }
}

/// Opens the repository of a vault whose server need not run, as a look: nothing is changed. Answers
/// with the version of its format.
pub fn vault_format(
    data_dir: &Path,
    vault: &BackupVault,
    key: &Key,
    storage: &StorageOptions,
) -> Result<u32> {
    let name = Keyring::file_of(key);
    if !data_dir.join("keys").is_dir() {
        return Err(EngineError::Key {
            key: name.to_owned(),
            message: format!("there is no directory of keys in {}.", data_dir.display()),
        });
    }
    let keyring = Keyring::open(data_dir)?;
    let password = keyring.unseal(name, vault.arn.as_str(), &vault.sealed_password)?;
    let place = VaultPlace::of(&vault.location, data_dir);
    let repository = open_place(&place, &vault.name, &Password::from_text(password), storage)?;
    Ok(repository.config().version)
}

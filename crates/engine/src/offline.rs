//! Backup and restore without a catalog: the port between drivers and a repository, for commands
//! that need no server.
//!
//! What a job does beyond this (its row, its lease, its recovery point) is the runner's.

use provault_driver::{CancelFlag, Capture, CaptureReport, DriverError, Source, WorkContext};
use provault_driver::{SinkError, SourceError};
use provault_repository::{RootComponent, Snapshot, SnapshotWriter};

use crate::sink::SnapshotSink;
use crate::source::SnapshotSource;

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
) -> Result<CaptureReport, DriverError> {
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
) -> Result<Box<dyn Source>, SourceError> {
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

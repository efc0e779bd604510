//! `mount`: look around in snapshots as in a directory.

use std::path::Path;

use super::context::{Context, repository_flag};
use super::failure::Failure;
use super::pick::{Filter, Wanted};
use super::{signals, usage};
use crate::mount::{self, MountError, MountOptions};

/// Show snapshots as a read-only file system until Ctrl-C, or until it is unmounted.
///
/// With a snapshot, DIRECTORY shows what is in it; without one, all snapshots by id and by time.
/// A volume is there as one file too: disk.raw beside disk.volume.
#[derive(Debug, clap::Args)]
pub(crate) struct MountArgs {
    /// A snapshot (an id, the beginning of one, or latest), and an empty directory
    #[arg(required = true, num_args = 1..=2, value_names = ["SNAPSHOT", "DIRECTORY"])]
    what: Vec<String>,
    /// Let other users look too, as far as owners and modes of the files let them
    #[arg(long)]
    allow_other: bool,
}

pub(crate) fn run(args: &MountArgs, context: &Context<'_>) -> Result<(), Failure> {
    let (wanted, directory) = match args.what.as_slice() {
        [directory] => (None, directory),
        [wanted, directory] => (Some(wanted.parse::<Wanted>().map_err(usage)?), directory),
        _ => return Err(usage("mount takes a snapshot, if any, and a directory")),
    };
    if wanted.as_ref().is_some_and(|wanted| !wanted.path.is_empty()) {
        return Err(usage("mount shows whole snapshots: leave out what is behind the colon"));
    }
    let cancel = signals::install();
    let repository = context.open()?;
    let snapshot = wanted
        .map(|wanted| wanted.find(&repository, &Filter::default(), &|text| context.warn(text)))
        .transpose()?;
    let options = MountOptions { snapshot, allow_other: args.allow_other };
    let mounted =
        mount::mount(&repository, options, Path::new(directory)).map_err(|error| match error {
            MountError::Repository(error) => error.into(),
            MountError::NotEmpty(_) => usage(error.to_string()),
            other => Failure::Failed(other.to_string()),
        })?;
    context.note(&format!("mounted at {directory}; Ctrl-C, or umount {directory}, ends it"));
    mounted
        .wait(&repository_flag(&cancel))
        .map_err(|error| Failure::Failed(format!("{directory}: {error}")))
}

//! `dump`: one file to standard output.

use std::io::{IsTerminal as _, Write as _};

use provault_repository::EntryKind;

use super::context::Context;
use super::failure::Failure;
use super::pick::{Filter, Wanted};
use super::{signals, usage};

/// Write one file of a snapshot to standard output.
///
/// Every byte is verified before it is written.
#[derive(Debug, clap::Args)]
pub(crate) struct DumpArgs {
    /// The snapshot: its id, the beginning of it, or latest; with :PATH, a directory in it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: Wanted,
    /// The file
    #[arg(value_name = "FILE")]
    file: Option<String>,
    #[command(flatten)]
    filter: Filter,
}

pub(crate) fn run(args: &DumpArgs, context: &Context<'_>) -> Result<(), Failure> {
    let cancel = signals::install();
    let path = args.snapshot.join(args.file.as_deref())?;
    if path.is_empty() {
        return Err(usage("say which file: dump SNAPSHOT /path/of/the/file"));
    }
    let repository = context.open()?;
    let warn = |text: &str| context.warn(text);
    let snapshot = args.snapshot.find(&repository, &args.filter, &warn)?;
    let reader = repository.reader()?;
    let entry = reader.entry(&snapshot, path.as_bytes())?;
    if entry.kind != EntryKind::File {
        return Err(Failure::Failed(format!(
            "/{path} is no regular file; 'provault repository restore' brings it back"
        )));
    }
    let stdout = std::io::stdout();
    if stdout.is_terminal() && looks_binary(&reader.read_range(&entry, 0, 1024)?) {
        return Err(usage(format!(
            "/{path} is not text, and standard output is a terminal; send it to a file: ... > FILE"
        )));
    }
    let mut out = stdout.lock();
    let read = reader.read_file(&entry, &mut |_, bytes| {
        if cancel.is_raised() {
            return Err(std::io::Error::other("stopped"));
        }
        out.write_all(bytes)
    });
    if cancel.is_raised() {
        return Err(Failure::Interrupted);
    }
    match read {
        Ok(()) => Ok(out.flush()?),
        Err(provault_repository::Error::Sink { source, .. }) => {
            Err(std::io::Error::new(source.kind(), source.to_string()).into())
        }
        Err(error) => Err(error.into()),
    }
}

fn looks_binary(beginning: &[u8]) -> bool {
    beginning.iter().any(|byte| matches!(byte, 0..=6 | 14..=26 | 28..=31))
}

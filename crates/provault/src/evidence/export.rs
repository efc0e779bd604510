//! `evidence export`: the whole chain in a file.

use std::fs::{self, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use provault_cli::{CliError, EvidenceRecords, GlobalOptions, Output, View};
use provault_domain::evidence::GENESIS;
use provault_wire::provault::EvidenceEnd;
use serde_json::json;

use super::chain::{Broken, Chain};

/// Arguments of `evidence export`.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// The file to write; it must not exist [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What was written.
struct Written {
    end: EvidenceEnd,
    /// Of no use when it is broken, but still all that there is.
    broken: Option<Broken>,
}

impl ExportArgs {
    /// Writes the chain, and says whether it holds.
    pub fn run(&self, global: &GlobalOptions) -> ExitCode {
        provault_cli::with_evidence(global, |out, records| {
            let written = match &self.out {
                Some(file) => to_file(file, records)?,
                None => write(&mut BufWriter::new(io::stdout().lock()), records)?,
            };
            tell(out, &written, self.out.as_deref())?;
            Ok(written.broken.is_none())
        })
    }
}

/// A file that is there is complete: what could not be written to its end is removed, and what a
/// kill leaves lacks its last line.
fn to_file(file: &Path, records: EvidenceRecords<'_>) -> Result<Written, CliError> {
    let shown = file.display();
    let wrong = |error: io::Error| CliError::Usage(format!("{shown}: {error}"));
    let target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let target = target.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            CliError::Usage(format!("{shown} is there already; name another file"))
        }
        _ => wrong(error),
    })?;
    let mut to = BufWriter::new(target);
    let written = write(&mut to, records)
        .and_then(|written| to.get_ref().sync_all().map_err(wrong).map(|()| written));
    if written.is_err() {
        // The error says what is wrong; the file says by its missing end that it is not whole.
        let _ = fs::remove_file(file);
    }
    written
}

fn write(to: &mut impl Write, records: EvidenceRecords<'_>) -> Result<Written, CliError> {
    let mut chain = Chain::default();
    let mut written =
        Written { end: EvidenceEnd { records: 0, head: GENESIS.to_owned() }, broken: None };
    for record in records {
        let record = record?;
        line(to, &record)?;
        written.end.records += 1;
        written.end.head.clone_from(&record.hash);
        if written.broken.is_none() {
            written.broken = chain.take(record).err();
        }
    }
    line(to, &written.end)?;
    to.flush().map_err(CliError::Output)?;
    Ok(written)
}

fn line(to: &mut impl Write, message: &impl serde::Serialize) -> Result<(), CliError> {
    let mut text = serde_json::to_vec(message).map_err(|error| CliError::Output(error.into()))?;
    text.push(b'\n');
    to.write_all(&text).map_err(CliError::Output)
}

fn tell(out: &Output, written: &Written, file: Option<&Path>) -> Result<(), CliError> {
    let EvidenceEnd { records, head } = &written.end;
    match file {
        None => out.note(&format!("{records} records, head {head}"))?,
        Some(file) => {
            let told = json!({
                "File": file.display().to_string(),
                "Records": records,
                "Head": head,
                "Chain": if written.broken.is_none() { "VERIFIED" } else { "BROKEN" },
            });
            out.show(&told, || {
                vec![
                    View::fields()
                        .field("File", file.display().to_string())
                        .field("Records", records.to_string())
                        .field("Head", head.clone()),
                ]
            })?;
        }
    }
    if let Some(broken) = &written.broken {
        out.note(&format!(
            "error: the chain of evidence is broken: {broken} What was written is what the server \
             has; records were changed or removed outside of it"
        ))?;
    }
    Ok(())
}

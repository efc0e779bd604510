//! `evidence verify`: whether a chain holds.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use provault_cli::{CliError, GlobalOptions, Output, View};
use serde_json::json;

use super::chain::{Broken, Chain, Unverified};
use crate::serve::USAGE;

/// What the exit codes mean.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    the chain holds, and has what --expect-head and --includes name
  1    it is broken, cut off, or not the one that was noted; the first wrong record is named
  2    the command line is wrong, or the file cannot be read
  5    without a file: the server cannot be found or reached";

/// Arguments of `evidence verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// A file that `evidence export` wrote, - for standard input [default: ask the server]
    file: Option<PathBuf>,
    /// The hash that the last record must have: the head that was told when the file was exported
    #[arg(long, value_name = "HASH", value_parser = hash)]
    expect_head: Option<String>,
    /// A hash that a record must have: a head that was noted when the chain was shorter; may be
    /// repeated
    #[arg(long, value_name = "HASH", value_parser = hash)]
    includes: Vec<String>,
}

fn hash(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("a hash is 64 hexadecimal digits".to_owned())
    }
}

impl VerifyArgs {
    /// Verifies, and tells what came of it.
    pub fn run(self, global: &GlobalOptions) -> ExitCode {
        let mut chain = Chain::including(self.includes);
        let expected = self.expect_head;
        let Some(file) = self.file else {
            return provault_cli::with_evidence(global, |out, records| {
                let mut verified = Ok(());
                for record in records {
                    verified = chain.take(record?);
                    if verified.is_err() {
                        break;
                    }
                }
                let verified = verified.and_then(|()| chain.end(expected.as_deref()));
                told(out, &chain, verified.err().as_ref())
            });
        };
        let out = Output::standard(global);
        let verified = open(&file)
            .map_err(Unverified::from)
            .and_then(|mut input| chain.read(&mut input))
            .and_then(|()| Ok(chain.end(expected.as_deref())?));
        let holds = match verified {
            Ok(()) => told(&out, &chain, None),
            Err(Unverified::Broken(broken)) => told(&out, &chain, Some(&broken)),
            Err(Unverified::Unreadable(error)) => {
                Err(CliError::Usage(format!("cannot read {}: {error}", file.display())))
            }
        };
        match holds {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                // Where standard error cannot be written the exit code still tells.
                let _ = out.note(&format!("error: {error}"));
                ExitCode::from(USAGE)
            }
        }
    }
}

fn open(file: &Path) -> io::Result<Box<dyn BufRead>> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(BufReader::new(File::open(file)?)))
}

/// Says whether it holds, and gives that back.
fn told(out: &Output, chain: &Chain, broken: Option<&Broken>) -> Result<bool, CliError> {
    let (records, head) = (chain.records(), chain.head());
    if let Some(broken) = broken {
        if out.is_json() {
            let told = json!({
                "Chain": "BROKEN", "Record": broken.record, "Reason": broken.why,
                "VerifiedRecords": records, "VerifiedHead": head,
            });
            out.show(&told, Vec::new)?;
        }
        let before = match records {
            0 => String::new(),
            1 => " The record before it holds.".to_owned(),
            n => format!(" The {n} records before it hold."),
        };
        out.note(&format!("error: the chain of evidence is broken: {broken}{before}"))?;
        return Ok(false);
    }
    let account = chain.account().map(ToString::to_string);
    let span = chain.span();
    let told = json!({
        "Chain": "VERIFIED", "Account": account, "Records": records, "Head": head,
        "First": span.map(|(first, _)| first), "Last": span.map(|(_, last)| last),
    });
    out.show(&told, || {
        vec![
            View::fields()
                .field("Chain", "VERIFIED".to_owned())
                .field("Account", account.clone())
                .field("Records", records.to_string())
                .field("First", span.map(|(first, _)| first.to_owned()))
                .field("Last", span.map(|(_, last)| last.to_owned()))
                .field("Head", head.to_owned()),
        ]
    })?;
    Ok(true)
}

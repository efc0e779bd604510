//! `provault evidence`: the record of all verdicts, listed, exported, and verified.
//!
//! A chain is verified by one rule, the domain's, which neither the server nor its catalog is asked
//! about: what `export` wrote can be verified on any machine, years later. What a chain cannot show
//! by itself is that its newest records are missing, or that all of it was made anew: whoever can
//! write it can also compute hashes. For that its head is noted somewhere else, and given back here.
//!
//! An exported chain is JSON, one line a record, in the words of the API, and at its end one line
//! that says how many they are and what the last hash is. A line is taken only in the very bytes
//! that `export` writes, so that what a person or another program reads in it is what was hashed.
#![allow(
    clippy::doc_markdown,
    reason = "doc comments are help texts here, and backticks would show"
)]

mod chain;
mod export;
mod verify;

use std::process::ExitCode;

use provault_cli::{GlobalOptions, ListEvidenceArgs};

/// Subcommands of `evidence`.
#[derive(Debug, clap::Subcommand)]
pub enum EvidenceCommand {
    /// List the records, and say whether the chain of their hashes is whole (exit code 1 if not)
    #[command(after_help = provault_cli::EXIT_CODES_HELP)]
    List(ListEvidenceArgs),
    /// Write the whole chain, one record a line, so that it can be kept and verified elsewhere
    #[command(after_help = provault_cli::EXIT_CODES_HELP)]
    Export(export::ExportArgs),
    /// Verify the chain in a file, without a server; or, without a file, that of the server
    ///
    /// Every hash is computed anew, and every record must follow from the one before, from the first
    /// one on. That the newest records are missing, or that all was made anew, shows only beside a
    /// hash that was noted elsewhere: --expect-head or --includes.
    #[command(after_help = verify::EXIT_CODES)]
    Verify(verify::VerifyArgs),
}

/// Runs a subcommand.
pub fn run(command: EvidenceCommand, global: &GlobalOptions) -> ExitCode {
    match command {
        EvidenceCommand::List(args) => provault_cli::list_evidence(args, global),
        EvidenceCommand::Export(args) => args.run(global),
        EvidenceCommand::Verify(args) => args.run(global),
    }
}

//! The options that every command has.
#![allow(
    clippy::doc_markdown,
    reason = "doc comments are help texts here, and backticks would show"
)]

use std::path::PathBuf;

use crate::environment::Environment;

/// The options that every command has, before or after its name.
///
/// The binary's own `serve` and `lab` take `--data-dir`, `--region` and `--json` from here too.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalOptions {
    /// Print the API's JSON, one document, instead of tables
    #[arg(long, global = true)]
    pub json: bool,
    /// The server's data directory, for commands on its own machine [default: PROVAULT_DATA_DIR,
    /// else XDG_STATE_HOME/provault, else ~/.local/state/provault]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The server's address [default: from --data-dir, AWS_ENDPOINT_URL_BACKUP,
    /// AWS_ENDPOINT_URL, or the data directory]
    #[arg(long, global = true, value_name = "URL")]
    pub endpoint: Option<String>,
    /// The profile of the credentials file to sign with [default: AWS_PROFILE, else default]
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// PEM file of the authorities to believe when the server speaks HTTPS [default: the data
    /// directory's server's own, else AWS_CA_BUNDLE, else the public ones]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_bundle: Option<PathBuf>,
    /// The region [default: the data directory's server's, else AWS_REGION, AWS_DEFAULT_REGION]
    #[arg(long, global = true, value_name = "REGION")]
    pub region: Option<String>,
}

impl GlobalOptions {
    /// The data directory: `--data-dir`, else `PROVAULT_DATA_DIR`, else [`default_data_dir`].
    /// `None` where neither those nor `HOME` are set.
    pub fn data_dir(&self) -> Option<PathBuf> {
        let environment = Environment::of_process();
        self.data_dir
            .clone()
            .or_else(|| environment.path("PROVAULT_DATA_DIR"))
            .or_else(|| environment.default_data_dir())
    }
}

/// `$XDG_STATE_HOME/provault` if that is set and absolute, else `~/.local/state/provault`; `None`
/// where `HOME` is not set either.
pub fn default_data_dir() -> Option<PathBuf> {
    Environment::of_process().default_data_dir()
}

//! `recovery-kit export`: what an empty machine needs to become the server again.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use provault_wire::provault::{ExportRecoveryKitInput, RecoveryKit};
use serde_json::json;

use super::resource::body;
use super::{Context, random_digits};
use crate::client::Answer;
use crate::error::CliError;
use crate::exit::Exit;
use crate::input_file::first_line;

/// Arguments of `recovery-kit export`.
#[derive(Debug, clap::Args)]
pub struct ExportKitArgs {
    /// The file to write; it must not exist
    file: PathBuf,
    /// Seal the kit under the passphrase in this file [default: under a new recovery code, which is
    /// printed once]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl ExportKitArgs {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let shown = self.file.display().to_string();
        let (passphrase, new) = match &self.passphrase_file {
            Some(file) => (first_line(file)?, false),
            None => (recovery_code(), true),
        };
        // Before anything is asked for: a kit that cannot be kept is not made.
        if self.file.exists() {
            return Err(CliError::usage(format!("{shown} is there already; name another file")));
        }
        let input = body(&ExportRecoveryKitInput { passphrase: passphrase.clone() })?;
        let kit: Answer<RecoveryKit> =
            context.client.own("POST", "/recovery-kit", &[], Some(&input))?;
        write_private(&self.file, &kit.typed.kit)
            .map_err(|error| CliError::usage(format!("{shown}: {error}")))?;
        let mut told = json!({ "File": shown });
        if new {
            told["RecoveryCode"] = json!(passphrase);
            context.out.note(&format!(
                "the kit is in {shown}; its recovery code follows and is shown this once. Keep both \
                 away from the server, and apart from each other"
            ))?;
            context.out.show_line(&told, &passphrase)?;
        } else {
            context.out.show_line(&told, &shown)?;
        }
        Ok(Exit::Done)
    }
}

/// 244 random bits in groups that can be written down.
fn recovery_code() -> String {
    let digits = random_digits();
    let groups: Vec<String> =
        digits.as_bytes().chunks(8).map(|g| String::from_utf8_lossy(g).into_owned()).collect();
    groups.join("-")
}

fn write_private(file: &Path, text: &str) -> std::io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()
}

//! `server.json`: where the server of a data directory listens.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What a running server writes into its data directory, so that commands on the same machine find
/// it. It holds no secret; the key lies beside it ([`ServerFile::credentials_path`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServerFile {
    /// Such as `http://127.0.0.1:7070`.
    pub endpoint: String,
    /// The region it serves, the first one of several.
    pub region: String,
    /// The further regions it serves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_regions: Vec<String>,
    /// The account it serves, twelve digits.
    pub account_id: String,
    /// The authority behind its certificate, where it made that itself: a PEM file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl ServerFile {
    /// `DIR/server.json`.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("server.json")
    }

    /// `DIR/credentials`, in the form of an AWS credentials file with the profile `default`.
    pub fn credentials_path(data_dir: &Path) -> PathBuf {
        data_dir.join("credentials")
    }

    /// Reads the file of a data directory. [`io::ErrorKind::NotFound`]: no server has run there.
    pub fn load(data_dir: &Path) -> io::Result<Self> {
        let bytes = fs::read(Self::path(data_dir))?;
        serde_json::from_slice(&bytes).map_err(io::Error::from)
    }

    /// Writes the file, whole or not at all: a reader never sees half of it.
    pub fn store(&self, data_dir: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        let temporary = data_dir.join(".server.json.new");
        fs::write(&temporary, text)?;
        fs::rename(&temporary, Self::path(data_dir))
    }
}

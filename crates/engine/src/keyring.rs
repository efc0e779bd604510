//! Keys on disk: what seals the passwords of vaults and the secrets of access keys.
//!
//! Each key is a file of 32 random bytes in `DIR/keys/`, mode 0600, written once and synced with
//! its directory before anything is sealed by it: a vault whose key was lost in a power cut would
//! be lost with it.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use provault_domain::key::{Key, KeyWrapper};
use provault_repository::WrappingKey;

use crate::{EngineError, Result};

/// Key file that seals the server's own secrets; the keys of vaults are others.
pub const SERVER_KEY: &str = "server.key";
const KEY_BYTES: usize = 32;

/// The directory of key files.
#[derive(Debug, Clone)]
pub struct Keyring {
    directory: PathBuf,
}

impl Keyring {
    /// The keyring in `data_dir`; its directory is made if it is missing.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let directory = data_dir.join("keys");
        if !directory.exists() {
            DirBuilder::new()
                .mode(0o700)
                .create(&directory)
                .map_err(|error| failed("keyring", &directory, &error))?;
        }
        Ok(Self { directory })
    }

    /// Makes a new key file called `file`. An existing one is left as it is: a key that sealed
    /// something is never written over.
    pub fn create(&self, file: &str) -> Result<()> {
        self.write(file, &WrappingKey::generate())
    }

    fn write(&self, file: &str, key: &WrappingKey) -> Result<()> {
        let path = self.directory.join(file);
        let staged = self.directory.join(format!(".{file}.new"));
        let write = || -> std::io::Result<()> {
            if path.exists() {
                return Ok(());
            }
            let mut out = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&staged)?;
            out.write_all(key.expose())?;
            out.sync_all()?;
            std::fs::rename(&staged, &path)?;
            std::fs::File::open(&self.directory)?.sync_all()
        };
        write().map_err(|error| failed(file, &path, &error))
    }

    /// Removes a key file. What it sealed is lost with it.
    pub fn remove(&self, file: &str) -> Result<()> {
        let path = self.directory.join(file);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(failed(file, &path, &error))
            }
            _ => Ok(()),
        }
    }

    /// Seals `secret` under the key file `file`, for `context` alone.
    pub fn seal(&self, file: &str, context: &str, secret: &[u8]) -> Result<String> {
        Ok(hex::encode(self.load(file)?.seal(context, secret)))
    }

    /// Opens what [`Keyring::seal`] sealed under the same key and context.
    pub fn unseal(&self, file: &str, context: &str, sealed: &str) -> Result<String> {
        let broken = |message: String| EngineError::Key { key: file.to_owned(), message };
        let bytes = hex::decode(sealed)
            .map_err(|_| broken("what it should open is not sealed text.".to_owned()))?;
        let secret =
            self.load(file)?.unseal(context, &bytes).map_err(|error| broken(error.to_string()))?;
        String::from_utf8(secret.to_vec())
            .map_err(|_| broken("what it opened is not text.".to_owned()))
    }

    /// The contents of every key file by its name, in hexadecimal, for a recovery kit.
    pub fn export_all(&self) -> Result<BTreeMap<String, String>> {
        let broken = |error: &std::io::Error| failed("keyring", &self.directory, error);
        let mut all = BTreeMap::new();
        for entry in std::fs::read_dir(&self.directory).map_err(|error| broken(&error))? {
            let name = entry.map_err(|error| broken(&error))?.file_name();
            // A key that is being made is sealed under by nobody yet.
            match name.into_string() {
                Ok(file) if !file.starts_with('.') => {
                    let key = hex::encode(self.load(&file)?.expose());
                    all.insert(file, key);
                }
                _ => {}
            }
        }
        Ok(all)
    }

    /// Writes the key files of a recovery kit. One that is there with another content is never
    /// written over: what it sealed would be lost.
    pub fn import_all(&self, keys: &BTreeMap<String, String>) -> Result<()> {
        for (file, text) in keys {
            let wrong =
                |message: &str| EngineError::Key { key: file.clone(), message: message.to_owned() };
            let mut bytes = [0; KEY_BYTES];
            hex::decode_to_slice(text, &mut bytes)
                .map_err(|_| wrong("it is no key in the recovery kit."))?;
            if file.is_empty() || file.contains('/') || file.starts_with('.') {
                return Err(wrong("this is no name of a key file."));
            }
            let key = WrappingKey::from_bytes(bytes);
            if self.directory.join(file).exists() {
                if self.load(file)?.expose() != key.expose() {
                    return Err(wrong(
                        "another key of this name is in the data directory; choose another \
                         --data-dir.",
                    ));
                }
                continue;
            }
            self.write(file, &key)?;
        }
        Ok(())
    }

    /// The file behind a key.
    pub fn file_of(key: &Key) -> &str {
        match &key.wrapper {
            KeyWrapper::LocalFile { file } => file,
        }
    }

    fn load(&self, file: &str) -> Result<WrappingKey> {
        let path = self.directory.join(file);
        let mut bytes = [0; KEY_BYTES];
        let mut input = std::fs::File::open(&path).map_err(|error| failed(file, &path, &error))?;
        input.read_exact(&mut bytes).map_err(|error| failed(file, &path, &error))?;
        Ok(WrappingKey::from_bytes(bytes))
    }
}

fn failed(key: &str, path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::Key {
        key: key.to_owned(),
        message: format!(
            "{}: {error}. Without this file the vaults it seals cannot be opened; restore it from \
             your copy of the data directory.",
            path.display()
        ),
    }
}

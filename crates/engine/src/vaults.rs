//! Open repositories: one per vault, shared by every job.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use provault_domain::{BackupVault, Key};
use provault_repository::{
    Error, Options, Password, Repository, Storage, StorageOptions, open_directory, real_directory,
};

use crate::keyring::Keyring;
use crate::{EngineError, Result};

/// Begins the name of a repository that is being removed.
pub(crate) const DELETED: &str = ".deleted-";

/// A repository, once it is opened.
type Opened = Arc<Mutex<Option<Repository>>>;

/// Opens each vault's repository once. Its methods block, but not for ever: whatever is asked of a
/// storage has a deadline.
pub struct Vaults {
    data_dir: PathBuf,
    keyring: Keyring,
    storage: StorageOptions,
    /// By location, which no two vaults ever share; names and ARNs are used again.
    open: Mutex<HashMap<String, Opened>>,
}

impl Vaults {
    pub(crate) fn new(data_dir: PathBuf, keyring: Keyring, storage: StorageOptions) -> Self {
        Self { data_dir, keyring, storage, open: Mutex::default() }
    }

    /// Where the vault's repository lies.
    pub fn path(&self, vault: &BackupVault) -> PathBuf {
        // `join` keeps an absolute location as it is.
        self.data_dir.join(&vault.location)
    }

    /// Whether two vaults lie at the same place, however it is written. One that does not answer
    /// is compared as it is written.
    pub fn is_same_place(&self, one: &BackupVault, other: &BackupVault) -> bool {
        let place = |vault: &BackupVault| {
            let path = self.path(vault);
            real_directory(&path, &self.storage).unwrap_or(path)
        };
        place(one) == place(other)
    }

    /// Makes the repository of a vault that is about to be entered in the catalog, and seals its
    /// password. A crash before that entry leaves an empty repository that no vault names; the
    /// reconciler removes it.
    pub fn create(&self, vault: &mut BackupVault, key: &Key) -> Result<()> {
        let failed = EngineError::repository(&vault.name);
        let path = self.path(vault);
        let storage = self.storage(vault)?;
        if Repository::exists(storage.as_ref()).map_err(&failed)? {
            return Err(EngineError::Refused(format!(
                "{} holds a repository already; vault {} was not made.",
                path.display(),
                vault.name
            )));
        }
        let password = Password::generate();
        vault.sealed_password = self.keyring.seal(
            Keyring::file_of(key),
            vault.arn.as_str(),
            password.expose().as_bytes(),
        )?;
        Repository::init(storage, &password, Options::default()).map_err(&failed)?;
        Ok(())
    }

    /// Opens a repository that was there before its vault, and seals its password. Changes nothing
    /// in it.
    pub fn adopt(
        &self,
        vault: &mut BackupVault,
        key: &Key,
        password: &Password,
    ) -> Result<Repository> {
        let repository = open_place(&self.path(vault), &vault.name, password, &self.storage)?;
        vault.sealed_password = self.keyring.seal(
            Keyring::file_of(key),
            vault.arn.as_str(),
            password.expose().as_bytes(),
        )?;
        Ok(repository)
    }

    /// The vault's repository, opened on first use.
    pub fn open(&self, vault: &BackupVault, key: &Key) -> Result<Repository> {
        let place = Arc::clone(self.lock().entry(vault.location.clone()).or_default());
        // Held while it is opened. On a storage that does not answer that takes its time, and only
        // those who want the same vault are to wait.
        let mut opened = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(repository) = &*opened {
            return Ok(repository.clone());
        }
        let password = Password::from_text(self.password(vault, key)?);
        let options =
            Options { cache_dir: Some(self.data_dir.join("cache")), ..Options::default() };
        let repository = Repository::open(self.storage(vault)?, &password, options)
            .map_err(EngineError::repository(&vault.name))?;
        *opened = Some(repository.clone());
        Ok(repository)
    }

    /// The vault's password in clear: whoever has it reads everything in the vault.
    pub fn password(&self, vault: &BackupVault, key: &Key) -> Result<String> {
        self.keyring.unseal(Keyring::file_of(key), vault.arn.as_str(), &vault.sealed_password)
    }

    /// Removes the repository of a vault that is no longer in the catalog. Its new name says
    /// first that it is garbage, so that what a crash leaves of it is recognised.
    pub fn remove(&self, vault: &BackupVault) -> Result<()> {
        self.lock().remove(&vault.location);
        if vault.imported {
            return Ok(());
        }
        let path = self.path(vault);
        let remove = || {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let garbage = path.with_file_name(format!("{DELETED}{name}"));
            std::fs::rename(&path, &garbage)?;
            std::fs::remove_dir_all(&garbage)
        };
        match remove() {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(EngineError::Refused(format!(
                    "vault {} is deleted, but its empty repository at {} could not be removed: \
                     {error}. Remove it by hand.",
                    vault.name,
                    path.display()
                )))
            }
            _ => Ok(()),
        }
    }

    fn storage(&self, vault: &BackupVault) -> Result<Arc<dyn Storage>> {
        open_directory(&self.path(vault), &self.storage)
            .map_err(|error| EngineError::repository(&vault.name)(error.into()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Opened>> {
        // The map is whole at every await-free step; a panic elsewhere does not spoil it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a repository that has to be there already.
pub(crate) fn open_place(
    path: &Path,
    vault: &str,
    password: &Password,
    storage: &StorageOptions,
) -> Result<Repository> {
    let failed = EngineError::repository(vault);
    let storage = open_directory(path, storage).map_err(|error| failed(error.into()))?;
    match Repository::open(storage, password, Options::default()) {
        Err(Error::NotARepository) => Err(EngineError::Refused(format!(
            "vault {vault}: there is no repository at {}: it has no file config. Is its disk \
             mounted?",
            path.display()
        ))),
        other => other.map_err(failed),
    }
}

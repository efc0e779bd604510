//! Open repositories: one per vault, shared by every job.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use provault_domain::{BackupVault, Key};
use provault_repository::{LocalStorage, Options, Password, Repository, Storage};

use crate::keyring::Keyring;
use crate::{EngineError, Result};

/// Begins the name of a repository that is being removed.
pub(crate) const DELETED: &str = ".deleted-";

/// Opens each vault's repository once. Its methods block.
pub struct Vaults {
    data_dir: PathBuf,
    keyring: Keyring,
    /// By location, which no two vaults ever share; names and ARNs are used again.
    open: Mutex<HashMap<String, Repository>>,
}

impl Vaults {
    pub(crate) fn new(data_dir: PathBuf, keyring: Keyring) -> Self {
        Self { data_dir, keyring, open: Mutex::default() }
    }

    /// Where the vault's repository lies.
    pub fn path(&self, vault: &BackupVault) -> PathBuf {
        // `join` keeps an absolute location as it is.
        self.data_dir.join(&vault.location)
    }

    /// Whether two vaults lie at the same place, however it is written.
    pub fn is_same_place(&self, one: &BackupVault, other: &BackupVault) -> bool {
        let place = |vault: &BackupVault| {
            let path = self.path(vault);
            path.canonicalize().unwrap_or(path)
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
        let repository = open_place(&self.data_dir, &vault.name, &vault.location, password)?;
        vault.sealed_password = self.keyring.seal(
            Keyring::file_of(key),
            vault.arn.as_str(),
            password.expose().as_bytes(),
        )?;
        Ok(repository)
    }

    /// The vault's repository, opened on first use.
    pub fn open(&self, vault: &BackupVault, key: &Key) -> Result<Repository> {
        let mut open = self.lock();
        if let Some(repository) = open.get(&vault.location) {
            return Ok(repository.clone());
        }
        let password = Password::from_text(self.password(vault, key)?);
        let options =
            Options { cache_dir: Some(self.data_dir.join("cache")), ..Options::default() };
        let repository = Repository::open(self.storage(vault)?, &password, options)
            .map_err(EngineError::repository(&vault.name))?;
        open.insert(vault.location.clone(), repository.clone());
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
        let storage = LocalStorage::local(&self.path(vault))
            .map_err(|error| EngineError::repository(&vault.name)(error.into()))?;
        Ok(Arc::new(storage))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Repository>> {
        // The map is whole at every await-free step; a panic elsewhere does not spoil it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a repository that has to be there already.
pub(crate) fn open_place(
    data_dir: &Path,
    vault: &str,
    location: &str,
    password: &Password,
) -> Result<Repository> {
    let path = data_dir.join(location);
    // Opening a local place makes its directory; one that is not there stays so.
    if !path.join("config").is_file() {
        return Err(EngineError::Refused(format!(
            "vault {vault}: there is no repository at {}: it has no file config. Is its disk \
             mounted?",
            path.display()
        )));
    }
    let storage =
        LocalStorage::local(&path).map_err(|error| EngineError::repository(vault)(error.into()))?;
    Repository::open(Arc::new(storage), password, Options::default())
        .map_err(EngineError::repository(vault))
}

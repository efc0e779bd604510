//! Open repositories: one per vault, shared by every job.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use provault_domain::{BackupVault, Key};
use provault_repository::{Error, Options, Password, Repository, Storage, StorageOptions};

use crate::keyring::Keyring;
use crate::vault_place::VaultPlace;
use crate::{EngineError, Result, catalog_backup};

/// Begins the name of a repository that is being removed.
pub(crate) const DELETED: &str = ".deleted-";
/// Where vaults are made unless it is said otherwise, below the data directory.
const ROOT: &str = "vaults";

/// A repository, once it is opened.
type Opened = Arc<Mutex<Option<Repository>>>;

/// Opens each vault's repository once. Its methods block, but not for ever: whatever is asked of a
/// storage has a deadline.
pub struct Vaults {
    data_dir: PathBuf,
    /// Where new vaults are made; nothing for [`ROOT`].
    root: RwLock<Option<VaultPlace>>,
    keyring: Keyring,
    storage: StorageOptions,
    /// By location, which no two vaults ever share; names and ARNs are used again.
    open: Mutex<HashMap<String, Opened>>,
}

/// What became of a place that no vault names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cleared {
    /// Nothing was there any more, or it was removed.
    Gone,
    /// So many snapshots that are not ours to delete are there; it was left alone.
    Left(usize),
    /// What is there is no repository; it was left alone.
    Foreign,
}

impl Vaults {
    pub(crate) fn new(
        data_dir: PathBuf,
        root: Option<VaultPlace>,
        keyring: Keyring,
        storage: StorageOptions,
    ) -> Self {
        Self { data_dir, root: RwLock::new(root), keyring, storage, open: Mutex::default() }
    }

    /// Has new vaults made elsewhere from now on; those that exist stay where they are.
    pub(crate) fn set_root(&self, root: Option<VaultPlace>) {
        *self.root.write().unwrap_or_else(PoisonError::into_inner) = root;
    }

    /// Where the vault's repository lies.
    pub fn place(&self, vault: &BackupVault) -> VaultPlace {
        VaultPlace::of(&vault.location, &self.data_dir)
    }

    /// Where the store of the buckets is, unless it is AWS's.
    pub(crate) fn endpoint(&self) -> Option<&str> {
        // A password in it, against all advice, is nobody's to write down.
        self.storage.s3.endpoint().filter(|url| !url.contains('@'))
    }

    /// Whether two vaults lie at the same place, however it is written. One that does not answer
    /// is compared as it is written.
    pub fn is_same_place(&self, one: &BackupVault, other: &BackupVault) -> bool {
        self.place(one).real(&self.storage) == self.place(other).real(&self.storage)
    }

    /// The location of a new vault, below the root of this server. Nobody else has it, whatever
    /// crashed before under the same name.
    pub(crate) fn new_location(&self, name: &str) -> String {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let name = format!("{name}-{}", &unique[..8]);
        match &*self.root.read().unwrap_or_else(PoisonError::into_inner) {
            // Relative, so that the data directory can be moved.
            None => format!("{ROOT}/{name}"),
            Some(root) => root.below(&name).to_string(),
        }
    }

    /// Makes a password for a vault that is about to be made, seals it, and sees that its place is
    /// free and its storage answers. Changes nothing in the storage.
    pub(crate) fn prepare(&self, vault: &mut BackupVault, key: &Key) -> Result<Password> {
        let failed = EngineError::repository(&vault.name);
        let storage = self.storage(vault)?;
        if Repository::exists(storage.as_ref()).map_err(&failed)? {
            return Err(EngineError::Refused(format!(
                "{} holds a repository already; vault {} was not made.",
                self.place(vault),
                vault.name
            )));
        }
        let password = Password::generate();
        vault.sealed_password = self.keyring.seal(
            Keyring::file_of(key),
            vault.arn.as_str(),
            password.expose().as_bytes(),
        )?;
        Ok(password)
    }

    /// Makes the repository of a vault that is about to be entered in the catalog. A crash before
    /// that entry leaves an empty repository that no vault names.
    pub(crate) fn create(&self, vault: &BackupVault, password: &Password) -> Result<()> {
        Repository::init(self.storage(vault)?, password, Options::default())
            .map_err(EngineError::repository(&vault.name))?;
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
        let repository = open_place(&self.place(vault), &vault.name, password, &self.storage)?;
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

    /// Removes the repository of a vault that is no longer in the catalog. What a crash leaves of
    /// it never opens as a repository again.
    pub(crate) fn remove(&self, vault: &BackupVault) -> Result<()> {
        self.lock().remove(&vault.location);
        if vault.imported {
            return Ok(());
        }
        let failed = |error: &dyn std::fmt::Display| {
            EngineError::Refused(format!(
                "vault {} is deleted, but its empty repository at {} could not be removed: \
                 {error}. The server tries it again when it starts; or remove it by hand.",
                vault.name,
                self.place(vault)
            ))
        };
        match self.place(vault) {
            VaultPlace::Directory(path) => remove_directory(&path).map_err(|error| failed(&error)),
            VaultPlace::Bucket(_) => {
                let removed = Repository::remove(self.storage(vault)?.as_ref());
                removed.map(drop).map_err(|error| failed(&error))
            }
        }
    }

    /// Removes what is left at the place of a vault that no longer is, or never became one, in the
    /// catalog. Snapshots are left, but for copies of the catalog in a vault that was in use: a
    /// vault that holds others is not deleted, so whatever is there came afterwards.
    pub(crate) fn clear(
        &self,
        vault: &BackupVault,
        key: Option<&Key>,
        was_in_use: bool,
    ) -> Result<Cleared> {
        let failed = EngineError::repository(&vault.name);
        let storage = self.storage(vault)?;
        if !Repository::exists(storage.as_ref()).map_err(&failed)? {
            // Its making or its removal was cut short on this side of `config`, without which
            // nobody can have stored anything.
            return match self.place(vault) {
                VaultPlace::Directory(path) => clear_directory(&path)
                    .map_err(|error| EngineError::Refused(format!("{}: {error}", path.display()))),
                VaultPlace::Bucket(_) => {
                    Repository::remove(storage.as_ref()).map_err(&failed)?;
                    Ok(Cleared::Gone)
                }
            };
        }
        let Some(key) = key else {
            return Err(EngineError::Key {
                key: vault.encryption_key_arn.to_string(),
                message: format!(
                    "it is deleted, so that nobody can tell whether the repository at {} is in \
                     use. Remove that by hand.",
                    self.place(vault)
                ),
            });
        };
        let password = Password::from_text(self.password(vault, key)?);
        let list = Repository::open(storage, &password, Options::default())
            .and_then(|repository| repository.snapshots())
            .map_err(&failed)?;
        let ours =
            |s: &&provault_repository::Snapshot| was_in_use && s.has_tag(catalog_backup::TAG);
        let others = list.snapshots.iter().filter(|s| !ours(s)).count() + list.damaged.len();
        if others > 0 {
            return Ok(Cleared::Left(others));
        }
        self.remove(vault)?;
        Ok(Cleared::Gone)
    }

    fn storage(&self, vault: &BackupVault) -> Result<Arc<dyn Storage>> {
        self.place(vault)
            .open(&self.storage)
            .map_err(|error| EngineError::repository(&vault.name)(error.into()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Opened>> {
        // The map is whole at every await-free step; a panic elsewhere does not spoil it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a repository in a directory. Its new name says first that it is garbage, so that what a
/// crash leaves of it is recognised. That it is gone already is no error.
fn remove_directory(path: &Path) -> std::io::Result<()> {
    let garbage = garbage_of(path);
    let renamed = std::fs::rename(path, &garbage);
    match renamed.and_then(|()| std::fs::remove_dir_all(&garbage)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes what a making or a removal that was cut short has left: never what may be anything else.
fn clear_directory(path: &Path) -> std::io::Result<Cleared> {
    match std::fs::remove_dir_all(garbage_of(path)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if !path.try_exists()? {
        return Ok(Cleared::Gone);
    }
    if !is_unused_repository(path) {
        return Ok(Cleared::Foreign);
    }
    std::fs::remove_dir_all(path)?;
    Ok(Cleared::Gone)
}

fn garbage_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{DELETED}{name}"))
}

/// Whether there is nothing but what initialising a repository makes: its directories, its config,
/// its keys and its reserve for a full disk.
pub(crate) fn is_unused_repository(path: &Path) -> bool {
    const DIRECTORIES: [&str; 6] = ["data", "index", "keys", "locks", "provault", "snapshots"];
    let Ok(entries) = std::fs::read_dir(path) else { return false };
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.iter().any(|name| name == "config" || name == "keys")
        && names.iter().all(|name| name == "config" || DIRECTORIES.iter().any(|d| name == d))
        && ["data", "index", "snapshots"].iter().all(|d| holds_no_file(&path.join(d)))
        && holds_at_most(&path.join("provault"), "reserve")
}

fn holds_at_most(directory: &Path, name: &str) -> bool {
    match std::fs::read_dir(directory) {
        Ok(entries) => {
            entries.into_iter().all(|entry| entry.is_ok_and(|entry| entry.file_name() == name))
        }
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

fn holds_no_file(directory: &Path) -> bool {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.into_iter().all(|entry| {
            entry.is_ok_and(|entry| {
                entry.file_type().is_ok_and(|kind| kind.is_dir()) && holds_no_file(&entry.path())
            })
        }),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Opens a repository that has to be there already.
pub(crate) fn open_place(
    place: &VaultPlace,
    vault: &str,
    password: &Password,
    storage: &StorageOptions,
) -> Result<Repository> {
    let failed = EngineError::repository(vault);
    let storage = place.open(storage).map_err(|error| failed(error.into()))?;
    match Repository::open(storage, password, Options::default()) {
        Err(Error::NotARepository) => Err(EngineError::Refused(format!(
            "vault {vault}: there is no repository at {place}: {}",
            place.absence()
        ))),
        other => other.map_err(failed),
    }
}

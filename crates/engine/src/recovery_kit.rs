//! The recovery kit: what an empty machine needs to become the server again.
//!
//! A kit is a text file. Its head says in plain words what it is, where the vaults lie and what to
//! do; its sealed part holds the keys, the vaults with their passwords, and who may sign in. It is
//! sealed under a recovery code or a passphrase, stretched by scrypt.
//!
//! What a kit does not hold is in the vaults: copies of the catalog, and a record inside each
//! snapshot. So a kit stays good as long as no vault and no key is added.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use provault_catalog::{AccessKeyRow, Catalog, CatalogError};
use provault_domain::{AccountId, BackupVault, Key, Role, Tags};
use provault_repository::{Password, Repository, Snapshot, StorageOptions, WrappingKey};
use serde::{Deserialize, Serialize};

use crate::shared::{Parts, blocking};
use crate::vault_place::{BUCKET, VaultPlace};
use crate::{Engine, EngineError, Imported, Keyring, Result, catalog_backup, import};

const BEGIN: &str = "-----BEGIN PROVAULT RECOVERY KIT-----";
const END: &str = "-----END PROVAULT RECOVERY KIT-----";
/// What the sealed part is bound to.
const CONTEXT: &str = "provault recovery kit 1";
/// The version of the sealed part.
const VERSION: u32 = 1;
/// The shortest passphrase that is taken, in characters.
pub const SHORTEST_PASSPHRASE: usize = 12;

/// What a kit holds, opened.
#[derive(Clone, Serialize, Deserialize)]
pub struct Kit {
    version: u32,
    /// When it was made.
    pub made_at: Timestamp,
    /// The tenant.
    pub account: AccountId,
    /// Settings of the catalog: account, region, the secret of page tokens, sealed.
    settings: BTreeMap<String, String>,
    /// Contents of the key files by name, in hexadecimal.
    key_files: BTreeMap<String, String>,
    keys: Vec<Key>,
    roles: Vec<Role>,
    access_keys: Vec<AccessKeyRow>,
    /// The vaults, and how to open them with any tool.
    pub vaults: Vec<KitVault>,
    /// Where the store of the buckets is that vaults lie in, unless it is AWS's.
    #[serde(default)]
    pub s3_endpoint: Option<String>,
}

/// A vault in a kit.
#[derive(Clone, Serialize, Deserialize)]
pub struct KitVault {
    vault: BackupVault,
    /// Where it lies, as a path or URL that needs no data directory.
    pub location: String,
    /// The password of its repository.
    pub password: String,
}

impl KitVault {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.vault.name
    }
}

/// What a restore from a kit brought back.
#[derive(Debug, Clone)]
pub struct Restored {
    /// Of when the copy of the catalog is, and in which vault it was; `None` when there was none
    /// that could be read.
    pub catalog_copy: Option<(Timestamp, String)>,
    /// What was entered from the vaults themselves, by vault.
    pub imported: Vec<(String, Imported)>,
    /// What could not be done, for people.
    pub problems: Vec<String>,
}

/// Settings that a server cannot do without.
const SETTINGS: [&str; 3] = ["account-id", "region", "page-token-secret"];

impl Engine {
    /// The text of a recovery kit of an account, sealed under `passphrase`.
    pub async fn export_kit(&self, account: &AccountId, passphrase: &str) -> Result<String> {
        check_passphrase(passphrase)?;
        let catalog = self.catalog();
        let mut settings = BTreeMap::new();
        for name in SETTINGS {
            if let Some(value) = catalog.setting(name).await? {
                settings.insert(name.to_owned(), value);
            }
        }
        let keys = catalog.list_keys(account).await?;
        let mut vaults = Vec::new();
        for vault in catalog.all_vaults().await?.into_iter().filter(|v| v.account == *account) {
            let location = self.shared.vaults.place(&vault).to_string();
            let password = self.export_password(&vault).await?;
            vaults.push(KitVault { vault, location, password });
        }
        let kit = Kit {
            version: VERSION,
            made_at: self.now(),
            account: account.clone(),
            settings,
            key_files: self.keyring().export_all()?,
            keys,
            roles: catalog.list_roles(account).await?,
            access_keys: catalog.list_access_keys(account).await?,
            s3_endpoint: self.shared.vaults.endpoint().map(str::to_owned),
            vaults,
        };
        let passphrase = passphrase.to_owned();
        blocking(move || kit.seal(&passphrase)).await?
    }
}

/// Refuses what could be guessed.
pub fn check_passphrase(passphrase: &str) -> Result<()> {
    if passphrase.chars().count() >= SHORTEST_PASSPHRASE {
        return Ok(());
    }
    Err(provault_domain::Invalid::new(
        "Passphrase",
        format!(
            "a kit opens everything there is: use {SHORTEST_PASSPHRASE} characters or more, or let \
             the command line make a recovery code."
        ),
    )
    .into())
}

impl Kit {
    fn seal(&self, passphrase: &str) -> Result<String> {
        let broken = |what: &dyn std::fmt::Display| EngineError::Internal(what.to_string());
        let json = serde_json::to_vec(self).map_err(|error| broken(&error))?;
        let salt = rand::random::<[u8; 32]>();
        let key = WrappingKey::from_passphrase(passphrase, &salt, WrappingKey::STRETCH)
            .map_err(|error| broken(&error))?;
        let sealed = hex::encode(key.seal(CONTEXT, &json));
        let mut text = self.instructions();
        text.push_str(BEGIN);
        for part in ["\nscrypt ", &WrappingKey::STRETCH.to_string(), " ", &hex::encode(salt), "\n"]
        {
            text.push_str(part);
        }
        for line in sealed.as_bytes().chunks(76) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str(END);
        text.push('\n');
        Ok(text)
    }

    fn instructions(&self) -> String {
        let line = |vault: &KitVault| format!("    {:<20} {}\n", vault.name(), vault.location);
        let mut vaults = self.vaults.iter().map(line).collect::<Vec<_>>().concat();
        if self.vaults.iter().any(|vault| vault.location.starts_with(BUCKET)) {
            vaults.push_str(&self.about_buckets());
        }
        format!(
            "PROVAULT RECOVERY KIT\n\
             =====================\n\n\
             Account {}, made {}.\n\n\
             With this file, its recovery code or passphrase, and the storage of the vaults, an empty\n\
             machine becomes the backup server again. Keep the file and the code apart from each other\n\
             and away from the server. Make a new kit after adding a vault or a key.\n\n\
             The vaults:\n\n{vaults}\n\
             TO BRING THE SERVER BACK: install provault, see that the storage of the vaults is there\n\
             (mounted, reachable), and run\n\n\
             \x20   provault recovery-kit restore THIS-FILE --data-dir DIR\n\n\
             It asks for the code. A vault that lies elsewhere now is named by --vault NAME=LOCATION.\n\
             Then start the server: provault serve --data-dir DIR. Recovery points, plans and access\n\
             keys are those of the newest copy of the catalog that the vaults hold; recovery points\n\
             that are newer are found in the vaults.\n\n\
             TO GET AT THE DATA WITH RESTIC ALONE: every vault is a restic repository. Show its password\n\
             with\n\n\
             \x20   provault recovery-kit show THIS-FILE --passwords\n\n\
             and open it with restic 0.14 or later, which needs no provault:\n\n\
             \x20   restic -r LOCATION snapshots\n\
             \x20   restic -r LOCATION restore SNAPSHOT --target DIR\n\n\
             A snapshot with the tag provault-catalog holds a copy of the catalog. How the part below is\n\
             sealed is described in docs/how-to/recovery-kit.md.\n\n",
            self.account, self.made_at
        )
    }

    /// What to know of vaults in buckets, whose key this kit does not hold.
    fn about_buckets(&self) -> String {
        let endpoint = self.s3_endpoint.as_deref();
        let shown = endpoint.unwrap_or("that of AWS; AWS_REGION names the region");
        let for_restic = endpoint.unwrap_or("https://s3.amazonaws.com");
        format!(
            "\nThose at s3:// lie in buckets. Endpoint: {shown}\n\
             This kit holds no key to the buckets: set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and\n\
             AWS_ENDPOINT_URL_S3 (docs/how-to/storage.md) for the commands below. For restic,\n\
             s3://BUCKET/PREFIX is written s3:{for_restic}/BUCKET/PREFIX.\n"
        )
    }

    /// Opens the text of a kit.
    pub fn open(text: &str, passphrase: &str) -> Result<Self> {
        let refuse = |why: &str| EngineError::Refused(format!("the recovery kit {why}"));
        let sealed = text
            .split_once(BEGIN)
            .and_then(|(_, rest)| rest.split_once(END))
            .map(|(sealed, _)| sealed)
            .ok_or_else(|| refuse("is not whole: its sealed part is missing."))?;
        let mut words = sealed.split_whitespace();
        let head = (words.next(), words.next(), words.next());
        let (Some("scrypt"), Some(stretch), Some(salt)) = head else {
            return Err(refuse("was made by another version of provault; use that."));
        };
        let stretch = stretch.parse().map_err(|_| refuse("is damaged in its first line."))?;
        let salt = hex::decode(salt).map_err(|_| refuse("is damaged in its first line."))?;
        let bytes = hex::decode(words.collect::<String>()).map_err(|_| {
            refuse("is damaged: its sealed part holds other than hexadecimal digits.")
        })?;
        let key = WrappingKey::from_passphrase(passphrase, &salt, stretch)
            .map_err(|_| refuse("is damaged in its first line."))?;
        let json = key
            .unseal(CONTEXT, &bytes)
            .map_err(|_| refuse("does not open: wrong recovery code or passphrase, or damage."))?;
        let kit: Self = serde_json::from_slice(&json).map_err(|error| {
            refuse(&format!("cannot be read: {error}; use the provault that made it."))
        })?;
        if kit.version != VERSION {
            return Err(refuse("was made by another version of provault; use that."));
        }
        Ok(kit)
    }

    /// Puts the places of vaults that lie elsewhere now.
    pub fn relocate(&mut self, moved: &BTreeMap<String, String>) -> Result<()> {
        for (name, location) in moved {
            let vault = self.vaults.iter_mut().find(|vault| vault.vault.name == *name);
            let vault = vault.ok_or_else(|| {
                EngineError::Refused(format!("the recovery kit knows no vault '{name}'."))
            })?;
            vault.location.clone_from(location);
        }
        Ok(())
    }

    fn repository(vault: &KitVault, storage: &StorageOptions) -> Result<Repository> {
        // A kit holds whole paths and URLs.
        let place = VaultPlace::of(&vault.location, Path::new("/"));
        let password = Password::from_text(vault.password.clone());
        crate::vaults::open_place(&place, &vault.vault.name, &password, storage)
    }

    /// Rebuilds a server in `parts.data_dir` from this kit and the storage of its vaults: the keys,
    /// the newest copy of the catalog that can be read or a new one, and what the vaults hold
    /// beside it. `catalog_file` is where the server will look for its catalog; it appears there
    /// last and whole, so that an attempt that was cut short is simply made again. `storage` says
    /// how the vaults are reached. Copies that are dated after `now` are taken only if there is no
    /// other.
    pub async fn restore(
        self,
        catalog_file: &Path,
        storage: &StorageOptions,
        now: Timestamp,
        parts: impl FnOnce(Catalog) -> Parts,
    ) -> Result<Restored> {
        let data_dir = catalog_file.parent().unwrap_or(Path::new("/")).to_owned();
        if catalog_file.exists() {
            return Err(EngineError::Refused(format!(
                "{} is there already: {} belongs to a server. Choose another --data-dir.",
                catalog_file.display(),
                data_dir.display()
            )));
        }
        Keyring::open(&data_dir)?.import_all(&self.key_files)?;
        let staged = staged(catalog_file);
        let mut problems = Vec::new();
        let kit = Arc::new(self);
        let catalog_copy = kit.fetch_catalog(&staged, storage, now, &mut problems).await?;
        let url = format!("sqlite:{}", staged.display());
        let catalog = Catalog::open(&url).await?;
        kit.complete(&catalog, storage, catalog_copy.is_none()).await?;
        crate::restore::give_up_all(&catalog, now).await?;
        let engine = Engine::new(parts(catalog.clone()))?;
        let mut imported = Vec::new();
        for vault in catalog.all_vaults().await? {
            match import::into_catalog(&engine.shared, &vault, !vault.imported, None).await {
                Ok(found) => imported.push((vault.name, found)),
                Err(error) => problems.push(error.to_string()),
            }
        }
        drop(engine);
        catalog.close().await;
        let target = catalog_file.to_owned();
        let placed = blocking(move || place(&staged, &target)).await?;
        placed.map_err(|error| {
            EngineError::Refused(format!("{}: {error}", catalog_file.display()))
        })?;
        Ok(Restored { catalog_copy, imported, problems })
    }

    /// The newest copy of this server's catalog that a vault holds and that can be read to its end.
    async fn fetch_catalog(
        self: &Arc<Self>,
        staged: &Path,
        storage: &StorageOptions,
        now: Timestamp,
        problems: &mut Vec<String>,
    ) -> Result<Option<(Timestamp, String)>> {
        let mut copies = Vec::new();
        // A server makes no copies in vaults that it imported: what lies there is of another one.
        let own = self.vaults.iter().enumerate().filter(|(_, vault)| !vault.vault.imported);
        for (index, vault) in own {
            let (kit, storage) = (Arc::clone(self), storage.clone());
            let found = blocking(move || -> Result<_> {
                let vault = &kit.vaults[index];
                let repository = Self::repository(vault, &storage)?;
                let copies = catalog_backup::copies_in(&repository)
                    .map_err(EngineError::repository(&vault.vault.name))?;
                Ok((repository, copies))
            });
            match found.await? {
                Ok((repository, found)) => {
                    let name = &vault.vault.name;
                    copies.extend(found.into_iter().map(|copy| (copy, repository.clone(), name)));
                }
                Err(error) => problems.push(error.to_string()),
            }
        }
        let is_ahead = |copy: &Snapshot| catalog_backup::is_ahead(copy.time, now);
        copies.sort_by_key(|(copy, ..)| (is_ahead(copy), std::cmp::Reverse(copy.time)));
        let mut ahead = copies.iter().filter(|(copy, ..)| is_ahead(copy));
        if let Some((newest, _, vault)) = ahead.next() {
            problems.push(format!(
                "{} of the catalog dated after now ({now}) and taken only if there is no other, the \
                 newest that of {} in vault {vault}: the clock of the server was ahead, or that of \
                 this machine is behind. If it is this machine's, set it and restore again into an \
                 empty data directory.",
                match ahead.count() {
                    0 => "A copy is".to_owned(),
                    more => format!("{} copies are", more + 1),
                },
                newest.time
            ));
        }
        for (copy, repository, vault) in copies {
            let (target, time) = (staged.to_owned(), copy.time);
            let extracted = blocking(move || {
                remove_catalog(&target).map_err(|error| {
                    EngineError::Refused(format!("{}: {error}", target.display()))
                })?;
                catalog_backup::extract(&repository, &copy, &target)
                    .map_err(EngineError::repository("of the copy"))
            });
            let opened = match extracted.await? {
                Ok(()) => self.look_into(staged).await,
                Err(error) => Err(error),
            };
            match opened {
                Ok(()) => return Ok(Some((time, vault.clone()))),
                Err(error) => problems.push(format!(
                    "the copy of the catalog of {time} in vault {vault} cannot be used: {error}"
                )),
            }
        }
        let target = staged.to_owned();
        blocking(move || remove_catalog(&target))
            .await?
            .map_err(|error| EngineError::Refused(format!("{}: {error}", staged.display())))?;
        Ok(None)
    }

    /// Opens a copy of a catalog, and refuses one that is not of this kit's server.
    async fn look_into(&self, staged: &Path) -> Result<()> {
        let catalog = Catalog::open(&format!("sqlite:{}", staged.display())).await?;
        let mut differs = None;
        // These are fixed by the first start for ever, and the secret is another on each server.
        for (name, value) in &self.settings {
            if catalog.setting(name).await?.as_ref() != Some(value) {
                differs = Some(name);
            }
        }
        catalog.close().await;
        match differs {
            None => Ok(()),
            Some(setting) => Err(EngineError::Refused(format!(
                "it is of another server than this kit ({setting} is another)."
            ))),
        }
    }

    /// Enters into the catalog what the kit knows and the catalog does not, and where the vaults
    /// lie now.
    async fn complete(
        self: &Arc<Self>,
        catalog: &Catalog,
        storage: &StorageOptions,
        anew: bool,
    ) -> Result<()> {
        for (name, value) in &self.settings {
            catalog.put_setting_if_absent(name, value).await?;
        }
        let there = |outcome: provault_catalog::Result<()>| match outcome {
            Err(CatalogError::AlreadyExists { .. }) => Ok(()),
            other => other,
        };
        for key in &self.keys {
            there(catalog.insert_key(key).await)?;
        }
        for role in self.roles.iter().filter(|_| anew) {
            there(catalog.insert_role(role).await)?;
        }
        for row in self.access_keys.iter().filter(|_| anew) {
            there(catalog.insert_access_key(row).await)?;
        }
        for (index, KitVault { vault, location, .. }) in self.vaults.iter().enumerate() {
            let mut vault = BackupVault { location: location.clone(), ..vault.clone() };
            match catalog.vault(&vault.account, &vault.name).await? {
                // The copy is of a time when this vault was another one: the kit is older.
                Some(known) if known.created_at != vault.created_at => {}
                Some(known) => {
                    vault.care = known.care;
                    catalog.update_vault(&vault).await?;
                }
                // Its topic may not be there; who is told is to be set anew.
                None if anew => {
                    vault.notifications = None;
                    catalog.insert_vault(&vault, &Tags::new()).await?;
                }
                // Deleted after the kit was made, or made after the copy: its repository decides.
                None => {
                    let (kit, storage) = (Arc::clone(self), storage.clone());
                    let opens =
                        blocking(move || Self::repository(&kit.vaults[index], &storage).is_ok());
                    if opens.await? {
                        vault.notifications = None;
                        catalog.insert_vault(&vault, &Tags::new()).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn staged(catalog_file: &Path) -> PathBuf {
    let mut name = catalog_file.file_name().unwrap_or_default().to_owned();
    name.push(".restoring");
    catalog_file.with_file_name(name)
}

/// Removes what an earlier attempt left.
fn remove_catalog(file: &Path) -> std::io::Result<()> {
    for end in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(end);
        match std::fs::remove_file(PathBuf::from(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Puts the finished catalog where the server looks for it.
fn place(staged: &Path, target: &Path) -> std::io::Result<()> {
    // Closing the last connection has written everything into the file itself.
    std::fs::File::open(staged)?.sync_all()?;
    for end in ["-wal", "-shm"] {
        let mut name = staged.as_os_str().to_owned();
        name.push(end);
        let left = PathBuf::from(name);
        if left.metadata().is_ok_and(|meta| meta.len() > 0) && end == "-wal" {
            return Err(std::io::Error::other("the restored catalog was not closed"));
        }
    }
    std::fs::rename(staged, target)?;
    std::fs::File::open(target.parent().unwrap_or(Path::new("/")))?.sync_all()
}

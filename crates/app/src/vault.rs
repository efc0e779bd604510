//! Backup vaults.

use provault_catalog::{CatalogError, Page};
use provault_domain::key::DEFAULT_KEY;
use provault_domain::resource::validate_tags;
use provault_domain::vault::{BackupVault, DEFAULT_VAULT, validate_vault_name};
use provault_domain::{Arn, Tags};
use provault_engine::EngineError;

use crate::paging::List;
use crate::{App, AppError, Caller, ErrorKind, Listing, Paging, Result};

/// What a new vault is to be.
#[derive(Debug, Clone, Default)]
pub struct NewVault {
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: Tags,
    /// The key that seals it; the default key when absent.
    pub encryption_key_arn: Option<String>,
    /// The caller's token.
    pub creator_request_id: Option<String>,
}

/// A vault and how much is in it.
#[derive(Debug, Clone)]
pub struct VaultView {
    /// The vault.
    pub vault: BackupVault,
    /// Recovery points in it.
    pub recovery_points: u64,
}

/// AWS's rule for `CreatorRequestId`: 1 to 50 letters, digits, `-`, `_` or `.`.
pub(crate) fn check_request_id(id: Option<&str>) -> Result<()> {
    match id {
        Some(id)
            if !(1..=50).contains(&id.len())
                || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) =>
        {
            Err(AppError::invalid(
                "CreatorRequestId",
                "use 1 to 50 letters, digits, '-', '_' or '.'.",
            ))
        }
        _ => Ok(()),
    }
}

impl App {
    pub(crate) fn vault_arn(&self, caller: &Caller, name: &str) -> Arn {
        Arn::backup_vault(self.region(), caller.account(), name)
    }

    /// A vault that has to exist.
    pub(crate) async fn vault_named(&self, caller: &Caller, name: &str) -> Result<BackupVault> {
        self.catalog().vault(caller.account(), name).await?.ok_or_else(|| {
            AppError::not_found(format!(
                "There is no backup vault '{name}' in account {} and region {}; create it, or see \
                 list-backup-vaults for those there are.",
                caller.account(),
                self.region()
            ))
        })
    }

    /// `CreateBackupVault`. A repetition with the same name and request id gives the same vault.
    pub async fn create_backup_vault(&self, caller: &Caller, new: NewVault) -> Result<BackupVault> {
        const ACTION: &str = "backup:CreateBackupVault";
        let arn = self.vault_arn(caller, &new.name);
        self.audited(caller, ACTION, &arn, async {
            self.permit(caller, ACTION, &arn)?;
            validate_vault_name("BackupVaultName", &new.name)?;
            check_request_id(new.creator_request_id.as_deref())?;
            validate_tags(&new.tags).map_err(|mut invalid| {
                invalid.member = String::from("BackupVaultTags");
                invalid
            })?;
            let key = self.vault_key(caller, new.encryption_key_arn.as_deref()).await?;
            if let Some(existing) = self.catalog().vault(caller.account(), &new.name).await? {
                return repeated(existing, &new);
            }
            let limit = self.settings().max_vaults;
            let page = Page { after: None, limit: limit.max(1) };
            let have = self.catalog().list_vaults(caller.account(), page).await?.items.len();
            if have >= usize::try_from(limit).unwrap_or(usize::MAX) {
                return Err(AppError::new(
                    ErrorKind::LimitExceeded,
                    format!("This account has {have} vaults, and {limit} is the limit; delete one first."),
                ));
            }
            let vault = BackupVault {
                name: new.name.clone(),
                arn: arn.clone(),
                account: caller.account().clone(),
                region: self.region().clone(),
                encryption_key_arn: key,
                creator_request_id: new.creator_request_id.clone(),
                created_at: self.now(),
                location: String::new(),
                sealed_password: String::new(),
                notifications: None,
 care: provault_domain::care::CareSettings::default(),
 imported: false,
            };
            match self.engine().create_vault(vault, &new.tags).await {
                Ok(vault) => Ok(vault),
                // Somebody else made it in between.
                Err(EngineError::Catalog(CatalogError::AlreadyExists { .. })) => {
                    repeated(self.vault_named(caller, &new.name).await?, &new)
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    pub(crate) async fn vault_key(&self, caller: &Caller, arn: Option<&str>) -> Result<Arn> {
        const MEMBER: &str = "EncryptionKeyArn";
        let Some(text) = arn else {
            let keys = self.catalog().list_keys(caller.account()).await?;
            return keys
                .into_iter()
                .find(|key| key.name == DEFAULT_KEY)
                .map(|key| key.arn)
                .ok_or_else(|| AppError::fault(&"the default key is missing"));
        };
        let unknown = || {
            AppError::invalid(
                MEMBER,
                format!(
                    "'{text}' is not a key of this server; make one with `provault key add NAME`, \
                     take one from `provault key list`, or leave it out for the default key."
                ),
            )
        };
        let arn: Arn = text.parse().map_err(|_| unknown())?;
        match self.catalog().key(&arn).await? {
            Some(key) if key.account == *caller.account() => Ok(key.arn),
            _ => Err(unknown()),
        }
    }

    /// `DescribeBackupVault`. A vault that does not exist is an `AccessDeniedException` unless the
    /// setting says otherwise: clients depend on AWS's answer.
    pub async fn describe_backup_vault(&self, caller: &Caller, name: &str) -> Result<VaultView> {
        self.permit(caller, "backup:DescribeBackupVault", self.vault_arn(caller, name))?;
        let missing = || {
            if self.missing_vault_is_access_denied() {
                AppError::access_denied("Insufficient privileges to perform this action.")
            } else {
                AppError::not_found(format!(
                    "There is no backup vault '{name}'; see list-backup-vaults for those there are."
                ))
            }
        };
        let vault = self.catalog().vault(caller.account(), name).await?.ok_or_else(missing)?;
        self.counted(vault).await
    }

    async fn counted(&self, vault: BackupVault) -> Result<VaultView> {
        let recovery_points =
            self.catalog().recovery_point_count(&vault.account, &vault.name).await?;
        Ok(VaultView { vault, recovery_points })
    }

    /// `ListBackupVaults`.
    pub async fn list_backup_vaults(
        &self,
        caller: &Caller,
        paging: &Paging,
    ) -> Result<Listing<VaultView>> {
        self.permit(caller, "backup:ListBackupVaults", "*")?;
        let list = List::new(caller, "ListBackupVaults", &());
        let page = self.page(&list, paging)?;
        let listed =
            self.listing(&list, self.catalog().list_vaults(caller.account(), page).await?)?;
        let mut items = Vec::with_capacity(listed.items.len());
        for vault in listed.items {
            items.push(self.counted(vault).await?);
        }
        Ok(Listing { items, next_token: listed.next_token })
    }

    /// `ListBackupVaults` of vaults of a type, or shared ones, that this server does not have.
    pub fn list_no_vaults(&self, caller: &Caller) -> Result<Listing<VaultView>> {
        self.permit(caller, "backup:ListBackupVaults", "*")?;
        Ok(Listing::empty())
    }

    /// `DeleteBackupVault`. Only an empty vault can be deleted, and never the default one.
    pub async fn delete_backup_vault(&self, caller: &Caller, name: &str) -> Result<()> {
        const ACTION: &str = "backup:DeleteBackupVault";
        let arn = self.vault_arn(caller, name);
        self.audited(caller, ACTION, &arn, async {
            self.permit(caller, ACTION, &arn)?;
            let vault = self.vault_named(caller, name).await?;
            if name == DEFAULT_VAULT {
                return Err(AppError::refused(
                    "The vault 'Default' cannot be deleted: every account has it.",
                ));
            }
            let points = self.counted(vault).await?.recovery_points;
            if points > 0 {
                let (there, them) = if points == 1 {
                    ("there is 1 recovery point".to_owned(), "it")
                } else {
                    (format!("there are {points} recovery points"), "them")
                };
                return Err(AppError::refused(format!(
                    "Backup vault '{name}' cannot be deleted: {there} in it. Delete {them} \
                     first (list-recovery-points-by-backup-vault shows, delete-recovery-point \
                     deletes), or wait until retention is over."
                )));
            }
            Ok(self.engine().delete_vault(caller.account(), name).await?)
        })
        .await
    }
}

/// The answer to a request for a vault that is there: the same one to a repetition, else a refusal.
fn repeated(existing: BackupVault, new: &NewVault) -> Result<BackupVault> {
    let same_request = new.creator_request_id.is_some()
        && existing.creator_request_id == new.creator_request_id
        && new
            .encryption_key_arn
            .as_deref()
            .is_none_or(|k| k == existing.encryption_key_arn.as_str());
    if same_request {
        return Ok(existing);
    }
    Err(AppError::exists(
        format!(
            "A backup vault '{}' exists already in this account and region; use another name, or \
             that vault.",
            existing.name
        ),
        Some(existing.arn.clone()),
    )
    .made_by(existing.creator_request_id.as_deref()))
}

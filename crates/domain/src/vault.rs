//! Backup vaults.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::care::CareSettings;
use crate::{AccountId, Arn, Invalid, Region};

/// Name of the vault that exists in every account.
pub const DEFAULT_VAULT: &str = "Default";

/// A vault: one repository, one key, one deduplication domain, one lock domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupVault {
    /// Unique in the account and region: `^[a-zA-Z0-9\-\_]{2,50}$`.
    pub name: String,
    /// `arn:aws:backup:R:A:backup-vault:NAME`.
    pub arn: Arn,
    /// Tenant.
    pub account: AccountId,
    /// Site.
    pub region: Region,
    /// Key whose wrapper seals the repository's password.
    pub encryption_key_arn: Arn,
    /// The caller's idempotency token.
    pub creator_request_id: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Where its repository lies: a path, absolute or relative to the data directory, or
    /// `s3://BUCKET/PREFIX`.
    pub location: String,
    /// The repository's password, sealed by the key, as base64.
    pub sealed_password: String,
    /// Where its events go, if anywhere.
    pub notifications: Option<VaultNotifications>,
    /// How it is looked after.
    #[serde(default)]
    pub care: CareSettings,
    /// Whether its repository was there before the vault. It is somebody's: deleting the vault
    /// leaves it where it is.
    #[serde(default)]
    pub imported: bool,
}

/// A vault's notification setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultNotifications {
    /// The topic.
    pub topic_arn: Arn,
    /// Names of AWS's `BackupVaultEvent`.
    pub events: Vec<String>,
}

/// AWS's rule for vault names.
pub fn validate_vault_name(member: &str, name: &str) -> Result<(), Invalid> {
    let good = (2..=50).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if good {
        return Ok(());
    }
    Err(Invalid::new(
        member,
        format!("'{name}' is not a vault name: use 2 to 50 letters, digits, '-' or '_'."),
    ))
}

//! Keys: what an `EncryptionKeyArn` names.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AccountId, Arn};

/// Name of the key that exists in every account.
pub const DEFAULT_KEY: &str = "default";

/// A key wrapper that seals the passwords of vaults. The key itself is never in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// `arn:aws:kms:REGION:ACCOUNT:key/UUID`.
    pub arn: Arn,
    /// Tenant.
    pub account: AccountId,
    /// A name for people, unique in the account.
    pub name: String,
    /// Where the wrapping key lies.
    pub wrapper: KeyWrapper,
    /// When it was added.
    pub created_at: Timestamp,
}

/// Where a wrapping key lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum KeyWrapper {
    /// A file of 32 random bytes in the server's data directory, mode 0600.
    LocalFile {
        /// File name below `DIR/keys/`.
        file: String,
    },
}

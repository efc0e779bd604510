//! Users: who may do what, besides the root of the account.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::resource::validate_name;
use crate::{AccountId, Arn, Invalid};

/// Access keys that the root and every user may have (IAM's quota): one in use, and one that is to
/// take its place.
pub const MAX_ACCESS_KEYS: usize = 2;
/// The name that stands for the root of the account, and that no user may have.
pub const ROOT: &str = "root";

/// Somebody who signs requests with access keys of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// `arn:aws:iam::ACCOUNT:user/NAME`.
    pub arn: Arn,
    /// Tenant.
    pub account: AccountId,
    /// 1 to 64 letters, digits, `.`, `-` or `_`, unique in the account.
    pub name: String,
    /// Names of the managed policies attached to it.
    pub managed_policies: Vec<String>,
    /// A policy of its own, a JSON document in IAM's language.
    pub policy_document: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl User {
    /// Checks what a user may be called.
    pub fn validate_name(member: &str, name: &str) -> Result<(), Invalid> {
        validate_name(member, name)?;
        if name.eq_ignore_ascii_case(ROOT) {
            return Err(Invalid::new(
                member,
                format!("'{name}' stands for the root of the account; choose another name."),
            ));
        }
        Ok(())
    }
}

//! Whom a request speaks for.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An identity of one account, named by its ARN
/// (`arn:aws:iam::123456789012:root`, `arn:aws:iam::123456789012:user/NAME`).
///
/// It can only be made from an ARN, so account, ARN and kind always agree. Stored as the ARN.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Principal {
    arn: String,
    account_id: String,
    kind: PrincipalKind,
}

/// What sort of identity a [`Principal`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PrincipalKind {
    /// The account itself; may do everything inside it.
    Root,
    /// A user; may do what its identity policies allow.
    User,
    /// A role, plain (`iam::A:role/NAME`) or assumed (`sts::A:assumed-role/NAME/SESSION`).
    Role,
}

/// An ARN that names no principal.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "{arn:?} names no principal: expected arn:aws:iam::ACCOUNT:root, …:user/NAME, …:role/NAME or \
     arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION, where ACCOUNT has 12 digits"
)]
pub struct PrincipalError {
    arn: String,
}

impl Principal {
    /// The root identity of an account. Fails unless `account_id` is 12 digits.
    pub fn root(account_id: &str) -> Result<Self, PrincipalError> {
        Self::from_arn(&format!("arn:aws:iam::{account_id}:root"))
    }

    /// Reads a principal's ARN.
    pub fn from_arn(arn: &str) -> Result<Self, PrincipalError> {
        Self::parse(arn).ok_or_else(|| PrincipalError { arn: arn.to_owned() })
    }

    fn parse(arn: &str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        if parts.next()? != "arn" || !parts.next()?.starts_with("aws") {
            return None;
        }
        let service = parts.next()?;
        let (region, account, name) = (parts.next()?, parts.next()?, parts.next()?);
        if !region.is_empty() || account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit())
        {
            return None;
        }
        let named = |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty());
        let kind = match service {
            "iam" if name == "root" => PrincipalKind::Root,
            "iam" if named("user/") => PrincipalKind::User,
            "iam" if named("role/") => PrincipalKind::Role,
            "sts" if named("assumed-role/") => PrincipalKind::Role,
            _ => return None,
        };
        Some(Self { arn: arn.to_owned(), account_id: account.to_owned(), kind })
    }

    /// The whole ARN.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// The account, 12 digits.
    pub fn account_id(&self) -> &str {
        &self.account_id
    }

    /// What sort of identity it is.
    pub fn kind(&self) -> PrincipalKind {
        self.kind
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.arn)
    }
}

impl TryFrom<String> for Principal {
    type Error = PrincipalError;

    fn try_from(arn: String) -> Result<Self, PrincipalError> {
        Self::from_arn(&arn)
    }
}

impl From<Principal> for String {
    fn from(principal: Principal) -> Self {
        principal.arn
    }
}

//! Amazon Resource Names, accounts and regions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Invalid, Kind};

/// A tenant: twelve digits. Every catalog row and every request belongs to one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(String);

/// A site: where vaults keep their data. Its name has the form of an AWS region.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

/// `arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE`, kept as text and checked for its shape.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Arn(String);

macro_rules! text_value {
    ($name:ident) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(value: String) -> Result<Self, Invalid> {
                value.parse()
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}
text_value!(AccountId);
text_value!(Region);
text_value!(Arn);

impl FromStr for AccountId {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        if s.len() == 12 && s.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(s.to_owned()))
        } else {
            Err(Invalid::new("AccountId", format!("'{s}' is not twelve digits.")))
        }
    }
}

impl FromStr for Region {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        let good = !s.is_empty()
            && s.len() <= 32
            && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if good {
            Ok(Self(s.to_owned()))
        } else {
            Err(Invalid::new(
                "Region",
                format!(
                    "'{s}' is not a region name: use lower-case letters, digits and '-', such as us-east-1."
                ),
            ))
        }
    }
}

impl FromStr for Arn {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        let mut parts = s.splitn(6, ':');
        let shape = parts.next() == Some("arn")
            && parts.next().is_some_and(|p| !p.is_empty())
            && parts.next().is_some_and(|p| !p.is_empty())
            && parts.next().is_some()
            && parts.next().is_some()
            && parts.next().is_some_and(|p| !p.is_empty());
        if shape && s.len() <= 2048 && !s.contains(char::is_control) {
            Ok(Self(s.to_owned()))
        } else {
            Err(Invalid::new(
                "Arn",
                format!("'{s}' is not an ARN of the form arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE."),
            ))
        }
    }
}

impl Arn {
    fn field(&self, index: usize) -> &str {
        self.0.splitn(6, ':').nth(index).unwrap_or_default()
    }

    /// The service part: `backup`, `elasticfilesystem`, `iam`, …
    pub fn service(&self) -> &str {
        self.field(2)
    }

    /// The region part; empty for global services.
    pub fn region(&self) -> &str {
        self.field(3)
    }

    /// The account part; empty for some services.
    pub fn account(&self) -> &str {
        self.field(4)
    }

    /// All that follows the account: `backup-vault:NAME`, `file-system/fs-…`.
    pub fn resource(&self) -> &str {
        self.field(5)
    }

    /// The kind of protected resource that this ARN names, if it is of a kind we know.
    pub fn kind(&self) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| {
            self.service() == kind.arn_service() && self.resource().starts_with(kind.arn_prefix())
        })
    }

    fn build(service: &str, region: &str, account: &AccountId, resource: &str) -> Self {
        Self(format!("arn:aws:{service}:{region}:{account}:{resource}"))
    }

    /// `arn:aws:backup:R:A:backup-vault:NAME`.
    pub fn backup_vault(region: &Region, account: &AccountId, name: &str) -> Self {
        Self::build("backup", region.as_str(), account, &format!("backup-vault:{name}"))
    }

    /// `arn:aws:backup:R:A:backup-plan:ID`.
    pub fn backup_plan(region: &Region, account: &AccountId, id: &str) -> Self {
        Self::build("backup", region.as_str(), account, &format!("backup-plan:{id}"))
    }

    /// `arn:aws:backup:R:A:restore-testing-plan:NAME-UUID`.
    pub fn restore_testing_plan(
        region: &Region,
        account: &AccountId,
        name: &str,
        id: &str,
    ) -> Self {
        let resource = format!("restore-testing-plan:{name}-{id}");
        Self::build("backup", region.as_str(), account, &resource)
    }

    /// `arn:aws:backup:R:A:recovery-point:UUID`.
    pub fn recovery_point(region: &Region, account: &AccountId, id: &str) -> Self {
        Self::build("backup", region.as_str(), account, &format!("recovery-point:{id}"))
    }

    /// The ARN of a resource of `kind`; `id` is the part behind the kind's prefix, such as
    /// `0123456789abcdef0` in `file-system/fs-0123456789abcdef0`.
    pub fn resource_of(kind: Kind, region: &Region, account: &AccountId, id: &str) -> Self {
        let resource = format!("{}{id}", kind.arn_prefix());
        Self::build(kind.arn_service(), region.as_str(), account, &resource)
    }

    /// `arn:aws:sns:R:A:NAME`.
    pub fn topic(region: &Region, account: &AccountId, name: &str) -> Self {
        Self::build("sns", region.as_str(), account, name)
    }

    /// `arn:aws:iam::A:role/NAME`; `name` may hold a path, as `service-role/…` does.
    pub fn role(account: &AccountId, name: &str) -> Self {
        Self::build("iam", "", account, &format!("role/{name}"))
    }

    /// `arn:aws:kms:R:A:key/ID`.
    pub fn key(region: &Region, account: &AccountId, id: &str) -> Self {
        Self::build("kms", region.as_str(), account, &format!("key/{id}"))
    }
}

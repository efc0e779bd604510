//! Resources: what can be protected.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    AccountId, Arn, BackupTesting, Invalid, Probe, Region, RetentionSettings, ServiceSpec, Tags,
};

/// A kind of resource; each answers to one AWS resource type and has one driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A directory tree on a host; answers to `EFS`.
    Filesystem,
    /// A block device, or a raw or qcow2 image; answers to `EBS`.
    Volume,
}

impl Kind {
    /// Every kind there is a driver for.
    pub const ALL: [Kind; 2] = [Kind::Filesystem, Kind::Volume];

    /// The `ResourceType` of the AWS Backup API.
    pub fn resource_type(self) -> &'static str {
        match self {
            Kind::Filesystem => "EFS",
            Kind::Volume => "EBS",
        }
    }

    /// The word of the command line and of our own operations.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Filesystem => "filesystem",
            Kind::Volume => "volume",
        }
    }

    pub(crate) fn arn_service(self) -> &'static str {
        match self {
            Kind::Filesystem => "elasticfilesystem",
            Kind::Volume => "ec2",
        }
    }

    pub(crate) fn arn_prefix(self) -> &'static str {
        match self {
            Kind::Filesystem => "file-system/fs-",
            Kind::Volume => "volume/vol-",
        }
    }

    /// The key of restore metadata that names the resource a recovery point was made of, as AWS
    /// documents it for the resource type.
    pub fn source_key(self) -> &'static str {
        match self {
            Kind::Filesystem => "file-system-id",
            Kind::Volume => "volumeId",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|k| k.as_str() == s || k.resource_type() == s).ok_or_else(|| {
            Invalid::new(
                "Kind",
                format!("there is no driver for '{s}'; known kinds: filesystem and volume."),
            )
        })
    }
}

/// Something registered that can be protected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// Its name in every API.
    pub arn: Arn,
    /// The tenant it belongs to.
    pub account: AccountId,
    /// The site it is registered at.
    pub region: Region,
    /// Which driver captures and restores it.
    pub kind: Kind,
    /// A name for people, unique in the account.
    pub name: String,
    /// How to reach it; the driver of its kind reads and checks this.
    pub config: serde_json::Value,
    /// Tags that selections look at.
    pub tags: Tags,
    /// How to start the application that lives in a restored copy, if there is one.
    pub service: Option<ServiceSpec>,
    /// Questions a restore test asks, in this order. Files against the manifest are always
    /// compared as well.
    pub probes: Vec<Probe>,
    /// Recovery point objective in seconds: how old the newest recovery point may be.
    pub rpo_seconds: Option<u64>,
    /// Recovery time objective in seconds: how long a recovery may take.
    pub rto_seconds: Option<u64>,
    /// Whether a restore test runs by itself after completed backups, and with which budgets; `None`
    /// where it leaves that to the selection and the plan.
    #[serde(
        default,
        alias = "test_after_backup",
        deserialize_with = "crate::backup_testing::said_by_resource"
    )]
    pub testing: Option<BackupTesting>,
    /// How its recovery points are kept, beside the lifecycle of each.
    #[serde(default)]
    pub retention: RetentionSettings,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Whether it is known from recovery points of an imported vault alone. It may have lived on
    /// another host, so it is never backed up from here.
    #[serde(default)]
    pub imported: bool,
}

impl Resource {
    /// Checks what does not need the driver: name, tags, retention, probes and targets.
    pub fn validate(&self) -> Result<(), Invalid> {
        validate_name("Name", &self.name)?;
        validate_tags(&self.tags)?;
        self.retention.validate()?;
        if let Some(service) = &self.service {
            service.validate()?;
        }
        for (index, probe) in self.probes.iter().enumerate() {
            probe.validate().map_err(|e| e.within(&format!("Probes[{index}]")))?;
            if probe.needs_service() && self.service.is_none() {
                return Err(Invalid::new(
                    format!("Probes[{index}]"),
                    "this probe talks to an application, but the resource has no Service to start; \
                     add one (--service), or use a command or files probe.",
                ));
            }
        }
        if self.service.is_some() && !self.probes.iter().any(Probe::needs_isolation) {
            return Err(Invalid::new(
                "Probes",
                "a Service without a probe would be started and never asked; add one, such as \
                 --probe http:8080/.",
            ));
        }
        for (member, value) in [("RpoSeconds", self.rpo_seconds), ("RtoSeconds", self.rto_seconds)]
        {
            if value == Some(0) {
                return Err(Invalid::new(
                    member,
                    "zero seconds can never be met; leave it out for no target.",
                ));
            }
        }
        Ok(())
    }
}

/// A name people type: 1 to 64 letters, digits, `.`, `-` or `_`, beginning with a letter or digit.
pub fn validate_name(member: &str, name: &str) -> Result<(), Invalid> {
    let good = (1..=64).contains(&name.len())
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if good {
        return Ok(());
    }
    Err(Invalid::new(
        member,
        format!(
            "'{name}' is not a name: use 1 to 64 letters, digits, '.', '-' or '_', a letter or digit first."
        ),
    ))
}

/// AWS's limits on tags: at most 50, keys of 1 to 128 and values of up to 256 characters, no key
/// beginning with `aws:`.
pub fn validate_tags(tags: &Tags) -> Result<(), Invalid> {
    if tags.len() > 50 {
        return Err(Invalid::new("Tags", format!("{} tags are too many; at most 50.", tags.len())));
    }
    for (key, value) in tags {
        let keys = key.chars().count();
        if keys == 0 || keys > 128 {
            return Err(Invalid::new(
                "Tags",
                format!("the key '{key}' must have 1 to 128 characters."),
            ));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(Invalid::new(
                "Tags",
                format!("the key '{key}' begins with the reserved 'aws:'."),
            ));
        }
        if value.chars().count() > 256 {
            return Err(Invalid::new(
                "Tags",
                format!("the value of '{key}' has more than 256 characters."),
            ));
        }
    }
    Ok(())
}

//! Restore testing selections: which resources a restore testing plan tests.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::restore_testing_plan::validate_testing_name;
use crate::selection::Conditions;
use crate::step::is_zero;
use crate::{AccountId, Arn, Invalid, Kind, Tags};

/// Resources that a selection may name (AWS's limit).
pub const MAX_TESTED_RESOURCES: usize = 30;
/// Hours that a copy may be kept for somebody outside to look at (AWS's limit).
pub const LONGEST_VALIDATION_WINDOW_HOURS: u32 = 168;
/// Keys of restore metadata that a restore test sets by itself: where the copy lies, of what, and
/// that all of it is restored, for every file is compared.
pub const FIXED_METADATA: [&str; 8] = [
    "file-system-id",
    "volumeId",
    "targetPath",
    "sourcePath",
    "ItemsToRestore",
    "format",
    "layout",
    "overwriteDevice",
];

/// An assignment of resources of one kind to a restore testing plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreTestingSelection {
    /// Unique in the plan and never changed: 1 to 50 letters, digits or `_`.
    pub name: String,
    /// Tenant.
    pub account: AccountId,
    /// The plan it belongs to.
    pub plan_arn: Arn,
    /// That plan's name.
    pub plan_name: String,
    /// The role that the restores run under.
    pub role_arn: Arn,
    /// The kind of the resources.
    pub kind: Kind,
    /// ARNs, at most 30, or `*` alone.
    pub resource_arns: Vec<String>,
    /// With `*`: tags that must hold, of which only `StringEquals` and `StringNotEquals` exist
    /// here.
    pub conditions: Conditions,
    /// Restore metadata that goes before what is inferred.
    pub metadata_overrides: BTreeMap<String, String>,
    /// Hours that the copy of a test is kept for somebody outside to look at; 0 for not at all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub validation_window_hours: u32,
    /// The caller's idempotency token.
    pub creator_request_id: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Option<Timestamp>,
}

impl RestoreTestingSelection {
    /// AWS's rules; whether the driver knows the overrides is for the driver to say.
    pub fn validate(&self) -> Result<(), Invalid> {
        validate_testing_name("RestoreTestingSelectionName", &self.name)?;
        let member = "ProtectedResourceArns";
        if self.resource_arns.is_empty() {
            return Err(Invalid::new(
                member,
                "it names nothing, so nothing would ever be tested; give [\"*\"] for every \
                 resource of the type.",
            ));
        }
        if self.resource_arns.len() > MAX_TESTED_RESOURCES {
            return Err(Invalid::new(
                member,
                format!(
                    "{} are too many; at most {MAX_TESTED_RESOURCES}, or \"*\".",
                    self.resource_arns.len()
                ),
            ));
        }
        if !self.is_wildcard() {
            for text in &self.resource_arns {
                self.check_arn(member, text)?;
            }
            if !self.conditions.is_empty() {
                return Err(Invalid::new(
                    "ProtectedResourceConditions",
                    "conditions go with ProtectedResourceArns [\"*\"] only, not with certain ARNs.",
                ));
            }
        }
        self.conditions.validate().map_err(|e| e.within("ProtectedResourceConditions"))?;
        if self.validation_window_hours > LONGEST_VALIDATION_WINDOW_HOURS {
            return Err(Invalid::new(
                "ValidationWindowHours",
                format!(
                    "{} is too long: use 1 to {LONGEST_VALIDATION_WINDOW_HOURS}, or 0 to have the \
                     copy deleted as soon as the test has asked it.",
                    self.validation_window_hours
                ),
            ));
        }
        for key in self.metadata_overrides.keys() {
            if FIXED_METADATA.iter().any(|fixed| fixed.eq_ignore_ascii_case(key)) {
                return Err(Invalid::new(
                    format!("RestoreMetadataOverrides.{key}"),
                    "a restore test sets this by itself: all of the recovery point goes into a \
                     place of the test's own. Leave it out.",
                ));
            }
        }
        Ok(())
    }

    fn check_arn(&self, member: &str, text: &str) -> Result<(), Invalid> {
        if text == "*" {
            return Err(Invalid::new(member, "\"*\" stands alone: it or ARNs, but not both."));
        }
        let arn: Arn = text
            .parse()
            .map_err(|_| Invalid::new(member, format!("'{text}' is neither an ARN nor \"*\".")))?;
        if arn.kind() == Some(self.kind) {
            return Ok(());
        }
        Err(Invalid::new(
            member,
            format!(
                "'{text}' is not the ARN of a resource of type {}, which the selection is for.",
                self.kind.resource_type()
            ),
        ))
    }

    /// Whether it is for every resource of its kind.
    pub fn is_wildcard(&self) -> bool {
        self.resource_arns.len() == 1 && self.resource_arns[0] == "*"
    }

    /// Whether the plan tests the resource `arn` of a kind, that carries `tags`.
    pub fn matches(&self, arn: &Arn, kind: Kind, tags: &Tags) -> bool {
        if kind != self.kind {
            return false;
        }
        if self.is_wildcard() {
            return self.conditions.hold(tags);
        }
        self.resource_arns.iter().any(|named| named == arn.as_str())
    }
}

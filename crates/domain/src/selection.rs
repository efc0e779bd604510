//! Backup selections: which resources a plan protects.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::wildcard::{has_wildcards, matches as like};
use crate::{AccountId, Arn, Invalid, Tags};

/// Resources a selection may name without wildcards (AWS's quota).
pub const MAX_RESOURCES: usize = 500;
/// Resources a selection may name when one of them holds a wildcard (AWS's quota).
pub const MAX_WILDCARD_RESOURCES: usize = 30;

const TAG_KEY: &str = "aws:ResourceTag/";

/// An assignment of resources to a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSelection {
    /// UUID.
    pub id: String,
    /// Tenant.
    pub account: AccountId,
    /// The plan it belongs to.
    pub plan_id: String,
    /// Name for people, unique in the plan.
    pub name: String,
    /// The role the plan's jobs run under.
    pub role_arn: Arn,
    /// ARNs or patterns with `*`; any may match.
    pub resources: Vec<String>,
    /// ARNs or patterns that are left out whatever else matches.
    pub not_resources: Vec<String>,
    /// `key = value`; any may match. Adds to `resources`.
    pub list_of_tags: Vec<TagCondition>,
    /// All must hold.
    pub conditions: Conditions,
    /// The caller's idempotency token.
    pub creator_request_id: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// One tag and its value; case sensitive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagCondition {
    /// The tag's key; in [`Conditions`] with the prefix `aws:ResourceTag/`.
    pub key: String,
    /// The value, or a pattern where the operator is one of the `Like` pair.
    pub value: String,
}

/// Conditions that all must hold; a resource without the tag fails the positive ones and passes
/// the negated ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// The value is exactly this.
    pub string_equals: Vec<TagCondition>,
    /// The value is anything but this.
    pub string_not_equals: Vec<TagCondition>,
    /// The value matches this pattern (`*`, `?`).
    pub string_like: Vec<TagCondition>,
    /// The value does not match this pattern.
    pub string_not_like: Vec<TagCondition>,
}

impl Conditions {
    fn all(&self) -> impl Iterator<Item = (&'static str, &TagCondition)> {
        self.string_equals
            .iter()
            .map(|c| ("StringEquals", c))
            .chain(self.string_not_equals.iter().map(|c| ("StringNotEquals", c)))
            .chain(self.string_like.iter().map(|c| ("StringLike", c)))
            .chain(self.string_not_like.iter().map(|c| ("StringNotLike", c)))
    }

    /// Whether there is no condition at all.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// A tag and the value it must have, where a condition says so.
    pub(crate) fn equal_tag(&self) -> Option<(&str, &str)> {
        let first = self.string_equals.first()?;
        Some((first.key.strip_prefix(TAG_KEY)?, &first.value))
    }

    /// Every key must name a tag.
    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        for (operator, condition) in self.all() {
            if condition.key.strip_prefix(TAG_KEY).is_none_or(str::is_empty) {
                return Err(Invalid::new(
                    operator,
                    format!("the key '{}' must have the form {TAG_KEY}KEY.", condition.key),
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn hold(&self, tags: &Tags) -> bool {
        self.all().all(|(operator, condition)| {
            let value = condition.key.strip_prefix(TAG_KEY).and_then(|key| tags.get(key));
            match operator {
                "StringEquals" => value == Some(&condition.value),
                "StringNotEquals" => value != Some(&condition.value),
                "StringLike" => value.is_some_and(|v| like(&condition.value, v)),
                _ => value.is_none_or(|v| !like(&condition.value, v)),
            }
        })
    }
}

/// An ARN, `*`, or the beginning of an ARN up to a wildcard that stands for the rest of it, such
/// as `arn:aws:fsx:*`; Terraform's own tests of its provider use that form against AWS.
pub(crate) fn is_arn_pattern(pattern: &str) -> bool {
    let written = pattern.len() <= 2048 && !pattern.contains(char::is_control);
    written
        && (pattern == "*"
            || pattern.parse::<Arn>().is_ok()
            || (pattern.starts_with("arn:") && pattern.ends_with('*')))
}

impl BackupSelection {
    /// Refuses a selection that could match nothing or breaks AWS's quotas.
    pub fn validate(&self) -> Result<(), Invalid> {
        let name_ok = (1..=50).contains(&self.name.len())
            && self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !name_ok {
            return Err(Invalid::new(
                "BackupSelection.SelectionName",
                "use 1 to 50 letters, digits, '-', '_' or '.'.",
            ));
        }
        if self.resources.is_empty() && self.list_of_tags.is_empty() && self.conditions.is_empty() {
            return Err(Invalid::new(
                "BackupSelection",
                "it names nothing, and a plan for every resource has to say so: give Resources (\"*\" for \
                 all), ListOfTags or Conditions.",
            ));
        }
        for (member, list) in
            [("Resources", &self.resources), ("NotResources", &self.not_resources)]
        {
            let member = format!("BackupSelection.{member}");
            let wild = list.iter().any(|r| has_wildcards(r));
            let limit = if wild { MAX_WILDCARD_RESOURCES } else { MAX_RESOURCES };
            if list.len() > limit {
                let with = if wild { "with wildcards" } else { "without wildcards" };
                return Err(Invalid::new(
                    member,
                    format!("{} are too many; at most {limit} {with}.", list.len()),
                ));
            }
            for pattern in list {
                if !is_arn_pattern(pattern) {
                    return Err(Invalid::new(
                        member,
                        format!(
                            "'{pattern}' is neither an ARN, nor an ARN with wildcards, nor '*'."
                        ),
                    ));
                }
            }
        }
        self.conditions.validate().map_err(|e| e.within("BackupSelection.Conditions"))?;
        for condition in &self.list_of_tags {
            if condition.key.is_empty() {
                return Err(Invalid::new(
                    "BackupSelection.ListOfTags",
                    "ConditionKey must not be empty.",
                ));
            }
        }
        Ok(())
    }

    /// Whether the plan protects the resource `arn` that carries `tags`.
    ///
    /// `Resources` and `ListOfTags` add up, `Conditions` narrow, `NotResources` subtract. A
    /// selection with conditions alone looks at every resource.
    pub fn matches(&self, arn: &Arn, tags: &Tags) -> bool {
        let any = |list: &[String]| list.iter().any(|pattern| like(pattern, arn.as_str()));
        let named = any(&self.resources)
            || self.list_of_tags.iter().any(|c| tags.get(&c.key) == Some(&c.value))
            || (self.resources.is_empty() && self.list_of_tags.is_empty());
        named && self.conditions.hold(tags) && !any(&self.not_resources)
    }
}

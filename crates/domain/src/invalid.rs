//! What is wrong with a value somebody gave us.

use serde::{Deserialize, Serialize};

/// A value was refused: which member, why, and what to do. The server turns it into
/// `InvalidParameterValueException` (or `MissingParameterValueException` when
/// [`Invalid::missing`] made it).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Invalid {
    /// The member as the caller wrote it, such as `BackupPlan.Rules[0].ScheduleExpression`.
    pub member: String,
    /// One sentence or two: what is wrong and what would be right.
    pub message: String,
    /// Whether the member was absent rather than wrong.
    pub absent: bool,
}

impl Invalid {
    /// `member` has a value that cannot be accepted.
    pub fn new(member: impl Into<String>, why: impl std::fmt::Display) -> Self {
        let member = member.into();
        Self { message: format!("{member}: {why}"), member, absent: false }
    }

    /// `member` is required and was not given.
    pub fn missing(member: impl Into<String>) -> Self {
        let member = member.into();
        Self { message: format!("{member} is required but was not given."), member, absent: true }
    }

    /// The same complaint seen from outside: `prefix` is put before the member's name.
    #[must_use]
    pub fn within(mut self, prefix: &str) -> Self {
        self.message = format!("{prefix}.{}", self.message);
        self.member = format!("{prefix}.{}", self.member);
        self
    }
}

//! Backup plans and their rules.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cron::{CronExpression, ScheduleTimezone};
use crate::resource::validate_tags;
use crate::vault::validate_vault_name;
use crate::{AccountId, Arn, Invalid, Lifecycle, Tags};

/// What AWS Backup schedules when a rule names no schedule.
pub const DEFAULT_SCHEDULE: &str = "cron(0 5 ? * * *)";
/// The time zone of a rule that names none.
pub const DEFAULT_TIMEZONE: &str = "Etc/UTC";
/// Minutes a job may wait for its start, by default.
pub const DEFAULT_START_WINDOW_MINUTES: i64 = 480;
/// The shortest start window.
pub const MIN_START_WINDOW_MINUTES: i64 = 60;
/// Minutes a job may take from its start, by default.
pub const DEFAULT_COMPLETION_WINDOW_MINUTES: i64 = 10_080;
/// The longest window: AWS's hundred years.
pub const MAX_WINDOW_MINUTES: i64 = 36_500 * 24 * 60;
/// Rules a plan may have (AWS's quota).
pub const MAX_RULES: usize = 10;

/// One version of a backup plan. Older versions stay readable, even after deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPlan {
    /// UUID, the same for all versions.
    pub id: String,
    /// `arn:aws:backup:R:A:backup-plan:ID`.
    pub arn: Arn,
    /// Tenant.
    pub account: AccountId,
    /// Name for people, 1 to 50 characters.
    pub name: String,
    /// Names this version.
    pub version_id: String,
    /// When and where to back up.
    pub rules: Vec<BackupRule>,
    /// The caller's idempotency token.
    pub creator_request_id: Option<String>,
    /// When this version was made.
    pub created_at: Timestamp,
    /// When the plan was deleted, if it was.
    pub deleted_at: Option<Timestamp>,
    /// When a job was last created by it.
    pub last_execution_at: Option<Timestamp>,
}

/// One rule: a schedule, a vault, a retention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRule {
    /// UUID, kept through updates that keep the rule's name.
    pub id: String,
    /// 1 to 50 letters, digits, `-`, `_` or `.`.
    pub name: String,
    /// The vault's name; it need not exist when the plan is made, as in AWS Backup.
    pub target_vault: String,
    /// When.
    pub schedule: CronExpression,
    /// IANA name of the zone the schedule is read in.
    pub timezone: String,
    /// Minutes a job may wait to start.
    pub start_window_minutes: i64,
    /// Minutes a job may take from its start.
    pub completion_window_minutes: i64,
    /// Retention.
    pub lifecycle: Lifecycle,
    /// Tags put on the recovery points, beside those of the resource.
    pub recovery_point_tags: Tags,
    /// Since when it has had its schedule; `None` for since its plan's version was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl BackupPlan {
    /// Checks name and rules; `AWS Backup` demands at least one rule and unique rule names.
    pub fn validate(&self) -> Result<(), Invalid> {
        if !(1..=50).contains(&self.name.chars().count()) {
            return Err(Invalid::new(
                "BackupPlan.BackupPlanName",
                "it must have 1 to 50 characters.",
            ));
        }
        if self.rules.is_empty() {
            return Err(Invalid::new("BackupPlan.Rules", "a plan needs at least one rule."));
        }
        if self.rules.len() > MAX_RULES {
            return Err(Invalid::new(
                "BackupPlan.Rules",
                format!("{} rules are too many; at most {MAX_RULES}.", self.rules.len()),
            ));
        }
        for (index, rule) in self.rules.iter().enumerate() {
            rule.validate().map_err(|e| e.within(&format!("BackupPlan.Rules[{index}]")))?;
            if self.rules[..index].iter().any(|other| other.name == rule.name) {
                return Err(Invalid::new(
                    format!("BackupPlan.Rules[{index}].RuleName"),
                    format!("'{}' names two rules of this plan.", rule.name),
                ));
            }
        }
        Ok(())
    }
}

impl BackupPlan {
    /// Refuses a rule that never comes due after `now`: it would be a promise that nothing keeps.
    pub fn check_it_comes(&self, now: Timestamp) -> Result<(), Invalid> {
        for (index, rule) in self.rules.iter().enumerate() {
            if !rule.comes_after(now)? {
                return Err(Invalid::new(
                    format!("BackupPlan.Rules[{index}].ScheduleExpression"),
                    "it never comes due again, so nothing would ever be backed up. Change it, or \
                     leave the rule out.",
                ));
            }
        }
        Ok(())
    }

    /// Takes over since when its rules have had their schedules from the version before it: a new
    /// version of a rule that keeps its schedule owes what the old one owed.
    pub fn goes_on_from(&mut self, old: &Self) {
        for rule in &mut self.rules {
            let same = |other: &&BackupRule| {
                (&other.id, &other.schedule, &other.timezone)
                    == (&rule.id, &rule.schedule, &rule.timezone)
            };
            let before = old.rules.iter().find(same);
            rule.since = before.map(|before| before.since.unwrap_or(old.created_at));
        }
    }
}

impl BackupRule {
    /// Whether it comes due after `now`.
    pub fn comes_after(&self, now: Timestamp) -> Result<bool, Invalid> {
        let zone = ScheduleTimezone::parse(&self.timezone)
            .map_err(|e| Invalid::new("ScheduleExpressionTimezone", format!("{e}.")))?;
        Ok(self.schedule.next_after(now, zone.zone()).is_some())
    }

    /// Checks everything that does not need the catalog.
    pub fn validate(&self) -> Result<(), Invalid> {
        let name_ok = (1..=50).contains(&self.name.len())
            && self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !name_ok {
            return Err(Invalid::new("RuleName", "use 1 to 50 letters, digits, '-', '_' or '.'."));
        }
        validate_vault_name("TargetBackupVaultName", &self.target_vault)?;
        if self.schedule.is_more_often_than_hourly() {
            return Err(Invalid::new(
                "ScheduleExpression",
                "it runs more often than once an hour, which AWS Backup does not allow.",
            ));
        }
        // A zone the scheduler cannot read would mean a rule that never fires.
        ScheduleTimezone::parse(&self.timezone)
            .map_err(|e| Invalid::new("ScheduleExpressionTimezone", format!("{e}.")))?;
        if self.start_window_minutes < MIN_START_WINDOW_MINUTES {
            return Err(Invalid::new(
                "StartWindowMinutes",
                format!(
                    "{} is too short; use {MIN_START_WINDOW_MINUTES} or more.",
                    self.start_window_minutes
                ),
            ));
        }
        for (member, minutes) in [
            ("StartWindowMinutes", self.start_window_minutes),
            ("CompletionWindowMinutes", self.completion_window_minutes),
        ] {
            if minutes > MAX_WINDOW_MINUTES {
                return Err(Invalid::new(member, "more than a hundred years is too long."));
            }
        }
        if self.completion_window_minutes < self.start_window_minutes + 60 {
            return Err(Invalid::new(
                "CompletionWindowMinutes",
                format!(
                    "{} is too short; it must be at least 60 minutes longer than the start window ({} minutes).",
                    self.completion_window_minutes, self.start_window_minutes
                ),
            ));
        }
        self.lifecycle.validate()?;
        validate_tags(&self.recovery_point_tags)
    }

    /// The last moment at which a job scheduled for `scheduled` may start.
    pub fn start_by(&self, scheduled: Timestamp) -> Timestamp {
        add_minutes(scheduled, self.start_window_minutes)
    }
}

/// `minutes` after `from` (before it when negative), or the end of time where that overflows.
pub fn add_minutes(from: Timestamp, minutes: i64) -> Timestamp {
    SignedDuration::try_from_mins(minutes)
        .and_then(|duration| from.checked_add(duration).ok())
        .unwrap_or(if minutes < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

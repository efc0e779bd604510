//! Restore testing plans: when recovery points are tested, and which of them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::cron::{CronExpression, ScheduleTimezone};
use crate::plan::add_minutes;
use crate::selection::is_arn_pattern;
use crate::step::state_names;
use crate::wildcard::matches as like;
use crate::{AccountId, Arn, Invalid, RecoveryPoint, Region};

/// Hours a test may wait for its start, by default.
pub const DEFAULT_START_WINDOW_HOURS: i64 = 24;
/// The longest start window: a week.
pub const MAX_START_WINDOW_HOURS: i64 = 168;
/// Days back in which recovery points are looked for, by default.
pub const DEFAULT_SELECTION_WINDOW_DAYS: i64 = 30;
/// The longest selection window.
pub const MAX_SELECTION_WINDOW_DAYS: i64 = 365;
/// Vaults that one list may name (AWS's quota of a selection's resources).
const MAX_VAULTS: usize = 500;

/// A restore testing plan. What it tests stands in its selections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreTestingPlan {
    /// Unique in the account and never changed: 1 to 50 letters, digits or `_`.
    pub name: String,
    /// `arn:aws:backup:R:A:restore-testing-plan:NAME-UUID`: a later plan of the same name is
    /// another plan.
    pub arn: Arn,
    /// Tenant.
    pub account: AccountId,
    /// Site.
    pub region: Region,
    /// When tests are due.
    pub schedule: CronExpression,
    /// IANA name of the zone the schedule is read in.
    pub timezone: String,
    /// Hours a test may wait to start, 1 to 168.
    pub start_window_hours: i64,
    /// Which recovery points are tested.
    pub points: PointSelection,
    /// The caller's idempotency token.
    pub creator_request_id: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Option<Timestamp>,
    /// Since when it has had its schedule; `None` for since it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_since: Option<Timestamp>,
    /// When tests were last made by it.
    pub last_execution_at: Option<Timestamp>,
}

/// Which recovery point of a resource is tested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointSelection {
    /// Which of those that are eligible.
    pub algorithm: PointAlgorithm,
    /// Vaults that are looked at: `*`, ARNs, or ARNs with wildcards. At least one.
    pub include_vaults: Vec<String>,
    /// Vaults that are left out whatever else matches.
    pub exclude_vaults: Vec<String>,
    /// Kinds of recovery points that are eligible. At least one.
    pub types: Vec<PointType>,
    /// Days back from the execution in which a point must have been created, 1 to 365.
    pub window_days: i64,
}

/// Which of the eligible recovery points is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PointAlgorithm {
    /// The one with the newest state.
    Latest,
    /// Any, each with the same chance.
    Random,
}
state_names!(PointAlgorithm {
    Latest = "LATEST_WITHIN_WINDOW",
    Random = "RANDOM_WITHIN_WINDOW",
});

/// AWS's kinds of recovery points. Every recovery point here is a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PointType {
    /// A state at one moment.
    Snapshot,
    /// Any moment of a time (point-in-time recovery); there are none here.
    Continuous,
}
state_names!(PointType { Snapshot = "SNAPSHOT", Continuous = "CONTINUOUS" });

impl RestoreTestingPlan {
    /// AWS's rules, and what this server cannot do, by the member's name.
    pub fn validate(&self) -> Result<(), Invalid> {
        validate_testing_name("RestoreTestingPlanName", &self.name)?;
        if self.schedule.is_more_often_than_hourly() {
            return Err(Invalid::new(
                "ScheduleExpression",
                "it runs more often than once an hour, which AWS Backup does not allow.",
            ));
        }
        // A zone the scheduler cannot read would mean a plan that never runs.
        ScheduleTimezone::parse(&self.timezone)
            .map_err(|e| Invalid::new("ScheduleExpressionTimezone", format!("{e}.")))?;
        if !(1..=MAX_START_WINDOW_HOURS).contains(&self.start_window_hours) {
            return Err(Invalid::new(
                "StartWindowHours",
                format!(
                    "{} is not possible; use 1 to {MAX_START_WINDOW_HOURS}.",
                    self.start_window_hours
                ),
            ));
        }
        self.points.validate().map_err(|e| e.within("RecoveryPointSelection"))
    }

    /// The last moment at which a test scheduled for `scheduled` may start.
    pub fn start_by(&self, scheduled: Timestamp) -> Timestamp {
        add_minutes(scheduled, self.start_window_hours * 60)
    }
}

impl PointSelection {
    fn validate(&self) -> Result<(), Invalid> {
        if self.include_vaults.is_empty() {
            return Err(Invalid::new(
                "IncludeVaults",
                "it names no vault, so nothing would ever be tested; give [\"*\"] for all.",
            ));
        }
        for (member, list) in
            [("IncludeVaults", &self.include_vaults), ("ExcludeVaults", &self.exclude_vaults)]
        {
            if list.len() > MAX_VAULTS {
                return Err(Invalid::new(
                    member,
                    format!("{} are too many; at most {MAX_VAULTS}.", list.len()),
                ));
            }
            for pattern in list {
                if !is_arn_pattern(pattern) {
                    return Err(Invalid::new(
                        member,
                        format!(
                            "'{pattern}' is neither the ARN of a vault, nor one with wildcards, nor '*'."
                        ),
                    ));
                }
            }
        }
        if self.types.is_empty() {
            return Err(Invalid::new("RecoveryPointTypes", "it names none; give [\"SNAPSHOT\"]."));
        }
        if !self.types.contains(&PointType::Snapshot) {
            return Err(Invalid::new(
                "RecoveryPointTypes",
                "this server has no continuous recovery points yet, so nothing would ever be \
                 tested; give SNAPSHOT, alone or beside CONTINUOUS.",
            ));
        }
        if !(1..=MAX_SELECTION_WINDOW_DAYS).contains(&self.window_days) {
            return Err(Invalid::new(
                "SelectionWindowDays",
                format!(
                    "{} is not possible; use 1 to {MAX_SELECTION_WINDOW_DAYS}.",
                    self.window_days
                ),
            ));
        }
        Ok(())
    }

    /// Whether recovery points in this vault are looked at.
    pub fn looks_at(&self, vault: &Arn) -> bool {
        let any = |list: &[String]| list.iter().any(|pattern| like(pattern, vault.as_str()));
        any(&self.include_vaults) && !any(&self.exclude_vaults)
    }

    /// Whether there is anything of a resource in the vaults that are looked at, of whatever age:
    /// one that was never there is none of the plan's business.
    pub fn knows(&self, points: &[RecoveryPoint]) -> bool {
        points.iter().any(|point| point.is_restorable() && self.looks_at(&point.vault_arn))
    }

    /// The one of a resource's recovery points that an execution at `at` tests; `None` when none is
    /// eligible. `draw` is any number, by which [`PointAlgorithm::Random`] chooses: the same one
    /// gives the same point, in whatever order the points come.
    ///
    /// A point that is known to be damaged stays eligible: that it cannot be restored is what a
    /// test has to tell. One from the future is eligible only where no other is.
    pub fn choose<'a>(
        &self,
        points: &'a [RecoveryPoint],
        at: Timestamp,
        draw: u64,
    ) -> Option<&'a RecoveryPoint> {
        let earliest = add_minutes(at, -self.window_days * 24 * 60);
        let mut eligible: Vec<&RecoveryPoint> = points
            .iter()
            .filter(|point| {
                point.is_restorable()
                    && point.created_at >= earliest
                    && self.looks_at(&point.vault_arn)
                    && self.types.contains(&PointType::Snapshot)
            })
            .collect();
        if eligible.iter().any(|point| !point.is_from_the_future(at)) {
            eligible.retain(|point| !point.is_from_the_future(at));
        }
        eligible.sort_by(|a, b| (a.captured_at, &a.arn).cmp(&(b.captured_at, &b.arn)));
        match self.algorithm {
            PointAlgorithm::Latest => eligible.pop(),
            PointAlgorithm::Random => {
                let count = u64::try_from(eligible.len()).ok()?;
                let place = draw.checked_rem(count)?;
                eligible.get(usize::try_from(place).ok()?).copied()
            }
        }
    }
}

/// AWS's rule for the names of restore testing plans and selections: 1 to 50 letters, digits or
/// `_`.
pub fn validate_testing_name(member: &str, name: &str) -> Result<(), Invalid> {
    let good = (1..=50).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if good {
        return Ok(());
    }
    Err(Invalid::new(
        member,
        format!("'{name}' is not possible; use 1 to 50 letters, digits or '_'."),
    ))
}

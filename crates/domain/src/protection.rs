//! Whether a resource has the backups and the verdict that it should have by now.
//!
//! What is absent makes no event and no log line. So it is computed, from what the resource's plans and
//! objectives promise and the moment at which somebody asks.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cron::ScheduleTimezone;
use crate::plan::add_minutes;
use crate::step::state_names;
use crate::verdict::duration;
use crate::{
    AccountId, Arn, BackupPlan, BackupRule, BackupSelection, Invalid, RecoveryPoint, Resource,
    Verdict,
};

/// How long after its backup a restore test that runs by itself may take to give its verdict: one
/// waits for others and for the day's backups.
pub const TEST_WITHIN: SignedDuration = SignedDuration::from_hours(24);

/// Where the backups of a resource stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protection {
    /// It has the recovery point that it should have by now.
    Protected,
    /// It has none yet, and its first backup is not due yet.
    Waiting,
    /// No plan selects it and it has no recovery point objective: nothing promises a backup.
    Unprotected,
    /// There should be a newer recovery point than there is.
    Overdue,
    /// Somebody has said why it needs no backup, until when.
    Exempt,
}
state_names!(Protection {
    Protected = "PROTECTED",
    Waiting = "WAITING",
    Unprotected = "UNPROTECTED",
    Overdue = "OVERDUE",
    Exempt = "EXEMPT",
});

/// Kinds of what is not as it should be with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceTrouble {
    /// There should be a newer recovery point than there is.
    Overdue,
    /// Nothing promises a backup.
    Unprotected,
    /// The newest recovery point should have been tested by now.
    NotTested,
    /// The restore test of the newest recovery point did not pass.
    TestFailed,
    /// The newest recovery point is damaged, or its snapshot is gone.
    Damaged,
    /// The newest recovery point is PARTIAL, or marked as shrunk.
    NotGood,
}
state_names!(ResourceTrouble {
    Overdue = "OVERDUE",
    Unprotected = "UNPROTECTED",
    NotTested = "NOT_TESTED",
    TestFailed = "TEST_FAILED",
    Damaged = "DAMAGED",
    NotGood = "NOT_GOOD",
});

impl ResourceTrouble {
    /// What comes about by time passing alone: no event tells of it, so an alarm does. The others
    /// are told by the events that bring them, or by nothing but a decision that was never made.
    pub const BY_ABSENCE: [Self; 2] = [Self::Overdue, Self::NotTested];
}

/// The longest that a resource may be exempt at a time, in days: what nobody has looked at for a year is
/// no decision any more.
pub const MAX_EXEMPTION_DAYS: i64 = 366;

/// Somebody's word that a resource needs no backup, such as that it can be reproduced from its sources. It
/// has an end, so that it is looked at again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exemption {
    /// The resource.
    pub resource_arn: Arn,
    /// Tenant.
    pub account: AccountId,
    /// Why.
    pub reason: String,
    /// Who stands for it.
    pub owner: String,
    /// From this moment on it says nothing any more.
    pub until: Timestamp,
    /// When it was given.
    pub created_at: Timestamp,
}

impl Exemption {
    /// Refuses one without reason or owner, or one that has no end soon enough.
    pub fn validate(&self) -> Result<(), Invalid> {
        for (member, text) in [("Reason", &self.reason), ("Owner", &self.owner)] {
            if text.trim().is_empty() || text.chars().count() > 1000 {
                return Err(Invalid::new(member, "give 1 to 1000 characters."));
            }
        }
        if self.until <= self.created_at {
            return Err(Invalid::new("EndDate", "it lies in the past."));
        }
        if self.until > add_minutes(self.created_at, MAX_EXEMPTION_DAYS * 24 * 60) {
            return Err(Invalid::new(
                "EndDate",
                format!(
                    "an exemption holds for {MAX_EXEMPTION_DAYS} days at most; give it again then."
                ),
            ));
        }
        Ok(())
    }
}

/// A backup that a plan has promised and that should have begun by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// When it was scheduled.
    pub at: Timestamp,
    /// The plan's name.
    pub plan: String,
    /// The rule's name.
    pub rule: String,
}

/// What is known of a resource.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// Whether a plan selects it.
    pub selected: bool,
    /// The newest backup that should have begun by now.
    pub due: Option<&'a Due>,
    /// Its newest recovery point.
    pub newest: Option<&'a RecoveryPoint>,
    /// When the newest backup job that is at work was created.
    pub backing_up_since: Option<Timestamp>,
    /// Its newest recovery point that was not left out of the tests: the newest one itself, where all are
    /// tested or none.
    pub judged: Option<&'a RecoveryPoint>,
    /// Since when a restore test follows a backup such as the one that made that point, if one does.
    pub tested_since: Option<Timestamp>,
    /// Whether a restore test of it waits or is at work.
    pub testing: bool,
    /// Why it needs no backup.
    pub exemption: Option<&'a Exemption>,
}

/// The answer about one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// Where its backups stand.
    pub protection: Protection,
    /// The newest recovery point's verdict; `NOT_TESTED` when it has none, absent when there is no point.
    pub verdict: Option<Verdict>,
    /// What is not as it should be, and why; empty when all is well.
    pub troubles: Vec<(ResourceTrouble, String)>,
}

/// Judges one resource at `now`.
pub fn assess(resource: &Resource, observed: &Observed<'_>, now: Timestamp) -> Assessment {
    let verdict = observed
        .newest
        .map(|point| point.last_verdict.as_ref().map_or(Verdict::NotTested, |last| last.verdict));
    if observed.exemption.is_some_and(|exemption| exemption.until > now) {
        return Assessment { protection: Protection::Exempt, verdict, troubles: Vec::new() };
    }
    let (protection, trouble) = backups(resource, observed, now);
    let mut troubles = Vec::from_iter(trouble);
    if let Some(point) = observed.newest {
        if let Some(condition) = &point.condition {
            let what = format!(
                "its newest recovery point is {}: {}",
                condition.trouble, condition.message
            );
            troubles.push((ResourceTrouble::Damaged, what));
        } else if !point.is_good() {
            // A backup came, and is not one to rely on: a status that said nothing would be untrue.
            let why = point.shrunk_message().filter(|_| point.is_shrunk());
            let why = why.or_else(|| point.status_message.clone()).unwrap_or_default();
            let what = format!("its newest recovery point is {}: {why}", point.status);
            troubles.push((ResourceTrouble::NotGood, what.trim_end_matches([':', ' ']).to_owned()));
        }
        troubles.extend(test_trouble(observed, point, now));
    }
    Assessment { protection, verdict, troubles }
}

fn backups(
    resource: &Resource,
    observed: &Observed<'_>,
    now: Timestamp,
) -> (Protection, Option<(ResourceTrouble, String)>) {
    let overdue = |why: String| (Protection::Overdue, Some((ResourceTrouble::Overdue, why)));
    let captured = observed.newest.map(|point| point.captured_at);
    if let Some(objective) = resource.rpo_seconds {
        let since = captured.unwrap_or(resource.created_at);
        let age = u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0);
        if age > objective {
            let what = match captured {
                Some(_) => format!("its newest recovery point is {} old", duration(age)),
                None => {
                    format!("it has no recovery point, {} after it was registered", duration(age))
                }
            };
            return overdue(format!(
                "{what}, and its recovery point objective is {}.",
                duration(objective)
            ));
        }
    }
    if let Some(due) = observed.due
        && captured.is_none_or(|captured| captured < due.at)
        && observed.backing_up_since.is_none_or(|since| since < due.at)
    {
        return overdue(format!(
            "the backup of plan {}, rule {}, that was due at {} has not come; see `provault jobs` for \
             what became of it.",
            due.plan, due.rule, due.at
        ));
    }
    if !observed.selected && resource.rpo_seconds.is_none() {
        let reason = "no plan selects it and it has no recovery point objective: nothing would tell \
                      that its backups have ended.";
        let trouble = (ResourceTrouble::Unprotected, reason.to_owned());
        return (Protection::Unprotected, Some(trouble));
    }
    let protection = if captured.is_some() { Protection::Protected } else { Protection::Waiting };
    (protection, None)
}

/// What is wrong with the test of the newest point, or with its absence. One that was left out on purpose
/// answers for nothing: then the newest that was not does.
fn test_trouble(
    observed: &Observed<'_>,
    newest: &RecoveryPoint,
    now: Timestamp,
) -> Option<(ResourceTrouble, String)> {
    let point = if newest.is_left_out() { observed.judged? } else { newest };
    let which = if point.arn == newest.arn { "" } else { " that was to be tested" };
    match &point.last_verdict {
        Some(last) => (last.verdict != Verdict::Passed).then(|| {
            let what =
                format!("the restore test of its newest recovery point{which}: {}.", last.verdict);
            (ResourceTrouble::TestFailed, what)
        }),
        None => {
            // Who asks for tests from now on has not asked for those of yesterday.
            let asked = observed.tested_since.is_some_and(|since| since <= point.completed_at);
            let overdue = now.duration_since(point.completed_at) > TEST_WITHIN;
            (asked && overdue && !observed.testing).then(|| {
                let what = format!(
                    "its newest recovery point{which} was never tested, although a restore test \
                     should follow every backup."
                );
                (ResourceTrouble::NotTested, what)
            })
        }
    }
}

/// The newest occurrence of a rule after `since` whose start window has closed at `now`: its backup has
/// begun, or never will.
fn newest_closed(
    rule: &BackupRule,
    since: Timestamp,
    now: Timestamp,
) -> Result<Option<Timestamp>, Invalid> {
    let zone = ScheduleTimezone::parse(&rule.timezone)
        .map_err(|error| Invalid::new("ScheduleExpressionTimezone", error))?;
    let until = add_minutes(now, -rule.start_window_minutes);
    // Most schedules are daily; to walk through years of them for the last one would be waste.
    for days in [2, 40, 400] {
        let from = add_minutes(until, -days * 24 * 60);
        if from <= since {
            break;
        }
        if let Some(found) = rule.schedule.occurrences_between(from, until, zone.zone()).last() {
            return Ok(Some(found));
        }
    }
    Ok(rule.schedule.occurrences_between(since, until, zone.zone()).last())
}

/// The newest backup of a resource that should have begun by now, of all the plans that select it.
/// What was due before the resource, the plan's version or the selection was made is nobody's debt.
pub fn newest_due(
    resource: &Resource,
    plans: &[(BackupPlan, Vec<BackupSelection>)],
    now: Timestamp,
) -> Result<(bool, Option<Due>), Invalid> {
    let (mut selected, mut newest) = (false, None::<Due>);
    // One that is known from an imported vault alone is never backed up from here.
    if resource.imported {
        return Ok((false, None));
    }
    for (plan, selections) in plans {
        let Some(selection) = selections.iter().find(|s| s.matches(&resource.arn, &resource.tags))
        else {
            continue;
        };
        selected = true;
        let since = plan.created_at.max(selection.created_at).max(resource.created_at);
        for rule in &plan.rules {
            if let Some(at) = newest_closed(rule, since, now)?
                && newest.as_ref().is_none_or(|known| known.at < at)
            {
                newest = Some(Due { at, plan: plan.name.clone(), rule: rule.name.clone() });
            }
        }
    }
    Ok((selected, newest))
}

//! Whether a resource has the backups and the verdict that it should have by now.
//!
//! What is absent makes no event and no log line. So it is computed, from what the resource's plans and
//! objectives promise and the moment at which somebody asks.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::cron::{CronExpression, ScheduleTimezone};
use crate::plan::add_minutes;
use crate::recovery_point::{PointVerdict, present};
use crate::step::state_names;
use crate::verdict::duration;
use crate::{
    AccountId, Arn, BackupPlan, BackupSelection, Invalid, RecoveryPoint, Resource,
    RestoreTestingPlan, RestoreTestingSelection, Verdict,
};

/// How long after its backup, or after the start window of its restore testing plan, a restore test
/// that runs by itself may take to give its verdict: one waits for others and for the day's backups.
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
    /// A restore test should have given its verdict by now.
    NotTested,
    /// The newest restore test did not pass.
    TestFailed,
    /// The newest recovery point is damaged, or its snapshot is gone.
    Damaged,
    /// The newest recovery point is PARTIAL, or marked as shrunk.
    NotGood,
    /// The resource, or a recovery point of it, was made at a moment that is yet to come.
    ClockWrong,
}
state_names!(ResourceTrouble {
    Overdue = "OVERDUE",
    Unprotected = "UNPROTECTED",
    NotTested = "NOT_TESTED",
    TestFailed = "TEST_FAILED",
    Damaged = "DAMAGED",
    NotGood = "NOT_GOOD",
    ClockWrong = "CLOCK_WRONG",
});

impl ResourceTrouble {
    /// What comes about by time passing alone, or by a clock: no event tells of it, so an alarm does.
    /// The others are told by the events that bring them, or by nothing but a decision that was never
    /// made.
    pub const ALARMS: [Self; 3] = [Self::Overdue, Self::NotTested, Self::ClockWrong];

    /// What is there no more once somebody has said that the resource needs no backup: that one, or a
    /// test of one, is absent. What is wrong with those there are stays wrong.
    const EXEMPTED: [Self; 3] = [Self::Overdue, Self::Unprotected, Self::NotTested];
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

/// A restore test that a restore testing plan has promised and that should have ended by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueTest {
    /// When it was scheduled.
    pub at: Timestamp,
    /// The plan's name.
    pub plan: String,
}

/// What is known of a resource.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// Whether a plan selects it.
    pub selected: bool,
    /// The newest backup that should have begun by now.
    pub due: Option<&'a Due>,
    /// Its newest recovery point of those that are not from the future.
    pub newest: Option<&'a RecoveryPoint>,
    /// A recovery point from the future, if there is one.
    pub future: Option<&'a RecoveryPoint>,
    /// When the newest backup job that is at work was created.
    pub backing_up_since: Option<Timestamp>,
    /// Since when a restore test follows a backup of it, if one does. What was backed up before is not
    /// asked for one.
    pub tested_since: Option<Timestamp>,
    /// Whether a restore test of it is at work, for less than [`TEST_WITHIN`].
    pub testing: bool,
    /// The newest verdict of a restore test of it, on whatever recovery point, if on any.
    pub last_test: Option<&'a PointVerdict>,
    /// When the first backup was completed after that verdict, and since [`Self::tested_since`], that was
    /// not left out of the tests.
    pub untested_since: Option<Timestamp>,
    /// The newest restore test of a restore testing plan that should have ended by now.
    pub test_due: Option<&'a DueTest>,
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
    let (mut protection, trouble) = backups(resource, observed, now);
    let mut troubles = Vec::from_iter(trouble);
    troubles.extend(observed.newest.and_then(point_trouble));
    troubles.extend(test_troubles(observed, now));
    troubles.extend(clock_trouble(resource, observed, now));
    if observed.exemption.is_some_and(|exemption| exemption.until > now) {
        protection = Protection::Exempt;
        troubles.retain(|(trouble, _)| !ResourceTrouble::EXEMPTED.contains(trouble));
    }
    Assessment { protection, verdict, troubles }
}

/// What is wrong with the newest point itself.
fn point_trouble(point: &RecoveryPoint) -> Option<(ResourceTrouble, String)> {
    if let Some(condition) = &point.condition {
        let what =
            format!("its newest recovery point is {}: {}", condition.trouble, condition.message);
        return Some((ResourceTrouble::Damaged, what));
    }
    // A backup came, and is not one to rely on: a status that said nothing would be untrue.
    (!point.is_good()).then(|| {
        let why = point.shrunk_message().filter(|_| point.is_shrunk());
        let why = why.or_else(|| point.status_message.clone()).unwrap_or_default();
        let what = format!("its newest recovery point is {}: {why}", point.status);
        (ResourceTrouble::NotGood, what.trim_end_matches([':', ' ']).to_owned())
    })
}

/// What nobody can judge because a clock was wrong, or is.
fn clock_trouble(
    resource: &Resource,
    observed: &Observed<'_>,
    now: Timestamp,
) -> Option<(ResourceTrouble, String)> {
    let (what, at) = match observed.future {
        Some(point) => {
            (format!("its recovery point {} was captured", point.arn), point.captured_at)
        }
        None if resource.created_at > present(now) => {
            ("it was registered".to_owned(), resource.created_at)
        }
        None => return None,
    };
    let what = format!(
        "{what} at {at}, and it is {now}: the clock was ahead then, or is behind now. Set it right; see \
         `provault doctor`. A point from the future counts for nothing until its time has come: where \
         the clock was ahead, delete it by hand."
    );
    Some((ResourceTrouble::ClockWrong, what))
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

/// What is wrong with the newest test, or with the absence of one.
fn test_troubles(observed: &Observed<'_>, now: Timestamp) -> Vec<(ResourceTrouble, String)> {
    // One that was left out of the tests on purpose says nothing.
    let tested = observed.newest.filter(|point| !point.is_left_out());
    let of_newest = tested.and_then(|point| point.last_verdict.as_ref());
    let last = [observed.last_test, of_newest].into_iter().flatten().max_by_key(|last| last.at);
    let mut troubles = Vec::new();
    // Until a test passes: that a newer point is there does not make it one that can be restored.
    if let Some(last) = last.filter(|last| last.verdict != Verdict::Passed) {
        let of = if of_newest == Some(last) {
            "the restore test of its newest recovery point"
        } else {
            "its newest restore test"
        };
        let what = format!("{of}: {}.", last.verdict);
        troubles.push((ResourceTrouble::TestFailed, what));
    }
    if observed.testing {
        return troubles;
    }
    let tested = last.map(|last| last.at);
    if let Some(due) = observed.test_due
        && tested.is_none_or(|tested| tested < due.at)
    {
        let what = format!(
            "the restore test of restore testing plan {} that was due at {} has given no verdict; see \
             `provault restore-test list`.",
            due.plan, due.at
        );
        troubles.push((ResourceTrouble::NotTested, what));
    } else if let Some(asked) = observed.tested_since {
        let newest = observed.newest.filter(|point| point.last_verdict.is_none());
        let newest = newest.map(|point| point.completed_at);
        let newest = newest.filter(|at| asked <= *at && tested.is_none_or(|tested| tested < *at));
        let since = observed.untested_since.or(newest);
        if since.is_some_and(|since| now.duration_since(since) > TEST_WITHIN) {
            let what = match tested {
                Some(tested) => format!(
                    "its recovery points were not tested since {tested}, although a restore test \
                     should follow every backup."
                ),
                None => "its recovery points were never tested, although a restore test should \
                         follow every backup."
                    .to_owned(),
            };
            troubles.push((ResourceTrouble::NotTested, what));
        }
    }
    troubles
}

/// The newest moment of a schedule after `since` and up to `until`.
fn newest_moment(
    schedule: &CronExpression,
    timezone: &str,
    since: Timestamp,
    until: Timestamp,
) -> Result<Option<Timestamp>, Invalid> {
    let zone = zone(timezone)?;
    // Most schedules are daily; to walk through years of them for the last one would be waste.
    for days in [2, 40, 400] {
        let from = add_minutes(until, -days * 24 * 60);
        if from <= since {
            break;
        }
        if let Some(found) = schedule.occurrences_between(from, until, zone.zone()).last() {
            return Ok(Some(found));
        }
    }
    Ok(schedule.occurrences_between(since, until, zone.zone()).last())
}

fn zone(timezone: &str) -> Result<ScheduleTimezone, Invalid> {
    ScheduleTimezone::parse(timezone)
        .map_err(|error| Invalid::new("ScheduleExpressionTimezone", error))
}

/// Since when all of these are there, as far as that is known: what says that it was made at a moment
/// that is yet to come was there already.
fn since(all: &[Timestamp], now: Timestamp) -> Timestamp {
    // Between two leap days may lie eight years.
    const LONG_AGO_DAYS: i64 = 9 * 366;
    let known = all.iter().copied().filter(|at| *at <= present(now));
    known.max().unwrap_or_else(|| add_minutes(now, -LONG_AGO_DAYS * 24 * 60))
}

/// Whether a plan that is still to run selects a resource, and the newest backup of it that should
/// have begun by now, of all the plans that select it. `newest` is its newest recovery point.
///
/// What was due before the resource, the rule's schedule or the selection was made is nobody's debt.
/// A selection that took the place of another, by whose plan the resource was backed up already, is no
/// excuse.
pub fn newest_due(
    resource: &Resource,
    newest: Option<&RecoveryPoint>,
    plans: &[(BackupPlan, Vec<BackupSelection>)],
    now: Timestamp,
) -> Result<(bool, Option<Due>), Invalid> {
    let (mut selected, mut due) = (false, None::<Due>);
    // One that is known from an imported vault alone is never backed up from here.
    if resource.imported {
        return Ok((false, None));
    }
    for (plan, selections) in plans {
        let Some(selection) = selections.iter().find(|s| s.matches(&resource.arn, &resource.tags))
        else {
            continue;
        };
        let by_plan = |point: &&RecoveryPoint| {
            point.created_by.as_ref().is_some_and(|by| by.plan_id == plan.id)
        };
        let before = newest.filter(by_plan).map(|point| point.created_at);
        let chosen = before.map_or(selection.created_at, |at| at.min(selection.created_at));
        for rule in &plan.rules {
            // A rule that never comes again promises nothing any more; what it owes it owes.
            selected |= rule.comes_after(now)?;
            let began = rule.since.unwrap_or(plan.created_at);
            let since = since(&[began, chosen, resource.created_at], now);
            // Its start window has closed: the backup has begun, or never will.
            let until = add_minutes(now, -rule.start_window_minutes);
            if let Some(at) = newest_moment(&rule.schedule, &rule.timezone, since, until)?
                && due.as_ref().is_none_or(|known| known.at < at)
            {
                due = Some(Due { at, plan: plan.name.clone(), rule: rule.name.clone() });
            }
        }
    }
    Ok((selected, due))
}

/// The newest restore test of a resource that should have ended by now, of all the restore testing
/// plans that test it. `first_backup` is when its first recovery point was completed: before that
/// there was nothing to test for a plan that does not name it.
pub fn newest_due_test(
    resource: &Resource,
    newest: Option<&RecoveryPoint>,
    first_backup: Option<Timestamp>,
    plans: &[(RestoreTestingPlan, Vec<RestoreTestingSelection>)],
    now: Timestamp,
) -> Result<Option<DueTest>, Invalid> {
    let mut due = None::<DueTest>;
    for (plan, selections) in plans {
        let matching =
            |s: &&RestoreTestingSelection| s.matches(&resource.arn, resource.kind, &resource.tags);
        let Some(selection) = selections.iter().find(matching) else { continue };
        let mut all = vec![
            plan.scheduled_since.unwrap_or(plan.created_at),
            selection.created_at,
            resource.created_at,
        ];
        if selection.is_wildcard() {
            let looked_at = newest.is_some_and(|point| plan.points.looks_at(&point.vault_arn));
            let Some(first) = first_backup.filter(|_| looked_at) else { continue };
            all.push(first);
        }
        let until = add_minutes(now, -plan.start_window_hours * 60);
        let until = until.checked_sub(TEST_WITHIN).unwrap_or(Timestamp::MIN);
        let at = newest_moment(&plan.schedule, &plan.timezone, since(&all, now), until)?;
        if let Some(at) = at.filter(|at| due.as_ref().is_none_or(|known| known.at < *at)) {
            due = Some(DueTest { at, plan: plan.name.clone() });
        }
    }
    Ok(due)
}

//! Whether a resource has the backups and the verdict that it should have by now.
//!
//! What is absent makes no event and no log line. So it is computed, from what the resource's plans and
//! objectives promise and the moment at which somebody asks.

use jiff::{SignedDuration, Timestamp};

use crate::cron::ScheduleTimezone;
use crate::plan::add_minutes;
use crate::step::state_names;
use crate::verdict::duration;
use crate::{BackupPlan, BackupRule, BackupSelection, Invalid, RecoveryPoint, Resource, Verdict};

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
}
state_names!(Protection {
    Protected = "PROTECTED",
    Waiting = "WAITING",
    Unprotected = "UNPROTECTED",
    Overdue = "OVERDUE",
});

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
    /// Whether a restore test of it waits or is at work.
    pub testing: bool,
}

/// The answer about one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// Where its backups stand.
    pub protection: Protection,
    /// The newest recovery point's verdict; NOT_TESTED when it has none, absent when there is no point.
    pub verdict: Option<Verdict>,
    /// What is not as it should be, and why; empty when all is well.
    pub troubles: Vec<String>,
}

/// Judges one resource at `now`.
pub fn assess(resource: &Resource, observed: &Observed<'_>, now: Timestamp) -> Assessment {
    let (protection, trouble) = backups(resource, observed, now);
    let mut troubles: Vec<String> = trouble.into_iter().collect();
    let verdict = observed
        .newest
        .map(|point| point.last_verdict.as_ref().map_or(Verdict::NotTested, |last| last.verdict));
    if let Some(point) = observed.newest {
        if let Some(condition) = &point.condition {
            troubles.push(format!(
                "its newest recovery point is {}: {}",
                condition.trouble, condition.message
            ));
        }
        troubles.extend(test_trouble(resource, observed, point, now));
    }
    Assessment { protection, verdict, troubles }
}

fn backups(
    resource: &Resource,
    observed: &Observed<'_>,
    now: Timestamp,
) -> (Protection, Option<String>) {
    let captured = observed.newest.map(|point| point.captured_at);
    if let Some(objective) = resource.rpo_seconds {
        let since = captured.unwrap_or(resource.created_at);
        let age = u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0);
        if age > objective {
            let what = match captured {
                Some(_) => format!("its newest recovery point is {} old", duration(age)),
                None => format!("it has no recovery point, {} after it was registered", duration(age)),
            };
            let reason = format!(
                "{what}, and its recovery point objective is {}.",
                duration(objective)
            );
            return (Protection::Overdue, Some(reason));
        }
    }
    if let Some(due) = observed.due
        && captured.is_none_or(|captured| captured < due.at)
        && observed.backing_up_since.is_none_or(|since| since < due.at)
    {
        let reason = format!(
            "the backup of plan {}, rule {}, that was due at {} has not come; see `provault jobs` for \
             what became of it.",
            due.plan, due.rule, due.at
        );
        return (Protection::Overdue, Some(reason));
    }
    if !observed.selected && resource.rpo_seconds.is_none() {
        let reason = "no plan selects it and it has no recovery point objective: nothing would tell \
                      that its backups have ended.";
        return (Protection::Unprotected, Some(reason.to_owned()));
    }
    let protection = if captured.is_some() { Protection::Protected } else { Protection::Waiting };
    (protection, None)
}

/// What is wrong with the test of the newest point, or with its absence.
fn test_trouble(
    resource: &Resource,
    observed: &Observed<'_>,
    point: &RecoveryPoint,
    now: Timestamp,
) -> Option<String> {
    match &point.last_verdict {
        Some(last) => (last.verdict != Verdict::Passed).then(|| {
            format!("the restore test of its newest recovery point: {}.", last.verdict)
        }),
        None if resource.test_after_backup && !observed.testing => {
            let age = now.duration_since(point.completed_at);
            (age > TEST_WITHIN).then(|| {
                "its newest recovery point was never tested, although a restore test should follow \
                 every backup."
                    .to_owned()
            })
        }
        None => None,
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
        let Some(selection) =
            selections.iter().find(|s| s.matches(&resource.arn, &resource.tags))
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

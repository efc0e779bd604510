//! Which recovery points may go, and which one stays.
//!
//! Two things end a recovery point: the days of its lifecycle, and the number of points that its
//! resource keeps at most. Neither takes the last one worth having. Of each resource the newest
//! point of the highest [`Worth`] stays whatever its age, until a newer one of that worth exists: a
//! plan that stopped, a source that was emptied and a vault that lost snapshots all leave something
//! to restore.
//!
//! A point that holds much less than the newest good one before it is marked as [`Shrunk`] and is
//! not good until an operator says that it is right. Nothing else accepts it, neither time nor
//! repetition: a source that was emptied by mistake stays empty in every backup that follows.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::recovery_point::PointTrouble;
use crate::{Arn, Invalid, Payload, RecoveryPoint, RecoveryPointStatus};

/// The share of the newest good point below which a new one is marked, in percent, by default.
pub const DEFAULT_SHRINK_ALARM_PERCENT: u32 = 50;

/// How the recovery points of a resource are kept, beside the lifecycle that each one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetentionSettings {
    /// A new point with less than this share of the bytes or of the files of the newest good one is
    /// marked, in percent, 1 to 100; `None` for no such alarm.
    pub shrink_alarm_percent: Option<u32>,
    /// Recovery points that are kept at most, in all vaults together; `None` for no limit.
    pub keep_at_most: Option<u32>,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self { shrink_alarm_percent: Some(DEFAULT_SHRINK_ALARM_PERCENT), keep_at_most: None }
    }
}

impl RetentionSettings {
    /// Refuses a share that is none, and a limit that keeps nothing.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.shrink_alarm_percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
            return Err(Invalid::new(
                "ShrinkAlarmPercent",
                "use 1 to 100 percent, or 0 to switch the alarm off.",
            ));
        }
        if self.keep_at_most == Some(0) {
            return Err(Invalid::new(
                "KeepAtMost",
                "nothing would be kept; use 1 or more, or leave it out for no limit.",
            ));
        }
        Ok(())
    }
}

/// What a recovery point is worth when others may go for it; more is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Worth {
    /// Nothing of it can be restored: it is being deleted, or its snapshot is gone.
    Nothing,
    /// Some of its files cannot be restored.
    Damaged,
    /// It is marked as shrunk, and nobody has accepted that.
    Shrunk,
    /// Some paths of the source are missing from it.
    Partial,
    /// It is whole.
    Good,
}

/// Why a recovery point that is to go is still there: it is DELETING and its snapshot could not be
/// deleted, or nothing newer is as good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub since: Timestamp,
    /// Why and what to do, for people.
    pub message: String,
}

/// A recovery point holds much less than the newest good one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shrunk {
    /// The newest good point before it.
    pub before: Arn,
    /// Bytes of the resource in that one.
    pub bytes_before: u64,
    /// Regular files in that one.
    pub files_before: u64,
    /// The share that was asked for, in percent.
    pub percent: u32,
    /// When an operator said that it is right so.
    pub accepted_at: Option<Timestamp>,
}

impl RecoveryPoint {
    /// What it is worth when others may go for it.
    pub fn worth(&self) -> Worth {
        match (self.status, self.condition.as_ref().map(|condition| condition.trouble)) {
            (RecoveryPointStatus::Deleting, _) | (_, Some(PointTrouble::Missing)) => Worth::Nothing,
            (_, Some(PointTrouble::Damaged)) => Worth::Damaged,
            _ if self.is_shrunk() => Worth::Shrunk,
            (RecoveryPointStatus::Completed, None) => Worth::Good,
            _ => Worth::Partial,
        }
    }

    /// Whether it is whole: COMPLETED, not known to be hurt, and not shrunk.
    pub fn is_good(&self) -> bool {
        self.worth() == Worth::Good
    }

    /// Whether it is marked as shrunk and nobody has accepted that.
    pub fn is_shrunk(&self) -> bool {
        self.shrunk.as_ref().is_some_and(|shrunk| shrunk.accepted_at.is_none())
    }

    /// Regular files in it.
    pub fn files(&self) -> u64 {
        let Payload::Stored { files, .. } = &self.payload;
        *files
    }

    /// What there is to say of its size, when it is marked as shrunk.
    pub fn shrunk_message(&self) -> Option<String> {
        let shrunk = self.shrunk.as_ref()?;
        let figures = format!(
            "it holds {} files and {} bytes, less than {} % of the {} files and {} bytes of {}.",
            self.files(),
            self.backup_size_bytes,
            shrunk.percent,
            shrunk.files_before,
            shrunk.bytes_before,
            shrunk.before
        );
        Some(match shrunk.accepted_at {
            Some(at) => format!("Shrunk and accepted at {at}: {figures}"),
            None => format!(
                "SHRUNK: {figures} It does not count as a good recovery point, and the last good one \
                 is kept. Look at the source. If it is right so, say so with 'provault \
                 recovery-points accept {}'.",
                self.arn
            ),
        })
    }

    /// The order of age: by the moment whose state it holds.
    fn age(&self) -> (Timestamp, &Arn) {
        (self.captured_at, &self.arn)
    }
}

/// Why a recovery point is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The days of its lifecycle are over since this moment.
    Retention(Timestamp),
    /// So many newer points are there, and no more are to be kept.
    Count(u32),
}

/// What is decided about a recovery point that is to go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision<'a> {
    /// The point.
    pub point: &'a RecoveryPoint,
    /// Why it is to go.
    pub due: Due,
    /// Whether it stays all the same, because nothing newer is as good.
    pub stays: bool,
}

impl Decision<'_> {
    /// Why the point is to go.
    pub fn cause(&self) -> String {
        match self.due {
            Due::Retention(at) => format!("Its retention was over at {at}."),
            Due::Count(limit) => {
                format!(
                    "Its resource keeps at most {limit} recovery points, and it is an older one."
                )
            }
        }
    }

    /// Why it stays, when it does.
    pub fn hold(&self, now: Timestamp) -> Option<Hold> {
        if !self.stays {
            return None;
        }
        let last = if self.point.is_good() {
            "it is the last good recovery point of its resource"
        } else {
            "no good recovery point of its resource is left, and it is the best there is"
        };
        Some(Hold {
            since: now,
            message: format!(
                "{} It is kept because {last}: it goes by itself when a newer good one exists. Back \
                 the resource up, or delete this point by hand.",
                self.cause()
            ),
        })
    }
}

/// Decides about every recovery point that is to go at `now`. `points` are all points of one
/// resource, in any order; those that are being deleted already are passed over. At most one of
/// those that are to go stays.
///
/// A point from the future neither goes, nor counts, nor is the best: its clock was wrong or this one
/// is, and in neither case may another go for it. When its moment has come it is judged like any.
///
/// By count the newest of those that do not go otherwise are kept: so many that are whole or PARTIAL,
/// and beside them as many that are shrunk or hurt, so that bad points neither push good ones out nor grow
/// without end.
pub fn decide<'a>(
    points: &'a [RecoveryPoint],
    settings: &RetentionSettings,
    now: Timestamp,
) -> Vec<Decision<'a>> {
    let mut there: Vec<&RecoveryPoint> =
        points.iter().filter(|p| p.is_restorable() && !p.is_from_the_future(now)).collect();
    there.sort_by(|a, b| b.age().cmp(&a.age()));
    let most =
        there.iter().map(|point| point.worth()).max().filter(|worth| *worth > Worth::Nothing);
    let best = there.iter().find(|point| Some(point.worth()) == most).map(|point| &point.arn);
    let (mut sound, mut unsound) = (0_u32, 0_u32);
    let mut decisions = Vec::new();
    for point in there {
        let newer = if point.worth() >= Worth::Partial { &mut sound } else { &mut unsound };
        let over = settings.keep_at_most.filter(|limit| *newer >= *limit);
        let ended = point.lifecycle.delete_at(point.created_at).filter(|at| *at <= now);
        let due = ended.map(Due::Retention).or_else(|| over.map(Due::Count));
        let stays = best == Some(&point.arn);
        // One that goes leaves its place to an older one, or to look again would decide otherwise.
        if due.is_none() || stays {
            *newer = newer.saturating_add(1);
        }
        decisions.extend(due.map(|due| Decision { point, due, stays }));
    }
    decisions
}

/// What is to be written at `now`: the points of one resource that change, as they become. Those that
/// go are DELETING; the one that stays says why; one that is no longer to go says so no more.
pub fn expire(
    points: &[RecoveryPoint],
    settings: &RetentionSettings,
    now: Timestamp,
) -> Vec<RecoveryPoint> {
    let decisions = decide(points, settings, now);
    let decisions: BTreeMap<&Arn, &Decision<'_>> =
        decisions.iter().map(|decision| (&decision.point.arn, decision)).collect();
    let mut changed = Vec::new();
    for point in points.iter().filter(|point| point.is_restorable()) {
        let mut new = point.clone();
        let decision = decisions.get(&point.arn);
        new.hold = decision.and_then(|decision| decision.hold(now));
        if let (Some(hold), Some(old)) = (&mut new.hold, &point.hold) {
            hold.since = old.since;
        }
        if decision.is_some_and(|decision| !decision.stays) {
            new.status = RecoveryPointStatus::Deleting;
        }
        if new != *point {
            changed.push(new);
        }
    }
    changed
}

/// What a new point is compared with.
struct Size {
    of: Arn,
    bytes: u64,
    files: u64,
}

impl Size {
    fn of(point: &RecoveryPoint) -> Self {
        Self { of: point.arn.clone(), bytes: point.backup_size_bytes, files: point.files() }
    }

    /// The mark of a point that holds less than the share of this.
    fn mark(self, point: &RecoveryPoint, percent: u32) -> Option<Shrunk> {
        let less =
            |now: u64, then: u64| u128::from(now) * 100 < u128::from(then) * u128::from(percent);
        let shrunk = less(point.backup_size_bytes, self.bytes) || less(point.files(), self.files);
        shrunk.then_some(Shrunk {
            before: self.of,
            bytes_before: self.bytes,
            files_before: self.files,
            percent,
            accepted_at: None,
        })
    }
}

/// The newest COMPLETED point before `new` that is not marked itself, else the newest such PARTIAL
/// one. That it was damaged since changes nothing about its size. Where all of them are gone, the
/// marks that they left still say what they held.
fn size_before(points: &[RecoveryPoint], new: &RecoveryPoint) -> Option<Size> {
    fn rank(point: &RecoveryPoint) -> (bool, (Timestamp, &Arn)) {
        (point.status == RecoveryPointStatus::Completed, point.age())
    }
    let before = || points.iter().filter(move |p| p.is_restorable() && p.age() < new.age());
    let unmarked = before().filter(|point| !point.is_shrunk()).max_by(|a, b| rank(a).cmp(&rank(b)));
    if let Some(point) = unmarked {
        return Some(Size::of(point));
    }
    let marked = newest(before()).or(Some(new))?.shrunk.as_ref()?;
    Some(Size { of: marked.before.clone(), bytes: marked.bytes_before, files: marked.files_before })
}

/// The mark of a new point, if it holds less than the share of the newest good one among `points`
/// that was captured before it.
pub fn judge(
    points: &[RecoveryPoint],
    new: &RecoveryPoint,
    percent: Option<u32>,
) -> Option<Shrunk> {
    let percent = percent?;
    size_before(points, new)?.mark(new, percent)
}

/// Whether a point that [`judge`] marked is worth telling of: the first of a row is, and one that
/// shrank again. The others say the same as the one before them.
pub fn is_news(points: &[RecoveryPoint], marked: &RecoveryPoint) -> bool {
    let Some(percent) = marked.shrunk.as_ref().map(|shrunk| shrunk.percent) else { return false };
    let before = points.iter().filter(|point| point.is_restorable() && point.age() < marked.age());
    match newest(before) {
        Some(last) if last.is_shrunk() => Size::of(last).mark(marked, percent).is_some(),
        _ => true,
    }
}

/// Looks anew at the marks of a resource's points, after one was accepted or the share changed: each
/// is compared as [`judge`] would. An accepted mark stays. Points without a mark get none, unless
/// `also_unmarked`. Gives the places of those that changed.
///
/// Without a share nothing changes: to switch the alarm off accepts no point that it has marked, or
/// the last good one would go for a shrunk one at once.
pub fn judge_anew(
    points: &mut [RecoveryPoint],
    percent: Option<u32>,
    also_unmarked: bool,
) -> Vec<usize> {
    if percent.is_none() {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|a, b| points[*a].age().cmp(&points[*b].age()));
    let mut changed = Vec::new();
    for place in order {
        let point = &points[place];
        let asked = point.is_shrunk() || (also_unmarked && point.shrunk.is_none());
        if !(asked && point.is_restorable()) {
            continue;
        }
        let mark = judge(points, point, percent);
        if mark != point.shrunk {
            points[place].shrunk = mark;
            changed.push(place);
        }
    }
    changed
}

fn newest<'a>(points: impl Iterator<Item = &'a RecoveryPoint>) -> Option<&'a RecoveryPoint> {
    points.max_by(|a, b| a.age().cmp(&b.age()))
}

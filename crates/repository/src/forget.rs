//! Which snapshots to keep: restic's rules, counted as restic counts.
//!
//! Snapshots are put in groups, and in each group gone through from the newest to the oldest. Each
//! rule keeps the newest snapshot of each of its periods (hours, days, weeks by ISO 8601, months,
//! years) until its number is used up; a period without a snapshot does not count. What no rule
//! keeps is forgotten. Hours and days are those of the clock that made the snapshot.

use std::collections::BTreeMap;
use std::str::FromStr;

use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, ToSpan};

use crate::snapshot::Snapshot;

/// A length of time by the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Period {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

/// The text is no period.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a period: write years, months, days and hours as in 1y6m14d12h")]
pub struct InvalidPeriod(String);

impl FromStr for Period {
    type Err = InvalidPeriod;

    /// As restic writes it: `1y6m14d12h`, or any part of that.
    fn from_str(text: &str) -> Result<Self, InvalidPeriod> {
        let bad = || InvalidPeriod(text.to_owned());
        let mut period = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
            let number: u32 = rest[..end].parse().ok().filter(|n| *n < 10_000).ok_or_else(bad)?;
            let unit = rest[end..].chars().next().ok_or_else(bad)?;
            let field = match unit {
                'y' => &mut period.years,
                'm' => &mut period.months,
                'd' => &mut period.days,
                'h' => &mut period.hours,
                _ => return Err(bad()),
            };
            if std::mem::replace(field, number) != 0 {
                return Err(bad());
            }
            rest = &rest[end + 1..];
        }
        if period == Self::default() { Err(bad()) } else { Ok(period) }
    }
}

impl Period {
    /// The time this long before. A day that a month does not have is one of the next, as restic
    /// has it.
    fn before(self, time: DateTime) -> Option<DateTime> {
        let months = i64::from(time.year()) * 12 + i64::from(time.month())
            - 1
            - i64::from(self.years) * 12
            - i64::from(self.months);
        let year = i16::try_from(months.div_euclid(12)).ok()?;
        let month = i8::try_from(months.rem_euclid(12) + 1).ok()?;
        let first = Date::new(year, month, 1).ok()?;
        let days = i64::from(time.day()) - 1 - i64::from(self.days);
        let date = first.checked_add(days.days()).ok()?;
        let hours = SignedDuration::from_hours(i64::from(self.hours));
        date.to_datetime(time.time()).checked_sub(hours).ok()
    }
}

/// What makes snapshots belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// The same host.
    pub host: bool,
    /// The same paths.
    pub paths: bool,
    /// The same tags.
    pub tags: bool,
}

impl Default for GroupBy {
    /// Host and paths, as in restic.
    fn default() -> Self {
        Self { host: true, paths: true, tags: false }
    }
}

/// Which snapshots to keep. A rule of 0 keeps nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForgetPolicy {
    /// The newest ones.
    pub last: u32,
    /// The newest of each of so many hours.
    pub hourly: u32,
    /// The newest of each of so many days.
    pub daily: u32,
    /// The newest of each of so many weeks.
    pub weekly: u32,
    /// The newest of each of so many months.
    pub monthly: u32,
    /// The newest of each of so many years.
    pub yearly: u32,
    /// All that are younger than this, counted from the newest of the group.
    pub within: Option<Period>,
    /// All that bear every tag of one of these lists.
    pub tags: Vec<Vec<String>>,
    /// What the rules are applied to, each by itself.
    pub group_by: GroupBy,
}

/// A snapshot that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSnapshot {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The rules that keep it, by restic's names: `last snapshot`, `daily snapshot`, …
    pub reasons: Vec<String>,
}

/// What a policy says about one group of snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgetGroup {
    /// The host that they have in common, if the policy groups by it.
    pub host: Option<String>,
    /// The paths, likewise.
    pub paths: Option<Vec<String>>,
    /// The tags, likewise.
    pub tags: Option<Vec<String>>,
    /// What is kept, newest first.
    pub keep: Vec<KeptSnapshot>,
    /// What is to be forgotten, newest first.
    pub forget: Vec<Snapshot>,
}

type GroupKey = (Option<String>, Option<Vec<String>>, Option<Vec<String>>);

impl ForgetPolicy {
    /// Whether it has no rule. Such a policy forgets nothing.
    pub fn is_empty(&self) -> bool {
        let Self { last, hourly, daily, weekly, monthly, yearly, .. } = self;
        [last, hourly, daily, weekly, monthly, yearly].iter().all(|number| **number == 0)
            && self.within.is_none()
            && self.tags.is_empty()
    }

    /// Applies it. Nothing is changed: [`Repository::forget`](crate::Repository::forget) does that.
    pub fn apply(&self, snapshots: &[Snapshot]) -> Vec<ForgetGroup> {
        let sorted = |list: &[String]| {
            let mut list = list.to_vec();
            list.sort();
            list
        };
        let mut groups: BTreeMap<GroupKey, Vec<&Snapshot>> = BTreeMap::new();
        for snapshot in snapshots {
            let key = (
                self.group_by.host.then(|| snapshot.hostname.clone()),
                self.group_by.paths.then(|| sorted(&snapshot.paths)),
                self.group_by.tags.then(|| sorted(&snapshot.tags)),
            );
            groups.entry(key).or_default().push(snapshot);
        }
        groups.into_iter().map(|(key, snapshots)| self.apply_to(key, snapshots)).collect()
    }

    fn apply_to(&self, key: GroupKey, mut snapshots: Vec<&Snapshot>) -> ForgetGroup {
        snapshots.sort_by(|a, b| b.time.cmp(&a.time).then(a.id.cmp(&b.id)));
        let (host, paths, tags) = key;
        let mut group = ForgetGroup { host, paths, tags, keep: Vec::new(), forget: Vec::new() };
        let oldest_within = self.within.and_then(|within| {
            let newest = snapshots.first()?;
            let offset = offset(newest);
            within.before(offset.to_datetime(newest.time))?.to_zoned(offset.to_time_zone()).ok()
        });
        let mut rules: [(u32, Bucket, Option<i64>, &str); 6] = [
            (self.last, |number, _| number, None, "last"),
            (self.hourly, |_, time| day(time) * 100 + i64::from(time.hour()), None, "hourly"),
            (self.daily, |_, time| day(time), None, "daily"),
            (self.weekly, |_, time| week(time), None, "weekly"),
            (self.monthly, |_, time| day(time) / 100, None, "monthly"),
            (self.yearly, |_, time| i64::from(time.year()), None, "yearly"),
        ];
        for (number, snapshot) in (0i64..).zip(snapshots) {
            let mut reasons = Vec::new();
            for tags in &self.tags {
                if has_tags(snapshot, tags) {
                    reasons.push(format!("tags [{}]", tags.join(", ")));
                }
            }
            let is_young =
                oldest_within.as_ref().is_some_and(|oldest| snapshot.time > oldest.timestamp());
            if self.within.is_some() && (is_young || oldest_within.is_none()) {
                reasons.push("within".to_owned());
            }
            let time = offset(snapshot).to_datetime(snapshot.time);
            for (left, bucket, last, name) in &mut rules {
                let value = bucket(number, time);
                if *left > 0 && *last != Some(value) {
                    *last = Some(value);
                    *left -= 1;
                    reasons.push(format!("{name} snapshot"));
                }
            }
            if reasons.is_empty() && !self.is_empty() {
                group.forget.push(snapshot.clone());
            } else {
                group.keep.push(KeptSnapshot { snapshot: snapshot.clone(), reasons });
            }
        }
        group
    }
}

/// Snapshots with the same value are of one period.
type Bucket = fn(i64, DateTime) -> i64;

fn offset(snapshot: &Snapshot) -> jiff::tz::Offset {
    jiff::tz::Offset::from_seconds(snapshot.utc_offset).unwrap_or(jiff::tz::Offset::UTC)
}

fn day(time: DateTime) -> i64 {
    (i64::from(time.year()) * 100 + i64::from(time.month())) * 100 + i64::from(time.day())
}

fn week(time: DateTime) -> i64 {
    let date = time.date().iso_week_date();
    i64::from(date.year()) * 100 + i64::from(date.week())
}

/// An empty tag stands for no tags at all.
fn has_tags(snapshot: &Snapshot, tags: &[String]) -> bool {
    tags.iter().all(|tag| snapshot.has_tag(tag) || tag.is_empty() && snapshot.tags.is_empty())
}

//! When a backup rule or a restore testing plan is due: the AWS cron language and its time zone.
//!
//! `cron(minute hour day-of-month month day-of-week year)`, read in a time zone, gives a sequence of
//! instants. This module turns the text into sets of allowed values once and then answers "when next?"
//! by jumping from one allowed value to the next, largest field first, so that a leap-day rule costs
//! no more than a daily one. It reads no clock.
//!
//! # The language
//!
//! | field | values | besides `,` `-` `*` `/` |
//! |---|---|---|
//! | minute | 0-59 | |
//! | hour | 0-23 | |
//! | day-of-month | 1-31 | `?`, `L` last day, `L-3` three days before it, `15W` the weekday nearest the 15th, `LW` the last weekday, `L-3W` |
//! | month | 1-12 or JAN-DEC | |
//! | day-of-week | 1-7 or SUN-SAT (1 is Sunday) | `?`, `L` Saturday, `6L` or `FRIL` the last Friday, `3#2` the second Tuesday |
//! | year | 1970-2199 | |
//!
//! # Decisions, and where they come from
//!
//! - **Exactly one of day-of-month and day-of-week is `?`**, and nothing else will do. The `EventBridge`
//!   User Guide (page "Cron expressions") says: if you specify a value *or a `*`* in one of the two, the other
//!   must be `?`. So `* *` is refused, and so is `? ?`, which names no day at all.
//! - **Ranges may run past the end** (`20-2` hours, `FRI-MON`): the same guide lists
//!   `cron(0/30 20-2 ? * MON-FRI *)` as an example. The days are not carried over: `0-2` of Monday
//!   belongs to Monday. Only years cannot wrap.
//! - **A step is smaller than its field** (`*/60` minutes is refused, as `EventBridge` does). `5/20` counts from 5 to
//!   the field's end. Day-of-week steps are accepted although the guide's table leaves them out.
//! - **`#` stands alone** in its field: the guide calls `3#1,6#3` invalid. `L` and `W` may be mixed
//!   with other days (`1,15,L`): the guide does not forbid it.
//! - **A day a month does not have is passed over**: `31`, `31W` and `L-30` do not fire in February. A
//!   nearest weekday never leaves its month.
//! - **Names** are case-insensitive. At most [`MAX_LENGTH`] bytes, the limit of `EventBridge`'s `ScheduleExpression`.
//! - **Daylight saving** follows `EventBridge` Scheduler (page "Schedule types"): a local time that does
//!   not exist is skipped, one that exists twice fires once, here at its first occurrence. For
//!   an hourly schedule this means one pause of two hours each autumn.
//! - A schedule can be well-formed and never fire (`30` February, a year gone by):
//!   [`CronExpression::next_after`] answers `None` and the caller must not stay silent about it.
//! - `rate()`, `at()` and bare fields without `cron(…)` are refused with what to write instead.

mod days;
mod error;
mod parse;
mod timezone;

use std::fmt;
use std::iter::FusedIterator;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, date};
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::{Deserialize, Serialize};

use days::Days;
pub use error::{CronError, CronField, FieldProblem};
pub use timezone::{ScheduleTimezone, TimezoneError};

/// Longest accepted expression, in bytes: the limit of `EventBridge`'s `ScheduleExpression` member.
pub const MAX_LENGTH: usize = 256;

/// First year of the language.
pub(crate) const FIRST_YEAR: i16 = 1970;
/// Last year of the language.
pub(crate) const LAST_YEAR: i16 = 2199;

/// The schedule of a rule that names none: every day at 05:00 (documented default of AWS Backup).
pub const DEFAULT_SCHEDULE: &str = "cron(0 5 ? * * *)";

/// A parsed AWS cron expression. See the [module](self) for the language.
///
/// [`Display`](fmt::Display) and serde give back the text exactly as it was written, because clients compare
/// what they sent with what they read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CronExpression {
    text: String,
    minutes: Set,
    hours: Set,
    days: Days,
    months: Set,
    years: Years,
}

impl CronExpression {
    /// Reads an expression such as `cron(0 5 ? * * *)`.
    ///
    /// # Errors
    /// A [`CronError`] that names the field and what is wrong in it.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        parse::expression(text)
    }

    /// The text it was read from, unchanged.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first instant strictly after `after` at which the schedule is due in time zone `tz`; `None`
    /// when there is none up to the end of 2199.
    ///
    /// The work is bounded: empty months and years are passed over whole, and only local times inside a
    /// daylight-saving gap are tried one by one.
    pub fn next_after(&self, after: Timestamp, tz: &TimeZone) -> Option<Timestamp> {
        let local = tz.to_datetime(after);
        let first = date(FIRST_YEAR, 1, 1).at(0, 0, 0, 0);
        // Seconds are not looked at, so the minute `after` lies in is tried too; the comparison
        // below refuses it.
        let mut cursor = local.max(first);
        loop {
            let candidate = self.next_local(cursor)?;
            // Inside the second pass of a fold the candidates map to the first pass, before `after`.
            if let Some(instant) = first_instant(candidate, tz)
                && instant > after
            {
                return Some(instant);
            }
            cursor = candidate.checked_add(jiff::SignedDuration::from_mins(1)).ok()?;
        }
    }

    /// All occurrences after `after` and up to and including `until`, in order. The bounds let windows be
    /// chained: `(a, b]` then `(b, c]` misses nothing and repeats nothing.
    pub fn occurrences_between<'a>(
        &'a self,
        after: Timestamp,
        until: Timestamp,
        tz: &'a TimeZone,
    ) -> Occurrences<'a> {
        Occurrences { expression: self, tz, cursor: Some(after), until }
    }

    /// Whether two occurrences of one day can be less than an hour apart, which AWS Backup refuses (a
    /// plan backs up at most hourly).
    ///
    /// Decided by the minute field alone: with two allowed minutes, two occurrences share an hour; with
    /// one, local times are at least an hour apart. Clock changes are left out: where a zone
    /// shifts by half an hour (Lord Howe Island), an hourly schedule has one half-hour interval a year.
    pub fn is_more_often_than_hourly(&self) -> bool {
        self.minutes.len() > 1
    }

    /// The first allowed local minute that is not before the minute of `from`.
    fn next_local(&self, from: DateTime) -> Option<DateTime> {
        for year in self.years.from(from.year()) {
            let same_year = year == from.year();
            let mut month = self.months.at_least(if same_year { from.month() } else { 1 });
            while let Some(this_month) = month {
                let first_of_month = Date::new(year, this_month, 1).ok()?;
                let same_month = same_year && this_month == from.month();
                let matching = self.days.of_month(first_of_month);
                let mut day = matching.at_least(if same_month { from.day() } else { 1 });
                while let Some(this_day) = day {
                    let same_day = same_month && this_day == from.day();
                    let earliest = if same_day { (from.hour(), from.minute()) } else { (0, 0) };
                    if let Some((hour, minute)) = self.next_time(earliest) {
                        let found = Date::new(year, this_month, this_day).ok()?;
                        return Some(found.at(hour, minute, 0, 0));
                    }
                    day = matching.at_least(this_day + 1);
                }
                month = self.months.at_least(this_month + 1);
            }
        }
        None
    }

    /// The first allowed hour and minute of a day that is not before `(hour, minute)`.
    fn next_time(&self, (hour, minute): (i8, i8)) -> Option<(i8, i8)> {
        if self.hours.contains(hour)
            && let Some(minute) = self.minutes.at_least(minute)
        {
            return Some((hour, minute));
        }
        Some((self.hours.at_least(hour + 1)?, self.minutes.at_least(0)?))
    }
}

/// The instant of a local time: the first of two in a fold, none in a gap.
fn first_instant(local: DateTime, tz: &TimeZone) -> Option<Timestamp> {
    match tz.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
        AmbiguousOffset::Gap { .. } => None,
    }
}

impl Default for CronExpression {
    /// [`DEFAULT_SCHEDULE`].
    fn default() -> Self {
        Self {
            text: DEFAULT_SCHEDULE.to_owned(),
            minutes: Set::of(0),
            hours: Set::of(5),
            days: Days::every_day_of_week(),
            months: Set::range(1, 12),
            years: Years::all(),
        }
    }
}

impl fmt::Display for CronExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for CronExpression {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for CronExpression {
    type Error = CronError;

    fn try_from(text: String) -> Result<Self, CronError> {
        Self::parse(&text)
    }
}

impl From<CronExpression> for String {
    fn from(expression: CronExpression) -> Self {
        expression.text
    }
}

/// The occurrences of a schedule within a window; made by [`CronExpression::occurrences_between`].
#[derive(Debug, Clone)]
pub struct Occurrences<'a> {
    expression: &'a CronExpression,
    tz: &'a TimeZone,
    /// The last occurrence given, or the start of the window; `None` once the window is used up.
    cursor: Option<Timestamp>,
    until: Timestamp,
}

impl Iterator for Occurrences<'_> {
    type Item = Timestamp;

    fn next(&mut self) -> Option<Timestamp> {
        let after = self.cursor.take()?;
        let next = self.expression.next_after(after, self.tz)?;
        if next > self.until {
            return None;
        }
        self.cursor = Some(next);
        Some(next)
    }
}

impl FusedIterator for Occurrences<'_> {}

/// A set of small numbers (0 to 63): the allowed values of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Set(u64);

impl Set {
    pub(crate) fn of(value: i8) -> Self {
        let mut set = Self::default();
        set.insert(value);
        set
    }

    /// Every value from `first` to `last`, both included.
    pub(crate) fn range(first: i8, last: i8) -> Self {
        (first..=last).collect()
    }

    /// Values outside 0 to 63 are left out; the parser has bounded them long before.
    pub(crate) fn insert(&mut self, value: i8) {
        if (0..64).contains(&value) {
            self.0 |= 1 << value;
        }
    }

    pub(crate) fn contains(self, value: i8) -> bool {
        (0..64).contains(&value) && self.0 & (1 << value) != 0
    }

    pub(crate) fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = i8> {
        (0..64).filter(move |value| self.contains(*value))
    }

    /// The smallest member that is `value` or more.
    pub(crate) fn at_least(self, value: i8) -> Option<i8> {
        if value >= 64 {
            return None;
        }
        let rest = self.0 & (u64::MAX << value.max(0));
        if rest == 0 { None } else { i8::try_from(rest.trailing_zeros()).ok() }
    }
}

impl FromIterator<i8> for Set {
    fn from_iter<I: IntoIterator<Item = i8>>(values: I) -> Self {
        let mut set = Self::default();
        for value in values {
            set.insert(value);
        }
        set
    }
}

/// The allowed years, one bit each from [`FIRST_YEAR`] on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Years([u64; 4]);

impl Years {
    pub(crate) fn all() -> Self {
        let mut years = Self::default();
        for year in FIRST_YEAR..=LAST_YEAR {
            years.insert(year);
        }
        years
    }

    fn place(year: i16) -> Option<(usize, u32)> {
        let bit = usize::try_from(year.checked_sub(FIRST_YEAR)?).ok()?;
        Some((bit / 64, u32::try_from(bit % 64).ok()?))
    }

    pub(crate) fn insert(&mut self, year: i16) {
        if let Some((word, bit)) = Self::place(year)
            && let Some(word) = self.0.get_mut(word)
        {
            *word |= 1 << bit;
        }
    }

    fn contains(self, year: i16) -> bool {
        Self::place(year)
            .and_then(|(word, bit)| self.0.get(word).map(|word| word & (1 << bit) != 0))
            .unwrap_or(false)
    }

    /// The allowed years that are `first` or later, ascending.
    fn from(self, first: i16) -> impl Iterator<Item = i16> {
        (first.max(FIRST_YEAR)..=LAST_YEAR).filter(move |year| self.contains(*year))
    }
}

//! Which days of a month a schedule falls on.

use jiff::civil::Date;

use super::Set;

/// The day rule of a schedule: exactly one of the two day fields is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Days {
    /// Day-of-week is `?`.
    OfMonth(DaysOfMonth),
    /// Day-of-month is `?`.
    OfWeek(DaysOfWeek),
}

/// The day-of-month field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct DaysOfMonth {
    /// Plain days, 1 to 31.
    pub(crate) fixed: Set,
    /// `15W`: days whose nearest weekday is meant.
    pub(crate) nearest_weekday: Set,
    /// `L-3`: distances from the last day; `L` is 0.
    pub(crate) before_last: Set,
    /// `L-3W`: the same, then the nearest weekday; `LW` is 0.
    pub(crate) weekday_before_last: Set,
}

/// The day-of-week field; 1 is Sunday, 7 is Saturday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct DaysOfWeek {
    /// Every week.
    pub(crate) weekly: Set,
    /// `6L`: only the last one of the month.
    pub(crate) last: Set,
    /// `3#2`: day of the week and which one of the month.
    pub(crate) nth: Option<(i8, i8)>,
}

impl Days {
    /// The meaning of `*` in day-of-week.
    pub(crate) fn every_day_of_week() -> Self {
        Self::OfWeek(DaysOfWeek { weekly: Set::range(1, 7), ..DaysOfWeek::default() })
    }

    /// The days, 1 to 31, of the month that begins at `first` on which the schedule falls.
    pub(crate) fn of_month(&self, first: Date) -> Set {
        let month = Month {
            length: first.days_in_month(),
            first_weekday: first.weekday().to_sunday_one_offset(),
        };
        match self {
            Self::OfMonth(days) => days.of_month(month),
            Self::OfWeek(days) => days.of_month(month),
        }
    }
}

/// What must be known of a month to place days in it.
#[derive(Clone, Copy)]
struct Month {
    /// 28 to 31.
    length: i8,
    /// Of the 1st: 1 is Sunday.
    first_weekday: i8,
}

impl Month {
    fn has(self, day: i8) -> bool {
        (1..=self.length).contains(&day)
    }

    fn weekday(self, day: i8) -> i8 {
        (self.first_weekday - 1 + day - 1) % 7 + 1
    }

    /// The day from Monday to Friday nearest to `day`, within this month.
    fn nearest_weekday(self, day: i8) -> i8 {
        match self.weekday(day) {
            7 if day == 1 => 3,
            7 => day - 1,
            1 if day == self.length => day - 2,
            1 => day + 1,
            _ => day,
        }
    }
}

impl DaysOfMonth {
    fn of_month(&self, month: Month) -> Set {
        let from_end = |days: Set| days.iter().map(move |distance| month.length - distance);
        let plain = self.fixed.iter().chain(from_end(self.before_last));
        let moved = self
            .nearest_weekday
            .iter()
            .chain(from_end(self.weekday_before_last))
            .filter(|day| month.has(*day))
            .map(|day| month.nearest_weekday(day));
        plain.chain(moved).filter(|day| month.has(*day)).collect()
    }
}

impl DaysOfWeek {
    fn of_month(&self, month: Month) -> Set {
        (1..=month.length)
            .filter(|day| {
                let weekday = month.weekday(*day);
                self.weekly.contains(weekday)
                    || (self.last.contains(weekday) && !month.has(day + 7))
                    || self.nth == Some((weekday, (day - 1) / 7 + 1))
            })
            .collect()
    }
}

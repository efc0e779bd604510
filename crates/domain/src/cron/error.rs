//! What can be wrong with a cron expression, and what to write instead.

use std::fmt;

use super::{FIRST_YEAR, LAST_YEAR, MAX_LENGTH};

/// A cron expression was refused. Trying again without changing it does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Longer than [`MAX_LENGTH`] bytes.
    #[error(
        "the schedule expression is {length} bytes long, at most {MAX_LENGTH} are allowed: \
         write ranges and steps (0-30/10) instead of long lists"
    )]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A `rate(…)` expression, which AWS Backup does not take.
    #[error(
        "rate() schedules are not accepted for backups: write a cron expression instead, such as \
         cron(0 * * * ? *) for every hour or cron(0 5 ? * * *) for every day at 05:00"
    )]
    Rate,
    /// Not of the form `cron(…)`.
    #[error(
        "`{text}` is not a cron expression: write cron(minute hour day-of-month month day-of-week year), \
         such as cron(0 5 ? * * *) for every day at 05:00"
    )]
    NotCron {
        /// What was given.
        text: String,
    },
    /// Not six fields.
    #[error(
        "the cron expression has {found} fields and needs 6: minute hour day-of-month month day-of-week year, \
         separated by spaces (unlike Unix cron, the year is required: write * for every year)"
    )]
    FieldCount {
        /// How many there are.
        found: usize,
    },
    /// Not exactly one of the two day fields is `?`.
    #[error(
        "day-of-month is `{day_of_month}` and day-of-week is `{day_of_week}`: exactly one of the two must be `?`, \
         such as cron(0 5 ? * * *) or cron(0 5 1 * ? *)"
    )]
    DayFields {
        /// The day-of-month field.
        day_of_month: String,
        /// The day-of-week field.
        day_of_week: String,
    },
    /// One field cannot be read.
    #[error("{field} field `{text}` of the cron expression: {problem}")]
    Field {
        /// Which field.
        field: CronField,
        /// The whole field.
        text: String,
        /// What is wrong in it.
        problem: FieldProblem,
    },
}

/// A field of a cron expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CronField {
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// 1 to 31.
    DayOfMonth,
    /// 1 to 12, or JAN to DEC.
    Month,
    /// 1 (Sunday) to 7 (Saturday), or SUN to SAT.
    DayOfWeek,
    /// 1970 to 2199.
    Year,
}

impl CronField {
    /// Smallest and largest value.
    pub fn bounds(self) -> (i16, i16) {
        match self {
            Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (1, 7),
            Self::Year => (FIRST_YEAR, LAST_YEAR),
        }
    }

    /// Names of the values, the first one for the smallest value; empty where the field has none.
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &[
                "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
            ],
            Self::DayOfWeek => &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
            _ => &[],
        }
    }

    /// The largest step: the distance that still has a meaning within the field.
    pub(crate) fn largest_step(self) -> i16 {
        let (first, last) = self.bounds();
        match self {
            Self::Minute | Self::Hour | Self::Year => last - first,
            Self::DayOfMonth | Self::Month | Self::DayOfWeek => last,
        }
    }

    /// The values and characters a message offers.
    fn accepts(self) -> &'static str {
        match self {
            Self::Minute => "0-59 with , - * /",
            Self::Hour => "0-23 with , - * /",
            Self::DayOfMonth => "1-31 with , - * ? / L W",
            Self::Month => "1-12 or JAN-DEC with , - * /",
            Self::DayOfWeek => "1-7 (1 is Sunday) or SUN-SAT with , - * ? / L #",
            Self::Year => "1970-2199 with , - * /",
        }
    }
}

impl fmt::Display for CronField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day-of-month",
            Self::Month => "month",
            Self::DayOfWeek => "day-of-week",
            Self::Year => "year",
        })
    }
}

/// What is wrong in a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldProblem {
    /// A character that has no meaning there.
    Character {
        /// The character.
        found: char,
        /// Its place in the field, counted from 1.
        position: usize,
        /// The field, for what it accepts.
        field: CronField,
    },
    /// The field, or one item of a list or range, ends too early.
    Incomplete {
        /// The field, for what it accepts.
        field: CronField,
    },
    /// A number outside the field's values.
    OutOfBounds {
        /// As written.
        value: String,
        /// The field, for what it accepts.
        field: CronField,
    },
    /// A word that is no name of this field.
    UnknownName {
        /// As written.
        name: String,
        /// The field, for what it accepts.
        field: CronField,
    },
    /// A step of zero or larger than the field.
    Step {
        /// As written.
        step: String,
        /// The largest that is allowed.
        largest: i16,
    },
    /// A range of years that ends before it begins.
    BackwardRange {
        /// First year.
        first: i16,
        /// Last year.
        last: i16,
    },
    /// `?` together with something else, or in a field that has none.
    QuestionMark {
        /// The field, for what it accepts.
        field: CronField,
    },
    /// `#` in a list: one field takes one such expression.
    HashInList,
    /// `#` with a number other than 1 to 5.
    HashOccurrence {
        /// As written.
        occurrence: String,
    },
    /// `L-` with a number other than 1 to 30.
    LastOffset {
        /// As written.
        offset: String,
    },
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character { found, position, field } => write!(
                f,
                "`{}` at position {position} has no meaning there; the field takes {}",
                found.escape_debug(),
                field.accepts()
            ),
            Self::Incomplete { field } => {
                write!(f, "a value is missing; the field takes {}", field.accepts())
            }
            Self::OutOfBounds { value, field } => {
                let (first, last) = field.bounds();
                write!(f, "{value} is not between {first} and {last}")?;
                if *field == CronField::DayOfWeek {
                    write!(f, " (1 is Sunday, 7 is Saturday)")?;
                }
                Ok(())
            }
            Self::UnknownName { name, field } => {
                write!(f, "`{name}` is not a value; the field takes {}", field.accepts())
            }
            Self::Step { step, largest } => {
                write!(f, "the step {step} is not between 1 and {largest}")
            }
            Self::BackwardRange { first, last } => {
                write!(f, "the range ends before it begins: write {last}-{first}")
            }
            Self::QuestionMark { field } => match field {
                CronField::DayOfMonth | CronField::DayOfWeek => {
                    write!(f, "`?` must stand alone in the field")
                }
                _ => write!(
                    f,
                    "`?` is only for day-of-month and day-of-week: write * for every {field}"
                ),
            },
            Self::HashInList => {
                write!(f, "`#` must stand alone in the field: use one rule for each")
            }
            Self::HashOccurrence { occurrence } => write!(
                f,
                "after `#` comes which one of the month, 1 to 5, not `{occurrence}` (3#2 is the second Tuesday)"
            ),
            Self::LastOffset { offset } => write!(
                f,
                "after `L-` comes a number of days, 1 to 30, not `{offset}` (L-3 is three days before the last)"
            ),
        }
    }
}

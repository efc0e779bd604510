//! Durations on the command line: `90s`, `15m`, `24h`, `7d`.

use std::fmt;
use std::str::FromStr;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("'{0}' is not a duration; write a whole number and a unit: 90s, 15m, 24h or 7d")]
    Form(String),
    #[error("'{0}' is too long")]
    TooLong(String),
    #[error("'{text}' is not a whole number of {unit}")]
    Fraction { text: String, unit: &'static str },
}

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 86_400;

/// A duration in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub u64);

impl FromStr for Seconds {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let form = || DurationError::Form(text.to_owned());
        let unit = match text.as_bytes().last() {
            Some(b's') => 1,
            Some(b'm') => MINUTE,
            Some(b'h') => HOUR,
            Some(b'd') => DAY,
            _ => return Err(form()),
        };
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(form());
        }
        // The API's numbers are signed; what does not fit there is too long here.
        digits
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(unit))
            .filter(|seconds| i64::try_from(*seconds).is_ok())
            .map(Self)
            .ok_or_else(|| DurationError::TooLong(text.to_owned()))
    }
}

/// In the largest unit that is exact.
impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0;
        for (unit, letter) in [(DAY, 'd'), (HOUR, 'h'), (MINUTE, 'm')] {
            if seconds != 0 && seconds.is_multiple_of(unit) {
                return write!(f, "{}{letter}", seconds / unit);
            }
        }
        write!(f, "{seconds}s")
    }
}

/// A duration that the API counts in minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minutes(pub i64);

/// A duration that the API counts in hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours(pub i32);

/// A duration that the API counts in days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(pub i64);

impl FromStr for Minutes {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        whole(text, MINUTE, "minutes").map(Self)
    }
}

impl FromStr for Hours {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let hours = whole(text, HOUR, "hours")?;
        i32::try_from(hours).map(Self).map_err(|_| DurationError::TooLong(text.to_owned()))
    }
}

impl FromStr for Days {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        whole(text, DAY, "days").map(Self)
    }
}

fn whole(text: &str, unit: u64, name: &'static str) -> Result<i64, DurationError> {
    let Seconds(seconds) = text.parse()?;
    if !seconds.is_multiple_of(unit) {
        return Err(DurationError::Fraction { text: text.to_owned(), unit: name });
    }
    i64::try_from(seconds / unit).map_err(|_| DurationError::TooLong(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_units_are_seconds_minutes_hours_and_days() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("24h", 86_400), ("7d", 604_800)] {
            assert_eq!(text.parse(), Ok(Seconds(seconds)));
        }
        assert_eq!("8h".parse(), Ok(Minutes(480)));
        assert_eq!("48h".parse(), Ok(Days(2)));
        assert!("90s".parse::<Minutes>().is_err());
        assert!("36h".parse::<Days>().is_err());
    }

    #[test]
    fn what_could_be_misread_is_refused() {
        for text in
            ["", "5", "s", "-5s", "+5s", "1.5h", "5 m", " 5m", "5m ", "5M", "1h30m", "٣s", "5µ"]
        {
            assert!(matches!(text.parse::<Seconds>(), Err(DurationError::Form(_))), "{text}");
        }
        for text in ["99999999999999999999s", "9223372036854775807d", "9223372036854775808s"] {
            assert!(matches!(text.parse::<Seconds>(), Err(DurationError::TooLong(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_survives_being_written(seconds in 0..=i64::MAX.cast_unsigned()) {
            let text = Seconds(seconds).to_string();
            prop_assert_eq!(text.parse::<Seconds>().unwrap(), Seconds(seconds));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,12}") {
            // Only whole ASCII numbers with a unit may pass.
            if text.parse::<Seconds>().is_ok() {
                let (digits, unit) = text.split_at(text.len() - 1);
                prop_assert!(digits.bytes().all(|b| b.is_ascii_digit()));
                prop_assert!(["s", "m", "h", "d"].contains(&unit));
            }
        }
    }
}

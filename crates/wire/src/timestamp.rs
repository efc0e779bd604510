//! A point in time as the API writes it.

use std::fmt;

use serde::de::{Error as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The first and the last millisecond that ISO 8601 can write with a four-digit year.
const RANGE_MILLIS: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;
const DAY_SECONDS: i64 = 86_400;

/// A point in time, exact to the millisecond.
///
/// In JSON it is a number of seconds since 1970 (an ISO string there makes the JavaScript SDK
/// throw, a number of milliseconds makes boto throw); in a query it is ISO 8601.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text or number that is no point in time between the years 0 and 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a time; write it like 2024-05-31T13:00:00Z, with an offset from UTC or Z at the end"
)]
pub struct ParseTimestampError(String);

impl Timestamp {
    /// The time so many milliseconds after 1970 began (UTC); none outside the years 0 to 9999.
    pub fn from_epoch_millis(millis: i64) -> Option<Self> {
        RANGE_MILLIS.contains(&millis).then_some(Self(millis))
    }

    /// The time so many seconds after 1970 began (UTC), rounded to the millisecond; none outside
    /// the years 0 to 9999.
    pub fn from_epoch_seconds(seconds: f64) -> Option<Self> {
        let millis = (seconds * 1000.0).round();
        // The comparison also refuses NaN; inside the range every f64 here is an exact integer.
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        if millis >= *RANGE_MILLIS.start() as f64 && millis <= *RANGE_MILLIS.end() as f64 {
            Some(Self(millis as i64))
        } else {
            None
        }
    }

    /// Milliseconds since 1970 began (UTC).
    pub fn epoch_millis(self) -> i64 {
        self.0
    }

    /// Seconds since 1970 began (UTC).
    #[allow(clippy::cast_precision_loss)] // The range is far below 2^53 milliseconds.
    pub fn epoch_seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// Reads ISO 8601 with a date, a time, at most nine digits of fraction, and `Z` or an offset.
    pub fn parse_iso8601(text: &str) -> Result<Self, ParseTimestampError> {
        parse(text)
            .and_then(Self::from_epoch_millis)
            .ok_or_else(|| ParseTimestampError(text.chars().take(64).collect()))
    }
}

/// As ISO 8601 in UTC, with a fraction only where there is one.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.div_euclid(1000), self.0.rem_euclid(1000));
        let (year, month, day) = civil(seconds.div_euclid(DAY_SECONDS));
        let second = seconds.rem_euclid(DAY_SECONDS);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if millis != 0 {
            write!(f, ".{millis:03}")?;
        }
        f.write_str("Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 1000 == 0 {
            serializer.serialize_i64(self.0 / 1000)
        } else {
            serializer.serialize_f64(self.epoch_seconds())
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;

        impl Visitor<'_> for Seconds {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time as a number of seconds since 1970")
            }

            fn visit_f64<E: serde::de::Error>(self, seconds: f64) -> Result<Timestamp, E> {
                Timestamp::from_epoch_seconds(seconds)
                    .ok_or_else(|| E::invalid_value(Unexpected::Float(seconds), &self))
            }

            fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Timestamp, E> {
                seconds
                    .checked_mul(1000)
                    .and_then(Timestamp::from_epoch_millis)
                    .ok_or_else(|| E::invalid_value(Unexpected::Signed(seconds), &self))
            }

            fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Timestamp, E> {
                i64::try_from(seconds)
                    .map_err(E::custom)
                    .and_then(|seconds| self.visit_i64(seconds))
            }
        }

        deserializer.deserialize_any(Seconds).map_err(D::Error::custom)
    }
}

fn parse(text: &str) -> Option<i64> {
    let mut rest = text.as_bytes();
    let year = digits(&mut rest, 4)?;
    let month = literal(&mut rest, b"-").and_then(|()| digits(&mut rest, 2))?;
    let day = literal(&mut rest, b"-").and_then(|()| digits(&mut rest, 2))?;
    let hour = literal(&mut rest, b"Tt").and_then(|()| digits(&mut rest, 2))?;
    let minute = literal(&mut rest, b":").and_then(|()| digits(&mut rest, 2))?;
    let second = literal(&mut rest, b":").and_then(|()| digits(&mut rest, 2))?;
    let millis = match literal(&mut rest, b".") {
        Some(()) => fraction(&mut rest)?,
        None => 0,
    };
    let offset = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), tail @ ..] => {
            let mut tail = tail;
            let hours = digits(&mut tail, 2)?;
            let minutes = literal(&mut tail, b":").and_then(|()| digits(&mut tail, 2))?;
            if !tail.is_empty() || hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -60 } else { 60 }
        }
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days(year, month, day);
    if civil(days) != (year, month, day) {
        return None;
    }
    let seconds = days * DAY_SECONDS + hour * 3600 + minute * 60 + second - offset;
    Some(seconds * 1000 + millis)
}

fn digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (number, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    number
        .iter()
        .try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

fn literal(rest: &mut &[u8], one_of: &[u8]) -> Option<()> {
    let (first, tail) = rest.split_first()?;
    one_of.contains(first).then(|| *rest = tail)
}

/// Milliseconds of a fraction; what is finer is cut off.
fn fraction(rest: &mut &[u8]) -> Option<i64> {
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&count) {
        return None;
    }
    let nanos = digits(rest, count)? * 10_i64.pow(u32::try_from(9 - count).ok()?);
    Some(nanos / 1_000_000)
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar. Years are taken to begin in
/// March, so that the leap day is the last of its year, and counted in eras of 400.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date so many days after 1970-01-01: the inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn iso_8601_is_read_with_fraction_and_offset() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T12:30:15Z", 1_709_209_815_000),
            ("2024-02-29T12:30:15.250Z", 1_709_209_815_250),
            ("2024-02-29T12:30:15.250999Z", 1_709_209_815_250),
            ("2024-02-29T14:30:15+02:00", 1_709_209_815_000),
            ("2024-02-29T04:00:15-08:30", 1_709_209_815_000),
            ("1969-12-31T23:59:59.999Z", -1),
        ] {
            assert_eq!(
                Timestamp::parse_iso8601(text).map(Timestamp::epoch_millis),
                Ok(millis),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2024",
            "2024-02-29",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00Zjunk",
            "2024-01-01T00:00:00+2:00",
            "1709209815",
            "0000-01-01T00:00:00+01:00",
            "２024-01-01T00:00:00Z",
        ] {
            assert!(Timestamp::parse_iso8601(text).is_err(), "{text}");
        }
    }

    #[test]
    fn json_is_epoch_seconds_with_at_most_milliseconds() {
        let json = |millis| {
            Timestamp::from_epoch_millis(millis).map(|time| serde_json::to_string(&time).unwrap())
        };
        assert_eq!(json(1_709_209_815_000).unwrap(), "1709209815");
        assert_eq!(json(1_709_209_815_123).unwrap(), "1709209815.123");
        assert_eq!(json(-1).unwrap(), "-0.001");
        let read = |text| serde_json::from_str::<Timestamp>(text);
        assert_eq!(read("1709209815.1239").unwrap().epoch_millis(), 1_709_209_815_124);
        assert_eq!(read("1.7092098151E9").unwrap().epoch_millis(), 1_709_209_815_100);
        // A number of milliseconds, an ISO string, or no number at all.
        for wrong in
            ["1709209815000", "\"2024-02-29T12:30:15Z\"", "1e300", "true", "99999999999999999999"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_time_survives_both_forms(millis in RANGE_MILLIS) {
            let time = Timestamp::from_epoch_millis(millis).unwrap();
            prop_assert_eq!(Timestamp::parse_iso8601(&time.to_string()).unwrap(), time);
            let json = serde_json::to_string(&time).unwrap();
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
        }
    }
}

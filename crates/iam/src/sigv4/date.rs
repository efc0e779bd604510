//! The two ways a request is dated.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::tz::Offset;

/// Writes `YYYYMMDDTHHMMSSZ`.
pub(super) fn format(time: Timestamp) -> String {
    Offset::UTC.to_datetime(time).strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// Reads exactly `YYYYMMDDTHHMMSSZ`; any other spelling would sign differently.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i16> {
        let digits = &bytes[from..to];
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |sum, digit| sum * 10 + i16::from(digit - b'0')))
    };
    let small = |from: usize| number(from, from + 2).and_then(|value| i8::try_from(value).ok());
    let civil =
        DateTime::new(number(0, 4)?, small(4)?, small(6)?, small(9)?, small(11)?, small(13)?, 0)
            .ok()?;
    Offset::UTC.to_timestamp(civil).ok()
}

/// Reads a `Date` header: the HTTP form (`Tue, 15 Nov 1994 08:12:31 GMT`), or AWS's own.
pub(super) fn parse_date_header(text: &str) -> Option<Timestamp> {
    parse(text).or_else(|| Some(rfc2822::parse(text).ok()?.timestamp()))
}

//! A part of every day, on the clocks of one time zone.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use serde::{Deserialize, Serialize};

use crate::Invalid;
use crate::cron::ScheduleTimezone;

/// From one time of day to another, on every day; over midnight where the second is the earlier one.
///
/// Clocks that go forward or back do what they do on a wall: a time that a day does not have is taken as
/// much later as the clocks went forward, and of one that it has twice the first counts. A window that has
/// no length on such a day does not open on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DailyWindow {
    /// When it opens.
    from: Time,
    /// When it closes.
    to: Time,
    /// Whose clocks are meant.
    timezone: ScheduleTimezone,
}

impl DailyWindow {
    /// From `HH:MM` to `HH:MM`, on the clocks of an IANA time zone.
    pub fn parse(from: &str, to: &str, timezone: &str) -> Result<Self, Invalid> {
        let window = Self {
            from: time_of_day("From", from)?,
            to: time_of_day("To", to)?,
            timezone: ScheduleTimezone::parse(timezone)
                .map_err(|e| Invalid::new("Timezone", format!("{e}.")))?,
        };
        if window.from == window.to {
            return Err(Invalid::new(
                "To",
                "a window that closes when it opens has no length; leave the window out for the whole \
                 day.",
            ));
        }
        Ok(window)
    }

    /// When it opens, `HH:MM`.
    pub fn from(&self) -> String {
        self.from.strftime("%H:%M").to_string()
    }

    /// When it closes, `HH:MM`.
    pub fn to(&self) -> String {
        self.to.strftime("%H:%M").to_string()
    }

    /// Whose clocks are meant.
    pub fn timezone(&self) -> &str {
        self.timezone.name()
    }

    /// The window that is open at `at`, else the next that opens: its first moment and the first one after
    /// it. `None` only at the end of time.
    pub fn at_or_after(&self, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let today = at.to_zoned(self.timezone.zone().clone()).date();
        // One that began yesterday may still be open; one may be missing on a day the clocks change.
        let mut date = today.yesterday().unwrap_or(today);
        for _ in 0..4 {
            match self.on(date) {
                Some((opens, closes)) if closes > at => return Some((opens, closes)),
                _ => date = date.tomorrow().ok()?,
            }
        }
        None
    }

    /// When the second window closes that something has to begin in, counted from `at`.
    pub fn second_close(&self, at: Timestamp) -> Option<Timestamp> {
        let (_, first) = self.at_or_after(at)?;
        self.at_or_after(first).map(|(_, second)| second)
    }

    fn on(&self, date: Date) -> Option<(Timestamp, Timestamp)> {
        let zone = self.timezone.zone();
        let last = if self.to > self.from { date } else { date.tomorrow().ok()? };
        let opens = zone.to_timestamp(date.to_datetime(self.from)).ok()?;
        let closes = zone.to_timestamp(last.to_datetime(self.to)).ok()?;
        (opens < closes).then_some((opens, closes))
    }
}

impl fmt::Display for DailyWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{} {}", self.from(), self.to(), self.timezone)
    }
}

fn time_of_day(member: &str, text: &str) -> Result<Time, Invalid> {
    let wrong = || {
        Invalid::new(member, format!("'{text}' is not a time of day; write HH:MM, such as 01:30."))
    };
    let bytes = text.as_bytes();
    let digits = |at: usize| bytes[at].is_ascii_digit() && bytes[at + 1].is_ascii_digit();
    if bytes.len() != 5 || bytes[2] != b':' || !digits(0) || !digits(3) {
        return Err(wrong());
    }
    let hour = text[..2].parse().map_err(|_| wrong())?;
    let minute = text[3..].parse().map_err(|_| wrong())?;
    Time::new(hour, minute, 0, 0).map_err(|_| wrong())
}

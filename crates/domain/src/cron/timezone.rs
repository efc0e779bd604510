//! The time zone that a schedule is read in.

use std::fmt;
use std::str::FromStr;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

/// Names some systems keep beside the IANA zones: they stand for "whatever this host is set to", so the same
/// plan would mean different times on two hosts, or for no zone at all.
const NOT_ZONES: [&str; 4] = ["localtime", "posixrules", "Factory", "Etc/Unknown"];

/// `ScheduleExpressionTimezone`: an IANA time zone by name, `Etc/UTC` by default.
///
/// [`Display`](fmt::Display) and serde give back the name as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ScheduleTimezone {
    name: String,
    zone: TimeZone,
}

impl ScheduleTimezone {
    /// Looks the name up among the zones of this system, whose rules are the freshest, and then among
    /// those built into the program, so that a system without zone files knows every zone too.
    /// Upper and lower case do not matter.
    ///
    /// # Errors
    /// [`TimezoneError`] when neither knows the name.
    pub fn parse(name: &str) -> Result<Self, TimezoneError> {
        Self::parse_in(name, jiff::tz::db())
            .or_else(|_| Self::parse_in(name, &TimeZoneDatabase::bundled()))
    }

    /// Looks the name up in one given database, for callers that must not depend on the host.
    ///
    /// # Errors
    /// [`TimezoneError`] when the database does not know the name.
    pub fn parse_in(name: &str, zones: &TimeZoneDatabase) -> Result<Self, TimezoneError> {
        let unknown = || TimezoneError { name: name.escape_debug().to_string() };
        if NOT_ZONES.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            return Err(unknown());
        }
        let zone = zones.get(name).map_err(|_| unknown())?;
        Ok(Self { name: name.to_owned(), zone })
    }

    /// The name as it was written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The zone's rules.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }
}

impl Default for ScheduleTimezone {
    /// `Etc/UTC`: AWS Backup reads schedules in UTC unless told otherwise.
    fn default() -> Self {
        Self { name: "Etc/UTC".to_owned(), zone: TimeZone::UTC }
    }
}

impl fmt::Display for ScheduleTimezone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for ScheduleTimezone {
    type Err = TimezoneError;

    fn from_str(name: &str) -> Result<Self, TimezoneError> {
        Self::parse(name)
    }
}

impl TryFrom<String> for ScheduleTimezone {
    type Error = TimezoneError;

    fn try_from(name: String) -> Result<Self, TimezoneError> {
        Self::parse(&name)
    }
}

impl From<ScheduleTimezone> for String {
    fn from(timezone: ScheduleTimezone) -> Self {
        timezone.name
    }
}

/// No such time zone. Trying again with the same name does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{name}` is not a known time zone: write the name of an IANA zone such as Europe/Berlin, America/New_York \
     or Etc/UTC (not an offset such as +02:00)"
)]
pub struct TimezoneError {
    /// As written.
    pub name: String,
}

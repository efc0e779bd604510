//! Known schedules with the dates worked out by hand, and texts that must be refused.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use provault_domain::cron::{
    CronError, CronExpression, CronField, FieldProblem, MAX_LENGTH, ScheduleTimezone,
};

fn zone(name: &str) -> TimeZone {
    // The built-in database, so that the host's zone files do not decide a test.
    TimeZoneDatabase::bundled().get(name).expect("a zone of the built-in database")
}

fn utc(text: &str) -> Timestamp {
    let local: DateTime = text.parse().expect("a date and time");
    TimeZone::UTC.to_timestamp(local).expect("in range")
}

/// The first occurrences after `after` (UTC), as UTC `YYYY-MM-DDTHH:MM:SS`.
fn first(expression: &str, after: &str, tz: &TimeZone, count: usize) -> Vec<String> {
    let cron = CronExpression::parse(expression).unwrap_or_else(|e| panic!("{expression}: {e}"));
    cron.occurrences_between(utc(after), Timestamp::MAX, tz)
        .take(count)
        .map(|t| TimeZone::UTC.to_datetime(t).to_string())
        .collect()
}

/// Expression, instant to count from, and the occurrences that follow, all in UTC.
const IN_UTC: &[(&str, &str, &[&str])] = &[
    // The examples of the EventBridge User Guide.
    ("cron(0 10 * * ? *)", "2024-01-01T10:00:00", &["2024-01-02T10:00:00", "2024-01-03T10:00:00"]),
    ("cron(15 12 * * ? *)", "2024-01-01T00:00:00", &["2024-01-01T12:15:00", "2024-01-02T12:15:00"]),
    // 2024-01-05 is a Friday.
    (
        "cron(0 18 ? * MON-FRI *)",
        "2024-01-05T00:00:00",
        &["2024-01-05T18:00:00", "2024-01-08T18:00:00"],
    ),
    ("cron(0 8 1 * ? *)", "2024-01-15T00:00:00", &["2024-02-01T08:00:00", "2024-03-01T08:00:00"]),
    (
        "cron(0/15 * * * ? *)",
        "2024-01-01T00:40:00",
        &["2024-01-01T00:45:00", "2024-01-01T01:00:00"],
    ),
    (
        "cron(0/10 * ? * MON-FRI *)",
        "2024-01-05T23:45:00",
        &["2024-01-05T23:50:00", "2024-01-08T00:00:00"],
    ),
    (
        "cron(0/5 8-17 ? * MON-FRI *)",
        "2024-01-05T17:50:00",
        &["2024-01-05T17:55:00", "2024-01-08T08:00:00"],
    ),
    // Ranges past the end: Friday night, then Monday's own hours from midnight.
    (
        "cron(0/30 20-2 ? * MON-FRI *)",
        "2024-01-05T23:00:00",
        &[
            "2024-01-05T23:30:00",
            "2024-01-08T00:00:00",
            "2024-01-08T00:30:00",
            "2024-01-08T01:00:00",
            "2024-01-08T01:30:00",
            "2024-01-08T02:00:00",
            "2024-01-08T02:30:00",
            "2024-01-08T20:00:00",
        ],
    ),
    (
        "cron(0 0 ? * FRI-MON *)",
        "2024-01-04T00:00:00",
        &[
            "2024-01-05T00:00:00",
            "2024-01-06T00:00:00",
            "2024-01-07T00:00:00",
            "2024-01-08T00:00:00",
            "2024-01-12T00:00:00",
        ],
    ),
    (
        "cron(0 12 1 NOV-FEB ? *)",
        "2024-02-01T12:00:00",
        &["2024-11-01T12:00:00", "2024-12-01T12:00:00", "2025-01-01T12:00:00"],
    ),
    // The default schedule of AWS Backup, and its guide's two examples.
    ("cron(0 5 ? * * *)", "2024-01-01T05:00:01", &["2024-01-02T05:00:00"]),
    ("cron(15 * ? * * *)", "2024-01-01T23:15:00", &["2024-01-02T00:15:00", "2024-01-02T01:15:00"]),
    // The last Friday: by number and by name, in any case.
    (
        "cron(15 10 ? * 6L 2019-2022)",
        "2022-10-01T00:00:00",
        &["2022-10-28T10:15:00", "2022-11-25T10:15:00", "2022-12-30T10:15:00"],
    ),
    ("cron(15 10 ? * FriL 2022)", "2022-11-26T00:00:00", &["2022-12-30T10:15:00"]),
    // A bare L in day-of-week is every Saturday.
    ("cron(0 0 ? * L *)", "2024-01-01T00:00:00", &["2024-01-06T00:00:00", "2024-01-13T00:00:00"]),
    // The second Tuesday; the fifth Monday, which most months do not have.
    ("cron(0 9 ? * 3#2 *)", "2024-01-01T00:00:00", &["2024-01-09T09:00:00", "2024-02-13T09:00:00"]),
    (
        "cron(0 9 ? * tue#2 *)",
        "2024-01-01T00:00:00",
        &["2024-01-09T09:00:00", "2024-02-13T09:00:00"],
    ),
    (
        "cron(0 9 ? * MON#5 *)",
        "2024-01-01T00:00:00",
        &["2024-01-29T09:00:00", "2024-04-29T09:00:00", "2024-07-29T09:00:00"],
    ),
    // The last day; three days before it; mixed with others.
    (
        "cron(30 1 L * ? *)",
        "2024-01-31T01:30:00",
        &["2024-02-29T01:30:00", "2024-03-31T01:30:00", "2024-04-30T01:30:00"],
    ),
    (
        "cron(0 0 L-3 * ? *)",
        "2023-02-01T00:00:00",
        &["2023-02-25T00:00:00", "2023-03-28T00:00:00", "2023-04-27T00:00:00"],
    ),
    ("cron(0 0 1,L * ? *)", "2024-02-01T00:00:00", &["2024-02-29T00:00:00", "2024-03-01T00:00:00"]),
    // L-30 is the 1st of a month of 31 days, and nothing in a shorter one.
    (
        "cron(0 0 L-30 * ? *)",
        "2024-01-01T00:00:00",
        &["2024-03-01T00:00:00", "2024-05-01T00:00:00"],
    ),
    // Nearest weekday: Saturday 15 June 2024 to Friday; Sunday 15 September to Monday.
    (
        "cron(0 0 15W 6,9 ? 2024)",
        "2024-01-01T00:00:00",
        &["2024-06-14T00:00:00", "2024-09-16T00:00:00"],
    ),
    // It stays in its month: Saturday 1 June 2024 to Monday 3; Sunday 31 March to Friday 29.
    ("cron(0 0 1w JUN ? 2024)", "2024-01-01T00:00:00", &["2024-06-03T00:00:00"]),
    ("cron(0 0 31W 3-4 ? 2024)", "2024-01-01T00:00:00", &["2024-03-29T00:00:00"]),
    // April has no 31st: the day before it, a Friday in 2021, is not meant either.
    ("cron(0 0 31W 4,5 ? 2021)", "2021-01-01T00:00:00", &["2021-05-31T00:00:00"]),
    (
        "cron(0 0 LW 3-6 ? 2024)",
        "2024-01-01T00:00:00",
        &[
            "2024-03-29T00:00:00",
            "2024-04-30T00:00:00",
            "2024-05-31T00:00:00",
            "2024-06-28T00:00:00",
        ],
    ),
    // Steps: from a start, over a range, and on days of the week.
    (
        "cron(10-50/20 3 * * ? *)",
        "2024-01-01T00:00:00",
        &[
            "2024-01-01T03:10:00",
            "2024-01-01T03:30:00",
            "2024-01-01T03:50:00",
            "2024-01-02T03:10:00",
        ],
    ),
    (
        "cron(0 11-23/4 ? * 2-6 *)",
        "2024-01-05T00:00:00",
        &[
            "2024-01-05T11:00:00",
            "2024-01-05T15:00:00",
            "2024-01-05T19:00:00",
            "2024-01-05T23:00:00",
            "2024-01-08T11:00:00",
        ],
    ),
    (
        "cron(0 0 1 1/5 ? *)",
        "2024-01-02T00:00:00",
        &["2024-06-01T00:00:00", "2024-11-01T00:00:00", "2025-01-01T00:00:00"],
    ),
    (
        "cron(0 0 ? * 2/2 *)",
        "2024-01-07T00:00:00",
        &[
            "2024-01-08T00:00:00",
            "2024-01-10T00:00:00",
            "2024-01-12T00:00:00",
            "2024-01-15T00:00:00",
        ],
    ),
    (
        "cron(0 22-2/2 * * ? *)",
        "2024-01-01T02:00:00",
        &["2024-01-01T22:00:00", "2024-01-02T00:00:00", "2024-01-02T02:00:00"],
    ),
    // Rare: leap days, over the century that has none, and the last one of the language.
    ("cron(0 0 29 2 ? *)", "2096-02-29T00:00:00", &["2104-02-29T00:00:00"]),
    ("cron(59 23 31 12 ? 2199)", "1970-01-01T00:00:00", &["2199-12-31T23:59:00"]),
    ("cron(0 0 ? 2 1#5 *)", "2024-01-01T00:00:00", &["2032-02-29T00:00:00", "2060-02-29T00:00:00"]),
    // Before the language begins.
    ("cron(0 0 * * ? *)", "0001-06-01T00:00:00", &["1970-01-01T00:00:00", "1970-01-02T00:00:00"]),
    // Never.
    ("cron(0 0 30 2 ? *)", "1970-01-01T00:00:00", &[]),
    ("cron(0 0 31 4,6,9,11 ? *)", "1970-01-01T00:00:00", &[]),
    ("cron(0 0 * * ? 1999)", "2024-01-01T00:00:00", &[]),
    ("cron(59 23 31 12 ? *)", "2199-12-31T23:59:00", &[]),
    ("cron(* * * * ? *)", "9000-01-01T00:00:00", &[]),
];

#[test]
fn known_schedules_in_utc() {
    for (expression, after, expected) in IN_UTC {
        // One more than listed, so that a list meant to be complete is seen to be.
        let mut found = first(expression, after, &TimeZone::UTC, expected.len() + 1);
        let complete = expected.is_empty() || !expression.ends_with(" *)");
        if !complete {
            found.truncate(expected.len());
        }
        assert_eq!(found, *expected, "{expression} after {after}");
    }
}

#[test]
fn local_times_that_do_not_exist_are_skipped() {
    // New York sprang from 02:00 to 03:00 on 10 March 2024.
    assert_eq!(
        first("cron(30 2 * * ? *)", "2024-03-09T00:00:00", &zone("America/New_York"), 3),
        ["2024-03-09T07:30:00", "2024-03-11T06:30:00", "2024-03-12T06:30:00"]
    );
    // An hourly schedule sees no interval at all: 01:15 EST is followed by 03:15 EDT.
    assert_eq!(
        first("cron(15 * * * ? *)", "2024-03-10T05:20:00", &zone("America/New_York"), 3),
        ["2024-03-10T06:15:00", "2024-03-10T07:15:00", "2024-03-10T08:15:00"]
    );
    // Lord Howe Island: half an hour, 02:00 to 02:30 on 6 October 2024.
    assert_eq!(
        first("cron(15,45 2 * * ? *)", "2024-10-05T12:00:00", &zone("Australia/Lord_Howe"), 2),
        ["2024-10-05T15:45:00", "2024-10-06T15:15:00"]
    );
    // Samoa had no 30 December 2011.
    assert_eq!(
        first("cron(0 12 * * ? *)", "2011-12-29T00:00:00", &zone("Pacific/Apia"), 3),
        ["2011-12-29T22:00:00", "2011-12-30T22:00:00", "2011-12-31T22:00:00"]
    );
    assert_eq!(
        first("cron(* * 30 12 ? 2011)", "2011-01-01T00:00:00", &zone("Pacific/Apia"), 1),
        Vec::<String>::new()
    );
    // Always in the gap: New York springs on every second Sunday of March since 2007.
    assert_eq!(
        first("cron(30 2 ? 3 1#2 2007-2199)", "2007-01-01T00:00:00", &zone("America/New_York"), 1),
        Vec::<String>::new()
    );
}

#[test]
fn local_times_that_exist_twice_fire_once_the_first_time() {
    // New York fell back from 02:00 EDT to 01:00 EST on 3 November 2024.
    let new_york = zone("America/New_York");
    assert_eq!(
        first("cron(30 1 * * ? *)", "2024-11-03T00:00:00", &new_york, 2),
        ["2024-11-03T05:30:00", "2024-11-04T06:30:00"]
    );
    assert_eq!(
        first("cron(0 * * * ? *)", "2024-11-03T04:30:00", &new_york, 3),
        ["2024-11-03T05:00:00", "2024-11-03T07:00:00", "2024-11-03T08:00:00"]
    );
    // Asked from within the second pass, the first pass is not given again.
    assert_eq!(
        first("cron(0/15 * * * ? *)", "2024-11-03T06:10:00", &new_york, 2),
        ["2024-11-03T07:00:00", "2024-11-03T07:15:00"]
    );
    // Lord Howe Island: half an hour back, 02:00 to 01:30 on 7 April 2024.
    assert_eq!(
        first("cron(45 1 * * ? *)", "2024-04-06T00:00:00", &zone("Australia/Lord_Howe"), 2),
        ["2024-04-06T14:45:00", "2024-04-07T15:15:00"]
    );
}

#[test]
fn windows_can_be_chained() {
    let cron = CronExpression::parse("cron(0 5 ? * * *)").expect("valid");
    let (a, b, c) =
        (utc("2024-01-01T05:00:00"), utc("2024-01-03T05:00:00"), utc("2024-01-05T04:59:59"));
    let window = |from, to| cron.occurrences_between(from, to, &TimeZone::UTC).collect::<Vec<_>>();
    assert_eq!(window(a, b), [utc("2024-01-02T05:00:00"), b]);
    assert_eq!(window(b, c), [utc("2024-01-04T05:00:00")]);
    assert_eq!([window(a, b), window(b, c)].concat(), window(a, c));
    assert_eq!(window(c, a), []);
}

#[test]
fn more_often_than_hourly() {
    for (expression, expected) in [
        ("cron(0 5 ? * * *)", false),
        ("cron(0 * ? * * *)", false),
        ("cron(59 */1 ? * * *)", false),
        ("cron(45/15 * ? * * *)", false),
        ("cron(30,30-30 * ? * * *)", false),
        ("cron(0/30 * ? * * *)", true),
        ("cron(* 5 ? * * *)", true),
        ("cron(0,30 5 1 1 ? *)", true),
        ("cron(59-0 * ? * * *)", true),
    ] {
        let cron = CronExpression::parse(expression).expect(expression);
        assert_eq!(cron.is_more_often_than_hourly(), expected, "{expression}");
    }
}

/// The text and a part that the message must hold, so that a user learns what to change.
const REFUSED: &[(&str, &str)] = &[
    ("", "write cron("),
    ("0 5 ? * * *", "write cron("),
    ("CRON(0 5 ? * * *)", "write cron("),
    (" cron(0 5 ? * * *)", "write cron("),
    ("cron(0 5 ? * * *) ", "write cron("),
    ("cron(0 5 ? * * *", "write cron("),
    ("cron 0 5 ? * * *", "write cron("),
    ("at(2024-01-01T00:00:00)", "write cron("),
    ("rate(1 hour)", "rate() schedules are not accepted"),
    ("Rate(12 hours)", "rate() schedules are not accepted"),
    ("cron()", "has 0 fields"),
    ("cron(0 5 * * *)", "has 5 fields"),
    ("cron(0 0 5 ? * * *)", "has 7 fields"),
    ("cron(0 5 * * * *)", "exactly one of the two must be `?`"),
    ("cron(0 5 ? * ? *)", "exactly one of the two must be `?`"),
    ("cron(0 5 * * MON *)", "day-of-week is `MON`"),
    ("cron(0 5 1 * 1 *)", "exactly one of the two must be `?`"),
    ("cron(0 5 ?,1 * * *)", "exactly one of the two must be `?`"),
    ("cron(0 5 ?,1 * ? *)", "`?` must stand alone"),
    ("cron(0 5 ? * ?/2 *)", "`?` must stand alone"),
    ("cron(? 5 ? * * *)", "`?` is only for day-of-month and day-of-week"),
    ("cron(0 5 ? * * ?)", "write * for every year"),
    ("cron(60 5 ? * * *)", "minute field `60` of the cron expression: 60 is not between 0 and 59"),
    ("cron(0 24 ? * * *)", "hour field `24`"),
    ("cron(0 5 0 * ? *)", "0 is not between 1 and 31"),
    ("cron(0 5 32W * ? *)", "32 is not between 1 and 31"),
    ("cron(0 5 ? 13 * *)", "month field `13`"),
    ("cron(0 5 ? * 0 *)", "1 is Sunday"),
    ("cron(0 5 ? * 8L *)", "8 is not between 1 and 7"),
    ("cron(0 5 ? * * 1969)", "1969 is not between 1970 and 2199"),
    ("cron(0 5 ? * * 2200)", "2200 is not between 1970 and 2199"),
    ("cron(0 5 ? * * 99999999999999999999)", "is not between 1970 and 2199"),
    ("cron(0 5 ? * * 2030-2025)", "write 2025-2030"),
    ("cron(*/60 * ? * * *)", "the step 60 is not between 1 and 59"),
    ("cron(0/0 * ? * * *)", "the step 0 is not"),
    ("cron(0 */24 ? * * *)", "the step 24 is not between 1 and 23"),
    ("cron(0/ * ? * * *)", "a value is missing"),
    ("cron(/5 * ? * * *)", "a value is missing"),
    ("cron(0/5/5 * ? * * *)", "`/` at position 4"),
    ("cron(0,,5 * ? * * *)", "a value is missing"),
    ("cron(0, * ? * * *)", "a value is missing"),
    ("cron(0 5- ? * * *)", "a value is missing"),
    ("cron(0 1-2-3 ? * * *)", "`-` at position 4"),
    ("cron(0 -5 ? * * *)", "a value is missing"),
    ("cron(0 +5 ? * * *)", "`+` at position 1"),
    ("cron(0 5x ? * * *)", "`x` at position 2"),
    ("cron(0 5 ? * MON,5x *)", "`5x` is not a value"),
    ("cron(0 *5 ? * * *)", "`5` at position 2"),
    ("cron(0 *-5 ? * * *)", "`*` at position 1"),
    ("cron(0 ٥ ? * * *)", "`٥` at position 1"),
    ("cron(0 5 ? JANUARY * *)", "`JANUARY` is not a value"),
    ("cron(0 5 ? MON * *)", "`MON` is not a value; the field takes 1-12 or JAN-DEC"),
    ("cron(0 5 ? * JAN *)", "`JAN` is not a value"),
    ("cron(0 L ? * * *)", "`L` at position 1"),
    ("cron(0 5 W * ? *)", "`W` at position 1"),
    ("cron(0 5 1-5W * ? *)", "`W` at position 4"),
    ("cron(0 5 L3 * ? *)", "`3` at position 2"),
    ("cron(0 5 L- * ? *)", "L-3 is three days before the last"),
    ("cron(0 5 L-31 * ? *)", "1 to 30, not `31`"),
    ("cron(0 5 L-+3 * ? *)", "1 to 30, not `+3`"),
    ("cron(0 5 ? * L-3 *)", "`L` is not a value"),
    ("cron(0 5 ? * 15W *)", "`15W` is not a value"),
    ("cron(0 5 ? * 3#6 *)", "1 to 5, not `6`"),
    ("cron(0 5 ? * 3#0 *)", "1 to 5, not `0`"),
    ("cron(0 5 ? * 3# *)", "1 to 5, not ``"),
    ("cron(0 5 ? * #2 *)", "a value is missing"),
    ("cron(0 5 ? * 3#1,6#3 *)", "`#` must stand alone"),
    ("cron(0 5 ? * MON,3#1 *)", "`#` must stand alone"),
    ("cron(0 5 3#1 * ? *)", "`#` at position 2"),
    ("cron(0 5 ? * * *))", "`)` at position 2"),
];

#[test]
fn refused_with_a_reason() {
    for (text, reason) in REFUSED {
        match CronExpression::parse(text) {
            Ok(_) => panic!("`{text}` was accepted"),
            Err(error) => {
                assert!(error.to_string().contains(reason), "`{text}` gave: {error}");
            }
        }
    }
    let long = format!("cron({} 5 ? * * *)", ["0"; MAX_LENGTH].join(","));
    assert_eq!(CronExpression::parse(&long), Err(CronError::TooLong { length: long.len() }));
    assert_eq!(
        CronExpression::parse("cron(0 5 ? * 9 *)"),
        Err(CronError::Field {
            field: CronField::DayOfWeek,
            text: "9".to_owned(),
            problem: FieldProblem::OutOfBounds {
                value: "9".to_owned(),
                field: CronField::DayOfWeek
            },
        })
    );
}

#[test]
fn serde_is_the_text() {
    let json = r#""cron(0  5 ? * mon-FRI *)""#;
    let cron: CronExpression = serde_json::from_str(json).expect("valid");
    assert_eq!(serde_json::to_string(&cron).expect("a string"), json);
    let error = serde_json::from_str::<CronExpression>(r#""rate(1 day)""#).expect_err("refused");
    assert!(error.to_string().contains("rate() schedules"), "{error}");
}

#[test]
fn the_default_is_what_its_text_says() {
    let default = CronExpression::default();
    assert_eq!(CronExpression::parse(default.as_str()), Ok(default));
}

#[test]
fn time_zones() {
    for name in ["UTC", "Etc/UTC", "Europe/Berlin", "america/new_york", "Africa/Casablanca"] {
        let timezone = ScheduleTimezone::parse(name).expect(name);
        assert_eq!(timezone.to_string(), name);
        let json = serde_json::to_string(&timezone).expect("a string");
        assert_eq!(serde_json::from_str::<ScheduleTimezone>(&json).expect(name), timezone);
        // The built-in zones suffice, for hosts that have none.
        ScheduleTimezone::parse_in(name, &TimeZoneDatabase::bundled()).expect(name);
    }
    for name in [
        "",
        "Mars/Olympus",
        "+02:00",
        "localtime",
        "posixrules",
        "Etc/Unknown",
        "../UTC",
        "EST5EDT,M3.2.0,M11.1.0",
    ] {
        let error = ScheduleTimezone::parse(name).expect_err(name);
        assert!(error.to_string().contains("Europe/Berlin"), "{error}");
    }
    let noon = utc("2024-07-01T12:00:00");
    for utc_zone in [ScheduleTimezone::default(), ScheduleTimezone::parse("Etc/UTC").expect("UTC")]
    {
        assert_eq!(utc_zone.name(), "Etc/UTC");
        assert_eq!(utc_zone.zone().to_offset(noon), jiff::tz::Offset::UTC);
    }
    let berlin = ScheduleTimezone::parse("Europe/Berlin").expect("Berlin");
    assert_eq!(berlin.zone().to_offset(noon), jiff::tz::offset(2));
}

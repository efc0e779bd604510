//! Random expressions of the whole grammar against a reference that is too slow and simple to be wrong:
//! it looks at every minute, or every day, and asks each item whether it matches.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use jiff::civil::{Date, DateTime, date};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::prelude::*;
use proptest::sample::select;
use provault_domain::cron::CronExpression;

// ---- The grammar: what an expression means, apart from how it is written ----

#[derive(Debug, Clone)]
enum Item {
    Any { step: Option<i16> },
    Value { value: i16, step: Option<i16> },
    Range { first: i16, last: i16, step: Option<i16> },
    // Day-of-month only.
    Last { before: i16, weekday: bool },
    NearestWeekday(i16),
    // Day-of-week only.
    LastOfMonth(i16),
    Nth(i16, i16),
    Saturday,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
    Year,
}

impl Kind {
    fn bounds(self) -> (i16, i16) {
        match self {
            Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (1, 7),
            Self::Year => (1970, 2199),
        }
    }
}

#[derive(Debug, Clone)]
struct Expression {
    minute: Vec<Item>,
    hour: Vec<Item>,
    day_of_month: Option<Vec<Item>>,
    month: Vec<Item>,
    day_of_week: Option<Vec<Item>>,
    year: Vec<Item>,
    text: String,
}

// ---- What it means ----

/// Whether `value` is counted when one walks through the item's values one by one.
fn walk(item: &Item, kind: Kind, value: i16) -> bool {
    let (lowest, highest) = kind.bounds();
    let (first, last, step) = match *item {
        Item::Any { step } => (lowest, highest, step),
        Item::Value { value, step: None } => (value, value, None),
        Item::Value { value, step } => (value, highest, step),
        Item::Range { first, last, step } => (first, last, step),
        _ => return false,
    };
    let mut at = first;
    let mut count = 0;
    loop {
        if at == value && count % step.unwrap_or(1) == 0 {
            return true;
        }
        if at == last {
            return false;
        }
        at = if at == highest { lowest } else { at + 1 };
        count += 1;
    }
}

fn weekday(day: Date) -> i16 {
    i16::from(day.weekday().to_sunday_one_offset())
}

fn days_of_same_month(day: Date) -> impl Iterator<Item = Date> {
    day.first_of_month().series(1.day()).take_while(move |other| other.month() == day.month())
}

/// The Monday-to-Friday with the smallest distance to `day`, over the whole month.
fn nearest_weekday(day: Date) -> Date {
    days_of_same_month(day)
        .filter(|other| (2..=6).contains(&weekday(*other)))
        .min_by_key(|other| (other.day() - day.day()).abs())
        .expect("every month has weekdays")
}

fn day_matches(item: &Item, kind: Kind, day: Date) -> bool {
    match *item {
        Item::Last { before, weekday } => {
            let target = i16::from(day.last_of_month().day()) - before;
            days_of_same_month(day)
                .find(|other| i16::from(other.day()) == target)
                .map(|target| if weekday { nearest_weekday(target) } else { target })
                == Some(day)
        }
        Item::NearestWeekday(target) => {
            days_of_same_month(day)
                .find(|other| i16::from(other.day()) == target)
                .map(nearest_weekday)
                == Some(day)
        }
        Item::LastOfMonth(wanted) => {
            days_of_same_month(day).filter(|other| weekday(*other) == wanted).last() == Some(day)
        }
        Item::Nth(wanted, nth) => {
            let nth = usize::try_from(nth).expect("1 to 5");
            days_of_same_month(day).filter(|other| weekday(*other) == wanted).nth(nth - 1)
                == Some(day)
        }
        Item::Saturday => weekday(day) == 7,
        _ if kind == Kind::DayOfMonth => walk(item, kind, i16::from(day.day())),
        _ => walk(item, kind, weekday(day)),
    }
}

impl Expression {
    fn on_day(&self, day: Date) -> bool {
        let in_month =
            self.month.iter().any(|item| walk(item, Kind::Month, i16::from(day.month())))
                && self.year.iter().any(|item| walk(item, Kind::Year, day.year()));
        if !in_month {
            return false;
        }
        let by_month = self
            .day_of_month
            .as_ref()
            .is_none_or(|items| items.iter().any(|item| day_matches(item, Kind::DayOfMonth, day)));
        let by_week = self
            .day_of_week
            .as_ref()
            .is_none_or(|items| items.iter().any(|item| day_matches(item, Kind::DayOfWeek, day)));
        by_month && by_week
    }

    fn at_time(&self, hour: i8, minute: i8) -> bool {
        self.hour.iter().any(|item| walk(item, Kind::Hour, i16::from(hour)))
            && self.minute.iter().any(|item| walk(item, Kind::Minute, i16::from(minute)))
    }
}

// ---- How it is written ----

fn step_text(step: Option<i16>) -> String {
    step.map_or_else(String::new, |step| format!("/{step}"))
}

/// A value as a number, a padded number or a name, in changing case.
fn value_text(kind: Kind, value: i16, style: u8) -> String {
    let names: &[&str] = match kind {
        Kind::Month => {
            &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
        }
        Kind::DayOfWeek => &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
        _ => &[],
    };
    let name = usize::try_from(value - 1).ok().and_then(|index| names.get(index));
    match (style % 4, name) {
        (0, Some(name)) => (*name).to_owned(),
        (1, Some(name)) => name.to_ascii_lowercase(),
        (2, _) => format!("{value:02}"),
        _ => value.to_string(),
    }
}

fn item_text(item: &Item, kind: Kind, style: u8) -> String {
    let value = |v| value_text(kind, v, style);
    let cased = |text: String| if style >= 128 { text.to_ascii_lowercase() } else { text };
    cased(match *item {
        Item::Any { step } => format!("*{}", step_text(step)),
        Item::Value { value: v, step } => format!("{}{}", value(v), step_text(step)),
        Item::Range { first, last, step } => {
            format!("{}-{}{}", value(first), value_text(kind, last, style / 4), step_text(step))
        }
        Item::Last { before, weekday } => format!(
            "L{}{}",
            if before == 0 { String::new() } else { format!("-{before}") },
            if weekday { "W" } else { "" }
        ),
        Item::NearestWeekday(day) => format!("{day}W"),
        Item::LastOfMonth(day) => format!("{}L", value(day)),
        Item::Nth(day, nth) => format!("{}#{nth}", value(day)),
        Item::Saturday => "L".to_owned(),
    })
}

fn field_text(items: Option<&[Item]>, kind: Kind, style: u8) -> String {
    items.map_or_else(
        || "?".to_owned(),
        |items| {
            let parts: Vec<_> = items.iter().map(|item| item_text(item, kind, style)).collect();
            parts.join(",")
        },
    )
}

// ---- How it is made ----

fn plain(kind: Kind) -> BoxedStrategy<Item> {
    let (lowest, highest) = kind.bounds();
    let largest = match kind {
        Kind::Minute | Kind::Hour | Kind::Year => highest - lowest,
        _ => highest,
    };
    let step = move || prop::option::of(prop_oneof![1..=largest, 1..=largest.min(6)]);
    prop_oneof![
        2 => step().prop_map(|step| Item::Any { step }),
        3 => (lowest..=highest, step()).prop_map(|(value, step)| Item::Value { value, step }),
        3 => (lowest..=highest, lowest..=highest, step()).prop_map(move |(a, b, step)| {
            // Only years may not run past the end.
            let (first, last) = if kind == Kind::Year { (a.min(b), a.max(b)) } else { (a, b) };
            Item::Range { first, last, step }
        }),
    ]
    .boxed()
}

fn list(item: BoxedStrategy<Item>) -> BoxedStrategy<Vec<Item>> {
    prop_oneof![3 => prop::collection::vec(item.clone(), 1..=1), 1 => prop::collection::vec(item, 2..=3)].boxed()
}

/// `*` often enough that something happens within a few days, anything otherwise.
fn mostly_any(kind: Kind) -> BoxedStrategy<Vec<Item>> {
    prop_oneof![3 => Just(vec![Item::Any { step: None }]), 1 => list(plain(kind))].boxed()
}

fn day_of_month() -> BoxedStrategy<Vec<Item>> {
    list(
        prop_oneof![
            3 => plain(Kind::DayOfMonth),
            1 => (prop_oneof![Just(0i16), 1..=30i16], any::<bool>())
                .prop_map(|(before, weekday)| Item::Last { before, weekday }),
            1 => (1..=31i16).prop_map(Item::NearestWeekday),
        ]
        .boxed(),
    )
}

fn day_of_week() -> BoxedStrategy<Vec<Item>> {
    let item = prop_oneof![
        3 => plain(Kind::DayOfWeek),
        1 => (1..=7i16).prop_map(Item::LastOfMonth),
        1 => Just(Item::Saturday),
    ];
    prop_oneof![
        4 => list(item.boxed()),
        1 => (1..=7i16, 1..=5i16).prop_map(|(day, nth)| vec![Item::Nth(day, nth)]),
    ]
    .boxed()
}

fn expression(
    minute: BoxedStrategy<Vec<Item>>,
    hour: BoxedStrategy<Vec<Item>>,
) -> impl Strategy<Value = Expression> {
    let days = prop_oneof![
        day_of_month().prop_map(|items| (Some(items), None)),
        day_of_week().prop_map(|items| (None, Some(items))),
    ];
    let fields = (minute, hour, days, mostly_any(Kind::Month), mostly_any(Kind::Year));
    (fields, any::<[u8; 6]>()).prop_filter_map(
        "too long",
        |((minute, hour, (day_of_month, day_of_week), month, year), style)| {
            let text = format!(
                "cron({} {} {}  {} {}\t{})",
                field_text(Some(&minute), Kind::Minute, style[0]),
                field_text(Some(&hour), Kind::Hour, style[1]),
                field_text(day_of_month.as_deref(), Kind::DayOfMonth, style[2]),
                field_text(Some(&month), Kind::Month, style[3]),
                field_text(day_of_week.as_deref(), Kind::DayOfWeek, style[4]),
                field_text(Some(&year), Kind::Year, style[5]),
            );
            let made = Expression {
                minute,
                hour,
                day_of_month,
                month,
                day_of_week,
                year,
                text: text.clone(),
            };
            (text.len() <= 256).then_some(made)
        },
    )
}

// ---- The windows: every minute around clock changes ----

struct Window {
    zone: TimeZone,
    begin: Timestamp,
    end: Timestamp,
    /// Every minute after `begin` whose local time is seen for the first time, with that local time.
    minutes: Vec<(Timestamp, DateTime)>,
}

/// Zones and UTC days near which their clocks change: by an hour both ways, by half an hour, by a
/// whole day, for Ramadan, and not at all (around leap days and the ends of months and years).
const CHANGES: &[(&str, i16, i8, i8)] = &[
    ("America/New_York", 2024, 3, 10),
    ("America/New_York", 2024, 11, 3),
    ("America/New_York", 2024, 2, 28),
    ("Europe/Berlin", 2023, 3, 26),
    ("Europe/Berlin", 2026, 10, 25),
    ("Europe/Berlin", 2099, 3, 29),
    ("Australia/Lord_Howe", 2024, 4, 6),
    ("Australia/Lord_Howe", 2024, 10, 5),
    ("Pacific/Apia", 2011, 12, 30),
    ("Pacific/Apia", 2012, 3, 31),
    ("Africa/Casablanca", 2024, 3, 10),
    ("Africa/Casablanca", 2024, 4, 14),
    ("Etc/UTC", 1999, 12, 31),
    ("Asia/Kathmandu", 1985, 12, 31),
];

static WINDOWS: LazyLock<Vec<Window>> = LazyLock::new(|| {
    let zones = TimeZoneDatabase::bundled();
    let minute = SignedDuration::from_mins(1);
    let windows: Vec<Window> = CHANGES
        .iter()
        .map(|&(name, year, month, day)| {
            let zone = zones.get(name).expect("a zone of the built-in database");
            let middle = TimeZone::UTC
                .to_timestamp(date(year, month, day).at(0, 0, 0, 0))
                .expect("in range");
            let begin = middle - SignedDuration::from_hours(3 * 24);
            let end = middle + SignedDuration::from_hours(4 * 24);
            // Begin a day earlier, so that local times of a fold at the edge are known.
            let mut at = begin - SignedDuration::from_hours(25);
            let mut latest = DateTime::MIN;
            let mut minutes = Vec::new();
            while at <= end {
                let local = zone.to_datetime(at);
                if local > latest {
                    latest = local;
                    if at > begin {
                        minutes.push((at, local));
                    }
                }
                at += minute;
            }
            Window { zone, begin, end, minutes }
        })
        .collect();
    // A window in which nothing changes where something should would test nothing.
    for (window, change) in windows.iter().zip(CHANGES) {
        let changes = window.zone.following(window.begin).next();
        let changed = changes.is_some_and(|change| change.timestamp() <= window.end);
        let expected = !matches!(change, ("Etc/UTC", ..) | ("America/New_York", 2024, 2, _));
        assert_eq!(changed, expected, "{change:?}");
    }
    windows
});

fn show(times: &BTreeSet<Timestamp>) -> Vec<String> {
    times.iter().take(10).map(ToString::to_string).collect()
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(300))]

    /// Every minute of a week around a clock change fires if and only if the reference says so.
    #[test]
    fn agrees_with_a_minute_by_minute_walk(
        made in expression(list(plain(Kind::Minute)), mostly_any(Kind::Hour)),
        window in select((0..CHANGES.len()).collect::<Vec<_>>()),
        second in 0i64..60,
    ) {
        let window = &WINDOWS[window];
        let cron = CronExpression::parse(&made.text)
            .unwrap_or_else(|error| panic!("{}: {error}", made.text));
        let mut days = std::collections::BTreeMap::new();
        let expected: BTreeSet<_> = window
            .minutes
            .iter()
            .filter(|(_, local)| {
                *days.entry(local.date()).or_insert_with(|| made.on_day(local.date()))
                    && made.at_time(local.hour(), local.minute())
            })
            .map(|(at, _)| *at)
            .collect();
        let found: BTreeSet<_> =
            cron.occurrences_between(window.begin, window.end, &window.zone).collect();
        prop_assert_eq!(
            &found, &expected, "{} only found: {:?}, only expected: {:?}",
            made.text,
            show(&found.difference(&expected).copied().collect()),
            show(&expected.difference(&found).copied().collect())
        );

        // The same answer from any starting point, not only along the chain of occurrences.
        for start in window.minutes.iter().step_by(797) {
            let after = start.0 - SignedDuration::from_secs(second);
            let next = cron.next_after(after, &window.zone).filter(|next| *next <= window.end);
            let expected = expected.iter().find(|at| **at > after).copied();
            prop_assert_eq!(next, expected, "{} after {}", made.text, after);
        }
    }
}

proptest! {
    #![proptest_config(cases(100))]

    /// Over decades, the days are those the reference picks by looking at each one.
    #[test]
    fn agrees_with_a_day_by_day_walk(
        made in expression(
            Just(vec![Item::Value { value: 7, step: None }]).boxed(),
            Just(vec![Item::Value { value: 3, step: None }]).boxed(),
        ),
        first_year in 1970i16..2185,
    ) {
        let cron = CronExpression::parse(&made.text)
            .unwrap_or_else(|error| panic!("{}: {error}", made.text));
        let (first, last) = (date(first_year, 1, 1), date(first_year + 14, 12, 31));
        let expected: Vec<_> = first
            .series(1.day())
            .take_while(|day| *day <= last)
            .filter(|day| made.on_day(*day))
            .map(|day| day.at(3, 7, 0, 0))
            .collect();
        let instant = |day: Date| TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).expect("in range");
        let found: Vec<_> = cron
            .occurrences_between(instant(first), instant(last.tomorrow().expect("in range")), &TimeZone::UTC)
            .map(|at| TimeZone::UTC.to_datetime(at))
            .collect();
        prop_assert_eq!(found, expected, "{}", made.text);
    }
}

proptest! {
    #![proptest_config(cases(3000))]

    /// Every valid expression reads back from its own text as the same expression.
    #[test]
    fn reads_back_from_its_own_text(
        made in expression(list(plain(Kind::Minute)), list(plain(Kind::Hour))),
    ) {
        let cron = CronExpression::parse(&made.text)
            .unwrap_or_else(|error| panic!("{}: {error}", made.text));
        prop_assert_eq!(cron.to_string(), made.text);
        prop_assert_eq!(CronExpression::parse(&cron.to_string()), Ok(cron.clone()));
        let minutes = (0..60).filter(|minute| made.minute.iter().any(|item| walk(item, Kind::Minute, *minute)));
        prop_assert_eq!(cron.is_more_often_than_hourly(), minutes.count() > 1);
    }

    /// Reading never panics, and what is accepted can be asked.
    #[test]
    fn never_panics(
        text in prop_oneof![
            ".{0,80}",
            r"cron\([-0-9A-Za-z*?/,#LW ]{0,60}\)",
            // Almost right: six short fields of the grammar's own characters.
            r"cron\([-0-9,*/]{1,4} [-0-9,*/]{1,4} [-0-9,*/LW?]{1,4} [-0-9,*/JANFEB]{1,4} \? [-0-9*/,]{1,4}\)",
            r"cron\([0-9*/]{1,2} [0-9*]{1,2} \? \* [-0-9,*/LSUNMOFRI#]{1,6} [-0-9*/]{1,9}\)",
        ],
        seconds in any::<i64>(),
    ) {
        match CronExpression::parse(&text) {
            Ok(cron) => {
                prop_assert_eq!(cron.to_string(), text);
                let after = Timestamp::from_second(seconds % 250_000_000_000).expect("in range");
                for window in WINDOWS.iter() {
                    if let Some(next) = cron.next_after(after, &window.zone) {
                        prop_assert!(next > after);
                    }
                }
                for extreme in [Timestamp::MIN, Timestamp::MAX] {
                    let _ = cron.next_after(extreme, &WINDOWS[0].zone);
                }
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}

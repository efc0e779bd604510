//! Reads the text of a cron expression.

use super::days::{Days, DaysOfMonth, DaysOfWeek};
use super::error::{CronError, CronField, FieldProblem};
use super::{CronExpression, MAX_LENGTH, Set, Years};

/// Reads a whole expression, `cron(…)` included.
pub(super) fn expression(text: &str) -> Result<CronExpression, CronError> {
    if text.len() > MAX_LENGTH {
        return Err(CronError::TooLong { length: text.len() });
    }
    let Some(inner) = text.strip_prefix("cron(").and_then(|rest| rest.strip_suffix(')')) else {
        let trimmed = text.trim_start();
        if trimmed.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("rate")) {
            return Err(CronError::Rate);
        }
        return Err(CronError::NotCron { text: text.escape_debug().to_string() });
    };
    let fields: Vec<&str> = inner.split_ascii_whitespace().collect();
    let &[minute, hour, day_of_month, month, day_of_week, year] = fields.as_slice() else {
        return Err(CronError::FieldCount { found: fields.len() });
    };
    Ok(CronExpression {
        text: text.to_owned(),
        minutes: small_set(CronField::Minute, minute)?,
        hours: small_set(CronField::Hour, hour)?,
        days: days(day_of_month, day_of_week)?,
        months: small_set(CronField::Month, month)?,
        years: years(year)?,
    })
}

/// The two day fields, of which exactly one is `?`.
fn days(day_of_month: &str, day_of_week: &str) -> Result<Days, CronError> {
    match (day_of_month, day_of_week) {
        ("?", "?") => {}
        (text, "?") => {
            let field = Field { kind: CronField::DayOfMonth, text };
            return field
                .days_of_month()
                .map(Days::OfMonth)
                .map_err(|problem| field.error(problem));
        }
        ("?", text) => {
            let field = Field { kind: CronField::DayOfWeek, text };
            return field.days_of_week().map(Days::OfWeek).map_err(|problem| field.error(problem));
        }
        _ => {}
    }
    Err(CronError::DayFields {
        day_of_month: day_of_month.escape_debug().to_string(),
        day_of_week: day_of_week.escape_debug().to_string(),
    })
}

/// A field whose values fit a [`Set`] and that has no letters of its own.
fn small_set(kind: CronField, text: &str) -> Result<Set, CronError> {
    let field = Field { kind, text };
    let mut set = Set::default();
    field
        .items()
        .try_for_each(|item| field.plain(&item, |value| insert_small(&mut set, value)))
        .map_err(|problem| field.error(problem))?;
    Ok(set)
}

fn years(text: &str) -> Result<Years, CronError> {
    let field = Field { kind: CronField::Year, text };
    let mut years = Years::default();
    field
        .items()
        .try_for_each(|item| field.plain(&item, |value| years.insert(value)))
        .map_err(|problem| field.error(problem))?;
    Ok(years)
}

/// Values of every field but the year are below 64.
fn insert_small(set: &mut Set, value: i16) {
    if let Ok(value) = i8::try_from(value) {
        set.insert(value);
    }
}

/// One field being read.
#[derive(Clone, Copy)]
struct Field<'a> {
    kind: CronField,
    text: &'a str,
}

/// One item of a comma-separated field.
#[derive(Clone, Copy)]
struct Item<'a> {
    text: &'a str,
    /// Byte offset in the field.
    start: usize,
}

impl<'a> Field<'a> {
    fn error(&self, problem: FieldProblem) -> CronError {
        CronError::Field { field: self.kind, text: self.text.escape_debug().to_string(), problem }
    }

    fn items(&self) -> impl Iterator<Item = Item<'a>> {
        let mut start = 0;
        self.text.split(',').map(move |text| {
            let item = Item { text, start };
            start += text.len() + 1;
            item
        })
    }

    fn days_of_month(&self) -> Result<DaysOfMonth, FieldProblem> {
        let mut days = DaysOfMonth::default();
        for item in self.items() {
            let upper = item.text.to_ascii_uppercase();
            if let Some(rest) = upper.strip_prefix('L') {
                let (rest, weekday) = match rest.strip_suffix('W') {
                    Some(rest) => (rest, true),
                    None => (rest, false),
                };
                let distance = match rest.strip_prefix('-') {
                    Some(offset) => Self::last_offset(offset)?,
                    None if rest.is_empty() => 0,
                    None => return Err(self.strange(item, 1)),
                };
                let target =
                    if weekday { &mut days.weekday_before_last } else { &mut days.before_last };
                target.insert(distance);
            } else if let Some(day) = upper.strip_suffix('W')
                && is_number(day)
            {
                insert_small(&mut days.nearest_weekday, self.value(Item { text: day, ..item })?);
            } else {
                self.plain(&item, |value| insert_small(&mut days.fixed, value))?;
            }
        }
        Ok(days)
    }

    fn days_of_week(&self) -> Result<DaysOfWeek, FieldProblem> {
        let mut days = DaysOfWeek::default();
        for item in self.items() {
            if let Some((day, occurrence)) = item.text.split_once('#') {
                if self.text.contains(',') {
                    return Err(FieldProblem::HashInList);
                }
                let day = self.value(Item { text: day, ..item })?;
                let nth = occurrence
                    .parse()
                    .ok()
                    .filter(|nth| is_number(occurrence) && (1..=5).contains(nth))
                    .ok_or_else(|| FieldProblem::HashOccurrence {
                        occurrence: occurrence.escape_debug().to_string(),
                    })?;
                days.nth = i8::try_from(day).ok().map(|day| (day, nth));
            } else if item.text.eq_ignore_ascii_case("L") {
                days.weekly.insert(7);
            } else if let Some(day) = item.text.strip_suffix(['L', 'l'])
                && (is_number(day) || self.named(day).is_some())
            {
                insert_small(&mut days.last, self.value(Item { text: day, ..item })?);
            } else {
                self.plain(&item, |value| insert_small(&mut days.weekly, value))?;
            }
        }
        Ok(days)
    }

    fn last_offset(offset: &str) -> Result<i8, FieldProblem> {
        offset
            .parse()
            .ok()
            .filter(|distance| is_number(offset) && (1..=30).contains(distance))
            .ok_or_else(|| FieldProblem::LastOffset { offset: offset.escape_debug().to_string() })
    }

    /// An item without letters of its own (`*`, a value, a range, each with or without a step):
    /// calls `insert` for every value it stands for.
    fn plain(&self, item: &Item<'_>, mut insert: impl FnMut(i16)) -> Result<(), FieldProblem> {
        if item.text.contains('?') {
            return Err(FieldProblem::QuestionMark { field: self.kind });
        }
        let (lowest, highest) = self.kind.bounds();
        let (base, step) = match item.text.split_once('/') {
            Some((base, step)) => {
                (Item { text: base, ..*item }, Some(self.step(item, base, step)?))
            }
            None => (*item, None),
        };
        let (first, last) = if base.text == "*" {
            (lowest, highest)
        } else if let Some((first, last)) = base.text.split_once('-') {
            let last_start = base.start + first.len() + 1;
            (
                self.value(Item { text: first, ..base })?,
                self.value(Item { text: last, start: last_start })?,
            )
        } else {
            let value = self.value(base)?;
            (value, if step.is_some() { highest } else { value })
        };
        let last = if first <= last {
            last
        } else if self.kind == CronField::Year {
            return Err(FieldProblem::BackwardRange { first, last });
        } else {
            // Past the end it goes on at the beginning: 22-2 is 22, 23, 0, 1, 2.
            last + (highest - lowest + 1)
        };
        let mut value = first;
        while value <= last {
            insert(if value > highest { value - (highest - lowest + 1) } else { value });
            value += step.unwrap_or(1);
        }
        Ok(())
    }

    fn step(&self, item: &Item<'_>, base: &str, step: &str) -> Result<i16, FieldProblem> {
        if step.is_empty() {
            return Err(FieldProblem::Incomplete { field: self.kind });
        }
        if let Some(offset) = step.find(|c: char| !c.is_ascii_digit()) {
            return Err(self.strange(*item, base.len() + 1 + offset));
        }
        let largest = self.kind.largest_step();
        step.parse()
            .ok()
            .filter(|value| (1..=largest).contains(value))
            .ok_or_else(|| FieldProblem::Step { step: step.to_owned(), largest })
    }

    /// A single number or name.
    fn value(&self, item: Item<'_>) -> Result<i16, FieldProblem> {
        if item.text.is_empty() {
            return Err(FieldProblem::Incomplete { field: self.kind });
        }
        if is_number(item.text) {
            let (first, last) = self.kind.bounds();
            return item
                .text
                .parse()
                .ok()
                .filter(|value| (first..=last).contains(value))
                .ok_or_else(|| FieldProblem::OutOfBounds {
                    value: item.text.to_owned(),
                    field: self.kind,
                });
        }
        if let Some(value) = self.named(item.text) {
            return Ok(value);
        }
        let has_names = !self.kind.names().is_empty();
        if has_names && item.text.chars().all(|c| c.is_ascii_alphabetic()) {
            return Err(FieldProblem::UnknownName { name: item.text.to_owned(), field: self.kind });
        }
        // Of `*5` the star would have been fine: what follows it is the mistake.
        let skipped = usize::from(item.text.len() > 1 && item.text.starts_with('*'));
        let offset = item.text[skipped..]
            .find(|c: char| {
                skipped == 1 || !(c.is_ascii_digit() || has_names && c.is_ascii_alphabetic())
            })
            .map(|offset| skipped + offset);
        match offset {
            Some(offset) => Err(self.strange(item, offset)),
            // Letters and digits mixed, such as 3MON.
            None => Err(FieldProblem::UnknownName { name: item.text.to_owned(), field: self.kind }),
        }
    }

    fn named(&self, text: &str) -> Option<i16> {
        let index = self.kind.names().iter().position(|name| name.eq_ignore_ascii_case(text))?;
        Some(self.kind.bounds().0 + i16::try_from(index).ok()?)
    }

    /// The character at byte `offset` of `item` does not belong there.
    fn strange(&self, item: Item<'_>, offset: usize) -> FieldProblem {
        let at = item.start + offset;
        match self.text.get(at..).and_then(|rest| rest.chars().next()) {
            Some(found) => FieldProblem::Character {
                found,
                position: self.text[..at].chars().count() + 1,
                field: self.kind,
            },
            None => FieldProblem::Incomplete { field: self.kind },
        }
    }
}

/// Digits only: `str::parse` alone would take a sign.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

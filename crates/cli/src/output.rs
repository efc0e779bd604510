//! What a command prints: tables or JSON on standard output, everything else on standard error.

use std::cell::RefCell;
use std::io::{self, IsTerminal as _, Write};

use comfy_table::{Cell, Color, ColumnConstraint, ContentArrangement, LineStyle, Table, presets};
use provault_wire::Timestamp;
use serde_json::Value;

use crate::environment::Environment;
use crate::error::CliError;
use crate::options::GlobalOptions;

/// The columns that are wrapped where a terminal is too narrow. An id or a time broken in two could
/// not be copied.
const PROSE: [&str; 15] = [
    "MESSAGE",
    "REASON",
    "DETAIL",
    "TAGS",
    "ARN",
    "ROLE",
    "RESOURCE",
    "HASH",
    "SUBJECT",
    "LAST ERROR",
    "RECEIVER",
    "EVENTS",
    "VALUE",
    "PATH",
    "OUTPUT",
];

/// What such a column needs at least.
const PROSE_WIDTH: u16 = 16;

/// Where and how to print.
#[allow(clippy::struct_excessive_bools)] // Each is a question of its own about the outside.
pub struct Output {
    json: bool,
    terminal: bool,
    colour: bool,
    /// Whether progress may redraw a line of standard error.
    pub(crate) live: bool,
    out: RefCell<Box<dyn Write>>,
    err: RefCell<Box<dyn Write>>,
}

impl Output {
    /// Standard output and standard error of this process, for commands of the binary's own.
    pub fn standard(options: &GlobalOptions) -> Self {
        Self::of_process(options, &Environment::of_process())
    }

    /// Whether JSON was asked for.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether progress may redraw a line of standard error.
    pub fn is_live(&self) -> bool {
        self.live
    }

    pub(crate) fn of_process(options: &GlobalOptions, env: &Environment) -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            json: options.json,
            terminal,
            // https://no-color.org: any value that is not empty.
            colour: terminal && env.path("NO_COLOR").is_none(),
            live: io::stderr().is_terminal() && env.text("TERM").is_none_or(|term| term != "dumb"),
            out: RefCell::new(Box::new(io::stdout())),
            err: RefCell::new(Box::new(io::stderr())),
        }
    }

    #[cfg(test)]
    pub(crate) fn into_buffers(json: bool, out: Box<dyn Write>, err: Box<dyn Write>) -> Self {
        let (out, err) = (RefCell::new(out), RefCell::new(err));
        Self { json, terminal: false, colour: false, live: false, out, err }
    }

    /// Prints the API's JSON where it was asked for, else the views made of it.
    pub fn show(&self, json: &Value, views: impl FnOnce() -> Vec<View>) -> Result<(), CliError> {
        if self.json {
            return self.print(&format!("{json:#}"));
        }
        for (index, view) in views().into_iter().enumerate() {
            if index > 0 {
                self.print("")?;
            }
            if let Some(title) = &view.title {
                self.print(&clean(title))?;
            }
            if view.rows.is_empty() && self.terminal {
                self.note("(none)")?;
                continue;
            }
            self.print(&self.render(&view))?;
        }
        Ok(())
    }

    /// Prints JSON where it was asked for, else one line that a script can take as it is.
    pub fn show_line(&self, json: &Value, line: &str) -> Result<(), CliError> {
        if self.json { self.print(&format!("{json:#}")) } else { self.print(&clean(line)) }
    }

    /// Prints JSON where it was asked for, else lines that another program reads.
    pub(crate) fn show_text(&self, json: &Value, text: &str) -> Result<(), CliError> {
        if self.json {
            return self.print(&format!("{json:#}"));
        }
        self.print(&text.lines().map(clean).collect::<Vec<_>>().join("\n"))
    }

    /// One line on standard error, for people.
    pub fn note(&self, text: &str) -> Result<(), CliError> {
        let mut err = self.err.borrow_mut();
        writeln!(err, "{text}").and_then(|()| err.flush()).map_err(CliError::Output)
    }

    fn print(&self, text: &str) -> Result<(), CliError> {
        let mut out = self.out.borrow_mut();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(CliError::Output)
    }

    fn render(&self, view: &View) -> String {
        let mut table = Table::new();
        if !view.headers.is_empty() {
            table.set_header(view.headers.iter().copied());
        }
        for row in &view.rows {
            table.add_row(row.iter().map(|text| self.cell(text)));
        }
        if self.terminal {
            // The width is that of the terminal: columns of prose give way, all else stays whole.
            let rule = LineStyle::none().fill('─').junction('─');
            table.load_style(presets::NOTHING);
            if !view.headers.is_empty() {
                table.load_style(presets::NOTHING.header_separator(rule));
            }
            table.set_content_arrangement(ContentArrangement::Dynamic).style_text_only();
        } else {
            // One line a row, however long, for `grep` and `awk`.
            table.load_style(presets::NOTHING);
            table.set_content_arrangement(ContentArrangement::Disabled);
            table.force_no_tty();
        }
        let widths = table.column_max_content_widths();
        let mut needed = 0;
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            let gives_way = match view.headers.get(index) {
                Some(header) => PROSE.contains(header),
                None => index > 0,
            };
            let width = widths.get(index).copied().unwrap_or_default();
            if gives_way {
                needed += width.min(PROSE_WIDTH) + 2;
            } else {
                needed += width + 2;
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        if table.width().is_some_and(|width| width < needed) {
            // Prose one letter wide helps nobody: let the terminal break the lines.
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }

    fn cell(&self, text: &str) -> Cell {
        let cell = Cell::new(clean(text));
        let colour = match text {
            "COMPLETED" | "PASSED" | "AVAILABLE" | "DELIVERED" | "PROTECTED" => Color::Green,
            "FAILED" | "ABORTED" | "EXPIRED" | "DEAD" | "OVERDUE" | "UNPROTECTED" => Color::Red,
            "PARTIAL" | "INCONCLUSIVE" | "NOT_TESTED" => Color::Yellow,
            _ => return cell,
        };
        if self.colour { cell.fg(colour) } else { cell }
    }
}

/// Text that cannot move a cursor: a path or a message may hold anything.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            c if c.is_control() => out.extend(c.escape_debug()),
            c => out.push(c),
        }
    }
    out
}

/// A table, or the fields of one thing.
#[derive(Debug)]
pub struct View {
    title: Option<String>,
    headers: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl View {
    /// A table with these columns.
    pub fn table(headers: &[&'static str]) -> Self {
        Self { title: None, headers: headers.to_vec(), rows: Vec::new() }
    }

    /// The fields of one thing.
    pub fn fields() -> Self {
        Self::table(&[])
    }

    /// Puts a line above it.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Adds rows.
    #[must_use]
    pub fn rows(mut self, rows: impl IntoIterator<Item = Vec<String>>) -> Self {
        self.rows.extend(rows);
        self
    }

    /// A named value; one that is absent is left out.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Option<String>>) -> Self {
        if let Some(value) = value.into() {
            self.rows.push(vec![name.to_owned(), value]);
        }
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// A time of the API as RFC 3339 in UTC, to the second.
pub(crate) fn time(time: Timestamp) -> String {
    let seconds = time.epoch_millis().div_euclid(1000) * 1000;
    Timestamp::from_epoch_millis(seconds).unwrap_or(time).to_string()
}

/// Epoch seconds as RFC 3339.
pub(crate) fn epoch(seconds: f64) -> String {
    Timestamp::from_epoch_seconds(seconds).map_or_else(|| seconds.to_string(), time)
}

/// A value, or a dash.
pub(crate) fn dash(value: Option<String>) -> String {
    value.filter(|value| !value.is_empty()).unwrap_or_else(|| "-".to_owned())
}

/// Bytes in the largest binary unit that leaves at least 1.
pub fn size(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = i128::from(bytes) * 10;
    let mut unit = 0;
    // Rounded to a tenth, 1023.95 is 1024.0, which is 1.0 of the next unit.
    loop {
        tenths = (tenths + 512) / 1024;
        if tenths < 10_240 || unit + 1 == UNITS.len() {
            return format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]);
        }
        unit += 1;
    }
}

/// Seconds as people say them: `0.8 s`, `2 min 5 s`, `3 h 0 min`.
pub(crate) fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    #[allow(clippy::cast_possible_truncation)] // Saturating, and far beyond any job.
    let whole = seconds.round() as i64;
    if whole < 3600 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{} h {} min", whole / 3600, whole % 3600 / 60)
    }
}

/// Tags as `KEY=VALUE`, separated by blanks.
pub(crate) fn tags<'t>(tags: impl IntoIterator<Item = (&'t String, &'t String)>) -> String {
    tags.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_to_a_tenth_and_carry_over() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_258_291, "1.2 MiB"),
            (1_048_575, "1.0 MiB"),
            (i64::MAX, "8.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn what_the_server_says_cannot_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb c");
    }

    #[test]
    fn a_table_that_no_person_reads_is_one_line_a_row() {
        let output = Output::into_buffers(false, Box::new(io::sink()), Box::new(io::sink()));
        let long = "x".repeat(300);
        let mut view = View::table(&["A", "B"]);
        view.row(["1".to_owned(), long.clone()]);
        let text = output.render(&view);
        assert_eq!(text.lines().count(), 2);
        assert!(text.ends_with(&long));
        assert!(!text.contains(['\u{1b}', '│', '|']));
    }
}

//! The tables, made of the records alone.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::compare::Differences;
use super::goals;
use super::index;
use super::record::{Operation, Record};
use super::summary::{self, Quantity, Summary, millions};

/// Between these two lines of docs/benchmarks.md is what this task writes.
const BEGIN: &str = "<!-- written by cargo xtask bench --report --write: begin -->";
const END: &str = "<!-- written by cargo xtask bench --report --write: end -->";

/// The whole report as Markdown.
pub fn render(results: &Path) -> Result<String, String> {
    let summaries = summary::read(results)?;
    let index = index::read(results)?;
    if summaries.is_empty() && index.is_none() {
        return Err(format!("nothing is recorded in {}", results.display()));
    }
    let mut text = String::new();
    let out = &mut text;
    machines(out, &summaries);
    for summary in &summaries {
        table(out, summary);
    }
    if let Some(index) = &index {
        index.render(out);
    }
    goals_table(out, &summaries, index.as_ref());
    Ok(text)
}

/// Puts the report into a page of the documentation, between its two marks.
pub fn write(page: &Path, report: &str) -> Result<(), String> {
    let failed = |e| format!("cannot write {}: {e}", page.display());
    let text = fs::read_to_string(page).map_err(failed)?;
    let text = placed(&text, report)
        .ok_or_else(|| format!("{} lacks the lines `{BEGIN}` and `{END}`", page.display()))?;
    fs::write(page, text).map_err(failed)
}

fn placed(page: &str, report: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", report.trim()))
}

fn machines(out: &mut String, summaries: &[Summary]) {
    let mut machines: Vec<&str> = Vec::new();
    let mut programs: Vec<(String, &str)> = Vec::new();
    for column in summaries.iter().flat_map(|summary| &summary.columns) {
        let record = column.newest();
        if !machines.contains(&record.machine.as_str()) {
            machines.push(&record.machine);
        }
        let program = format!("{} {}", record.tool, record.version);
        if !programs.iter().any(|(known, _)| *known == program) {
            programs.push((program, &record.settings));
        }
    }
    for machine in machines {
        let _ = writeln!(out, "Machine: {machine}.\n");
    }
    for (program, settings) in programs {
        let _ = writeln!(out, "- **{program}**: {settings}.");
    }
    out.push('\n');
}

fn table(out: &mut String, summary: &Summary) {
    let Some(first) = summary.columns.first() else { return };
    let shape = first.newest().shape;
    let rounds: Vec<String> = summary
        .columns
        .iter()
        .map(|column| format!("{} {}", column.tool, column.rounds.len()))
        .collect();
    let _ = writeln!(
        out,
        "### {}\n\n{}; {} entries, {} MB, of which {} MB on disk. Rounds: {}.\n",
        summary.corpus.to_uppercase(),
        first.newest().corpus_identity.split(", edits").next().unwrap_or_default(),
        shape.entries,
        amount(millions(shape.bytes)),
        amount(millions(shape.allocated)),
        rounds.join(", "),
    );
    let ours = summary.column("ours").is_some();
    let names: Vec<&str> = summary.columns.iter().map(|column| column.tool.as_str()).collect();
    let mut header = format!("| operation | | {} |", names.join(" | "));
    let mut rule = format!("|---|---|{}", "---:|".repeat(names.len()));
    if ours {
        header.push_str(" ÷ best peer | ÷ restic |");
        rule.push_str("---:|---:|");
    }
    let _ = writeln!(out, "{header}\n{rule}");
    for operation in Operation::ALL {
        for quantity in [Quantity::Cpu, Quantity::Wall, Quantity::Peak, Quantity::Stored] {
            row(out, summary, operation, quantity, ours);
        }
    }
    out.push('\n');
    changes(out, summary);
    notes(out, summary);
}

fn row(out: &mut String, summary: &Summary, operation: Operation, quantity: Quantity, ours: bool) {
    // Neither changes what is stored.
    if quantity == Quantity::Stored && matches!(operation, Operation::Restore | Operation::Check) {
        return;
    }
    let values: Vec<Option<f64>> =
        summary.columns.iter().map(|column| column.value(operation, quantity)).collect();
    if values.iter().all(Option::is_none) {
        return;
    }
    let cells: Vec<String> = values.iter().map(|value| cell(*value)).collect();
    let name = match (quantity, operation) {
        (Quantity::Cpu, Operation::Later) => {
            let count = summary.columns.iter().find_map(|column| {
                column.rounds.iter().find_map(|round| round.operation(operation)?.increments)
            });
            count.map_or_else(String::new, |count| format!("the {count} increments after"))
        }
        (Quantity::Cpu, _) => goals::name(operation).to_owned(),
        _ => String::new(),
    };
    let mut line = format!("| {name} | {} | {} |", quantity.label(), cells.join(" | "));
    if ours {
        let own = summary.value("ours", operation, quantity);
        let ratio = |peer: Option<f64>| match own.zip(peer) {
            Some((own, peer)) if peer > 0.0 => format!("{:.2}", own / peer),
            _ => "–".to_owned(),
        };
        let best = ratio(summary.best_peer(operation, quantity));
        let restic = ratio(summary.value("restic", operation, quantity));
        let _ = write!(line, " {best} | {restic} |");
    }
    let _ = writeln!(out, "{line}");
}

/// What was stored for what had changed, where a pattern of blocks was changed.
fn changes(out: &mut String, summary: &Summary) {
    for (before, operation, pattern) in [
        (Operation::Unchanged, Operation::Changed, "in runs of 4 MiB"),
        (Operation::Changed, Operation::Scattered, "in single blocks of 4 KiB"),
    ] {
        let mut parts = Vec::new();
        let mut bytes = 0;
        for column in &summary.columns {
            let record = column.newest();
            let Some(measured) = record.operation(operation) else { continue };
            let Some(change) = measured.change else { continue };
            let stored = |operation| column.value(operation, Quantity::Stored);
            let (Some(then), Some(now)) = (stored(before), stored(operation)) else { continue };
            bytes = change.bytes;
            let changed = millions(change.bytes);
            parts.push(format!(
                "{} {} MB ({:.2} ×)",
                column.tool,
                amount(now - then),
                (now - then) / changed
            ));
        }
        if !parts.is_empty() && summary.corpus == "volume" {
            let changed = amount(millions(bytes));
            let _ = writeln!(
                out,
                "- {changed} MB changed {pattern}; stored for it: {}.",
                parts.join(", ")
            );
        }
    }
}

/// What is to be said beside the numbers.
fn notes(out: &mut String, summary: &Summary) {
    for column in &summary.columns {
        let differences = |pick: fn(&Record) -> &Differences| {
            column.rounds.iter().map(pick).find(|found| !found.none())
        };
        let found = differences(|record| &record.restored)
            .or_else(|| differences(|record| &record.restored_last));
        if let Some(found) = found {
            let counts: Vec<String> =
                found.counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
            let _ = writeln!(
                out,
                "- {}: every byte came back; of the metadata these differ: {}.",
                column.tool,
                counts.join(", ")
            );
        }
        let record = column.newest();
        if record.restored.allocated > record.shape.allocated + record.shape.allocated / 10 {
            let _ = writeln!(
                out,
                "- {}: what was restored takes {} MB on disk, the source {} MB (holes were filled).",
                column.tool,
                amount(millions(record.restored.allocated)),
                amount(millions(record.shape.allocated)),
            );
        }
        let last = record.operations.last();
        if let Some(last) = last.filter(|last| last.allocated > last.stored + last.stored / 20) {
            let _ = writeln!(
                out,
                "- {}: the repository's {} MB take {} MB on disk at the end.",
                column.tool,
                amount(millions(last.stored)),
                amount(millions(last.allocated)),
            );
        }
    }
    if let Some(ours) = summary.column("ours") {
        let whole = ours.rounds.iter().all(|record| record.restic_finds_it_whole == Some(true));
        let word = if whole { "clean" } else { "NOT CLEAN OR NOT ASKED" };
        let _ = writeln!(
            out,
            "- `restic check --read-data` of our repository after every round: {word}."
        );
    }
    out.push('\n');
}

fn goals_table(out: &mut String, summaries: &[Summary], index: Option<&index::Record>) {
    let mut judged = goals::judge(summaries);
    judged.extend(index.map(index::Record::judge).unwrap_or_default());
    out.push_str("### Goals\n\n| goal | allowed | measured | |\n|---|---:|---:|---|\n");
    for goal in judged {
        let met = match goal.met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "not measured",
        };
        let (allowed, measured) = (cell(goal.allowed), cell(goal.measured));
        let _ = writeln!(out, "| {} | {allowed} | {measured} | {met} |", goal.what);
    }
}

fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), amount)
}

/// Three digits that mean something.
pub fn amount(value: f64) -> String {
    match value.abs() {
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_goes_between_its_marks() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = placed(&page, "new\n").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"));
        assert_eq!(placed(&once, "new").unwrap(), once);
        assert_eq!(placed("no marks", "new"), None);
        assert_eq!([amount(1.234), amount(12.34), amount(1234.4)], ["1.23", "12.3", "1234"]);
    }
}

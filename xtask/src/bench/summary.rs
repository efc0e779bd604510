//! Medians of what is recorded, corpus by corpus.

use std::path::Path;

use super::options::CORPORA;
use super::record::{self, Operation, Record};
use super::tools;

/// What is measured of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Processor time in seconds.
    Cpu,
    /// Wall clock in seconds.
    Wall,
    /// Memory in millions of bytes.
    Peak,
    /// Size of the repository afterwards in millions of bytes.
    Stored,
}

impl Quantity {
    /// As rows of tables have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Cpu => "CPU s",
            Self::Wall => "wall s",
            Self::Peak => "memory MB",
            Self::Stored => "stored MB",
        }
    }
}

/// One program's rounds over one corpus.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub tool: String,
    /// Its rounds, in order; at least one.
    pub rounds: Vec<Record>,
}

impl Column {
    /// The median over the rounds that have it.
    pub fn value(&self, operation: Operation, quantity: Quantity) -> Option<f64> {
        let values = self.rounds.iter().filter_map(|record| record.operation(operation));
        median(values.map(|measured| match quantity {
            Quantity::Cpu => measured.usage.cpu(),
            Quantity::Wall => measured.usage.wall,
            Quantity::Peak => millions(measured.usage.peak()),
            Quantity::Stored => millions(measured.stored),
        }))
    }

    /// The newest of its rounds.
    pub fn newest(&self) -> &Record {
        self.rounds.iter().max_by_key(|record| record.time).unwrap_or(&self.rounds[0])
    }
}

/// All programs over one corpus.
#[derive(Debug)]
pub struct Summary {
    /// The corpus.
    pub corpus: String,
    /// The programs in the order of [`tools::NAMES`].
    pub columns: Vec<Column>,
}

impl Summary {
    /// The column of a program.
    pub fn column(&self, tool: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.tool == tool)
    }

    /// What a program took.
    pub fn value(&self, tool: &str, operation: Operation, quantity: Quantity) -> Option<f64> {
        self.column(tool)?.value(operation, quantity)
    }

    /// The least that any program but ours took.
    pub fn best_peer(&self, operation: Operation, quantity: Quantity) -> Option<f64> {
        self.columns
            .iter()
            .filter(|column| column.tool != "ours")
            .filter_map(|column| column.value(operation, quantity))
            .min_by(f64::total_cmp)
    }
}

/// Everything recorded. Of a program with several versions the one measured last counts; rounds
/// over a corpus that was made otherwise are left out.
pub fn read(results: &Path) -> Result<Vec<Summary>, String> {
    let mut summaries = Vec::new();
    for corpus in CORPORA {
        let records = record::all(results, corpus)?;
        summaries.extend(summary(corpus, records));
    }
    Ok(summaries)
}

/// The columns of one corpus; nothing when there are no records.
pub fn summary(corpus: &str, mut records: Vec<Record>) -> Option<Summary> {
    let newest = records.iter().max_by_key(|record| record.time)?;
    let (identity, machine) = (newest.corpus_identity.clone(), newest.machine.clone());
    records.retain(|record| record.corpus_identity == identity && record.machine == machine);
    let mut columns = Vec::new();
    for tool in tools::NAMES {
        let of_tool = || records.iter().filter(|record| record.tool == tool);
        let Some(newest) = of_tool().max_by_key(|record| record.time) else { continue };
        let mut rounds: Vec<Record> =
            of_tool().filter(|record| record.identity == newest.identity).cloned().collect();
        rounds.sort_by_key(|record| record.round);
        columns.push(Column { tool: tool.to_owned(), rounds });
    }
    Some(Summary { corpus: corpus.to_owned(), columns })
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(values[middle - 1], upper)) }
}

/// Bytes as millions of them.
pub fn millions(bytes: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
    let bytes = bytes as f64;
    bytes / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
    }
}

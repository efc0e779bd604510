//! What is kept of a round: one JSON file for a corpus, a program (this very version of it) and a
//! number of a round. Reports are made of nothing else, so runs of single corpora can be put
//! together, and a run that was cut off goes on where it stopped.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::compare::Differences;
use super::corpus::{Change, Shape};
use super::measure::Usage;

/// Of the files; one of another number is refused.
pub const FORMAT: u32 = 1;

/// An operation of a round, in the order in which they are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// The first backup.
    First,
    /// Again, nothing changed.
    Unchanged,
    /// All of it into an empty directory.
    Restore,
    /// Reading and checking all data.
    Check,
    /// After a change of 1 %.
    Changed,
    /// After a change of a few scattered blocks; of images only.
    Scattered,
    /// The increments that follow, together.
    Later,
    /// Removing what nothing needs, a tenth of the repository being garbage.
    Prune,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::First,
        Self::Unchanged,
        Self::Restore,
        Self::Check,
        Self::Changed,
        Self::Scattered,
        Self::Later,
        Self::Prune,
    ];
}

/// One operation, measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Which.
    pub operation: Operation,
    /// What it used. Of several commands: the sums, and the largest memory.
    pub usage: Usage,
    /// Bytes of the repository's files afterwards.
    pub stored: u64,
    /// Bytes that they take on this disk.
    pub allocated: u64,
    /// What had changed since the backup before.
    pub change: Option<Change>,
    /// How many increments this is the sum of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub increments: Option<u32>,
}

/// A round of one program over one corpus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    /// The corpus by name.
    pub corpus: String,
    /// What tells it from one made otherwise.
    pub corpus_identity: String,
    /// Its size.
    pub shape: Shape,
    /// The program by name.
    pub tool: String,
    /// Its version.
    pub version: String,
    /// What tells this very program from others.
    pub identity: String,
    /// How it was set up.
    pub settings: String,
    /// Counted from 1.
    pub round: u32,
    /// Where.
    pub machine: String,
    /// When, in seconds since 1970.
    pub time: u64,
    /// How long all took in seconds: measured, warming, comparing.
    pub elapsed: f64,
    /// In order.
    pub operations: Vec<Measured>,
    /// What the measured restore gave.
    pub restored: Differences,
    /// What a restore after the last increment gave.
    pub restored_last: Differences,
    /// True when stock restic read every byte of the repository at the end and found it whole;
    /// nothing where the format is another.
    pub restic_finds_it_whole: Option<bool>,
}

impl Record {
    /// One of its operations.
    pub fn operation(&self, operation: Operation) -> Option<&Measured> {
        self.operations.iter().find(|measured| measured.operation == operation)
    }
}

/// Where the record of a round lies.
pub fn path(results: &Path, corpus: &str, identity: &str, round: u32) -> PathBuf {
    results.join(corpus).join(format!("{identity}.round-{round}.json"))
}

/// Writes a record, whole or not at all.
pub fn write(path: &Path, record: &Record) -> Result<(), String> {
    let failed = |e| format!("cannot write {}: {e}", path.display());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    let text = serde_json::to_string_pretty(record).map_err(|e| e.to_string())?;
    let fresh = path.with_extension("new");
    fs::write(&fresh, text + "\n").and_then(|()| fs::rename(&fresh, path)).map_err(failed)
}

/// A record; nothing when there is none.
pub fn read(path: &Path) -> Result<Option<Record>, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    };
    let record: Record = serde_json::from_str(&text)
        .map_err(|e| format!("{} is not a record of this version: {e}", path.display()))?;
    if record.format != FORMAT {
        return Err(format!("{} has format {}, not {FORMAT}", path.display(), record.format));
    }
    Ok(Some(record))
}

/// All records of a corpus.
pub fn all(results: &Path, corpus: &str) -> Result<Vec<Record>, String> {
    let directory = results.join(corpus);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", directory.display())),
    };
    let mut records = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| format!("{}: {e}", directory.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            records.extend(read(&path)?);
        }
    }
    Ok(records)
}

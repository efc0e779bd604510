//! How large the index is in memory, and how quick: ten million blobs that exist in the index only.
//!
//! `crates/repository/examples/index_scale.rs` makes a repository with so many entries in its index
//! files, and opens it in a fresh process, which tells how much its memory grew by that.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Setup;
use super::goals::Judged;
use super::measure::{self, Usage};
use super::report::amount;
use super::summary::millions;
use super::tool::Place;
use crate::test::command::run;

/// As many as a repository of 10 TiB has.
const BLOBS: u64 = 10_000_000;
/// The goal.
const BYTES_A_BLOB: f64 = 64.0;

/// What the example prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Told {
    /// Entries of the index.
    blobs: u64,
    /// Resident memory before and after the index was loaded, in bytes.
    resident_before: u64,
    resident_after: u64,
    /// Seconds of loading.
    load_seconds: f64,
    /// Lookups of blobs that are there, and of blobs that are not, in a second, one thread.
    hits_per_second: f64,
    misses_per_second: f64,
}

/// What is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    machine: String,
    version: String,
    time: u64,
    usage: Usage,
    told: Told,
}

impl Record {
    fn bytes_a_blob(&self) -> f64 {
        let grown = self.told.resident_after.saturating_sub(self.told.resident_before);
        #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
        let ratio = grown as f64 / self.told.blobs.max(1) as f64;
        ratio
    }

    /// A paragraph of the report.
    pub fn render(&self, out: &mut String) {
        let told = &self.told;
        let _ = writeln!(
            out,
            "### INDEX\n\nA repository with {} blobs in its index ({}), opened by a fresh process: \
             {:.1} bytes of memory a blob once it is loaded; loading took {} s of CPU and {} MB of memory at \
             most; {} million lookups a second of blobs that are there, {} million of blobs that are not, on \
             one thread.\n",
            told.blobs,
            self.version,
            self.bytes_a_blob(),
            amount(self.usage.cpu()),
            amount(millions(self.usage.peak())),
            amount(told.hits_per_second / 1e6),
            amount(told.misses_per_second / 1e6),
        );
    }

    /// The goal that it answers.
    pub fn judge(&self) -> Vec<Judged> {
        let measured = self.bytes_a_blob();
        vec![Judged {
            what: format!("index of {BLOBS} blobs: bytes a blob at most {BYTES_A_BLOB}"),
            allowed: Some(BYTES_A_BLOB),
            measured: Some(measured),
            met: Some(measured <= BYTES_A_BLOB && self.told.blobs >= BLOBS),
        }]
    }
}

/// Builds the example, makes the repository and measures.
pub fn measure(setup: &Setup) -> Result<(), String> {
    let environment = &setup.environment;
    let example = ["--package", "provault-repository", "--example", "index_scale"];
    run(environment.cargo(&["build", "--release", "--locked"]).args(example))?;
    let program = environment.target.join("release/examples/index_scale");
    let place = Place::fresh(setup.work.join("runs/index"), environment.path())?;
    let log = setup.work.join("logs/index.log");
    let _ = fs::create_dir_all(setup.work.join("logs"));
    let _ = fs::remove_file(&log);
    let mut fill = place.invoke(&program, ["fill"]);
    fill.args.push(place.repository().into());
    fill.args.push(BLOBS.to_string().into());
    measure::run(&setup.measurer, &fill, &log)?;
    let answer = place.directory.join("answer.json");
    let mut open = place.invoke(&program, ["open"]);
    open.args.push(place.repository().into());
    open.args.push((&answer).into());
    let usage = measure::run(&setup.measurer, &open, &log)?;
    let text = fs::read_to_string(&answer).map_err(|e| format!("{}: {e}", answer.display()))?;
    let told: Told = serde_json::from_str(&text).map_err(|e| format!("{text}: {e}"))?;
    if told.blobs != BLOBS {
        return Err(format!("{} blobs were loaded, not {BLOBS}", told.blobs));
    }
    let commit = environment
        .output("git", &["describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"])
        .unwrap_or_else(|| "unknown".to_owned());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let record = Record {
        machine: setup.machine.clone(),
        version: commit,
        time: now.as_secs(),
        usage,
        told,
    };
    let path = path(&setup.results);
    let failed = |e| format!("cannot write {}: {e}", path.display());
    let text = serde_json::to_string_pretty(&record).map_err(|e| e.to_string())?;
    fs::create_dir_all(&setup.results).map_err(failed)?;
    fs::write(&path, text + "\n").map_err(failed)?;
    super::corpus::discard(&place.directory)
}

/// What was measured last; nothing when it was not.
pub fn read(results: &Path) -> Result<Option<Record>, String> {
    let path = path(results);
    match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|e| format!("{} is not a record of this version: {e}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

fn path(results: &Path) -> PathBuf {
    results.join("index.json")
}

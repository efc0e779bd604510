//! The runner over a toy corpus, with ours and stock restic: everything that a record run does, in
//! seconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::corpus::{Corpus, Kind, Step};
use super::record::{self, Operation};
use super::round::{self, Bench};
use super::summary::{self, Quantity};
use super::tool::Tool;
use super::{compare, measure, report, tools};
use crate::test::command::Environment;

/// A directory of a test's own, which it removes itself.
pub fn scratch(name: &str) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("provault-bench-{name}-{}-{number}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// The programs of this build, beside the directory of the test executables.
fn built(name: &str) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let path = this.parent().and_then(Path::parent).unwrap().join(name);
    assert!(
        path.is_file(),
        "{} is not there: run `cargo build -p provault -p xtask` first (`cargo xtask test` does).",
        path.display()
    );
    path
}

fn environment() -> Environment {
    Environment::new(crate::root()).unwrap()
}

#[test]
fn a_toy_round_is_measured_compared_recorded_and_reported() {
    let work = scratch("smoke");
    let environment = environment();
    // A name that the report knows.
    let corpus = Corpus::new("files", Kind::Many { files: 300 }, &work);
    let shape = corpus.prepare(&environment, &work).unwrap();
    let ours = tools::open(&environment, &work, "ours", &built("provault")).unwrap();
    let restic = tools::open(&environment, &work, "restic", &built("provault")).unwrap();
    let programs: [&dyn Tool; 2] = [ours.as_ref(), restic.as_ref()];
    let results = work.join("results");
    let bench = Bench {
        environment: &environment,
        work: &work,
        results: &results,
        measurer: &built("xtask"),
        machine: "a toy",
        increments: 2,
        fresh: false,
        // The disk of a machine that runs other tests is never quiet.
        settle: false,
    };
    round::run(&bench, &corpus, shape, &programs, 1).unwrap();
    for program in programs {
        let path = record::path(&results, corpus.name, program.identity(), 1);
        let record = record::read(&path).unwrap().unwrap();
        let done: Vec<Operation> = record.operations.iter().map(|m| m.operation).collect();
        let wanted = vec![
            Operation::First,
            Operation::Unchanged,
            Operation::Restore,
            Operation::Check,
            Operation::Changed,
            Operation::Later,
            Operation::Prune,
        ];
        assert_eq!(done, wanted, "{}", program.name());
        assert_eq!(record.restic_finds_it_whole, Some(true));
        assert!(record.restored.none(), "{:?}", record.restored);
        assert!(record.restored_last.none(), "{:?}", record.restored_last);
        for measured in &record.operations {
            assert!(measured.usage.cpu() > 0.0 && measured.usage.wall > 0.0, "{measured:?}");
            // Less than a mebibyte would be no process at all.
            assert!(measured.usage.peak() > 1 << 20, "{measured:?}");
            assert!(measured.stored > 0, "{measured:?}");
        }
        assert!(!work.join("runs/files").join(program.name()).exists());
    }
    let text = report::render(&results).unwrap();
    for wanted in ["Machine: a toy", "### FILES", "### Goals", "| first | CPU s |", ": clean."] {
        assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
    }
    let summaries = summary::read(&results).unwrap();
    assert_eq!(summaries.len(), 1);
    assert!(summaries[0].value("ours", Operation::First, Quantity::Cpu).is_some());
    fs::remove_dir_all(&work).unwrap();
}

/// A tree after edits, and put back, is the tree of before, times and links included.
#[test]
fn edits_are_the_same_every_time_and_are_taken_back() {
    let work = scratch("edits");
    let environment = environment();
    let make = |name: &'static str| {
        let corpus = Corpus::new(name, Kind::Many { files: 600 }, &work);
        corpus.prepare(&environment, &work).unwrap();
        corpus
    };
    let (one, other) = (make("one"), make("other"));
    assert!(compare::trees(&one.source(), &other.source()).unwrap().none());
    for step in [Step::Increment(1), Step::Increment(2), Step::ReplaceTenth] {
        let (first, second) = (one.change(step).unwrap(), other.change(step).unwrap());
        assert_eq!(first, second);
        assert!(first.files > 0 && first.bytes > 0, "{step:?}: {first:?}");
    }
    let found = compare::trees(&one.source(), &other.source()).unwrap();
    assert!(found.data_is_whole(), "{found:?}");
    let untouched = make("untouched");
    let found = compare::trees(&untouched.source(), &one.source()).unwrap();
    assert!(!found.data_is_whole());
    one.reset().unwrap();
    one.reset().unwrap();
    let found = compare::trees(&untouched.source(), &one.source()).unwrap();
    assert!(found.none(), "{found:?}");
    fs::remove_dir_all(&work).unwrap();
}

/// What a child of a child used is counted, also of one that outlives the command.
#[test]
fn the_whole_family_is_measured() {
    let work = scratch("measure");
    let log = work.join("log");
    let mut shell = measure::Invocation {
        program: "/bin/sh".into(),
        args: Vec::new(),
        environment: [("PATH".to_owned(), environment().path())].into(),
        directory: work.clone(),
    };
    // 64 MiB of memory and some work, in a process that the shell does not wait for.
    let burn = "import time\nb = bytearray(64 << 20)\nend = time.process_time() + 0.2\n\
                while time.process_time() < end: pass";
    shell.args = vec!["-c".into(), format!("python3 -c '{burn}' & exit 0").into()];
    let usage = measure::run(&built("xtask"), &shell, &log).unwrap();
    assert!(usage.cpu() >= 0.2, "{usage:?}");
    assert!(usage.wall >= 0.2, "{usage:?}");
    assert!(usage.peak() >= 64 << 20, "{usage:?}");
    shell.args = vec!["-c".into(), "echo it broke >&2; exit 3".into()];
    let failure = measure::run(&built("xtask"), &shell, &log).unwrap_err();
    assert!(failure.contains("exit code 3") && failure.contains("it broke"), "{failure}");
    fs::remove_dir_all(&work).unwrap();
}

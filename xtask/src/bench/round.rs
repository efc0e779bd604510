//! One round over one corpus: every operation is done by every program before the next one begins, so
//! that what the machine does meanwhile hurts all alike. The order of the programs turns from round
//! to round.
//!
//! Before every measured command the disk is given time to write what is pending (`sync`), and what the command will
//! read is read once: the page cache is warm. Both are outside the measurement.
//!
//! A program that fails drops out of the round and leaves no record; the others go on.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use super::compare::{self, Differences};
use super::corpus::{self, Change, Corpus, Shape, Step};
use super::fresh::Fresh;
use super::measure::{self, Invocation, Usage};
use super::record::{self, FORMAT, Measured, Operation, Record};
use super::tool::{Place, Source, Tool};
use super::tools;
use crate::test::command::Environment;

/// What all rounds share.
pub struct Bench<'a> {
    /// Where programs are found.
    pub environment: &'a Environment,
    /// Where everything lies.
    pub work: &'a Path,
    /// Where records go.
    pub results: &'a Path,
    /// This program, for the process around every command.
    pub measurer: &'a Path,
    /// What it all runs on.
    pub machine: &'a str,
    /// Every restore gets a file system of its own.
    pub fresh: bool,
    /// How many increments there are in all, in a round that does them all.
    pub increments: u32,
    /// Waits before every command until all that is pending is on disk.
    pub settle: bool,
}

/// A program in a round.
struct Runner<'a> {
    tool: &'a dyn Tool,
    place: Place,
    log: PathBuf,
    /// The label of its newest backup.
    newest: String,
    operations: Vec<Measured>,
    /// The increments so far that are one operation.
    later: Option<Usage>,
    restored: Differences,
    restored_last: Differences,
    whole: Option<bool>,
    elapsed: f64,
    failure: Option<String>,
}

/// A round, while it goes on.
struct Round<'a> {
    bench: &'a Bench<'a>,
    corpus: &'a Corpus,
    source: Source,
    runners: Vec<Runner<'a>>,
}

/// The corpora that go on after the first increment, to the tenth and to prune: the others add
/// nothing to the picture.
const LONG: [&str; 2] = ["files", "volume"];

/// True for rounds that go through all increments. They are the same every time, so one round
/// does: what counts is how much is stored in the end.
pub fn does_all_increments(corpus: &str, round: u32) -> bool {
    round == 1 && LONG.contains(&corpus)
}

/// Runs a round of the programs given and records it. All failures are told at the end.
pub fn run(
    bench: &Bench<'_>,
    corpus: &Corpus,
    shape: Shape,
    tools: &[&dyn Tool],
    number: u32,
) -> Result<(), String> {
    let mut round = Round::new(bench, corpus, tools, number)?;
    let result = round.operations(does_all_increments(corpus.name, number));
    let back = corpus.reset();
    let mut failures: Vec<String> = Vec::new();
    failures.extend(result.err());
    failures.extend(back.err());
    let cut_off = !failures.is_empty();
    for runner in round.runners {
        if let Some(failure) = &runner.failure {
            failures.push(format!("{} over {}: {failure}", runner.tool.name(), corpus.name));
        } else if !cut_off {
            let path = record::path(bench.results, corpus.name, runner.tool.identity(), number);
            record::write(&path, &runner.record(bench, corpus, shape, number))?;
        }
        corpus::discard(&runner.place.directory)?;
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

impl<'a> Round<'a> {
    fn new(
        bench: &'a Bench<'a>,
        corpus: &'a Corpus,
        tools: &[&'a dyn Tool],
        number: u32,
    ) -> Result<Self, String> {
        let logs = bench.work.join("logs");
        fs::create_dir_all(&logs).map_err(|e| format!("cannot make {}: {e}", logs.display()))?;
        let mut runners = Vec::new();
        for tool in tools {
            let directory = bench.work.join("runs").join(corpus.name).join(tool.name());
            let log = logs.join(format!("{}-{}-{number}.log", corpus.name, tool.name()));
            let _ = fs::remove_file(&log);
            runners.push(Runner {
                tool: *tool,
                place: Place::fresh(directory, bench.environment.path())?,
                log,
                newest: String::new(),
                operations: Vec::new(),
                later: None,
                restored: Differences::default(),
                restored_last: Differences::default(),
                whole: None,
                elapsed: 0.0,
                failure: None,
            });
        }
        let turn = usize::try_from(number.saturating_sub(1)).unwrap_or_default();
        let count = runners.len().max(1);
        runners.rotate_left(turn % count);
        let source = Source { path: corpus.source(), is_device: corpus.is_device() };
        Ok(Self { bench, corpus, source, runners })
    }

    fn operations(&mut self, all: bool) -> Result<(), String> {
        self.each("init", |round, runner| {
            for call in runner.tool.init(&runner.place) {
                runner.command(round, &call)?;
            }
            Ok(())
        });
        self.backup(Operation::First, "first", None);
        // What is a device to the programs is read again; see `Corpus::touch`.
        self.corpus.touch()?;
        self.backup(Operation::Unchanged, "unchanged", None);
        self.each("restore", |round, runner| {
            let (usage, differences) = runner.restore(round)?;
            runner.restored = differences;
            runner.note(Operation::Restore, usage, None, None)
        });
        self.each("check", |round, runner| {
            let Some(call) = runner.tool.check(&runner.place) else { return Ok(()) };
            warm(&runner.place.repository())?;
            let usage = runner.command(round, &call)?;
            runner.note(Operation::Check, usage, None, None)
        });
        let change = self.corpus.change(Step::Increment(1))?;
        self.backup(Operation::Changed, "increment-1", Some(change));
        let mut next = 2;
        if self.corpus.is_device() {
            let change = self.corpus.change(Step::Increment(2))?;
            self.backup(Operation::Scattered, "increment-2", Some(change));
            next = 3;
        }
        if all {
            self.later(next)?;
        }
        if LONG.contains(&self.corpus.name) {
            self.each("restore again", |round, runner| {
                runner.restored_last = runner.restore(round)?.1;
                Ok(())
            });
            self.prune()?;
        }
        self.each("stock restic", |round, runner| {
            if !runner.tool.is_restic_format() {
                return Ok(());
            }
            let call = tools::oracle(round.environment, &runner.place)?;
            runner
                .command(round, &call)
                .map_err(|e| format!("stock restic is not content: {e}"))?;
            runner.whole = Some(true);
            Ok(())
        });
        Ok(())
    }

    /// The increments from `next` on, as one operation.
    fn later(&mut self, next: u32) -> Result<(), String> {
        let mut changes = Change::default();
        for number in next..=self.bench.increments {
            let change = self.corpus.change(Step::Increment(number))?;
            changes.files += change.files;
            changes.bytes += change.bytes;
            self.each(&format!("increment {number}"), |round, runner| {
                let usage = runner.backup(round, &format!("increment-{number}"))?;
                runner.later = Some(runner.later.map_or(usage, |before| added(before, usage)));
                Ok(())
            });
        }
        let count = (self.bench.increments + 1).saturating_sub(next);
        self.each("increments", |_, runner| match runner.later {
            Some(usage) => runner.note(Operation::Later, usage, Some(changes), Some(count)),
            None => Ok(()),
        });
        Ok(())
    }

    /// A tenth is replaced, all older states are forgotten, and the garbage goes.
    fn prune(&mut self) -> Result<(), String> {
        let change = self.corpus.change(Step::ReplaceTenth)?;
        self.each("prune", |round, runner| {
            let Some((forget, prune)) = runner.tool.prune(&runner.place) else { return Ok(()) };
            runner.backup(round, "tenth")?;
            runner.command(round, &forget)?;
            warm(&runner.place.repository())?;
            let usage = runner.command(round, &prune)?;
            runner.note(Operation::Prune, usage, Some(change), None)?;
            // What is left must still be whole.
            runner.restore(round)?;
            Ok(())
        });
        Ok(())
    }

    fn backup(&mut self, operation: Operation, label: &str, change: Option<Change>) {
        self.each(label, |round, runner| {
            let usage = runner.backup(round, label)?;
            runner.note(operation, usage, change, None)
        });
    }

    /// Does one thing with every program that has not failed, in turn.
    fn each(
        &mut self,
        what: &str,
        mut act: impl FnMut(&Context<'_>, &mut Runner<'_>) -> Result<(), String>,
    ) {
        let context = Context {
            environment: self.bench.environment,
            measurer: self.bench.measurer,
            source: &self.source,
            settle: self.bench.settle,
            fresh: self.bench.fresh,
        };
        for runner in &mut self.runners {
            if runner.failure.is_some() {
                continue;
            }
            let begun = Instant::now();
            let result = act(&context, runner);
            runner.elapsed += begun.elapsed().as_secs_f64();
            match result {
                Ok(()) => println!(
                    "  {:<8} {:<9} {what}: {:.1} s",
                    self.corpus.name,
                    runner.tool.name(),
                    begun.elapsed().as_secs_f64()
                ),
                Err(failure) => {
                    println!(
                        "  {:<8} {:<9} {what}: FAILED\n{failure}",
                        self.corpus.name,
                        runner.tool.name()
                    );
                    runner.failure = Some(format!("{what}: {failure}"));
                }
            }
        }
    }
}

/// What a step of a runner needs.
struct Context<'a> {
    environment: &'a Environment,
    measurer: &'a Path,
    source: &'a Source,
    settle: bool,
    fresh: bool,
}

impl Runner<'_> {
    /// Runs a command; what was written before is on disk, so it pays for nobody else.
    fn command(&self, context: &Context<'_>, call: &Invocation) -> Result<Usage, String> {
        if context.settle {
            nix::unistd::sync();
        }
        measure::run(context.measurer, call, &self.log)
    }

    fn backup(&mut self, context: &Context<'_>, label: &str) -> Result<Usage, String> {
        let call = self.tool.backup(&self.place, context.source, label);
        warm(&context.source.path)?;
        let usage = self.command(context, &call)?;
        label.clone_into(&mut self.newest);
        Ok(usage)
    }

    /// Restores the newest backup, compares it with the source and removes it.
    fn restore(&self, context: &Context<'_>) -> Result<(Usage, Differences), String> {
        let directory = self.place.directory.join("restored");
        let make = if context.fresh { Fresh::file_system } else { Fresh::plain };
        let fresh = make(context.environment, &directory)?;
        let target = fresh.target();
        let call = self.tool.restore(&self.place, context.source, &self.newest, &target);
        warm(&self.place.repository())?;
        let usage = self.command(context, &call)?;
        let restored = self.tool.restored(context.source, &target);
        let differences = compare::trees(&context.source.path, &restored)?;
        if differences.data_is_whole() {
            Ok((usage, differences))
        } else {
            let Differences { counts, examples, .. } = differences;
            Err(format!("the restored data differ: {counts:?}, such as {examples:?}"))
        }
    }

    fn note(
        &mut self,
        operation: Operation,
        usage: Usage,
        change: Option<Change>,
        increments: Option<u32>,
    ) -> Result<(), String> {
        let Shape { bytes, allocated, .. } = corpus::shape(&self.place.repository())?;
        let stored = bytes;
        self.operations.push(Measured { operation, usage, stored, allocated, change, increments });
        Ok(())
    }

    fn record(&self, bench: &Bench<'_>, corpus: &Corpus, shape: Shape, round: u32) -> Record {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Record {
            format: FORMAT,
            corpus: corpus.name.to_owned(),
            corpus_identity: corpus.identity(),
            shape,
            tool: self.tool.name().to_owned(),
            version: self.tool.version().to_owned(),
            identity: self.tool.identity().to_owned(),
            settings: self.tool.settings().to_owned(),
            round,
            machine: bench.machine.to_owned(),
            time: now.as_secs(),
            elapsed: self.elapsed,
            operations: self.operations.clone(),
            restored: self.restored.clone(),
            restored_last: self.restored_last.clone(),
            restic_finds_it_whole: self.whole,
        }
    }
}

/// One command after another, as one.
fn added(one: Usage, other: Usage) -> Usage {
    Usage {
        wall: one.wall + other.wall,
        user: one.user + other.user,
        system: one.system + other.system,
        process_peak: one.process_peak.max(other.process_peak),
        tree_peak: one.tree_peak.max(other.tree_peak),
    }
}

/// Reads everything once, so that it is in the page cache.
fn warm(root: &Path) -> Result<(), String> {
    let mut buffer = vec![0; 1 << 20];
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        let failed = |e| format!("cannot read {}: {e}", directory.display());
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                let mut file = File::open(entry.path()).map_err(failed)?;
                while file.read(&mut buffer).map_err(failed)? > 0 {}
            }
        }
    }
    Ok(())
}

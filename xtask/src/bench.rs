//! `cargo xtask bench`: our repository beside its peers, on the same data, in the same way.
//!
//! It installs the peers ([`tools`]), builds the corpora ([`corpus`]), lets every program do every operation in turn
//! ([`round`]), compares every restore byte for byte ([`compare`]), and keeps what each command used
//! ([`measure`]) as one JSON file for a corpus, a program and a round ([`record`]). The report
//! ([`report`]) is made of these files alone. A round that is recorded for the same program is not
//! run again, so a run that was cut off goes on where it stopped.
//!
//! Nothing here is a test, and nothing fails because it is slow. What fails a run is a restore that
//! differs, or a repository of ours that stock restic does not find whole.

mod blocks;
mod compare;
mod corpus;
mod edits;
mod estimate;
mod fresh;
mod goals;
mod index;
mod machine;
mod measure;
mod options;
mod random;
mod record;
mod report;
mod round;
#[cfg(test)]
mod smoke;
mod summary;
mod tool;
mod tools;

use std::path::PathBuf;

use crate::test::command::{Environment, run as run_command};
use corpus::Corpus;
use options::{INDEX, Mode, Options};
use round::Bench;
use tool::Tool;

/// Where everything is.
pub struct Setup {
    /// Where programs are found.
    pub environment: Environment,
    /// Corpora, repositories while they live, logs.
    pub work: PathBuf,
    /// Records.
    pub results: PathBuf,
    /// Installed programs.
    pub tools: PathBuf,
    /// This program.
    pub measurer: PathBuf,
    /// What it all runs on.
    pub machine: String,
    /// Every restore gets a file system of its own.
    pub fresh: bool,
}

/// Runs the task with the arguments after its name.
pub fn run(args: &[String]) -> Result<(), String> {
    if args.first().is_some_and(|first| first == "--measure") {
        return measure::inside(&args[1..]);
    }
    if args.first().is_some_and(|first| first == "--help") {
        println!("{}", options::USAGE);
        return Ok(());
    }
    let options = Options::parse(args)?;
    let setup = Setup::new(&options)?;
    let page = setup.environment.root.join("docs/benchmarks.md");
    match options.mode {
        Mode::Report { write } => {
            let text = report::render(&setup.results)?;
            return if write { report::write(&page, &text) } else { print(&text) };
        }
        Mode::Plan => return estimate::print(&options, &setup),
        Mode::Run | Mode::Prepare => {}
    }
    let ours = setup.ours(&options)?;
    let mut programs: Vec<Box<dyn Tool>> = Vec::new();
    for name in &options.tools {
        let program = tools::open(&setup.environment, &setup.tools, name, &ours)?;
        println!("{}: {}", program.name(), program.version());
        programs.push(program);
    }
    let corpora: Vec<Corpus> =
        options.corpora.iter().filter_map(|name| Corpus::named(name, &setup.work)).collect();
    if options.mode == Mode::Prepare {
        for corpus in &corpora {
            let shape = corpus.prepare(&setup.environment, &setup.work)?;
            println!("{}: {} entries, {} bytes", corpus.name, shape.entries, shape.bytes);
        }
        return Ok(());
    }
    estimate::print_for(&options, &setup, &programs)?;
    let mut failures: Vec<String> = Vec::new();
    for number in 1..=options.rounds {
        for corpus in &corpora {
            failures.extend(one_round(&options, &setup, corpus, &programs, number).err());
        }
    }
    if options.corpora.iter().any(|name| name == INDEX) {
        failures.extend(index::measure(&setup).err());
    }
    // What succeeded is shown all the same.
    match report::render(&setup.results) {
        Ok(text) => print(&text)?,
        Err(failure) => failures.push(failure),
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// The round of those programs that have no record of it.
fn one_round(
    options: &Options,
    setup: &Setup,
    corpus: &Corpus,
    programs: &[Box<dyn Tool>],
    number: u32,
) -> Result<(), String> {
    let mut pending: Vec<&dyn Tool> = Vec::new();
    for program in programs {
        let path = record::path(&setup.results, corpus.name, program.identity(), number);
        let known = record::read(&path)?.is_some_and(|record| {
            record.corpus_identity == corpus.identity() && record.machine == setup.machine
        });
        if !known {
            pending.push(program.as_ref());
        }
    }
    if pending.is_empty() {
        println!("{}, round {number}: recorded already", corpus.name);
        return Ok(());
    }
    let shape = corpus.prepare(&setup.environment, &setup.work)?;
    let bench = Bench {
        environment: &setup.environment,
        work: &setup.work,
        results: &setup.results,
        measurer: &setup.measurer,
        machine: &setup.machine,
        fresh: setup.fresh,
        increments: options.increments,
        settle: true,
    };
    println!("{}, round {number}", corpus.name);
    round::run(&bench, corpus, shape, &pending, number)
}

fn print(text: &str) -> Result<(), String> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}").map_err(|e| format!("cannot write: {e}"))
}

impl Setup {
    fn new(options: &Options) -> Result<Self, String> {
        let environment = Environment::new(crate::root())?;
        let work = options.work.clone().unwrap_or_else(|| environment.target.join("bench"));
        std::fs::create_dir_all(&work)
            .map_err(|e| format!("cannot make {}: {e}", work.display()))?;
        let measurer = std::env::current_exe().map_err(|e| format!("who am I: {e}"))?;
        let fresh = fresh::possible(&environment, &work);
        let restores =
            if fresh { "a new ext4 for every restore" } else { "restores into a directory" };
        Ok(Self {
            machine: format!("{}, {restores}", machine::describe(&environment, &work)),
            fresh,
            results: work.join("results"),
            tools: options.tools_directory.clone().unwrap_or_else(|| environment.tools.clone()),
            environment,
            work,
            measurer,
        })
    }

    /// Our executable: the one given, or a release build of this tree.
    fn ours(&self, options: &Options) -> Result<PathBuf, String> {
        if let Some(given) = &options.binary {
            return Ok(given.clone());
        }
        if options.tools.iter().any(|name| name == "ours") {
            let args = ["build", "--release", "--locked", "--package", "provault"];
            run_command(&mut self.environment.cargo(&args))?;
        }
        Ok(self.environment.target.join("release/provault"))
    }
}

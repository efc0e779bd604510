//! `cargo xtask test`: everything that must hold before a change is merged, in one command.
//!
//! It needs a Rust toolchain; the first step installs the rest. Every step is announced and timed,
//! and all of them run even when an early one fails, so that one run shows everything there is to
//! mend. The last line counts: `N passed, N failed, N skipped`. Tests are counted one by one, the
//! lab as one test, and any other step that fails as one failure.
//!
//! **No silent skips.** `#[ignore]` and a test filtered out by the profile fail the run. A test
//! that the host makes impossible (no user namespaces, say) writes one line
//! `PROVAULT-NOT-TESTED: test: reason` to the file named by `PROVAULT_NOT_TESTED` and returns; it is
//! counted as skipped and its reason is printed at the end. Without that variable it prints the
//! line. A missing tool is no such reason: it is a failure that names what to install.

pub(crate) mod command;
pub(crate) mod count;
mod lab;
mod not_tested;
mod suite;
pub(crate) mod tools;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use command::Environment;
use count::Count;

/// A step: its name for `--only`, what it does, and how.
struct Step {
    name: &'static str,
    about: &'static str,
    /// Nothing that follows makes sense when it failed.
    vital: bool,
    run: fn(&Environment) -> Result<Count, Failure>,
}

/// Why a step failed.
pub(crate) struct Failure {
    message: String,
    /// The tests it ran, when it got so far; its failure is then among them.
    count: Option<Count>,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, count: None }
    }
}

const STEPS: &[Step] = &[
    Step { name: "tools", about: "install what is missing", vital: true, run: tools::install },
    Step {
        name: "gen-wire",
        about: "the generated wire types are what the model gives",
        vital: false,
        run: |_| Ok(crate::gen_wire::run(&["--check".to_owned()]).map(|()| Count::default())?),
    },
    Step {
        name: "check-deps",
        about: "rooms depend downwards only, files stay short",
        vital: false,
        run: |_| Ok(crate::check_deps::run(&[]).map(|()| Count::default())?),
    },
    Step {
        name: "check-docs",
        about: "links and file names in the documentation lead somewhere",
        vital: false,
        run: |_| Ok(crate::check_docs::run(&[]).map(|()| Count::default())?),
    },
    Step {
        name: "fmt",
        about: "cargo fmt",
        vital: false,
        run: |e| e.check(&["fmt", "--all", "--check"]),
    },
    Step {
        name: "deny",
        about: "licences, banned crates, sources",
        vital: false,
        run: |e| e.check(&["deny", "check", "bans", "licenses", "sources"]),
    },
    Step {
        name: "clippy",
        about: "cargo clippy, warnings denied",
        vital: false,
        run: |e| {
            let lint = ["clippy", "--workspace", "--all-targets", "--locked"];
            e.check(&[&lint[..], &["--", "-D", "warnings"]].concat())
        },
    },
    Step { name: "build", about: "everything, tests included", vital: true, run: suite::build },
    Step { name: "nextest", about: "all tests", vital: false, run: suite::nextest },
    Step { name: "doctest", about: "examples in documentation", vital: false, run: suite::doctest },
    Step { name: "doc", about: "cargo doc, warnings denied", vital: false, run: suite::doc },
    Step {
        name: "package",
        about: "the static program and the .deb, used on clean roots",
        vital: false,
        run: |e| {
            crate::package::make(e)?;
            Ok(crate::package::try_out(e)?)
        },
    },
    Step { name: "lab", about: "the lab, as a user runs it", vital: false, run: lab::run },
];

/// Runs the task with the arguments after its name.
pub fn run(args: &[String]) -> Result<(), String> {
    let Some(chosen) = choose(args)? else {
        for step in STEPS {
            println!("{:<11} {}", step.name, step.about);
        }
        return Ok(());
    };
    let environment = Environment::new(crate::root())?;
    not_tested::forget(&environment)?;
    let begun = Instant::now();
    let mut total = Count::default();
    let mut broken = Vec::new();
    let mut times = String::new();
    for step in chosen {
        println!("\n==> {}: {}", step.name, step.about);
        let start = Instant::now();
        let result = (step.run)(&environment);
        let took = seconds(start.elapsed());
        let _ = writeln!(times, "  {:<11} {took:>9}", step.name);
        match result {
            Ok(count) => {
                total += count;
                println!("<== {}: ok, {took}", step.name);
            }
            Err(failure) => {
                total += failure.count.unwrap_or(Count { failed: 1, ..Count::default() });
                println!("<== {}: FAILED, {took}\n{}", step.name, failure.message);
                broken.push(step.name);
                if step.vital {
                    break;
                }
            }
        }
    }
    let skips = not_tested::read(&environment)?;
    println!("\n==> summary\n{times}  {:<11} {:>9}", "total", seconds(begun.elapsed()));
    for skip in &skips {
        println!("not tested: {}: {}", skip.test, skip.reason);
    }
    if !broken.is_empty() {
        println!("failed: {}", broken.join(", "));
    }
    println!("{total}");
    // The counts are the last line, whatever happened.
    if broken.is_empty() { Ok(()) } else { Err(String::new()) }
}

/// The steps that the arguments ask for; nothing when they ask for the list.
fn choose(args: &[String]) -> Result<Option<Vec<&'static Step>>, String> {
    let mut wanted: Vec<&str> = Vec::new();
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        match arg {
            "--list" => return Ok(None),
            "--only" => wanted.push(args.next().ok_or("--only needs the name of a step")?),
            other => {
                return Err(format!("unknown argument {other}; there are --only STEP and --list"));
            }
        }
    }
    let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    if let Some(unknown) = wanted.iter().find(|name| !names.contains(name)) {
        return Err(format!("there is no step {unknown}; the steps are {}", names.join(", ")));
    }
    let chosen = |step: &&Step| wanted.is_empty() || wanted.contains(&step.name);
    Ok(Some(STEPS.iter().filter(chosen).collect()))
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(args: &[&str]) -> Result<Option<Vec<&'static str>>, String> {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        Ok(choose(&args)?.map(|steps| steps.iter().map(|step| step.name).collect()))
    }

    #[test]
    fn steps_are_chosen_by_name_and_keep_their_order() {
        assert_eq!(names(&[]).unwrap().unwrap().len(), STEPS.len());
        let two = names(&["--only", "nextest", "--only", "fmt"]).unwrap().unwrap();
        assert_eq!(two, ["fmt", "nextest"]);
        assert_eq!(names(&["--list"]).unwrap(), None);
    }

    #[test]
    fn a_step_that_does_not_exist_is_an_error_that_lists_them() {
        let message = names(&["--only", "nexttest"]).unwrap_err();
        assert!(message.contains("no step nexttest"), "{message}");
        assert!(message.contains("nextest, doctest"), "{message}");
        assert!(names(&["--only"]).is_err());
        assert!(names(&["--fast"]).is_err());
    }
}

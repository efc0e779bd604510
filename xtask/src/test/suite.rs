//! The tests themselves, counted.

use std::io::IsTerminal as _;

use super::Failure;
use super::command::{Environment, Stream, run, run_reading};
use super::count::Count;
use super::not_tested;

/// The program and all tests; the end-to-end tests run the program.
pub fn build(environment: &Environment) -> Result<Count, Failure> {
    environment.check(&["build", "--workspace", "--all-targets", "--locked"])
}

/// All tests of the workspace.
pub fn nextest(environment: &Environment) -> Result<Count, Failure> {
    // With `--only nextest` the program may be older than its source.
    build(environment)?;
    let colour = if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        "always"
    } else {
        "never"
    };
    let mut command = environment.cargo(&["nextest", "run", "--workspace", "--all-targets"]);
    command.args(["--locked", "--color", colour]);
    command.env(not_tested::VARIABLE, not_tested::file(environment));
    let mut count = None;
    let result = run_reading(&mut command, Stream::Err, |line| {
        count = Count::of_nextest(line).or(count);
    });
    let Some(mut count) = count else {
        let reason = result.err().unwrap_or_else(|| "nextest printed no summary".to_owned());
        return Err(reason.into());
    };
    let ignored = count.skipped;
    // A test that gave the host's reason returned, and so passed as far as nextest can see.
    let excused = not_tested::read(environment)?.len().min(count.passed);
    count.passed -= excused;
    count.skipped += excused;
    if let Err(message) = result {
        return Err(Failure { message, count: Some(count) });
    }
    no_ignored(ignored, count)
}

/// The examples in documentation comments.
pub fn doctest(environment: &Environment) -> Result<Count, Failure> {
    let mut command = environment.cargo(&["test", "--doc", "--workspace", "--locked"]);
    let mut count = Count::default();
    let result = run_reading(&mut command, Stream::Out, |line| {
        count += Count::of_libtest(line).unwrap_or_default();
    });
    match result {
        Err(message) if count.failed > 0 => Err(Failure { message, count: Some(count) }),
        Err(message) => Err(message.into()),
        Ok(()) => no_ignored(count.skipped, count),
    }
}

/// The documentation builds, and its links lead somewhere.
pub fn doc(environment: &Environment) -> Result<Count, Failure> {
    let mut command = environment.cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    run(command.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Count::default())
}

/// A test that nobody runs is no test.
fn no_ignored(ignored: usize, mut count: Count) -> Result<Count, Failure> {
    if ignored == 0 {
        return Ok(count);
    }
    count.failed += ignored;
    count.skipped -= ignored;
    let message = format!(
        "{ignored} tests are ignored or filtered out and were not run; delete or run them (a test \
         that the host makes impossible says so: see CONTRIBUTING.md)"
    );
    Err(Failure { message, count: Some(count) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_test_fails_the_run_and_an_excused_one_does_not() {
        let counted = Count { passed: 5, failed: 0, skipped: 3 };
        let failure = no_ignored(2, counted).err().unwrap();
        assert_eq!(failure.count, Some(Count { passed: 5, failed: 2, skipped: 1 }));
        assert_eq!(no_ignored(0, counted).ok(), Some(counted));
    }
}

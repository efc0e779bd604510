//! `cargo xtask package`: what is handed to people who have no toolchain.
//!
//! One program for every Linux of its architecture, linked statically, and a Debian package of it with
//! the unit, the settings, manual pages and completions. Linked is the static C library of the host
//! (`docs/decisions/0031-static-program.md`). With `--try` both are used where nothing else is: the program alone in an
//! empty root, the package in a Debian that was made for it.

mod deb;
mod program;
mod trial;

use std::path::PathBuf;

use crate::test::command::Environment;
use crate::test::count::Count;

/// Runs the task with the arguments after its name.
pub fn run(args: &[String]) -> Result<(), String> {
    let environment = Environment::new(crate::root())?;
    let is_tried = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--try"] => true,
        _ => return Err("usage: cargo xtask package [--try]".to_owned()),
    };
    make(&environment)?;
    if is_tried {
        println!("{}", try_out(&environment)?);
    }
    Ok(())
}

/// Where everything is put.
fn directory(environment: &Environment) -> PathBuf {
    environment.target.join("package")
}

/// Builds the program and gives its place.
pub fn program(environment: &Environment) -> Result<PathBuf, String> {
    program::build(environment)
}

/// Builds the program and the package.
pub fn make(environment: &Environment) -> Result<(), String> {
    let program = program(environment)?;
    let package = deb::build(environment, &program)?;
    println!("{}\n{}", program.display(), package.display());
    Ok(())
}

/// Uses both on clean roots; each counts as a test.
pub fn try_out(environment: &Environment) -> Result<Count, String> {
    trial::of_program(environment, &program::place(environment))?;
    trial::of_package(environment, &deb::place(environment)?)?;
    Ok(Count { passed: 2, ..Count::default() })
}

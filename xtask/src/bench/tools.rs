//! The programs that are compared.

mod borg;
mod bupstash;
mod ours;
mod restic;
mod rustic;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::tool::Tool;
use crate::test::command::Environment;

pub use ours::Ours;
pub use restic::oracle;

/// All names, in the order of the report.
pub const NAMES: [&str; 5] = ["ours", "restic", "borg", "bupstash", "rustic"];

/// Finds or installs a program by its name. `ours` is the executable under test.
pub fn open(
    environment: &Environment,
    directory: &Path,
    name: &str,
    ours: &Path,
) -> Result<Box<dyn Tool>, String> {
    Ok(match name {
        "ours" => Box::new(Ours::open(environment, ours)?),
        "restic" => Box::new(restic::Restic::open(environment)?),
        "borg" => Box::new(borg::Borg::open(environment, directory)?),
        "bupstash" => Box::new(bupstash::Bupstash::open(environment, directory)?),
        "rustic" => Box::new(rustic::Rustic::open(environment, directory)?),
        _ => return Err(format!("there is no tool {name}; there are {}", NAMES.join(", "))),
    })
}

/// What a program says its version is; an error that names the program when it does not run.
fn version(
    environment: &Environment,
    program: impl AsRef<OsStr>,
    args: &[&str],
) -> Result<String, String> {
    let program = program.as_ref();
    let text = environment.output(program, args).ok_or_else(|| {
        format!("{} does not run; remove it and start again", Path::new(program).display())
    })?;
    let line = text.lines().next().unwrap_or_default().to_owned();
    Ok(line)
}

/// A version as part of a file name.
fn file_name(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    text.chars().map(plain).collect()
}

/// A program that must be in the path.
fn find(environment: &Environment, name: &str) -> Result<PathBuf, String> {
    environment.find(name).ok_or_else(|| format!("{name} is missing; apt-get install {name}"))
}

//! Contributor tasks: what people and CI run besides cargo itself, as `cargo xtask TASK`.
//!
//! Each task is one module with a `run` function and one line in [`TASKS`].

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod bench;
mod check_deps;
mod check_docs;
mod fuzz;
mod gen_wire;
mod package;
mod soak;
mod test;

/// A task: its name, what it does in one line, and the function that gets the arguments after the name.
type Task = (&'static str, &'static str, fn(&[String]) -> Result<(), String>);

const TASKS: &[Task] = &[
    (
        "test",
        "install what the tests need, run every check and test; --only STEP runs one step, --list \
         names them",
        test::run,
    ),
    (
        "bench",
        "measure backup, restore, check and prune beside restic, borg and bupstash; --help tells more",
        bench::run,
    ),
    (
        "gen-wire",
        "write crates/wire/src/generated from model/; with --check only compare",
        gen_wire::run,
    ),
    (
        "fuzz",
        "fuzz the parsers of what a repository holds; --seconds N for each target (60), TARGET...",
        fuzz::run,
    ),
    (
        "soak",
        "wreck the program and look whether anything is lost; --count N (300), --seed S",
        soak::run,
    ),
    (
        "package",
        "a static program and a .deb in target/package; --try installs them on clean roots",
        package::run,
    ),
    ("check-deps", "rooms depend downwards only, files stay short", check_deps::run),
    ("check-docs", "links and file names in the documentation lead somewhere", check_docs::run),
];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let Some(&(name, _, run)) =
        args.first().and_then(|wanted| TASKS.iter().find(|(name, ..)| name == wanted))
    else {
        eprintln!("usage: cargo xtask TASK [OPTION]...\n\ntasks:");
        for (name, about, _) in TASKS {
            eprintln!("  {name:<12} {about}");
        }
        return ExitCode::from(2);
    };
    match run(&args[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // A task that has said everything already leaves the last word to its own output.
            if !message.is_empty() {
                eprintln!("xtask {name}: {message}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf()
}

/// The cargo that runs this task, so that all steps use one toolchain.
fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

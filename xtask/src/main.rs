//! Contributor tasks: what people and CI run besides cargo itself, as `cargo xtask TASK`.
//!
//! Each task is one module with a `run` function and one line in [`TASKS`].

use std::env;
use std::process::ExitCode;

mod gen_wire;

/// A task: its name, what it does in one line, and the function that gets the arguments after the name.
type Task = (&'static str, &'static str, fn(&[String]) -> Result<(), String>);

const TASKS: &[Task] = &[(
    "gen-wire",
    "write crates/wire/src/generated from model/; with --check only compare",
    gen_wire::run,
)];

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
            eprintln!("xtask {name}: {message}");
            ExitCode::FAILURE
        }
    }
}

//! What the tests need beside a Rust toolchain, found or installed.
//!
//! Nothing is installed that is there already. From Debian come stock restic (the oracle of our
//! repository format), PostgreSQL and small tools; from Python's package index, into `.tools/venv`, the AWS clients,
//! since Debian's know no endpoint variables; from crates.io, built from source into `.tools`, the
//! cargo tools. No program is downloaded ready-made from anywhere else.

mod clients;
pub(crate) mod debian;

use super::Failure;
use super::command::{Environment, run};
use super::count::Count;

/// A cargo subcommand, and the version installed where there is none (one known to build with our
/// toolchain; any version that is there already will do).
struct CargoTool {
    name: &'static str,
    version: &'static str,
}

const CARGO_TOOLS: &[CargoTool] = &[
    CargoTool { name: "cargo-nextest", version: "0.9.143" },
    CargoTool { name: "cargo-deny", version: "0.20.2" },
];

/// Installs what is missing.
pub fn install(environment: &Environment) -> Result<Count, Failure> {
    components(environment)?;
    debian::install(environment)?;
    clients::install(environment)?;
    for tool in CARGO_TOOLS {
        cargo_tool(environment, tool)?;
    }
    Ok(Count::default())
}

/// rustfmt and clippy: a minimal toolchain lacks them.
fn components(environment: &Environment) -> Result<(), String> {
    for (component, program) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if environment.output(crate::cargo(), &[program, "--version"]).is_some() {
            println!("{component}: there");
            continue;
        }
        if environment.find("rustup").is_none() {
            return Err(format!(
                "{component} is missing and there is no rustup to install it: add {component} to \
                 the Rust toolchain"
            ));
        }
        run(environment.command("rustup").args(["component", "add", component]))?;
    }
    Ok(())
}

fn cargo_tool(environment: &Environment, tool: &CargoTool) -> Result<(), String> {
    if let Some(path) = environment.find(tool.name) {
        println!("{}: {}", tool.name, path.display());
        return Ok(());
    }
    let mut command = environment.cargo(&["install", "--locked", "--version", tool.version]);
    command.arg("--root").arg(&environment.tools).arg(tool.name);
    run(&mut command).map_err(|e| format!("cannot install {}: {e}", tool.name))
}

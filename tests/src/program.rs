//! The program under test, and its command line.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Finished, clean_command};

/// The `provault` of this build: beside the directory of the test executables.
pub fn executable() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    // target/debug/deps/TEST-HASH
    let directory = this.parent().and_then(Path::parent).unwrap();
    let path = directory.join("provault");
    assert!(
        path.is_file(),
        "{} is not there: run `cargo build -p provault` first (`cargo xtask test` does).",
        path.display()
    );
    path
}

/// The command line against one data directory, as a user on the server's machine has it.
#[derive(Debug, Clone)]
pub struct Program {
    data_dir: PathBuf,
}

impl Program {
    /// Commands find the server by `--data-dir`.
    pub fn of(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned() }
    }

    /// A command without any option.
    pub fn bare(args: &[&str]) -> Command {
        let mut command = clean_command(executable());
        command.args(args);
        command
    }

    /// A command that finds the server.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Self::bare(args);
        command.arg("--data-dir").arg(&self.data_dir);
        command
    }

    /// Runs a command that must end with this exit code.
    pub fn run(&self, code: i32, args: &[&str]) -> Finished {
        Finished::of(&mut self.command(args), "it was just there").expect(code)
    }

    /// Runs a command with `--json` that must succeed, and gives the one document it prints.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        self.json_with(0, args)
    }

    /// Runs a command with `--json` that must end with this exit code.
    pub fn json_with(&self, code: i32, args: &[&str]) -> serde_json::Value {
        let mut command = self.command(args);
        command.arg("--json");
        Finished::of(&mut command, "it was just there").expect(code).json()
    }
}

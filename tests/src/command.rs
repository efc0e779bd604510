//! Running other programs in a clean environment.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

/// A program that ended.
#[derive(Debug)]
pub struct Finished {
    /// What was run.
    pub line: String,
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Runs a command with nothing to read and waits for its end. A program that is not there
    /// fails the test with `install`.
    pub fn of(command: &mut Command, install: &str) -> Self {
        let line = format!("{command:?}");
        let output = command.stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => panic!("{line} cannot be run: {install}"),
            _ => panic!("{line} cannot be run: {error}"),
        });
        Self {
            line,
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The same, when it ended with this exit code; else the test fails with all it said.
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Its standard output as one JSON document.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {self}"))
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { line, code, stdout, stderr } = self;
        write!(f, "{line}\nexit code {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---")
    }
}

/// A command without what the person who runs the tests has set for AWS, Provault or proxies, and
/// with the tools of the workspace (`.tools`) first in its path.
pub fn clean_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let upper = name.to_string_lossy().to_ascii_uppercase();
        let foreign = upper.starts_with("AWS_")
            || upper.starts_with("PROVAULT_")
            || upper.starts_with("RESTIC_")
            || upper.starts_with("BOTO")
            || upper.ends_with("_PROXY")
            || ["XDG_STATE_HOME", "RUST_LOG"].contains(&upper.as_str());
        if foreign {
            command.env_remove(&name);
        }
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools");
    let own = [tools.join("venv/bin"), tools.join("bin")];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path))).unwrap();
    command.env("PATH", path).env("PYTHONDONTWRITEBYTECODE", "1").env("NO_COLOR", "1");
    command
}

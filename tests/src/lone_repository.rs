//! A repository without a server: worked on by `provault repository` and by stock restic.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{Finished, Program, Sandbox, clean_command};

const INSTALL: &str = "restic is missing; install it: apt-get install restic";

/// A repository (`repo`) and its password in a file (`password`), in a sandbox of their own.
pub struct LoneRepository {
    sandbox: Sandbox,
}

impl LoneRepository {
    /// A new repository, made by Provault.
    pub fn new() -> Self {
        let this = Self::empty();
        this.run(0, &["init", "--generate-password"]);
        this
    }

    /// Only the sandbox.
    pub fn empty() -> Self {
        Self { sandbox: Sandbox::new() }
    }

    /// The sandbox.
    pub fn root(&self) -> &Path {
        self.sandbox.root()
    }

    /// A path in the sandbox.
    pub fn path(&self, name: &str) -> PathBuf {
        self.sandbox.path(name)
    }

    /// The same, as an argument.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A command of `provault repository` on it.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Program::bare(&["repository"]);
        command.arg("--repo").arg(self.path("repo"));
        command.arg("--password-file").arg(self.path("password")).args(args);
        command.env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    /// The same, run; it must end with this exit code.
    pub fn run(&self, code: i32, args: &[&str]) -> Finished {
        Finished::of(&mut self.command(args), "it was just there").expect(code)
    }

    /// The document that a command prints, which must succeed.
    pub fn json(&self, args: &[&str]) -> Value {
        self.json_with(0, args)
    }

    /// The document that a command prints, which must end with this exit code.
    pub fn json_with(&self, code: i32, args: &[&str]) -> Value {
        let mut command = self.command(args);
        Finished::of(command.arg("--json"), "it was just there").expect(code).json()
    }

    /// restic on it; it must succeed.
    pub fn restic(&self, args: &[&str]) -> Finished {
        let mut command = clean_command("restic");
        command.arg("--no-cache").arg("-r").arg(self.path("repo"));
        command.arg("-p").arg(self.path("password"));
        Finished::of(command.args(args), INSTALL).expect(0)
    }

    /// The ids of all snapshots, oldest first.
    pub fn ids(&self) -> Vec<String> {
        let all = self.json(&["snapshots"]);
        let id = |snapshot: &Value| snapshot["id"].as_str().unwrap().to_owned();
        all.as_array().unwrap().iter().map(id).collect()
    }

    /// Whether there is no lock. A file under another name is one in the making.
    pub fn is_unlocked(&self) -> bool {
        let Ok(locks) = fs::read_dir(self.path("repo/locks")) else { return true };
        locks.flatten().all(|lock| lock.file_name().len() != 64)
    }

    /// Where a path of the sandbox lies in a whole restored snapshot.
    pub fn within(&self, target: &str, name: &str) -> PathBuf {
        let path = self.path(name);
        self.path(target).join(path.strip_prefix("/").unwrap())
    }
}

impl Default for LoneRepository {
    fn default() -> Self {
        Self::new()
    }
}

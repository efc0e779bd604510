//! Running other programs: where they are looked for, what they find in their environment.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Failure;
use super::count::Count;

/// Where steps run and what they see.
pub struct Environment {
    /// The root of the workspace.
    pub root: PathBuf,
    /// Tools of our own, never committed: `.tools`.
    pub tools: PathBuf,
    /// Where cargo builds.
    pub target: PathBuf,
    /// Our tools first, cargo's last.
    path: OsString,
}

impl Environment {
    /// The environment of steps run in `root`.
    pub fn new(root: PathBuf) -> Result<Self, String> {
        let tools = root.join(".tools");
        let cargo_home = env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
        let mut path = vec![tools.join("venv/bin"), tools.join("bin")];
        path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        path.extend(cargo_home.map(|home| home.join("bin")));
        let path = env::join_paths(path).map_err(|e| format!("PATH cannot be extended: {e}"))?;
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
        Ok(Self { target: root.join(target), root, tools, path })
    }

    /// The directories where programs are looked for, as in `PATH`.
    pub fn path(&self) -> OsString {
        self.path.clone()
    }

    /// A command that finds our tools.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).env("PATH", &self.path);
        // Set by the cargo that runs this task; they would make build scripts run again.
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Cargo with `args`.
    pub fn cargo(&self, args: &[&str]) -> Command {
        let mut command = self.command(crate::cargo());
        command.args(args);
        command
    }

    /// Runs cargo as a check that counts no tests.
    pub fn check(&self, args: &[&str]) -> Result<Count, Failure> {
        run(&mut self.cargo(args))?;
        Ok(Count::default())
    }

    /// The first file called `name` in the directories of the path.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        env::split_paths(&self.path).map(|directory| directory.join(name)).find(|f| f.is_file())
    }

    /// What `program` prints on success, trimmed; nothing when it is absent or fails.
    pub fn output(&self, program: impl AsRef<OsStr>, args: &[&str]) -> Option<String> {
        let output = self.command(program).args(args).stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    }
}

/// Prints and runs a command; its failure is an error that names it.
pub fn run(command: &mut Command) -> Result<(), String> {
    let line = shown(command);
    println!("$ {line}");
    let status =
        command.stdin(Stdio::null()).status().map_err(|e| format!("cannot run `{line}`: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` failed: {status}")) }
}

/// Which of the two streams of a command is read.
#[derive(Clone, Copy)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Like [`run`], and passes every line of one stream on while `each` reads it.
pub fn run_reading(
    command: &mut Command,
    stream: Stream,
    mut each: impl FnMut(&str),
) -> Result<(), String> {
    let line = shown(command);
    println!("$ {line}");
    command.stdin(Stdio::null());
    match stream {
        Stream::Out => command.stdout(Stdio::piped()),
        Stream::Err => command.stderr(Stdio::piped()),
    };
    let mut child = command.spawn().map_err(|e| format!("cannot run `{line}`: {e}"))?;
    if let Some(pipe) = child.stdout.take() {
        for text in BufReader::new(pipe).split(b'\n') {
            let text = text.map_err(|e| format!("cannot read from `{line}`: {e}"))?;
            let text = String::from_utf8_lossy(&text);
            println!("{text}");
            each(&text);
        }
    }
    if let Some(pipe) = child.stderr.take() {
        for text in BufReader::new(pipe).split(b'\n') {
            let text = text.map_err(|e| format!("cannot read from `{line}`: {e}"))?;
            let text = String::from_utf8_lossy(&text);
            eprintln!("{text}");
            each(&text);
        }
    }
    let status = child.wait().map_err(|e| format!("`{line}`: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` failed: {status}")) }
}

/// The command as one would type it, near enough.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line =
        program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

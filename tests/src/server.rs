//! The server as a process.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::{Api, Program, SmallDisk, until};

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Options behind `serve --data-dir DIR --listen 127.0.0.1:0`; a `--listen` among them takes the
    /// place of that.
    pub args: Vec<String>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
}

impl Start {
    /// Lets the server stop dead at a place, and write `file` when it is there.
    pub fn paused_at(place: &str, file: &Path) -> Self {
        let file = file.to_str().unwrap().to_owned();
        let environment = vec![
            ("PROVAULT_PAUSE_AT".to_owned(), place.to_owned()),
            ("PROVAULT_PAUSE_FILE".to_owned(), file),
        ];
        Self { environment, ..Self::default() }
    }

    /// Lets the server die by SIGKILL right before, or after, its commit of this number; with a file,
    /// only the commits count that are made while it is there.
    pub fn killed_at(after: bool, commit: u64, since: Option<&Path>) -> Self {
        let side = if after { "after" } else { "before" };
        let mut start = Self::default();
        let at = ("PROVAULT_KILL_AT_COMMIT".to_owned(), format!("{side}:{commit}"));
        start.environment.push(at);
        start.environment.extend(
            since.map(|file| ("PROVAULT_KILL_SINCE".to_owned(), file.to_str().unwrap().to_owned())),
        );
        start
    }

    /// The same, and the server goes on when the file `until` appears.
    pub fn held_at(place: &str, file: &Path, until: &Path) -> Self {
        let mut start = Self::paused_at(place, file);
        let until = until.to_str().unwrap().to_owned();
        start.environment.push(("PROVAULT_PAUSE_UNTIL".to_owned(), until));
        start
    }
}

/// A server of its own. It is killed when this is dropped; after a failure the end of its log is
/// printed.
pub struct TestServer {
    data_dir: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    endpoint: String,
    api: Option<Api>,
    disks: Vec<SmallDisk>,
}

impl TestServer {
    /// Starts a server and waits until it answers.
    pub fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, &Start::default())
    }

    /// The same, with options.
    pub fn start_with(data_dir: &Path, start: &Start) -> Self {
        let mut server = Self::stopped(data_dir);
        server.launch(start);
        server
    }

    /// A server on a directory, not started yet.
    pub fn stopped(data_dir: &Path) -> Self {
        let log = data_dir.with_extension("log");
        let (data_dir, endpoint) = (data_dir.to_owned(), String::new());
        Self { data_dir, log, child: None, endpoint, api: None, disks: Vec::new() }
    }

    /// The same, which will have small disks that nobody else sees.
    pub fn with_disks(data_dir: &Path, disks: Vec<SmallDisk>) -> Self {
        let mut server = Self::stopped(data_dir);
        server.disks = disks;
        server
    }

    /// The command that starts a server on a data directory, for tests of the start itself.
    pub fn command(data_dir: &Path) -> Command {
        let mut command = Program::bare(&["serve", "--listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(data_dir);
        command
    }

    fn launch(&mut self, start: &Start) {
        if let Some(status) = self.try_launch(start) {
            panic!("the server ended at its start ({status}):\n{}", self.log_tail());
        }
    }

    /// Starts it and waits until it answers, or until it has ended: then gives how.
    fn try_launch(&mut self, start: &Start) -> Option<ExitStatus> {
        assert!(self.child.is_none(), "it runs already");
        let announcement = self.data_dir.join("server.json");
        match fs::remove_file(&announcement) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = if start.args.iter().any(|arg| arg == "--listen") {
            let mut command = Program::bare(&["serve"]);
            command.arg("--data-dir").arg(&self.data_dir);
            command
        } else {
            Self::command(&self.data_dir)
        };
        command.args(&start.args).envs(start.environment.iter().cloned());
        let mut command = SmallDisk::mounted_for(&self.disks, command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        let announced = until("the server's start", || {
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().unwrap()) {
                return Some(Err(status));
            }
            fs::read_to_string(&announcement).ok().map(Ok)
        });
        let text = match announced {
            Ok(text) => text,
            Err(status) => {
                self.child = None;
                return Some(status);
            }
        };
        let announced: Value = serde_json::from_str(&text).unwrap();
        announced["Endpoint"].as_str().unwrap().clone_into(&mut self.endpoint);
        self.api = Some(Api::of_data_dir(&self.data_dir));
        None
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().unwrap().id().cast_signed()
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where it answers, such as `http://127.0.0.1:40000`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A client that signs with the root access key.
    pub fn api(&self) -> &Api {
        self.api.as_ref().unwrap()
    }

    /// The command line on this server's machine.
    pub fn program(&self) -> Program {
        Program::of(&self.data_dir)
    }

    /// Kills the process, as a crash or a power cut does: nothing gets a chance to clean up.
    pub fn kill9(&mut self) {
        self.child.as_mut().unwrap().kill().unwrap();
        self.is_killed();
    }

    /// Waits for its end, which must be that of a kill, by somebody else or [`Self::kill9`].
    pub fn is_killed(&mut self) {
        let mut child = self.child.take().unwrap();
        let status = until("the server's death", || child.try_wait().unwrap());
        assert_eq!(status.signal(), Some(9), "it was gone before: {status}\n{}", self.log_tail());
    }

    /// Waits for its end by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        until("the server's end", || child.try_wait().unwrap())
    }

    /// Asks it to stop, as a service manager does, and waits for its end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ends()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits for its end.
    pub fn ends(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        until("the server's end", || child.try_wait().unwrap())
    }

    /// Starts again on the same directory, after [`TestServer::kill9`] or [`TestServer::stop`].
    pub fn start_again(&mut self) {
        self.launch(&Start::default());
    }

    /// The same, with options.
    pub fn start_again_with(&mut self, start: &Start) {
        self.launch(start);
    }

    /// The same, where the server may be killed before it answers; whether it answered.
    pub fn survives_start_with(&mut self, start: &Start) -> bool {
        match self.try_launch(start) {
            None => true,
            Some(status) => {
                assert_eq!(status.signal(), Some(9), "{status}\n{}", self.log_tail());
                false
            }
        }
    }

    /// Whether it is not running, as far as this knows.
    pub fn is_stopped(&self) -> bool {
        self.child.is_none()
    }

    /// Whether its process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// Stops it in order and starts it with options.
    pub fn restart_with(&mut self, start: &Start) {
        let status = self.stop();
        assert!(status.success(), "{status}\n{}", self.log_tail());
        self.launch(start);
    }

    /// The end of all that it logged.
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(80)..].join("\n")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself; there is nobody to tell.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}\n---", self.log_tail());
        }
    }
}

//! Running the application of a restored copy where it can reach nothing but the copy.
//!
//! A multithreaded process cannot enter a user namespace, so the caller starts its own executable
//! again as a helper and talks to it through pipes. Four stages, each a fresh, single-threaded
//! start of the same executable, told by its first line of input which one it is:
//!
//! 1. *outer*: on the host. Holds the life line (its standard input, kept open by the caller) and
//!    writes the id maps of
//! 2. *enter*: makes the user, mount, network, PID, IPC, UTS and cgroup namespaces, and starts
//! 3. *inside*: the first process of the PID namespace. Builds the file system, raises loopback,
//!    asks the probes and reports on the caller's pipe. When it ends, the kernel ends everything
//!    in the namespace. It starts
//! 4. *launch*: enters one more user namespace, so that what follows owns none of the others and
//!    can neither mount nor unmount, and becomes the application, or the command of a probe. Each
//!    is the first of a session of its own, so that no signal to its group reaches the stages.
//!
//! Ids: run by root, both user namespaces map every id to itself, so owners of restored files
//! fit and the application may change to its own user, but no capability reaches beyond the
//! copy. Run by another user, that user is the only one there is.
//!
//! What the application sees is listed in the module `mounts`. There are no limits on its memory
//! or number of processes besides the caller's own.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use provault_domain::verdict::{IsolationLevel, ProbeResult};
use provault_domain::{Invalid, Probe};
use provault_driver::CancelFlag;

use crate::ProofError;

mod command;
mod enter;
mod idmap;
mod inside;
mod launch;
mod loopback;
mod message;
mod mounts;
mod outer;
mod process;
mod request;

pub(crate) use command::{End, Ran};
pub(crate) use message::Trouble;
use message::{Event, FirstLine};
pub use request::{ApplicationExit, HelperCommand, IsolationReport, IsolationRequest};

/// Bytes kept of what the application last wrote.
pub const LOG_TAIL: usize = 64 * 1024;

/// Environment variable that every process of a test carries, with the token as its value.
pub const TOKEN_VARIABLE: &str = "PROVAULT_RESTORE_TEST";

/// Where the copy is mounted, and the application's working directory.
pub const COPY: &str = "/copy";

/// How long the helper may take to end on its own once it was told to.
const GRACE: Duration = Duration::from_secs(15);

/// How long building the isolation may take: seconds at worst, on a host that is not broken.
const BUILD_LIMIT: Duration = Duration::from_mins(1);

/// How often the caller looks at its flag.
const TICK: Duration = Duration::from_millis(25);

/// Whether restored applications can be isolated on this host, tried out rather than guessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IsolationSupport {
    /// They can.
    Full,
    /// They cannot: restore tests with a service are INCONCLUSIVE here.
    None {
        /// What was refused, and what to do about it.
        reason: String,
    },
}

impl fmt::Display for IsolationSupport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::None { reason } => f.write_str(reason),
        }
    }
}

/// Tries out whether isolation can be built here: all of it, with nothing started inside.
pub fn probe_support(helper: &HelperCommand) -> IsolationSupport {
    // Any directory does: it stands in for a copy that nothing is started in.
    let request = IsolationRequest::check(std::env::temp_dir());
    match run(helper, &request, &CancelFlag::new()) {
        Ok(_) => IsolationSupport::Full,
        Err(error) => IsolationSupport::None { reason: error.to_string() },
    }
}

/// Starts the application of a copy in isolation, if it has one, asks every probe that is asked
/// there, and ends it. When this returns, with whatever result, nothing that was started is left:
/// neither the application nor the command of a probe.
///
/// Probes that look at files are passed over; [`crate::manifest::compare`] answers those. An
/// application that does not start, ends early or never answers is a failed answer to each probe,
/// with the reason and the end of its log, and no error.
pub fn run_isolated(
    helper: &HelperCommand,
    request: &IsolationRequest,
    cancel: &CancelFlag,
) -> Result<IsolationReport, ProofError> {
    match &request.service {
        Some(service) => service.validate()?,
        None if !request.probes.iter().any(Probe::needs_isolation) => {
            let message = "there is no application to start, and no command to run.";
            return Err(Invalid::new("Service", message).into());
        }
        None => {}
    }
    for probe in &request.probes {
        probe.validate()?;
        if probe.needs_service() && request.service.is_none() {
            return Err(Invalid::new("Service", "there is no application to start.").into());
        }
        crate::probe::check_address(probe)?;
    }
    run(helper, request, cancel)
}

fn run(
    helper: &HelperCommand,
    request: &IsolationRequest,
    cancel: &CancelFlag,
) -> Result<IsolationReport, ProofError> {
    let request = resolve(request)?;
    let began = Instant::now();
    let mut child = spawn(helper, &request)?;
    let (sender, events) = mpsc::channel();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let threads = [std::thread::spawn(move || {
        let Some(stdout) = stdout else { return };
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    })];
    let complaints = std::thread::spawn(move || {
        let mut tail = Tail::new(4096);
        let mut buffer = [0; 4096];
        let Some(mut stderr) = stderr else { return tail };
        while let Ok(n @ 1..) = stderr.read(&mut buffer) {
            tail.push(&buffer[..n]);
        }
        tail
    });

    // The life line: while it is open, the helper lives.
    let mut lifeline = child.stdin.take();
    let mut outcome = match &mut lifeline {
        Some(stdin) => send(stdin, &FirstLine::Outer(request.clone())),
        None => Err(ProofError::Helper("it has no standard input.".to_owned())),
    };
    let mut collected = Collected::default();
    if outcome.is_ok() {
        outcome = collect(&events, &request, cancel, began, &mut collected);
    }
    drop(lifeline);
    // The pipe of events closes when the last process that could report is gone, and that one
    // is gone only when everything in its namespace is.
    let until = Instant::now() + GRACE;
    let ended = loop {
        match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => collected.take(&line, began),
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => break false,
        }
    };
    end(&mut child, ended)?;
    for thread in threads {
        let _ = thread.join();
    }
    let complaints = complaints.join().map(|tail| tail.text()).unwrap_or_default();
    outcome?;
    collected.into_report(&request, &complaints)
}

/// Everything about the request that needs a look at the host: real paths instead of links.
fn resolve(request: &IsolationRequest) -> Result<IsolationRequest, ProofError> {
    let mut request = request.clone();
    request.copy_root = request
        .copy_root
        .canonicalize()
        .map_err(ProofError::io("opening the restored copy", &request.copy_root))?;
    let real: Vec<PathBuf> =
        request.hidden.iter().filter_map(|path| path.canonicalize().ok()).collect();
    request.hidden.extend(real);
    request.hidden.sort();
    request.hidden.dedup();
    if let Some(path) = request.hidden.iter().find(|path| !path.is_absolute()) {
        let message = format!("'{}' is not an absolute path.", path.display());
        return Err(Invalid::new("Hidden", message).into());
    }
    if let Some(path) = request.hidden.iter().find(|path| mounts::is_needed(path)) {
        return Err(ProofError::CannotHide { path: path.clone() });
    }
    Ok(request)
}

fn spawn(helper: &HelperCommand, request: &IsolationRequest) -> Result<Child, ProofError> {
    Command::new(&helper.program)
        .args(&helper.args)
        .env_clear()
        .env(TOKEN_VARIABLE, &request.token)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            ProofError::Helper(format!("{} cannot be started: {error}.", helper.program.display()))
        })
}

fn send(pipe: &mut impl Write, line: &FirstLine) -> Result<(), ProofError> {
    message::write_line(pipe, line).map_err(|error| ProofError::Helper(error.to_string()))
}

/// Takes events until the helper is done, something runs out, or the flag is raised.
fn collect(
    events: &mpsc::Receiver<String>,
    request: &IsolationRequest,
    cancel: &CancelFlag,
    began: Instant,
    collected: &mut Collected,
) -> Result<(), ProofError> {
    let overall = request.overall_limit();
    loop {
        if cancel.is_raised() {
            return Err(ProofError::Cancelled);
        }
        match events.recv_timeout(TICK) {
            Ok(line) => collected.take(&line, began),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if collected.is_over() {
            return Ok(());
        }
        let elapsed = began.elapsed();
        if collected.report.isolated_millis == 0 && elapsed > BUILD_LIMIT {
            return Err(ProofError::Isolation {
                step: "building it".to_owned(),
                message: format!("not done after {} s.", BUILD_LIMIT.as_secs()),
            });
        }
        // The helper keeps the limit itself; this one is for a helper that is stuck.
        if elapsed > BUILD_LIMIT + overall + GRACE {
            return Err(ProofError::Helper(format!(
                "it did not report within {} s.",
                (BUILD_LIMIT + overall + GRACE).as_secs()
            )));
        }
    }
}

/// Sees the helper off; one that will not go is killed, and the kernel takes the rest with it.
fn end(child: &mut Child, ended: bool) -> Result<(), ProofError> {
    let failed = |error| ProofError::Helper(format!("it cannot be waited for: {error}."));
    let until = Instant::now() + if ended { GRACE } else { Duration::ZERO };
    while child.try_wait().map_err(failed)?.is_none() {
        if Instant::now() >= until {
            let _ = child.kill();
            child.wait().map_err(failed)?;
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// What the helper told so far.
#[derive(Default)]
struct Collected {
    report: IsolationReport,
    trouble: Option<Trouble>,
    finished: bool,
}

impl Collected {
    fn is_over(&self) -> bool {
        self.finished || self.trouble.is_some()
    }

    fn take(&mut self, line: &str, began: Instant) {
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let report = &mut self.report;
        match serde_json::from_str(line) {
            Ok(Event::Isolated { notes }) => {
                report.level = Some(IsolationLevel::Full);
                report.isolated_millis = millis;
                report.notes.extend(notes);
            }
            Ok(Event::Started) => report.started_millis = Some(millis),
            Ok(Event::Answer(result)) => report.probes.push(result),
            Ok(Event::Exited(exit)) => report.exit = Some(exit),
            Ok(Event::Log { tail }) => report.log_tail = tail,
            Ok(Event::Finished) => self.finished = true,
            Ok(Event::Broken(trouble)) => self.trouble = Some(trouble),
            Err(error) => {
                let what = format!("it reported what nobody understands ({error}).");
                self.trouble.get_or_insert(Trouble::Helper(what));
            }
        }
    }

    fn into_report(
        mut self,
        request: &IsolationRequest,
        complaints: &str,
    ) -> Result<IsolationReport, ProofError> {
        if let Some(trouble) = self.trouble {
            return Err(trouble.into());
        }
        if !self.finished {
            let how = if complaints.is_empty() { "no message" } else { complaints.trim() };
            return Err(ProofError::Helper(format!("it ended without a report ({how}).")));
        }
        let asked = request.probes.iter().filter(|probe| probe.needs_isolation()).count();
        if self.report.probes.len() != asked {
            return Err(ProofError::Helper(format!(
                "it reported {} answers to {asked} probes.",
                self.report.probes.len()
            )));
        }
        let answered = |p: &&ProbeResult| p.http_status.is_some() || p.passed;
        self.report.first_answer_millis =
            self.report.probes.iter().find(answered).map(|p| p.millis);
        Ok(self.report)
    }
}

/// The last bytes of a stream.
pub(crate) struct Tail {
    bytes: VecDeque<u8>,
    limit: usize,
    cut: bool,
}

impl Tail {
    pub(crate) fn new(limit: usize) -> Self {
        Self { bytes: VecDeque::new(), limit, cut: false }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(self.limit);
        self.cut |= excess > 0;
        self.bytes.drain(..excess);
    }

    pub(crate) fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        if self.cut { format!("…{text}") } else { text.into_owned() }
    }

    /// The last line that says something, for a message.
    pub(crate) fn last_line(&self) -> Option<String> {
        let text = self.text();
        let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
        Some(line.trim().chars().take(300).collect())
    }
}

/// What the hidden sub-command of the executable runs: whichever stage the first line of input
/// names. To be called before the process starts a thread.
pub fn helper_main() -> ExitCode {
    match message::first_line() {
        Ok(FirstLine::Outer(request)) => outer::run(request),
        Ok(FirstLine::Enter(ids)) => enter::run(&ids),
        Ok(FirstLine::Inside(request)) => inside::run(&request),
        Ok(FirstLine::Launch(launch)) => launch::run(launch),
        Err(error) => {
            eprintln!("this is the isolation helper, which only Provault starts: {error}");
            ExitCode::from(2)
        }
    }
}

/// A failed answer to a probe that could not be asked, or was not answered.
pub(crate) fn unanswered(label: String, detail: String, millis: u64) -> ProbeResult {
    ProbeResult { label, passed: false, detail, http_status: None, millis, output: None }
}

/// Whether `path` is `ancestor` or lies below it.
fn within(path: &Path, ancestor: &Path) -> bool {
    path.starts_with(ancestor)
}

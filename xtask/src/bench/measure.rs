//! One command, measured from outside: wall clock, processor time and peak memory of all its
//! processes.
//!
//! Every command gets a small process of its own around it (this program again, as
//! `bench --measure`), because the kernel's account of ended children only ever grows. That process
//! adopts orphans (`PR_SET_CHILD_SUBREAPER`) and waits for all of them, so what helpers use is
//! counted too, whoever started them.
//!
//! * Wall: until the command itself ends. A command that leaves a helper behind is not quicker for
//!   it: the time until the last one ends is taken.
//! * CPU: user and system of all processes that ended (`getrusage`), to the microsecond.
//! * Memory: the larger of the largest single process, exactly (`ru_maxrss`), and the sum over all
//!   processes at any of the samples taken every 20 ms. Pages that processes share count once for each in
//!   that sum; so do pages of mapped files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike as _;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// How often the memory of all processes together is looked at.
const SAMPLE: Duration = Duration::from_millis(20);
/// A command that takes longer hangs: it is ended and the run fails.
const LIMIT: Duration = Duration::from_hours(2);

/// A command of a tool.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// The program.
    pub program: PathBuf,
    /// Its arguments; no secrets.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub environment: BTreeMap<String, OsString>,
    /// Where it runs.
    pub directory: PathBuf,
}

impl Invocation {
    /// The command as one would type it.
    pub fn shown(&self) -> String {
        let mut line = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for arg in &self.args {
            line.push(' ');
            line.push_str(&arg.to_string_lossy());
        }
        line
    }
}

/// What a command used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Seconds until the last of its processes ended.
    pub wall: f64,
    /// Seconds of processor time in user mode, all processes.
    pub user: f64,
    /// Seconds of processor time in the kernel, all processes.
    pub system: f64,
    /// Bytes of the largest process at its largest.
    pub process_peak: u64,
    /// Bytes of all processes together at the largest sample.
    pub tree_peak: u64,
}

impl Usage {
    /// Processor time in all.
    pub fn cpu(&self) -> f64 {
        self.user + self.system
    }

    /// Peak memory in bytes.
    pub fn peak(&self) -> u64 {
        self.process_peak.max(self.tree_peak)
    }
}

/// What the process around a command hands back.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    usage: Usage,
    /// How the command ended, in words, when not well.
    failure: Option<String>,
}

/// Runs a command; all that it prints goes to the end of `log`. `measurer` is this program.
pub fn run(measurer: &Path, invocation: &Invocation, log: &Path) -> Result<Usage, String> {
    let line = invocation.shown();
    let report = log.with_extension("usage");
    let _ = fs::remove_file(&report);
    let output = fs::OpenOptions::new().create(true).append(true).open(log);
    let output = output.map_err(|e| format!("cannot open {}: {e}", log.display()))?;
    {
        use std::io::Write as _;
        writeln!(&output, "$ {line}")
            .map_err(|e| format!("cannot write {}: {e}", log.display()))?;
    }
    let errors = output.try_clone().map_err(|e| format!("{}: {e}", log.display()))?;
    let status = Command::new(measurer)
        .args(["bench", "--measure"])
        .arg(&report)
        .arg("--")
        .arg(&invocation.program)
        .args(&invocation.args)
        .env_clear()
        .envs(&invocation.environment)
        .current_dir(&invocation.directory)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status()
        .map_err(|e| format!("cannot run {}: {e}", measurer.display()))?;
    let said = || tail(log);
    let text = fs::read_to_string(&report)
        .map_err(|e| format!("`{line}` was not measured ({status}; {e}):\n{}", said()))?;
    let outcome: Outcome = serde_json::from_str(&text)
        .map_err(|e| format!("`{line}`: {} is damaged: {e}", report.display()))?;
    let _ = fs::remove_file(&report);
    match outcome.failure {
        None => Ok(outcome.usage),
        Some(failure) => Err(format!("`{line}` failed: {failure}\n{}", said())),
    }
}

/// The last lines of a log, for error messages.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// The process around a command: `--measure REPORT -- PROGRAM ARGUMENT...`.
pub fn inside(args: &[String]) -> Result<(), String> {
    let [report, dashes, program, args @ ..] = args else {
        return Err("--measure REPORT -- PROGRAM [ARGUMENT]...".to_owned());
    };
    if dashes != "--" {
        return Err("--measure REPORT is followed by --".to_owned());
    }
    let outcome = watch(program, args)?;
    let text = serde_json::to_string(&outcome).map_err(|e| e.to_string())?;
    fs::write(report, text).map_err(|e| format!("cannot write {report}: {e}"))
}

fn watch(program: &str, args: &[String]) -> Result<Outcome, String> {
    nix::sys::prctl::set_child_subreaper(true).map_err(|e| format!("no subreaper: {e}"))?;
    let own = Pid::this();
    let begun = Instant::now();
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .spawn()
        .map_err(|e| format!("cannot run {program}: {e}"))?;
    let child = Pid::from_raw(i32::try_from(child.id()).map_err(|e| e.to_string())?);
    let done = AtomicBool::new(false);
    let (failure, tree_peak, late) = thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let (mut peak, mut late) = (0, false);
            while !done.load(Ordering::Acquire) {
                let family = descendants(own);
                peak = peak.max(family.iter().map(|pid| resident(*pid)).sum());
                if begun.elapsed() > LIMIT {
                    late = true;
                    for pid in family {
                        let _ = kill(pid, Signal::SIGKILL);
                    }
                }
                thread::sleep(SAMPLE);
            }
            (peak, late)
        });
        let failure = wait_for_all(child);
        done.store(true, Ordering::Release);
        let (peak, late) = sampler.join().unwrap_or_default();
        (failure, peak, late)
    });
    // The sampler's last nap is in the join above, not in the command: see `wait_for_all`.
    let (failure, ended) = failure?;
    let failure = if late { Some(format!("ended after {LIMIT:?}")) } else { failure };
    let children = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|e| format!("getrusage: {e}"))?;
    let seconds = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or_default())
            .as_secs_f64()
    };
    let usage = Usage {
        wall: ended.duration_since(begun).as_secs_f64(),
        user: seconds(children.user_time()),
        system: seconds(children.system_time()),
        // Linux counts KiB.
        process_peak: u64::try_from(children.max_rss()).unwrap_or_default() * 1024,
        tree_peak,
    };
    Ok(Outcome { usage, failure })
}

/// Waits for the command and whatever it left behind; how it ended when not well, and when the last
/// process did.
fn wait_for_all(child: Pid) -> Result<(Option<String>, Instant), String> {
    let mut failure = None;
    let mut ended = Instant::now();
    loop {
        match waitpid(None, None) {
            Ok(status) => {
                ended = Instant::now();
                if status.pid() == Some(child) {
                    failure = match status {
                        WaitStatus::Exited(_, 0) => None,
                        WaitStatus::Exited(_, code) => Some(format!("exit code {code}")),
                        WaitStatus::Signaled(_, signal, _) => Some(format!("signal {signal}")),
                        other => Some(format!("{other:?}")),
                    };
                }
            }
            Err(Errno::ECHILD) => return Ok((failure, ended)),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(format!("waitpid: {error}")),
        }
    }
}

/// All processes below one.
fn descendants(root: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        // Processes that end meanwhile are no longer there; that is no error.
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let Ok(children) = fs::read_to_string(thread.path().join("children")) else { continue };
            for child in children.split_whitespace().filter_map(|word| word.parse().ok()) {
                found.push(Pid::from_raw(child));
                open.push(Pid::from_raw(child));
            }
        }
    }
    found
}

/// Bytes of a process in memory.
fn resident(pid: Pid) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

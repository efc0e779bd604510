//! The commands of probes: run beside the application, with its rights and no others, for a time
//! and with an output that are bounded.
//!
//! A command is the first of a process group, and the group is killed when the command ends or its
//! time is over. What leaves its group on purpose ends with the PID namespace, that is with the
//! test, as everything that the application started.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::Tail;
use super::message::{Ids, Trouble};
use super::process::{Processes, drain, follow, launch, lock, of_the_copy};
use super::request::{ApplicationExit, IsolationRequest};
use crate::probe::{BODY_LIMIT, OUTPUT_LIMIT};

/// How long a command that was killed may take to be gone: the kernel's time, not its own.
const GRACE: Duration = Duration::from_secs(5);

/// What became of a command.
pub(crate) struct Ran {
    pub(crate) end: End,
    /// The first [`BODY_LIMIT`] bytes of its standard output.
    pub(crate) stdout: Vec<u8>,
    /// Whether there was more.
    pub(crate) cut: bool,
    /// The last [`OUTPUT_LIMIT`] bytes of standard output and error together.
    pub(crate) tail: String,
    /// The last line of these that says something.
    pub(crate) last_line: Option<String>,
}

/// How a command ended.
pub(crate) enum End {
    /// By itself, or by a signal.
    Exited(ApplicationExit),
    /// Not within its time.
    Killed,
    /// It never ran, and that is the copy's fault.
    NotStarted(String),
}

struct Written {
    stdout: Vec<u8>,
    cut: bool,
    tail: Tail,
}

impl Written {
    fn into_ran(self, end: End) -> Ran {
        let Self { stdout, cut, tail } = self;
        Ran { end, stdout, cut, tail: tail.text(), last_line: tail.last_line() }
    }
}

/// Runs commands of probes.
pub(super) struct Commands<'a> {
    pub(super) processes: &'a Processes,
    pub(super) request: &'a IsolationRequest,
    pub(super) ids: Ids,
}

impl Commands<'_> {
    /// Runs a command for `limit` at most, with the application's own variables. When this
    /// returns, neither the command nor anything else in its process group is left.
    pub(super) fn run(&self, command: &[String], limit: Duration) -> Result<Ran, Trouble> {
        let none = BTreeMap::new();
        let variables = self.request.service.as_ref().map_or(&none, |s| &s.environment);
        let written = Written { stdout: Vec::new(), cut: false, tail: Tail::new(OUTPUT_LIMIT) };
        let launch = launch(command, variables, &self.request.token, self.ids);
        let started = match self.processes.start(launch)? {
            Ok(started) => started,
            Err(not_started) => {
                let why = of_the_copy("the command of a probe", command, variables, not_started)?;
                return Ok(written.into_ran(End::NotStarted(why)));
            }
        };
        let written = Arc::new(Mutex::new(written));
        let (out, err) = (Arc::clone(&written), Arc::clone(&written));
        let readers = [
            follow(started.stdout, move |bytes| {
                let mut written = lock(&out);
                let room = BODY_LIMIT - written.stdout.len();
                written.cut |= bytes.len() > room;
                written.stdout.extend(&bytes[..bytes.len().min(room)]);
                written.tail.push(bytes);
            }),
            follow(started.stderr, move |bytes| lock(&err).tail.push(bytes)),
        ];
        let pid = started.pid;
        let exit = self.processes.wait_for(limit, |state| state.exit(pid).cloned());
        if let Ok(group) = i32::try_from(pid) {
            // An error says that nobody of the group is left.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        if exit.is_none() {
            self.processes.wait_for(GRACE, |state| state.exit(pid).map(drop));
        }
        self.processes.forget(pid);
        drain(&readers);
        let written = std::mem::replace(
            &mut *lock(&written),
            Written { stdout: Vec::new(), cut: false, tail: Tail::new(0) },
        );
        Ok(written.into_ran(exit.map_or(End::Killed, End::Exited)))
    }
}

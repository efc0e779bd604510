//! The processes inside: starting one with the application's rights, and seeing off every one that
//! ends.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, ChildStdout, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::message::{FirstLine, Handshake, Ids, Launch, Trouble, read_line, write_line};
use super::outer::next_stage;
use super::request::ApplicationExit;
use super::{COPY, TOKEN_VARIABLE, idmap};

/// Where programs are looked up unless the service says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All processes inside. Each is a child of this one or becomes it when its parent ends, for this
/// is the first process of the PID namespace; without somebody who waits for them the dead would
/// stay as zombies.
#[derive(Clone, Default)]
pub(super) struct Processes {
    shared: Arc<(Mutex<State>, Condvar)>,
}

/// What is known of them.
#[derive(Default)]
pub(super) struct State {
    /// How those ended that somebody asks about; `None` while they run.
    watched: BTreeMap<u32, Option<ApplicationExit>>,
    /// One was started since the last look for any.
    fresh: bool,
    /// Not one process is left.
    pub(super) gone: bool,
}

impl State {
    /// How a process ended, if it did.
    pub(super) fn exit(&self, pid: u32) -> Option<&ApplicationExit> {
        self.watched.get(&pid)?.as_ref()
    }
}

/// A program that runs.
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) since: Instant,
    pub(super) stdout: Option<ChildStdout>,
    pub(super) stderr: Option<ChildStderr>,
}

/// A program could not be started.
pub(super) struct NotStarted {
    pub(super) message: String,
    pub(super) errno: Errno,
}

impl Processes {
    /// Begins to wait for the dead, on a thread.
    pub(super) fn new() -> Self {
        let processes = Self::default();
        let reaper = processes.clone();
        std::thread::spawn(move || reaper.reap());
        processes
    }

    fn reap(&self) {
        loop {
            match waitpid(None, None) {
                Ok(WaitStatus::Exited(pid, code)) => {
                    self.ended(pid, ApplicationExit { code: Some(code), signal: None });
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    let signal = Some(signal.as_str().to_owned());
                    self.ended(pid, ApplicationExit { code: None, signal });
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => self.rest(),
            }
        }
    }

    fn ended(&self, pid: Pid, exit: ApplicationExit) {
        let (state, changed) = &*self.shared;
        let Ok(pid) = u32::try_from(pid.as_raw()) else { return };
        if let Some(entry) = lock(state).watched.get_mut(&pid) {
            *entry = Some(exit);
        }
        changed.notify_all();
    }

    /// No child is left, and none can come but from [`Self::start`]: waits for one.
    fn rest(&self) {
        let (state, changed) = &*self.shared;
        let mut state = lock(state);
        // Started between the look and now: look again.
        if !state.fresh {
            state.gone = true;
            changed.notify_all();
            state = changed
                .wait_while(state, |state| !state.fresh)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.fresh = false;
    }

    /// Waits at most as long as told for something to be so.
    pub(super) fn wait_for<T>(
        &self,
        wait: Duration,
        found: impl Fn(&State) -> Option<T>,
    ) -> Option<T> {
        let (state, changed) = &*self.shared;
        let (state, _) = changed
            .wait_timeout_while(lock(state), wait, |state| found(state).is_none())
            .unwrap_or_else(PoisonError::into_inner);
        found(&state)
    }

    /// Asks no more about a process.
    pub(super) fn forget(&self, pid: u32) {
        lock(&self.shared.0).watched.remove(&pid);
    }

    /// Starts a program with the rights of the application, and watches it. The inner error is
    /// that of the program, the outer one the host's.
    pub(super) fn start(&self, launch: Launch) -> Result<Result<Started, NotStarted>, Trouble> {
        let ids = launch.ids;
        let talk = Trouble::step("talking to the application's launcher");
        let (mut control, theirs) = UnixStream::pair().map_err(&talk)?;
        let mut child = {
            // Nobody may see it end before it is watched.
            let (state, changed) = &*self.shared;
            let mut state = lock(state);
            let child = next_stage(OwnedFd::from(theirs))
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(Trouble::step("starting the application's launcher"))?;
            state.watched.insert(child.id(), None);
            (state.fresh, state.gone) = (true, false);
            changed.notify_all();
            child
        };
        write_line(&mut control, &FirstLine::Launch(launch)).map_err(&talk)?;
        match read_line(&mut control).map_err(&talk)? {
            Handshake::Unshared => {}
            Handshake::Broken(trouble) => return Err(trouble),
            other => return Err(Trouble::Helper(format!("unexpected {other:?}."))),
        }
        let root = Ids { uid: 0, gid: 0, ..ids };
        idmap::map(child.id(), ids, root, ids)?;
        let since = Instant::now();
        write_line(&mut control, &Handshake::Mapped).map_err(&talk)?;
        match read_line(&mut control) {
            // The channel was closed by the exec.
            Err(_) => {}
            Ok(Handshake::NotStarted { message, errno }) => {
                self.forget(child.id());
                return Ok(Err(NotStarted { message, errno: Errno::from_raw(errno) }));
            }
            Ok(Handshake::Broken(trouble)) => return Err(trouble),
            Ok(other) => return Err(Trouble::Helper(format!("unexpected {other:?}."))),
        }
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Ok(Ok(Started { pid: child.id(), since, stdout, stderr }))
    }
}

/// A command as stage 4 takes it: in the copy, with `variables` added to a clean environment.
pub(super) fn launch(
    command: &[String],
    variables: &BTreeMap<String, String>,
    token: &str,
    ids: Ids,
) -> Launch {
    let (program, args) =
        command.split_first().map_or(("", [].as_slice()), |(p, a)| (p.as_str(), a));
    // A program with a slash is the copy's own, unless absolute.
    let program = if program.contains('/') && !program.starts_with('/') {
        format!("{COPY}/{}", program.trim_start_matches("./"))
    } else {
        program.to_owned()
    };
    let mut environment: Vec<(String, String)> =
        [("PATH", PATH), ("HOME", COPY), ("LANG", "C.UTF-8"), ("PROVAULT_COPY", COPY)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
    environment.extend(variables.clone());
    environment.push((TOKEN_VARIABLE.to_owned(), token.to_owned()));
    Launch { program, args: args.to_vec(), environment, ids }
}

/// Whether it is the copy's fault that the program of a command could not be started; `what` it
/// was to be, such as `the application`.
pub(super) fn of_the_copy(
    what: &str,
    command: &[String],
    variables: &BTreeMap<String, String>,
    NotStarted { message, errno }: NotStarted,
) -> Result<String, Trouble> {
    let from_path = command.first().is_some_and(|program| !program.contains('/'))
        && !variables.contains_key("PATH");
    let step = format!("starting {what}");
    match errno {
        Errno::ENOENT if from_path => Err(Trouble::Isolation {
            step,
            message: format!(
                "{message}; it is looked up in PATH, so install it on this host, or name a \
                 program of the copy with a '/' in it."
            ),
        }),
        Errno::ENOENT
        | Errno::EACCES
        | Errno::EPERM
        | Errno::ENOEXEC
        | Errno::ENOTDIR
        | Errno::EISDIR
        | Errno::ELOOP
        | Errno::ENAMETOOLONG
        | Errno::EINVAL
        | Errno::ELIBBAD => Ok(message),
        _ => Err(Trouble::Isolation { step, message }),
    }
}

/// Reads a stream to its end on a thread, a piece at a time, and hands on every piece.
pub(super) fn follow(
    from: Option<impl Read + Send + 'static>,
    mut take: impl FnMut(&[u8]) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let Some(mut from) = from else { return };
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            take(&buffer[..n]);
        }
    })
}

/// Gives what was written a moment to arrive. A pipe closes with the last process that holds it;
/// one that went to the background may hold it on.
pub(super) fn drain(readers: &[JoinHandle<()>]) {
    let until = Instant::now() + Duration::from_millis(500);
    while !readers.iter().all(JoinHandle::is_finished) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
}

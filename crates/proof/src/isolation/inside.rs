//! Stage 3: the first process inside. Builds the rest of the isolation, starts the application,
//! asks the probes, reports. Its end is the end of everything in the namespace.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, ChildStdout, ExitCode, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::sethostname;
use provault_domain::ServiceSpec;

use super::message::{
    Event, FirstLine, Handshake, Ids, Inside, Launch, Trouble, read_line, report, write_line,
};
use super::outer::{next_stage, peer};
use super::request::{ApplicationExit, IsolationRequest};
use super::{COPY, LOG_TAIL, TOKEN_VARIABLE, Tail, idmap, loopback, mounts, unanswered};
use crate::probe::{Asking, CaptureSpan};

/// Where programs are looked up unless the service says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn run(inside: &Inside) -> ExitCode {
    let last = match attempt(inside) {
        Ok(()) => Event::Finished,
        Err(trouble) => Event::Broken(trouble),
    };
    report(&last);
    // Takes every other thread, and every process inside, along.
    std::process::exit(0)
}

fn attempt(Inside { request, ids }: &Inside) -> Result<(), Trouble> {
    let control = peer()?;
    // Should stage 2 have died before this line, the control channel tells.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(Trouble::errno("tying to the second stage"))?;
    sethostname("provault-test").map_err(Trouble::errno("setting the host name"))?;
    loopback::raise().map_err(Trouble::step("raising loopback"))?;
    let notes = mounts::build(request)?;
    // The application may be the same user. Its own user namespace keeps it from looking into
    // this process already; this is the second lock.
    prctl::set_dumpable(false).map_err(Trouble::errno("locking /proc/1"))?;
    watch(control);
    let Some(service) = &request.service else {
        report(&Event::Isolated { notes });
        return Ok(());
    };
    report(&Event::Isolated { notes });
    match Application::start(service, request, *ids)? {
        Ok(application) => {
            report(&Event::Started);
            application.ask(request, service);
        }
        Err(not_started) => {
            for probe in request.probes.iter().filter(|probe| probe.needs_service()) {
                let detail = format!("the application did not start: {not_started}.");
                report(&Event::Answer(unanswered(probe.label(), detail, 0)));
            }
        }
    }
    Ok(())
}

/// Ends everything when stage 1 lets go of the control channel.
fn watch(mut control: UnixStream) {
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok(1..) = control.read(&mut buffer) {}
        std::process::exit(1);
    });
}

/// What is known of the application's processes.
#[derive(Default)]
struct State {
    exit: Option<ApplicationExit>,
    /// Not one process is left.
    gone: bool,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

struct Application {
    since: Instant,
    state: Shared,
    log: Arc<Mutex<Tail>>,
    readers: [JoinHandle<()>; 2],
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Application {
    /// Starts it. The inner error is the copy's, the outer one the host's.
    fn start(
        service: &ServiceSpec,
        request: &IsolationRequest,
        ids: Ids,
    ) -> Result<Result<Self, String>, Trouble> {
        let talk = Trouble::step("talking to the application's launcher");
        let (mut control, theirs) = UnixStream::pair().map_err(&talk)?;
        let mut child = next_stage(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Trouble::step("starting the application's launcher"))?;
        write_line(&mut control, &FirstLine::Launch(launch(service, request, ids)))
            .map_err(&talk)?;
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
                return of_the_copy(service, Errno::from_raw(errno), message).map(Err);
            }
            Ok(Handshake::Broken(trouble)) => return Err(trouble),
            Ok(other) => return Err(Trouble::Helper(format!("unexpected {other:?}."))),
        }
        let log = Arc::new(Mutex::new(Tail::new(LOG_TAIL)));
        let readers = read_log(child.stdout.take(), child.stderr.take(), &log);
        let state = Shared::default();
        reap(child.id(), Arc::clone(&state));
        Ok(Ok(Self { since, state, log, readers }))
    }

    fn ask(self, request: &IsolationRequest, service: &ServiceSpec) {
        let overall = self.since + request.overall_limit();
        let start = self.since + Duration::from_secs(service.start_timeout_seconds);
        let mut asking = Asking {
            since: self.since,
            deadline: start.min(overall),
            settle: Duration::from_millis(request.settle_millis),
            settled: None,
            captured: CaptureSpan { from: request.captured_at, until: request.captured_until },
            ended: &|wait| self.ended(wait),
        };
        for probe in request.probes.iter().filter(|probe| probe.needs_service()) {
            report(&Event::Answer(asking.ask(probe)));
        }
        let exit = lock(&self.state.0).exit.clone();
        if exit.is_some() {
            self.drain();
        }
        let tail = lock(&self.log).text();
        report(&Event::Log { tail });
        if let Some(exit) = exit {
            report(&Event::Exited(exit));
        }
    }

    /// Waits as long as told; says how the application ended if it did. One whose first process
    /// exits with success and leaves others running has gone to the background.
    fn ended(&self, wait: Duration) -> Option<String> {
        let (state, changed) = &*self.state;
        let is_over = |state: &State| {
            state.gone || state.exit.as_ref().is_some_and(|exit| exit.code != Some(0))
        };
        let guard = lock(state);
        let (guard, _) = changed
            .wait_timeout_while(guard, wait, |state| !is_over(state))
            .unwrap_or_else(PoisonError::into_inner);
        if !is_over(&guard) {
            return None;
        }
        let how = match &guard.exit {
            Some(ApplicationExit { code: Some(code), .. }) => format!("exited with status {code}"),
            Some(ApplicationExit { signal: Some(signal), .. }) => {
                format!("was ended by {signal}")
            }
            _ => "ended".to_owned(),
        };
        drop(guard);
        self.drain();
        let last = lock(&self.log)
            .last_line()
            .map_or_else(|| "it wrote nothing".to_owned(), |line| format!("it last wrote: {line}"));
        Some(format!("the application {how}; {last}"))
    }

    /// Gives the log a moment to arrive. The pipes close with the last process that holds them;
    /// one that went to the background may hold them on.
    fn drain(&self) {
        let until = Instant::now() + Duration::from_millis(500);
        while !self.readers.iter().all(JoinHandle::is_finished) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn launch(service: &ServiceSpec, request: &IsolationRequest, ids: Ids) -> Launch {
    let (program, args) =
        service.command.split_first().map_or(("", [].as_slice()), |(p, a)| (p.as_str(), a));
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
    environment.extend(service.environment.clone());
    environment.push((TOKEN_VARIABLE.to_owned(), request.token.clone()));
    Launch { program, args: args.to_vec(), environment, ids }
}

/// Whether it is the copy's fault that the program could not be started.
fn of_the_copy(service: &ServiceSpec, errno: Errno, message: String) -> Result<String, Trouble> {
    let from_path = service.command.first().is_some_and(|program| !program.contains('/'))
        && !service.environment.contains_key("PATH");
    match errno {
        Errno::ENOENT if from_path => Err(Trouble::Isolation {
            step: "starting the application".to_owned(),
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
        _ => Err(Trouble::Isolation { step: "starting the application".to_owned(), message }),
    }
}

fn read_log(
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    log: &Arc<Mutex<Tail>>,
) -> [JoinHandle<()>; 2] {
    fn follow(from: Option<impl Read + Send + 'static>, log: Arc<Mutex<Tail>>) -> JoinHandle<()> {
        std::thread::spawn(move || {
            let Some(mut from) = from else { return };
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                lock(&log).push(&buffer[..n]);
            }
        })
    }
    [follow(stdout, Arc::clone(log)), follow(stderr, Arc::clone(log))]
}

/// Waits for every process that dies inside: the first process of a PID namespace inherits all
/// orphans, and without this they would stay as zombies.
fn reap(application: u32, shared: Shared) {
    std::thread::spawn(move || {
        let (state, changed) = &*shared;
        let is_application =
            |pid: nix::unistd::Pid| u32::try_from(pid.as_raw()).is_ok_and(|pid| pid == application);
        loop {
            match waitpid(None, None) {
                Ok(WaitStatus::Exited(pid, code)) if is_application(pid) => {
                    lock(state).exit = Some(ApplicationExit { code: Some(code), signal: None });
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if is_application(pid) => {
                    let signal = Some(signal.as_str().to_owned());
                    lock(state).exit = Some(ApplicationExit { code: None, signal });
                }
                Ok(_) | Err(Errno::EINTR) => {}
                // No child is left, and none can come: only we start any.
                Err(_) => {
                    lock(state).gone = true;
                    changed.notify_all();
                    return;
                }
            }
            changed.notify_all();
        }
    });
}

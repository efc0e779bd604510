//! Stage 3: the first process inside. Builds the rest of the isolation, starts the application,
//! asks the probes, reports. Its end is the end of everything in the namespace.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::sethostname;
use provault_domain::{Probe, ServiceSpec};

use super::command::Commands;
use super::message::{Event, Ids, Inside, Trouble, report};
use super::outer::peer;
use super::process::{Processes, drain, follow, launch, lock, of_the_copy};
use super::request::{ApplicationExit, IsolationRequest};
use super::{LOG_TAIL, Tail, loopback, mounts, unanswered};
use crate::probe::{Asking, CaptureSpan};

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
    report(&Event::Isolated { notes });
    let probes: Vec<&Probe> =
        request.probes.iter().filter(|probe| probe.needs_isolation()).collect();
    let processes = Processes::new();
    let commands = Commands { processes: &processes, request, ids: *ids };
    let Some(service) = &request.service else { return ask_the_copy(&commands, &probes) };
    match Application::start(service, request, *ids, &processes)? {
        Ok(application) => {
            report(&Event::Started);
            application.ask(&commands, &probes, service)?;
        }
        Err(not_started) => {
            for probe in probes {
                let detail = format!("the application did not start: {not_started}.");
                report(&Event::Answer(unanswered(probe.label(), detail, 0)));
            }
        }
    }
    Ok(())
}

/// Asks where there is no application. Nothing changes the copy, so no answer becomes another one.
fn ask_the_copy(commands: &Commands<'_>, probes: &[&Probe]) -> Result<(), Trouble> {
    let now = Instant::now();
    let mut asking = Asking {
        since: now,
        deadline: now,
        overall: now + commands.request.overall_limit(),
        settle: Duration::ZERO,
        settled: None,
        captured: captured(commands.request),
        ended: &|_| None,
        run: &|command, limit| commands.run(command, limit),
    };
    for probe in probes {
        report(&Event::Answer(asking.ask(probe)?));
    }
    Ok(())
}

fn captured(request: &IsolationRequest) -> CaptureSpan {
    CaptureSpan { from: request.captured_at, until: request.captured_until }
}

/// Ends everything when stage 1 lets go of the control channel.
fn watch(mut control: UnixStream) {
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok(1..) = control.read(&mut buffer) {}
        std::process::exit(1);
    });
}

struct Application {
    since: Instant,
    pid: u32,
    processes: Processes,
    log: Arc<Mutex<Tail>>,
    readers: [JoinHandle<()>; 2],
}

impl Application {
    /// Starts it. The inner error is the copy's, the outer one the host's.
    fn start(
        service: &ServiceSpec,
        request: &IsolationRequest,
        ids: Ids,
        processes: &Processes,
    ) -> Result<Result<Self, String>, Trouble> {
        let ServiceSpec { command, environment, .. } = service;
        let started = match processes.start(launch(command, environment, &request.token, ids))? {
            Ok(started) => started,
            Err(not_started) => {
                return of_the_copy("the application", command, environment, not_started).map(Err);
            }
        };
        let log = Arc::new(Mutex::new(Tail::new(LOG_TAIL)));
        let (out, err) = (Arc::clone(&log), Arc::clone(&log));
        let readers = [
            follow(started.stdout, move |bytes| lock(&out).push(bytes)),
            follow(started.stderr, move |bytes| lock(&err).push(bytes)),
        ];
        let (since, pid, processes) = (started.since, started.pid, processes.clone());
        Ok(Ok(Self { since, pid, processes, log, readers }))
    }

    fn ask(
        self,
        commands: &Commands<'_>,
        probes: &[&Probe],
        service: &ServiceSpec,
    ) -> Result<(), Trouble> {
        let request = commands.request;
        let overall = self.since + request.overall_limit();
        let start = self.since + Duration::from_secs(service.start_timeout_seconds);
        let mut asking = Asking {
            since: self.since,
            deadline: start.min(overall),
            overall,
            settle: Duration::from_millis(request.settle_millis),
            settled: None,
            captured: captured(request),
            ended: &|wait| self.ended(wait),
            run: &|command, limit| commands.run(command, limit),
        };
        for probe in probes {
            report(&Event::Answer(asking.ask(probe)?));
        }
        let exit = self.processes.wait_for(Duration::ZERO, |state| state.exit(self.pid).cloned());
        if exit.is_some() {
            drain(&self.readers);
        }
        let tail = lock(&self.log).text();
        report(&Event::Log { tail });
        if let Some(exit) = exit {
            report(&Event::Exited(exit));
        }
        Ok(())
    }

    /// Waits as long as told; says how the application ended if it did. One whose first process
    /// exits with success and leaves others running has gone to the background.
    fn ended(&self, wait: Duration) -> Option<String> {
        let exit = self.processes.wait_for(wait, |state| {
            let exit = state.exit(self.pid);
            let is_over = state.gone || exit.is_some_and(|exit| exit.code != Some(0));
            is_over.then(|| exit.cloned())
        })?;
        let how = match exit {
            Some(ApplicationExit { code: Some(code), .. }) => format!("exited with status {code}"),
            Some(ApplicationExit { signal: Some(signal), .. }) => {
                format!("was ended by {signal}")
            }
            _ => "ended".to_owned(),
        };
        drain(&self.readers);
        let last = lock(&self.log)
            .last_line()
            .map_or_else(|| "it wrote nothing".to_owned(), |line| format!("it last wrote: {line}"));
        Some(format!("the application {how}; {last}"))
    }
}

//! Stage 1, on the host: holds the life line and maps the ids of stage 2.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use nix::unistd::{getegid, geteuid, setsid};

use super::idmap;
use super::message::{
    self, Event, FirstLine, Handshake, Ids, Inside, Trouble, read_line, report, write_line,
};
use super::request::IsolationRequest;

/// How long everything inside may take to be gone once the life line is cut.
const GRACE: Duration = Duration::from_secs(5);

pub(super) fn run(request: IsolationRequest) -> ExitCode {
    match attempt(request) {
        Ok(code) => code,
        Err(trouble) => {
            report(&Event::Broken(trouble));
            ExitCode::FAILURE
        }
    }
}

fn attempt(request: IsolationRequest) -> Result<ExitCode, Trouble> {
    close_inherited();
    // Away from the caller's terminal: nobody inside may type into it. Fails only for a process
    // that leads a group already, which one just started does not.
    let _ = setsid();
    let ids = Ids { uid: geteuid().as_raw(), gid: getegid().as_raw(), all: geteuid().is_root() };
    let (mut control, theirs) =
        UnixStream::pair().map_err(Trouble::step("making a control channel"))?;
    let mut child = next_stage(OwnedFd::from(theirs))
        .stdout(Stdio::inherit())
        .spawn()
        .map_err(Trouble::step("starting the second stage"))?;
    if let Err(trouble) = hand_over(&mut control, &child, request, ids) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(trouble);
    }
    watch_lifeline(control)?;
    let status = child.wait().map_err(Trouble::step("waiting for the second stage"))?;
    Ok(ExitCode::from(u8::from(!status.success())))
}

/// Our own executable again, with our own arguments.
pub(super) fn next_stage(input: impl Into<Stdio>) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(std::env::args_os().skip(1)).stdin(input);
    command
}

fn hand_over(
    control: &mut UnixStream,
    child: &Child,
    request: IsolationRequest,
    ids: Ids,
) -> Result<(), Trouble> {
    let talk = Trouble::step("talking to the second stage");
    write_line(control, &FirstLine::Enter(ids)).map_err(&talk)?;
    match read_line(control).map_err(&talk)? {
        Handshake::Unshared => {}
        Handshake::Broken(trouble) => return Err(trouble),
        other => return Err(Trouble::Helper(format!("unexpected {other:?}."))),
    }
    // Inside, whoever is not root is called root until the application is started: only root
    // keeps its rights over the namespaces across an exec.
    let root = Ids { uid: 0, gid: 0, ..ids };
    idmap::map(child.id(), ids, ids, root)?;
    write_line(control, &Handshake::Mapped).map_err(&talk)?;
    let inside = FirstLine::Inside(Box::new(Inside { request, ids }));
    // The second stage may have given up already and said why on the caller's pipe.
    let _ = write_line(control, &inside);
    Ok(())
}

/// Waits, on a thread, for the end of the life line and cuts the control channel then, which
/// ends the first process inside and with it everything there.
fn watch_lifeline(control: UnixStream) -> Result<(), Trouble> {
    let mut lifeline =
        File::from(message::input().map_err(Trouble::step("holding on to the life line"))?);
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok(1..) = lifeline.read(&mut buffer) {}
        drop(control);
        std::thread::sleep(GRACE);
        // Stuck. Our own end kills the second stage, and so on inwards.
        std::process::exit(1);
    });
    Ok(())
}

/// Closes every descriptor but the standard three: one that the caller forgot to mark would be a
/// way out of the isolation.
fn close_inherited() {
    let Ok(list) = fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> = list
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        // The listing's own descriptor is closed by now and answers EBADF.
        let _ = nix::unistd::close(fd);
    }
}

/// For stages that have a peer on standard input.
pub(super) fn peer() -> Result<UnixStream, Trouble> {
    let input = message::input().map_err(Trouble::step("opening the control channel"))?;
    Ok(UnixStream::from(input))
}

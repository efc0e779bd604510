//! Stage 2: makes the namespaces.

use std::os::unix::net::UnixStream;
use std::process::{ExitCode, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::setgroups;

use super::message::{Event, Handshake, Ids, Trouble, read_line, report, write_line};
use super::outer::{next_stage, peer};

pub(super) fn run(ids: &Ids) -> ExitCode {
    let mut control = match peer() {
        Ok(control) => control,
        Err(trouble) => {
            report(&Event::Broken(trouble));
            return ExitCode::FAILURE;
        }
    };
    if let Err(trouble) = user_namespace(&mut control) {
        // Stage 1 is waiting for our word and passes it on.
        let _ = write_line(&mut control, &Handshake::Broken(trouble));
        return ExitCode::FAILURE;
    }
    match namespaces(*ids) {
        Ok(code) => code,
        Err(trouble) => {
            report(&Event::Broken(trouble));
            ExitCode::FAILURE
        }
    }
}

fn user_namespace(control: &mut UnixStream) -> Result<(), Trouble> {
    unshare(CloneFlags::CLONE_NEWUSER).map_err(Trouble::namespace("making a user namespace"))?;
    let talk = Trouble::step("waiting for the id maps");
    write_line(control, &Handshake::Unshared).map_err(&talk)?;
    match read_line(control).map_err(&talk)? {
        Handshake::Mapped => Ok(()),
        other => Err(Trouble::Helper(format!("unexpected {other:?}."))),
    }
}

fn namespaces(ids: Ids) -> Result<ExitCode, Trouble> {
    // After the change of user namespace, which would clear it. Should stage 1 have died before
    // this line, the control channel is at its end and stage 3 ends at once.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(Trouble::errno("tying to the first stage"))?;
    if ids.all {
        setgroups(&[]).map_err(Trouble::errno("dropping supplementary groups"))?;
    }
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .map_err(Trouble::namespace("making mount, network, PID, IPC, UTS and cgroup namespaces"))?;
    // The next child is the first process of the PID namespace. It goes on reading the control
    // channel where we stopped.
    let mut inside = next_stage(Stdio::inherit())
        .stdout(Stdio::inherit())
        .spawn()
        .map_err(Trouble::step("starting the first process inside"))?;
    let status = inside.wait().map_err(Trouble::step("waiting for the first process inside"))?;
    Ok(ExitCode::from(u8::from(!status.success())))
}

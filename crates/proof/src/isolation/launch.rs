//! Stage 4: becomes the application, or the command of a probe.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::unistd::{dup2_stdin, setgroups, setsid};

use super::COPY;
use super::message::{Handshake, Launch, Trouble, read_line, write_line};
use super::outer::peer;

pub(super) fn run(launch: Launch) -> ExitCode {
    // Closed by a successful exec, which tells the peer that the application was started.
    let Ok(mut control) = peer() else { return ExitCode::FAILURE };
    let word = match prepare(&mut control, &launch) {
        Ok(()) => become_program(launch),
        Err(trouble) => Handshake::Broken(trouble),
    };
    let _ = write_line(&mut control, &word);
    ExitCode::FAILURE
}

fn prepare(control: &mut UnixStream, launch: &Launch) -> Result<(), Trouble> {
    unshare(CloneFlags::CLONE_NEWUSER)
        .map_err(Trouble::namespace("making the application's user namespace"))?;
    let talk = Trouble::step("waiting for the id maps");
    write_line(control, &Handshake::Unshared).map_err(&talk)?;
    match read_line(control).map_err(&talk)? {
        Handshake::Mapped => {}
        other => return Err(Trouble::Helper(format!("unexpected {other:?}."))),
    }
    if launch.ids.all {
        setgroups(&[]).map_err(Trouble::errno("dropping supplementary groups"))?;
    }
    // A signal to its own group, as `kill 0` of a shell, must not reach the stages before this one.
    setsid().map_err(Trouble::errno("beginning a session"))?;
    prctl::set_no_new_privs().map_err(Trouble::errno("giving up new privileges"))?;
    let null = File::open("/dev/null").map_err(Trouble::step("opening /dev/null"))?;
    dup2_stdin(null).map_err(Trouble::errno("closing standard input"))
}

/// Comes back only when it could not be done.
fn become_program(launch: Launch) -> Handshake {
    if let Some(error) = no_program(&launch.program) {
        return not_started(&launch.program, &error);
    }
    let error = Command::new(&launch.program)
        .args(&launch.args)
        .env_clear()
        .envs(launch.environment)
        .current_dir(COPY)
        .exec();
    not_started(&launch.program, &error)
}

/// What the standard library would have a shell read. To that an empty file is a script that succeeds,
/// such as a check whose content the backup lost.
fn no_program(program: &str) -> Option<io::Error> {
    let mut begin = Vec::new();
    // What cannot be read the system itself refuses, or runs.
    let file = File::open(program).ok().filter(|_| program.contains('/'))?;
    file.take(4).read_to_end(&mut begin).ok()?;
    let known = begin.starts_with(b"#!") || begin == b"\x7fELF";
    (!known).then(|| Errno::ENOEXEC.into())
}

fn not_started(program: &str, error: &io::Error) -> Handshake {
    let hint = match error.kind() {
        io::ErrorKind::NotFound
            if program.contains('/') && std::fs::symlink_metadata(program).is_ok() =>
        {
            " (the interpreter or loader it names is missing)"
        }
        io::ErrorKind::NotFound if program.starts_with('/') && !program.starts_with(COPY) => {
            " (nothing of the host but its system programs is there; name the program relative \
             to the copy)"
        }
        _ if error.raw_os_error() == Some(Errno::ENOEXEC as i32) => {
            " (it is neither a program of this machine nor a script whose first line begins with #!)"
        }
        _ => "",
    };
    let shown = program.strip_prefix(COPY).map_or(program, |rest| rest.trim_start_matches('/'));
    Handshake::NotStarted {
        message: format!("{shown} could not be started: {error}{hint}"),
        errno: error.raw_os_error().unwrap_or(0),
    }
}

//! What the stages say to each other: JSON, one line a message.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use provault_domain::verdict::ProbeResult;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::request::{ApplicationExit, IsolationRequest};
use crate::ProofError;

/// The longest line taken. A request is a few paths and probes.
const LONGEST: usize = 4 << 20;

/// The first line of a stage's input.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FirstLine {
    /// Stage 1.
    Outer(IsolationRequest),
    /// Stage 2.
    Enter(Ids),
    /// Stage 3.
    Inside(Box<Inside>),
    /// Stage 4.
    Launch(Launch),
}

/// Who runs the helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ids {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Whether every id is mapped to itself, which only root may do.
    pub(super) all: bool,
}

/// What stage 3 has to know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Inside {
    pub(super) request: IsolationRequest,
    pub(super) ids: Ids,
}

/// What stage 4 becomes: the application, or the command of a probe.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) program: String,
    pub(super) args: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) ids: Ids,
}

/// Between a stage that enters a user namespace and the one that writes its id maps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Handshake {
    /// The namespace is there.
    Unshared,
    /// Its ids are mapped.
    Mapped,
    /// It could not be done.
    Broken(Trouble),
    /// The application could not be started.
    NotStarted {
        message: String,
        /// The system's error number.
        errno: i32,
    },
}

/// What the helper reports to the caller.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Event {
    /// The isolation stands.
    Isolated { notes: Vec<String> },
    /// The application was started.
    Started,
    /// A probe was answered, or will not be.
    Answer(ProbeResult),
    /// The application ended by itself.
    Exited(ApplicationExit),
    /// What the application wrote last.
    Log { tail: String },
    /// Every probe was asked.
    Finished,
    /// The test cannot be done.
    Broken(Trouble),
}

/// [`ProofError`] as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Trouble {
    Unsupported { what: String },
    Isolation { step: String, message: String },
    CannotHide { path: String },
    Helper(String),
}

impl Trouble {
    /// A step that the system refused. What is forbidden or unknown is the host's nature, not an
    /// accident.
    pub(super) fn step(step: &str) -> impl Fn(io::Error) -> Self + use<> {
        let step = step.to_owned();
        move |error| match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => {
                Self::Unsupported { what: format!("{step}: {error}") }
            }
            _ => Self::Isolation { step: step.clone(), message: error.to_string() },
        }
    }

    /// A namespace could not be made. Whatever the number of the error (forbidden, none left,
    /// unknown to the kernel), it is this host that does not let us.
    pub(super) fn namespace(step: &str) -> impl Fn(nix::errno::Errno) -> Self + use<> {
        let step = step.to_owned();
        move |errno| Self::Unsupported { what: format!("{step}: {}", errno.desc()) }
    }

    /// [`Trouble::step`] for answers of the `nix` crate.
    pub(super) fn errno(step: &str) -> impl Fn(nix::errno::Errno) -> Self + use<> {
        let of = Self::step(step);
        move |errno| of(io::Error::from(errno))
    }
}

impl From<Trouble> for ProofError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Unsupported { what } => Self::Unsupported { what, advice: advice() },
            Trouble::Isolation { step, message } => Self::Isolation { step, message },
            Trouble::CannotHide { path } => Self::CannotHide { path: PathBuf::from(path) },
            Trouble::Helper(message) => Self::Helper(message),
        }
    }
}

/// What an operator can do, with a look at the switches that this host has.
fn advice() -> String {
    let is = |path: &str, value: &str| {
        std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
    };
    let mut ways = Vec::new();
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        ways.push("set sysctl kernel.unprivileged_userns_clone=1");
    }
    if is("/proc/sys/user/max_user_namespaces", "0") {
        ways.push("set sysctl user.max_user_namespaces above 0");
    }
    if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        ways.push(
            "give provault an AppArmor profile with 'userns', or set sysctl \
             kernel.apparmor_restrict_unprivileged_userns=0",
        );
    }
    if ways.is_empty() {
        ways.push(
            "user namespaces must be permitted; in a container allow unshare, mount and an \
             unmasked /proc (for Docker: --security-opt seccomp=unconfined --security-opt \
             apparmor=unconfined --security-opt systempaths=unconfined, or --privileged)",
        );
    }
    format!("{}, or run the server as root on the host itself.", ways.join("; "))
}

/// Writes one message at once.
pub(super) fn write_line(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads one message and not a byte more: what follows may be meant for another process.
pub(super) fn read_line<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match from.read(&mut byte) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) if byte[0] == b'\n' => return Ok(serde_json::from_slice(&line)?),
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if line.len() > LONGEST {
            return Err(io::Error::other("a message is too long"));
        }
    }
}

/// Standard input as a descriptor of our own, unbuffered, closed when something is executed.
pub(super) fn input() -> io::Result<OwnedFd> {
    io::stdin().as_fd().try_clone_to_owned()
}

pub(super) fn first_line() -> io::Result<FirstLine> {
    read_line(&mut File::from(input()?))
}

/// Reports an event to the caller. A caller that is gone hears nothing; the life line ends us.
pub(super) fn report(event: &Event) {
    let _ = write_line(&mut io::stdout().lock(), event);
}

//! Commands: a program of this machine with the SNS envelope on its standard input.
//!
//! It runs in a process group of its own, with few variables and in the root directory. When it
//! ends, or its time is over, whatever is left of the group is killed.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::quote::quote;
use crate::{DeliveryContext, DeliveryError, Message, Receipt, envelope};

/// Where a command finds its own programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Bytes of output that are kept; the rest is read and dropped, so that nobody waits.
const KEPT: u64 = 4096;
/// How often it is looked whether the command has ended.
const LOOK: Duration = Duration::from_millis(10);
/// How long its last output may take once the group is gone. Only what left the group can hold the
/// pipe longer.
const LAST_WORDS: Duration = Duration::from_millis(500);

pub(crate) fn deliver(
    command: &[String],
    message: &Message,
    context: &DeliveryContext,
) -> Result<Receipt, DeliveryError> {
    let body = envelope::json(message, context)?;
    let Some((program, arguments)) = command.split_first() else {
        return Err(DeliveryError::never("the subscription names no command."));
    };
    let again = "The delivery is tried again.";
    let (child, output) = start(program, arguments, &body, message, context).map_err(|error| {
        DeliveryError::later(format!("{program} cannot be started: {error}. {again}"))
    })?;
    let ended = end_of(child, context.time_limit).map_err(|error| {
        DeliveryError::later(format!("{program} cannot be waited for: {error}. {again}"))
    })?;
    let said = quote(&output.recv_timeout(LAST_WORDS).unwrap_or_default());
    match ended {
        Some(status) if status.success() => {
            Ok(Receipt { detail: format!("{program} ended with {status}{said}") })
        }
        Some(status) => {
            Err(DeliveryError::later(format!("{program} ended with {status}{said}. {again}")))
        }
        None => Err(DeliveryError::later(format!(
            "{program} did not end within {} ms and was killed{said}; it may have done its work all \
             the same. {again}",
            context.time_limit.as_millis()
        ))),
    }
}

/// Starts the command; what it writes comes out of the channel when it has ended.
fn start(
    program: &str,
    arguments: &[String],
    body: &str,
    message: &Message,
    context: &DeliveryContext,
) -> io::Result<(Child, mpsc::Receiver<Vec<u8>>)> {
    let attribute = |name| message.attributes.get(name).map_or("", String::as_str);
    let (output, writer) = io::pipe()?;
    // The command holds the pipe's ends until it is dropped, which is at the end of the statement.
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LANG", "C.UTF-8")
        .env("PROVAULT_DELIVERY_ID", &context.delivery_id)
        .env("PROVAULT_TOPIC_ARN", context.topic_arn.as_str())
        .env("PROVAULT_EVENT_TYPE", attribute("EventType"))
        .env("PROVAULT_STATE", attribute("State"))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        let body = body.to_owned();
        // A command need not read what it is told, and must not be waited for while it does not.
        thread::spawn(move || {
            let _ = stdin.write_all(body.as_bytes());
        });
    }
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut kept = Vec::new();
        let mut output = output;
        let _ = output.by_ref().take(KEPT).read_to_end(&mut kept);
        let _ = io::copy(&mut output, &mut io::sink());
        // Nobody listens any more when that took too long.
        let _ = send.send(kept);
    });
    Ok((child, receive))
}

/// How the command ended; nothing when its time was over. Its group is gone in either case.
fn end_of(mut child: Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_raw(child.id().cast_signed());
    let deadline = Instant::now().checked_add(limit);
    let looked = loop {
        // Only looked at and not collected: until then the group's number cannot be another's.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(pid), flags) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
            Ok(_) => break Ok(true),
            Err(errno) => break Err(errno),
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            break Ok(false);
        }
        thread::sleep(LOOK);
    };
    // It fails where the group is empty, which is what is wanted.
    let _ = killpg(pid, Signal::SIGKILL);
    if looked? {
        return child.wait().map(Some);
    }
    // What hangs in a dead mount does not die at once. It is collected, but not waited for.
    thread::spawn(move || child.wait());
    Ok(None)
}

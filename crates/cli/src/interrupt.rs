//! Ctrl-C while watching.

use std::process;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

use crate::exit::Exit;

/// Turns Ctrl-C into a value, so that a command can say what goes on without it. A second Ctrl-C
/// ends the process at once, in case the first one finds it waiting for the server.
pub(crate) struct Interrupt(Receiver<()>);

impl Interrupt {
    /// From here on SIGINT does not end the process by itself. Threads started later inherit that.
    pub(crate) fn install() -> Self {
        let (sender, receiver) = mpsc::channel();
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        // Where the signal cannot be blocked it ends the process, as it does for any program.
        if signals.thread_block().is_ok() {
            thread::spawn(move || {
                if signals.wait().is_ok() && sender.send(()).is_ok() && signals.wait().is_ok() {
                    process::exit(Exit::Interrupted.code().into());
                }
            });
        }
        Self(receiver)
    }

    /// Waits; true as soon as Ctrl-C came.
    pub(crate) fn sleep(&self, time: Duration) -> bool {
        match self.0.recv_timeout(time) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(time);
                false
            }
        }
    }
}

//! What tells a server to read its settings again, to stop, and to end at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What the operator, or the system, wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    Stop,
}

/// The signals of a server; from their making on none of them ends the process by itself.
pub(crate) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next wish.
    pub(crate) async fn next(&mut self) -> Wish {
        // A stream of signals has no end.
        tokio::select! {
            _ = self.hangup.recv() => Wish::Reload,
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
        }
    }

    /// Ends the process when it is told to stop once more: what runs is gone on with by the next start, as
    /// after a crash.
    pub(crate) async fn end_at_once(mut self) {
        let number = loop {
            tokio::select! {
                _ = self.hangup.recv() => {}
                _ = self.terminate.recv() => break SignalKind::terminate(),
                _ = self.interrupt.recv() => break SignalKind::interrupt(),
            }
        };
        tracing::warn!(
            "told to stop once more: ends at once; the next start goes on with what ran"
        );
        // As shells number an end by a signal.
        std::process::exit(128 + number.as_raw_value());
    }
}

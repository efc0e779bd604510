//! Ctrl-C and SIGTERM as a flag.

use std::process;
use std::sync::OnceLock;
use std::thread;

use nix::sys::signal::{SigSet, Signal};
use provault_driver::CancelFlag;

/// Turns SIGINT and SIGTERM into a flag that the running command sees. A second one ends the
/// process at once: a lock that stays then is of a process that is gone, and in nobody's way.
///
/// The signals are blocked in this thread and in those that it starts, so this comes first.
pub(crate) fn install() -> CancelFlag {
    static FLAG: OnceLock<CancelFlag> = OnceLock::new();
    FLAG.get_or_init(|| {
        let flag = CancelFlag::new();
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        // Where they cannot be blocked they end the process, as they do any program.
        if signals.thread_block().is_ok() {
            let raised = flag.clone();
            thread::spawn(move || {
                if signals.wait().is_ok() {
                    raised.raise();
                    if signals.wait().is_ok() {
                        process::exit(130);
                    }
                }
            });
        }
        flag
    })
    .clone()
}

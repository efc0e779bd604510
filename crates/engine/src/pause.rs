//! Places where a test can stop the process dead.
//!
//! A crash between any two steps must lose nothing. To try that, a test starts the real program
//! with `PROVAULT_PAUSE_AT=place`; the thread that comes by writes the place to the file named by
//! `PROVAULT_PAUSE_FILE` and waits for ever, and the test kills the process. Without the variable
//! this costs one comparison.

use std::sync::OnceLock;

/// Every place there is; tests go through all of them.
pub const PLACES: &[&str] = &[
    "backup:started",
    "backup:captured",
    "backup:read",
    "backup:committed",
    "restore:started",
    "restore:written",
    "test:started",
    "test:chosen",
    "test:copying",
    "test:restored",
    "test:tested",
    "test:controlled",
    "test:reaped",
    "care:started",
    "care:done",
    "expiry:deleting",
    "expiry:forgotten",
    "delivery:sent",
];

/// Waits here for ever when a test asked for it. Blocks its thread.
pub(crate) fn pause(place: &'static str) {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    debug_assert!(PLACES.contains(&place), "{place} is not in PLACES");
    let wanted = WANTED.get_or_init(|| std::env::var("PROVAULT_PAUSE_AT").ok());
    if wanted.as_deref() != Some(place) {
        return;
    }
    if let Some(file) = std::env::var_os("PROVAULT_PAUSE_FILE") {
        // The test waits for the file; when it cannot be written, the test fails by waiting.
        let _ = std::fs::write(file, place);
    }
    loop {
        std::thread::park();
    }
}

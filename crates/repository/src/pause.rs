//! Places where a test can stop the process dead, or hold it up.
//!
//! A crash between any two steps must lose nothing. To try that, a test starts the real program
//! with `PROVAULT_PAUSE_AT=place`; the thread that comes by writes the place to the file named by
//! `PROVAULT_PAUSE_FILE` and waits for ever, and the test kills the process. A test that wants it to
//! go on names a file in `PROVAULT_PAUSE_UNTIL` and makes it when it is time. Without the first
//! variable this costs one comparison. A build without debug assertions, and so every release, has none
//! of this.

#[cfg(debug_assertions)]
use std::path::PathBuf;
#[cfg(debug_assertions)]
use std::sync::OnceLock;
#[cfg(debug_assertions)]
use std::time::Duration;

/// Every place of this crate; tests go through all of them. Those of `retire` are passed by prunes
/// and repairs alike.
pub const PLACES: &[&str] = &[
    "prune:copied",
    "prune:sweeping",
    "retire:marked",
    "retire:replacing",
    "retire:switched",
    "retire:named",
    "repair:listed",
    "repair:rescued",
    "repair:fetched",
    "repair:retired",
    "remove:begun",
];

/// A look for the file that lets the process go on.
#[cfg(debug_assertions)]
const GLANCE: Duration = Duration::from_millis(10);

/// A place of this crate.
pub(crate) fn pause(place: &'static str) {
    debug_assert!(PLACES.contains(&place), "{place} is not in PLACES");
    wait_at(place);
}

/// Waits here when a test asked for it. Blocks its thread. The caller sees to it that tests know
/// of the place.
#[cfg(debug_assertions)]
pub fn wait_at(place: &'static str) {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var("PROVAULT_PAUSE_AT").ok());
    if wanted.as_deref() != Some(place) {
        return;
    }
    if let Some(file) = std::env::var_os("PROVAULT_PAUSE_FILE") {
        // The test waits for the file; when it cannot be written, the test fails by waiting.
        let _ = std::fs::write(file, place);
    }
    let until = std::env::var_os("PROVAULT_PAUSE_UNTIL").map(PathBuf::from);
    while !until.as_ref().is_some_and(|file| file.exists()) {
        std::thread::sleep(GLANCE);
    }
}

/// Never.
#[cfg(not(debug_assertions))]
pub fn wait_at(_: &'static str) {}

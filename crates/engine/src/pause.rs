//! Places where a test can stop the process dead.
//!
//! How it is done is told in `provault_repository::pause`, which has places within prune and repair.

use provault_repository::pause::wait_at;

/// Every place of the engine; tests go through all of them.
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
    "vault:made",
    "vault:deleted",
];

/// Waits here when a test asked for it. Blocks its thread.
pub(crate) fn pause(place: &'static str) {
    debug_assert!(PLACES.contains(&place), "{place} is not in PLACES");
    wait_at(place);
}

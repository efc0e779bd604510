//! Waiting with a limit.

use std::time::{Duration, Instant};

/// How long anything may take that a test waits for. No measure of speed: it is to end a wait for
/// what never comes.
pub const PATIENCE: Duration = Duration::from_mins(2);

const GLANCE: Duration = Duration::from_millis(50);

/// Looks until there is something, and gives it; after [`PATIENCE`] the test fails with `what`.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {} s in vain for {what}", PATIENCE.as_secs());
        std::thread::sleep(GLANCE);
    }
}

//! Where time comes from.

use std::time::Duration;

use jiff::Timestamp;

/// The engine's only source of time, so that tests can run a year in a second.
pub trait Clock: Send + Sync {
    /// The time of day.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment; never goes back, whatever happens to the time of day, and goes on
    /// while the machine sleeps.
    fn monotonic(&self) -> Duration;
}

/// Milliseconds between two readings of [`Clock::monotonic`].
pub(crate) fn millis_since(clock: &dyn Clock, began: Duration) -> u64 {
    u64::try_from(clock.monotonic().saturating_sub(began).as_millis()).unwrap_or(u64::MAX)
}

//! The real clock.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use provault_engine::Clock;

/// The system's time of day, and its monotonic clock since this was made.
pub struct SystemClock(Instant);

impl SystemClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

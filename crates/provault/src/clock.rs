//! The real clock.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use provault_engine::Clock;

/// The system's time of day, and the time since it was started.
pub struct SystemClock {
    made: Instant,
}

impl SystemClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self { made: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        // `Instant` stands still while the machine sleeps: after each night's sleep the time of day
        // would seem to have jumped ahead.
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or_else(|_| self.made.elapsed(), Duration::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_monotonic_clock_counts_since_the_boot() {
        let uptime = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            let seconds = text.split_whitespace().next().unwrap();
            Duration::from_secs_f64(seconds.parse().unwrap())
        };
        // The kernel cuts what it shows to hundredths of a second.
        let before = uptime();
        let told = SystemClock::new().monotonic();
        let after = uptime() + Duration::from_millis(10);
        assert!(before <= told && told <= after, "{before:?} {told:?} {after:?}");
    }
}

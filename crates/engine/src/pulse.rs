//! Whether the loops still turn: a scheduler that stopped in silence is what backups are lost by.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::Engine;

/// A loop that has not come round for so long is stuck. Each looks every few seconds, and waits for
/// nothing but the catalog, or for receivers, which have time limits.
const STUCK: Duration = Duration::from_mins(15);

/// When each loop last came round, by the monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Pulse(Mutex<BTreeMap<&'static str, Duration>>);

impl Pulse {
    pub(crate) fn beat(&self, name: &'static str, now: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, now);
    }

    fn stuck(&self, now: Duration) -> Vec<&'static str> {
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let late = beats.iter().filter(|(_, at)| now.saturating_sub(**at) > STUCK);
        late.map(|(name, _)| *name).collect()
    }

    fn has_begun(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Engine {
    /// What keeps the engine from its work: the loops that no longer turn, or that none does.
    pub fn stuck(&self) -> Vec<&'static str> {
        let pulse = &self.shared.pulse;
        if !pulse.has_begun() {
            return vec!["the engine is not started"];
        }
        pulse.stuck(self.shared.clock.monotonic())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_does_not_come_round_is_named() {
        let pulse = Pulse::default();
        assert!(!pulse.has_begun());
        pulse.beat("backups", Duration::from_secs(10));
        pulse.beat("deliveries", Duration::from_secs(1));
        let at = Duration::from_secs(5) + STUCK;
        assert!(pulse.has_begun());
        assert_eq!(pulse.stuck(Duration::from_secs(20)), Vec::<&str>::new());
        assert_eq!(pulse.stuck(at), ["deliveries"]);
        pulse.beat("deliveries", at);
        assert_eq!(pulse.stuck(at), Vec::<&str>::new());
    }
}

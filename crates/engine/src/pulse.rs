//! Whether the loops still turn: a scheduler that stopped in silence is what backups are lost by.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::Engine;

/// A loop that looks every few seconds, and waits for nothing but the catalog, or for receivers, which
/// have time limits, is stuck when it has not come round for so long.
const STUCK: Duration = Duration::from_mins(15);
/// One that asks storages, one after the other: each has a time limit, and there may be many.
const STUCK_AT_STORAGE: Duration = Duration::from_hours(6);

/// Every loop of the engine, and after how long without a beat it is stuck.
const LOOPS: [(&str, Duration); 10] = [
    ("backups", STUCK),
    ("restores", STUCK),
    ("restore tests", STUCK),
    ("care runs", STUCK),
    ("care of vaults", STUCK_AT_STORAGE),
    ("deliveries", STUCK),
    ("time", STUCK),
    ("absence", STUCK),
    ("retention", STUCK_AT_STORAGE),
    ("reconcilers", STUCK_AT_STORAGE),
];

/// When each loop last came round, by the monotonic clock; empty until the engine starts.
#[derive(Debug, Default)]
pub(crate) struct Pulse(Mutex<BTreeMap<&'static str, Duration>>);

impl Pulse {
    /// All loops begin. One that never comes round is found by that.
    pub(crate) fn begin(&self, now: Duration) {
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *beats = LOOPS.iter().map(|(name, _)| (*name, now)).collect();
    }

    pub(crate) fn beat(&self, name: &'static str, now: Duration) {
        debug_assert!(LOOPS.iter().any(|(known, _)| *known == name), "{name} is not in LOOPS");
        let mut beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = beats.get_mut(name) {
            *at = now;
        }
    }

    fn stuck(&self, now: Duration) -> Vec<&'static str> {
        let beats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let late = |name: &str, limit: Duration| {
            beats.get(name).is_some_and(|at| now.saturating_sub(*at) > limit)
        };
        LOOPS.iter().filter(|(name, limit)| late(name, *limit)).map(|(name, _)| *name).collect()
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
    fn a_loop_that_does_not_come_round_is_named_also_when_it_never_did() {
        let pulse = Pulse::default();
        pulse.beat("backups", Duration::from_secs(10));
        assert!(!pulse.has_begun(), "what is asked for before the start is no loop");
        pulse.begin(Duration::from_secs(1));
        assert!(pulse.has_begun());
        let at = Duration::from_secs(2) + STUCK;
        assert_eq!(pulse.stuck(Duration::from_secs(20)), Vec::<&str>::new());
        for name in ["backups", "restores", "restore tests", "care runs", "time"] {
            pulse.beat(name, at);
        }
        assert_eq!(pulse.stuck(at), ["deliveries", "absence"]);
        pulse.beat("deliveries", at);
        pulse.beat("absence", at);
        assert_eq!(pulse.stuck(at), Vec::<&str>::new());
        // A storage may take its time, but not for ever.
        let later = Duration::from_secs(2) + STUCK_AT_STORAGE;
        for (name, _) in LOOPS.iter().filter(|(_, limit)| *limit == STUCK) {
            pulse.beat(name, later);
        }
        assert_eq!(pulse.stuck(later), ["care of vaults", "retention", "reconcilers"]);
    }
}

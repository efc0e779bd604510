//! What the engines of one server share when they run restore tests: how many run at a time, and the disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long an engine that found no place free is waited for without a word of it. It looks every few seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The restore tests that run on this machine, whichever engine they are of. Engines with the same one keep
/// the limit together, take turns, and leave each other the room that running tests still need.
#[derive(Debug, Default)]
pub struct TestsAtWork {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What each may still write, in bytes, by its id.
    tests: HashMap<String, u64>,
    /// How many ever began.
    begun: u64,
    /// Engines that found no place free, the first of them first, and when they last looked.
    queue: Vec<(String, Instant)>,
}

/// A restore test's place among those at work, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    at_work: Arc<TestsAtWork>,
    test: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.at_work.lock().tests.remove(&self.test);
    }
}

/// Why a test has no place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// As many run as may, or another engine was first.
    Taken,
    /// Another one began since the room was looked at.
    LookAgain,
}

impl TestsAtWork {
    /// How many have begun, for [`Self::take`]: to be asked before the room is looked at.
    pub(crate) fn begun(&self) -> u64 {
        self.lock().begun
    }

    /// What others than `own` may still write, in bytes. As they began: what they have written since is
    /// counted twice, which at worst makes somebody wait.
    pub(crate) fn promised_to_others(&self, own: impl Fn(&str) -> bool) -> u64 {
        let state = self.lock();
        let others = state.tests.iter().filter(|(test, _)| !own(test));
        others.fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// A place for a test of an engine, as one of `at_once`.
    #[allow(
        clippy::disallowed_methods,
        reason = "of no engine: how long one waited in this process"
    )]
    pub(crate) fn take(
        self: &Arc<Self>,
        engine: &str,
        at_once: usize,
        seen: u64,
        test: &str,
        bytes: u64,
    ) -> Result<Place, NoPlace> {
        let now = Instant::now();
        let mut state = self.lock();
        state.queue.retain(|(other, at)| other == engine || now.duration_since(*at) < PATIENCE);
        let before = state.queue.iter().position(|(other, _)| other == engine);
        let before_me = before.unwrap_or(state.queue.len());
        if state.tests.len().saturating_add(before_me) >= at_once {
            match before {
                Some(at) => state.queue[at].1 = now,
                None => state.queue.push((engine.to_owned(), now)),
            }
            return Err(NoPlace::Taken);
        }
        if state.begun != seen {
            return Err(NoPlace::LookAgain);
        }
        state.begun += 1;
        state.queue.retain(|(other, _)| other != engine);
        state.tests.insert(test.to_owned(), bytes);
        Ok(Place { at_work: Arc::clone(self), test: test.to_owned() })
    }

    /// An engine has nothing that could begin: nobody waits for it.
    pub(crate) fn leave_queue(&self, engine: &str) {
        self.lock().queue.retain(|(other, _)| other != engine);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between two changes of the state can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_take_turns_within_one_limit() {
        let all = Arc::new(TestsAtWork::default());
        let take = |engine: &str, test: &str| all.take(engine, 1, all.begun(), test, 10);
        let first = take("a", "1").unwrap();
        assert_eq!(take("b", "2").unwrap_err(), NoPlace::Taken);
        drop(first);
        // Whoever ran just now is not the first to know of a place for nothing.
        assert_eq!(take("a", "3").unwrap_err(), NoPlace::Taken);
        let second = take("b", "2").unwrap();
        assert_eq!(take("b", "4").unwrap_err(), NoPlace::Taken);
        drop(second);
        // The next in the queue has nothing to do any more.
        all.leave_queue("a");
        drop(take("b", "4").unwrap());
    }

    #[test]
    fn what_one_engine_promised_another_does_not_give_away() {
        let all = Arc::new(TestsAtWork::default());
        let seen = all.begun();
        let first = all.take("a", 4, seen, "1", 10).unwrap();
        assert_eq!(all.take("b", 4, seen, "2", 10).unwrap_err(), NoPlace::LookAgain);
        let second = all.take("b", 4, all.begun(), "2", 20).unwrap();
        assert_eq!(all.promised_to_others(|test| test == "1"), 20);
        assert_eq!(all.promised_to_others(|_| false), 30);
        drop((first, second));
        assert_eq!(all.promised_to_others(|_| false), 0);
    }
}

//! A cache that forgets what was used least recently.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// A bounded cache, shared by threads.
pub(crate) struct Cache<K, V> {
    state: Mutex<State<K, V>>,
    /// Bytes kept at most.
    limit: usize,
}

struct State<K, V> {
    entries: HashMap<K, Kept<V>>,
    /// By the time of the last use.
    order: BTreeMap<u64, K>,
    clock: u64,
    bytes: usize,
}

struct Kept<V> {
    value: Arc<V>,
    bytes: usize,
    used: u64,
}

impl<K: Hash + Eq + Copy, V> Cache<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        let state = State { entries: HashMap::new(), order: BTreeMap::new(), clock: 0, bytes: 0 };
        Self { state: Mutex::new(state), limit }
    }

    pub(crate) fn get(&self, key: &K) -> Option<Arc<V>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        let kept = state.entries.get_mut(key)?;
        state.clock += 1;
        state.order.remove(&kept.used);
        kept.used = state.clock;
        state.order.insert(state.clock, *key);
        Some(Arc::clone(&kept.value))
    }

    /// Keeps a value that takes `bytes`, and drops others to make room. One that is larger than
    /// the cache is not kept.
    pub(crate) fn insert(&self, key: K, value: Arc<V>, bytes: usize) {
        if bytes > self.limit {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        state.clock += 1;
        let used = state.clock;
        if let Some(old) = state.entries.insert(key, Kept { value, bytes, used }) {
            state.order.remove(&old.used);
            state.bytes -= old.bytes;
        }
        state.order.insert(used, key);
        state.bytes += bytes;
        while state.bytes > self.limit {
            let Some((_, oldest)) = state.order.pop_first() else { return };
            if let Some(old) = state.entries.remove(&oldest) {
                state.bytes -= old.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_used_last_within_the_limit() {
        let cache = Cache::new(30);
        for key in 0..3 {
            cache.insert(key, Arc::new(key), 10);
        }
        assert_eq!(cache.get(&0).as_deref(), Some(&0));
        cache.insert(3, Arc::new(3), 10);
        assert!(cache.get(&1).is_none(), "the least recently used one goes");
        assert!([0, 2, 3].iter().all(|key| cache.get(key).is_some()));
        cache.insert(4, Arc::new(4), 31);
        assert!(cache.get(&4).is_none(), "larger than the cache");
        cache.insert(2, Arc::new(22), 30);
        assert_eq!(cache.get(&2).as_deref(), Some(&22));
        assert!(cache.get(&0).is_none() && cache.get(&3).is_none());
    }
}

//! Memory that files are read into, used again and again, and bounded.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Result;

/// How often one who waits for memory asks whether to go on.
const LOOK_UP: Duration = Duration::from_millis(100);

/// A fixed number of buffers of one size.
pub(crate) struct SlabPool {
    size: usize,
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    spare: Vec<Vec<u8>>,
    /// So many may still be made.
    unmade: usize,
}

impl SlabPool {
    pub(crate) fn new(size: usize, count: usize) -> Arc<Self> {
        let state = State { spare: Vec::new(), unmade: count };
        Arc::new(Self { size, state: Mutex::new(state), returned: Condvar::new() })
    }

    /// A buffer, as soon as one is free. `go_on` is asked meanwhile.
    pub(crate) fn take(self: &Arc<Self>, go_on: &dyn Fn() -> Result<()>) -> Result<Slab> {
        let mut state = self.state();
        loop {
            if let Some(bytes) = state.spare.pop() {
                return Ok(Slab { bytes, filled: 0, pool: Arc::clone(self) });
            }
            if state.unmade > 0 {
                state.unmade -= 1;
                let bytes = vec![0; self.size];
                return Ok(Slab { bytes, filled: 0, pool: Arc::clone(self) });
            }
            go_on()?;
            let woken = self.returned.wait_timeout(state, LOOK_UP);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer of a pool, to which it returns when it is dropped.
pub(crate) struct Slab {
    bytes: Vec<u8>,
    filled: usize,
    pool: Arc<SlabPool>,
}

impl Slab {
    /// What has been put in.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }

    /// The room that is left.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// Counts `more` bytes of the room as filled.
    pub(crate) fn advance(&mut self, more: usize) {
        self.filled = (self.filled + more).min(self.bytes.len());
    }

    /// Forgets all but the first bytes.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.filled = self.filled.min(length);
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        self.pool.state().spare.push(std::mem::take(&mut self.bytes));
        self.pool.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn there_are_only_so_many_and_they_come_back() {
        let pool = SlabPool::new(8, 2);
        let mut one = pool.take(&|| Ok(())).unwrap();
        one.room()[..3].copy_from_slice(b"abc");
        one.advance(3);
        assert_eq!(one.filled(), b"abc");
        assert_eq!(one.room().len(), 5);
        one.truncate(1);
        assert_eq!(one.filled(), b"a");
        let two = pool.take(&|| Ok(())).unwrap();
        assert!(matches!(pool.take(&|| Err(Error::Cancelled)), Err(Error::Cancelled)));
        drop(two);
        assert!(pool.take(&|| Err(Error::Cancelled)).unwrap().filled().is_empty());
    }
}

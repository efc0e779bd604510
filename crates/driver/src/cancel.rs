//! The flag that asks a running job to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Raised once, seen by every clone. Work that sees it raised stops at the next safe place.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag {
    raised: Arc<AtomicBool>,
    /// Whether the work is to be taken up again.
    keep: Arc<AtomicBool>,
}

impl CancelFlag {
    /// A flag that is down.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the flag; it never comes down again.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::Release);
    }

    /// Raises the flag for work that somebody takes up again: what is done so far may stay where it
    /// can be found by the job's id. Says nothing new of a flag that is raised already.
    pub fn raise_to_resume(&self) {
        if !self.is_raised() {
            self.keep.store(true, Ordering::Release);
        }
        self.raise();
    }

    /// Whether it is raised.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Whether it is raised, and the work is to be taken up again.
    pub fn is_to_resume(&self) -> bool {
        self.is_raised() && self.keep.load(Ordering::Acquire)
    }

    /// The flag as the plain shared boolean that other rooms take.
    pub fn as_shared(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.raised)
    }
}

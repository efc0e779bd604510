//! Telling how far a capture is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How often progress is told while one large file is read.
const PERIOD: Duration = Duration::from_millis(250);

#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Drop for Ringer<'_> {
    fn drop(&mut self) {
        *self.0.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }
}

/// Rings when dropped, so also when the work panics: the thread that tells must end with it.
struct Ringer<'a>(&'a Bell);

/// Runs `work` and tells `done` of `expected` bytes now and then, and once at its end.
pub(crate) fn report_while<T>(
    tell: &(dyn Fn(u64, Option<u64>) + Sync),
    done: &AtomicU64,
    expected: Option<u64>,
    work: impl FnOnce() -> T,
) -> T {
    let bell = Bell::default();
    // What was appended meanwhile may make more than was expected.
    let now = || {
        let done = done.load(Ordering::Relaxed);
        tell(done, expected.map(|e| e.max(done)));
    };
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            let mut rung = bell.rung.lock().unwrap_or_else(PoisonError::into_inner);
            while !*rung {
                let waited = bell.changed.wait_timeout(rung, PERIOD);
                rung = waited.unwrap_or_else(PoisonError::into_inner).0;
                if !*rung {
                    now();
                }
            }
        });
        let _ringer = Ringer(&bell);
        work()
    });
    now();
    result
}

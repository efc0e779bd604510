//! Telling how far a capture is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use provault_driver::CancelFlag;

/// How often progress is told while one large file is read.
const PERIOD: Duration = Duration::from_millis(250);

/// A capture that is over before costs nobody a count of what it reads: to look at every entry of an
/// unchanged tree first would double what its backup takes.
const COUNTED_AFTER: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    /// Waits so long, or until it rings: whether it has.
    fn rings_within(&self, time: Duration) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(rung, time, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Rings when dropped, so also when the work panics: the threads that tell and count must end with
/// it.
struct Ringer<'a>(&'a Bell, CancelFlag);

impl Drop for Ringer<'_> {
    fn drop(&mut self) {
        self.1.raise();
        *self.0.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }
}

/// Runs `work` and tells `done` of the bytes that `count` finds, now and then and once at its end.
/// The count begins when the work takes long, beside it, and is to stop when its flag is raised.
pub(crate) fn report_while<T, E>(
    tell: &(dyn Fn(u64, Option<u64>) + Sync),
    done: &AtomicU64,
    count: impl FnOnce(&CancelFlag) -> Option<u64> + Send,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let (bell, counted) = (Bell::default(), OnceLock::new());
    let now = || {
        let done = done.load(Ordering::Relaxed);
        // What was appended meanwhile may make more than was expected.
        tell(done, counted.get().map(|expected: &u64| done.max(*expected)));
    };
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !bell.rings_within(PERIOD) {
                now();
            }
        });
        let over = CancelFlag::new();
        let flag = over.clone();
        scope.spawn(|| {
            let flag = flag;
            if !bell.rings_within(COUNTED_AFTER)
                && let Some(expected) = count(&flag)
            {
                // Only this thread ever sets it.
                let _ = counted.set(expected);
            }
        });
        let _ringer = Ringer(&bell, over);
        work()
    });
    if result.is_ok() {
        let done = done.load(Ordering::Relaxed);
        tell(done, Some(done));
    } else {
        now();
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = Mutex<Vec<(u64, Option<u64>)>>;

    fn last(told: &Told) -> Option<(u64, Option<u64>)> {
        told.lock().unwrap().last().copied()
    }

    #[test]
    fn short_work_is_not_counted_and_its_end_is_known() {
        let (told, done) = (Told::default(), AtomicU64::new(0));
        let tell = |done, total| told.lock().unwrap().push((done, total));
        let uncounted = |_: &CancelFlag| unreachable!("counted");
        report_while(&tell, &done, uncounted, || {
            done.store(7, Ordering::Relaxed);
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!(last(&told), Some((7, Some(7))));
    }

    #[test]
    fn long_work_is_counted_beside_it_and_a_failed_end_claims_no_more_than_was_done() {
        let (told, done) = (Told::default(), AtomicU64::new(3));
        let tell = |done, total| told.lock().unwrap().push((done, total));
        let result = report_while(
            &tell,
            &done,
            |_| Some(10),
            || {
                // Until the total is told.
                while last(&told) != Some((3, Some(10))) {
                    thread::sleep(Duration::from_millis(10));
                }
                Err::<(), _>("cut off")
            },
        );
        assert_eq!(result, Err("cut off"));
        assert_eq!(last(&told), Some((3, Some(10))));
    }

    #[test]
    fn a_count_that_goes_on_is_told_to_stop() {
        let (told, done) = (Told::default(), AtomicU64::new(0));
        let tell = |done, total| told.lock().unwrap().push((done, total));
        let begun = Bell::default();
        let endless = |over: &CancelFlag| {
            drop(Ringer(&begun, CancelFlag::new()));
            while !over.is_raised() {
                thread::sleep(Duration::from_millis(1));
            }
            None
        };
        report_while(&tell, &done, endless, || {
            while !begun.rings_within(PERIOD) {}
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!(last(&told), Some((0, Some(0))));
    }
}

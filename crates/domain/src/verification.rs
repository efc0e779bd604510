//! Rotating verification: which pack is read next, how fast, and what may truthfully be said.
//!
//! The promise is that every pack is read and verified at least once in N days. Each pack has a
//! deadline: N days after it was last verified, or first seen. Packs are read in the order of their
//! deadlines at a rate that goes round in nine tenths of N days, and faster when what is due soon
//! asks for it, up to a limit. A moment of verification that lies in the future does not count:
//! it was written by a clock that was ahead.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A pack as verification knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedPack {
    /// Hexadecimal id.
    pub id: String,
    /// Size in bytes.
    pub size: u64,
    /// When it was first seen.
    pub seen_at: Timestamp,
    /// When it was last read and found whole, or damaged.
    pub verified_at: Option<Timestamp>,
    /// What was wrong with it then.
    pub damage: Option<String>,
}

/// What is promised, and how fast it may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// Days in which every pack is read.
    pub within_days: u32,
    /// Limit of the rate in bytes a second.
    pub max_bytes_per_second: u64,
}

/// What is verified and what is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Packs there are.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs read and found whole within the period.
    pub verified_packs: u64,
    /// Their bytes.
    pub verified_bytes: u64,
    /// Packs never read since they were first seen.
    pub never_verified_packs: u64,
    /// Packs whose deadline has passed.
    pub overdue_packs: u64,
    /// Packs that were damaged when they were last read.
    pub damaged_packs: u64,
    /// When the pack that waits longest was read or, if it never was, first seen.
    pub oldest_at: Option<Timestamp>,
    /// Bytes a second that would just keep every deadline.
    pub needed_bytes_per_second: u64,
    /// Bytes a second that verification reads on average.
    pub bytes_per_second: u64,
}

impl Coverage {
    /// Whether the promise is kept, and can be kept with the rate allowed.
    pub fn keeps(&self, promise: Promise) -> bool {
        self.overdue_packs == 0 && self.needed_bytes_per_second <= promise.max_bytes_per_second
    }
}

const DAY: i64 = 86_400;
/// A pack whose deadline has passed is to be read within this, when the needed rate is told.
const CATCH_UP_SECONDS: i64 = 3_600;

impl VerifiedPack {
    fn verified_by(&self, now: Timestamp) -> Option<Timestamp> {
        self.verified_at.filter(|at| *at <= now)
    }

    /// When it was last read or, if it never was, first seen; not later than `now`.
    fn last(&self, now: Timestamp) -> Timestamp {
        self.verified_by(now).unwrap_or(self.seen_at.min(now))
    }

    /// Seconds from `now` until it must have been read again; negative when that is past.
    fn seconds_left(&self, promise: Promise, now: Timestamp) -> i64 {
        let age = now.duration_since(self.last(now)).as_secs();
        (i64::from(promise.within_days) * DAY).saturating_sub(age)
    }
}

/// The packs, those first whose deadline is nearest.
pub fn in_order(packs: &mut [VerifiedPack], now: Timestamp) {
    packs.sort_by(|a, b| (a.last(now), &a.id).cmp(&(b.last(now), &b.id)));
}

/// What may be said of these packs at `now`.
pub fn coverage(packs: &[VerifiedPack], promise: Promise, now: Timestamp) -> Coverage {
    let mut all = packs.to_vec();
    in_order(&mut all, now);
    let mut told = Coverage::default();
    let mut sum: u64 = 0;
    for pack in &all {
        let left = pack.seconds_left(promise, now);
        told.packs += 1;
        told.bytes += pack.size;
        let verified = pack.verified_by(now).is_some();
        if !verified {
            told.never_verified_packs += 1;
        }
        if left <= 0 {
            told.overdue_packs += 1;
        }
        if pack.damage.is_some() {
            told.damaged_packs += 1;
        } else if verified && left > 0 {
            told.verified_packs += 1;
            told.verified_bytes += pack.size;
        }
        // All that is due until then has to be read until then.
        sum = sum.saturating_add(pack.size);
        let time = u64::try_from(left.max(CATCH_UP_SECONDS)).unwrap_or(1);
        told.needed_bytes_per_second = told.needed_bytes_per_second.max(sum.div_ceil(time));
    }
    told.oldest_at = all.first().map(|pack| pack.last(now));
    let round = u64::from(promise.within_days).saturating_mul(DAY.unsigned_abs()) * 9 / 10;
    let even = told.bytes.div_ceil(round.max(1));
    let hurried = told.needed_bytes_per_second.saturating_mul(11) / 10;
    told.bytes_per_second = even.max(hurried).clamp(1, promise.max_bytes_per_second.max(1));
    told
}

/// When the next pack may be read, after one of `size` bytes was read: what is read uses up the
/// rate for a while. `free_at` is the answer of the time before; time that was not used is lost
/// beyond `burst`, so that a machine that slept does not read everything at once.
pub fn next_at(
    free_at: Option<Timestamp>,
    size: u64,
    bytes_per_second: u64,
    burst: SignedDuration,
    now: Timestamp,
) -> Timestamp {
    let earliest = now.checked_sub(burst).unwrap_or(now);
    let from = free_at.unwrap_or(now).clamp(earliest, now);
    let millis = size.saturating_mul(1000) / bytes_per_second.max(1);
    let used = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
    from.checked_add(used).unwrap_or(Timestamp::MAX)
}

/// Whether a further pack may be read at `now`. A moment that lies further ahead than any pack can
/// have moved it comes from a clock that was ahead.
pub fn may_read(free_at: Option<Timestamp>, promise: Promise, now: Timestamp) -> bool {
    free_at.is_none_or(|at| {
        at <= now
            || at.duration_since(now).as_secs() > i64::from(promise.within_days).saturating_mul(DAY)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hours)
    }

    fn pack(id: &str, size: u64, seen: i64, verified: Option<i64>) -> VerifiedPack {
        VerifiedPack {
            id: id.to_owned(),
            size,
            seen_at: at(seen),
            verified_at: verified.map(at),
            damage: None,
        }
    }

    const PROMISE: Promise = Promise { within_days: 10, max_bytes_per_second: 1000 };

    #[test]
    fn coverage_says_no_more_than_is_true() {
        let mut damaged = pack("d", 7, 0, Some(200));
        damaged.damage = Some("a flipped bit".to_owned());
        let packs = [
            pack("a", 100, 0, Some(230)),
            pack("b", 10, 0, None),
            pack("c", 1, 0, Some(900)),
            damaged,
        ];
        let told = coverage(&packs, PROMISE, at(239));
        assert_eq!((told.packs, told.bytes), (4, 118));
        assert_eq!((told.verified_packs, told.verified_bytes), (1, 100));
        assert_eq!(told.never_verified_packs, 2, "a moment in the future is none");
        assert_eq!((told.overdue_packs, told.damaged_packs), (0, 1));
        assert_eq!(told.oldest_at, Some(at(0)));
        assert!(told.keeps(PROMISE));
        let told = coverage(&packs, PROMISE, at(240));
        assert_eq!(told.overdue_packs, 2);
        assert!(!told.keeps(PROMISE));
    }

    #[test]
    fn a_rate_that_cannot_reach_the_promise_is_told_before_it_is_broken() {
        let huge = [pack("a", 10 * 86_400 * 1001, 0, None)];
        let told = coverage(&huge, PROMISE, at(0));
        assert_eq!(told.needed_bytes_per_second, 1001);
        assert_eq!(told.bytes_per_second, 1000);
        assert_eq!(told.overdue_packs, 0);
        assert!(!told.keeps(PROMISE));
        let fits = [pack("a", 10 * 86_400 * 900, 0, None)];
        assert!(coverage(&fits, PROMISE, at(0)).keeps(PROMISE));
    }

    #[test]
    fn time_that_was_slept_is_not_made_up_for_at_once() {
        let burst = SignedDuration::from_hours(1);
        let next = next_at(Some(at(0)), 3_600_000, 1000, burst, at(100));
        assert_eq!(next, at(100), "an hour's worth, and no more");
        assert!(may_read(Some(next), PROMISE, at(100)));
        assert!(!may_read(Some(at(101)), PROMISE, at(100)));
        assert!(may_read(Some(at(10_000)), PROMISE, at(100)), "the clock was ahead");
    }
}

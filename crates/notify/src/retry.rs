//! When to try a delivery again.

use jiff::{SignedDuration, Timestamp};

/// Tries a delivery gets in all; the last one comes about 23.4 hours after the first.
pub const MAX_ATTEMPTS: u32 = 33;

const FIRST_DELAY_SECONDS: i64 = 5;
const LONGEST_DELAY_SECONDS: i64 = 3600;

/// When to try next after `attempts` tries have failed, the latest of them at `now`.
///
/// The wait doubles from 5 seconds to an hour and then stays there. `None` once [`MAX_ATTEMPTS`]
/// tries have failed: the delivery is dead. With no try made yet, the first is due `now`. The
/// schedule has no random part: one server tries its own few receivers, which need no spreading.
pub fn retry_at(attempts: u32, now: Timestamp) -> Option<Timestamp> {
    if attempts >= MAX_ATTEMPTS {
        return None;
    }
    let seconds = match attempts {
        0 => 0,
        // `attempts` is below MAX_ATTEMPTS, so the shift cannot overflow 64 bits.
        n => (FIRST_DELAY_SECONDS << (n - 1)).min(LONGEST_DELAY_SECONDS),
    };
    Some(now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_an_hour_and_dies_after_a_day() {
        let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut now = begin;
        let mut waits = Vec::new();
        for attempts in 0.. {
            let Some(next) = retry_at(attempts, now) else { break };
            waits.push(next.duration_since(now).as_secs());
            now = next;
        }
        assert_eq!(waits[..12], [0, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600]);
        assert!(waits[11..].iter().all(|w| *w == 3600));
        assert_eq!(waits.len(), usize::try_from(MAX_ATTEMPTS).unwrap());
        let hours = now.duration_since(begin).as_secs() / 3600;
        assert!((22..=24).contains(&hours), "{hours}");
        assert_eq!(retry_at(u32::MAX, now), None);
        assert_eq!(retry_at(3, Timestamp::MAX), Some(Timestamp::MAX));
    }
}

//! What the log says of requests that nobody could sign: somebody's clock is wrong, a key was deleted,
//! or somebody tries.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use http::request::Parts;

/// Of one key id there is one line in so long a time.
const EVERY: Duration = Duration::from_mins(1);
/// Key ids that are told apart; further ones share a line.
const MOST: usize = 256;
/// Characters of a key id that are told.
const LONGEST_ID: usize = 128;

/// Which key ids were refused lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    seen: Mutex<HashMap<String, Seen>>,
}

#[derive(Debug)]
struct Seen {
    told: Instant,
    since: u64,
}

impl Refusals {
    /// Whether the log should tell of this one; with how many it has not told of.
    pub(crate) fn note(&self, key_id: &str, now: Instant) -> Option<u64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, one| one.since > 0 || now.duration_since(one.told) < EVERY);
        let name = if seen.len() < MOST || seen.contains_key(key_id) { key_id } else { "" };
        if let Some(one) = seen.get_mut(name) {
            if now.duration_since(one.told) < EVERY {
                one.since += 1;
                return None;
            }
            one.told = now;
            return Some(std::mem::take(&mut one.since));
        }
        seen.insert(name.to_owned(), Seen { told: now, since: 0 });
        Some(0)
    }
}

/// The key id that a request says it was signed with: what a client wrote, so no more than it looks like.
pub(crate) fn key_id(parts: &Parts) -> String {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let query = parts.uri.query();
    let after = |text: Option<&str>, mark: &str| {
        let (_, rest) = text?.split_once(mark)?;
        let plain = rest.chars().take_while(char::is_ascii_alphanumeric).take(LONGEST_ID);
        Some(plain.collect::<String>())
    };
    after(header, "Credential=").or_else(|| after(query, "X-Amz-Credential=")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_of_once_a_minute_with_what_came_between() {
        let refusals = Refusals::default();
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(refusals.note("AKIA1", at(0)), Some(0));
        assert_eq!(refusals.note("AKIA1", at(1)), None);
        assert_eq!(refusals.note("AKIA2", at(1)), Some(0));
        assert_eq!(refusals.note("AKIA1", at(59)), None);
        assert_eq!(refusals.note("AKIA1", at(60)), Some(2));
        // However many names somebody makes up, there is an end to lines and memory.
        let told =
            (0..10_000).filter(|n| refusals.note(&format!("X{n}"), at(61)).is_some()).count();
        assert!(told <= MOST, "{told}");
        assert!(refusals.seen.lock().unwrap().len() <= MOST + 1);
    }

    #[test]
    fn the_key_id_is_found_in_header_and_query() {
        let of = |uri: &str, header: &str| {
            let request = http::Request::builder().uri(uri).header(AUTHORIZATION, header);
            key_id(&request.body(()).unwrap().into_parts().0)
        };
        assert_eq!(of("/", "AWS4-HMAC-SHA256 Credential=AKIA1/20260101/x, Signed"), "AKIA1");
        assert_eq!(of("/?X-Amz-Credential=AKIA2%2F2026", ""), "AKIA2");
        assert_eq!(of("/", "Bearer x"), "");
        assert_eq!(of("/", &format!("Credential={}", "A".repeat(9999))).len(), LONGEST_ID);
    }
}

//! When each access key was used last, so that one that nobody uses can be told and deleted: its answer
//! may have been lost, or its owner be gone.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use provault_catalog::AccessKeyRow;

use crate::App;

/// A use is noted when the last one that was noted is older: requests come by the second.
const COARSE: SignedDuration = SignedDuration::from_hours(1);

#[derive(Debug, Default)]
pub(crate) struct KeyUses(Mutex<HashMap<String, Timestamp>>);

impl KeyUses {
    pub(crate) fn of(rows: &[AccessKeyRow]) -> Self {
        let known =
            rows.iter().filter_map(|row| Some((row.access_key_id.clone(), row.last_used_at?)));
        Self(Mutex::new(known.collect()))
    }

    pub(crate) fn last(&self, access_key_id: &str) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(access_key_id).copied()
    }

    /// Whether this use is to be noted.
    fn note(&self, access_key_id: &str, now: Timestamp) -> bool {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was ahead must not hide every use until it is reached again.
        let recent = |last: &Timestamp| now.duration_since(*last).abs() < COARSE;
        if uses.get(access_key_id).is_some_and(recent) {
            return false;
        }
        uses.insert(access_key_id.to_owned(), now);
        true
    }
}

impl App {
    /// A request was signed with this key. Noted to the hour, and not waited for: a use that a crash
    /// takes is noted with the next.
    pub fn access_key_was_used(&self, access_key_id: &str) {
        let now = self.now();
        if !self.inner.uses.note(access_key_id, now) {
            return;
        }
        let (app, id) = (self.clone(), access_key_id.to_owned());
        tokio::spawn(async move {
            if let Err(error) = app.catalog().access_key_used(&id, now).await {
                tracing::warn!(%error, "the use of an access key was not noted");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_noted_once_an_hour() {
        let uses = KeyUses::default();
        let at = |minutes| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        assert_eq!(uses.last("a"), None);
        assert!(uses.note("a", at(100)) && !uses.note("a", at(159)) && uses.note("b", at(159)));
        assert_eq!(uses.last("a"), Some(at(100)));
        assert!(uses.note("a", at(160)));
        assert!(uses.note("a", at(1)), "the clock was set back");
    }
}

//! How long recovery points are kept.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Invalid;

/// Retention of a recovery point, in days from its creation. `None` and −1 mean for ever, as in
/// AWS Backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// Days until it is deleted: −1 or 1 to 36,500.
    pub delete_after_days: Option<i64>,
    /// Days until it moves to cold storage: −1 or 1 to 36,500.
    pub move_to_cold_storage_after_days: Option<i64>,
    /// Whether supported resources move to cold storage by their own means.
    pub opt_in_to_archive: Option<bool>,
}

const LONGEST_DAYS: i64 = 36_500;

impl Lifecycle {
    /// AWS's rules: each between 1 and 36,500 days or −1, deletion at least 90 days after the move
    /// to cold storage.
    pub fn validate(&self) -> Result<(), Invalid> {
        let days = |member: &str, value: Option<i64>| match value {
            Some(v) if v != -1 && !(1..=LONGEST_DAYS).contains(&v) => Err(Invalid::new(
                member,
                format!(
                    "{v} days is not possible; use 1 to {LONGEST_DAYS}, or -1 to keep for ever."
                ),
            )),
            _ => Ok(()),
        };
        days("Lifecycle.DeleteAfterDays", self.delete_after_days)?;
        days("Lifecycle.MoveToColdStorageAfterDays", self.move_to_cold_storage_after_days)?;
        if let (Some(cold), Some(delete)) = (self.cold_days(), self.delete_days())
            && delete < cold + 90
        {
            return Err(Invalid::new(
                "Lifecycle.DeleteAfterDays",
                format!(
                    "{delete} days is too soon: what moves to cold storage after {cold} days stays there \
                     at least 90 days; use {} or more.",
                    cold + 90
                ),
            ));
        }
        Ok(())
    }

    /// Days until deletion, `None` for ever.
    pub fn delete_days(&self) -> Option<i64> {
        self.delete_after_days.filter(|d| *d > 0)
    }

    /// Days until the move to cold storage, `None` for never.
    pub fn cold_days(&self) -> Option<i64> {
        self.move_to_cold_storage_after_days.filter(|d| *d > 0)
    }

    /// When a recovery point created at `created` is to be deleted; `None` for never.
    pub fn delete_at(&self, created: Timestamp) -> Option<Timestamp> {
        days_after(created, self.delete_days()?)
    }

    /// When a recovery point created at `created` is to move to cold storage; `None` for never.
    pub fn cold_at(&self, created: Timestamp) -> Option<Timestamp> {
        days_after(created, self.cold_days()?)
    }
}

/// A day of retention is 24 hours: retention does not follow anybody's daylight saving. `None`
/// when that lies behind the end of time.
fn days_after(created: Timestamp, days: i64) -> Option<Timestamp> {
    let duration = SignedDuration::try_from_hours(days.checked_mul(24)?)?;
    created.checked_add(duration).ok()
}

//! Recovery points: what can be restored.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::backup_job::CreatedBy;
use crate::retention::{Hold, Shrunk};
use crate::step::state_names;
use crate::{AccountId, Arn, Kind, Lifecycle, Region, Verdict};

/// A point that is captured later than now by no more than this was made by a clock that is kept right.
pub const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(1);

/// The latest moment that may be called the present at `now`. What bears a later one was made by a clock
/// that was ahead, or the clock is behind now.
pub fn present(now: Timestamp) -> Timestamp {
    now.checked_add(CLOCK_SLACK).unwrap_or(Timestamp::MAX)
}

/// A state of a resource that can be restored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryPoint {
    /// `arn:aws:backup:R:A:recovery-point:UUID`.
    pub arn: Arn,
    /// Tenant.
    pub account: AccountId,
    /// Site.
    pub region: Region,
    /// The vault that holds it.
    pub vault_name: String,
    /// ARN of that vault.
    pub vault_arn: Arn,
    /// What it is a state of.
    pub resource_arn: Arn,
    /// Name of the resource at the time.
    pub resource_name: String,
    /// Kind of the resource.
    pub kind: Kind,
    /// The job that made it.
    pub backup_job_id: String,
    /// The role that job ran under.
    pub role_arn: Arn,
    /// The plan and rule behind it, if any.
    pub created_by: Option<CreatedBy>,
    /// The key that seals it.
    pub encryption_key_arn: Arn,
    /// What it is: COMPLETED, PARTIAL or DELETING. [`RecoveryPoint::shown_status`] is what clients
    /// see.
    pub status: RecoveryPointStatus,
    /// Why, when that is not COMPLETED.
    pub status_message: Option<String>,
    /// The moment whose state it holds: when the capture was taken.
    pub captured_at: Timestamp,
    /// When the job was created, or the capture taken where that was later; retention counts from
    /// here.
    pub created_at: Timestamp,
    /// When it became restorable.
    pub completed_at: Timestamp,
    /// Bytes of the resource in it.
    pub backup_size_bytes: u64,
    /// Retention.
    pub lifecycle: Lifecycle,
    /// What it holds.
    pub payload: Payload,
    /// What `GetRecoveryPointRestoreMetadata` answers.
    pub restore_metadata: BTreeMap<String, String>,
    /// When it was last restored.
    pub last_restore_at: Option<Timestamp>,
    /// What the newest restore test of it said.
    pub last_verdict: Option<PointVerdict>,
    /// What is wrong with what the vault holds of it, as far as that was noticed.
    #[serde(default)]
    pub condition: Option<PointCondition>,
    /// That it holds much less than the newest good point before it, where it does.
    #[serde(default)]
    pub shrunk: Option<Shrunk>,
    /// Why it is still there, where it is to go.
    #[serde(default)]
    pub hold: Option<Hold>,
}

/// Something that is wrong with a recovery point. It stays listed: that it cannot be restored, or
/// not whole, is what its owner has to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointCondition {
    /// What kind of trouble.
    pub trouble: PointTrouble,
    /// When it was noticed.
    pub since: Timestamp,
    /// What is wrong, for people.
    pub message: String,
    /// The restore test that noticed it, if one did. Only a look at every byte knows better: a check of
    /// all data, or another test of the point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_test_id: Option<String>,
}

/// Kinds of trouble with a recovery point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PointTrouble {
    /// Some of its files cannot be restored.
    Damaged,
    /// Its snapshot is gone from the vault: nothing of it can be restored.
    Missing,
}
state_names!(PointTrouble { Damaged = "DAMAGED", Missing = "MISSING" });

/// The newest verdict on a recovery point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointVerdict {
    /// The verdict.
    pub verdict: Verdict,
    /// The test that gave it.
    pub restore_test_id: String,
    /// When.
    pub at: Timestamp,
    /// Of a point that is `NOT_TESTED`: whether a newer one took its place. A test of that one is owed then, and
    /// none of a point that was left out by the share of points that are tested.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overtaken: bool,
}

impl PointVerdict {
    /// What a test said of a point at `at`.
    pub fn of(verdict: Verdict, restore_test_id: &str, at: Timestamp) -> Self {
        Self { verdict, restore_test_id: restore_test_id.to_owned(), at, overtaken: false }
    }
}

/// What a recovery point holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Payload {
    /// Bytes in the vault's repository.
    Stored {
        /// Hexadecimal id of the snapshot.
        snapshot_id: String,
        /// Where the resource's tree begins in it, without a leading `/`.
        tree_path: String,
        /// Bytes the backup added to the repository.
        bytes_stored: u64,
        /// Regular files in it.
        files: u64,
    },
}

/// AWS's states of a recovery point, as far as they occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecoveryPointStatus {
    /// Whole and restorable.
    Completed,
    /// Restorable, some paths of the source are missing from it.
    Partial,
    /// Being deleted; no longer offered for restore.
    Deleting,
    /// Overdue for deletion, but something forbids it. Shown, never kept: see
    /// [`RecoveryPoint::shown_status`].
    Expired,
}
state_names!(RecoveryPointStatus {
    Completed = "COMPLETED",
    Partial = "PARTIAL",
    Deleting = "DELETING",
    Expired = "EXPIRED",
});

impl RecoveryPoint {
    /// Whether it may be restored.
    pub fn is_restorable(&self) -> bool {
        self.status != RecoveryPointStatus::Deleting
    }

    /// Whether it says that it was captured at a moment that is yet to come. Nobody knows how old it
    /// is, so it is never taken for the newest where another one is.
    pub fn is_from_the_future(&self, now: Timestamp) -> bool {
        self.captured_at > present(now)
    }

    /// Whether a restore test should have followed its backup by the plan's word and was not made on
    /// purpose: because of the share of points that are tested, or because a newer one took its place.
    pub fn is_left_out(&self) -> bool {
        self.last_verdict.as_ref().is_some_and(|last| last.verdict == Verdict::NotTested)
    }

    /// The status that clients see.
    ///
    /// AWS has no state for a point whose stored data is damaged or gone: PARTIAL is the one that
    /// promises no whole restore. EXPIRED is what is to go and is still there: because nothing
    /// newer is as good, or because its snapshot could not be deleted.
    pub fn shown_status(&self) -> RecoveryPointStatus {
        use RecoveryPointStatus as S;
        match (self.status, &self.hold) {
            // What an operator deletes has not expired.
            (S::Deleting, Some(hold)) if self.is_overdue(hold.since) => S::Expired,
            (S::Deleting, _) => S::Deleting,
            _ if self.condition.is_some() => S::Partial,
            (_, Some(_)) => S::Expired,
            (status, None) => status,
        }
    }

    /// Why it does not stand at COMPLETED, and whatever else its owner has to know.
    pub fn shown_message(&self) -> Option<String> {
        let all: Vec<String> = [
            self.condition.as_ref().map(|condition| condition.message.clone()),
            self.hold.as_ref().map(|hold| hold.message.clone()),
            self.shrunk_message(),
            self.status_message.clone(),
        ]
        .into_iter()
        .flatten()
        .collect();
        (!all.is_empty()).then(|| all.join(" "))
    }

    /// Whether retention is over at `now`.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.lifecycle.delete_at(self.created_at).is_some_and(|at| at <= now)
    }
}

//! Whether all is well.

use serde::{Deserialize, Serialize};

use super::EpochSeconds;

message! {
    /// How well everything is that the server looks after.
    Status {
        /// The moment it is about.
        time: EpochSeconds,
        /// Whether no resource and no vault has a trouble.
        well: bool,
        /// Every registered resource that is backed up from here.
        resources: Vec<ResourceStatus>,
        /// What is wrong with vaults.
        alarms: Vec<StandingAlarm>,
    }
}

message! {
    /// How well a resource is protected.
    ResourceStatus {
        /// The resource.
        resource_arn: String,
        /// Its name.
        name: String,
        /// `PROTECTED`, `WAITING` (its first backup is not due yet), `UNPROTECTED` (nothing promises
        /// a backup), `OVERDUE` or `EXEMPT`.
        protection: String,
        /// Verdict on its newest recovery point; absent where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verdict: Option<String>,
        /// Capture time of its newest recovery point.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_backup_time: Option<EpochSeconds>,
        /// What is not as it should be; empty when all is well.
        troubles: Vec<Trouble>,
        /// Why it needs no backup; it may have ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exemption: Option<Exemption>,
        /// As in [`Resource`](super::Resource).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left_out: Option<String>,
    }
}

message! {
    /// Something that is not as it should be.
    Trouble {
        /// `OVERDUE`, `UNPROTECTED`, `NOT_TESTED`, `TEST_FAILED`, `DAMAGED` or `NOT_GOOD`.
        kind: String,
        /// Why.
        reason: String,
    }
}

message! {
    /// Why a resource needs no backup.
    Exemption {
        /// Why.
        reason: String,
        /// Who stands for it.
        owner: String,
        /// From this moment on it says nothing any more.
        end_date: EpochSeconds,
        /// When it was given.
        creation_date: EpochSeconds,
    }
}

message! {
    /// Exempts a resource, for 366 days at most.
    ExemptResourceInput {
        /// Why it needs no backup.
        reason: String,
        /// Who stands for it.
        owner: String,
        /// From this moment on the exemption says nothing any more.
        end_date: EpochSeconds,
    }
}

message! {
    /// An alarm of a vault that stands.
    StandingAlarm {
        /// The vault.
        backup_vault_name: String,
        /// As in a vault's care.
        alarm: String,
        /// Since when.
        since: EpochSeconds,
        /// What is wrong and what to do.
        message: String,
    }
}

message! {
    /// What the server needs, and what it is like.
    Health {
        /// `OK`, `WARNING` or `FAILED`: the worst of the findings.
        state: String,
        /// Everything that was looked at.
        findings: Vec<Finding>,
    }
}

message! {
    /// What was looked at, and what it is like.
    Finding {
        /// Such as `disk`, `clock`, `vault Default`.
        check: String,
        /// `OK`, `WARNING` or `FAILED`.
        state: String,
        /// What was seen, and what to do where something is wrong.
        detail: String,
    }
}

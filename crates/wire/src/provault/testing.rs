//! Restore tests after backups.

use serde::{Deserialize, Serialize};

use super::EpochSeconds;

message! {
    /// Says whether a restore test follows every backup, and within which budgets, in place of what was said
    /// before. What a resource says goes before what its selection says, and that before the plan.
    PutTestingInput {
        /// Whether one follows.
        test_after_backup: bool,
        /// Of a hundred recovery points of a resource so many are tested, 1 to 100; all when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        share_percent: Option<u32>,
        /// The part of the day in which tests begin; at any time when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window: Option<TestWindow>,
        /// How many tests of this setting run at a time, 1 to 64; as many as the server lets when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tests_at_once: Option<u32>,
    }
}

message! {
    /// A part of every day; over midnight where `To` is the earlier one.
    TestWindow {
        /// `HH:MM`.
        from: String,
        /// `HH:MM`.
        to: String,
        /// IANA name of the time zone; `Etc/UTC` when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timezone: Option<String>,
    }
}

message! {
    /// What is said; without members where nothing is.
    Testing {
        /// Whether a restore test follows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        test_after_backup: Option<bool>,
        /// Of a hundred recovery points so many are tested.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        share_percent: Option<u32>,
        /// The part of the day in which tests begin.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window: Option<TestWindow>,
        /// How many run at a time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tests_at_once: Option<u32>,
        /// When it was said. What was backed up before is not expected to be tested.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        change_date: Option<EpochSeconds>,
    }
}

impl Testing {
    /// Nothing is said.
    pub const NOTHING: Self = Self {
        test_after_backup: None,
        share_percent: None,
        window: None,
        tests_at_once: None,
        change_date: None,
    };
}

message! {
    /// The question to somebody outside about the copy of a restore test.
    TestValidation {
        /// Where the copy lies on the server's machine, while it is there.
        copy_path: String,
        /// How long it is kept at most.
        until_date: EpochSeconds,
        /// The last word: `VALIDATING` while no result was reported.
        status: String,
        /// In the reporter's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    }
}

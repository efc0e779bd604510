//! How recovery points are kept, beside the lifecycle of each.

use serde::{Deserialize, Serialize};

use super::EpochSeconds;

message! {
    /// Changes how the recovery points of a resource are kept; what is absent stays as it is.
    UpdateRetentionInput {
        /// A new recovery point with less than this share of the bytes or files of the newest good
        /// one is marked, in percent; 0 switches the alarm off.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shrink_alarm_percent: Option<u32>,
        /// Recovery points that are kept at most, in all vaults together; 0 for no limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep_at_most: Option<u32>,
    }
}

message! {
    /// What a recovery point is worth to retention.
    PointRetention {
        /// The point.
        recovery_point_arn: String,
        /// What it is a state of.
        resource_arn: String,
        /// As in `DescribeRecoveryPoint`.
        status: String,
        /// As in `DescribeRecoveryPoint`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status_message: Option<String>,
        /// Whether it is COMPLETED, not known to be hurt, and not shrunk.
        good: bool,
        /// Why it is still there, where it is to go.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hold: Option<PointHold>,
        /// That it holds much less than the newest good one before it, where it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shrunk: Option<ShrunkPoint>,
    }
}

message! {
    /// Why a recovery point that is to go is still there.
    PointHold {
        /// Since when.
        since: EpochSeconds,
        /// Why and what to do.
        message: String,
    }
}

message! {
    /// A recovery point holds much less than the newest good one before it.
    ShrunkPoint {
        /// Bytes of the resource in it.
        bytes: u64,
        /// Regular files in it.
        files: u64,
        /// The point before it.
        before_recovery_point_arn: String,
        /// Bytes of the resource in that one.
        bytes_before: u64,
        /// Regular files in that one.
        files_before: u64,
        /// The share that was asked for, in percent.
        percent: u32,
        /// When an operator said that it is right so; until then the point is not good.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        acceptance_date: Option<EpochSeconds>,
    }
}

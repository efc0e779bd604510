//! What a restore would do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::EpochSeconds;

message! {
    /// Asks what `StartRestoreJob` would do now with the same members.
    PreviewRestoreInput {
        /// The recovery point.
        recovery_point_arn: String,
        /// As for `StartRestoreJob`.
        metadata: BTreeMap<String, String>,
        /// What the caller believes the recovery point to be.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource_type: Option<String>,
    }
}

message! {
    /// What a restore would do.
    RestorePreview {
        /// Where it would go to.
        target: String,
        /// Whether it would go into something that exists.
        in_place: bool,
        /// Would be written where nothing is.
        created: PreviewCount,
        /// Would be written over what exists.
        overwritten: PreviewCount,
        /// Only owner, mode, times or attributes would be set.
        updated: PreviewCount,
        /// Is as in the recovery point, as far as the overwrite mode looks.
        same: PreviewCount,
        /// Would be left, because what exists is newer.
        kept_newer: PreviewCount,
        /// Would be left although it differs, because the overwrite mode says so.
        kept: PreviewCount,
        /// Would be deleted, because the recovery point does not have it.
        deleted: PreviewCount,
        /// A directory in place of something else, or the reverse: the restore would be refused.
        conflicts: PreviewCount,
        /// What is not the same, in the order of the paths: the first 1000.
        changes: Vec<PreviewChange>,
        /// How many more there are.
        changes_left_off: u64,
        /// Symbolic links that would be made and point out of the target: the first 100. The restore follows
        /// none.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        outside_links: Vec<PreviewLink>,
        /// How many of them there are.
        #[serde(default)]
        outside_link_count: u64,
    }
}

message! {
    /// A symbolic link that would be made.
    PreviewLink {
        /// Relative to the target.
        path: String,
        /// Where it points to.
        points_to: String,
    }
}

message! {
    /// How many entries, and the bytes of the files among them.
    PreviewCount {
        /// Files, directories, links and others.
        entries: u64,
        /// Bytes of content.
        bytes: u64,
    }
}

message! {
    /// A path that would change, or would be left although it differs.
    PreviewChange {
        /// Relative to the target.
        path: String,
        /// `CREATE`, `OVERWRITE`, `UPDATE`, `KEEP_NEWER`, `KEEP`, `DELETE` or `CONFLICT`.
        action: String,
        /// Bytes of content in the recovery point; of what would be deleted, on disk.
        bytes: u64,
        /// Whether what exists was changed after what was backed up.
        newer: bool,
        /// When what exists was changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        existing_time: Option<EpochSeconds>,
        /// When what was backed up had been changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovery_point_time: Option<EpochSeconds>,
    }
}

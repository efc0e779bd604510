//! Snapshots: the root of one backup.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::{Id, SnapshotId};

/// A snapshot, whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// When the backup was made.
    pub time: jiff::Timestamp,
    /// The snapshot whose unchanged files were taken over.
    pub parent: Option<SnapshotId>,
    /// Root tree.
    pub tree: Id,
    /// The backed-up paths.
    pub paths: Vec<String>,
    /// Host the backup was made on.
    pub hostname: String,
    /// User it was made by.
    pub username: String,
    /// Tags, such as the id of the job that made it.
    pub tags: Vec<String>,
    /// When reading the source began, by the clock that its file times come from. Told by a field
    /// of our own; else it is `time`.
    pub read_at: jiff::Timestamp,
    /// The program that made it, if it told.
    pub program_version: String,
    /// How far the clock it was made by was ahead of UTC, in seconds.
    pub utc_offset: i32,
    /// For a snapshot that was changed or copied: the one that it was first.
    pub original: Option<SnapshotId>,
}

/// A snapshot file: restic's fields, in restic's order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SnapshotFile {
    pub(crate) time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Id>,
    pub(crate) tree: Id,
    #[serde(default)]
    pub(crate) paths: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) hostname: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) username: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) original: Option<Id>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) program_version: String,
    /// Ours: see [`Snapshot::read_at`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provault_read_at: Option<String>,
}

/// Of a time in RFC 3339.
fn utc_offset(time: &str) -> i32 {
    let pieces = jiff::fmt::temporal::DateTimeParser::new().parse_pieces(time);
    let offset = pieces.ok().and_then(|pieces| pieces.to_numeric_offset());
    offset.map_or(0, jiff::tz::Offset::seconds)
}

impl Snapshot {
    pub(crate) fn parse(id: SnapshotId, json: &[u8]) -> Result<Self> {
        let bad = |reason: &dyn std::fmt::Display| {
            Error::damaged(format!("snapshots/{id}"), reason.to_string())
        };
        let file: SnapshotFile = serde_json::from_slice(json).map_err(|error| bad(&error))?;
        let time = file.time.parse().map_err(|error: jiff::Error| bad(&error))?;
        let read_at = file.provault_read_at.and_then(|text| text.parse().ok()).unwrap_or(time);
        Ok(Self {
            id,
            time,
            read_at,
            utc_offset: utc_offset(&file.time),
            original: file.original,
            parent: file.parent,
            tree: file.tree,
            paths: file.paths.unwrap_or_default(),
            hostname: file.hostname,
            username: file.username,
            tags: file.tags.unwrap_or_default(),
            program_version: file.program_version,
        })
    }

    /// Whether it bears the tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }
}

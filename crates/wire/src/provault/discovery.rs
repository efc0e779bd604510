//! What stands on the server's host.

use serde::{Deserialize, Serialize};

use super::EpochSeconds;

message! {
    /// What stands on the server's host and could be registered.
    Discovery {
        /// By kind, then in the order of their locations.
        found: Vec<Discovered>,
        /// Why not everything was looked at; empty where it was.
        #[serde(default)]
        cut: Vec<String>,
        /// What could not be offered, and why.
        #[serde(default)]
        notes: Vec<String>,
    }
}

message! {
    /// Something that could be registered.
    Discovered {
        /// `filesystem`.
        kind: String,
        /// Where it is: for a file system the path.
        location: String,
        /// What it is, for people.
        what: String,
        /// A name to register it under; no resource has it.
        name: String,
        /// Settings to register it with.
        config: serde_json::Value,
        /// Bytes of content, as far as they were counted.
        bytes: u64,
        /// Regular files, as far as they were counted.
        files: u64,
        /// Whether all of it was counted.
        counted: bool,
        /// When the file in it that changed last did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        newest_date: Option<EpochSeconds>,
        /// `NOTHING`, `REGISTERED` (it is one of `Resources`), `INSIDE` (it lies in one and is backed
        /// up with it) or `PARTS` (they hold parts of it).
        coverage: String,
        /// Names of the resources that hold of it what they hold.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        resources: Vec<String>,
        /// Whether that resource needs no backup, by somebody's word.
        #[serde(default)]
        exempt: bool,
        /// What to know before it is registered as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        advice: Option<String>,
    }
}

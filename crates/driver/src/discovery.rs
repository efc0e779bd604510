//! What stands on a host and could be protected.

use std::time::Instant;

use jiff::Timestamp;
use provault_domain::Resource;

/// What a driver is asked to look for, and how far it may go.
#[derive(Debug, Clone, Copy)]
pub struct DiscoverRequest<'a> {
    /// The resources of the driver's kind that are registered and backed up from here.
    pub registered: &'a [Resource],
    /// From here on nothing more is looked at; what was found by then is told, and that it was cut.
    pub deadline: Instant,
    /// How many names are looked at, at most.
    pub max_entries: u64,
    /// What is not known by its place is told from this many bytes on.
    pub large_bytes: u64,
}

/// What a driver found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Discovery {
    /// In the order of their locations.
    pub found: Vec<Discovered>,
    /// Why not everything was looked at, if it was not.
    pub cut: Option<String>,
    /// What could not be offered, and why.
    pub notes: Vec<String>,
}

/// Something that could be registered.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovered {
    /// Where it is: for a file system the path.
    pub location: String,
    /// What it is, for people.
    pub what: String,
    /// A name to register it under; no registered resource has it.
    pub name: String,
    /// Settings as [`Driver::check_config`](crate::Driver::check_config) takes them.
    pub config: serde_json::Value,
    /// Bytes of content, as far as they were counted.
    pub bytes: u64,
    /// Regular files, as far as they were counted.
    pub files: u64,
    /// Whether all of it was counted.
    pub counted: bool,
    /// When the file in it that changed last did.
    pub newest: Option<Timestamp>,
    /// What is protected of it already.
    pub coverage: Coverage,
    /// What to know before it is registered as it is.
    pub advice: Option<String>,
}

/// What registered resources hold of something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coverage {
    /// Nothing.
    Nothing,
    /// It is the resource of this name.
    Registered(String),
    /// It lies in the resource of this name, and is backed up with it.
    Inside(String),
    /// Resources of these names hold parts of it.
    Parts(Vec<String>),
}

//! What a look over the server looks at.

use crate::step::state_names;

/// One of the things that `provault doctor` looks at. The page for when it is red has a row for each, which a
/// test demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DoctorCheck {
    /// Room where the data directory lies.
    Disk,
    /// Who may look into the data directory.
    Permissions,
    /// The loops of the engine.
    Engine,
    /// A source that does not answer; one for each.
    Source,
    /// Whether the server may read what belongs to others.
    Privileges,
    /// The time of day.
    Clock,
    /// Whether restored applications can be isolated.
    Isolation,
    /// A vault and its storage; one for each.
    Vault,
    /// A topic with a receiver that does not get what it is sent.
    Topic,
    /// Deliveries that were given up.
    Deliveries,
    /// The certificate in use, with HTTPS.
    Certificate,
}
state_names!(DoctorCheck {
    Disk = "disk",
    Permissions = "permissions",
    Engine = "engine",
    Source = "source",
    Privileges = "privileges",
    Clock = "clock",
    Isolation = "isolation",
    Vault = "vault",
    Topic = "topic",
    Deliveries = "deliveries",
    Certificate = "certificate",
});

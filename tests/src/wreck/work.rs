//! What is running when the machine dies.

use crate::Sandbox;
use crate::disk::Count;

/// A command of `provault repository`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// The repository is made.
    Init,
    /// A backup of something new.
    Backup,
    /// A snapshot is copied from another repository.
    Copy,
    /// What was forgotten goes: some packs are deleted, others copied first.
    Prune,
    /// Everything is checked to the last byte.
    Check,
    /// A snapshot is restored.
    Restore,
}

impl Work {
    /// All there are.
    pub const ALL: &[Self] =
        &[Self::Init, Self::Backup, Self::Copy, Self::Prune, Self::Check, Self::Restore];

    /// Whether it adds a snapshot.
    pub fn commits(self) -> bool {
        matches!(self, Self::Backup | Self::Copy)
    }

    /// What its points are: its changes, or, when it makes next to none, all it does.
    pub fn counts(self) -> Count {
        match self {
            Self::Init | Self::Backup | Self::Copy | Self::Prune => Count::Changes,
            Self::Check | Self::Restore => Count::Operations,
        }
    }

    /// The command behind `provault repository --repo … --password-file …`.
    pub(super) fn args(self, sandbox: &Sandbox) -> Vec<String> {
        let path = |name: &str| sandbox.path(name).to_str().unwrap().to_owned();
        let fixed = |args: &[&str]| args.iter().map(ToString::to_string).collect();
        match self {
            Self::Init => fixed(&["init"]),
            Self::Backup => fixed(&["backup", &path("new")]),
            Self::Copy => {
                let (from, password) = (path("other"), path("password"));
                fixed(&["copy", "--from-repo", &from, "--from-password-file", &password])
            }
            Self::Prune => fixed(&["prune", "--max-unused", "0"]),
            Self::Check => fixed(&["check", "--read-data"]),
            Self::Restore => fixed(&["restore", "latest", &path("restored")]),
        }
    }
}

//! What can go wrong between a resource and a vault, and whose fault it is.

use std::io;
use std::path::{Path, PathBuf};

use provault_domain::Invalid;
use provault_domain::verdict::Fault;

use crate::BrokenOff;

/// A sink did not take what it was given.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The file handed over could not be read: the driver lists it and goes on.
    #[error("{0}")]
    Read(#[source] io::Error),
    /// The vault could not take it: the job ends.
    #[error("the vault could not store the data: {0}")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The flag was raised.
    #[error("stopped on request")]
    Cancelled,
}

/// A source did not give what was asked of it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    /// The stored data is damaged or missing.
    #[error("the stored data of {path} is damaged: {message}")]
    Damaged {
        /// Which entry, for people.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// The vault cannot be read now; a retry may help.
    #[error("the vault cannot be read: {0}")]
    Unavailable(String),
    /// The flag was raised.
    #[error("stopped on request")]
    Cancelled,
}

/// A capture or restore could not be done.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The resource is not where it was registered.
    #[error("{} is not there: {reason} Nothing was backed up. Mount or restore it, or change the resource.", path.display())]
    SourceMissing {
        /// Where it should be.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// The resource is there but suspiciously empty.
    #[error("{} {reason} Nothing was backed up. If that is meant, register the resource with --allow-empty.", path.display())]
    SourceEmpty {
        /// Where it is.
        path: PathBuf,
        /// `holds no entries.` or `should be a mount point and is not.`
        reason: String,
    },
    /// A restore would write over something.
    #[error("{} exists already; nothing was restored. Choose a target that does not exist.", path.display())]
    TargetExists {
        /// What exists.
        path: PathBuf,
    },
    /// A restore in place would have to put a file where a directory is, or the reverse.
    #[error("{} {what}; nothing was restored. Move it away, or let the overwrite mode be 'always', which replaces it with all that is in it.", path.display())]
    Conflict {
        /// What is in the way.
        path: PathBuf,
        /// Such as `is a directory, and a file in the recovery point`.
        what: String,
    },
    /// What was written is not what the recovery point holds.
    #[error(
        "{path} {what}. What was restored does not agree with the recovery point, so it was not put in place. Look whether the disk or its memory is failing, and restore again."
    )]
    Unverified {
        /// Relative to the restored directory, for people.
        path: String,
        /// Such as `has other content between bytes 0 and 512`.
        what: String,
    },
    /// Files that a restore had made were gone when they were to get their place.
    #[error(
        "{count} of the paths that were written vanished before they were put in place, and are not restored: {paths}. {} Find out what removes files at {}, and restore again.", rest(*others_in_place), target.display()
    )]
    Vanished {
        /// What was restored into.
        target: PathBuf,
        /// How many.
        count: u64,
        /// The first of them, relative to the target, for people.
        paths: String,
        /// Whether all others have got their place; else none has.
        others_in_place: bool,
    },
    /// A restore that writes over its target, as was asked, broke off after it had begun to write.
    #[error("{} {}", sentence(error), broken_off.told(target))]
    PartlyWritten {
        /// What was written over.
        target: PathBuf,
        /// How far it came.
        broken_off: BrokenOff,
        /// Why it broke off.
        error: Box<DriverError>,
    },
    /// What was asked to be restored is not in the recovery point.
    #[error("'{path}' is not in the recovery point; nothing was restored.")]
    NoSuchItem {
        /// As the caller wrote it.
        path: String,
    },
    /// A setting is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The system refused.
    #[error("{doing} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// What was being done, such as `reading`.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The vault refused.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The vault did not give.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The flag was raised.
    #[error("stopped on request")]
    Cancelled,
}

/// What to do about the system's answer, where that is plain.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            "; the file system is full: make room there, or choose another place, and start again"
        }
        io::ErrorKind::QuotaExceeded => {
            "; the quota is used up: raise it, make room, or choose another place, and start again"
        }
        _ => "",
    }
}

/// An error as a sentence that another may follow.
fn sentence(error: &DriverError) -> String {
    let told = error.to_string();
    if told.ends_with('.') { told } else { format!("{told}.") }
}

/// What became of the files that did not vanish.
fn rest(others_in_place: bool) -> &'static str {
    if others_in_place { "Everything else is in place." } else { "Nothing was put in place." }
}

impl DriverError {
    /// Whose fault it is when it happens in a restore test.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Source(SourceError::Damaged { .. }) | Self::NoSuchItem { .. } => Fault::Data,
            Self::PartlyWritten { error, .. } => error.fault(),
            _ => Fault::Host,
        }
    }

    /// Whether it is no failure but the answer to a raised flag.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::PartlyWritten { error, .. } => error.is_cancelled(),
            Self::Cancelled
            | Self::Sink(SinkError::Cancelled)
            | Self::Source(SourceError::Cancelled) => true,
            _ => false,
        }
    }

    /// The target that it left written over in part, and how far that came.
    pub fn partly_written(&self) -> Option<(&Path, BrokenOff)> {
        match self {
            Self::PartlyWritten { target, broken_off, .. } => Some((target, *broken_off)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_partly_written_stays_what_it_broke_off_for() {
        let partly = |error| DriverError::PartlyWritten {
            target: "/dev/vg0/new".into(),
            broken_off: BrokenOff::Writing,
            error: Box::new(error),
        };
        assert!(partly(DriverError::Cancelled).is_cancelled());
        let message = "block 3 does not match".to_owned();
        let damaged = partly(SourceError::Damaged { path: "disk".to_owned(), message }.into());
        assert!(!damaged.is_cancelled());
        assert_eq!(damaged.fault(), Fault::Data);
        let told = damaged.to_string();
        assert!(
            told.contains("block 3 does not match. The target at /dev/vg0/new is partly written")
        );
        assert!(told.contains("Do not use it; restore onto it again"), "{told}");
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let told = |errno| {
            let source = io::Error::from_raw_os_error(errno);
            DriverError::Io { doing: "writing", path: "/target/file".into(), source }.to_string()
        };
        // As Linux numbers them.
        let (no_space, quota, denied) = (28, 122, 13);
        let full = told(no_space);
        assert!(full.starts_with("writing /target/file: No space left"), "{full}");
        assert!(full.ends_with("make room there, or choose another place, and start again"));
        assert!(told(quota).contains("raise it, make room"));
        assert!(!told(denied).contains(';'));
    }
}

//! What can go wrong while something is proven, and whose fault it is.

use std::io;
use std::path::{Path, PathBuf};

use provault_domain::Invalid;
use provault_domain::verdict::{Failure, Fault};
use provault_driver::SourceError;

/// The test could not be done, or the vault's data could not be read. A probe that was answered
/// wrongly is no error: it is a result.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The host does not permit the namespaces isolation is made of.
    #[error("this host does not let Provault isolate a restored copy ({what}): {advice}")]
    Unsupported {
        /// What was refused, with the system's answer.
        what: String,
        /// What an operator can do.
        advice: String,
    },
    /// Isolation began and could not be completed.
    #[error("the restored copy could not be isolated: {step}: {message}")]
    Isolation {
        /// What was being done.
        step: String,
        /// The system's answer.
        message: String,
    },
    /// A place that must not be seen from inside holds what every program needs.
    #[error(
        "{} cannot be hidden from the restored application: it holds the system's own programs. \
         Register a directory that does not.", path.display()
    )]
    CannotHide {
        /// The place.
        path: PathBuf,
    },
    /// The helper did not start, or ended without a report.
    #[error("the isolation helper failed: {0}")]
    Helper(String),
    /// The request cannot be carried out as it stands.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The vault did not give the manifest.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The system refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done, such as `reading`.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another file system is mounted inside the copy.
    #[error(
        "another file system is mounted at {} inside the restored copy; nothing in it was \
         touched. Unmount it and test again.", path.display()
    )]
    Mounted {
        /// Where.
        path: PathBuf,
    },
    /// The flag was raised.
    #[error("stopped on request")]
    Cancelled,
}

impl ProofError {
    /// For `map_err`: what was being done to which path.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// Whose fault it is. Only damaged data in the vault speaks against the recovery point.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Source(SourceError::Damaged { .. }) => Fault::Data,
            _ => Fault::Host,
        }
    }

    /// Whether it is no failure but the answer to a raised flag.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Source(SourceError::Cancelled))
    }

    /// The error as a finding of a restore test.
    pub fn failure(&self, step: &str) -> Failure {
        Failure { fault: self.fault(), step: step.to_owned(), message: self.to_string() }
    }
}

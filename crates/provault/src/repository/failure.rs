//! How a command ends when it does not end well.

use std::process::ExitCode;

use provault_cli::CliError;
use provault_domain::Invalid;
use provault_driver::{DriverError, SinkError, SourceError};
use provault_repository::Error;

/// The exit codes, as `provault repository --help` prints them. The numbers are restic's.
pub(crate) const EXIT_CODES: &str = "\
Exit codes of 'provault repository':
  0    done, and whole
  1    failed, or damage was found; the message says what and what to do
  2    the command line is wrong; nothing was done
  3    the backup is there but lacks paths that could not be read; they are listed
  10   there is no repository at this place
  11   the repository is locked by another program
  12   the password is wrong
  130  stopped by Ctrl-C; what that leaves, the message says";

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line, or a file that it names, is wrong.
    #[error("{0}")]
    Usage(String),
    /// It could not be done.
    #[error("{0}")]
    Failed(String),
    /// The snapshot lacks paths; they have been told already.
    #[error("the snapshot lacks {0}; they are listed above")]
    Incomplete(String),
    /// Damage was found and has been told already.
    #[error("{0}")]
    Damaged(String),
    /// No repository here.
    #[error("{0}")]
    NoRepository(String),
    /// Somebody holds a lock.
    #[error("{0}")]
    Locked(String),
    /// The password opens no key.
    #[error("{0}")]
    WrongPassword(String),
    /// Ctrl-C.
    #[error("stopped; nothing was changed")]
    Interrupted,
    /// Ctrl-C, after a part was done.
    #[error("stopped; {0}")]
    Stopped(String),
    /// The result could not be printed.
    #[error(transparent)]
    Output(#[from] CliError),
}

impl Failure {
    /// What to print on standard error, if anything.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            // A reader that went away (`| head`) needs no message.
            Self::Output(CliError::Output(error))
                if error.kind() == std::io::ErrorKind::BrokenPipe =>
            {
                None
            }
            Self::Interrupted | Self::Stopped(_) => Some(format!("provault: {self}")),
            _ => Some(format!("error: {self}")),
        }
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Damaged(_) | Self::Output(_) => 1,
            Self::Usage(_) => 2,
            Self::Incomplete(_) => 3,
            Self::NoRepository(_) => 10,
            Self::Locked(_) => 11,
            Self::WrongPassword(_) => 12,
            Self::Interrupted | Self::Stopped(_) => 130,
        }
    }

    /// The same for a command that may have done a part of its work when it was stopped.
    pub(crate) fn after(self, what_stays: &str) -> Self {
        match self {
            Self::Interrupted => Self::Stopped(what_stays.to_owned()),
            other => other,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Cancelled => Self::Interrupted,
            Error::NotARepository => Self::NoRepository(format!(
                "{error} Make a new one with 'provault repository init'"
            )),
            Error::Locked { .. } => Self::Locked(format!(
                "{error}. If that program is gone, 'provault repository unlock' removes its lock"
            )),
            Error::WrongPassword { .. } => Self::WrongPassword(format!(
                "{error}. For a vault, 'provault vault export-password' prints the right one"
            )),
            Error::SnapshotNotFound(_) => Self::Failed(format!(
                "{error}; 'provault repository snapshots' lists those there are"
            )),
            Error::NoSnapshots { .. } => Self::Failed(format!(
                "{error}. If all were forgotten on purpose, add --allow-empty"
            )),
            Error::PathNotFound(_) => {
                Self::Failed(format!("{error}; 'provault repository ls' lists what is"))
            }
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<DriverError> for Failure {
    fn from(error: DriverError) -> Self {
        if error.is_cancelled() {
            return Self::Interrupted;
        }
        match error {
            DriverError::Sink(SinkError::Store(source)) => match source.downcast::<Error>() {
                Ok(stored) => (*stored).into(),
                Err(other) => Self::Failed(other.to_string()),
            },
            DriverError::SourceEmpty { path, reason } => Self::Failed(format!(
                "{} {reason} Nothing was backed up. If that is meant, add --allow-empty",
                path.display()
            )),
            DriverError::SourceMissing { path, reason } => Self::Failed(format!(
                "{} is not there: {reason} Nothing was backed up; is its disk mounted?",
                path.display()
            )),
            DriverError::TargetExists { path } => Self::Failed(format!(
                "{} exists already, and a restore never writes over anything. Nothing was \
                 restored; choose a target that does not exist",
                path.display()
            )),
            DriverError::NoSuchItem { path } => Self::Failed(format!(
                "'{path}' is not in the snapshot; nothing was restored. 'provault repository ls' \
                 lists what is"
            )),
            DriverError::Invalid(invalid) => invalid.into(),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::Usage(invalid.message)
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        DriverError::from(error).into()
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Output(CliError::Output(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented_and_none_but_success_is_0() {
        let text = String::new;
        let all = [
            Failure::Failed(text()),
            Failure::Damaged(text()),
            Failure::Usage(text()),
            Failure::Incomplete(text()),
            Failure::NoRepository(text()),
            Failure::Locked(text()),
            Failure::WrongPassword(text()),
            Failure::Interrupted,
            Failure::Stopped(text()),
        ];
        for failure in all {
            let line = format!("  {:<5}", failure.code());
            assert!(EXIT_CODES.lines().any(|l| l.starts_with(&line)), "{failure:?}");
            assert_ne!(failure.code(), 0);
        }
    }
}

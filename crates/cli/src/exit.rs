//! What the exit code of a command means: the one place that says so.

use std::process::ExitCode;

/// The exit codes, as `--help` prints them. The binary puts this below its own help.
pub const EXIT_CODES_HELP: &str = "\
Exit codes:
  0    done; a job that was watched COMPLETED, a restore test PASSED
  1    the server refused; a watched job or restore test FAILED (or was stopped, or expired); the
       chain of evidence is broken; the status is not well; doctor found a failure; a test message
       did not arrive; upgrade-check found what stands in the way
  2    the command line, or a file it names, is wrong; nothing was sent
  3    a watched backup is PARTIAL: its recovery point lacks some paths; apply --dry-run would
       change something
  4    a watched restore test is INCONCLUSIVE, or NOT_TESTED because it was left out: nothing is told
  5    the server cannot be found or reached, or the connection broke
  130  Ctrl-C: watching stopped, the job goes on";

/// How a command ended. The numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well.
    Done,
    /// The server refused, or what was watched failed.
    Failed,
    /// Nothing was sent.
    Usage,
    /// A backup that lacks some paths.
    Partial,
    /// What stands is not what a document says.
    Differs,
    /// A restore test that could not tell, or was not made.
    Inconclusive,
    /// No server.
    Unreachable,
    /// Ctrl-C, as shells number it.
    Interrupted,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partial | Self::Differs => 3,
            Self::Inconclusive => 4,
            Self::Unreachable => 5,
            Self::Interrupted => 130,
        }
    }

    /// What the end of a watched job means. An unknown state is no success.
    pub(crate) fn of_state(state: &str) -> Self {
        match state {
            "COMPLETED" => Self::Done,
            "PARTIAL" => Self::Partial,
            _ => Self::Failed,
        }
    }

    /// What a verdict means. A test without one is no success.
    pub(crate) fn of_verdict(verdict: Option<&str>) -> Self {
        match verdict {
            Some("PASSED") => Self::Done,
            Some("INCONCLUSIVE" | "NOT_TESTED") => Self::Inconclusive,
            _ => Self::Failed,
        }
    }

    /// The worse of two ends, for a command that watched several.
    pub(crate) fn worse(self, other: Self) -> Self {
        let rank = |exit| match exit {
            Self::Done => 0,
            Self::Partial => 1,
            Self::Inconclusive => 2,
            _ => 3,
        };
        if rank(other) > rank(self) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented() {
        let all = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Partial,
            Exit::Differs,
            Exit::Inconclusive,
            Exit::Unreachable,
            Exit::Interrupted,
        ];
        for exit in all {
            let line = format!("  {:<5}", exit.code());
            assert!(EXIT_CODES_HELP.lines().any(|l| l.starts_with(&line)), "{exit:?}");
        }
        assert_eq!(
            EXIT_CODES_HELP.lines().count(),
            all.len() + 3,
            "a heading and three lines that go on, and two ends with one code"
        );
    }

    #[test]
    fn only_a_whole_success_is_0() {
        for state in ["FAILED", "ABORTED", "EXPIRED", "RUNNING", "", "NEW_STATE"] {
            assert_eq!(Exit::of_state(state), Exit::Failed, "{state}");
        }
        assert_eq!(Exit::of_verdict(None), Exit::Failed);
        assert_eq!(Exit::of_verdict(Some("NOT_TESTED")), Exit::Inconclusive);
        assert_eq!(Exit::Done.worse(Exit::Partial), Exit::Partial);
        assert_eq!(Exit::Failed.worse(Exit::Inconclusive), Exit::Failed);
    }
}

//! A process of its own that undoes what it did, whatever becomes of the server.
//!
//! It does something (freezes a file system, runs a hook), says so, waits until it is told to go on, and
//! undoes it. It waits on a pipe that only the server holds, and never longer than a limit: it undoes when
//! the server is done, when the server is gone (`SIGKILL` closes the pipe as well), and when the server
//! takes too long. No signal but `SIGKILL` ends it before that; should that happen, whoever started it
//! undoes it himself.
//!
//! It is a few lines of shell in a session of its own, and writes to nothing but its pipe.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Traps first: from then on nothing may end it, and a message that nobody reads is no reason to. They
/// are handlers, so that what it starts does not ignore the signals as well. `act` and `undo` are
/// functions of the script that is put in between.
const BEFORE: &str = "trap : HUP INT QUIT TERM PIPE USR1 USR2\n";
const AFTER: &str = r#"
act "$@" >/dev/null || { never_acted || undo "$@" >/dev/null; exit 3; }
echo done 2>/dev/null
timeout "$LIMIT" cat >/dev/null
late=$?
undo "$@" >/dev/null || exit 4
[ "$late" -ne 0 ] && exit 5
exit 0
"#;

/// What a watchdog came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It undid what it did, when it was told to.
    Undone,
    /// It undid what it did before it was told to.
    TooLate,
    /// It could not undo it.
    NotUndone,
    /// It died, and nobody knows when.
    Died,
}

/// One that has acted, and waits.
#[derive(Debug)]
pub(crate) struct Watchdog {
    process: Child,
    /// Closed to let it go on.
    hold: Option<ChildStdin>,
    /// What it said. No pipe: what it started may live on and keep that open.
    complaints: File,
    end: Option<End>,
}

impl Watchdog {
    /// Starts one and waits until it has acted. `script` defines the functions `act`, `undo` and
    /// `never_acted` (whether a failed act needs no undoing); `limit` is in seconds, as `timeout` has
    /// them. When it could not act, the inner error is what it said.
    pub fn start(
        script: &str,
        arguments: &[&OsStr],
        limit: &str,
    ) -> io::Result<Result<Self, String>> {
        let complaints = tempfile::tempfile()?;
        let mut process = Command::new("setsid")
            .args(["sh", "-c", &format!("{BEFORE}{script}{AFTER}"), "provault-watchdog"])
            .args(arguments)
            .env("LIMIT", limit)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(complaints.try_clone()?)
            .spawn()?;
        let (hold, said) = (process.stdin.take(), process.stdout.take());
        let mut watchdog = Self { process, hold, complaints, end: None };
        if said.is_some_and(has_acted) {
            return Ok(Ok(watchdog));
        }
        // It may be about to undo: that is waited for.
        watchdog.finish()?;
        Ok(Err(watchdog.said()))
    }

    /// What it complained of.
    pub fn said(&mut self) -> String {
        let mut said = Vec::new();
        // What cannot be read is not told.
        let _ = self.complaints.rewind();
        let _ = Read::by_ref(&mut self.complaints).take(64 << 10).read_to_end(&mut said);
        let text = String::from_utf8_lossy(&said);
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// Lets it go on, and returns once it has ended.
    pub fn finish(&mut self) -> io::Result<End> {
        if let Some(end) = self.end {
            return Ok(end);
        }
        drop(self.hold.take());
        let end = match self.process.wait()?.code() {
            // 3: it did not act, and has undone what there may have been.
            Some(0 | 3) => End::Undone,
            Some(5) => End::TooLate,
            Some(4) => End::NotUndone,
            _ => End::Died,
        };
        self.end = Some(end);
        Ok(end)
    }

    /// Whether it has been told to go on.
    pub fn is_finished(&self) -> bool {
        self.end.is_some()
    }
}

fn has_acted(said: ChildStdout) -> bool {
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line).is_ok_and(|_| line == "done\n")
}

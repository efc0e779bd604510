//! A file system that stands still for a moment, and a watchdog that always lets it go.
//!
//! A frozen file system blocks whoever writes to it, and a blocked writer cannot even be killed. So the
//! process that freezes is not the server but a watchdog, started for this one freeze.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use provault_driver::DriverError;

use crate::capture::io_error;
use crate::watchdog::{End, Watchdog};

/// How long a file system stands still at most, in seconds as `timeout` reads them.
const LIMIT: &str = "0.9";

/// One attempt more often than once: nothing else would let it go.
const SCRIPT: &str = r#"
act() { fsfreeze --freeze "$1"; }
never_acted() { true; }
undo() {
    until fsfreeze --unfreeze "$1" 2>/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -ge 50 ] && return 1
        sleep 0.1
    done
}
"#;

/// A frozen file system. It is thawed when this is dropped, or sooner by its watchdog.
#[derive(Debug)]
pub struct Freeze {
    mount: PathBuf,
    watchdog: Watchdog,
}

impl Freeze {
    /// Freezes the file system that is mounted at `mount`. What is waiting to be written is written
    /// first, so that the freeze itself is short.
    ///
    /// # Errors
    ///
    /// Where the host does not allow it, or the file system cannot be frozen. Nothing is frozen then.
    pub fn of(mount: &Path) -> Result<Self, DriverError> {
        let wrong = || io_error("freezing", mount);
        Command::new("sync").arg("--file-system").arg(mount).output().map_err(wrong())?;
        match Watchdog::start(SCRIPT, &[mount.as_os_str()], LIMIT).map_err(wrong())? {
            Ok(watchdog) => Ok(Self { mount: mount.to_owned(), watchdog }),
            Err(said) => Err(wrong()(io::Error::other(format!("it cannot be frozen: {said}")))),
        }
    }

    /// Lets it go, and returns once it is thawed.
    ///
    /// # Errors
    ///
    /// When the watchdog had to let it go before: then it did not stand still as long as it was taken to.
    pub fn thaw(mut self) -> Result<(), DriverError> {
        let end = self.end().map_err(io_error("thawing", &self.mount))?;
        let why = match end {
            End::Undone => return Ok(()),
            End::TooLate => {
                format!("it was let go after {LIMIT} s, before what it stood still for was done")
            }
            // Thawed by us in its place, but nobody knows since when it was.
            End::Died | End::NotUndone => "its watchdog ended too soon".to_owned(),
        };
        Err(io_error("freezing", &self.mount)(io::Error::other(why)))
    }

    /// Lets go and waits; thaws itself when the watchdog did not live to do it.
    fn end(&mut self) -> io::Result<End> {
        if self.watchdog.is_finished() {
            return self.watchdog.finish();
        }
        let end = self.watchdog.finish()?;
        if matches!(end, End::Died | End::NotUndone) {
            let thawed = Command::new("fsfreeze").arg("--unfreeze").arg(&self.mount).output();
            let thawed = thawed.is_ok_and(|output| output.status.success());
            tracing::error!(mount = %self.mount.display(), ?end, thawed, "the watchdog of a freeze failed; its work is done in its place");
        }
        Ok(end)
    }
}

impl Drop for Freeze {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(mount = %self.mount.display(), %error, "whether a freeze is over is not known");
        }
    }
}

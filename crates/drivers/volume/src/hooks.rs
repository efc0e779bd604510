//! Programs of the operator's before and after a capture, so that any application can be made consistent.
//!
//! A resource names a directory of hooks; in it, `before` and `after` are programs. The directory lies in a
//! place of the server's own, so that nobody can have it run anything by way of the API that the
//! administrator of the host did not put there.
//!
//! `after` runs once for every `before`, whatever happens: when `before` failed or took too long, when the
//! capture failed, when the application was held longer than its limit, and when the server died. A
//! watchdog sees to that.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use provault_domain::Invalid;
use provault_driver::DriverError;

use crate::capture::io_error;
use crate::watchdog::{End, Watchdog};

/// `timeout` sends TERM, and KILL to what does not go.
const SCRIPT: &str = r#"
hook() {
    timeout --kill-after=5 "$2" "$1" </dev/null
    code=$?
    [ "$code" -eq 0 ] && return 0
    [ "$code" -eq 124 ] || [ "$code" -eq 137 ] && echo "it took longer than $2 s" >&2
    [ "$code" -eq 124 ] || [ "$code" -eq 137 ] || echo "it ended with $code" >&2
    return 1
}
act() { PROVAULT_VOLUME="$3" hook "$1/before" "$2"; }
never_acted() { false; }
undo() { PROVAULT_VOLUME="$3" hook "$1/after" "$2"; }
"#;

/// The hooks of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hooks {
    /// Name of their directory.
    pub name: String,
    /// Seconds that each may take.
    pub each: u64,
    /// Seconds between them at most.
    pub held: u64,
}

/// Between the two.
#[derive(Debug)]
pub(crate) struct Held {
    dir: PathBuf,
    watchdog: Watchdog,
}

impl Hooks {
    /// Whether they are there, and the host's administrator's: nobody else may write to them.
    pub fn check(&self, home: Option<&Path>) -> Result<PathBuf, Invalid> {
        let refuse = |why: String| Err(Invalid::new("hooks", why));
        let Some(home) = home else {
            return refuse("this server has no place for hooks.".to_owned());
        };
        let dir = home.join(&self.name);
        for program in [dir.clone(), dir.join("before"), dir.join("after")] {
            let shown = program.display();
            let Ok(found) = fs::metadata(&program) else {
                return refuse(format!(
                    "{shown} is not there; a directory of hooks holds two programs, before and after."
                ));
            };
            let trusted = [0, geteuid().as_raw()].contains(&found.uid());
            if !trusted || found.permissions().mode() & 0o022 != 0 {
                return refuse(format!("others than root and the server may write to {shown}."));
            }
            if program != dir && (!found.is_file() || found.permissions().mode() & 0o111 == 0) {
                return refuse(format!("{shown} is no program; make it executable."));
            }
        }
        Ok(dir)
    }

    /// Runs `before`.
    pub fn hold(&self, home: Option<&Path>, volume: &Path) -> Result<Held, DriverError> {
        let dir = self.check(home)?;
        let each = self.each.to_string();
        let arguments = [dir.as_os_str(), OsStr::new(&each), volume.as_os_str()];
        let wrong = || io_error("running the hooks in", &dir);
        match Watchdog::start(SCRIPT, &arguments, &self.held.to_string()).map_err(wrong())? {
            Ok(watchdog) => Ok(Held { dir, watchdog }),
            Err(said) => {
                let why = format!("before failed, and after was run: {said}");
                Err(wrong()(io::Error::other(why)))
            }
        }
    }
}

impl Held {
    /// Runs `after`. An application that was let go too soon, or may not be let go, makes the capture
    /// fail: nobody should find that out from a note.
    pub fn release(mut self) -> Result<(), DriverError> {
        let wrong = || io_error("running the hooks in", &self.dir);
        let end = self.watchdog.finish().map_err(wrong())?;
        let said = self.watchdog.said();
        let why = match end {
            End::Undone => return Ok(()),
            End::TooLate => {
                "the capture took longer than the application may be held; after was run before it was done"
                    .to_owned()
            }
            End::NotUndone => format!("after failed; look after the application: {said}"),
            End::Died => "what runs them died; whether after was run is not known, look after the \
                          application"
                .to_owned(),
        };
        Err(wrong()(io::Error::other(why)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.watchdog.is_finished() {
            return;
        }
        match self.watchdog.finish() {
            Ok(End::Undone | End::TooLate) => {}
            trouble => {
                tracing::error!(hooks = %self.dir.display(), ?trouble, "the hook after a capture failed");
            }
        }
    }
}

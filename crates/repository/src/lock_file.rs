//! A lock file: restic's fields, and ours beside them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::repository::{FileKind, Inner, Options};

/// restic's limit, after which anybody may remove a lock.
const STALE_AFTER: Duration = Duration::from_mins(30);

/// What a lock file says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LockFile {
    pub(crate) time: jiff::Timestamp,
    #[serde(default)]
    pub(crate) exclusive: bool,
    #[serde(default)]
    pub(crate) hostname: String,
    #[serde(default)]
    pub(crate) username: String,
    #[serde(default)]
    pub(crate) pid: i32,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    /// The job, the same over all refreshes; only ours have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provault_job: Option<Id>,
    /// The process that the job runs in: process numbers are used again, and are the same in
    /// several containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provault_process: Option<Id>,
    /// Whether it excludes our prunes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) provault_prune: bool,
}

impl LockFile {
    pub(crate) fn own(options: &Options, job: Id, process: Id, prune: bool) -> Self {
        Self {
            time: jiff::Timestamp::now(),
            exclusive: false,
            hostname: options.hostname.clone(),
            username: options.username.clone(),
            pid: std::process::id().cast_signed(),
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
            provault_job: Some(job),
            provault_process: Some(process),
            provault_prune: prune,
        }
    }

    pub(crate) fn save(&self, inner: &Inner) -> Result<Id> {
        let json = serde_json::to_vec(self).map_err(|error| Error::Internal(error.to_string()))?;
        inner.save_unpacked(FileKind::Lock, &json)
    }

    pub(crate) fn load(inner: &Inner, id: &Id) -> Result<Self> {
        let json = inner.load_unpacked(FileKind::Lock, id)?;
        serde_json::from_slice(&json)
            .map_err(|error| Error::damaged(FileKind::Lock.name(id), error))
    }

    /// Whether restic's rules let anybody remove it: too old, or its process on this host is gone.
    pub(crate) fn is_stale(&self, hostname: &str) -> bool {
        let age = jiff::Timestamp::now().duration_since(self.time);
        if age > jiff::SignedDuration::try_from(STALE_AFTER).unwrap_or(jiff::SignedDuration::MAX) {
            return true;
        }
        // Signal 0 only asks. Another user's process answers "not permitted", so it lives.
        self.hostname == hostname
            && self.pid > 0
            && nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), None)
                == Err(nix::errno::Errno::ESRCH)
    }

    /// Who holds it, for people.
    pub(crate) fn holder(&self) -> String {
        let how = if self.exclusive {
            "holds it exclusively"
        } else if self.provault_prune {
            "prunes or repairs it"
        } else {
            "works on it"
        };
        format!(
            "process {} of {} on {} {how} since {}",
            self.pid, self.username, self.hostname, self.time
        )
    }
}

/// Reads a lock file's JSON, as far as a stranger's lock is ever looked into.
pub(crate) fn fuzz(json: &[u8]) {
    if let Ok(lock) = serde_json::from_slice::<LockFile>(json) {
        let _ = (lock.is_stale("no such host"), lock.holder());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_by_age_or_because_its_process_is_gone() {
        let own = LockFile::own(&Options::default(), Id::random(), Id::random(), false);
        let host = own.hostname.clone();
        let aged = |minutes| {
            let age = jiff::SignedDuration::from_mins(minutes);
            LockFile { time: own.time.checked_sub(age).unwrap(), ..own.clone() }
        };
        assert!(!aged(0).is_stale(&host) && !aged(29).is_stale(&host));
        assert!(aged(31).is_stale(&host) && aged(31).is_stale("elsewhere"));
        assert!(!aged(-600).is_stale(&host), "a clock that is ahead");
        // Beyond what Linux numbers processes with.
        let dead = LockFile { pid: 1 << 30, ..own.clone() };
        assert!(dead.is_stale(&host) && !dead.is_stale("elsewhere"));
        // restic knows nothing of our fields, and we read its locks without them.
        let theirs = r#"{"time":"2024-05-06T07:08:09+02:00","exclusive":true,"hostname":"h",
            "username":"u","pid":7,"uid":1,"gid":2}"#;
        let theirs: LockFile = serde_json::from_str(theirs).unwrap();
        assert!(theirs.exclusive && theirs.provault_job.is_none() && !theirs.provault_prune);
        assert!(theirs.holder().contains("exclusively"));
    }
}

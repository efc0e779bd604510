//! A lock file: restic's fields, and ours beside them.

use std::sync::LazyLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::repository::{FileKind, Inner, Options};

/// restic's limit, after which anybody may remove a lock.
const STALE_AFTER: Duration = Duration::from_mins(30);

/// Where this process runs.
static OWN_PLACE: LazyLock<Option<Place>> = LazyLock::new(Place::of_this_process);

/// A process, so that it is told from all others on all machines: host names are given twice, and
/// containers of one machine may have one name and count their processes each from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The run of the kernel, from its start to its end.
    boot: String,
    /// The inode of the namespace that numbers the processes.
    pid_namespace: u64,
    /// When the process began, in the kernel's ticks since its start.
    started: u64,
}

impl Place {
    /// Nothing where there is no `/proc`.
    fn of_this_process() -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = std::fs::metadata("/proc/self/ns/pid").ok()?;
        // A `/proc` of another namespace numbers other processes.
        let own = std::fs::read_link("/proc/self").ok()?;
        let pid = std::process::id();
        let Life::Since(started) = Life::of(pid.cast_signed()) else { return None };
        (own.as_os_str() == pid.to_string().as_str()).then(|| Self {
            boot: boot.trim().to_owned(),
            pid_namespace: namespace.ino(),
            started,
        })
    }

    /// Whether a process that says that it is number `pid` here is alive. Nothing can be said of
    /// one in another namespace, on another machine, or of before the machine started anew.
    fn is_alive(&self, pid: i32) -> Option<bool> {
        let own = OWN_PLACE.as_ref()?;
        let here = self.boot == own.boot && self.pid_namespace == own.pid_namespace;
        match Life::of(pid) {
            Life::Since(started) if here => Some(started == self.started),
            Life::Over if here => Some(false),
            _ => None,
        }
    }
}

/// What can be told of a process of this namespace.
#[derive(Debug, PartialEq, Eq)]
enum Life {
    /// When it began, in the kernel's ticks since its start.
    Since(u64),
    /// It has ended, though perhaps nobody took note of its end yet.
    Over,
    /// It is hidden, as those of other users may be.
    Unknown,
}

impl Life {
    /// Source: `proc_pid_stat(5)`, fields 3 and 22.
    fn of(pid: i32) -> Self {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            return if is_gone(pid) { Self::Over } else { Self::Unknown };
        };
        // The name before may hold anything, brackets too.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        if matches!(fields.next(), Some("Z" | "X")) {
            return Self::Over;
        }
        fields.nth(18).and_then(|ticks| ticks.parse().ok()).map_or(Self::Unknown, Self::Since)
    }
}

/// Whether there is no process of this number. Signal 0 only asks; another user's process answers
/// "not permitted", so it lives.
fn is_gone(pid: i32) -> bool {
    pid > 0
        && nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None)
            == Err(nix::errno::Errno::ESRCH)
}

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
    /// Where that process runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provault_place: Option<Place>,
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
            provault_place: OWN_PLACE.clone(),
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

    /// Whether anybody may remove it. Of a process of ours on this machine it is known whether it
    /// lives: one that was stopped for long still relies on its lock. Of others by restic's rules:
    /// too old, or, where nothing better is known, no process of this number on a host of this name.
    pub(crate) fn is_stale(&self, hostname: &str) -> bool {
        if let Some(alive) = self.provault_place.as_ref().and_then(|place| place.is_alive(self.pid))
        {
            return !alive;
        }
        let age = jiff::Timestamp::now().duration_since(self.time);
        if age > jiff::SignedDuration::try_from(STALE_AFTER).unwrap_or(jiff::SignedDuration::MAX) {
            return true;
        }
        self.provault_place.is_none() && self.hostname == hostname && is_gone(self.pid)
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
        let ours = LockFile::own(&Options::default(), Id::random(), Id::random(), false);
        let own = LockFile { provault_place: None, ..ours };
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

    #[test]
    fn a_process_of_ours_is_told_from_all_others() {
        let own = LockFile::own(&Options::default(), Id::random(), Id::random(), false);
        let host = own.hostname.clone();
        let place = own.provault_place.clone().unwrap();
        let of = |change: &dyn Fn(&mut LockFile, &mut Place)| {
            let (mut lock, mut place) = (own.clone(), place.clone());
            change(&mut lock, &mut place);
            let json = serde_json::to_vec(&LockFile { provault_place: Some(place), ..lock });
            let lock: LockFile = serde_json::from_slice(&json.unwrap()).unwrap();
            lock.is_stale(&host)
        };
        let old = |lock: &mut LockFile| {
            lock.time = lock.time.checked_sub(jiff::SignedDuration::from_mins(45)).unwrap();
        };
        assert!(!of(&|_, _| {}));
        assert!(!of(&|lock, _| old(lock)), "stopped for long, and alive");
        assert!(of(&|lock, _| lock.pid = 1 << 30), "gone");
        assert!(of(&|_, place| place.started += 1), "its number was given to another process");
        // Another container, or another machine of the same name: its numbers mean nothing here.
        for elsewhere in
            [|place: &mut Place| place.pid_namespace += 1, |place: &mut Place| place.boot.push('x')]
        {
            assert!(!of(&|lock, place| {
                lock.pid = 1 << 30;
                elsewhere(place);
            }));
            assert!(of(&|lock, place| {
                old(lock);
                elsewhere(place);
            }));
        }
    }

    #[test]
    fn who_has_ended_is_not_alive_though_nobody_waited_for_it() {
        assert!(matches!(Life::of(std::process::id().cast_signed()), Life::Since(_)));
        assert_eq!(Life::of(1 << 30), Life::Over);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id().cast_signed();
        while Life::of(pid) != Life::Over {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(Life::of(pid), Life::Over);
    }
}

//! Lock files, by restic's protocol.
//!
//! Whoever works on a repository leaves a file under `locks/` that says who it is. Locks are
//! shared (backup, restore, check, forget) or exclusive (prune). An exclusive one excludes all
//! others. A lock is refreshed every five minutes by writing a new file and deleting the old; one
//! that is older than thirty minutes, or whose process on this host is gone, is stale.
//!
//! All jobs of one opened repository share one lock file: the first makes it, the last deletes it.
//! restic's own `forget` takes an exclusive lock, because it may go on to prune. Removing a
//! snapshot file takes away nothing that another program refers to, so ours is a shared one, and
//! running backups do not hold it up.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::repository::{FileKind, Inner};

/// restic's limit, after which anybody may remove a lock.
const STALE_AFTER: Duration = Duration::from_mins(30);
/// Beyond this age we no longer trust our own lock: others may soon call it stale.
const TRUSTED_FOR: Duration = Duration::from_mins(22);

#[derive(Serialize, Deserialize)]
struct LockFile {
    time: jiff::Timestamp,
    #[serde(default)]
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    pid: i32,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

impl LockFile {
    fn own(hostname: &str, username: &str) -> Self {
        Self {
            time: jiff::Timestamp::now(),
            exclusive: false,
            hostname: hostname.to_owned(),
            username: username.to_owned(),
            pid: std::process::id().cast_signed(),
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
        }
    }

    fn is_stale(&self, hostname: &str) -> bool {
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

    fn holder(&self) -> String {
        format!(
            "process {} of {} on {} holds it exclusively since {}",
            self.pid, self.username, self.hostname, self.time
        )
    }
}

#[derive(Default)]
pub(crate) struct LockManager {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: usize,
    held: Option<Held>,
    /// Counts the locks taken, so that a refresher knows that its own has ended.
    generation: u64,
}

struct Held {
    file: Id,
    written: SystemTime,
    trouble: String,
}

impl LockManager {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One running job. The last one to end deletes the lock file.
pub(crate) struct JobGuard {
    inner: Arc<Inner>,
}

impl Drop for JobGuard {
    fn drop(&mut self) {
        let mut state = self.inner.lock.state();
        state.jobs -= 1;
        if state.jobs > 0 {
            return;
        }
        // Without a lock another program may prune, so nothing may be remembered that no index
        // file lists.
        self.inner.settle();
        if let Some(held) = state.held.take() {
            let name = FileKind::Lock.name(&held.file);
            if let Err(error) = self.inner.storage.delete(&name) {
                tracing::warn!(%error, "cannot delete the lock file; it becomes stale by itself");
            }
        }
        drop(state);
        self.inner.lock.changed.notify_all();
    }
}

impl JobGuard {
    /// An error if the lock could not be refreshed for so long that others may ignore it.
    pub(crate) fn check(&self) -> Result<()> {
        let state = self.inner.lock.state();
        let held = state.held.as_ref().ok_or_else(|| Error::LockLost("not held".to_owned()))?;
        match held.written.elapsed() {
            Ok(age) if age > TRUSTED_FOR => Err(Error::LockLost(format!(
                "last refreshed {} minutes ago; {}",
                age.as_secs() / 60,
                held.trouble
            ))),
            _ => Ok(()),
        }
    }
}

/// Begins a job: makes sure that a shared lock is held until the guard is dropped.
pub(crate) fn begin_job(inner: &Arc<Inner>) -> Result<JobGuard> {
    let mut state = inner.lock.state();
    if state.held.is_none() {
        check_others(inner, None)?;
        let held = create(inner)?;
        // Somebody may have looked before our file was there, and we before theirs.
        std::thread::sleep(inner.options.lock_settle);
        if let Err(error) = check_others(inner, Some(held.file)) {
            let _ = inner.storage.delete(&FileKind::Lock.name(&held.file));
            return Err(error);
        }
        state.held = Some(held);
        state.generation += 1;
        let (generation, refreshed) = (state.generation, Arc::clone(inner));
        let spawned = std::thread::Builder::new()
            .name("repository-lock".to_owned())
            .spawn(move || keep_fresh(&refreshed, generation));
        if let Err(error) = spawned {
            if let Some(held) = state.held.take() {
                let _ = inner.storage.delete(&FileKind::Lock.name(&held.file));
            }
            return Err(Error::LockLost(format!("no thread to refresh it: {error}")));
        }
    }
    state.jobs += 1;
    drop(state);
    Ok(JobGuard { inner: Arc::clone(inner) })
}

fn create(inner: &Inner) -> Result<Held> {
    let written = SystemTime::now();
    let lock = LockFile::own(&inner.options.hostname, &inner.options.username);
    let json = serde_json::to_vec(&lock).map_err(|error| Error::Internal(error.to_string()))?;
    let file = inner.save_unpacked(FileKind::Lock, &json)?;
    Ok(Held { file, written, trouble: String::new() })
}

fn check_others(inner: &Inner, own: Option<Id>) -> Result<()> {
    for (id, size) in inner.list(FileKind::Lock)? {
        // Some storages leave an empty file where an upload broke off.
        if Some(id) == own || size == 0 {
            continue;
        }
        let lock = match read(inner, &id) {
            Err(Error::Storage(error)) if error.is_not_found() => continue,
            // A second look, should it be in the making.
            Err(Error::DamagedFile { .. }) => match read(inner, &id) {
                Err(Error::Storage(error)) if error.is_not_found() => continue,
                other => other?,
            },
            other => other?,
        };
        if lock.is_stale(&inner.options.hostname) {
            tracing::info!(lock = %id, host = lock.hostname, pid = lock.pid, "removing a stale lock");
            match inner.storage.delete(&FileKind::Lock.name(&id)) {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        } else if lock.exclusive {
            return Err(Error::Locked { holder: lock.holder() });
        }
    }
    Ok(())
}

fn read(inner: &Inner, id: &Id) -> Result<LockFile> {
    let json = inner.load_unpacked(FileKind::Lock, id)?;
    serde_json::from_slice(&json).map_err(|error| Error::damaged(FileKind::Lock.name(id), error))
}

/// Refreshes the lock of this generation until it is given up.
fn keep_fresh(inner: &Inner, generation: u64) {
    let mut wait = inner.options.lock_refresh;
    let mut state = inner.lock.state();
    loop {
        let (guard, timeout) =
            inner.lock.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner);
        state = guard;
        if state.generation != generation || state.held.is_none() {
            return;
        }
        if !timeout.timed_out() {
            continue;
        }
        match create(inner) {
            Ok(fresh) => {
                if let Some(old) = state.held.replace(fresh) {
                    let _ = inner.storage.delete(&FileKind::Lock.name(&old.file));
                }
                wait = inner.options.lock_refresh;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot refresh the repository lock, trying again");
                if let Some(held) = &mut state.held {
                    held.trouble = error.to_string();
                }
                wait = inner.options.lock_refresh / 5;
            }
        }
    }
}

//! Lock files, by restic's protocol.
//!
//! Whoever works on a repository leaves a file under `locks/` that says who it is. Locks are
//! shared (backup, restore, check, forget) or exclusive (restic's prune). An exclusive one excludes
//! all others. A lock is refreshed every five minutes by writing a new file and deleting the old;
//! one that is older than thirty minutes, or whose process on this host is gone, is stale.
//!
//! Every *job* has a lock of its own, with a field `provault_job` that stays the same when the file
//! is refreshed: [prune](crate::prune) deletes nothing before the jobs that may rely on it have
//! ended, and on a busy server there is never a moment without any job. All our locks are shared,
//! prune's among them: what it takes away from the index stays in the storage until nobody can need
//! it. Two of our prunes exclude each other by the field `provault_prune`.
//!
//! restic waits 200 ms after it has written its lock and looks a second time, for somebody may have
//! looked before its file was there. We look right after ours is there, and again after that pause,
//! should the storage's listings lag; meanwhile the job reads the index. It must be over before
//! anything is committed: [`JobGuard::settled`].
//!
//! Who is stopped for long (Ctrl-Z, a machine that sleeps, a storage that does not answer) finds on
//! waking that others took it for dead, and perhaps deleted what it had stored. Its clock need not
//! show that, if its whole machine was stopped. So a lock that was lost stays lost; and before and
//! after an index file or a snapshot is written, the storage is asked whether the lock file is still
//! there: [`JobGuard::holds`].
//!
//! restic's own `forget` takes an exclusive lock, because it may go on to prune. Removing a
//! snapshot file takes away nothing that another program refers to, so ours is a shared one, and
//! running backups do not hold it up.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::error::{Error, Result};
use crate::id::Id;
use crate::lock_file::LockFile;
use crate::lock_list::locks;
use crate::repository::{FileKind, Inner};

/// Beyond this age we no longer trust our own lock: others may soon call it stale.
const TRUSTED_FOR: Duration = Duration::from_mins(22);

/// Why a lock is lost whose file is gone.
const REMOVED: &str = "another program removed its lock file, having taken this job for dead";

/// The running jobs of this process, whichever repository they work on.
static LIVE: LazyLock<Mutex<HashSet<Id>>> = LazyLock::new(Mutex::default);
/// Names this process in its locks, for process numbers are used again.
static PROCESS: LazyLock<Id> = LazyLock::new(Id::random);

fn live() -> MutexGuard<'static, HashSet<Id>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a lock is one that this process left behind.
pub(crate) fn is_left_by_us(lock: &LockFile) -> bool {
    lock.provault_process == Some(*PROCESS)
        && lock.provault_job.is_some_and(|job| !live().contains(&job))
}

/// The jobs of one opened repository.
#[derive(Default)]
pub(crate) struct LockManager {
    state: Mutex<State>,
    changed: Condvar,
    /// One at a time finds out what a lapse has left: see [`forget_after_a_lapse`].
    vouching: Mutex<()>,
    /// Lock files read before; they never change.
    pub(crate) read: Mutex<HashMap<Id, LockFile>>,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<u64, Job>,
    next: u64,
    /// Whether the thread that keeps the locks fresh is running.
    kept_fresh: bool,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Job {
    /// The same over all refreshes.
    name: Id,
    prune: bool,
    file: Id,
    written: SystemTime,
    /// When it is to be refreshed.
    refresh_at: Instant,
    trouble: String,
    settling: Settling,
    /// Whether it may rely on what the index in memory lists.
    has_seen_index: bool,
    /// Whether what this process stored and no index file lists was there when it began, or was
    /// forgotten. While such a job holds its lock, nobody deletes that.
    vouches: bool,
    /// The job has ended, but packs that others may have met in the meantime are in no index file.
    ended: bool,
}

#[derive(Clone)]
enum Settling {
    /// A second look is due then.
    Until(Instant),
    /// Somebody is looking.
    Looking,
    Settled,
    Refused(Error),
}

impl Job {
    /// For good: whoever took this job for dead may have deleted what it relies on.
    fn lose(&mut self, why: String) -> Error {
        tracing::error!(job = %self.name, why, "the repository lock is lost");
        let error = Error::LockLost(why);
        self.settling = Settling::Refused(error.clone());
        error
    }

    /// An error if the lock is lost, as far as can be told without asking the storage.
    fn check(&mut self) -> Result<()> {
        if let Settling::Refused(error) = &self.settling {
            return Err(error.clone());
        }
        match self.written.elapsed() {
            Ok(age) if age > TRUSTED_FOR => Err(self.lose(format!(
                "last refreshed {} minutes ago; {}",
                age.as_secs() / 60,
                self.trouble
            ))),
            _ => Ok(()),
        }
    }
}

/// Somebody who holds a lock that is not stale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Our name for the job, or `None` for a lock of another program.
    pub(crate) job: Option<Id>,
    /// Who it is, for people.
    pub(crate) who: String,
}

impl LockManager {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job's entry.
    fn job(state: &mut State, number: u64) -> Result<&mut Job> {
        state.jobs.get_mut(&number).ok_or_else(|| Error::LockLost("not held".to_owned()))
    }

    /// Whether some job's lock is certain, so that index files may be written.
    pub(crate) fn is_settled(&self) -> bool {
        self.state().jobs.values().any(|job| matches!(job.settling, Settling::Settled))
    }

    /// An error unless some job's lock is certain and its file is there: then nobody has deleted
    /// what this process stored and no index file lists. A job whose lock was lost does not count,
    /// and one that began after that has seen to it that such packs are forgotten ([`begin`]).
    pub(crate) fn held(inner: &Inner) -> Result<()> {
        Self::some_holds(inner, |job| job.vouches && matches!(job.settling, Settling::Settled))
    }

    /// An error unless one of these jobs holds its lock.
    fn some_holds(inner: &Inner, which: impl Fn(&Job) -> bool) -> Result<()> {
        let state = inner.lock.state();
        let asked = state.jobs.iter().filter(|(_, job)| which(job));
        let asked: Vec<u64> = asked.map(|(number, _)| *number).collect();
        drop(state);
        let mut lost = Error::LockLost("not held".to_owned());
        for number in asked {
            match holds(inner, number) {
                Err(error) if error.is_lock_lost() => lost = error,
                other => return other,
            }
        }
        Err(lost)
    }

    /// The number of the job that began last, and that of the last one that has seen the index;
    /// later jobs have higher ones.
    pub(crate) fn newest_jobs(&self) -> (u64, Option<u64>) {
        let state = self.state();
        let seen = state.jobs.iter().filter(|(_, job)| job.has_seen_index);
        (state.next, seen.map(|(number, _)| *number).next_back())
    }

    /// The jobs up to this number may have seen the index.
    pub(crate) fn index_was_seen(&self, newest: u64) {
        for (_, job) in self.state().jobs.range_mut(..=newest) {
            job.has_seen_index = true;
        }
    }
}

/// One running job. Dropping it deletes its lock file.
pub(crate) struct JobGuard {
    inner: Arc<Inner>,
    number: u64,
    name: Id,
}

impl Drop for JobGuard {
    fn drop(&mut self) {
        let mut over: Vec<u64> = vec![self.number];
        let state = self.inner.lock.state();
        over.extend(state.jobs.iter().filter(|(_, job)| job.ended).map(|(number, _)| *number));
        drop(state);
        let listed = self.list_what_is_stored();
        let mut state = self.inner.lock.state();
        let last = state.jobs.iter().all(|(number, job)| *number == self.number || job.ended);
        if last {
            // Without a lock another program may prune, so nothing may be remembered that no index
            // file lists.
            self.inner.settle();
        }
        if let Some(job) = state.jobs.get_mut(&self.number) {
            job.ended = true;
        }
        if last {
            over = state.jobs.keys().copied().collect();
        }
        // What others relied on of theirs is in an index file by now, or forgotten by all.
        if last || listed {
            for job in over.into_iter().filter_map(|number| state.jobs.remove(&number)) {
                match self.inner.storage.delete(&FileKind::Lock.name(&job.file)) {
                    Err(error) if !error.is_not_found() => {
                        tracing::warn!(%error, "cannot delete the lock file; it is stale now");
                    }
                    _ => {}
                }
                live().remove(&job.name);
            }
        }
        // Jobs are numbered in the order in which they begin.
        let oldest = state.jobs.keys().next().copied().unwrap_or(u64::MAX);
        self.inner.forget_departed(oldest);
        drop(state);
        self.inner.lock.changed.notify_all();
    }
}

impl JobGuard {
    /// Its number among the jobs of this opened repository.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Other jobs may rely on packs that this one stored and that no index file lists yet. While
    /// its lock is there, no prune deletes them, so they are listed before it goes. Returns whether
    /// there is nothing left to list.
    fn list_what_is_stored(&self) -> bool {
        if !self.inner.has_unindexed() {
            return true;
        }
        match self.check().and_then(|()| self.settled()).and_then(|()| self.inner.flush_index()) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "cannot write an index file at the end of a job");
                false
            }
        }
    }

    /// An error if the lock could not be refreshed for so long that others may ignore it, or if
    /// somebody else turned out to hold an exclusive one.
    pub(crate) fn check(&self) -> Result<()> {
        LockManager::job(&mut self.inner.lock.state(), self.number)?.check()
    }

    /// The same, and the lock file has to be there: nobody took this job for dead. To be asked
    /// before and after anything is written that others will rely on.
    pub(crate) fn holds(&self) -> Result<()> {
        holds(&self.inner, self.number)
    }

    /// Waits until the second look for others is done. Nothing may be committed, and no damage
    /// believed, before.
    pub(crate) fn settled(&self) -> Result<()> {
        let manager = &self.inner.lock;
        let mut state = manager.state();
        loop {
            let job = LockManager::job(&mut state, self.number)?;
            let wait = match &job.settling {
                Settling::Settled => return Ok(()),
                Settling::Refused(error) => return Err(error.clone()),
                Settling::Looking => Duration::from_secs(1),
                Settling::Until(at) => {
                    let wait = at.saturating_duration_since(Instant::now());
                    if wait.is_zero() {
                        job.settling = Settling::Looking;
                        let prune = job.prune;
                        drop(state);
                        look_again(&self.inner, self.number, self.name, prune)?;
                        state = manager.state();
                        continue;
                    }
                    wait
                }
            };
            let woken = manager.changed.wait_timeout(state, wait);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Everybody else who holds a lock now. Listings are not atomic and locks are replaced when
    /// they are refreshed, so this looks twice, and again when a file was gone before it was read.
    pub(crate) fn others(&self) -> Result<Vec<Holder>> {
        let mut found: BTreeMap<Id, Holder> = BTreeMap::new();
        let mut whole = 0;
        for _ in 0..100 {
            let (locks, all_read) = locks(&self.inner)?;
            for (id, lock) in locks {
                if lock.provault_job != Some(self.name) {
                    let holder = Holder { job: lock.provault_job, who: lock.holder() };
                    found.insert(lock.provault_job.unwrap_or(id), holder);
                }
            }
            whole += u32::from(all_read);
            if whole == 2 {
                return Ok(found.into_values().collect());
            }
        }
        Err(Error::Internal("the lock files change faster than they can be read".to_owned()))
    }
}

/// The look after the pause. A failing storage leaves it to be done again.
fn look_again(inner: &Inner, number: u64, name: Id, prune: bool) -> Result<()> {
    let looked = check_others(inner, name, prune);
    let mut state = inner.lock.state();
    // It may have been lost meanwhile.
    if let Some(job) = state.jobs.get_mut(&number)
        && matches!(job.settling, Settling::Looking)
    {
        job.settling = match &looked {
            Ok(()) => Settling::Settled,
            Err(error @ Error::Locked { .. }) => Settling::Refused(error.clone()),
            Err(_) => Settling::Until(Instant::now()),
        };
    }
    drop(state);
    inner.lock.changed.notify_all();
    looked
}

/// Asks the storage whether the lock file of a job is there.
fn holds(inner: &Inner, number: u64) -> Result<()> {
    let file_of = || {
        let mut state = inner.lock.state();
        let job = LockManager::job(&mut state, number)?;
        job.check().map(|()| job.file)
    };
    let mut file = file_of()?;
    loop {
        if inner.storage.exists(&FileKind::Lock.name(&file))? {
            return Ok(());
        }
        let mut state = inner.lock.state();
        let job = LockManager::job(&mut state, number)?;
        job.check()?;
        if job.file == file {
            return Err(job.lose(REMOVED.to_owned()));
        }
        // It was refreshed meanwhile.
        file = job.file;
    }
}

/// Called by a job that begins, whose lock is there. If no job of this process that did the same
/// before holds its lock any more, others may have deleted what was stored under those, so what no
/// index file lists is forgotten. If one does, it has held it since before that, and nothing was
/// deleted. One at a time, for two that begin together know nothing of what was before.
fn forget_after_a_lapse(inner: &Inner, own: u64) -> Result<()> {
    let _one = inner.lock.vouching.lock().unwrap_or_else(PoisonError::into_inner);
    match LockManager::some_holds(inner, |job| job.vouches) {
        Err(error) if error.is_lock_lost() => inner.forget_unlisted(),
        other => other?,
    }
    LockManager::job(&mut inner.lock.state(), own)?.vouches = true;
    Ok(())
}

/// What is done about a storage that has no room for a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WhenFull {
    /// The job fails.
    Fail,
    /// The reserve lends what the lock takes.
    Lend,
    /// The reserve is given up.
    Release,
}

/// Begins a job: a shared lock of its own is held until the guard is dropped.
pub(crate) fn begin_job(inner: &Arc<Inner>) -> Result<JobGuard> {
    begin(inner, false, WhenFull::Fail)
}

/// Begins a job that only reads: what lies on a full storage can be read all the same.
pub(crate) fn begin_reading_job(inner: &Arc<Inner>) -> Result<JobGuard> {
    begin(inner, false, WhenFull::Lend)
}

/// Begins a job that makes room: should the storage be full, the reserve is given up for its lock.
pub(crate) fn begin_freeing_job(inner: &Arc<Inner>) -> Result<JobGuard> {
    begin(inner, false, WhenFull::Release)
}

/// Begins a prune, or whatever else must not run beside one: no other prune may be running.
pub(crate) fn begin_prune_job(inner: &Arc<Inner>) -> Result<JobGuard> {
    begin(inner, true, WhenFull::Release)
}

fn begin(inner: &Arc<Inner>, prune: bool, when_full: WhenFull) -> Result<JobGuard> {
    let name = Id::random();
    check_others(inner, name, prune)?;
    let lock = LockFile::own(&inner.options, name, *PROCESS, prune);
    live().insert(name);
    let written = SystemTime::now();
    let saved = lock.save(inner).or_else(|error| {
        let made_room = error.is_no_space()
            && match when_full {
                WhenFull::Fail => false,
                WhenFull::Lend => crate::reserve::lend(inner)?,
                WhenFull::Release => crate::reserve::release(inner)?,
            };
        if made_room { lock.save(inner) } else { Err(error) }
    });
    let file = match saved {
        Ok(file) => file,
        Err(error) => {
            live().remove(&name);
            return Err(error);
        }
    };
    let now = Instant::now();
    let job = Job {
        name,
        prune,
        file,
        written,
        refresh_at: now + inner.options.lock_refresh,
        trouble: String::new(),
        settling: Settling::Until(now + inner.options.lock_settle),
        has_seen_index: false,
        vouches: false,
        ended: false,
    };
    let mut state = inner.lock.state();
    state.next += 1;
    let number = state.next;
    state.jobs.insert(number, job);
    let spawn = !std::mem::replace(&mut state.kept_fresh, true);
    drop(state);
    let guard = JobGuard { inner: Arc::clone(inner), number, name };
    if spawn {
        let kept = Arc::clone(inner);
        let spawned = std::thread::Builder::new()
            .name("repository-lock".to_owned())
            .spawn(move || keep_fresh(&kept));
        if let Err(error) = spawned {
            inner.lock.state().kept_fresh = false;
            return Err(Error::LockLost(format!("no thread to refresh it: {error}")));
        }
    } else {
        inner.lock.changed.notify_all();
    }
    // Somebody may have looked before our file was there, and we before theirs.
    check_others(inner, name, prune)?;
    forget_after_a_lapse(inner, number)?;
    if inner.options.lock_settle.is_zero() {
        guard.settled()?;
    }
    Ok(guard)
}

/// Refuses when somebody else holds an exclusive lock, or, for a prune, when another prunes.
fn check_others(inner: &Inner, own: Id, prune: bool) -> Result<()> {
    for (_, lock) in locks(inner)?.0 {
        if lock.provault_job == Some(own) {
            continue;
        }
        if lock.exclusive || prune && lock.provault_prune {
            return Err(Error::Locked { holder: lock.holder() });
        }
    }
    Ok(())
}

/// Looks again after the pause, and refreshes the locks, for as long as there is any.
fn keep_fresh(inner: &Inner) {
    let manager = &inner.lock;
    let mut state = manager.state();
    loop {
        if state.jobs.is_empty() {
            state.kept_fresh = false;
            return;
        }
        let now = Instant::now();
        let due = state.jobs.iter().find_map(|(number, job)| match job.settling {
            Settling::Until(at) if at <= now => Some((*number, job.name, job.prune)),
            _ => None,
        });
        if let Some((number, name, prune)) = due {
            if let Some(job) = state.jobs.get_mut(&number) {
                job.settling = Settling::Looking;
            }
            drop(state);
            let looked = look_again(inner, number, name, prune);
            state = manager.state();
            if let Err(error) = looked {
                tracing::warn!(%error, "looking for other locks");
                if let Some(job) = state.jobs.get_mut(&number)
                    && let Settling::Until(at) = &mut job.settling
                {
                    *at = Instant::now() + Duration::from_secs(1);
                }
            }
            continue;
        }
        for job in state.jobs.values_mut().filter(|job| job.refresh_at <= now) {
            refresh(inner, job);
        }
        let next = state.jobs.values().map(|job| match job.settling {
            Settling::Until(at) => at.min(job.refresh_at),
            _ => job.refresh_at,
        });
        let wait = next.min().map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let woken = manager.changed.wait_timeout(state, wait);
        state = woken.unwrap_or_else(PoisonError::into_inner).0;
    }
}

fn refresh(inner: &Inner, job: &mut Job) {
    job.refresh_at = Instant::now() + inner.options.lock_refresh;
    if job.check().is_err_and(|error| error.is_lock_lost()) {
        return;
    }
    let written = SystemTime::now();
    let renewed = LockFile::own(&inner.options, job.name, *PROCESS, job.prune).save(inner);
    // Only now: whoever looked before the fresh one was there must have seen the former.
    let renewed = renewed.and_then(|fresh| {
        let there = inner.storage.exists(&FileKind::Lock.name(&job.file));
        there.map(|there| (fresh, there)).map_err(|error| {
            // It is not needed then, and its like will be made again.
            let _ = inner.storage.delete(&FileKind::Lock.name(&fresh));
            error.into()
        })
    });
    match renewed {
        Ok((fresh, there)) => {
            let former = std::mem::replace(&mut job.file, fresh);
            let _ = inner.storage.delete(&FileKind::Lock.name(&former));
            // This may have taken long, too.
            if job.check().is_ok() {
                job.written = written;
            }
            if !there {
                job.lose(REMOVED.to_owned());
            }
        }
        Err(error) => {
            tracing::warn!(%error, "cannot refresh the repository lock, trying again");
            job.trouble = error.to_string();
            job.refresh_at = Instant::now() + inner.options.lock_refresh / 5;
        }
    }
}

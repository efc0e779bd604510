//! Reads of sources, and those that hang.
//!
//! A thread in a call that the kernel does not end (a dead mount) cannot be ended either. A backup that nobody
//! wants any more waits for its reader for a while and then goes without it: its place is for other jobs, and the
//! thread is counted here until it comes back. It stores nothing any more then, and as long as it hangs no other
//! thread is sent to the same source.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use provault_domain::{AccountId, Arn, BackupJob};
use provault_driver::CancelFlag;

use crate::shared::Shared;
use crate::{Engine, EngineError, Result};

/// How long a reader that is to stop may take, beside what the storage of the vault may: it has long been
/// answered by anything that answers at all.
const PATIENCE: Duration = Duration::from_mins(5);
/// A storage that fails does so after its time limit and trying again for twice as long.
const STORAGE_TIMEOUTS: u32 = 3;
/// How often it is looked whether somebody still wants what is read.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A read that hangs though its backup is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HungRead {
    /// Tenant.
    pub account: AccountId,
    /// Whose source it is.
    pub resource_arn: Arn,
    /// The resource's name when the backup was asked for.
    pub resource_name: String,
    /// The backup job that began it.
    pub job_id: String,
    /// When it was given up.
    pub since: Timestamp,
}

impl fmt::Display for HungRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a read of it by backup job {} hangs, given up at {}: no other backup of it begins until that comes \
             back. See to it that its mount answers, or start the server again.",
            self.job_id, self.since
        )
    }
}

/// What a read is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Reading,
    /// All is read, and the recovery point is being stored.
    Storing,
    GivenUp,
}

/// All reads of sources by backups of this engine.
#[derive(Debug, Default)]
pub(crate) struct Reads {
    next: AtomicU64,
    open: Mutex<HashMap<u64, (HungRead, Phase)>>,
}

impl Reads {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, (HungRead, Phase)>> {
        // Every change is one of one entry: there is nothing half done to protect from.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, job: &BackupJob, now: Timestamp) -> Reading {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let read = HungRead {
            account: job.account.clone(),
            resource_arn: job.resource_arn.clone(),
            resource_name: job.resource_name.clone(),
            job_id: job.id.clone(),
            since: now,
        };
        self.open().insert(id, (read, Phase::Reading));
        Reading { reads: Arc::clone(self), id }
    }

    /// Goes without a read from now on. Not without one that has ended, or stores what it read already.
    fn give_up(&self, id: u64, now: Timestamp) -> bool {
        match self.open().get_mut(&id) {
            Some((read, phase @ Phase::Reading)) => {
                *phase = Phase::GivenUp;
                read.since = now;
                true
            }
            _ => false,
        }
    }

    /// The reads that hang, in no order.
    fn hung(&self) -> Vec<HungRead> {
        let open = self.open();
        let hung = open.values().filter(|(_, phase)| *phase == Phase::GivenUp);
        hung.map(|(read, _)| read.clone()).collect()
    }

    /// The read of this resource that hangs.
    pub(crate) fn hung_at(&self, resource_arn: &Arn) -> Option<HungRead> {
        self.hung().into_iter().find(|read| read.resource_arn == *resource_arn)
    }
}

/// A read, as the thread that does it knows it; over when it is dropped.
pub(crate) struct Reading {
    reads: Arc<Reads>,
    id: u64,
}

impl Reading {
    /// Asked before what was read becomes a recovery point: not when the read was given up, since its job has
    /// ended then. After a yes it is not given up any more.
    pub(crate) fn may_store(&self) -> bool {
        match self.reads.open().get_mut(&self.id) {
            Some((_, phase @ Phase::Reading)) => {
                *phase = Phase::Storing;
                true
            }
            _ => false,
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let ended = self.reads.open().remove(&self.id);
        if let Some((read, Phase::GivenUp)) = ended {
            tracing::warn!(
                job = read.job_id,
                resource = %read.resource_arn,
                "a read that hung has come back; backups of the resource can begin again"
            );
        }
    }
}

/// Runs what reads a source on a thread of its own. `None` when it did not come back in time after nobody wanted
/// it any more: the job was stopped, or its start window closed before it had begun. A stop of the server has a
/// time limit of its own.
pub(crate) async fn read<T: Send + 'static>(
    shared: &Arc<Shared>,
    job: &BackupJob,
    cancel: &CancelFlag,
    work: impl FnOnce(&Reading) -> T + Send + 'static,
) -> Result<Option<T>> {
    let reading = shared.reads.begin(job, shared.now());
    let id = reading.id;
    let mut thread = tokio::task::spawn_blocking(move || work(&reading));
    let patience = PATIENCE + shared.storage_timeout * STORAGE_TIMEOUTS;
    let mut unwanted_since: Option<Duration> = None;
    loop {
        tokio::select! {
            done = &mut thread => {
                let broken = |error| EngineError::Internal(format!("a worker thread broke down: {error}"));
                return done.map(Some).map_err(broken);
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let too_late = job.started_at.is_none() && job.start_by <= shared.now();
        if !(cancel.is_raised() || too_late) || shared.is_stopping() {
            continue;
        }
        let now = shared.clock.monotonic();
        let since = *unwanted_since.get_or_insert(now);
        if now.saturating_sub(since) >= patience && shared.reads.give_up(id, shared.now()) {
            tracing::error!(
                job = job.id,
                resource = %job.resource_arn,
                "the read of a source hangs and is gone without; see `provault doctor`"
            );
            return Ok(None);
        }
    }
}

impl Engine {
    /// Reads of sources that hang though their backups are over. Each keeps a thread until it comes back, and
    /// backups of its resource from beginning.
    pub fn hung_reads(&self) -> Vec<HungRead> {
        self.shared.reads.hung()
    }
}

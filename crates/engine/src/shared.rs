//! What every part of the engine holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use provault_catalog::Catalog;
use provault_domain::{BackupVault, Key, Kind, StepRecord};
use provault_driver::{CancelFlag, Driver};
use provault_proof::HelperCommand;
use provault_repository::{Repository, StorageOptions};
use tokio::sync::Notify;

use crate::clock::{Clock, millis_since};
use crate::keyring::Keyring;
use crate::test_queue::TestLimits;
use crate::test_share::{Place, TestsAtWork};
use crate::vault_place::VaultPlace;
use crate::vaults::Vaults;
use crate::{EngineError, Result};

/// How long a lease holds without renewal. A worker that could not renew for this long has to
/// count itself as dead.
pub(crate) const LEASE: SignedDuration = SignedDuration::from_secs(60);

/// What is said of a job that was about to begin when the server stopped.
const STOPPED: &str = "The server was stopped while it ran.";

/// What is said of a job whose worker is gone without a word.
pub(crate) const DIED: &str = "The server ended without warning while it ran.";

/// What the engine is made of.
pub struct Parts {
    /// Rows.
    pub catalog: Catalog,
    /// Keys, vaults, and copies under test lie below it.
    pub data_dir: PathBuf,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// One driver per kind.
    pub drivers: Vec<Arc<dyn Driver>>,
    /// How to start the isolation helper.
    pub helper: HelperCommand,
    /// Name of this host, recorded in snapshots and locks.
    pub hostname: String,
    /// How patiently the storage of vaults is asked, and who we are in a store of buckets.
    pub storage: StorageOptions,
    /// Where new vaults are made; nothing for `vaults` below the data directory.
    pub vault_storage: Option<VaultPlace>,
    /// Whether subscriptions may run commands on this machine.
    pub command_subscriptions: bool,
    /// What restore tests may take of the server.
    pub tests: TestLimits,
    /// The restore tests of all engines that share the limits.
    pub at_work: Arc<TestsAtWork>,
}

pub(crate) struct Shared {
    pub(crate) catalog: Catalog,
    pub(crate) data_dir: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) drivers: BTreeMap<Kind, Arc<dyn Driver>>,
    pub(crate) helper: HelperCommand,
    pub(crate) hostname: String,
    pub(crate) keyring: Keyring,
    pub(crate) vaults: Vaults,
    /// How long a storage may keep silent.
    pub(crate) storage_timeout: Duration,
    /// Names this process in leases.
    pub(crate) owner: String,
    /// Rung when there may be something to do.
    pub(crate) bell: Notify,
    /// Raised when the engine is to stop.
    pub(crate) stopping: AtomicBool,
    /// Whether subscriptions may run commands.
    pub(crate) command_subscriptions: AtomicBool,
    /// Subscriptions whose last delivery failed, by their ids.
    pub(crate) failing: Mutex<HashSet<String>>,
    /// When each loop last came round.
    pub(crate) pulse: crate::pulse::Pulse,
    /// Raised while no restore test may begin.
    pub(crate) tests_held: AtomicBool,
    /// What restore tests may take of the server.
    pub(crate) tests: TestLimits,
    /// The restore tests of all engines of this server.
    pub(crate) at_work: Arc<TestsAtWork>,
    /// Whether the time of day may delete.
    pub(crate) watch: tokio::sync::Mutex<crate::watch::Watch>,
    /// When each vault's packs and snapshots were last listed, by the vault's place.
    pub(crate) listed: Mutex<HashMap<String, crate::care_schedule::Listed>>,
    /// Reads of sources, and those that hang.
    pub(crate) reads: Arc<crate::reads::Reads>,
    running: Mutex<HashMap<String, Running>>,
}

struct Running {
    cancel: CancelFlag,
    reason: Option<String>,
    /// The reason is that the server stops or somebody else goes on with the job, not that somebody
    /// wants the job to stop.
    interrupted: bool,
}

impl Running {
    /// Whoever asked first has his way: what somebody stopped is not gone on with.
    fn interrupt(&mut self, reason: String) {
        self.interrupted |= self.reason.is_none();
        self.reason.get_or_insert(reason);
        self.cancel.raise_to_resume();
    }
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Result<Self> {
        let keyring = Keyring::open(&parts.data_dir)?;
        Ok(Self {
            vaults: Vaults::new(
                parts.data_dir.clone(),
                parts.vault_storage,
                keyring.clone(),
                parts.storage.clone(),
            ),
            storage_timeout: parts.storage.timeout,
            keyring,
            catalog: parts.catalog,
            data_dir: parts.data_dir,
            clock: parts.clock,
            drivers: parts.drivers.into_iter().map(|d| (d.kind(), d)).collect(),
            helper: parts.helper,
            hostname: parts.hostname,
            owner: uuid::Uuid::new_v4().to_string(),
            bell: Notify::new(),
            stopping: AtomicBool::new(false),
            command_subscriptions: AtomicBool::new(parts.command_subscriptions),
            failing: Mutex::default(),
            pulse: crate::pulse::Pulse::default(),
            tests_held: AtomicBool::new(false),
            tests: parts.tests,
            at_work: parts.at_work,
            watch: tokio::sync::Mutex::default(),
            listed: Mutex::default(),
            reads: Arc::default(),
            running: Mutex::default(),
        })
    }

    /// A loop has come round.
    pub(crate) fn beat(&self, name: &'static str) {
        self.pulse.beat(name, self.clock.monotonic());
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn lease_until(&self) -> Timestamp {
        self.now().checked_add(LEASE).unwrap_or(Timestamp::MAX)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn driver(&self, kind: Kind) -> Result<Arc<dyn Driver>> {
        self.drivers
            .get(&kind)
            .cloned()
            .ok_or_else(|| EngineError::Refused(format!("this server has no driver for {kind}.")))
    }

    pub(crate) async fn key_of(&self, vault: &BackupVault) -> Result<Key> {
        self.catalog.key(&vault.encryption_key_arn).await?.ok_or_else(|| EngineError::Key {
            key: vault.encryption_key_arn.to_string(),
            message: format!("the key of vault {} is not registered.", vault.name),
        })
    }

    /// The vault's repository, opened on a thread that may block.
    pub(crate) async fn repository(self: &Arc<Self>, vault: &BackupVault) -> Result<Repository> {
        let key = self.key_of(vault).await?;
        let (shared, vault) = (Arc::clone(self), vault.clone());
        blocking(move || shared.vaults.open(&vault, &key)).await?
    }

    pub(crate) fn restore_tests_root(&self) -> PathBuf {
        self.data_dir.join("restore-tests")
    }

    /// Enters a job among those running here; its flag can be raised by id until what this gives
    /// is dropped, which is when the job's end is recorded.
    pub(crate) fn enter(self: &Arc<Self>, job_id: &str) -> Entered {
        let cancel = CancelFlag::new();
        let mut running = self.lock_running();
        // Looked at under the lock: a stop either sees the job here, or is seen by it.
        let interrupted = self.is_stopping();
        if interrupted {
            cancel.raise_to_resume();
        }
        let reason = interrupted.then(|| STOPPED.to_owned());
        let entry = Running { cancel: cancel.clone(), reason, interrupted };
        running.insert(job_id.to_owned(), entry);
        drop(running);
        Entered { shared: Arc::clone(self), job_id: job_id.to_owned(), cancel, place: None }
    }

    /// Whether a job runs in this process.
    pub(crate) fn is_running(&self, job_id: &str) -> bool {
        self.lock_running().contains_key(job_id)
    }

    /// Why a running job was asked to stop, if it was.
    pub(crate) fn stop_reason(&self, job_id: &str) -> Option<String> {
        self.lock_running().get(job_id).and_then(|running| running.reason.clone())
    }

    /// Asks a job that runs here to stop; whether one does.
    pub(crate) fn cancel(&self, job_id: &str, reason: &str) -> bool {
        match self.lock_running().get_mut(job_id) {
            Some(running) => {
                running.reason.get_or_insert_with(|| reason.to_owned());
                running.cancel.raise();
                true
            }
            None => false,
        }
    }

    /// Asks every job here to leave off, because the server stops. What somebody has stopped is not
    /// interrupted by that: it ends as it was asked to.
    pub(crate) fn interrupt_all(&self, reason: &str) {
        for running in self.lock_running().values_mut() {
            running.interrupt(format!("{reason} while it ran."));
        }
    }

    /// Asks a job that runs here to leave off, because somebody else goes on with it.
    pub(crate) fn interrupt(&self, job_id: &str, reason: &str) {
        if let Some(running) = self.lock_running().get_mut(job_id) {
            running.interrupt(reason.to_owned());
        }
    }

    /// Why a running job has to leave off, if it is gone on with and nobody stopped it before.
    pub(crate) fn interruption(&self, job_id: &str) -> Option<String> {
        let running = self.lock_running();
        let entry = running.get(job_id).filter(|running| running.interrupted)?;
        entry.reason.clone()
    }

    pub(crate) fn running_jobs(&self) -> usize {
        self.lock_running().len()
    }

    fn lock_running(&self) -> std::sync::MutexGuard<'_, HashMap<String, Running>> {
        // Every change is one map operation: there is nothing half done to protect from.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record of a step that began at the two readings and ends now.
    pub(crate) fn step_record(
        &self,
        name: &str,
        began: Began,
        ok: bool,
        detail: String,
    ) -> StepRecord {
        StepRecord {
            name: name.to_owned(),
            started_at: began.at,
            millis: millis_since(self.clock.as_ref(), began.monotonic),
            ok,
            detail,
        }
    }

    pub(crate) fn begin(&self) -> Began {
        Began { at: self.now(), monotonic: self.clock.monotonic() }
    }
}

/// A job among those running in this process.
pub(crate) struct Entered {
    shared: Arc<Shared>,
    job_id: String,
    pub(crate) cancel: CancelFlag,
    /// Of a restore test: its place among those of this server.
    pub(crate) place: Option<Place>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.shared.lock_running().remove(&self.job_id);
    }
}

/// When a step began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Began {
    pub(crate) at: Timestamp,
    pub(crate) monotonic: Duration,
}

/// Runs what blocks on a thread of its own. A panic in it becomes an error: one job's defect must
/// not end the others.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| EngineError::Internal(format!("a worker thread broke down: {error}")))
}

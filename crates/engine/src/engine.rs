//! The engine itself: what the use cases call, and the loops that make time pass.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use provault_catalog::{Catalog, CatalogError};
use provault_domain::{
    AccountId, Arn, BackupJob, BackupJobEvent, BackupPlan, BackupVault, Key, Kind, Resource,
    RestoreTest, Tags,
};
use provault_driver::Driver;
use tokio::task::JoinSet;

use crate::keyring::Keyring;
use crate::outbox::Outbox;
use crate::pause::pause;
use crate::rounds::{absence_loop, care_loop, reconcile_loop, retention_loop, time_loop};
use crate::shared::{Parts, Shared, blocking};
use crate::vault_place::VaultPlace;
use crate::{
    EngineError, Result, backup, care, catalog_backup, expiry, reconcile, restore, restore_test,
    schedule, test_queue, unsettled, validation,
};

/// How often each loop looks by itself; the bell calls it earlier.
const POLL: Duration = Duration::from_secs(2);
/// Jobs of each kind that run at a time in one process.
const BACKUPS_AT_ONCE: usize = 2;
const RESTORES_AT_ONCE: usize = 2;
const CARE_AT_ONCE: usize = 2;
/// How long a stop waits for running jobs to leave off.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Where time passes. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

/// How to open a vault with other tools.
#[derive(Debug, Clone)]
pub struct RepositoryInfo {
    /// Where it lies.
    pub location: VaultPlace,
    /// Hexadecimal id.
    pub id: String,
    /// Version of the restic format.
    pub version: u32,
}

impl Engine {
    /// An engine that does nothing yet.
    pub fn new(parts: Parts) -> Result<Self> {
        Ok(Self { shared: Arc::new(Shared::new(parts)?) })
    }

    /// The rows.
    pub fn catalog(&self) -> &Catalog {
        &self.shared.catalog
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        self.shared.now()
    }

    /// The keys.
    pub fn keyring(&self) -> &Keyring {
        &self.shared.keyring
    }

    /// The driver of a kind.
    pub fn driver(&self, kind: Kind) -> Result<Arc<dyn Driver>> {
        self.shared.driver(kind)
    }

    /// Says that there may be something to do.
    pub fn wake(&self) {
        self.shared.bell.notify_waiters();
    }

    /// Makes the vault's repository, seals its password and enters the vault.
    pub async fn create_vault(&self, mut vault: BackupVault, tags: &Tags) -> Result<BackupVault> {
        let key = self.shared.key_of(&vault).await?;
        vault.location = self.shared.vaults.new_location(&vault.name);
        let shared = Arc::clone(&self.shared);
        let prepare = move || {
            let password = shared.vaults.prepare(&mut vault, &key);
            password.map(|password| (vault, password))
        };
        let (vault, password) = blocking(prepare).await??;
        // From here on there may be something in the storage. The reconciler knows of it until the
        // vault is entered.
        self.shared.catalog.begin_vault(&vault).await?;
        let (shared, making) = (Arc::clone(&self.shared), vault.clone());
        blocking(move || {
            shared.vaults.create(&making, &password)?;
            pause("vault:made");
            Ok::<_, EngineError>(())
        })
        .await??;
        if let Err(error) = self.shared.catalog.insert_made_vault(&vault, tags).await {
            if let Err(error) = unsettled::settle(&self.shared, &vault, false).await {
                tracing::error!(vault = vault.name, %error, "what was made for a vault is left");
            }
            return Err(error.into());
        }
        Ok(vault)
    }

    /// Deletes an empty vault and its repository.
    pub async fn delete_vault(&self, account: &AccountId, name: &str) -> Result<()> {
        let Some(vault) = self.shared.catalog.vault(account, name).await? else {
            return Err(CatalogError::NotFound { what: format!("vault {name}") }.into());
        };
        // The repository of an imported vault stays where it is, with all that is in it.
        if !vault.imported {
            self.refuse_unknown_snapshots(&vault).await?;
        }
        self.shared.catalog.delete_vault(account, name).await?;
        self.remove_repository(vault).await
    }

    /// A vault without recovery points may hold snapshots all the same: made by another tool, or
    /// by a server whose catalog was lost. They are somebody's backups.
    async fn refuse_unknown_snapshots(&self, vault: &BackupVault) -> Result<()> {
        if self.shared.catalog.recovery_point_count(&vault.account, &vault.name).await? > 0 {
            // The catalog says so better.
            return Ok(());
        }
        reconcile::orphaned_snapshots(&self.shared, vault).await?;
        let repository = self.shared.repository(vault).await?;
        let list = blocking(move || repository.snapshots())
            .await?
            .map_err(EngineError::repository(&vault.name))?;
        // Copies of the catalog are ours, and go with the vault.
        let others = list.snapshots.iter().filter(|s| !s.has_tag(catalog_backup::TAG)).count();
        match others + list.damaged.len() {
            0 => Ok(()),
            n => Err(EngineError::Refused(format!(
                "vault {} holds {n} snapshot{} that no recovery point names, made by another tool \
                 or under another catalog; nothing was deleted. Look at them with 'restic \
                 snapshots' and forget them there first.",
                vault.name,
                if n == 1 { "" } else { "s" },
            ))),
        }
    }

    async fn remove_repository(&self, vault: BackupVault) -> Result<()> {
        let (shared, location) = (Arc::clone(&self.shared), vault.location.clone());
        blocking(move || {
            pause("vault:deleted");
            shared.vaults.remove(&vault)
        })
        .await??;
        Ok(self.shared.catalog.vault_is_settled(&location).await?)
    }

    /// Makes a key's file and enters the key.
    pub async fn create_key(&self, key: Key) -> Result<()> {
        self.shared.keyring.create(Keyring::file_of(&key))?;
        Ok(self.shared.catalog.insert_key(&key).await?)
    }

    /// Removes a key that no vault uses, and its file.
    pub async fn delete_key(&self, arn: &Arn) -> Result<()> {
        let Some(key) = self.shared.catalog.key(arn).await? else {
            return Err(CatalogError::NotFound { what: format!("key {arn}") }.into());
        };
        self.shared.catalog.delete_key(arn).await?;
        self.shared.keyring.remove(Keyring::file_of(&key))
    }

    /// Asks a backup job to stop: ABORTED at once when it has not begun, else ABORTING until its
    /// worker has cleaned up.
    pub async fn stop_backup_job(
        &self,
        account: &AccountId,
        id: &str,
        reason: &str,
    ) -> Result<BackupJob> {
        let event = BackupJobEvent::StopRequested { reason: reason.to_owned() };
        let now = self.now();
        let job = self
            .shared
            .catalog
            .step_job::<BackupJob>(account, id, None, event, now, Vec::new())
            .await?;
        self.shared.cancel(id, reason);
        Ok(job)
    }

    pub(crate) async fn find<J: provault_catalog::Job>(
        &self,
        account: &AccountId,
        id: &str,
        what: &str,
    ) -> Result<J> {
        let job = self.shared.catalog.job::<J>(account, id).await?;
        Ok(job.ok_or_else(|| CatalogError::NotFound { what: format!("{what} {id}") })?)
    }

    /// One look at the time, as the loops of [`Engine::start`] take it again and again: makes the
    /// jobs that are due, ends those whose windows have closed, and lets recovery points expire. For
    /// whoever makes time pass by itself.
    pub async fn look_at_the_time(&self) -> Result<()> {
        schedule::tick(&self.shared).await?;
        schedule::close_windows(&self.shared).await?;
        validation::close_windows(&self.shared).await?;
        expiry::tick(&self.shared).await
    }

    /// Brings jobs that have no worker to their end, or gives them back; a running engine does it by itself.
    pub async fn look_for_abandoned_jobs(&self) {
        reconcile::tick(&self.shared).await;
    }

    /// Makes the jobs that this version of a plan is due for at `now`, before another version takes
    /// its place. A rule that cannot be read was due for nothing: the new version may mend it.
    pub async fn settle_schedule(&self, plan: &BackupPlan, now: Timestamp) -> Result<()> {
        match schedule::plan_tick(&self.shared, plan, now, &mut schedule::Resources::default())
            .await
        {
            Err(EngineError::Invalid(why)) => {
                tracing::error!(plan = plan.id, %why, "a rule could not be read");
                Ok(())
            }
            done => done,
        }
    }

    /// Deletes a recovery point, unless a restore or a restore test uses it.
    pub async fn delete_recovery_point(&self, account: &AccountId, arn: &Arn) -> Result<()> {
        expiry::delete(&self.shared, account, arn).await
    }

    /// A restore test that waits for its turn; insert it and [`Engine::wake`].
    pub fn new_restore_test(&self, resource: &Resource, requested: Option<Arn>) -> RestoreTest {
        backup::new_test(resource, requested, None, self.now())
    }

    /// The vault's password in clear.
    pub async fn export_password(&self, vault: &BackupVault) -> Result<String> {
        let key = self.shared.key_of(vault).await?;
        let (shared, vault) = (Arc::clone(&self.shared), vault.clone());
        blocking(move || shared.vaults.password(&vault, &key)).await?
    }

    /// Where the vault's repository lies and what it is.
    pub async fn repository(&self, vault: &BackupVault) -> Result<RepositoryInfo> {
        let repository = self.shared.repository(vault).await?;
        let config = repository.config();
        Ok(RepositoryInfo {
            location: self.shared.vaults.place(vault),
            id: config.id.to_string(),
            version: config.version,
        })
    }

    /// `full`, or why restored applications cannot be isolated on this host.
    pub async fn isolation(&self) -> Result<String> {
        let helper = self.shared.helper.clone();
        let support = blocking(move || provault_proof::probe_support(&helper)).await?;
        Ok(support.to_string())
    }

    /// Has new vaults made elsewhere from now on, or below the data directory; those that exist stay.
    pub fn make_vaults_in(&self, place: Option<VaultPlace>) {
        self.shared.vaults.set_root(place);
    }

    /// Lets no restore test begin until [`Engine::release_restore_tests`]; running ones go on.
    pub fn hold_restore_tests(&self) {
        self.shared.tests_held.store(true, Ordering::Release);
    }

    /// Lets restore tests begin again.
    pub fn release_restore_tests(&self) {
        self.shared.tests_held.store(false, Ordering::Release);
        self.wake();
    }

    /// Brings what an earlier process left half done to a truthful end, then begins to work.
    ///
    /// The caller sees to it that no other process uses the same SQLite catalog; the leases of
    /// earlier processes are void.
    pub async fn start(&self, sole_user: bool) -> Result<Running> {
        if sole_user {
            self.shared.catalog.release_leases_of_others(&self.shared.owner).await?;
        }
        reconcile::at_start(&self.shared).await;
        self.shared.pulse.begin(self.shared.clock.monotonic());
        let mut loops = JoinSet::new();
        let shared = || Arc::clone(&self.shared);
        let (backups, restores, tests) = (shared(), shared(), shared());
        let (sends, time, rounds) = (shared(), shared(), shared());
        let (care, vaults, absent) = (shared(), shared(), shared());
        let retention = shared();
        loops.spawn(kept_alive("backups", move || {
            claim_loop("backups", Arc::clone(&backups), BACKUPS_AT_ONCE, backup_turn)
        }));
        loops.spawn(kept_alive("restores", move || {
            claim_loop("restores", Arc::clone(&restores), RESTORES_AT_ONCE, restore_turn)
        }));
        loops.spawn(kept_alive("restore tests", move || {
            let at_once = tests.tests.at_once.get();
            claim_loop("restore tests", Arc::clone(&tests), at_once, test_turn)
        }));
        loops.spawn(kept_alive("care runs", move || {
            claim_loop("care runs", Arc::clone(&care), CARE_AT_ONCE, care_turn)
        }));
        loops.spawn(kept_alive("care of vaults", move || care_loop(Arc::clone(&vaults))));
        loops.spawn(kept_alive("deliveries", move || delivery_loop(Arc::clone(&sends))));
        loops.spawn(kept_alive("time", move || time_loop(Arc::clone(&time))));
        loops.spawn(kept_alive("absence", move || absence_loop(Arc::clone(&absent))));
        loops.spawn(kept_alive("retention", move || retention_loop(Arc::clone(&retention))));
        loops.spawn(kept_alive("reconcilers", move || reconcile_loop(Arc::clone(&rounds))));
        Ok(Running { shared: Arc::clone(&self.shared), loops })
    }
}

/// The engine at work.
pub struct Running {
    shared: Arc<Shared>,
    loops: JoinSet<()>,
}

impl Running {
    /// Begins nothing more, lets running jobs leave off where they can go on, and waits for them, for
    /// a while. They are given back, and begun again by the next start or by another server of this
    /// catalog; what has not left off by then is treated like after a crash, which comes to the same.
    /// `reason` is a clause for people, such as `The server was stopped`.
    pub async fn stop(mut self, reason: &str) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.interrupt_all(reason);
        self.shared.bell.notify_waiters();
        let wait = async {
            while self.shared.running_jobs() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(STOP_LIMIT, wait).await.is_err() {
            tracing::warn!("some jobs did not leave off in time; the next start goes on with them");
        }
        self.loops.shutdown().await;
    }
}

/// Runs a loop and begins it anew when a defect ends it: a scheduler that stopped in silence is
/// what backups are lost by.
async fn kept_alive<F>(what: &'static str, begin: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        // Dropping the set ends what runs in it, which is how a stop gets through.
        let mut running = JoinSet::new();
        running.spawn(begin());
        if let Some(Err(error)) = running.join_next().await {
            tracing::error!(%error, "the loop of {what} broke down; it begins anew");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A job that was claimed and is to be run.
type Turn = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
type Claiming = std::pin::Pin<Box<dyn Future<Output = Result<Option<Turn>>> + Send>>;

fn backup_turn(shared: Arc<Shared>) -> Claiming {
    Box::pin(async move {
        let claimed =
            shared.catalog.claim_job(&shared.owner, shared.now(), shared.lease_until()).await?;
        Ok(claimed.map(|job| -> Turn { Box::pin(async move { backup::run(&shared, job).await }) }))
    })
}

fn restore_turn(shared: Arc<Shared>) -> Claiming {
    Box::pin(async move {
        let claimed = restore::claim(&shared).await?;
        Ok(claimed.map(|job| -> Turn { Box::pin(async move { restore::run(&shared, job).await }) }))
    })
}

fn test_turn(shared: Arc<Shared>) -> Claiming {
    Box::pin(async move {
        if shared.tests_held.load(Ordering::Acquire) {
            return Ok(None);
        }
        let next = test_queue::next(&shared).await?;
        Ok(next.map(|(job, entered)| -> Turn {
            Box::pin(async move { restore_test::run(&shared, job, &entered).await })
        }))
    })
}

fn care_turn(shared: Arc<Shared>) -> Claiming {
    Box::pin(async move {
        let claimed =
            shared.catalog.claim_job(&shared.owner, shared.now(), shared.lease_until()).await?;
        Ok(claimed.map(|run| -> Turn { Box::pin(async move { care::run(&shared, run).await }) }))
    })
}

/// Claims and runs jobs of one kind, so many at a time.
async fn claim_loop(
    name: &'static str,
    shared: Arc<Shared>,
    at_once: usize,
    turn: fn(Arc<Shared>) -> Claiming,
) {
    let mut running = JoinSet::new();
    loop {
        shared.beat(name);
        // Before looking, so that a bell between looking and waiting is not missed.
        let bell = shared.bell.notified();
        while running.try_join_next().is_some() {}
        if !shared.is_stopping() && running.len() < at_once {
            match turn(Arc::clone(&shared)).await {
                Ok(Some(work)) => {
                    running.spawn(work);
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "no job could be claimed; trying again"),
            }
        }
        tokio::select! {
            () = bell => {}
            () = tokio::time::sleep(POLL) => {}
            Some(_) = running.join_next(), if !running.is_empty() => {}
        }
    }
}

async fn delivery_loop(shared: Arc<Shared>) {
    let mut outbox = Outbox::new(&shared);
    loop {
        shared.beat("deliveries");
        // Before looking, so that a bell between looking and waiting is not missed.
        let bell = shared.bell.notified();
        if let Err(error) = outbox.send_due().await {
            tracing::error!(%error, "the outbox could not be read; trying again");
        }
        tokio::select! {
            () = bell => {}
            () = tokio::time::sleep(POLL) => {}
            () = outbox.sender_done() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[tokio::test]
    async fn a_loop_that_breaks_down_begins_anew() {
        let begun = Arc::new(AtomicU32::new(0));
        let (again, heard) = tokio::sync::mpsc::channel(1);
        let mut heard = heard;
        let count = Arc::clone(&begun);
        let kept = tokio::spawn(kept_alive("test", move || {
            let (count, again) = (Arc::clone(&count), again.clone());
            async move {
                assert!(count.fetch_add(1, Ordering::SeqCst) > 0, "the first time is a defect");
                let _ = again.send(()).await;
                std::future::pending::<()>().await;
            }
        }));
        heard.recv().await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        kept.abort();
    }
}

//! What the use cases ask of the care of vaults.

use std::sync::Arc;

use provault_catalog::{CatalogError, JobFilter, Page};
use provault_domain::care::{CareOptions, CareTrigger, VaultCare};
use provault_domain::verification::{Coverage, Promise};
use provault_domain::{AccountId, BackupVault, CareEvent, CareOperation, CareRun, Tags};
use provault_repository::Password;

use crate::shared::blocking;
use crate::{Engine, EngineError, Result, care_schedule, verification};

/// How a vault is looked after, and how well it is.
#[derive(Debug, Clone)]
pub struct VaultCareView {
    /// Marks and alarms.
    pub care: VaultCare,
    /// What verification promises, if it is on.
    pub promise: Option<Promise>,
    /// What it has reached; for a period of thirty days where nothing is promised.
    pub coverage: Coverage,
}

impl Engine {
    /// Enters a care run that waits for its turn. Refused while one of the same operation on the
    /// same vault has not ended: it would do the same again. A prune and a repair exclude each
    /// other as well.
    pub async fn start_care(
        &self,
        vault: &BackupVault,
        operation: CareOperation,
        options: CareOptions,
    ) -> Result<CareRun> {
        options.validate(operation)?;
        let filter = JobFilter {
            account: Some(vault.account.clone()),
            vault_name: Some(vault.name.clone()),
            unfinished_only: true,
            ..JobFilter::default()
        };
        let open = self.shared.catalog.list_jobs::<CareRun>(&filter, Page::all()).await?.items;
        if let Some(run) = open.iter().find(|run| operation.excludes(run.operation)) {
            return Err(EngineError::Refused(format!(
                "{} of vault {} is {} already: {}. Wait for its end, or stop it with `provault \
                 vault stop-run {}`.",
                run.operation, vault.name, run.state, run.id, run.id
            )));
        }
        let id = uuid::Uuid::new_v4().to_string();
        let trigger = CareTrigger::Operator;
        let run = CareRun::new(id, vault, operation, options, trigger, self.now());
        self.shared.catalog.insert_job(&run).await?;
        self.wake();
        Ok(run)
    }

    /// Asks a care run to stop: ABORTED at once when it has not begun, else when its worker has
    /// noticed.
    pub async fn stop_care(&self, account: &AccountId, id: &str, reason: &str) -> Result<CareRun> {
        let event = CareEvent::StopRequested { reason: reason.to_owned() };
        let now = self.now();
        let run = self
            .shared
            .catalog
            .step_job::<CareRun>(account, id, None, event, now, Vec::new())
            .await?;
        self.shared.cancel(id, reason);
        Ok(run)
    }

    /// How a vault is looked after, and how well it is.
    pub async fn care_of(&self, vault: &BackupVault) -> Result<VaultCareView> {
        let care = self.shared.catalog.vault_care(&vault.arn).await?;
        let promise = verification::promise(&vault.care);
        let max_bytes_per_second = vault.care.verify_max_bytes_per_second;
        let period = promise.unwrap_or(Promise { within_days: 30, max_bytes_per_second });
        let coverage = verification::coverage_of(&self.shared, vault, period).await?;
        Ok(VaultCareView { care, promise, coverage })
    }

    /// Adopts a repository that is there as a vault, and starts the run that enters its snapshots.
    /// Repeated for a vault that was adopted from the same place, it looks for new snapshots.
    pub async fn import_vault(
        &self,
        mut vault: BackupVault,
        password: &str,
        tags: &Tags,
    ) -> Result<CareRun> {
        let (shared, catalog) = (&self.shared, &self.shared.catalog);
        let key = shared.key_of(&vault).await?;
        let password = Password::from_text(password);
        let (repository, adopted) = {
            let (shared, mut vault) = (Arc::clone(shared), vault.clone());
            blocking(move || {
                shared.vaults.adopt(&mut vault, &key, &password).map(|opened| (opened, vault))
            })
            .await??
        };
        vault = adopted;
        let id = repository.config().id;
        let mut known = None;
        for other in catalog.all_vaults().await? {
            let same_place = {
                let (shared, other, vault) = (Arc::clone(shared), other.clone(), vault.clone());
                blocking(move || shared.vaults.is_same_place(&other, &vault)).await?
            };
            let same_name = other.account == vault.account && other.name == vault.name;
            if same_name && same_place && other.imported {
                known = Some(other);
                continue;
            }
            if same_name {
                return Err(CatalogError::AlreadyExists {
                    what: format!("backup vault {}", vault.name),
                }
                .into());
            }
            // A vault that cannot be opened now is told by its place alone.
            let same_id =
                shared.repository(&other).await.is_ok_and(|other| other.config().id == id);
            if same_place || same_id {
                return Err(EngineError::Refused(format!(
                    "the repository at {} is the vault {} already; nothing was changed.",
                    vault.location, other.name
                )));
            }
        }
        let vault = if let Some(known) = known {
            known
        } else {
            catalog.insert_vault(&vault, tags).await?;
            vault
        };
        self.start_care(&vault, CareOperation::Import, CareOptions::default()).await
    }

    /// One round of what vaults get without being asked; a running engine does it by itself every
    /// ten seconds.
    pub async fn look_after_vaults(&self) {
        care_schedule::tick(&self.shared).await;
    }
}

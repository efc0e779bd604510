//! What vaults get without being asked: scheduled runs, verification, a look for what is missing.

use std::sync::{Arc, PoisonError};

use jiff::{SignedDuration, Timestamp};
use provault_catalog::{JobFilter, Page};
use provault_domain::care::{CareOptions, CareTrigger, VaultAlarm, due_at};
use provault_domain::{BackupVault, CareOperation, CareRun};

use crate::shared::Shared;
use crate::{EngineError, Result, catalog_backup, missing, verification};

/// Packs and snapshots of a vault are listed so often.
const LIST_EVERY: SignedDuration = SignedDuration::from_mins(15);
/// What runs by itself.
const SCHEDULED: [CareOperation; 3] =
    [CareOperation::Check, CareOperation::Prune, CareOperation::CatalogBackup];

/// When a vault was last listed, and whether that was possible.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed {
    at: Timestamp,
}

/// One round through all vaults. One that cannot be reached holds up no other, and is told of.
pub(crate) async fn tick(shared: &Arc<Shared>) {
    let vaults = match shared.catalog.all_vaults().await {
        Ok(vaults) => vaults,
        Err(error) => {
            tracing::error!(%error, "the vaults could not be looked after; trying again");
            return;
        }
    };
    for vault in vaults {
        if shared.is_stopping() {
            return;
        }
        shared.beat("care of vaults");
        if let Err(error) = look_after(shared, &vault).await {
            tracing::error!(vault = vault.name, %error, "a vault could not be looked after; trying again");
            tell(shared, &vault, &error).await;
        }
    }
}

async fn look_after(shared: &Arc<Shared>, vault: &BackupVault) -> Result<()> {
    schedule(shared, vault).await?;
    if is_time_to_list(shared, vault) {
        missing::look(shared, vault).await?;
        verification::list(shared, vault).await?;
        shared.catalog.clear_alarm(&vault.arn, VaultAlarm::Unreachable).await?;
        let at = shared.now();
        lists(shared).insert(vault.location.clone(), Listed { at });
    }
    match verification::promise(&vault.care) {
        Some(promise) => verification::tick(shared, vault, promise).await,
        None => Ok(()),
    }
}

fn lists(shared: &Shared) -> std::sync::MutexGuard<'_, std::collections::HashMap<String, Listed>> {
    // Every change is one map operation: there is nothing half done to protect from.
    shared.listed.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_time_to_list(shared: &Shared, vault: &BackupVault) -> bool {
    let now = shared.now();
    // One in the future was noted under a clock that was ahead.
    let recent = |last: &Listed| last.at <= now && now.duration_since(last.at) < LIST_EVERY;
    !lists(shared).get(&vault.location).is_some_and(recent)
}

/// Raises the alarm that a vault cannot be read. A lock that another program holds is no such
/// trouble: it goes by itself.
async fn tell(shared: &Shared, vault: &BackupVault, error: &EngineError) {
    let locked = matches!(error, EngineError::Repository { source, .. }
        if matches!(**source, provault_repository::Error::Locked { .. }));
    if locked || !matches!(error, EngineError::Repository { .. } | EngineError::Key { .. }) {
        return;
    }
    let message = error.to_string();
    let raised =
        shared.catalog.raise_alarm(vault, VaultAlarm::Unreachable, &message, shared.now()).await;
    if let Err(error) = raised {
        tracing::error!(vault = vault.name, %error, "an alarm could not be recorded");
    }
}

/// Inserts the runs that are due.
async fn schedule(shared: &Shared, vault: &BackupVault) -> Result<()> {
    let care = shared.catalog.vault_care(&vault.arn).await?;
    let now = shared.now();
    for operation in SCHEDULED {
        let last = care.last_scheduled.get(&operation).copied();
        let due = due_at(&vault.care, operation, last, vault.created_at, now);
        let impossible = operation == CareOperation::CatalogBackup
            && (vault.imported || !catalog_backup::is_possible(&shared.catalog));
        if impossible || due.is_none_or(|due| due > now) {
            continue;
        }
        // It would only fail; its turn comes when the other has ended.
        if operation == CareOperation::Prune && prune_has_to_wait(shared, vault).await? {
            continue;
        }
        let id = uuid::Uuid::new_v4().to_string();
        let trigger = CareTrigger::Schedule;
        let run = CareRun::new(id, vault, operation, CareOptions::default(), trigger, now);
        if shared.catalog.schedule_care(last, &run).await? {
            tracing::info!(vault = vault.name, %operation, "scheduled");
            shared.bell.notify_waiters();
        }
    }
    Ok(())
}

/// Whether a prune or a repair of the vault waits or is at work already.
async fn prune_has_to_wait(shared: &Shared, vault: &BackupVault) -> Result<bool> {
    let filter = JobFilter {
        account: Some(vault.account.clone()),
        vault_name: Some(vault.name.clone()),
        unfinished_only: true,
        ..JobFilter::default()
    };
    let open = shared.catalog.list_jobs::<CareRun>(&filter, Page::all()).await?.items;
    Ok(open.iter().any(|run| CareOperation::Prune.excludes(run.operation)))
}

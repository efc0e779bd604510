//! Running care: what looks after a vault as a whole.
//!
//! Every operation is safe to break off and to begin anew, so a run whose server ended waits for its
//! next attempt, which finds done what the one before did. What it found is entered together with its
//! end, in one transaction.

use std::sync::Arc;

use provault_catalog::{Change, Claim, Claimed};
use provault_domain::care::{CareReport, VaultAlarm};
use provault_domain::{BackupVault, CareEvent, CareOperation, CareRun};
use provault_driver::CancelFlag;

use crate::heartbeat::{Heartbeat, Progress};
use crate::pause::pause;
use crate::shared::{DIED, Shared, blocking};
use crate::{
    EngineError, Result, care_check, care_prune, care_repair, catalog_backup, import, verification,
};

/// What an operation works with.
pub(crate) struct Work {
    pub(crate) shared: Arc<Shared>,
    pub(crate) run: CareRun,
    pub(crate) vault: BackupVault,
    pub(crate) cancel: CancelFlag,
    pub(crate) progress: Arc<Progress>,
}

impl Work {
    /// The flag as the repository knows it.
    pub(crate) fn cancel_flag(&self) -> provault_repository::CancelFlag {
        provault_repository::CancelFlag::from_shared(self.cancel.as_shared())
    }

    /// A repository's error, as this vault's.
    pub(crate) fn failed(&self, error: provault_repository::Error) -> EngineError {
        EngineError::repository(&self.vault.name)(error)
    }
}

/// What an operation gives: its report, and what is entered with it.
pub(crate) type Done = (CareReport, Vec<Change>);

/// Runs a claimed run to its end.
pub(crate) async fn run(shared: &Arc<Shared>, claimed: Claimed<CareRun>) {
    let Claimed { job, claim } = claimed;
    let entered = shared.enter(&job.id);
    let outcome = attempt(shared, &job, &claim, &entered.cancel).await;
    let vault_arn = job.vault_arn.clone();
    let alarm = |alarm, message| Change::VaultAlarm(vault_arn.clone(), alarm, message);
    let (event, changes) = match outcome {
        Ok((report, mut changes)) => {
            changes.push(alarm(VaultAlarm::CareFailed, None));
            changes.push(alarm(VaultAlarm::Unreachable, None));
            (CareEvent::Completed(Box::new(report)), changes)
        }
        Err(_) if shared.interruption(&job.id).is_some() => {
            let reason = shared.interruption(&job.id).unwrap_or_default();
            (CareEvent::Suspended { reason }, Vec::new())
        }
        Err(error) if is_cancelled(&error) || entered.cancel.is_raised() => {
            let message =
                shared.stop_reason(&job.id).unwrap_or_else(|| "It was asked to stop.".to_owned());
            (CareEvent::Stopped { message }, Vec::new())
        }
        Err(error) => {
            let message = format!("{}: {error}", job.operation);
            let changes = vec![alarm(VaultAlarm::CareFailed, Some(message))];
            (CareEvent::Failed { message: error.to_string() }, changes)
        }
    };
    // What is done stays done if this is lost; the reconciler ends the run then.
    let ended = async {
        blocking(|| pause("care:done")).await?;
        let now = shared.now();
        shared
            .catalog
            .step_job::<CareRun>(&job.account, &job.id, Some(&claim), event, now, changes)
            .await?;
        Ok::<_, EngineError>(())
    };
    if let Err(error) = ended.await {
        tracing::error!(run = job.id, %error, "the end of a care run was not recorded; the reconciler will end it");
    }
    shared.bell.notify_waiters();
}

fn is_cancelled(error: &EngineError) -> bool {
    matches!(error, EngineError::Repository { source, .. }
        if matches!(**source, provault_repository::Error::Cancelled))
}

async fn attempt(
    shared: &Arc<Shared>,
    run: &CareRun,
    claim: &Claim,
    cancel: &CancelFlag,
) -> Result<Done> {
    let run = shared
        .catalog
        .step_job::<CareRun>(
            &run.account,
            &run.id,
            Some(claim),
            CareEvent::Started,
            shared.now(),
            Vec::new(),
        )
        .await?;
    let progress = Arc::new(Progress::default());
    let _beat = Heartbeat::start::<CareRun>(shared, &run.account, claim, cancel, &progress);
    blocking(|| pause("care:started")).await?;
    let vault = shared.catalog.vault(&run.account, &run.vault_name).await?.ok_or_else(|| {
        EngineError::Refused(format!("the vault {} does not exist any more.", run.vault_name))
    })?;
    let began = shared.begin();
    let work = Work { shared: Arc::clone(shared), run, vault, cancel: cancel.clone(), progress };
    let done = match work.run.operation {
        CareOperation::Check => care_check::check(&work).await,
        CareOperation::Prune => care_prune::prune(&work).await,
        CareOperation::Repair => care_repair::repair(&work).await,
        CareOperation::Verify => verification::catch_up(&work).await,
        CareOperation::Import => import::import(&work).await,
        CareOperation::CatalogBackup => catalog_backup::back_up(&work).await,
    };
    let detail = match &done {
        Ok((report, _)) => report.summary.clone(),
        Err(error) => error.to_string(),
    };
    let name = work.run.operation.as_str().to_lowercase();
    let step = shared.step_record(&name, began, done.is_ok(), detail);
    if let Err(error) = shared.catalog.log_step(&work.run.id, Some(claim), &step).await {
        tracing::warn!(run = work.run.id, %error, "a step was not logged");
    }
    done
}

/// Gives back a run whose worker is gone, or ends it when it was to stop.
pub(crate) async fn give_back_abandoned(
    shared: &Arc<Shared>,
    claimed: Claimed<CareRun>,
) -> Result<()> {
    let Claimed { job, claim } = claimed;
    let event = match &job.stop_requested {
        Some(reason) => CareEvent::Stopped { message: reason.clone() },
        None => CareEvent::Interrupted { reason: DIED.to_owned() },
    };
    let now = shared.now();
    shared
        .catalog
        .step_job::<CareRun>(&job.account, &job.id, Some(&claim), event, now, Vec::new())
        .await?;
    Ok(())
}

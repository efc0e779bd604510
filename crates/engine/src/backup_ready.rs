//! Whether everything is there that a backup needs.

use std::sync::Arc;

use provault_domain::{BackupJob, BackupVault, Resource};
use provault_driver::{CancelFlag, DriverError};
use provault_repository::Repository;

use crate::backup::Failure;
use crate::shared::Shared;
use crate::{reads, waiting};

/// What a backup begins with.
pub(crate) struct Ready {
    /// What is backed up.
    pub(crate) resource: Resource,
    /// Where to.
    pub(crate) vault: BackupVault,
    /// That vault's repository, which answers.
    pub(crate) repository: Repository,
}

/// Looks whether everything is there that a backup needs: resource, vault, key, storage, source.
pub(crate) async fn get_ready(
    shared: &Arc<Shared>,
    job: &BackupJob,
    cancel: &CancelFlag,
) -> Result<Ready, Failure> {
    let resource = shared.catalog.resource(&job.resource_arn).await?.ok_or_else(|| {
        Failure::Before(format!(
            "The resource {} is no longer registered; register it again with 'provault resource add'.",
            job.resource_arn
        ))
    })?;
    let vault = shared.catalog.vault(&job.account, &job.vault_name).await?.ok_or_else(|| {
        Failure::Before(format!(
            "The vault {} does not exist; make it with 'provault vault create {}' and run the backup again.",
            job.vault_name, job.vault_name
        ))
    })?;
    // Of a job that somebody asked for that one hears at once, and asks again; but one that an
    // interruption broke off nobody watches any more.
    let is_planned = job.created_by.is_some() || job.is_interrupted();
    let failure = |message: String, may_help: bool| {
        if is_planned && may_help { Failure::NotYet(message) } else { Failure::Before(message) }
    };
    // Threads that hang must not pile up.
    if let Some(hung) = shared.reads.hung_at(&job.resource_arn) {
        return Err(failure(format!("The source does not answer: {hung}"), true));
    }
    let repository = waiting::open_vault(shared, &vault).await.map_err(|error| {
        let may_help = waiting::may_help(&error);
        failure(error.to_string(), may_help)
    })?;
    if is_planned {
        let driver = shared.driver(resource.kind)?;
        let (source, flag) = (resource.clone(), cancel.clone());
        let looked =
            reads::read(shared, job, cancel, move |_| driver.capture(&source, &flag).map(drop));
        if let Err(error) = looked.await?.ok_or(Failure::Hung)?
            && !error.is_cancelled()
        {
            let wrong = matches!(error, DriverError::Invalid(_));
            return Err(failure(error.to_string(), !wrong));
        }
    }
    Ok(Ready { resource, vault, repository })
}

//! Deleting recovery points: because retention is over, or because somebody asked.
//!
//! First the row says DELETING, from then on the point is offered to nobody; then the snapshot
//! goes; then the row. A crash in between leaves a DELETING row, and the reconciler goes on from
//! there: forgetting a snapshot twice is forgetting it once.

use std::sync::Arc;

use provault_catalog::{JobFilter, Page};
use provault_domain::recovery_point::Payload;
use provault_domain::{
    AccountId, Arn, RecoveryPoint, RecoveryPointStatus, RestoreJob, RestoreTest,
};

use crate::pause::pause;
use crate::shared::{Shared, blocking};
use crate::{EngineError, Result};

/// Deletes every recovery point whose retention is over and that nothing uses.
pub(crate) async fn tick(shared: &Arc<Shared>) -> Result<()> {
    for point in shared.catalog.overdue_recovery_points(shared.now()).await? {
        match delete(shared, &point.account, &point.arn).await {
            Ok(()) => tracing::info!(point = %point.arn, "retention is over: deleted"),
            // In use: it goes as soon as it is free.
            Err(EngineError::Refused(_)) => {}
            Err(error) => tracing::error!(point = %point.arn, %error, "could not be deleted"),
        }
    }
    Ok(())
}

/// Deletes one recovery point, unless a restore or a restore test uses it.
pub(crate) async fn delete(shared: &Arc<Shared>, account: &AccountId, arn: &Arn) -> Result<()> {
    let Some(point) = shared.catalog.recovery_point(account, arn).await? else {
        return Err(EngineError::Refused(format!("the recovery point {arn} does not exist.")));
    };
    if let Some(user) = user_of(shared, account, arn).await? {
        return Err(EngineError::Refused(format!(
            "the recovery point {arn} is being read by {user}; wait for it to end or stop it, then \
             delete again."
        )));
    }
    shared.catalog.set_point_status(arn, RecoveryPointStatus::Deleting, None).await?;
    blocking(|| pause("expiry:deleting")).await?;
    finish(shared, &point).await
}

/// The second half of a deletion.
pub(crate) async fn finish(shared: &Arc<Shared>, point: &RecoveryPoint) -> Result<()> {
    let vault =
        shared.catalog.vault(&point.account, &point.vault_name).await?.ok_or_else(|| {
            EngineError::Internal(format!("vault {} of {} is gone", point.vault_name, point.arn))
        })?;
    let repository = shared.repository(&vault).await?;
    let Payload::Stored { snapshot_id, .. } = &point.payload;
    let id = snapshot_id.parse().map_err(|_| {
        EngineError::Internal(format!("'{snapshot_id}' of {} is not a snapshot id", point.arn))
    })?;
    blocking(move || match repository.forget(&[id]) {
        Err(provault_repository::Error::SnapshotNotFound(_)) => Ok(()),
        other => other,
    })
    .await?
    .map_err(EngineError::repository(&vault.name))?;
    blocking(|| pause("expiry:forgotten")).await?;
    shared.catalog.remove_recovery_point(&point.arn).await?;
    Ok(())
}

async fn user_of(shared: &Shared, account: &AccountId, arn: &Arn) -> Result<Option<String>> {
    let filter = JobFilter {
        account: Some(account.clone()),
        recovery_point_arn: Some(arn.clone()),
        unfinished_only: true,
        ..JobFilter::default()
    };
    let one = Page { after: None, limit: 1 };
    if let Some(job) =
        shared.catalog.list_jobs::<RestoreJob>(&filter, one.clone()).await?.items.pop()
    {
        return Ok(Some(format!("restore job {}", job.id)));
    }
    let test = shared.catalog.list_jobs::<RestoreTest>(&filter, one).await?.items.pop();
    Ok(test.map(|test| format!("restore test {}", test.id)))
}

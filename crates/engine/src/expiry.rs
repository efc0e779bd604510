//! Deleting recovery points: because retention is over, or because somebody asked.
//!
//! What may go is decided in the catalog, over all points of a resource in one transaction: the last
//! good one stays.
//!
//! First the row says DELETING, from then on the point is offered to nobody; then the snapshot
//! goes; then the row. A crash in between leaves a DELETING row, and the reconciler goes on from
//! there: forgetting a snapshot twice is forgetting it once.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use provault_catalog::{CatalogError, JobFilter, Page};
use provault_domain::recovery_point::Payload;
use provault_domain::{AccountId, Arn, RecoveryPoint, RestoreJob, RestoreTest};
use provault_repository::{Repository, SnapshotId};

use crate::backup::job_tag;
use crate::pause::pause;
use crate::shared::{Shared, blocking};
use crate::{EngineError, Result};

/// How long a notification is kept after its event when nobody will ask for it: 90 days.
const DELIVERIES_KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Rows that one transaction removes.
const AT_ONCE: u32 = 500;

/// Carries out what retention says, for every resource that a recovery point is due to go of.
pub(crate) async fn tick(shared: &Arc<Shared>) -> Result<()> {
    if !shared.trusts_the_clock().await? {
        return Ok(());
    }
    for (account, resource) in shared.catalog.resources_with_due_points(shared.now()).await? {
        shared.beat("retention");
        if let Err(error) = expire(shared, &account, &resource).await {
            tracing::error!(%resource, %error, "retention was not carried out; it is tried again");
        }
    }
    drop_old_deliveries(shared).await
}

/// Removes what tells of deliveries that are long over: the outbox would grow for ever.
async fn drop_old_deliveries(shared: &Arc<Shared>) -> Result<()> {
    let Ok(before) = shared.now().checked_sub(DELIVERIES_KEPT) else { return Ok(()) };
    // In pieces: a transaction holds up all that is written.
    while shared.catalog.drop_old_deliveries(before, AT_ONCE).await? == u64::from(AT_ONCE) {}
    Ok(())
}

async fn expire(shared: &Arc<Shared>, account: &AccountId, resource: &Arn) -> Result<()> {
    let expired = shared.catalog.expire_points(account, resource, shared.now()).await?;
    if let Some(point) = &expired.held {
        tracing::warn!(point = %point.arn, %resource, "retention is over; kept, for nothing newer is as good");
    }
    if expired.going.is_empty() {
        return Ok(());
    }
    blocking(|| pause("expiry:deleting")).await?;
    finish_all(shared, expired.going).await;
    Ok(())
}

/// Deletes one recovery point because somebody asked, unless a restore or a restore test uses it.
pub(crate) async fn delete(shared: &Arc<Shared>, account: &AccountId, arn: &Arn) -> Result<()> {
    let Some(point) = shared.catalog.recovery_point(account, arn).await? else {
        return Err(EngineError::Refused(format!("the recovery point {arn} does not exist.")));
    };
    if let Err(error) = shared.catalog.begin_deletion(account, arn).await {
        return Err(match (error, user_of(shared, account, arn).await?) {
            (CatalogError::NotEmpty { .. }, Some(user)) => EngineError::Refused(format!(
                "the recovery point {arn} is being read by {user}; wait for it to end or stop it, then \
                 delete again."
            )),
            (error, _) => error.into(),
        });
    }
    blocking(|| pause("expiry:deleting")).await?;
    let finished = finish(shared, &point).await;
    if let Err(error) = &finished {
        not_deleted(shared, &point, &error.to_string()).await;
    }
    finished
}

/// The second half of deletions. What cannot be deleted now says so and stays DELETING, for the
/// reconciler; a vault that does not answer is asked no more for the rest of its points.
pub(crate) async fn finish_all(shared: &Arc<Shared>, points: Vec<RecoveryPoint>) {
    let mut by_vault: BTreeMap<Arn, Vec<RecoveryPoint>> = BTreeMap::new();
    for point in points {
        by_vault.entry(point.vault_arn.clone()).or_default().push(point);
    }
    for points in by_vault.into_values() {
        let mut asked = false;
        let mut unreachable: Option<String> = None;
        for point in points {
            let why = match &unreachable {
                // It is known already, and nothing has changed.
                Some(_) if point.hold.is_some() => continue,
                Some(why) => why.clone(),
                None => match finish(shared, &point).await {
                    Ok(()) => {
                        tracing::info!(point = %point.arn, "deleted");
                        continue;
                    }
                    Err(error) => error.to_string(),
                },
            };
            if !asked {
                asked = true;
                if !answers(shared, &point).await {
                    unreachable = Some(why.clone());
                }
            }
            not_deleted(shared, &point, &why).await;
        }
    }
}

/// Whether the vault of a point can be read.
async fn answers(shared: &Arc<Shared>, point: &RecoveryPoint) -> bool {
    let listed = async {
        let vault = shared.catalog.vault(&point.account, &point.vault_name).await?;
        let Some(vault) = vault else { return Ok(false) };
        let repository = shared.repository(&vault).await?;
        Ok::<_, EngineError>(blocking(move || repository.snapshot_ids()).await?.is_ok())
    };
    listed.await.unwrap_or(false)
}

/// Notes that a deletion has to wait. The log hears of it once.
async fn not_deleted(shared: &Shared, point: &RecoveryPoint, why: &str) {
    let sentence = if why.ends_with('.') { why.to_owned() } else { format!("{why}.") };
    match shared.catalog.deletion_failed(&point.arn, &sentence, shared.now()).await {
        Ok(true) => {
            tracing::error!(point = %point.arn, why, "could not be deleted; it is tried again until it succeeds");
        }
        Ok(false) => {}
        Err(error) => {
            tracing::error!(point = %point.arn, %error, "why it was not deleted was not noted");
        }
    }
}

/// The second half of a deletion.
async fn finish(shared: &Arc<Shared>, point: &RecoveryPoint) -> Result<()> {
    let vault =
        shared.catalog.vault(&point.account, &point.vault_name).await?.ok_or_else(|| {
            EngineError::Internal(format!("vault {} of {} is gone", point.vault_name, point.arn))
        })?;
    let repository = shared.repository(&vault).await?;
    let Payload::Stored { snapshot_id, .. } = &point.payload;
    let id = snapshot_id.parse().map_err(|_| {
        EngineError::Internal(format!("'{snapshot_id}' of {} is not a snapshot id", point.arn))
    })?;
    let tag = job_tag(&point.backup_job_id);
    blocking(move || match forget(&repository, id, &tag) {
        // A disk that is not mounted has no snapshots either; this one would come back with it.
        Err(provault_repository::Error::SnapshotNotFound(_)) => repository.snapshot_ids().map(drop),
        other => other,
    })
    .await?
    .map_err(EngineError::repository(&vault.name))?;
    blocking(|| pause("expiry:forgotten")).await?;
    match shared.catalog.remove_recovery_point(&point.arn).await {
        // Somebody else has finished the same deletion.
        Err(CatalogError::NotFound { .. }) => Ok(()),
        done => Ok(done?),
    }
}

/// Forgets a snapshot, after others of the same job: of one that was claimed twice there may be a second, which
/// no recovery point would lead to any more. What somebody made of it with another tool stays.
fn forget(
    repository: &Repository,
    id: SnapshotId,
    tag: &str,
) -> std::result::Result<(), provault_repository::Error> {
    let all = repository.snapshots()?.snapshots;
    let spare = all.iter().filter(|s| s.id != id && s.original.is_none() && s.has_tag(tag));
    let ids: Vec<_> = spare.map(|snapshot| snapshot.id).chain([id]).collect();
    repository.forget(&ids)
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

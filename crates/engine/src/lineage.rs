//! What a backup is an increment upon.

use std::collections::BTreeMap;
use std::sync::Arc;

use provault_catalog::{Page, PointFilter};
use provault_domain::recovery_point::Payload;
use provault_domain::{BackupJob, RecoveryPoint};
use provault_driver::Lineage;

use crate::shared::{Shared, blocking};
use crate::{EngineError, Result};

/// The recovery points that a backup may count from.
#[derive(Debug, Default)]
pub(crate) struct Ancestry {
    /// The newest snapshot of the same resource in the same vault: what it holds is not read again.
    pub(crate) parent: Option<String>,
    /// The same for the driver, by the jobs that made the points.
    pub(crate) lineage: Lineage,
}

impl Ancestry {
    pub(crate) async fn of(shared: &Shared, job: &BackupJob) -> Result<Self> {
        let newest = newest_of_each_vault(shared, job).await?;
        let kept = newest.values().map(|point| point.backup_job_id.clone()).collect();
        let here = newest.get(&job.vault_name);
        let lineage = Lineage {
            job_id: Some(job.id.clone()),
            base: here.map(|point| point.backup_job_id.clone()),
            kept,
        };
        let parent = here.map(|point| match &point.payload {
            Payload::Stored { snapshot_id, .. } => snapshot_id.clone(),
        });
        Ok(Self { parent, lineage })
    }
}

/// The newest recovery point of the job's resource in each vault that has one. None from the future:
/// when it was made nobody knows.
async fn newest_of_each_vault(
    shared: &Shared,
    job: &BackupJob,
) -> Result<BTreeMap<String, RecoveryPoint>> {
    let filter = PointFilter {
        account: Some(job.account.clone()),
        resource_arn: Some(job.resource_arn.clone()),
        restorable_only: true,
        ..PointFilter::default()
    };
    let points = shared.catalog.list_recovery_points(&filter, Page::all()).await?;
    let now = shared.now();
    let mut newest: BTreeMap<String, RecoveryPoint> = BTreeMap::new();
    for point in points.items.into_iter().filter(|point| !point.is_from_the_future(now)) {
        let known = newest.get(&point.vault_name);
        if known.is_none_or(|known| known.captured_at <= point.captured_at) {
            newest.insert(point.vault_name.clone(), point);
        }
    }
    Ok(newest)
}

/// After a job: has the driver give back what no later increment counts from. What fails here is done
/// by the next capture, so that it is no failure of the job.
pub(crate) async fn give_back(shared: &Arc<Shared>, job: &BackupJob) {
    if let Err(error) = try_to_give_back(shared, job).await {
        tracing::warn!(job = job.id, %error, "what was kept for increments is given back by the next backup");
    }
}

async fn try_to_give_back(shared: &Arc<Shared>, job: &BackupJob) -> Result<()> {
    let Some(resource) = shared.catalog.resource(&job.resource_arn).await? else { return Ok(()) };
    let driver = shared.driver(resource.kind)?;
    if !driver.keeps_bases(&resource) {
        return Ok(());
    }
    let newest = newest_of_each_vault(shared, job).await?;
    let kept: Vec<String> = newest.into_values().map(|point| point.backup_job_id).collect();
    let given = blocking(move || driver.give_back(&resource, &kept)).await?;
    given.map_err(|error| EngineError::Refused(error.to_string()))
}

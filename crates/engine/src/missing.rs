//! Snapshots that are gone: recovery points of the catalog whose snapshot the vault no longer has.
//!
//! Another program may remove them (`restic forget` with the exported password), or a storage may
//! lose them. Such a point stays listed, says so, and its owner is told.

use std::sync::Arc;

use provault_catalog::{Page, PointFilter};
use provault_domain::care::VaultAlarm;
use provault_domain::recovery_point::PointTrouble;
use provault_domain::{BackupVault, RecoveryPoint};
use provault_repository::Repository;

use crate::care_report::{count, missing, snapshot_of};
use crate::shared::{Shared, blocking};
use crate::{EngineError, Result};

/// Every point of a vault that may be restored.
pub(crate) async fn points_of(shared: &Shared, vault: &BackupVault) -> Result<Vec<RecoveryPoint>> {
    let filter = PointFilter {
        account: Some(vault.account.clone()),
        vault_name: Some(vault.name.clone()),
        restorable_only: true,
        ..PointFilter::default()
    };
    Ok(shared.catalog.list_recovery_points(&filter, Page::all()).await?.items)
}

/// Those of `points` whose snapshot is gone. The points are those of before this is called: what
/// is deleted in an orderly way says so in the catalog first.
pub(crate) async fn gone(
    shared: &Arc<Shared>,
    vault: &BackupVault,
    repository: &Repository,
    points: &[RecoveryPoint],
) -> Result<Vec<RecoveryPoint>> {
    let listing = repository.clone();
    let there = blocking(move || listing.snapshot_ids())
        .await?
        .map_err(EngineError::repository(&vault.name))?;
    let mut gone = Vec::new();
    for point in points {
        if snapshot_of(point).parse().is_ok_and(|id| there.contains(&id)) {
            continue;
        }
        // Deleted by us in between?
        let now = shared.catalog.recovery_point(&point.account, &point.arn).await?;
        if now.is_some_and(|point| point.is_restorable()) {
            gone.push(point.clone());
        }
    }
    Ok(gone)
}

/// Looks whether every recovery point of a vault still has its snapshot; notes and tells of those
/// that newly have none, and takes the note from those that have one again.
pub(crate) async fn look(shared: &Arc<Shared>, vault: &BackupVault) -> Result<()> {
    let points = points_of(shared, vault).await?;
    let repository = shared.repository(vault).await?;
    let gone = gone(shared, vault, &repository, &points).await?;
    let now = shared.now();
    let marked = |point: &RecoveryPoint| {
        point.condition.as_ref().is_some_and(|c| c.trouble == PointTrouble::Missing)
    };
    let mut changes: Vec<_> = gone
        .iter()
        .filter(|point| !marked(point))
        .map(|point| (point.arn.clone(), Some(missing(snapshot_of(point), now))))
        .collect();
    let alarm = changes.first().map(|(first, _)| {
        let message = format!(
            "The snapshots of {} are gone, the first: {first}. Another program removed them, or the \
             storage lost them.",
            count(changes.len() as u64, "recovery point"),
        );
        (VaultAlarm::PointsMissing, message)
    });
    let back = points.iter().filter(|p| marked(p) && !gone.iter().any(|g| g.arn == p.arn));
    changes.extend(back.map(|point| (point.arn.clone(), None)));
    if !changes.is_empty() {
        tracing::error!(
            vault = vault.name,
            points = changes.len(),
            "recovery points and snapshots do not agree"
        );
        shared.catalog.set_point_conditions(vault, &changes, alarm, now).await?;
        shared.bell.notify_waiters();
    }
    if gone.is_empty() {
        shared.catalog.clear_alarm(&vault.arn, VaultAlarm::PointsMissing).await?;
    }
    Ok(())
}

//! CHECK: is everything there that the recovery points need, and who suffers where it is not?

use std::collections::HashSet;
use std::sync::Arc;

use provault_catalog::{Change, PackRead};
use provault_domain::RecoveryPoint;
use provault_domain::care::{CareReport, VaultAlarm};
use provault_repository::{CheckLevel, CheckOptions, CheckReport, Id, PackVerdict, Repository};

use crate::Result;
use crate::care::{Done, Work};
use crate::care_report::{conditions, hurt, of_check};
use crate::missing::{gone, points_of};
use crate::shared::blocking;
use crate::verification::{damaged_packs, read_pack, sync};

/// Checks a vault and marks the recovery points that are hurt, or no longer.
pub(crate) async fn check(work: &Work) -> Result<Done> {
    let shared = &work.shared;
    let repository = shared.repository(&work.vault).await?;
    // Before anything is looked at: a point that is made meanwhile is not called missing.
    let points = points_of(shared, &work.vault).await?;
    let before = sync(shared, &work.vault, &repository).await?;
    let suspects = still_damaged(work, &repository).await?;
    let read_data = work.run.options.read_data;
    let found = {
        let (cancel, progress) = (work.cancel_flag(), Arc::clone(&work.progress));
        let repository = repository.clone();
        let level = if read_data { CheckLevel::ReadData } else { CheckLevel::Structure };
        blocking(move || {
            let tell = |done, total| progress.set(done, Some(total));
            let options = CheckOptions {
                level,
                suspects: &suspects,
                progress: Some(&tell),
                ..CheckOptions::default()
            };
            repository.check_with(&options, &cancel)
        })
        .await?
        .map_err(|error| work.failed(error))?
    };
    if read_data {
        remember(work, &found, &before, &repository).await?;
    }
    let missing = gone(shared, &work.vault, &repository, &points).await?;
    let hurt = hurt(&found, &points, &missing);
    let report = of_check(&found, hurt, read_data);
    let changes = findings(work, &points, &found, &report, !missing.is_empty());
    Ok((report, changes))
}

/// What is entered with the report of a look at the whole vault: the condition of every recovery
/// point, and the alarms that stand or no longer do.
pub(crate) fn findings(
    work: &Work,
    points: &[RecoveryPoint],
    found: &CheckReport,
    report: &CareReport,
    any_missing: bool,
) -> Vec<Change> {
    let mut changes: Vec<Change> = conditions(points, &report.hurt, work.shared.now())
        .into_iter()
        .map(|(arn, condition)| Change::PointCondition(arn, condition))
        .collect();
    // Damage that hurts nobody is damage still.
    let alarms = [
        (VaultAlarm::Damaged, !found.is_clean() || report.hurt.iter().any(|h| !h.gone)),
        (VaultAlarm::PointsMissing, any_missing),
    ];
    for (alarm, stands) in alarms {
        let message = stands.then(|| report.summary.clone());
        changes.push(Change::VaultAlarm(work.vault.arn.clone(), alarm, message));
    }
    changes
}

/// Reads again each pack that was damaged when it was last read; gives those that still are.
pub(crate) async fn still_damaged(work: &Work, repository: &Repository) -> Result<Vec<Id>> {
    let mut damaged = Vec::new();
    for id in damaged_packs(&work.shared, &work.vault).await? {
        let read = read_pack(&work.vault, repository, id).await?;
        if matches!(read, PackVerdict::Damaged { .. }) {
            damaged.push(id);
        } else {
            let whole = [PackRead { pack: id.to_string(), damage: None }];
            let now = work.shared.now();
            work.shared.catalog.packs_read(&work.vault, &whole, None, None, now).await?;
        }
    }
    Ok(damaged)
}

/// A check of all data has read every pack: that counts as verification. Only what was there
/// before it began and still is when it has ended has certainly been read.
async fn remember(
    work: &Work,
    found: &CheckReport,
    before: &[(Id, u64)],
    repository: &Repository,
) -> Result<()> {
    let after = sync(&work.shared, &work.vault, repository).await?;
    let after: HashSet<Id> = after.into_iter().map(|(id, _)| id).collect();
    let reason_of = |id: &Id| {
        let id = id.to_string();
        let name = |object: &str| object.rsplit('/').next() == Some(id.as_str());
        found
            .problems
            .iter()
            .find(|problem| problem.object.starts_with("data/") && name(&problem.object))
            .map(|problem| problem.error.to_string())
    };
    let damaged: HashSet<&str> = found
        .problems
        .iter()
        .filter(|problem| problem.object.starts_with("data/"))
        .filter_map(|problem| problem.object.rsplit('/').next())
        .collect();
    let read: Vec<PackRead> = before
        .iter()
        .filter(|(id, _)| after.contains(id))
        .map(|(id, _)| {
            let pack = id.to_string();
            let damage = damaged.contains(pack.as_str()).then(|| reason_of(id).unwrap_or_default());
            PackRead { pack, damage }
        })
        .collect();
    let now = work.shared.now();
    work.shared.catalog.packs_read(&work.vault, &read, None, None, now).await?;
    Ok(())
}

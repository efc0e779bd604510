//! CHECK: is everything there that the recovery points need, and who suffers where it is not?

use std::collections::{BTreeSet, HashMap, HashSet};
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
    sync(shared, &work.vault, &repository).await?;
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
        remember(work, &found, &repository).await?;
    }
    let missing = gone(shared, &work.vault, &repository, &points).await?;
    let hurt = hurt(&found, &points, &missing);
    let report = of_check(&found, hurt, read_data);
    let changes = findings(work, &points, &found, &report, !missing.is_empty(), read_data);
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
    read_data: bool,
) -> Vec<Change> {
    let mut changes: Vec<Change> = conditions(points, &report.hurt, read_data, work.shared.now())
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

/// A check of all data has read every pack that an index file listed then: that counts as
/// verification. What is known of others, of a backup that runs say, was not read.
async fn remember(work: &Work, found: &CheckReport, repository: &Repository) -> Result<()> {
    let there = sync(&work.shared, &work.vault, repository).await?;
    let read = packs_read(found, &there.into_iter().map(|(id, _)| id).collect());
    let now = work.shared.now();
    work.shared.catalog.packs_read(&work.vault, &read, None, None, now).await?;
    Ok(())
}

/// What a check found out about each pack that is still `there`.
fn packs_read(found: &CheckReport, there: &HashSet<Id>) -> Vec<PackRead> {
    let mut damage: HashMap<Id, String> = HashMap::new();
    for problem in &found.problems {
        let name = problem.object.strip_prefix("data/").and_then(|name| name.rsplit('/').next());
        if let Some(id) = name.and_then(|name| name.parse().ok()) {
            damage.entry(id).or_insert_with(|| problem.error.to_string());
        }
    }
    // One that is gone, or has another size, is not read.
    let seen: BTreeSet<Id> = found.read.iter().chain(damage.keys()).copied().collect();
    seen.into_iter()
        .filter(|id| there.contains(id))
        .map(|id| PackRead { pack: id.to_string(), damage: damage.get(&id).cloned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use provault_repository::{Error, Problem};

    use super::*;

    #[test]
    fn only_what_was_read_is_noted_as_verified() {
        let [read, hurt, gone, unlisted, dropped] = [1_u8, 2, 3, 4, 5].map(|n| Id::hash(&[n]));
        let problem = |id: Id| {
            let object = format!("data/{}/{id}", &id.to_string()[..2]);
            Problem { error: Error::SnapshotNotFound(id), object }
        };
        let found = CheckReport {
            read: vec![read, hurt, dropped],
            problems: vec![problem(hurt), problem(gone)],
            ..CheckReport::default()
        };
        let there = [read, hurt, gone, unlisted].into();
        let mut noted: Vec<_> = packs_read(&found, &there)
            .into_iter()
            .map(|read| (read.pack, read.damage.is_some()))
            .collect();
        noted.sort();
        let mut wanted = [(read, false), (hurt, true), (gone, true)]
            .map(|(id, damaged)| (id.to_string(), damaged));
        wanted.sort();
        assert_eq!(noted, wanted);
    }
}

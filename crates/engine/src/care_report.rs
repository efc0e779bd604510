//! What the repository found, in the words of the catalog: which recovery points and files suffer.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use provault_domain::care::{CareReport, HurtPoint};
use provault_domain::recovery_point::{Payload, PointCondition, PointTrouble};
use provault_domain::{Arn, RecoveryPoint};
use provault_repository::CheckReport;

/// Problems that a report lists.
const MOST_PROBLEMS: usize = 100;
/// Files of a snapshot that a report lists.
const MOST_FILES: usize = 20;

/// The snapshot of a point.
pub(crate) fn snapshot_of(point: &RecoveryPoint) -> &str {
    let Payload::Stored { snapshot_id, .. } = &point.payload;
    snapshot_id
}

/// The snapshots that suffer, those the catalog knows by their recovery points. `missing` are
/// points whose snapshot is gone.
pub(crate) fn hurt(
    found: &CheckReport,
    points: &[RecoveryPoint],
    missing: &[RecoveryPoint],
) -> Vec<HurtPoint> {
    let by_snapshot: HashMap<&str, &Arn> =
        points.iter().map(|point| (snapshot_of(point), &point.arn)).collect();
    let mut hurt: BTreeMap<String, HurtPoint> = BTreeMap::new();
    let mut entry = |snapshot: &str, gone: bool, file: Option<&[u8]>| {
        let hurt = hurt.entry(snapshot.to_owned()).or_insert_with(|| HurtPoint {
            recovery_point_arn: by_snapshot.get(snapshot).map(|arn| (*arn).clone()),
            snapshot_id: snapshot.to_owned(),
            gone: false,
            files: Vec::new(),
            files_total: 0,
        });
        hurt.gone |= gone;
        if let Some(path) = file {
            hurt.files_total += 1;
            if hurt.files.len() < MOST_FILES {
                hurt.files.push(format!("/{}", String::from_utf8_lossy(path)));
            }
        }
    };
    for file in &found.hurt {
        entry(&file.snapshot.to_string(), false, Some(&file.path));
    }
    // A snapshot file that cannot be read has no tree that could be gone through.
    for problem in &found.problems {
        if let Some(id) = problem.object.strip_prefix("snapshots/") {
            entry(id, true, None);
        }
    }
    for point in missing {
        entry(snapshot_of(point), true, None);
    }
    hurt.into_values().collect()
}

/// The report of a check.
pub(crate) fn of_check(found: &CheckReport, hurt: Vec<HurtPoint>, read_data: bool) -> CareReport {
    let gone = hurt.iter().filter(|hurt| hurt.gone).count();
    let clean = found.is_clean() && hurt.is_empty();
    let problems_total = found.problems.len() as u64;
    let problems = found.problems.iter().map(|p| format!("{}: {}", p.object, p.error));
    let looked = if read_data { "every byte was read" } else { "the structure was checked" };
    let packs = count(found.packs, "pack");
    let snapshots = count(found.snapshots, "snapshot");
    let summary = if clean {
        format!("Nothing is wrong: {snapshots} and {packs} looked at, {looked}.")
    } else {
        let points = hurt.iter().filter(|hurt| hurt.recovery_point_arn.is_some()).count() as u64;
        format!(
            "Something is wrong: {}. Hurt: {} ({gone} without a snapshot), {}. Back up again what is \
             hurt, and see that the storage is sound.",
            count(problems_total, "problem"),
            count(points, "recovery point"),
            count(found.hurt_total, "file"),
        )
    };
    let counted = [
        ("snapshots", found.snapshots),
        ("trees", found.trees),
        ("packs", found.packs),
        ("blobs", found.blobs),
        ("unreferencedPacks", found.unreferenced_packs),
        ("bytesRead", found.bytes_read),
        ("hurtFiles", found.hurt_total),
    ];
    CareReport {
        clean,
        summary,
        figures: figures(&counted),
        problems: listed(problems, problems_total),
        problems_total,
        hurt,
    }
}

/// The first hundred of so many problems, and how many more there are.
pub(crate) fn listed(problems: impl Iterator<Item = String>, total: u64) -> Vec<String> {
    let mut first: Vec<String> = problems.take(MOST_PROBLEMS).collect();
    let more = total.saturating_sub(first.len() as u64);
    if more > 0 {
        first.push(format!("and {more} more"));
    }
    first
}

/// Counts by name.
pub(crate) fn figures(named: &[(&str, u64)]) -> BTreeMap<String, u64> {
    named.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

/// `900 bytes`, `1.2 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return count(n, "byte");
    }
    let mut tenths = u128::from(n) * 10;
    let mut unit = 0;
    loop {
        tenths = (tenths + 512) / 1024;
        if tenths < 10_240 || unit + 1 == UNITS.len() {
            return format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]);
        }
        unit += 1;
    }
}

/// `1 pack`, `2 packs`.
pub(crate) fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

/// What each point's condition is to be, where it is another than it was. All points that are not
/// among the hurt are well, but for those that a restore test could not read, while not all data was
/// read.
pub(crate) fn conditions(
    points: &[RecoveryPoint],
    hurt: &[HurtPoint],
    read_data: bool,
    now: Timestamp,
) -> Vec<(Arn, Option<PointCondition>)> {
    let by_snapshot: HashMap<&str, &HurtPoint> =
        hurt.iter().map(|hurt| (hurt.snapshot_id.as_str(), hurt)).collect();
    let mut changes = Vec::new();
    for point in points {
        let found = by_snapshot.get(snapshot_of(point)).map(|hurt| condition(hurt, now));
        let same = match (&point.condition, &found) {
            (None, None) => true,
            (Some(old), Some(new)) => old.trouble == new.trouble && old.message == new.message,
            _ => false,
        };
        let only_tested = point.condition.as_ref().is_some_and(|old| old.restore_test_id.is_some());
        if same || (found.is_none() && only_tested && !read_data) {
            continue;
        }
        // The trouble is as old as it was first seen.
        let since = point.condition.as_ref().map(|old| old.since);
        let found = found.map(|new| PointCondition { since: since.unwrap_or(new.since), ..new });
        changes.push((point.arn.clone(), found));
    }
    changes
}

fn condition(hurt: &HurtPoint, now: Timestamp) -> PointCondition {
    if hurt.gone {
        return missing(&hurt.snapshot_id, now);
    }
    let first = hurt.files.first().map(|file| format!(", such as {file}")).unwrap_or_default();
    PointCondition {
        trouble: PointTrouble::Damaged,
        since: now,
        message: format!(
            "DAMAGED: {} cannot be restored{first}. Restore another point.",
            count(hurt.files_total, "file")
        ),
        restore_test_id: None,
    }
}

/// The condition of a point whose snapshot is gone.
pub(crate) fn missing(snapshot_id: &str, now: Timestamp) -> PointCondition {
    PointCondition {
        trouble: PointTrouble::Missing,
        since: now,
        message: format!(
            "MISSING: its snapshot {snapshot_id} is gone from the vault, or cannot be read; nothing \
             of it can be restored. It was removed by another program, such as restic forget, or \
             lost with its storage; delete the recovery point, or put the snapshot back."
        ),
        restore_test_id: None,
    }
}

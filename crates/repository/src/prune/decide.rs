//! What is to go, and what pays to be copied.

use std::collections::{HashMap, HashSet};

use crate::crypto::OVERHEAD;
use crate::error::Result;
use crate::id::Id;
use crate::lock::Holder;
use crate::pack::PackedBlob;
use crate::prune::ledger::PackRow;
use crate::prune::mark::Marks;
use crate::prune::survey::Survey;
use crate::prune::{MaxUnused, PackReason, PlannedPack, PruneOptions, PrunePlan};

/// Small packs of one kind are merged when there are so many.
const MANY_SMALL: usize = 8;

pub(crate) struct Decided<'a> {
    pub(crate) survey: Survey<'a>,
    pub(crate) plan: PrunePlan,
    /// Packs of the index that are to leave it without being copied.
    pub(crate) delete: HashSet<u32>,
    /// Packs to be copied, the most useful first, with the blobs to be copied.
    pub(crate) repack: Vec<(u32, Vec<PackedBlob>)>,
    /// Packs in no index and in no mark that has names.
    pub(crate) unmarked: HashSet<Id>,
    /// Packs of marks that can be deleted now.
    pub(crate) sweep: Vec<(Id, u64)>,
}

pub(crate) fn decide<'a>(
    mut survey: Survey<'a>,
    marks: &Marks,
    alive: &[Holder],
) -> Result<Decided<'a>> {
    survey.go_on()?;
    let chosen = survey.ledger.count();
    let options = survey.options;
    let target = survey.inner.options.pack_size as u64;
    let packs = &survey.ledger.packs;
    let mut plan = PrunePlan {
        snapshots: survey.snapshots.len() as u64,
        packs: (packs.len() - survey.unlisted.len()) as u64,
        blobs: survey.ledger.len() as u64,
        needed_blobs: packs.iter().map(|pack| u64::from(pack.needed)).sum(),
        take_back: survey.unlisted.len() as u64,
        index_files: survey.ledger.files.len() as u64,
        ..PrunePlan::default()
    };
    let foreign = alive.iter().filter(|holder| holder.job.is_none());
    plan.foreign = foreign.map(|holder| holder.who.clone()).collect();

    let planned = |pack: &PackRow, reason| PlannedPack {
        id: pack.id,
        size: pack.size,
        needed: pack.needed_bytes,
        reason,
    };
    let mut delete = HashSet::new();
    let mut candidates = Vec::new();
    for (number, pack) in (0u32..).zip(packs) {
        if !pack.present || pack.needed == 0 {
            let reason = if pack.present { PackReason::Unused } else { PackReason::Damaged };
            let size = survey.stored.get(&pack.id).copied().unwrap_or(0);
            plan.delete.push(PlannedPack { size, ..planned(pack, reason) });
            plan.unused_bytes += size;
            delete.insert(number);
        } else {
            let unused = unused(pack);
            plan.unused_bytes += unused;
            plan.needed_bytes += pack.size - unused;
            plan.unused_after += unused;
            candidates.push((number, pack));
        }
    }
    let picked = pick(&candidates, plan.needed_bytes, target, options);
    for (number, reason) in &picked {
        let pack = &packs[*number as usize];
        plan.unused_after -= unused(pack);
        plan.repack.push(planned(pack, *reason));
    }

    let marked = marks.marked();
    let mut unmarked = HashSet::new();
    let mut sweep = Vec::new();
    for (id, size) in &survey.stored {
        let unlisted = |reason| PlannedPack { id: *id, size: *size, needed: 0, reason };
        if survey.ledger.pack(id).is_some() {
            continue;
        }
        if marks.blocked.contains(id) && marked.contains(id) {
            plan.waiting.push(unlisted(PackReason::Unlisted));
        } else if marked.contains(id) {
            plan.sweep.push(unlisted(PackReason::Unlisted));
            sweep.push((*id, *size));
        } else {
            plan.delete.push(unlisted(PackReason::Unlisted));
            unmarked.insert(*id);
        }
    }
    for list in [&mut plan.delete, &mut plan.sweep, &mut plan.waiting] {
        list.sort_by_key(|pack| (pack.reason, pack.id));
    }
    if !plan.waiting.is_empty() {
        plan.waiting_for.clone_from(&marks.waiting_for);
    }
    let size = |packs: &[PlannedPack]| packs.iter().map(|pack| pack.size).sum::<u64>();
    plan.frees = size(&plan.delete)
        + size(&plan.sweep)
        + picked.iter().map(|(number, _)| unused(&packs[*number as usize])).sum::<u64>();

    let sources: HashSet<u32> = picked.iter().map(|(number, _)| *number).collect();
    let mut blobs: HashMap<u32, Vec<PackedBlob>> = survey.ledger.chosen_blobs(&chosen, &sources);
    let repack = picked
        .into_iter()
        .map(|(number, _)| (number, blobs.remove(&number).unwrap_or_default()))
        .collect();
    Ok(Decided { survey, plan, delete, repack, unmarked, sweep })
}

/// Bytes of a pack that are of no use; the rest of its header is counted as needed.
fn unused(pack: &PackRow) -> u64 {
    pack.size.saturating_sub(pack.needed_bytes + OVERHEAD as u64 + 4)
}

/// Which packs pay to be copied: those with the least to copy for what it frees, until no more is
/// unused than may be; and small ones, if they are many.
fn pick(
    candidates: &[(u32, &PackRow)],
    needed_bytes: u64,
    target: u64,
    options: &PruneOptions,
) -> Vec<(u32, PackReason)> {
    let limit = match options.max_unused {
        MaxUnused::Bytes(bytes) => bytes,
        MaxUnused::Percent(percent) if percent < 100.0 => share(needed_bytes, percent),
        MaxUnused::Percent(_) | MaxUnused::Unlimited => u64::MAX,
    };
    let mut room = options.max_repack.unwrap_or(u64::MAX);
    let mut left: u64 = candidates.iter().map(|(_, pack)| unused(pack)).sum();
    let mut picked = Vec::new();
    let mut by_use: Vec<_> = candidates.iter().filter(|(_, pack)| unused(pack) > 0).collect();
    // By the share that is of no use, exactly: a/b > c/d is ad > cb.
    by_use.sort_by(|(_, a), (_, b)| {
        let cross =
            |a: &PackRow, b: &PackRow| u128::from(unused(a)) * u128::from(b.needed_bytes.max(1));
        cross(b, a).cmp(&cross(a, b)).then(a.id.cmp(&b.id))
    });
    for (number, pack) in by_use {
        if left <= limit {
            break;
        }
        if pack.needed_bytes <= room {
            room -= pack.needed_bytes;
            left -= unused(pack);
            picked.push((*number, PackReason::PartlyUsed));
        }
    }
    if options.merge_small {
        for trees in [false, true] {
            let taken: HashSet<u32> = picked.iter().map(|(number, _)| *number).collect();
            let small: Vec<_> = candidates
                .iter()
                .filter(|(number, pack)| {
                    pack.has_trees == trees && pack.size < target / 4 && !taken.contains(number)
                })
                .collect();
            if small.len() < MANY_SMALL {
                continue;
            }
            for (number, pack) in small {
                if pack.needed_bytes <= room {
                    room -= pack.needed_bytes;
                    picked.push((*number, PackReason::Small));
                }
            }
        }
    }
    picked
}

/// What may be unused so that it is `percent` of the whole.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a limit, not an account"
)]
fn share(needed: u64, percent: f64) -> u64 {
    let percent = percent.max(0.0);
    (needed as f64 * percent / (100.0 - percent)) as u64
}

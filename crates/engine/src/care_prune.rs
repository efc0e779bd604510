//! PRUNE: freeing the space of what no snapshot needs any more.

use std::fmt::Write as _;

use provault_domain::care::CareReport;
use provault_repository::{PruneOptions, PrunePlan, PruneReport};

use crate::care::{Done, Work};
use crate::care_report::{bytes, count, figures, listed};
use crate::shared::blocking;
use crate::verification::sync;
use crate::{EngineError, Result};

/// Prunes a vault beside running jobs, or tells what would go.
pub(crate) async fn prune(work: &Work) -> Result<Done> {
    let repository = work.shared.repository(&work.vault).await?;
    let options = PruneOptions { cancel: work.cancel_flag(), ..PruneOptions::default() };
    let opened = repository.clone();
    if work.run.options.dry_run {
        let plan = blocking(move || opened.plan_prune(&options)).await?;
        return Ok((planned(&plan.map_err(|error| work.failed(error))?), Vec::new()));
    }
    let done =
        blocking(move || opened.prune(&options)).await?.map_err(|error| work.failed(error))?;
    // What is gone is not verified any more, and what was copied is new.
    sync(&work.shared, &work.vault, &repository).await?;
    if !done.postponed.is_empty() {
        return Err(EngineError::Refused(postponed(&done)));
    }
    Ok((pruned(&done), Vec::new()))
}

/// Why nothing was taken out of the index. That is no success: whoever waits for the space waits on.
fn postponed(done: &PruneReport) -> String {
    let swept = if done.deleted_packs > 0 {
        format!("{} of earlier prunes deleted; ", bytes(done.deleted_bytes))
    } else {
        String::new()
    };
    format!(
        "{swept}nothing more can go while other programs are at work in the vault's repository: {}. \
         Prune again when they have ended.",
        done.postponed.join("; ")
    )
}

fn planned(plan: &PrunePlan) -> CareReport {
    let mut summary = format!(
        "{} would be freed: {} deleted, {} copied without what is not needed, {} of earlier prunes \
         deleted.",
        bytes(plan.frees),
        count(plan.delete.len() as u64, "pack"),
        count(plan.repack.len() as u64, "pack"),
        count(plan.sweep.len() as u64, "pack"),
    );
    if !plan.foreign.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(
            summary,
            " Nothing can go while other programs are at work: {}.",
            plan.foreign.join("; ")
        );
    }
    let waiting: u64 = plan.waiting.iter().map(|pack| pack.size).sum();
    CareReport {
        clean: true,
        summary: waits(summary, plan.waiting.len() as u64, waiting, &plan.waiting_for),
        figures: figures(&[
            ("snapshots", plan.snapshots),
            ("packs", plan.packs),
            ("neededBytes", plan.needed_bytes),
            ("unusedBytes", plan.unused_bytes),
            ("unusedBytesAfter", plan.unused_after),
            ("freedBytes", plan.frees),
            ("packsToDelete", plan.delete.len() as u64),
            ("packsToCopy", plan.repack.len() as u64),
            ("waitingPacks", plan.waiting.len() as u64),
            ("waitingBytes", waiting),
        ]),
        ..CareReport::default()
    }
}

/// Adds what has to wait for jobs that may still read it.
fn waits(mut summary: String, packs: u64, size: u64, jobs: &[String]) -> String {
    if packs > 0 {
        // Writing to a String cannot fail.
        let _ = write!(
            summary,
            " {} ({}) may still be read, and go with the next prune after these have ended: {}.",
            count(packs, "pack"),
            bytes(size),
            jobs.join("; ")
        );
    }
    summary
}

fn pruned(done: &PruneReport) -> CareReport {
    let mut summary = format!(
        "{} freed: {} deleted, of {} what is needed copied first.",
        bytes(done.deleted_bytes.saturating_sub(done.repacked_bytes)),
        count(done.deleted_packs, "pack"),
        count(done.repacked_packs, "pack"),
    );
    if done.deleted_packs == 0 && done.waiting_packs == 0 {
        "Nothing had to go.".clone_into(&mut summary);
    }
    summary = waits(summary, done.waiting_packs, done.waiting_bytes, &done.waiting_for);
    if done.out_of_space {
        summary.push_str(" The storage was too full for all of it; run it again.");
    }
    if !done.damaged.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(
            summary,
            " {} stayed because of damage; check the vault, then repair it.",
            count(done.damaged.len() as u64, "pack")
        );
    }
    let problems = done
        .damaged
        .iter()
        .map(|(pack, error)| format!("pack {pack} stays, for it is damaged: {error}"));
    CareReport {
        clean: done.damaged.is_empty(),
        summary,
        figures: figures(&[
            ("snapshots", done.plan.snapshots),
            ("packs", done.plan.packs),
            ("neededBytes", done.plan.needed_bytes),
            ("unusedBytes", done.plan.unused_bytes),
            ("deletedPacks", done.deleted_packs),
            ("deletedBytes", done.deleted_bytes),
            ("copiedPacks", done.repacked_packs),
            ("copiedBytes", done.repacked_bytes),
            ("waitingPacks", done.waiting_packs),
            ("waitingBytes", done.waiting_bytes),
            ("relistedPacks", done.taken_back),
            ("leftoverFiles", done.leftovers),
        ]),
        problems: listed(problems, done.damaged.len() as u64),
        problems_total: done.damaged.len() as u64,
        hurt: Vec::new(),
    }
}

//! `prune`: frees the space of what no snapshot needs.

use std::sync::Arc;
use std::time::Instant;

use provault_driver::CancelFlag;
use provault_repository::{
    MaxUnused, PlannedPack, PruneOptions, PrunePhase, PrunePlan, PruneReport, Repository,
    SnapshotId,
};
use serde_json::{Value, json};

use super::context::{Context, repository_flag};
use super::failure::Failure;
use super::progress::Progress;
use super::{bytes_text, signals, size};

/// What a prune that was stopped leaves.
const STOPPED: &str = "every snapshot is whole, and the next prune goes on";

/// Free the space of what no snapshot needs.
///
/// Backups and restores go on meanwhile. What a running job may still need is deleted by the next
/// prune after its end.
#[derive(Debug, clap::Args)]
pub(crate) struct PruneArgs {
    /// Only tell what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Delete everything if there is no snapshot at all. Without it that is refused, for a snapshots
    /// directory that is not mounted looks just like that
    #[arg(long)]
    allow_empty: bool,
    #[command(flatten)]
    limits: Limits,
}

/// How much a prune may copy, and has to.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub(crate) struct Limits {
    /// How much may stay unused within packs that hold something needed: percent of the repository,
    /// a size, or unlimited. Less frees more, and copies more [default: 5%]
    #[arg(long, value_name = "N%|SIZE|unlimited", value_parser = max_unused)]
    max_unused: Option<MaxUnused>,
    /// Copy at most this much, the most useful first
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    max_repack_size: Option<u64>,
}

impl Limits {
    pub(crate) fn are_given(&self) -> bool {
        *self != Self::default()
    }
}

fn max_unused(text: &str) -> Result<MaxUnused, String> {
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    let Some(percent) = text.strip_suffix('%') else {
        return size::parse(text).map(MaxUnused::Bytes);
    };
    let number = percent.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    number
        .map(MaxUnused::Percent)
        .ok_or_else(|| format!("'{text}' is no percentage: a number with % behind it"))
}

pub(crate) fn run(args: &PruneArgs, context: &Context<'_>) -> Result<(), Failure> {
    let cancel = signals::install();
    let repository = context.open()?;
    if args.dry_run {
        let plan = plan(&repository, &[], args.allow_empty, &args.limits, &cancel, context)?;
        let value = json!({ "message_type": "summary", "dry_run": true, "plan": plan_json(&plan) });
        context.out.show_line(&value, &plan_text(&plan))?;
        tell_waiting(context, &plan);
        return Ok(());
    }
    let done = prune(&repository, args.allow_empty, &args.limits, &cancel, context)?;
    let mut value = done.to_json();
    value["message_type"] = json!("summary");
    context.out.show_line(&value, &done.text())?;
    done.result(context)
}

fn options(
    allow_empty: bool,
    limits: &Limits,
    cancel: &CancelFlag,
    progress: &Arc<Progress>,
) -> PruneOptions {
    let heard = Arc::clone(progress);
    let plain = PruneOptions::default();
    PruneOptions {
        max_unused: limits.max_unused.unwrap_or(plain.max_unused),
        max_repack: limits.max_repack_size,
        allow_empty,
        cancel: repository_flag(cancel),
        progress: Some(Arc::new(move |phase, done, total| {
            let doing = match phase {
                PrunePhase::ReadIndex => "reading the index",
                PrunePhase::FindNeeded => "going through directories",
                PrunePhase::Repack => "copying packs",
                PrunePhase::SwitchIndex => "writing the index",
                PrunePhase::Delete => "deleting packs",
            };
            heard.count(doing, done, Some(total).filter(|total| *total > 0));
        })),
        ..plain
    }
}

/// What a prune would do, if these snapshots were forgotten first.
pub(crate) fn plan(
    repository: &Repository,
    forgotten: &[SnapshotId],
    allow_empty: bool,
    limits: &Limits,
    cancel: &CancelFlag,
    context: &Context<'_>,
) -> Result<PrunePlan, Failure> {
    let progress = Arc::new(Progress::start(context, "looking"));
    let options = options(allow_empty, limits, cancel, &progress);
    Ok(repository.plan_prune_without(forgotten, &options)?)
}

/// A prune that came to its end.
pub(crate) struct Pruned {
    report: PruneReport,
    seconds: f64,
}

/// Prunes, and shows how it goes.
pub(crate) fn prune(
    repository: &Repository,
    allow_empty: bool,
    limits: &Limits,
    cancel: &CancelFlag,
    context: &Context<'_>,
) -> Result<Pruned, Failure> {
    let began = Instant::now();
    let progress = Arc::new(Progress::start(context, "pruning"));
    let report = repository
        .prune(&options(allow_empty, limits, cancel, &progress))
        .map_err(|error| Failure::from(error).after(STOPPED))?;
    Ok(Pruned { report, seconds: began.elapsed().as_secs_f64() })
}

impl Pruned {
    pub(crate) fn to_json(&self) -> Value {
        let report = &self.report;
        let damaged: Vec<_> = report
            .damaged
            .iter()
            .map(|(pack, error)| json!({ "pack": pack.to_string(), "error": error.to_string() }))
            .collect();
        json!({
            "dry_run": false,
            "plan": plan_json(&report.plan),
            "repacked_packs": report.repacked_packs,
            "repacked_bytes": report.repacked_bytes,
            "deleted_packs": report.deleted_packs,
            "deleted_bytes": report.deleted_bytes,
            "waiting_packs": report.waiting_packs,
            "waiting_bytes": report.waiting_bytes,
            "waiting_for": report.waiting_for,
            "taken_back_packs": report.taken_back,
            "leftover_files": report.leftovers,
            "postponed_for": report.postponed,
            "damaged": damaged,
            "out_of_space": report.out_of_space,
            "reserve_bytes": report.reserve,
            "total_duration": self.seconds,
        })
    }

    pub(crate) fn text(&self) -> String {
        let report = &self.report;
        format!(
            "{} packs deleted ({}); {} packs copied ({}) in {:.1} s",
            report.deleted_packs,
            bytes_text(report.deleted_bytes),
            report.repacked_packs,
            bytes_text(report.repacked_bytes),
            self.seconds
        )
    }

    /// Tells what is left to do, and whether all was done that could be.
    pub(crate) fn result(&self, context: &Context<'_>) -> Result<(), Failure> {
        let report = &self.report;
        if report.taken_back > 0 {
            context.note(&format!(
                "{} packs that snapshots need and no index listed are in the index again",
                report.taken_back
            ));
        }
        if report.waiting_packs > 0 {
            context.note(&format!(
                "{} packs ({}) wait for jobs to end, and for the prune after that: {}",
                report.waiting_packs,
                bytes_text(report.waiting_bytes),
                report.waiting_for.join("; ")
            ));
        }
        if report.reserve == 0 {
            context.warn(
                "there was no room for the reserve that helps when the disk is full; make room",
            );
        }
        for (pack, error) in &report.damaged {
            context.warn(&format!("pack {pack} stays, for it is damaged: {error}"));
        }
        if !report.damaged.is_empty() {
            return Err(Failure::Damaged(format!(
                "{} packs are damaged and were kept; run 'provault repository check --read-data', \
                 then 'repair'",
                report.damaged.len()
            )));
        }
        if !report.postponed.is_empty() {
            return Err(Failure::Locked(format!(
                "other programs are at work, and nothing was taken out of the index; prune again \
                 when they have ended: {}",
                report.postponed.join("; ")
            )));
        }
        if report.out_of_space {
            return Err(Failure::Failed(
                "the storage was too full for all of it; run prune again when the jobs that it \
                 waits for have ended, or make room by other means"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

fn sum(packs: &[PlannedPack]) -> u64 {
    packs.iter().map(|pack| pack.size).sum()
}

pub(crate) fn plan_json(plan: &PrunePlan) -> Value {
    json!({
        "snapshots": plan.snapshots,
        "packs": plan.packs,
        "blobs": plan.blobs,
        "needed_blobs": plan.needed_blobs,
        "needed_bytes": plan.needed_bytes,
        "unused_bytes": plan.unused_bytes,
        "delete_packs": plan.delete.len(),
        "delete_bytes": sum(&plan.delete),
        "repack_packs": plan.repack.len(),
        "repack_bytes": plan.repack.iter().map(|pack| pack.needed).sum::<u64>(),
        "sweep_packs": plan.sweep.len(),
        "sweep_bytes": sum(&plan.sweep),
        "waiting_packs": plan.waiting.len(),
        "waiting_bytes": sum(&plan.waiting),
        "waiting_for": plan.waiting_for,
        "take_back_packs": plan.take_back,
        "frees_bytes": plan.frees,
        "unused_after_bytes": plan.unused_after,
        "postponed_for": plan.foreign,
    })
}

pub(crate) fn plan_text(plan: &PrunePlan) -> String {
    format!(
        "would free {}: {} packs to delete ({}), {} to copy and delete ({} copied), {} left by \
         earlier prunes ({}); {} unused would stay",
        bytes_text(plan.frees),
        plan.delete.len(),
        bytes_text(sum(&plan.delete)),
        plan.repack.len(),
        bytes_text(plan.repack.iter().map(|pack| pack.needed).sum()),
        plan.sweep.len(),
        bytes_text(sum(&plan.sweep)),
        bytes_text(plan.unused_after),
    )
}

/// Notes whom the prune would have to wait for.
pub(crate) fn tell_waiting(context: &Context<'_>, plan: &PrunePlan) {
    if !plan.waiting.is_empty() {
        context.note(&format!(
            "{} packs ({}) wait for jobs to end: {}",
            plan.waiting.len(),
            bytes_text(sum(&plan.waiting)),
            plan.waiting_for.join("; ")
        ));
    }
    if !plan.foreign.is_empty() {
        context.note(&format!(
            "other programs are at work; while they are, nothing can be pruned: {}",
            plan.foreign.join("; ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unused_is_a_percentage_a_size_or_unlimited() {
        assert_eq!(max_unused("5%"), Ok(MaxUnused::Percent(5.0)));
        assert_eq!(max_unused("0.5%"), Ok(MaxUnused::Percent(0.5)));
        assert_eq!(max_unused("0"), Ok(MaxUnused::Bytes(0)));
        assert_eq!(max_unused("500M"), Ok(MaxUnused::Bytes(500 << 20)));
        assert_eq!(max_unused("unlimited"), Ok(MaxUnused::Unlimited));
        for bad in ["", "%", "-1%", "nan%", "inf%", "5 percent", "many"] {
            assert!(max_unused(bad).is_err(), "{bad}");
        }
    }
}

//! `forget`: snapshots that are wanted no longer.

use std::collections::BTreeSet;

use provault_cli::View;
use provault_repository::{
    ForgetGroup, ForgetPolicy, GroupBy, Period, PrunePlan, Snapshot, SnapshotId, SnapshotList,
};
use serde_json::{Value, json};

use super::context::Context;
use super::failure::Failure;
use super::pick::{Filter, Wanted};
use super::{prune, signals, snapshots, usage};

/// Forget snapshots, by a policy or one by one.
///
/// A policy keeps what one of its rules keeps, in each group of snapshots, and forgets the rest; the
/// rules are restic's. The space is freed by 'prune'.
#[derive(Debug, clap::Args)]
pub(crate) struct ForgetArgs {
    /// Forget these, whatever a policy would say: ids, or the beginnings of ids
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<Wanted>,
    #[command(flatten)]
    rules: Rules,
    #[command(flatten)]
    filter: Filter,
    /// What makes a group: host, paths, tags, or several with commas between; "" puts all in one
    #[arg(short, long, value_name = "WHAT", default_value = "host,paths", value_parser = group_by)]
    group_by: GroupBy,
    /// Only tell what would be forgotten, what keeps the others, and with --prune what it would free
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Prune afterwards
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    limits: prune::Limits,
}

/// What is kept.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_field_names, reason = "the options are called so in restic")]
pub(crate) struct Rules {
    /// Keep the newest N
    #[arg(short = 'l', long, value_name = "N", default_value_t = 0)]
    keep_last: u32,
    /// Keep the newest of each of N hours
    #[arg(short = 'H', long, value_name = "N", default_value_t = 0)]
    keep_hourly: u32,
    /// Keep the newest of each of N days
    #[arg(short = 'd', long, value_name = "N", default_value_t = 0)]
    keep_daily: u32,
    /// Keep the newest of each of N weeks
    #[arg(short = 'w', long, value_name = "N", default_value_t = 0)]
    keep_weekly: u32,
    /// Keep the newest of each of N months
    #[arg(short = 'm', long, value_name = "N", default_value_t = 0)]
    keep_monthly: u32,
    /// Keep the newest of each of N years
    #[arg(short = 'y', long, value_name = "N", default_value_t = 0)]
    keep_yearly: u32,
    /// Keep all that are at most that much older than the newest, such as 1y6m14d12h
    #[arg(long, value_name = "PERIOD")]
    keep_within: Option<Period>,
    /// Keep all with this tag (a,b: with both); may be given several times
    #[arg(long, value_name = "TAG[,TAG]")]
    keep_tag: Vec<String>,
}

fn group_by(text: &str) -> Result<GroupBy, String> {
    let mut group = GroupBy { host: false, paths: false, tags: false };
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match name {
            "host" | "hosts" => group.host = true,
            "path" | "paths" => group.paths = true,
            "tag" | "tags" => group.tags = true,
            other => return Err(format!("'{other}' makes no group: host, paths or tags")),
        }
    }
    Ok(group)
}

impl ForgetArgs {
    fn policy(&self) -> ForgetPolicy {
        let rules = &self.rules;
        let list = |tags: &String| tags.split(',').map(|tag| tag.trim().to_owned()).collect();
        ForgetPolicy {
            last: rules.keep_last,
            hourly: rules.keep_hourly,
            daily: rules.keep_daily,
            weekly: rules.keep_weekly,
            monthly: rules.keep_monthly,
            yearly: rules.keep_yearly,
            within: rules.keep_within,
            tags: rules.keep_tag.iter().map(list).collect(),
            group_by: self.group_by,
        }
    }
}

pub(crate) fn run(args: &ForgetArgs, context: &Context<'_>) -> Result<(), Failure> {
    let cancel = signals::install();
    let policy = args.policy();
    let filtered =
        !(args.filter.host.is_empty() && args.filter.path.is_empty() && args.filter.tag.is_empty());
    match (args.snapshots.is_empty(), policy.is_empty()) {
        (true, true) => {
            return Err(usage(
                "nothing says what to keep, so nothing is forgotten: give a --keep option with \
                 more than 0, or the ids of snapshots",
            ));
        }
        (false, false) => {
            return Err(usage("give either the ids of snapshots or --keep options, not both"));
        }
        (false, true) if filtered => {
            return Err(usage("--host, --path and --tag choose among snapshots for a policy only"));
        }
        _ => {}
    }
    if args.limits.are_given() && !args.prune {
        return Err(usage("--max-unused and --max-repack-size are for --prune"));
    }
    let repository = context.open()?;
    let all = repository.snapshots()?;
    let choice = if args.snapshots.is_empty() {
        Choice::by_policy(&policy, &args.filter, &all)?
    } else {
        Choice::by_ids(&args.snapshots, &all)?
    };
    if cancel.is_raised() {
        return Err(Failure::Interrupted);
    }
    let ids: Vec<SnapshotId> = choice.forget.iter().copied().collect();
    if !args.dry_run && !ids.is_empty() {
        repository.forget(&ids)?;
    }
    // Whoever names the last ones means that nothing is left.
    let all_gone = !ids.is_empty() && ids.len() == all.snapshots.len() + all.damaged.len();
    let freed = match (args.prune, args.dry_run) {
        (false, _) => Ok(None),
        (true, true) => {
            let plan = prune::plan(&repository, &ids, all_gone, &args.limits, &cancel, context);
            plan.map(|plan| Some(Freed::Planned(Box::new(plan))))
        }
        (true, false) => {
            let pruned = prune::prune(&repository, all_gone, &args.limits, &cancel, context);
            pruned.map(|pruned| Some(Freed::Done(Box::new(pruned))))
        }
    };
    // What was forgotten is told even if the prune failed.
    tell(args, context, &choice, freed.as_ref().ok().and_then(Option::as_ref))?;
    match freed? {
        Some(Freed::Done(pruned)) => pruned.result(context)?,
        Some(Freed::Planned(plan)) => prune::tell_waiting(context, &plan),
        None => {}
    }
    left_damaged(&all, &choice, context)
}

/// What became of `--prune`.
enum Freed {
    /// A dry run.
    Planned(Box<PrunePlan>),
    Done(Box<prune::Pruned>),
}

impl Freed {
    fn to_json(&self) -> Value {
        match self {
            Self::Planned(plan) => json!({ "dry_run": true, "plan": prune::plan_json(plan) }),
            Self::Done(pruned) => pruned.to_json(),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Planned(plan) => prune::plan_text(plan),
            Self::Done(pruned) => pruned.text(),
        }
    }
}

/// What is to be done.
struct Choice {
    /// As the policy has it.
    groups: Vec<ForgetGroup>,
    forget: BTreeSet<SnapshotId>,
}

impl Choice {
    fn by_policy(
        policy: &ForgetPolicy,
        filter: &Filter,
        all: &SnapshotList,
    ) -> Result<Self, Failure> {
        let meant = all.snapshots.iter().filter(|snapshot| filter.lets_through(snapshot));
        let meant: Vec<Snapshot> = meant.cloned().collect();
        let groups = policy.apply(&meant);
        // A mistyped tag must not be the end of all backups of a host.
        if let Some(group) = groups.iter().find(|group| group.keep.is_empty()) {
            return Err(usage(format!(
                "nothing was forgotten: the policy would keep no snapshot at all of {}. Add \
                 --keep-last 1, or forget them by their ids",
                name_of(group)
            )));
        }
        let forget = groups.iter().flat_map(|group| group.forget.iter().map(|s| s.id)).collect();
        Ok(Self { groups, forget })
    }

    /// Damaged ones too: there is no other way to be rid of them.
    fn by_ids(wanted: &[Wanted], all: &SnapshotList) -> Result<Self, Failure> {
        let mut forget = BTreeSet::new();
        for one in wanted {
            if one.name == "latest" || !one.path.is_empty() {
                return Err(usage("snapshots are forgotten by their ids"));
            }
            let readable = all.snapshots.iter().map(|snapshot| snapshot.id);
            let damaged = all.damaged.iter().map(|(id, _)| *id);
            let found: Vec<SnapshotId> = readable
                .chain(damaged)
                .filter(|id| id.to_string().starts_with(&one.name))
                .collect();
            match found.as_slice() {
                [id] => forget.insert(*id),
                [] => {
                    return Err(Failure::Failed(format!(
                        "nothing was forgotten: no snapshot's id begins with '{}'; 'provault \
                         repository snapshots' lists them",
                        one.name
                    )));
                }
                _ => {
                    return Err(usage(format!(
                        "nothing was forgotten: more than one snapshot's id begins with '{}'; give \
                         more of it",
                        one.name
                    )));
                }
            };
        }
        Ok(Self { groups: Vec::new(), forget })
    }
}

/// The group, as people know it.
fn name_of(group: &ForgetGroup) -> String {
    let parts = [
        group.host.as_ref().map(|host| format!("host {host}")),
        group.paths.as_ref().map(|paths| format!("paths {}", paths.join(" "))),
        group.tags.as_ref().map(|tags| format!("tags {}", tags.join(","))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "this repository".to_owned() } else { parts.join(", ") }
}

fn tell(
    args: &ForgetArgs,
    context: &Context<'_>,
    choice: &Choice,
    freed: Option<&Freed>,
) -> Result<(), Failure> {
    let forgotten: Vec<String> = choice.forget.iter().map(ToString::to_string).collect();
    let value = json!({
        "message_type": "summary",
        "dry_run": args.dry_run,
        "groups": choice.groups.iter().map(group_json).collect::<Vec<_>>(),
        "forgotten": forgotten,
        "prune": freed.map(Freed::to_json),
    });
    if context.out.is_json() {
        return Ok(context.out.show(&value, Vec::new)?);
    }
    if args.dry_run {
        context.out.show(&value, || vec![table(choice)])?;
    }
    let count = forgotten.len();
    let kept: usize = choice.groups.iter().map(|group| group.keep.len()).sum();
    let would = if args.dry_run { "would forget" } else { "forgot" };
    let of_kept = if choice.groups.is_empty() { String::new() } else { format!(", keeps {kept}") };
    context.out.show_line(&value, &format!("{would} {count} snapshots{of_kept}"))?;
    match freed {
        Some(freed) => context.out.show_line(&value, &freed.text())?,
        None if count > 0 && !args.dry_run && !args.prune => {
            context.note("their space is freed by 'provault repository prune'");
        }
        None => {}
    }
    Ok(())
}

/// Each snapshot, and why it stays.
fn table(choice: &Choice) -> View {
    let mut table = View::table(&["", "ID", "TIME", "HOST", "PATHS", "BECAUSE"]);
    let mut row = |what: &str, snapshot: &Snapshot, because: String| {
        table.row([
            what.to_owned(),
            snapshot.id.to_string()[..8].to_owned(),
            snapshot.time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
            snapshot.hostname.clone(),
            snapshot.paths.join(" "),
            because,
        ]);
    };
    for group in &choice.groups {
        for kept in &group.keep {
            row("keep", &kept.snapshot, kept.reasons.join(", "));
        }
        for snapshot in &group.forget {
            row("forget", snapshot, String::new());
        }
    }
    if choice.groups.is_empty() {
        for id in &choice.forget {
            let id = id.to_string()[..8].to_owned();
            let empty = String::new;
            table.row(["forget".to_owned(), id, empty(), empty(), empty(), empty()]);
        }
    }
    table
}

/// A group by restic's names.
fn group_json(group: &ForgetGroup) -> Value {
    let keep: Vec<Value> =
        group.keep.iter().map(|kept| snapshots::to_json(&kept.snapshot)).collect();
    let reasons: Vec<Value> = group
        .keep
        .iter()
        .map(|kept| json!({ "snapshot": snapshots::to_json(&kept.snapshot), "matches": kept.reasons }))
        .collect();
    json!({
        "host": group.host.clone().unwrap_or_default(),
        "paths": group.paths,
        "tags": group.tags,
        "keep": keep,
        "remove": group.forget.iter().map(snapshots::to_json).collect::<Vec<_>>(),
        "reasons": reasons,
    })
}

/// A policy cannot judge what it cannot read.
fn left_damaged(all: &SnapshotList, choice: &Choice, context: &Context<'_>) -> Result<(), Failure> {
    let left: Vec<_> = all.damaged.iter().filter(|(id, _)| !choice.forget.contains(id)).collect();
    for (id, error) in &left {
        context.warn(&format!("snapshot {id} cannot be read, and was left alone: {error}"));
    }
    if left.is_empty() {
        return Ok(());
    }
    Err(Failure::Damaged(format!(
        "{} snapshots are damaged; 'repair' or 'copy' may mend them, or forget them by their ids",
        left.len()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_as_in_restic() {
        assert_eq!(group_by("host,paths"), Ok(GroupBy::default()));
        assert_eq!(group_by(""), Ok(GroupBy { host: false, paths: false, tags: false }));
        assert_eq!(group_by("tag, host"), Ok(GroupBy { host: true, paths: false, tags: true }));
        assert!(group_by("host,user").is_err());
    }
}

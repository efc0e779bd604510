//! The scheduler: turns plans, selections and the time of day into backup jobs.
//!
//! For every rule the catalog keeps a mark: up to when its occurrences have been turned into jobs.
//! Moving the mark and inserting the jobs is one transaction, so that every occurrence makes its
//! jobs exactly once, whoever crashes and however many servers look at the same catalog. After
//! downtime the occurrences that were missed become jobs as well; those whose start window has
//! closed end as EXPIRED, so that what did not happen is a row and a notification. Of a long downtime
//! only the newest ones have a job each; one more job stands for all the others.
//!
//! A rule's mark begins with the version of the plan that made or changed the rule, and what the
//! version before was due for is carried out before that: no occurrence is lost, and none is made
//! that no version ever meant.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use provault_catalog::{DueJob, Page};
use provault_domain::backup_job::CreatedBy;
use provault_domain::cron::ScheduleTimezone;
use provault_domain::plan::add_minutes;
use provault_domain::{
    AccountId, Arn, AssignableResource, Assignment, BackupJob, BackupJobEvent, BackupJobState,
    BackupPlan, BackupRule, BackupSelection, Region,
};

use crate::Result;
use crate::shared::Shared;

/// Missed occurrences of one rule that are made up for, the newest ones: a server that was off for
/// a year must not begin with thousands of jobs. The others become one job, which is EXPIRED and
/// says how many they were.
const MOST_MISSED: usize = 24;

/// A clock that was ahead by less than this and is set back repeats nothing: the schedule waits until it
/// has come to where it was, for what was due meanwhile has been made. No schedule comes more often. One
/// that was further ahead has made nothing that is worth as much as a backup in its time.
pub(crate) const SET_BACK_MINUTES: i64 = 60;

/// Makes the jobs that are due at this moment. Plans that cannot be read are told of and do not
/// hold up the others.
pub(crate) async fn tick(shared: &Arc<Shared>) -> Result<()> {
    let now = shared.now();
    let mut resources = Resources::default();
    for plan in shared.catalog.all_active_plans().await? {
        if let Err(error) = plan_tick(shared, &plan, now, &mut resources).await {
            tracing::error!(plan = plan.id, %error, "the plan could not be scheduled");
        }
    }
    Ok(())
}

/// Makes the jobs that a plan is due for at `now`. A rule that cannot be carried out does not hold
/// up the others; the first such error is the answer.
pub(crate) async fn plan_tick(
    shared: &Shared,
    plan: &BackupPlan,
    now: Timestamp,
    resources: &mut Resources,
) -> Result<()> {
    let mut outcome = Ok(());
    for index in 0..plan.rules.len() {
        let done = rule_tick(shared, plan, index, now, resources).await;
        outcome = outcome.and(done);
    }
    outcome
}

async fn rule_tick(
    shared: &Shared,
    plan: &BackupPlan,
    index: usize,
    now: Timestamp,
    resources: &mut Resources,
) -> Result<()> {
    let rule = &plan.rules[index];
    let mark = shared.catalog.schedule_mark(&plan.id, &rule.id).await?;
    // The clock was ahead when the mark was moved: what lies between now and the mark would never
    // come due.
    if let Some(ahead) = mark.filter(|mark| *mark > add_minutes(now, SET_BACK_MINUTES)) {
        tracing::error!(plan = plan.id, rule = rule.name, mark = %ahead, "the clock was set back; the schedule goes on from now");
        shared.catalog.advance_schedule(plan, &rule.id, mark, now, &[]).await?;
        return Ok(());
    }
    // A plan from before there were marks looks back to the moment it came into being.
    let from = mark.unwrap_or(plan.created_at);
    let Some(due) = Due::of(plan, index, from, now)? else { return Ok(()) };
    let selections = shared.catalog.list_selections(&plan.account, &plan.id, Page::all()).await?;
    let assigned = resources.of(shared, &plan.account).await?.matched(&selections.items);
    let mut jobs: Vec<DueJob> = Vec::new();
    if let Some(missed) = &due.missed {
        tracing::error!(
            plan = plan.id,
            rule = rule.name,
            occurrences = missed.occurrences,
            first = %missed.first,
            last = %missed.last,
            "scheduled backups were missed, more than are made up for"
        );
        jobs.extend(assigned.iter().map(|(selection, resource)| {
            let event = BackupJobEvent::Missed {
                occurrences: missed.occurrences,
                first: missed.first,
                last: missed.last,
            };
            (job(plan, rule, selection, resource, missed.last), Some(event))
        }));
    }
    for at in due.newest {
        jobs.extend(assigned.iter().map(|(selection, resource)| {
            let job = job(plan, rule, selection, resource, at);
            // Too late to start: no worker may take it before that is said.
            let closed = job.start_by <= now;
            (job, closed.then_some(BackupJobEvent::StartWindowClosed))
        }));
    }
    if shared.catalog.advance_schedule(plan, &rule.id, mark, now, &jobs).await? {
        tracing::info!(plan = plan.id, rule = rule.name, jobs = jobs.len(), "scheduled");
        shared.bell.notify_waiters();
    }
    Ok(())
}

/// The occurrences of a rule that are to be carried out.
struct Due {
    /// The newest, at most [`MOST_MISSED`], in order.
    newest: VecDeque<Timestamp>,
    /// Those before them.
    missed: Option<Missed>,
}

/// Occurrences that are not made up for.
struct Missed {
    occurrences: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Due {
    /// What became due after `from` and up to `now`; `None` where nothing did. An occurrence that
    /// another rule of the plan makes counts as carried out.
    fn of(
        plan: &BackupPlan,
        index: usize,
        from: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Self>> {
        let rule = &plan.rules[index];
        let zone = zone_of(rule)?;
        let mut due = Self { newest: VecDeque::new(), missed: None };
        let mut any = false;
        for at in rule.schedule.occurrences_between(from, now, &zone) {
            any = true;
            if outlived(plan, index, at)? {
                continue;
            }
            due.newest.push_back(at);
            if due.newest.len() > MOST_MISSED
                && let Some(dropped) = due.newest.pop_front()
            {
                let missed = due.missed.get_or_insert(Missed {
                    occurrences: 0,
                    first: dropped,
                    last: dropped,
                });
                missed.occurrences += 1;
                missed.last = dropped;
            }
        }
        Ok(any.then_some(due))
    }
}

fn zone_of(rule: &BackupRule) -> Result<TimeZone> {
    let zone = ScheduleTimezone::parse(&rule.timezone)
        .map_err(|error| provault_domain::Invalid::new("ScheduleExpressionTimezone", error))?;
    Ok(zone.zone().clone())
}

/// Whether another rule of the plan is due at the same moment and keeps its recovery points
/// longer: then AWS Backup makes that one alone. Of equals the first counts.
fn outlived(plan: &BackupPlan, index: usize, at: Timestamp) -> Result<bool> {
    let keeps = |rule: &BackupRule| rule.lifecycle.delete_days().unwrap_or(i64::MAX);
    let just_before = at.checked_sub(jiff::SignedDuration::from_secs(1)).unwrap_or(at);
    for (other, rule) in plan.rules.iter().enumerate() {
        if other == index {
            continue;
        }
        let longer = keeps(rule) > keeps(&plan.rules[index])
            || (keeps(rule) == keeps(&plan.rules[index]) && other < index);
        if longer && rule.schedule.next_after(just_before, &zone_of(rule)?) == Some(at) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The resources that plans may select, read at most once for a look at the time: hundreds of plans are
/// due at the same hour.
#[derive(Default)]
pub(crate) struct Resources(HashMap<AccountId, Assignment>);

impl Resources {
    async fn of(&mut self, shared: &Shared, account: &AccountId) -> Result<&Assignment> {
        Ok(match self.0.entry(account.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let all = shared.catalog.assignable_resources(account).await?;
                new.insert(Assignment::of(all))
            }
        })
    }
}

fn job(
    plan: &BackupPlan,
    rule: &BackupRule,
    selection: &BackupSelection,
    resource: &AssignableResource,
    at: Timestamp,
) -> BackupJob {
    BackupJob {
        id: uuid::Uuid::new_v4().to_string(),
        account: plan.account.clone(),
        region: resource.region.clone(),
        vault_name: rule.target_vault.clone(),
        vault_arn: vault_arn(&resource.region, plan, rule),
        resource_arn: resource.arn.clone(),
        resource_name: resource.name.clone(),
        kind: resource.kind,
        role_arn: selection.role_arn.clone(),
        lifecycle: rule.lifecycle,
        recovery_point_tags: rule.recovery_point_tags.clone(),
        created_by: Some(CreatedBy {
            plan_id: plan.id.clone(),
            plan_arn: plan.arn.clone(),
            plan_name: plan.name.clone(),
            plan_version: plan.version_id.clone(),
            rule_id: rule.id.clone(),
            rule_name: rule.name.clone(),
            rule_cron: rule.schedule.to_string(),
            rule_timezone: rule.timezone.clone(),
            selection_id: Some(selection.id.clone()),
        }),
        idempotency_token: None,
        created_at: at,
        start_by: rule.start_by(at),
        completion_window_minutes: rule.completion_window_minutes,
        started_at: None,
        interruptions: 0,
        completed_at: None,
        state: BackupJobState::Created,
        status_message: None,
        bytes_transferred: 0,
        bytes_expected: None,
        backup_size_bytes: None,
        bytes_stored: None,
        recovery_point_arn: None,
        skipped: Vec::new(),
    }
}

fn vault_arn(region: &Region, plan: &BackupPlan, rule: &BackupRule) -> Arn {
    Arn::backup_vault(region, &plan.account, &rule.target_vault)
}

/// Ends jobs whose windows have closed: EXPIRED when they never started, stopped when they run
/// longer than they may.
pub(crate) async fn close_windows(shared: &Arc<Shared>) -> Result<()> {
    let now = shared.now();
    let filter = provault_catalog::JobFilter { unfinished_only: true, ..Default::default() };
    for job in shared.catalog.readable_jobs::<BackupJob>(&filter).await? {
        let event = match job.state {
            BackupJobState::Created if !job.is_interrupted() && job.start_by <= now => {
                BackupJobEvent::StartWindowClosed
            }
            BackupJobState::Created | BackupJobState::Running
                if job.started_at.is_some() && job.complete_by() <= now =>
            {
                BackupJobEvent::StopRequested {
                    reason: format!("Its completion window closed at {}.", job.complete_by()),
                }
            }
            _ => continue,
        };
        let stopped = matches!(event, BackupJobEvent::StopRequested { .. });
        let step = shared.catalog.step_job::<BackupJob>(
            &job.account,
            &job.id,
            None,
            event,
            now,
            Vec::new(),
        );
        match step.await {
            Ok(job) if stopped => {
                shared.cancel(&job.id, job.status_message.as_deref().unwrap_or_default());
            }
            // Illegal: it moved on by itself in the same moment.
            Ok(_) | Err(provault_catalog::CatalogError::Illegal(_)) => {}
            Err(error) => {
                tracing::error!(job = job.id, %error, "a job's window could not be closed");
            }
        }
    }
    Ok(())
}

//! The scheduler of restore testing plans: turns plans, selections and the time of day into restore
//! tests.
//!
//! As for backups, the catalog keeps a mark for every plan: up to when its occurrences have been
//! turned into tests. Moving the mark and inserting the tests is one transaction, so that every
//! occurrence makes its tests exactly once, whoever crashes and however many servers look at the
//! same catalog. The recovery point is chosen here, so that the test that waits protects it from
//! deletion. A test whose start window has closed ends INCONCLUSIVE: what did not happen is a row,
//! evidence and a notification.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use provault_catalog::{JobFilter, Page, PointFilter};
use provault_domain::cron::ScheduleTimezone;
use provault_domain::plan::add_minutes;
use provault_domain::restore_test::MissedTests;
use provault_domain::verdict::Findings;
use provault_domain::{
    Arn, Invalid, PlannedTest, RecoveryPoint, Resource, RestoreTest, RestoreTestState,
    RestoreTestingPlan, RestoreTestingSelection, Tags,
};

use crate::schedule::SET_BACK_MINUTES;
use crate::shared::Shared;
use crate::{Engine, EngineError, Result, restore_test};

/// Missed occurrences of one plan that are made up for, the newest ones. Each is a restore of
/// everything the plan selects, so they are fewer than missed backups. One more test of each resource
/// stands for the others: it is INCONCLUSIVE and says how many they were.
const MOST_MISSED: usize = 7;

/// Makes the tests that are due at this moment. Plans that cannot be read are told of and do not
/// hold up the others.
pub(crate) async fn tick(shared: &Arc<Shared>) -> Result<()> {
    let now = shared.now();
    for (plan, mark) in shared.catalog.all_restore_testing_plans().await? {
        if let Err(error) = plan_tick(shared, &plan, mark, now).await {
            tracing::error!(plan = plan.name, %error, "the restore testing plan could not be scheduled");
        }
    }
    Ok(())
}

impl Engine {
    /// Makes the restore tests that a plan is due for at `now`, before its schedule is changed. One that
    /// cannot be read was due for nothing: the change may mend it.
    pub async fn settle_restore_testing(
        &self,
        plan: &RestoreTestingPlan,
        now: Timestamp,
    ) -> Result<()> {
        let mark = self.shared.catalog.restore_testing_mark(&plan.arn).await?;
        let Some(mark) = mark else { return Ok(()) };
        match plan_tick(&self.shared, plan, mark, now).await {
            Err(EngineError::Invalid(why)) => {
                tracing::error!(plan = plan.name, %why, "the restore testing plan could not be read");
                Ok(())
            }
            done => done,
        }
    }
}

async fn plan_tick(
    shared: &Shared,
    plan: &RestoreTestingPlan,
    mark: Timestamp,
    now: Timestamp,
) -> Result<()> {
    // The clock was ahead when the mark was moved: what lies between now and the mark would never
    // come due.
    if mark > add_minutes(now, SET_BACK_MINUTES) {
        tracing::error!(plan = plan.name, %mark, "the clock was set back; the schedule goes on from now");
        shared.catalog.advance_restore_testing(&plan.arn, mark, now, &[]).await?;
        return Ok(());
    }
    let zone = ScheduleTimezone::parse(&plan.timezone)
        .map_err(|error| Invalid::new("ScheduleExpressionTimezone", error))?;
    let mut due: Vec<Timestamp> =
        plan.schedule.occurrences_between(mark, now, zone.zone()).collect();
    if due.is_empty() {
        return Ok(());
    }
    let dropped: Vec<Timestamp> = due.drain(..due.len().saturating_sub(MOST_MISSED)).collect();
    let selected = selected(shared, plan).await?;
    let mut tests: Vec<RestoreTest> = Vec::new();
    if let (Some(first), Some(last)) = (dropped.first(), dropped.last()) {
        let occurrences = dropped.len() as u64;
        tracing::error!(plan = plan.name, occurrences, %first, %last, "occurrences were missed, more than are made up for");
        let missed = MissedTests { occurrences, first: *first, last: *last };
        tests.extend(selected.iter().map(|one| one.missed(plan, &missed, now)));
    }
    tests.extend(
        due.into_iter().flat_map(|at| selected.iter().map(move |one| one.test(plan, at, now))),
    );
    if shared.catalog.advance_restore_testing(&plan.arn, mark, now, &tests).await? {
        tracing::info!(plan = plan.name, tests = tests.len(), "restore tests scheduled");
        shared.bell.notify_waiters();
    }
    Ok(())
}

/// A resource that a plan tests, with its recovery points.
struct Selected {
    selection: RestoreTestingSelection,
    arn: Arn,
    name: String,
    points: Vec<RecoveryPoint>,
    /// Where a backup plan puts its recovery points, while there is none.
    planned_vault: Option<String>,
}

impl Selected {
    /// The test of one occurrence. Without an eligible recovery point it is made all the same, and
    /// fails: that there is nothing to restore from is what its owner has to know.
    fn test(&self, plan: &RestoreTestingPlan, at: Timestamp, now: Timestamp) -> RestoreTest {
        let id = uuid::Uuid::new_v4();
        // All 32 bits of this field are random.
        let draw = u64::from(id.as_fields().0);
        let chosen = plan.points.choose(&self.points, now, draw);
        // Whose topic is told when there is nothing eligible: that of the newest there is, or of the vault
        // where a plan would put one.
        let told = chosen.or_else(|| self.points.iter().max_by_key(|point| point.captured_at));
        RestoreTest {
            id: id.to_string(),
            account: plan.account.clone(),
            region: plan.region.clone(),
            token: uuid::Uuid::new_v4().to_string(),
            resource_arn: self.arn.clone(),
            resource_name: self.name.clone(),
            kind: self.selection.kind,
            requested_point: chosen.map(|point| point.arn.clone()),
            after_backup_job: None,
            planned: Some(PlannedTest {
                plan_arn: plan.arn.clone(),
                plan_name: plan.name.clone(),
                selection_name: self.selection.name.clone(),
                start_by: plan.start_by(at),
                role_arn: self.selection.role_arn.clone(),
                metadata_overrides: self.selection.metadata_overrides.clone(),
                validation_window_hours: self.selection.validation_window_hours,
                missed: None,
            }),
            budget: None,
            waiting: None,
            created_at: at,
            started_at: None,
            interruptions: 0,
            completed_at: None,
            state: RestoreTestState::Pending,
            recovery_point_arn: None,
            vault_name: told
                .map(|point| point.vault_name.clone())
                .or_else(|| self.planned_vault.clone()),
            restore_job_id: None,
            created_resource_arn: None,
            findings: Findings::default(),
            steps: Vec::new(),
            verdict: None,
            reason: None,
            cleaned_up: None,
        }
    }

    /// The test that stands for occurrences that are not made up for: it is too late for it already.
    fn missed(
        &self,
        plan: &RestoreTestingPlan,
        missed: &MissedTests,
        now: Timestamp,
    ) -> RestoreTest {
        let mut test = self.test(plan, missed.last, now);
        test.requested_point = None;
        if let Some(planned) = &mut test.planned {
            planned.start_by = planned.start_by.min(now);
            planned.missed = Some(missed.clone());
        }
        test
    }
}

/// Every resource that the plan's selections match, once. Of what `*` matches only what has a
/// recovery point in the plan's vaults; what is named by its ARN in any case, registered or not.
async fn selected(shared: &Shared, plan: &RestoreTestingPlan) -> Result<Vec<Selected>> {
    let catalog = &shared.catalog;
    let selections = catalog.list_restore_testing_selections(&plan.arn, Page::all()).await?.items;
    let resources = catalog.readable_resources(&plan.account).await?;
    let mut seen: HashSet<Arn> = HashSet::new();
    let mut all = Vec::new();
    for selection in selections {
        for (arn, name) in candidates(&selection, &resources) {
            if seen.contains(&arn) {
                continue;
            }
            let filter = PointFilter {
                account: Some(plan.account.clone()),
                resource_arn: Some(arn.clone()),
                restorable_only: true,
                ..PointFilter::default()
            };
            let points = catalog.list_recovery_points(&filter, Page::all()).await?.items;
            if selection.is_wildcard() && !plan.points.knows(&points) {
                continue;
            }
            seen.insert(arn.clone());
            let planned_vault = match (points.is_empty(), resources.iter().find(|r| r.arn == arn)) {
                (true, Some(resource)) => planned_vault(shared, resource).await?,
                _ => None,
            };
            let selection = selection.clone();
            all.push(Selected { selection, arn, name, points, planned_vault });
        }
    }
    Ok(all)
}

/// The vault that the first plan that selects a resource puts its recovery points into.
async fn planned_vault(shared: &Shared, resource: &Resource) -> Result<Option<String>> {
    for plan in shared.catalog.all_active_plans().await? {
        if plan.account != resource.account {
            continue;
        }
        let selections =
            shared.catalog.list_selections(&plan.account, &plan.id, Page::all()).await?;
        if selections.items.iter().any(|s| s.matches(&resource.arn, &resource.tags)) {
            return Ok(plan.rules.first().map(|rule| rule.target_vault.clone()));
        }
    }
    Ok(None)
}

/// ARN and name of what a selection matches.
fn candidates(selection: &RestoreTestingSelection, resources: &[Resource]) -> Vec<(Arn, String)> {
    let mut found: Vec<(Arn, String)> = resources
        .iter()
        .filter(|resource| selection.matches(&resource.arn, resource.kind, &resource.tags))
        .map(|resource| (resource.arn.clone(), resource.name.clone()))
        .collect();
    for arn in selection.resource_arns.iter().filter_map(|text| text.parse::<Arn>().ok()) {
        let known = resources.iter().any(|resource| resource.arn == arn);
        // Named, and no longer registered: its test says so.
        if !known && selection.matches(&arn, selection.kind, &Tags::new()) {
            let name = arn.resource().to_owned();
            found.push((arn, name));
        }
    }
    found
}

/// Ends tests that wait and whose start window has closed.
pub(crate) async fn close_windows(shared: &Arc<Shared>) -> Result<()> {
    let now = shared.now();
    let filter = JobFilter {
        states: vec![RestoreTestState::Pending.as_str().to_owned()],
        unfinished_only: true,
        ..JobFilter::default()
    };
    let waiting = shared.catalog.readable_jobs::<RestoreTest>(&filter).await?;
    for test in waiting.into_iter().filter(|test| test.is_late(now)) {
        let claimed = shared
            .catalog
            .claim_job_by_id::<RestoreTest>(&test.id, &shared.owner, now, shared.lease_until())
            .await?;
        // Else it was taken in this very moment; its runner sees that it is late.
        let Some(claimed) = claimed else { continue };
        if let Err(error) = restore_test::end_late(shared, claimed).await {
            tracing::error!(test = test.id, %error, "a restore test's start window could not be closed");
        }
    }
    Ok(())
}

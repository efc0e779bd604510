//! What should have happened by now and has not: judged for one resource when somebody asks, and for all of
//! them as time passes, so that an absence raises an alarm by itself.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use provault_catalog::{JobFilter, OnRecord, Page, PointFilter, TestingSettings};
use provault_domain::backup_testing::WHOLE_SHARE;
use provault_domain::protection::{
    Assessment, Observed, TEST_WITHIN, assess, newest_due, newest_due_test,
};
use provault_domain::{
    AccountId, Arn, BackupJob, BackupJobState, BackupPlan, BackupSelection, Exemption,
    RecoveryPoint, Resource, ResourceTrouble, RestoreTest, RestoreTestState, RestoreTestingPlan,
    RestoreTestingSelection,
};

use crate::shared::Shared;
use crate::{Engine, Result, backup_testing};

/// Resources whose records are asked for at once.
const AT_ONCE: usize = 200;

/// What the resources of an account are judged by, read once for all of them.
#[derive(Debug)]
pub struct Promises {
    plans: Vec<(BackupPlan, Vec<BackupSelection>)>,
    /// When the newest backup job at work was created, by resource.
    backing_up: HashMap<Arn, Timestamp>,
    /// Resources of which a restore test is at work, and has not been for too long.
    testing: HashSet<Arn>,
    testing_plans: Vec<(RestoreTestingPlan, Vec<RestoreTestingSelection>)>,
    exemptions: HashMap<Arn, Exemption>,
    /// Where a restore test should follow a backup.
    testing_settings: TestingSettings,
}

/// How a resource stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its newest recovery point.
    pub newest: Option<RecoveryPoint>,
    /// Why it needs no backup, if somebody has said so; it may have ended.
    pub exemption: Option<Exemption>,
    /// The judgement.
    pub assessment: Assessment,
    /// The newest recovery point that was not left out of the tests, where the newest was.
    pub judged: Option<RecoveryPoint>,
}

impl Engine {
    /// What the resources of an account are judged by.
    pub async fn promises(&self, account: &AccountId) -> Result<Promises> {
        promises(&self.shared, account).await
    }

    /// How a resource stands now.
    pub async fn standing(&self, promises: &Promises, resource: &Resource) -> Result<Standing> {
        let shared = &self.shared;
        let arns = [resource.arn.clone()];
        let mut records = shared.catalog.on_record(&resource.account, &arns, shared.now()).await?;
        let record = records.remove(&resource.arn).transpose()?.unwrap_or_default();
        standing(shared, promises, resource, record).await
    }

    /// Raises and clears the alarms of all resources; a running engine does it by itself every minute.
    pub async fn look_for_absence(&self) -> Result<()> {
        tick(&self.shared).await
    }
}

async fn promises(shared: &Shared, account: &AccountId) -> Result<Promises> {
    let catalog = &shared.catalog;
    let mut plans = Vec::new();
    // A plan that cannot be read promises nothing; what no other selects is UNPROTECTED then.
    let mine = |plan: &BackupPlan| plan.account == *account;
    for plan in catalog.all_active_plans().await?.into_iter().filter(mine) {
        let selections = catalog.list_selections(account, &plan.id, Page::all()).await?.items;
        plans.push((plan, selections));
    }
    let open =
        JobFilter { account: Some(account.clone()), unfinished_only: true, ..JobFilter::default() };
    let mut backing_up = HashMap::<Arn, Timestamp>::new();
    for job in catalog.readable_jobs::<BackupJob>(&open).await? {
        // One that waits for its turn may wait in vain.
        if job.state != BackupJobState::Created {
            let newest = backing_up.entry(job.resource_arn).or_insert(job.created_at);
            *newest = job.created_at.max(*newest);
        }
    }
    let tests = catalog.readable_jobs::<RestoreTest>(&open).await?;
    let now = shared.now();
    let at_work = |test: &RestoreTest| {
        // One that waits for its turn may wait in vain, and so may one that does not come to its end.
        let begun = test.state != RestoreTestState::Pending
            && test.started_at.is_some_and(|at| now.duration_since(at) < TEST_WITHIN);
        let asked = test.findings.validation.as_ref();
        begun || asked.is_some_and(|asked| now.duration_since(asked.until) < TEST_WITHIN)
    };
    let testing = tests.into_iter().filter(at_work).map(|test| test.resource_arn).collect();
    let mut testing_plans = Vec::new();
    for (plan, _) in catalog.all_restore_testing_plans().await? {
        if plan.account == *account {
            let page = Page::all();
            let selections = catalog.list_restore_testing_selections(&plan.arn, page).await?.items;
            testing_plans.push((plan, selections));
        }
    }
    let exemptions = catalog.list_exemptions(account).await?;
    let exemptions = exemptions.into_iter().map(|e| (e.resource_arn.clone(), e)).collect();
    let testing_settings = catalog.testing_settings(account).await?;
    Ok(Promises { plans, backing_up, testing, testing_plans, exemptions, testing_settings })
}

async fn standing(
    shared: &Shared,
    promises: &Promises,
    resource: &Resource,
    record: OnRecord,
) -> Result<Standing> {
    let (account, arn, now) = (&resource.account, &resource.arn, shared.now());
    let catalog = &shared.catalog;
    let OnRecord { newest, future, last_test, .. } = record;
    let judged = match newest.as_ref().filter(|point| point.is_left_out()) {
        Some(_) => newest_not_left_out(shared, resource).await?,
        None => None,
    };
    let made_by = judged.as_ref().or(newest.as_ref()).and_then(|point| point.created_by.as_ref());
    let testing = backup_testing::effective(resource, &promises.testing_settings, made_by);
    let testing = testing.map(|(said, ..)| said).filter(|said| said.enabled);
    let tested_since = testing.map(|said| said.set_at);
    let untested_since = match testing {
        None => None,
        Some(said) => {
            let after = last_test.as_ref().map(|last| last.at).max(Some(said.set_at));
            let all = said.share_percent == WHOLE_SHARE && said.window.is_none();
            if all {
                catalog.first_backup(account, arn, after).await?
            } else {
                // Some are left out on purpose, which only the points say.
                first_untested(shared, resource, after).await?
            }
        }
    };
    let test_due = if promises.testing_plans.is_empty() {
        None
    } else {
        let first = catalog.first_backup(account, arn, None).await?;
        newest_due_test(resource, newest.as_ref(), first, &promises.testing_plans, now)?
    };
    let (selected, due) = newest_due(resource, newest.as_ref(), &promises.plans, now)?;
    let exemption = promises.exemptions.get(arn).cloned();
    let observed = Observed {
        tested_since,
        selected,
        due: due.as_ref(),
        newest: newest.as_ref(),
        future: future.as_ref(),
        backing_up_since: promises.backing_up.get(arn).copied(),
        testing: promises.testing.contains(arn),
        last_test: last_test.as_ref(),
        untested_since,
        test_due: test_due.as_ref(),
        exemption: exemption.as_ref(),
    };
    let assessment = assess(resource, &observed, now);
    Ok(Standing { newest, exemption, assessment, judged })
}

/// When the first recovery point of a resource was completed after a moment that no test has said anything
/// of, not even that it was left out. That a newer one took its place says nothing: a test of that one may be
/// overtaken as well.
async fn first_untested(
    shared: &Shared,
    resource: &Resource,
    after: Option<Timestamp>,
) -> Result<Option<Timestamp>> {
    let points = points_of(shared, resource).await?.into_iter();
    let owed =
        |point: &RecoveryPoint| point.last_verdict.as_ref().is_none_or(|last| last.overtaken);
    let untested = points.filter(owed);
    let completed = untested.map(|point| point.completed_at);
    Ok(completed.filter(|at| after.is_none_or(|after| *at > after)).min())
}

/// The recovery points of a resource that can be restored.
async fn points_of(shared: &Shared, resource: &Resource) -> Result<Vec<RecoveryPoint>> {
    let filter = PointFilter {
        account: Some(resource.account.clone()),
        resource_arn: Some(resource.arn.clone()),
        restorable_only: true,
        ..PointFilter::default()
    };
    Ok(shared.catalog.list_recovery_points(&filter, Page::all()).await?.items)
}

/// The newest recovery point of a resource that was not left out of the tests.
async fn newest_not_left_out(
    shared: &Shared,
    resource: &Resource,
) -> Result<Option<RecoveryPoint>> {
    let points = points_of(shared, resource).await?;
    let others = points.into_iter().filter(|point| !point.is_left_out());
    Ok(others.max_by_key(|point| point.captured_at))
}

/// The vaults whose topics hear of a resource: where its newest recovery point lies, and where its plans
/// would put the next.
fn vaults_of(promises: &Promises, resource: &Resource, standing: &Standing) -> Vec<String> {
    let selecting = promises.plans.iter().filter(|(_, selections)| {
        selections.iter().any(|s| s.matches(&resource.arn, &resource.tags))
    });
    let planned = selecting.flat_map(|(plan, _)| plan.rules.iter().map(|r| r.target_vault.clone()));
    let newest = standing.newest.iter().map(|point| point.vault_name.clone());
    newest.chain(planned).collect::<BTreeSet<_>>().into_iter().collect()
}

/// One round through all resources.
pub(crate) async fn tick(shared: &Arc<Shared>) -> Result<()> {
    for account in shared.catalog.accounts_with_resources().await? {
        let promises = match promises(shared, &account).await {
            Ok(promises) => promises,
            // The other accounts are not to suffer for it.
            Err(error) => {
                tracing::error!(%account, %error, "what an account is promised could not be read; trying again");
                continue;
            }
        };
        let mut resources = shared.catalog.readable_resources(&account).await?;
        resources.retain(|resource| !resource.imported);
        for some in resources.chunks(AT_ONCE) {
            let arns: Vec<Arn> = some.iter().map(|resource| resource.arn.clone()).collect();
            let mut records = shared.catalog.on_record(&account, &arns, shared.now()).await?;
            for resource in some {
                // One that was removed meanwhile has none.
                let Some(record) = records.remove(&resource.arn) else { continue };
                if let Err(error) = look_at(shared, &promises, resource, record).await {
                    tracing::error!(resource = resource.name, %error, "a resource could not be looked at; trying again");
                }
            }
        }
    }
    Ok(())
}

async fn look_at(
    shared: &Arc<Shared>,
    promises: &Promises,
    resource: &Resource,
    record: provault_catalog::Result<OnRecord>,
) -> Result<()> {
    let record = record?;
    let stood = record.alarms.clone();
    let standing = standing(shared, promises, resource, record).await?;
    let absent =
        |(trouble, _): &&(ResourceTrouble, String)| ResourceTrouble::ALARMS.contains(trouble);
    let troubles: Vec<_> = standing.assessment.troubles.iter().filter(absent).cloned().collect();
    // Mostly nothing changes.
    if stood.are_told(&troubles) {
        return Ok(());
    }
    let vaults = vaults_of(promises, resource, &standing);
    let now = shared.now();
    let raised = shared.catalog.set_resource_alarms(resource, &troubles, &vaults, now).await?;
    for trouble in &raised {
        tracing::error!(resource = resource.name, %trouble, "what should have happened has not");
    }
    if !raised.is_empty() {
        shared.bell.notify_waiters();
    }
    Ok(())
}

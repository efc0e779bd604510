//! What should have happened by now and has not: judged for one resource when somebody asks, and for all of
//! them as time passes, so that an absence raises an alarm by itself.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use provault_catalog::{JobFilter, Page, PointFilter, TestingSettings};
use provault_domain::protection::{Assessment, Observed, assess, newest_due};
use provault_domain::{
    AccountId, Arn, BackupJob, BackupJobState, BackupPlan, BackupSelection, Exemption,
    RecoveryPoint, Resource, ResourceTrouble, RestoreTest,
};

use crate::shared::Shared;
use crate::{Engine, Result, backup_testing};

/// What the resources of an account are judged by, read once for all of them.
#[derive(Debug)]
pub struct Promises {
    plans: Vec<(BackupPlan, Vec<BackupSelection>)>,
    /// When the newest backup job at work was created, by resource.
    backing_up: HashMap<Arn, Timestamp>,
    /// Resources of which a restore test waits or is at work.
    testing: HashSet<Arn>,
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
        standing(&self.shared, promises, resource).await
    }

    /// Raises and clears the alarms of all resources; a running engine does it by itself every minute.
    pub async fn look_for_absence(&self) -> Result<()> {
        tick(&self.shared).await
    }
}

async fn promises(shared: &Shared, account: &AccountId) -> Result<Promises> {
    let catalog = &shared.catalog;
    let mut plans = Vec::new();
    for plan in catalog.list_plans(account, false, Page::all()).await?.items {
        let selections = catalog.list_selections(account, &plan.id, Page::all()).await?.items;
        plans.push((plan, selections));
    }
    let open =
        JobFilter { account: Some(account.clone()), unfinished_only: true, ..JobFilter::default() };
    let mut backing_up = HashMap::<Arn, Timestamp>::new();
    for job in catalog.list_jobs::<BackupJob>(&open, Page::all()).await?.items {
        // One that waits for its turn may wait in vain.
        if job.state != BackupJobState::Created {
            let newest = backing_up.entry(job.resource_arn).or_insert(job.created_at);
            *newest = job.created_at.max(*newest);
        }
    }
    let tests = catalog.list_jobs::<RestoreTest>(&open, Page::all()).await?.items;
    let testing = tests.into_iter().map(|test| test.resource_arn).collect();
    let exemptions = catalog.list_exemptions(account).await?;
    let exemptions = exemptions.into_iter().map(|e| (e.resource_arn.clone(), e)).collect();
    let testing_settings = catalog.testing_settings(account).await?;
    Ok(Promises { plans, backing_up, testing, exemptions, testing_settings })
}

async fn standing(shared: &Shared, promises: &Promises, resource: &Resource) -> Result<Standing> {
    let newest = shared.catalog.newest_recovery_point(&resource.account, &resource.arn).await?;
    let now = shared.now();
    let (selected, due) = newest_due(resource, &promises.plans, now)?;
    let exemption = promises.exemptions.get(&resource.arn).cloned();
    let judged = match newest.as_ref().filter(|point| point.is_left_out()) {
        Some(_) => newest_not_left_out(shared, resource).await?,
        None => None,
    };
    let answers = judged.as_ref().or(newest.as_ref());
    let made_by = answers.and_then(|point| point.created_by.as_ref());
    let testing = backup_testing::effective(resource, &promises.testing_settings, made_by);
    let observed = Observed {
        judged: answers.filter(|point| !point.is_left_out()),
        tested_since: testing.and_then(|(said, ..)| said.enabled.then_some(said.set_at)),
        selected,
        due: due.as_ref(),
        newest: newest.as_ref(),
        backing_up_since: promises.backing_up.get(&resource.arn).copied(),
        testing: promises.testing.contains(&resource.arn),
        exemption: exemption.as_ref(),
    };
    let assessment = assess(resource, &observed, now);
    Ok(Standing { newest, exemption, assessment, judged })
}

/// The newest recovery point of a resource that was not left out of the tests.
async fn newest_not_left_out(
    shared: &Shared,
    resource: &Resource,
) -> Result<Option<RecoveryPoint>> {
    let filter = PointFilter {
        account: Some(resource.account.clone()),
        resource_arn: Some(resource.arn.clone()),
        restorable_only: true,
        ..PointFilter::default()
    };
    let points = shared.catalog.list_recovery_points(&filter, Page::all()).await?.items;
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
        let promises = promises(shared, &account).await?;
        for resource in shared.catalog.list_resources(&account, Page::all()).await?.items {
            if resource.imported {
                continue;
            }
            if let Err(error) = look_at(shared, &promises, &resource).await {
                tracing::error!(resource = resource.name, %error, "a resource could not be looked at; trying again");
            }
        }
    }
    Ok(())
}

async fn look_at(shared: &Arc<Shared>, promises: &Promises, resource: &Resource) -> Result<()> {
    let standing = standing(shared, promises, resource).await?;
    let absent =
        |(trouble, _): &&(ResourceTrouble, String)| ResourceTrouble::BY_ABSENCE.contains(trouble);
    let troubles: Vec<_> = standing.assessment.troubles.iter().filter(absent).cloned().collect();
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

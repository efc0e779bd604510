//! Whether all is well: what is overdue, unprotected, untested, or wrong with a vault.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use provault_catalog::{JobFilter, Page};
use provault_domain::care::{AlarmNote, VaultAlarm};
use provault_domain::protection::{Assessment, Observed, assess, newest_due};
use provault_domain::{
    AccountId, Arn, BackupJob, BackupJobState, BackupPlan, BackupSelection, Protection, Resource,
    RestoreTest, Verdict,
};

use crate::{App, Caller, Result};

/// A resource and how well it is protected.
#[derive(Debug, Clone)]
pub struct ResourceView {
    /// The resource.
    pub resource: Resource,
    /// When the newest recovery point was captured.
    pub last_backup_at: Option<Timestamp>,
    /// Where its backups stand.
    pub protection: Protection,
    /// What is known of the newest recovery point: its verdict, `NOT_TESTED`, or `OVERDUE` when there
    /// should be a newer one. `None` when there is no point.
    pub verdict: Option<Verdict>,
    /// What is not as it should be, and why.
    pub troubles: Vec<String>,
}

/// An alarm of a vault that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingAlarm {
    /// The vault.
    pub vault_name: String,
    /// What is wrong.
    pub alarm: VaultAlarm,
    /// Since when, and what to do.
    pub note: AlarmNote,
}

/// How well everything is that the server looks after.
#[derive(Debug, Clone)]
pub struct Status {
    /// The moment it is about.
    pub at: Timestamp,
    /// Every registered resource, those that are known from imported vaults alone left out: nothing is
    /// ever backed up of them from here.
    pub resources: Vec<ResourceView>,
    /// What is wrong with vaults.
    pub alarms: Vec<StandingAlarm>,
}

impl Status {
    /// Whether nothing is wrong.
    pub fn is_well(&self) -> bool {
        self.alarms.is_empty() && self.resources.iter().all(|view| view.troubles.is_empty())
    }
}

/// What resources are judged by, read once for all of them.
pub(crate) struct Promises {
    plans: Vec<(BackupPlan, Vec<BackupSelection>)>,
    /// When the newest backup job at work was created, by resource.
    backing_up: HashMap<Arn, Timestamp>,
    /// Resources of which a restore test waits or is at work.
    testing: HashSet<Arn>,
}

impl App {
    /// `provault:DescribeStatus`.
    pub async fn status(&self, caller: &Caller) -> Result<Status> {
        self.permit(caller, "provault:DescribeStatus", "*")?;
        let account = caller.account();
        let promises = self.promises(account).await?;
        let mut resources = Vec::new();
        for resource in self.catalog().list_resources(account, Page::all()).await?.items {
            if !resource.imported {
                resources.push(self.judged(&promises, resource).await?);
            }
        }
        let mut alarms = Vec::new();
        for vault in self.catalog().list_vaults(account, Page::all()).await?.items {
            let care = self.catalog().vault_care(&vault.arn).await?;
            alarms.extend(care.alarms.into_iter().map(|(alarm, note)| StandingAlarm {
                vault_name: vault.name.clone(),
                alarm,
                note,
            }));
        }
        Ok(Status { at: self.now(), resources, alarms })
    }

    pub(crate) async fn promises(&self, account: &AccountId) -> Result<Promises> {
        let catalog = self.catalog();
        let mut plans = Vec::new();
        for plan in catalog.list_plans(account, false, Page::all()).await?.items {
            let selections = catalog.list_selections(account, &plan.id, Page::all()).await?.items;
            plans.push((plan, selections));
        }
        let open = JobFilter {
            account: Some(account.clone()),
            unfinished_only: true,
            ..JobFilter::default()
        };
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
        Ok(Promises { plans, backing_up, testing })
    }

    /// A resource, judged by what its plans and objectives promise.
    pub(crate) async fn judged(
        &self,
        promises: &Promises,
        resource: Resource,
    ) -> Result<ResourceView> {
        let newest = self.catalog().newest_recovery_point(&resource.account, &resource.arn).await?;
        let now = self.now();
        let (selected, due) = newest_due(&resource, &promises.plans, now)?;
        let observed = Observed {
            selected,
            due: due.as_ref(),
            newest: newest.as_ref(),
            backing_up_since: promises.backing_up.get(&resource.arn).copied(),
            testing: promises.testing.contains(&resource.arn),
        };
        let Assessment { protection, verdict, troubles } = assess(&resource, &observed, now);
        let overdue = protection == Protection::Overdue;
        let verdict = verdict.map(|verdict| if overdue { Verdict::Overdue } else { verdict });
        let last_backup_at = newest.map(|point| point.captured_at);
        Ok(ResourceView { resource, last_backup_at, protection, verdict, troubles })
    }
}

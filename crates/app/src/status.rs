//! Whether all is well: what is overdue, unprotected, untested, or wrong with a vault.

use std::time::Duration;

use jiff::Timestamp;
use provault_catalog::Page;
use provault_domain::care::{AlarmNote, VaultAlarm};
use provault_domain::protection::Assessment;
use provault_domain::{
    Arn, Exemption, Protection, RecoveryPoint, Resource, ResourceTrouble, Verdict,
};
use provault_engine::{Finding, Promises, Standing};

use crate::{App, AppError, Caller, Result};

/// How long the catalog may take to write one row.
const PATIENCE: Duration = Duration::from_secs(10);

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
    pub troubles: Vec<(ResourceTrouble, String)>,
    /// Why it needs no backup, if somebody has said so; it may have ended.
    pub exemption: Option<Exemption>,
    /// What is wrong with the size of the newest recovery point, while nobody has accepted it.
    pub shrunk: Option<String>,
    /// That the newest recovery point was left out of the tests on purpose, and which stands for it.
    pub left_out: Option<String>,
    /// The newest recovery point that is good, and when it was captured.
    pub last_good: Option<(Arn, Timestamp)>,
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

/// Somebody's word that a resource needs no backup.
#[derive(Debug, Clone)]
pub struct NewExemption {
    /// Why.
    pub reason: String,
    /// Who stands for it.
    pub owner: String,
    /// From this moment on it says nothing any more.
    pub until: Timestamp,
}

/// What stands in place of a value that the caller may not see.
const HIDDEN: &str = "(hidden)";

impl App {
    /// What keeps the server from its work, in a few words that tell a stranger nothing.
    pub async fn not_ready(&self) -> Vec<&'static str> {
        let mut amiss = self.engine().stuck();
        let wrote = tokio::time::timeout(PATIENCE, self.catalog().try_writing(self.now())).await;
        match wrote {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the catalog takes nothing");
                amiss.push("catalog");
            }
            Err(_) => amiss.push("catalog"),
        }
        amiss
    }

    /// Reads of sources that hang though their backups are over.
    pub fn hung_reads(&self) -> usize {
        self.engine().hung_reads().len()
    }

    /// Room where the data directory lies; `None` where it does not say.
    pub async fn free_bytes(&self) -> Option<u64> {
        self.engine().free_bytes().await
    }

    /// How many bytes the catalog takes; `None` where it does not say.
    pub async fn catalog_bytes(&self) -> Option<u64> {
        self.engine().catalog().size_bytes().await.ok()
    }

    /// `provault:DescribeStatus`.
    pub async fn status(&self, caller: &Caller) -> Result<Status> {
        self.permit(caller, "provault:DescribeStatus", "*")?;
        let account = caller.account();
        let promises = self.engine().promises(account).await?;
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

    /// `provault:DescribeHealth`: looks at everything that the server needs, which may take as long as its slowest
    /// storage has patience for.
    pub async fn doctor(&self, caller: &Caller) -> Result<Vec<Finding>> {
        self.permit(caller, "provault:DescribeHealth", "*")?;
        Ok(self.engine().doctor(caller.account()).await?)
    }

    /// `provault:ExemptResource`, by name or ARN: in place of an exemption it has.
    pub async fn exempt_resource(
        &self,
        caller: &Caller,
        name: &str,
        new: NewExemption,
    ) -> Result<ResourceView> {
        const ACTION: &str = "provault:ExemptResource";
        self.audited(caller, ACTION, name, async {
            let resource = self.permitted_resource(caller, ACTION, name).await?;
            let exemption = Exemption {
                resource_arn: resource.arn.clone(),
                account: resource.account.clone(),
                reason: new.reason.trim().to_owned(),
                owner: new.owner.trim().to_owned(),
                until: new.until,
                created_at: self.now(),
            };
            exemption.validate()?;
            self.catalog().put_exemption(&exemption).await?;
            self.resource_view(caller, resource).await
        })
        .await
    }

    /// `provault:EndExemption`, by name or ARN.
    pub async fn end_exemption(&self, caller: &Caller, name: &str) -> Result<ResourceView> {
        const ACTION: &str = "provault:EndExemption";
        self.audited(caller, ACTION, name, async {
            let resource = self.permitted_resource(caller, ACTION, name).await?;
            if !self.catalog().delete_exemption(&resource.arn).await? {
                return Err(AppError::not_found(format!("The resource '{name}' is not exempt.")));
            }
            self.resource_view(caller, resource).await
        })
        .await
    }

    pub(crate) async fn resource_view(
        &self,
        caller: &Caller,
        resource: Resource,
    ) -> Result<ResourceView> {
        let promises = self.engine().promises(&resource.account).await?;
        Ok(self.shown(caller, self.judged(&promises, resource).await?))
    }

    /// A view as `caller` may see it: the values of an application's environment, which may be
    /// passwords, are for those alone who may register resources.
    pub(crate) fn shown(&self, caller: &Caller, mut view: ResourceView) -> ResourceView {
        if let Some(service) = &mut view.resource.service
            && !self.may(caller, "provault:AddResource", "*")
        {
            service.environment.values_mut().for_each(|value| HIDDEN.clone_into(value));
        }
        view
    }

    /// A resource, judged by what its plans and objectives promise.
    pub(crate) async fn judged(
        &self,
        promises: &Promises,
        resource: Resource,
    ) -> Result<ResourceView> {
        let Standing { newest, exemption, assessment, judged } =
            self.engine().standing(promises, &resource).await?;
        let Assessment { protection, verdict, troubles } = assessment;
        let overdue = protection == Protection::Overdue;
        let verdict = verdict.map(|verdict| if overdue { Verdict::Overdue } else { verdict });
        let shrunk = newest.as_ref().filter(|point| point.is_shrunk());
        Ok(ResourceView {
            shrunk: shrunk.and_then(RecoveryPoint::shrunk_message),
            left_out: newest
                .as_ref()
                .filter(|point| point.is_left_out())
                .map(|_| left_out(judged.as_ref())),
            last_good: self.last_good(&resource, newest.as_ref()).await?,
            last_backup_at: newest.map(|point| point.captured_at),
            resource,
            protection,
            verdict,
            troubles,
            exemption,
        })
    }
}

/// What to say of a newest recovery point that was left out of the tests.
fn left_out(judged: Option<&RecoveryPoint>) -> String {
    let what = "its newest recovery point was left out of the tests on purpose";
    match judged {
        Some(point) => {
            let verdict =
                point.last_verdict.as_ref().map_or(Verdict::NotTested, |last| last.verdict);
            format!(
                "{what}; the newest that was to be tested is of {}: {verdict}.",
                point.captured_at
            )
        }
        None => format!("{what}, and there is none that was to be tested."),
    }
}

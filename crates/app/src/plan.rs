//! Backup plans.

use jiff::Timestamp;
use provault_catalog::{CatalogError, Page};
use provault_domain::cron::ScheduleTimezone;
use provault_domain::resource::validate_tags;
use provault_domain::{Arn, BackupPlan, Tags};

use crate::paging::List;
use crate::plan_document::{PlanDocument, same_rules};
use crate::vault::check_request_id;
use crate::{App, AppError, Caller, ErrorKind, Listing, Paging, Result, new_id};

/// What a new plan is to be.
#[derive(Debug, Clone, Default)]
pub struct NewPlan {
    /// The plan.
    pub document: PlanDocument,
    /// Its tags.
    pub tags: Tags,
    /// The caller's token.
    pub creator_request_id: Option<String>,
}

/// A plan and its next runs.
#[derive(Debug, Clone)]
pub struct PlanView {
    /// The plan, in the version asked for.
    pub plan: BackupPlan,
    /// The next scheduled runs, as many as asked for, soonest first.
    pub next_runs: Vec<ScheduledRun>,
}

/// A run to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledRun {
    /// When.
    pub at: Timestamp,
    /// By which rule.
    pub rule_id: String,
}

impl App {
    pub(crate) fn plan_arn(&self, caller: &Caller, id: &str) -> Arn {
        Arn::backup_plan(self.region(), caller.account(), id)
    }

    /// A plan that has to exist; with a version a deleted one will do.
    pub(crate) async fn plan_of(
        &self,
        caller: &Caller,
        id: &str,
        version: Option<&str>,
    ) -> Result<BackupPlan> {
        self.catalog().plan(caller.account(), id, version).await?.ok_or_else(|| {
            AppError::not_found(match version {
                None => format!(
                    "There is no backup plan with the id '{id}'; see list-backup-plans for those \
                     there are."
                ),
                Some(version) => format!(
                    "Backup plan '{id}' has no version '{version}'; see list-backup-plan-versions."
                ),
            })
        })
    }

    /// A plan that has to exist and not be deleted.
    pub(crate) async fn live_plan(&self, caller: &Caller, id: &str) -> Result<BackupPlan> {
        let plan = self.plan_of(caller, id, None).await?;
        match plan.deleted_at {
            None => Ok(plan),
            Some(at) => Err(AppError::not_found(format!(
                "Backup plan '{id}' was deleted at {at}; its versions can be read, and nothing else."
            ))),
        }
    }

    /// `CreateBackupPlan`. A repetition with the same request id gives the same plan.
    pub async fn create_backup_plan(&self, caller: &Caller, new: NewPlan) -> Result<BackupPlan> {
        const ACTION: &str = "backup:CreateBackupPlan";
        let id = new_id();
        let arn = self.plan_arn(caller, &id);
        self.audited(caller, ACTION, &arn, async {
            self.permit(caller, ACTION, &arn)?;
            check_request_id(new.creator_request_id.as_deref())?;
            validate_tags(&new.tags)?;
            let plan = BackupPlan {
                id,
                arn: arn.clone(),
                account: caller.account().clone(),
                name: new.document.name.clone(),
                version_id: new_id(),
                rules: new.document.rules(&[])?,
                creator_request_id: new.creator_request_id.clone(),
                created_at: self.now(),
                deleted_at: None,
                last_execution_at: None,
            };
            plan.validate()?;
            plan.check_it_comes(plan.created_at)?;
            if let Some(request_id) = &plan.creator_request_id
                && let Some(existing) = self.plan_of_request(caller, request_id).await?
            {
                return Ok(existing);
            }
            self.refuse_second_plan(caller, &plan).await?;
            match self.catalog().insert_plan(&plan, &new.tags).await {
                Ok(()) => Ok(plan),
                // The same request, twice at once.
                Err(CatalogError::AlreadyExists { what }) => {
                    let request_id = plan.creator_request_id.as_deref().unwrap_or_default();
                    let existing = self.plan_of_request(caller, request_id).await?;
                    existing.ok_or_else(|| AppError::fault(&format!("{what} came and went")))
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// The plan that an earlier request with this id made; a deleted one does not count.
    async fn plan_of_request(
        &self,
        caller: &Caller,
        request_id: &str,
    ) -> Result<Option<BackupPlan>> {
        Ok(self.catalog().plan_by_request_id(caller.account(), request_id).await?)
    }

    /// AWS refuses a second plan with the same document, and more plans than the quota.
    async fn refuse_second_plan(&self, caller: &Caller, plan: &BackupPlan) -> Result<()> {
        let have = self.catalog().list_plans(caller.account(), false, Page::all()).await?.items;
        let same =
            |other: &&BackupPlan| other.name == plan.name && same_rules(&other.rules, &plan.rules);
        if let Some(other) = have.iter().find(same) {
            return Err(AppError::exists(
                format!(
                    "Backup plan '{}' with the same rules exists already: {}. Use that one, or \
                     change the name or a rule.",
                    other.name, other.id
                ),
                Some(other.arn.clone()),
            )
            .made_by(other.creator_request_id.as_deref()));
        }
        let limit = self.settings().max_plans;
        if have.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            return Err(AppError::new(
                ErrorKind::LimitExceeded,
                format!(
                    "This account has {} plans, and {limit} is the limit; delete one first.",
                    have.len()
                ),
            ));
        }
        Ok(())
    }

    /// `GetBackupPlan`: the newest version, or the one named; also of a deleted plan.
    pub async fn get_backup_plan(
        &self,
        caller: &Caller,
        id: &str,
        version: Option<&str>,
        preview: usize,
    ) -> Result<PlanView> {
        self.permit(caller, "backup:GetBackupPlan", self.plan_arn(caller, id))?;
        let plan = self.plan_of(caller, id, version).await?;
        let next_runs = if plan.deleted_at.is_some() {
            Vec::new()
        } else {
            next_runs(&plan, self.now(), preview)
        };
        Ok(PlanView { plan, next_runs })
    }

    /// `UpdateBackupPlan`: a new version.
    pub async fn update_backup_plan(
        &self,
        caller: &Caller,
        id: &str,
        document: &PlanDocument,
    ) -> Result<BackupPlan> {
        const ACTION: &str = "backup:UpdateBackupPlan";
        let arn = self.plan_arn(caller, id);
        self.audited(caller, ACTION, &arn, async {
            self.permit(caller, ACTION, &arn)?;
            let old = self.live_plan(caller, id).await?;
            let now = self.now();
            let mut plan = BackupPlan {
                name: document.name.clone(),
                version_id: new_id(),
                rules: document.rules(&old.rules)?,
                created_at: now,
                ..old.clone()
            };
            plan.validate()?;
            plan.check_it_comes(now)?;
            plan.goes_on_from(&old);
            // What came due under the old version is the old version's to make.
            self.engine().settle_schedule(&old, now).await?;
            self.catalog().update_plan(&plan).await?;
            Ok(plan)
        })
        .await
    }

    /// `DeleteBackupPlan`. Selections have to go first; versions stay readable.
    pub async fn delete_backup_plan(&self, caller: &Caller, id: &str) -> Result<BackupPlan> {
        const ACTION: &str = "backup:DeleteBackupPlan";
        let arn = self.plan_arn(caller, id);
        self.audited(caller, ACTION, &arn, async {
            self.permit(caller, ACTION, &arn)?;
            self.live_plan(caller, id).await?;
            match self.catalog().delete_plan(caller.account(), id, self.now()).await {
                Err(CatalogError::NotEmpty { .. }) => Err(AppError::refused(format!(
                    "Related backup plan selections must be deleted prior to backup plan deletion: \
                     list-backup-selections --backup-plan-id {id} shows them."
                ))),
                other => Ok(other?),
            }
        })
        .await
    }

    /// `ListBackupPlans`: the newest version of each.
    pub async fn list_backup_plans(
        &self,
        caller: &Caller,
        include_deleted: bool,
        paging: &Paging,
    ) -> Result<Listing<BackupPlan>> {
        self.permit(caller, "backup:ListBackupPlans", "*")?;
        let list = List::new(caller, "ListBackupPlans", &include_deleted);
        let page = self.page(&list, paging)?;
        let listed = self.catalog().list_plans(caller.account(), include_deleted, page).await?;
        self.listing(&list, listed)
    }

    /// `ListBackupPlanVersions`; also of a deleted plan.
    pub async fn list_backup_plan_versions(
        &self,
        caller: &Caller,
        id: &str,
        paging: &Paging,
    ) -> Result<Listing<BackupPlan>> {
        self.permit(caller, "backup:ListBackupPlanVersions", self.plan_arn(caller, id))?;
        self.plan_of(caller, id, None).await?;
        let list = List::new(caller, "ListBackupPlanVersions", &id);
        let page = self.page(&list, paging)?;
        let listed = self.catalog().list_plan_versions(caller.account(), id, page).await?;
        self.listing(&list, listed)
    }
}

/// The soonest runs of a plan's rules after `now`.
fn next_runs(plan: &BackupPlan, now: Timestamp, count: usize) -> Vec<ScheduledRun> {
    let mut runs = Vec::new();
    for rule in &plan.rules {
        let Ok(zone) = ScheduleTimezone::parse(&rule.timezone) else { continue };
        let mut after = now;
        for _ in 0..count {
            let Some(at) = rule.schedule.next_after(after, zone.zone()) else { break };
            runs.push(ScheduledRun { at, rule_id: rule.id.clone() });
            after = at;
        }
    }
    runs.sort_by_key(|run| run.at);
    runs.truncate(count);
    runs
}

//! Restore testing plans.

use provault_catalog::{CatalogError, Page};
use provault_domain::cron::{CronExpression, ScheduleTimezone};
use provault_domain::plan::DEFAULT_TIMEZONE;
use provault_domain::resource::validate_tags;
use provault_domain::restore_testing_plan::{
    DEFAULT_SELECTION_WINDOW_DAYS, DEFAULT_START_WINDOW_HOURS, PointAlgorithm, PointSelection,
    PointType, validate_testing_name,
};
use provault_domain::{Arn, Invalid, RestoreTestingPlan, Tags};

use crate::paging::List;
use crate::plan_document::sentence;
use crate::vault::check_request_id;
use crate::{App, AppError, Caller, ErrorKind, Listing, Paging, Result, new_id};

/// Where the members lie in a request.
const PATH: &str = "RestoreTestingPlan";

/// A restore testing plan as its caller writes it. What is absent gets AWS's default in a new plan,
/// and stays in one that is changed.
#[derive(Debug, Clone, Default)]
pub struct TestingPlanDocument {
    /// `cron(…)`.
    pub schedule: Option<String>,
    /// IANA name of a time zone.
    pub timezone: Option<String>,
    /// Hours a test may wait to start.
    pub start_window_hours: Option<i64>,
    /// Which recovery points.
    pub points: PointSelectionDocument,
}

/// Which recovery points, as the caller writes it.
#[derive(Debug, Clone, Default)]
pub struct PointSelectionDocument {
    /// `LATEST_WITHIN_WINDOW` or `RANDOM_WITHIN_WINDOW`.
    pub algorithm: Option<String>,
    /// Vaults that are looked at.
    pub include_vaults: Option<Vec<String>>,
    /// Vaults that are left out.
    pub exclude_vaults: Option<Vec<String>>,
    /// `SNAPSHOT`, `CONTINUOUS`.
    pub types: Option<Vec<String>>,
    /// Days back.
    pub window_days: Option<i64>,
}

/// What a new restore testing plan is to be.
#[derive(Debug, Clone, Default)]
pub struct NewTestingPlan {
    /// Its name.
    pub name: String,
    /// The plan.
    pub document: TestingPlanDocument,
    /// Its tags.
    pub tags: Tags,
    /// The caller's token.
    pub creator_request_id: Option<String>,
}

fn schedule(text: &str) -> Result<CronExpression> {
    let member = format!("{PATH}.ScheduleExpression");
    Ok(CronExpression::parse(text).map_err(|why| Invalid::new(member, sentence(&why)))?)
}

impl PointSelectionDocument {
    fn algorithm(&self) -> Result<Option<PointAlgorithm>> {
        let parse = |text: &String| {
            text.parse::<PointAlgorithm>().map_err(|_| {
                AppError::invalid(
                    format!("{PATH}.RecoveryPointSelection.Algorithm"),
                    format!("'{text}' is neither LATEST_WITHIN_WINDOW nor RANDOM_WITHIN_WINDOW."),
                )
            })
        };
        self.algorithm.as_ref().map(parse).transpose()
    }

    fn types(&self) -> Result<Option<Vec<PointType>>> {
        let Some(types) = &self.types else { return Ok(None) };
        let parse = |text: &String| {
            text.parse::<PointType>().map_err(|_| {
                AppError::invalid(
                    format!("{PATH}.RecoveryPointSelection.RecoveryPointTypes"),
                    format!("'{text}' is neither SNAPSHOT nor CONTINUOUS."),
                )
            })
        };
        types.iter().map(parse).collect::<Result<_>>().map(Some)
    }

    /// A new selection; what AWS demands has to be there.
    fn made(&self) -> Result<PointSelection> {
        let missing = |member| Invalid::missing(format!("{PATH}.RecoveryPointSelection.{member}"));
        Ok(PointSelection {
            algorithm: self.algorithm()?.ok_or_else(|| missing("Algorithm"))?,
            include_vaults: self.include_vaults.clone().ok_or_else(|| missing("IncludeVaults"))?,
            exclude_vaults: self.exclude_vaults.clone().unwrap_or_default(),
            types: self.types()?.ok_or_else(|| missing("RecoveryPointTypes"))?,
            window_days: self.window_days.unwrap_or(DEFAULT_SELECTION_WINDOW_DAYS),
        })
    }

    fn changed(&self, old: &PointSelection) -> Result<PointSelection> {
        let kept = |new: &Option<Vec<String>>, old: &Vec<String>| {
            new.clone().unwrap_or_else(|| old.clone())
        };
        Ok(PointSelection {
            algorithm: self.algorithm()?.unwrap_or(old.algorithm),
            include_vaults: kept(&self.include_vaults, &old.include_vaults),
            exclude_vaults: kept(&self.exclude_vaults, &old.exclude_vaults),
            types: self.types()?.unwrap_or_else(|| old.types.clone()),
            window_days: self.window_days.unwrap_or(old.window_days),
        })
    }
}

impl App {
    /// What the audit trail calls a plan of this name: its ARN without the part that a later plan of
    /// the name would not have.
    pub(crate) fn testing_plan_label(&self, caller: &Caller, name: &str) -> String {
        let (region, account) = (self.region(), caller.account());
        format!("arn:aws:backup:{region}:{account}:restore-testing-plan:{name}")
    }

    /// A restore testing plan to which the caller may do `action`. Where there is none of the name,
    /// what may be done to any of that name decides.
    pub(crate) async fn permitted_testing_plan(
        &self,
        caller: &Caller,
        action: &str,
        name: &str,
    ) -> Result<RestoreTestingPlan> {
        let found = self.testing_plan_named(caller, name).await;
        if let Ok(plan) = &found {
            self.permit(caller, action, &plan.arn)?;
        } else {
            let any = format!("{}-", self.testing_plan_label(caller, name));
            self.permit(caller, action, any)?;
        }
        found
    }

    /// A restore testing plan that has to exist.
    pub(crate) async fn testing_plan_named(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<RestoreTestingPlan> {
        self.catalog().restore_testing_plan(caller.account(), name).await?.ok_or_else(|| {
            AppError::not_found(format!(
                "There is no restore testing plan '{name}'; see list-restore-testing-plans for \
                 those there are."
            ))
        })
    }

    /// Refuses what is wrong, and a schedule that never comes due.
    fn check_testing_plan(&self, plan: &RestoreTestingPlan) -> Result<()> {
        plan.validate().map_err(|invalid| invalid.within(PATH))?;
        // Validated: the zone is known.
        let zone = ScheduleTimezone::parse(&plan.timezone)
            .map_err(|why| Invalid::new(format!("{PATH}.ScheduleExpressionTimezone"), why))?;
        if plan.schedule.next_after(self.now(), zone.zone()).is_none() {
            return Err(AppError::invalid(
                format!("{PATH}.ScheduleExpression"),
                "it never comes due, so nothing would ever be tested.",
            ));
        }
        Ok(())
    }

    /// `CreateRestoreTestingPlan`. A repetition with the same request id gives the same plan.
    pub async fn create_restore_testing_plan(
        &self,
        caller: &Caller,
        new: NewTestingPlan,
    ) -> Result<RestoreTestingPlan> {
        const ACTION: &str = "backup:CreateRestoreTestingPlan";
        let resource = self.testing_plan_label(caller, &new.name);
        self.audited(caller, ACTION, &resource, async {
            let arn =
                Arn::restore_testing_plan(self.region(), caller.account(), &new.name, &new_id());
            self.permit(caller, ACTION, &arn)?;
            check_request_id(new.creator_request_id.as_deref())?;
            validate_tags(&new.tags)?;
            validate_testing_name(&format!("{PATH}.RestoreTestingPlanName"), &new.name)?;
            let document = &new.document;
            let text = document
                .schedule
                .as_deref()
                .ok_or_else(|| Invalid::missing(format!("{PATH}.ScheduleExpression")))?;
            let plan = RestoreTestingPlan {
                arn,
                name: new.name.clone(),
                account: caller.account().clone(),
                region: self.region().clone(),
                schedule: schedule(text)?,
                timezone: document.timezone.clone().unwrap_or_else(|| DEFAULT_TIMEZONE.to_owned()),
                start_window_hours: document
                    .start_window_hours
                    .unwrap_or(DEFAULT_START_WINDOW_HOURS),
                points: document.points.made()?,
                creator_request_id: new.creator_request_id.clone(),
                created_at: self.now(),
                updated_at: None,
                scheduled_since: None,
                last_execution_at: None,
            };
            self.check_testing_plan(&plan)?;
            if let Some(existing) = self.repeated_testing_plan(caller, &plan).await? {
                self.permit(caller, ACTION, &existing.arn)?;
                return Ok(existing);
            }
            let limit = self.settings().max_restore_testing_plans;
            let page = Page::first(limit.max(1));
            let have = self.catalog().list_restore_testing_plans(caller.account(), page).await?;
            if have.items.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
                return Err(AppError::new(
                    ErrorKind::LimitExceeded,
                    format!(
                        "This account has {limit} restore testing plans, which is the limit; \
                         delete one first."
                    ),
                ));
            }
            match self.catalog().insert_restore_testing_plan(&plan, &new.tags).await {
                Ok(()) => Ok(plan),
                // The same request, twice at once.
                Err(error @ CatalogError::AlreadyExists { .. }) => {
                    match self.repeated_testing_plan(caller, &plan).await? {
                        Some(existing) => Ok(existing),
                        None => Err(error.into()),
                    }
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// The plan that an earlier request with the same id made. A plan of the name that another
    /// request made is an error, and so is a request id that made a plan of another name.
    async fn repeated_testing_plan(
        &self,
        caller: &Caller,
        plan: &RestoreTestingPlan,
    ) -> Result<Option<RestoreTestingPlan>> {
        let (catalog, account) = (self.catalog(), caller.account());
        if let Some(id) = &plan.creator_request_id
            && let Some(made) = catalog.restore_testing_plan_by_request_id(account, id).await?
        {
            if made.name == plan.name {
                return Ok(Some(made));
            }
            return Err(AppError::exists(
                format!(
                    "CreatorRequestId '{id}' made the restore testing plan '{}'; use a new one for \
                     another plan.",
                    made.name
                ),
                Some(made.arn.clone()),
            )
            .made_by(made.creator_request_id.as_deref()));
        }
        match catalog.restore_testing_plan(account, &plan.name).await? {
            None => Ok(None),
            Some(other) => Err(AppError::exists(
                format!(
                    "A restore testing plan '{}' exists already; change that one, or use another \
                     name.",
                    other.name
                ),
                Some(other.arn.clone()),
            )
            .made_by(other.creator_request_id.as_deref())),
        }
    }

    /// `GetRestoreTestingPlan`.
    pub async fn get_restore_testing_plan(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<RestoreTestingPlan> {
        const ACTION: &str = "backup:GetRestoreTestingPlan";
        self.permitted_testing_plan(caller, ACTION, name).await
    }

    /// `UpdateRestoreTestingPlan`: what is given replaces, the rest stays. A new schedule counts
    /// from now.
    pub async fn update_restore_testing_plan(
        &self,
        caller: &Caller,
        name: &str,
        document: &TestingPlanDocument,
    ) -> Result<RestoreTestingPlan> {
        const ACTION: &str = "backup:UpdateRestoreTestingPlan";
        let resource = self.testing_plan_label(caller, name);
        self.audited(caller, ACTION, &resource, async {
            let old = self.permitted_testing_plan(caller, ACTION, name).await?;
            let new_schedule = document.schedule.as_deref().map(schedule).transpose()?;
            let now = self.now();
            let mut plan = RestoreTestingPlan {
                schedule: new_schedule.unwrap_or_else(|| old.schedule.clone()),
                timezone: document.timezone.clone().unwrap_or_else(|| old.timezone.clone()),
                start_window_hours: document.start_window_hours.unwrap_or(old.start_window_hours),
                points: document.points.changed(&old.points)?,
                updated_at: Some(now),
                ..old.clone()
            };
            self.check_testing_plan(&plan)?;
            if old.schedule != plan.schedule || old.timezone != plan.timezone {
                plan.scheduled_since = Some(now);
            }
            // What came due under the old schedule is the old schedule's to make.
            self.engine().settle_restore_testing(&old, now).await?;
            self.catalog().update_restore_testing_plan(&old, &plan, now).await?;
            Ok(plan)
        })
        .await
    }

    /// `DeleteRestoreTestingPlan`. Selections have to go first; deleting what is not there is no
    /// error, for the model has none for it.
    pub async fn delete_restore_testing_plan(&self, caller: &Caller, name: &str) -> Result<()> {
        const ACTION: &str = "backup:DeleteRestoreTestingPlan";
        let resource = self.testing_plan_label(caller, name);
        self.audited(caller, ACTION, &resource, async {
            match self.permitted_testing_plan(caller, ACTION, name).await {
                Err(error) if error.kind == ErrorKind::ResourceNotFound => return Ok(()),
                other => other?,
            };
            match self.catalog().delete_restore_testing_plan(caller.account(), name).await {
                Err(CatalogError::NotEmpty { .. }) => Err(AppError::refused(format!(
                    "Restore testing selections must be deleted before their plan: \
                     list-restore-testing-selections --restore-testing-plan-name {name} shows them."
                ))),
                Err(CatalogError::NotFound { .. }) => Ok(()),
                other => Ok(other?),
            }
        })
        .await
    }

    /// `ListRestoreTestingPlans`.
    pub async fn list_restore_testing_plans(
        &self,
        caller: &Caller,
        paging: &Paging,
    ) -> Result<Listing<RestoreTestingPlan>> {
        self.permit(caller, "backup:ListRestoreTestingPlans", "*")?;
        let list = List::new(caller, "ListRestoreTestingPlans", &());
        let page = self.page(&list, paging)?;
        let listed = self.catalog().list_restore_testing_plans(caller.account(), page).await?;
        self.listing(&list, listed)
    }
}

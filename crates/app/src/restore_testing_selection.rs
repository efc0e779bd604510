//! Restore testing selections.

use std::collections::BTreeMap;

use provault_catalog::{CatalogError, Page};
use provault_domain::restore_testing_selection::LONGEST_VALIDATION_WINDOW_HOURS;
use provault_domain::selection::Conditions;
use provault_domain::{Arn, Invalid, Kind, RestoreTestingPlan, RestoreTestingSelection};

use crate::paging::List;
use crate::restore_job::blocking;
use crate::vault::check_request_id;
use crate::{App, AppError, Caller, ErrorKind, Listing, Paging, Result};

/// Where the members lie in a request.
const PATH: &str = "RestoreTestingSelection";

/// A restore testing selection as its caller writes it. What is absent gets AWS's default in a new
/// one, and stays in one that is changed.
#[derive(Debug, Clone, Default)]
pub struct TestingSelectionDocument {
    /// The role of the restores; a new selection needs one.
    pub role_arn: Option<String>,
    /// ARNs, or `*` alone; `*` in a new selection that has conditions instead.
    pub resource_arns: Option<Vec<String>>,
    /// Tags that must hold.
    pub conditions: Option<Conditions>,
    /// Restore metadata that goes before what is inferred.
    pub metadata_overrides: Option<BTreeMap<String, String>>,
    /// Hours the copy is kept for somebody outside to look at; 0 for not at all.
    pub validation_window_hours: Option<i64>,
}

/// AWS's resource type, if there is a driver for it.
fn kind_of(resource_type: &str) -> Result<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.resource_type() == resource_type).ok_or_else(|| {
        let known: Vec<&str> = Kind::ALL.into_iter().map(Kind::resource_type).collect();
        AppError::invalid(
            format!("{PATH}.ProtectedResourceType"),
            format!(
                "'{resource_type}' is no type of resource of this server; known: {}.",
                known.join(", ")
            ),
        )
    })
}

/// Within AWS's limits, which the selection checks; what is below them is no number of hours at all.
fn window(hours: i64) -> Result<u32> {
    u32::try_from(hours).map_err(|_| {
        AppError::invalid(
            format!("{PATH}.ValidationWindowHours"),
            format!(
                "{hours} is no number of hours; use 1 to {LONGEST_VALIDATION_WINDOW_HOURS}, or 0."
            ),
        )
    })
}

impl App {
    /// Whether the driver can honour the overrides, beside what a test sets by itself.
    async fn check_overrides(&self, selection: &RestoreTestingSelection) -> Result<()> {
        if selection.metadata_overrides.is_empty() {
            return Ok(());
        }
        let driver = self.engine().driver(selection.kind)?;
        let mut metadata = selection.metadata_overrides.clone();
        // Which source and where to a test says itself; any will do here.
        let (kind, account) = (selection.kind, &selection.account);
        let any = Arn::resource_of(kind, self.region(), account, "00000000");
        let id = any.resource().rsplit('/').next().unwrap_or_default();
        metadata.insert(kind.source_key().to_owned(), id.to_owned());
        metadata.insert("targetPath".to_owned(), "/restore-test-of-provault".to_owned());
        let checked = blocking(move || driver.check_restore(&metadata)).await?;
        Ok(checked.map_err(|why| why.within(&format!("{PATH}.RestoreMetadataOverrides")))?)
    }

    async fn check_testing_selection(&self, selection: &RestoreTestingSelection) -> Result<()> {
        selection.validate().map_err(|invalid| invalid.within(PATH))?;
        self.check_overrides(selection).await
    }

    /// `CreateRestoreTestingSelection`. A repetition with the same request id gives the same
    /// selection.
    pub async fn create_restore_testing_selection(
        &self,
        caller: &Caller,
        plan: &str,
        name: &str,
        resource_type: &str,
        document: TestingSelectionDocument,
        creator_request_id: Option<String>,
    ) -> Result<RestoreTestingSelection> {
        const ACTION: &str = "backup:CreateRestoreTestingSelection";
        let resource = self.testing_plan_label(caller, plan);
        self.audited(caller, ACTION, &resource, async {
            let plan = self.permitted_testing_plan(caller, ACTION, plan).await?;
            check_request_id(creator_request_id.as_deref())?;
            let window = window(document.validation_window_hours.unwrap_or(0))?;
            let role = document
                .role_arn
                .as_deref()
                .ok_or_else(|| Invalid::missing(format!("{PATH}.IamRoleArn")))?;
            let selection = RestoreTestingSelection {
                name: name.to_owned(),
                account: caller.account().clone(),
                plan_arn: plan.arn.clone(),
                plan_name: plan.name.clone(),
                role_arn: self.role_of(caller, &format!("{PATH}.IamRoleArn"), role).await?,
                kind: kind_of(resource_type)?,
                resource_arns: resource_arns(&document)?,
                conditions: document.conditions.unwrap_or_default(),
                metadata_overrides: document.metadata_overrides.unwrap_or_default(),
                validation_window_hours: window,
                creator_request_id,
                created_at: self.now(),
                updated_at: None,
            };
            self.check_testing_selection(&selection).await?;
            if let Some(existing) = self.repeated_testing_selection(&selection).await? {
                return Ok(existing);
            }
            self.check_testing_selection_quota(&plan).await?;
            match self.catalog().insert_restore_testing_selection(&selection).await {
                Ok(()) => Ok(selection),
                // The same request, twice at once.
                Err(error @ CatalogError::AlreadyExists { .. }) => {
                    match self.repeated_testing_selection(&selection).await? {
                        Some(existing) => Ok(existing),
                        None => Err(error.into()),
                    }
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    async fn check_testing_selection_quota(&self, plan: &RestoreTestingPlan) -> Result<()> {
        let limit = self.settings().max_restore_testing_selections;
        let page = Page::first(limit.max(1));
        let have = self.catalog().list_restore_testing_selections(&plan.arn, page).await?;
        if have.items.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
            return Ok(());
        }
        Err(AppError::new(
            ErrorKind::LimitExceeded,
            format!(
                "Restore testing plan '{}' has {limit} selections, which is the limit; delete one \
                 first.",
                plan.name
            ),
        ))
    }

    /// The selection that an earlier request with the same id made. One of the name that another
    /// request made is an error, and so is a request id that made one of another name.
    async fn repeated_testing_selection(
        &self,
        selection: &RestoreTestingSelection,
    ) -> Result<Option<RestoreTestingSelection>> {
        let (catalog, plan) = (self.catalog(), &selection.plan_arn);
        let made = match &selection.creator_request_id {
            Some(id) => catalog.restore_testing_selection_by_request_id(plan, id).await?,
            None => None,
        };
        if let Some(made) = made {
            if made.name == selection.name {
                return Ok(Some(made));
            }
            return Err(AppError::exists(
                format!(
                    "This CreatorRequestId made the restore testing selection '{}'; use a new one \
                     for another selection.",
                    made.name
                ),
                None,
            )
            .made_by(made.creator_request_id.as_deref()));
        }
        match catalog.restore_testing_selection(plan, &selection.name).await? {
            None => Ok(None),
            Some(other) => Err(AppError::exists(
                format!(
                    "Restore testing plan '{}' has a selection '{}' already; change that one, or \
                     use another name.",
                    other.plan_name, other.name
                ),
                None,
            )
            .made_by(other.creator_request_id.as_deref())),
        }
    }

    async fn testing_selection_named(
        &self,
        caller: &Caller,
        action: &str,
        plan: &str,
        name: &str,
    ) -> Result<RestoreTestingSelection> {
        let plan = self.permitted_testing_plan(caller, action, plan).await?;
        self.catalog().restore_testing_selection(&plan.arn, name).await?.ok_or_else(|| {
            AppError::not_found(format!(
                "Restore testing plan '{}' has no selection '{name}'; see \
                 list-restore-testing-selections.",
                plan.name
            ))
        })
    }

    /// `GetRestoreTestingSelection`.
    pub async fn get_restore_testing_selection(
        &self,
        caller: &Caller,
        plan: &str,
        name: &str,
    ) -> Result<RestoreTestingSelection> {
        const ACTION: &str = "backup:GetRestoreTestingSelection";
        self.testing_selection_named(caller, ACTION, plan, name).await
    }

    /// `UpdateRestoreTestingSelection`: what is given replaces, the rest stays.
    pub async fn update_restore_testing_selection(
        &self,
        caller: &Caller,
        plan: &str,
        name: &str,
        document: TestingSelectionDocument,
    ) -> Result<RestoreTestingSelection> {
        const ACTION: &str = "backup:UpdateRestoreTestingSelection";
        let resource = self.testing_plan_label(caller, plan);
        self.audited(caller, ACTION, &resource, async {
            let old = self.testing_selection_named(caller, ACTION, plan, name).await?;
            let window = match document.validation_window_hours {
                Some(hours) => window(hours)?,
                None => old.validation_window_hours,
            };
            let role_arn = match &document.role_arn {
                Some(arn) => self.role_of(caller, &format!("{PATH}.IamRoleArn"), arn).await?,
                None => old.role_arn.clone(),
            };
            let kept = old.clone();
            let selection = RestoreTestingSelection {
                role_arn,
                resource_arns: document.resource_arns.unwrap_or(kept.resource_arns),
                conditions: document.conditions.unwrap_or(kept.conditions),
                metadata_overrides: document.metadata_overrides.unwrap_or(kept.metadata_overrides),
                validation_window_hours: window,
                updated_at: Some(self.now()),
                ..old.clone()
            };
            self.check_testing_selection(&selection).await?;
            self.catalog().update_restore_testing_selection(&old, &selection).await?;
            Ok(selection)
        })
        .await
    }

    /// `DeleteRestoreTestingSelection`. Tests that it led to go on.
    pub async fn delete_restore_testing_selection(
        &self,
        caller: &Caller,
        plan: &str,
        name: &str,
    ) -> Result<()> {
        const ACTION: &str = "backup:DeleteRestoreTestingSelection";
        let resource = self.testing_plan_label(caller, plan);
        self.audited(caller, ACTION, &resource, async {
            let selection = self.testing_selection_named(caller, ACTION, plan, name).await?;
            let catalog = self.catalog();
            Ok(catalog.delete_restore_testing_selection(&selection.plan_arn, name).await?)
        })
        .await
    }

    /// `ListRestoreTestingSelections`.
    pub async fn list_restore_testing_selections(
        &self,
        caller: &Caller,
        plan: &str,
        paging: &Paging,
    ) -> Result<Listing<RestoreTestingSelection>> {
        const ACTION: &str = "backup:ListRestoreTestingSelections";
        let plan = self.permitted_testing_plan(caller, ACTION, plan).await?;
        let list = List::new(caller, "ListRestoreTestingSelections", &plan.arn);
        let page = self.page(&list, paging)?;
        let listed = self.catalog().list_restore_testing_selections(&plan.arn, page).await?;
        self.listing(&list, listed)
    }
}

/// What a new selection is for. AWS takes conditions instead of ARNs; they are about every resource
/// of the type.
fn resource_arns(document: &TestingSelectionDocument) -> Result<Vec<String>> {
    match (&document.resource_arns, &document.conditions) {
        (Some(arns), _) => Ok(arns.clone()),
        (None, Some(conditions)) if !conditions.is_empty() => Ok(vec!["*".to_owned()]),
        (None, _) => Err(Invalid::missing(format!("{PATH}.ProtectedResourceArns")).into()),
    }
}

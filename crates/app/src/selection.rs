//! Backup selections.

use provault_catalog::{CatalogError, Page};
use provault_domain::selection::{Conditions, TagCondition};
use provault_domain::{Arn, BackupSelection};

use crate::paging::List;
use crate::vault::check_request_id;
use crate::{App, AppError, Caller, ErrorKind, Listing, Paging, Result, new_id};

/// A selection as its caller writes it.
#[derive(Debug, Clone, Default)]
pub struct SelectionDocument {
    /// Name for people.
    pub name: String,
    /// The role of the plan's jobs.
    pub role_arn: String,
    /// ARNs and patterns, any of which may match.
    pub resources: Vec<String>,
    /// ARNs and patterns left out.
    pub not_resources: Vec<String>,
    /// Tags, any of which may match.
    pub list_of_tags: Vec<TagCondition>,
    /// Conditions, all of which must hold.
    pub conditions: Conditions,
}

impl App {
    /// A role that has to be known.
    pub(crate) async fn role_of(&self, caller: &Caller, member: &str, arn: &str) -> Result<Arn> {
        let unknown = || {
            AppError::invalid(
                member,
                format!(
                    "'{arn}' is not a role of this server; make one with `provault role add NAME`, \
                     or take one from `provault role list`."
                ),
            )
        };
        let parsed: Arn = arn.parse().map_err(|_| unknown())?;
        match self.catalog().role(&parsed).await? {
            Some(role) if role.account == *caller.account() => Ok(role.arn),
            _ => Err(unknown()),
        }
    }

    /// `CreateBackupSelection`. A repetition with the same request id gives the same selection.
    pub async fn create_backup_selection(
        &self,
        caller: &Caller,
        plan_id: &str,
        document: SelectionDocument,
        creator_request_id: Option<String>,
    ) -> Result<BackupSelection> {
        const ACTION: &str = "backup:CreateBackupSelection";
        let arn = self.plan_arn(caller, plan_id);
        self.audited(caller, ACTION, &arn, async {
            self.permit(caller, ACTION, &arn)?;
            check_request_id(creator_request_id.as_deref())?;
            self.live_plan(caller, plan_id).await?;
            if let Some(request_id) = &creator_request_id
                && let Some(existing) =
                    self.catalog().selection_by_request_id(plan_id, request_id).await?
            {
                return Ok(existing);
            }
            let role_arn =
                self.role_of(caller, "BackupSelection.IamRoleArn", &document.role_arn).await?;
            let selection = BackupSelection {
                id: new_id(),
                account: caller.account().clone(),
                plan_id: plan_id.to_owned(),
                name: document.name,
                role_arn,
                resources: document.resources,
                not_resources: document.not_resources,
                list_of_tags: document.list_of_tags,
                conditions: document.conditions,
                creator_request_id,
                created_at: self.now(),
            };
            selection.validate()?;
            let limit = self.settings().max_selections;
            let page = Page { after: None, limit: limit.max(1) };
            let have = self.catalog().list_selections(caller.account(), plan_id, page).await?;
            if have.items.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
                return Err(AppError::new(
                    ErrorKind::LimitExceeded,
                    format!(
                        "This plan has {limit} selections, which is the limit; delete one first."
                    ),
                ));
            }
            match self.catalog().insert_selection(&selection).await {
                Ok(()) => {
                    // What it selects may be due.
                    self.engine().wake();
                    Ok(selection)
                }
                Err(CatalogError::AlreadyExists { .. }) => {
                    if let Some(id) = &selection.creator_request_id
                        && let Some(existing) =
                            self.catalog().selection_by_request_id(plan_id, id).await?
                    {
                        return Ok(existing);
                    }
                    Err(AppError::exists(
                        format!(
                            "This plan has a selection '{}' already; use another name, or delete \
                             that one first.",
                            selection.name
                        ),
                        None,
                    ))
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    pub(crate) async fn selection_of(
        &self,
        caller: &Caller,
        plan_id: &str,
        id: &str,
    ) -> Result<BackupSelection> {
        self.plan_of(caller, plan_id, None).await?;
        self.catalog().selection(caller.account(), plan_id, id).await?.ok_or_else(|| {
            AppError::not_found(format!(
                "Backup plan '{plan_id}' has no selection '{id}'; see list-backup-selections."
            ))
        })
    }

    /// `GetBackupSelection`.
    pub async fn get_backup_selection(
        &self,
        caller: &Caller,
        plan_id: &str,
        id: &str,
    ) -> Result<BackupSelection> {
        self.permit(caller, "backup:GetBackupSelection", self.plan_arn(caller, plan_id))?;
        self.selection_of(caller, plan_id, id).await
    }

    /// `ListBackupSelections`.
    pub async fn list_backup_selections(
        &self,
        caller: &Caller,
        plan_id: &str,
        paging: &Paging,
    ) -> Result<Listing<BackupSelection>> {
        self.permit(caller, "backup:ListBackupSelections", self.plan_arn(caller, plan_id))?;
        self.plan_of(caller, plan_id, None).await?;
        let list = List::new(caller, "ListBackupSelections", &plan_id);
        let page = self.page(&list, paging)?;
        let listed = self.catalog().list_selections(caller.account(), plan_id, page).await?;
        self.listing(&list, listed)
    }

    /// `DeleteBackupSelection`.
    pub async fn delete_backup_selection(
        &self,
        caller: &Caller,
        plan_id: &str,
        id: &str,
    ) -> Result<()> {
        const ACTION: &str = "backup:DeleteBackupSelection";
        let arn = self.plan_arn(caller, plan_id);
        self.audited(caller, ACTION, &arn, async {
            self.permit(caller, ACTION, &arn)?;
            self.selection_of(caller, plan_id, id).await?;
            Ok(self.catalog().delete_selection(caller.account(), plan_id, id).await?)
        })
        .await
    }
}

//! Backup selections.

use provault_app::{App, AppError, Caller, SelectionDocument};
use provault_domain::BackupSelection;
use provault_domain::selection::{Conditions, TagCondition};
use provault_wire::NoOutput;
use provault_wire::enums::ConditionType;
use provault_wire::types::{
    self, BackupSelectionsListMember, Condition, ConditionParameter, CreateBackupSelectionInput,
    CreateBackupSelectionOutput, DeleteBackupSelectionInput, GetBackupSelectionInput,
    GetBackupSelectionOutput, ListBackupSelectionsInput, ListBackupSelectionsOutput,
};

use crate::convert::{arn, needed, page, paging, time};

fn document(selection: types::BackupSelection) -> Result<SelectionDocument, AppError> {
    let conditions = selection.conditions.unwrap_or_default();
    let list_of_tags = selection.list_of_tags.unwrap_or_default().into_iter().map(|condition| {
        Ok(TagCondition {
            key: needed("BackupSelection.ListOfTags.ConditionKey", condition.condition_key)?,
            value: needed("BackupSelection.ListOfTags.ConditionValue", condition.condition_value)?,
        })
    });
    Ok(SelectionDocument {
        name: needed("BackupSelection.SelectionName", selection.selection_name)?,
        role_arn: needed("BackupSelection.IamRoleArn", selection.iam_role_arn)?,
        resources: selection.resources.unwrap_or_default(),
        not_resources: selection.not_resources.unwrap_or_default(),
        list_of_tags: list_of_tags.collect::<Result<_, AppError>>()?,
        conditions: Conditions {
            string_equals: parameters("StringEquals", conditions.string_equals)?,
            string_not_equals: parameters("StringNotEquals", conditions.string_not_equals)?,
            string_like: parameters("StringLike", conditions.string_like)?,
            string_not_like: parameters("StringNotLike", conditions.string_not_like)?,
        },
    })
}

/// Conditions of one operator. The model lets key and value be absent; a condition without them
/// would hold for nothing, so they are asked for.
fn parameters(
    operator: &str,
    wire: Option<Vec<ConditionParameter>>,
) -> Result<Vec<TagCondition>, AppError> {
    let path = |member| format!("BackupSelection.Conditions.{operator}.{member}");
    let conditions = wire.unwrap_or_default().into_iter().map(|condition| {
        Ok(TagCondition {
            key: needed(&path("ConditionKey"), condition.condition_key)?,
            value: needed(&path("ConditionValue"), condition.condition_value)?,
        })
    });
    conditions.collect()
}

pub(crate) async fn create(
    app: &App,
    caller: &Caller,
    input: CreateBackupSelectionInput,
) -> Result<CreateBackupSelectionOutput, AppError> {
    let plan_id = needed("BackupPlanId", input.backup_plan_id)?;
    let document = document(needed("BackupSelection", input.backup_selection)?)?;
    let request_id = input.creator_request_id;
    let selection = app.create_backup_selection(caller, &plan_id, document, request_id).await?;
    Ok(CreateBackupSelectionOutput {
        backup_plan_id: Some(selection.plan_id),
        creation_date: time(selection.created_at),
        selection_id: Some(selection.id),
    })
}

pub(crate) async fn get(
    app: &App,
    caller: &Caller,
    input: GetBackupSelectionInput,
) -> Result<GetBackupSelectionOutput, AppError> {
    let plan_id = needed("BackupPlanId", input.backup_plan_id)?;
    let id = needed("SelectionId", input.selection_id)?;
    let selection = app.get_backup_selection(caller, &plan_id, &id).await?;
    Ok(GetBackupSelectionOutput {
        backup_selection: Some(wire(&selection)),
        backup_plan_id: Some(selection.plan_id),
        creation_date: time(selection.created_at),
        creator_request_id: selection.creator_request_id,
        selection_id: Some(selection.id),
    })
}

fn wire(selection: &BackupSelection) -> types::BackupSelection {
    let tags = selection.list_of_tags.iter().map(|tag| Condition {
        condition_key: Some(tag.key.clone()),
        condition_type: Some(ConditionType::Stringequals),
        condition_value: Some(tag.value.clone()),
    });
    let parameters = |conditions: &[TagCondition]| {
        let conditions = conditions.iter().map(|condition| ConditionParameter {
            condition_key: Some(condition.key.clone()),
            condition_value: Some(condition.value.clone()),
        });
        Some(conditions.collect())
    };
    let conditions = &selection.conditions;
    types::BackupSelection {
        // AWS answers all of these, empty where nothing was set; Terraform compares them.
        conditions: Some(types::Conditions {
            string_equals: parameters(&conditions.string_equals),
            string_like: parameters(&conditions.string_like),
            string_not_equals: parameters(&conditions.string_not_equals),
            string_not_like: parameters(&conditions.string_not_like),
        }),
        iam_role_arn: arn(&selection.role_arn),
        list_of_tags: Some(tags.collect()),
        not_resources: Some(selection.not_resources.clone()),
        resources: Some(selection.resources.clone()),
        selection_name: Some(selection.name.clone()),
    }
}

pub(crate) async fn list(
    app: &App,
    caller: &Caller,
    input: ListBackupSelectionsInput,
) -> Result<ListBackupSelectionsOutput, AppError> {
    let plan_id = needed("BackupPlanId", input.backup_plan_id)?;
    let paging = paging(input.max_results, input.next_token);
    let listing = app.list_backup_selections(caller, &plan_id, &paging).await?;
    let (backup_selections_list, next_token) =
        page(listing, |selection| BackupSelectionsListMember {
            backup_plan_id: Some(selection.plan_id),
            creation_date: time(selection.created_at),
            creator_request_id: selection.creator_request_id,
            iam_role_arn: arn(&selection.role_arn),
            selection_id: Some(selection.id),
            selection_name: Some(selection.name),
        });
    Ok(ListBackupSelectionsOutput { backup_selections_list, next_token })
}

pub(crate) async fn delete(
    app: &App,
    caller: &Caller,
    input: DeleteBackupSelectionInput,
) -> Result<NoOutput, AppError> {
    let plan_id = needed("BackupPlanId", input.backup_plan_id)?;
    let id = needed("SelectionId", input.selection_id)?;
    app.delete_backup_selection(caller, &plan_id, &id).await?;
    Ok(NoOutput {})
}

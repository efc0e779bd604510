//! Restore testing selections.

use provault_app::{App, AppError, Caller, TestingSelectionDocument};
use provault_domain::RestoreTestingSelection;
use provault_domain::selection::{Conditions, TagCondition};
use provault_wire::NoOutput;
use provault_wire::types::{
    CreateRestoreTestingSelectionInput, CreateRestoreTestingSelectionOutput,
    DeleteRestoreTestingSelectionInput, GetRestoreTestingSelectionInput,
    GetRestoreTestingSelectionOutput, KeyValue, ListRestoreTestingSelectionsInput,
    ListRestoreTestingSelectionsOutput, ProtectedResourceConditions, RestoreTestingSelectionForGet,
    RestoreTestingSelectionForList, UpdateRestoreTestingSelectionInput,
    UpdateRestoreTestingSelectionOutput,
};

use crate::convert::{arn, needed, page, paging, time};

fn conditions(wire: ProtectedResourceConditions) -> Result<Conditions, AppError> {
    Ok(Conditions {
        string_equals: pairs("StringEquals", wire.string_equals)?,
        string_not_equals: pairs("StringNotEquals", wire.string_not_equals)?,
        ..Conditions::default()
    })
}

fn pairs(operator: &str, wire: Option<Vec<KeyValue>>) -> Result<Vec<TagCondition>, AppError> {
    let path =
        |member| format!("RestoreTestingSelection.ProtectedResourceConditions.{operator}.{member}");
    let pairs = wire.unwrap_or_default().into_iter().map(|pair| {
        Ok(TagCondition {
            key: needed(&path("Key"), pair.key)?,
            value: needed(&path("Value"), pair.value)?,
        })
    });
    pairs.collect()
}

fn wire_conditions(conditions: &Conditions) -> ProtectedResourceConditions {
    let pairs = |list: &[TagCondition]| {
        let pairs = list.iter().map(|condition| KeyValue {
            key: Some(condition.key.clone()),
            value: Some(condition.value.clone()),
        });
        Some(pairs.collect())
    };
    ProtectedResourceConditions {
        string_equals: pairs(&conditions.string_equals),
        string_not_equals: pairs(&conditions.string_not_equals),
    }
}

pub(crate) async fn create(
    app: &App,
    caller: &Caller,
    input: CreateRestoreTestingSelectionInput,
) -> Result<CreateRestoreTestingSelectionOutput, AppError> {
    const PATH: &str = "RestoreTestingSelection";
    let plan = needed("RestoreTestingPlanName", input.restore_testing_plan_name)?;
    let wire = needed(PATH, input.restore_testing_selection)?;
    let member = |member| format!("{PATH}.{member}");
    let name = needed(&member("RestoreTestingSelectionName"), wire.restore_testing_selection_name)?;
    let kind = needed(&member("ProtectedResourceType"), wire.protected_resource_type)?;
    let document = TestingSelectionDocument {
        role_arn: wire.iam_role_arn,
        resource_arns: wire.protected_resource_arns,
        conditions: wire.protected_resource_conditions.map(conditions).transpose()?,
        metadata_overrides: wire.restore_metadata_overrides,
        validation_window_hours: wire.validation_window_hours.map(i64::from),
    };
    let request_id = input.creator_request_id;
    let made = app
        .create_restore_testing_selection(caller, &plan, &name, &kind, document, request_id)
        .await?;
    Ok(CreateRestoreTestingSelectionOutput {
        creation_time: time(made.created_at),
        restore_testing_plan_arn: arn(&made.plan_arn),
        restore_testing_plan_name: Some(made.plan_name),
        restore_testing_selection_name: Some(made.name),
    })
}

pub(crate) async fn update(
    app: &App,
    caller: &Caller,
    input: UpdateRestoreTestingSelectionInput,
) -> Result<UpdateRestoreTestingSelectionOutput, AppError> {
    let plan = needed("RestoreTestingPlanName", input.restore_testing_plan_name)?;
    let name = needed("RestoreTestingSelectionName", input.restore_testing_selection_name)?;
    let wire = needed("RestoreTestingSelection", input.restore_testing_selection)?;
    let document = TestingSelectionDocument {
        role_arn: wire.iam_role_arn,
        resource_arns: wire.protected_resource_arns,
        conditions: wire.protected_resource_conditions.map(conditions).transpose()?,
        metadata_overrides: wire.restore_metadata_overrides,
        validation_window_hours: wire.validation_window_hours.map(i64::from),
    };
    let changed = app.update_restore_testing_selection(caller, &plan, &name, document).await?;
    Ok(UpdateRestoreTestingSelectionOutput {
        creation_time: time(changed.created_at),
        restore_testing_plan_arn: arn(&changed.plan_arn),
        restore_testing_plan_name: Some(changed.plan_name),
        restore_testing_selection_name: Some(changed.name),
        update_time: changed.updated_at.and_then(time),
    })
}

pub(crate) async fn get(
    app: &App,
    caller: &Caller,
    input: GetRestoreTestingSelectionInput,
) -> Result<GetRestoreTestingSelectionOutput, AppError> {
    let plan = needed("RestoreTestingPlanName", input.restore_testing_plan_name)?;
    let name = needed("RestoreTestingSelectionName", input.restore_testing_selection_name)?;
    let found = app.get_restore_testing_selection(caller, &plan, &name).await?;
    let selection = RestoreTestingSelectionForGet {
        creation_time: time(found.created_at),
        creator_request_id: found.creator_request_id,
        iam_role_arn: arn(&found.role_arn),
        protected_resource_arns: Some(found.resource_arns),
        protected_resource_conditions: Some(wire_conditions(&found.conditions)),
        protected_resource_type: Some(found.kind.resource_type().to_owned()),
        restore_metadata_overrides: Some(found.metadata_overrides),
        restore_testing_plan_name: Some(found.plan_name),
        restore_testing_selection_name: Some(found.name),
        validation_window_hours: hours(found.validation_window_hours),
    };
    Ok(GetRestoreTestingSelectionOutput { restore_testing_selection: Some(selection) })
}

/// At most a week.
fn hours(hours: u32) -> Option<i32> {
    i32::try_from(hours).ok()
}

fn member(selection: RestoreTestingSelection) -> RestoreTestingSelectionForList {
    RestoreTestingSelectionForList {
        creation_time: time(selection.created_at),
        iam_role_arn: arn(&selection.role_arn),
        protected_resource_type: Some(selection.kind.resource_type().to_owned()),
        restore_testing_plan_name: Some(selection.plan_name),
        restore_testing_selection_name: Some(selection.name),
        validation_window_hours: hours(selection.validation_window_hours),
    }
}

pub(crate) async fn list(
    app: &App,
    caller: &Caller,
    input: ListRestoreTestingSelectionsInput,
) -> Result<ListRestoreTestingSelectionsOutput, AppError> {
    let plan = needed("RestoreTestingPlanName", input.restore_testing_plan_name)?;
    let paging = paging(input.max_results, input.next_token);
    let listing = app.list_restore_testing_selections(caller, &plan, &paging).await?;
    let (restore_testing_selections, next_token) = page(listing, member);
    Ok(ListRestoreTestingSelectionsOutput { next_token, restore_testing_selections })
}

pub(crate) async fn delete(
    app: &App,
    caller: &Caller,
    input: DeleteRestoreTestingSelectionInput,
) -> Result<NoOutput, AppError> {
    let plan = needed("RestoreTestingPlanName", input.restore_testing_plan_name)?;
    let name = needed("RestoreTestingSelectionName", input.restore_testing_selection_name)?;
    app.delete_restore_testing_selection(caller, &plan, &name).await?;
    Ok(NoOutput {})
}

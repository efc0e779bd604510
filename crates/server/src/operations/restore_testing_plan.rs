//! Restore testing plans.

use provault_app::{
    App, AppError, Caller, NewTestingPlan, PointSelectionDocument, TestingPlanDocument,
};
use provault_domain::RestoreTestingPlan;
use provault_domain::restore_testing_plan::PointSelection;
use provault_wire::NoOutput;
use provault_wire::enums::{
    RestoreTestingRecoveryPointSelectionAlgorithm, RestoreTestingRecoveryPointType,
};
use provault_wire::types::{
    CreateRestoreTestingPlanInput, CreateRestoreTestingPlanOutput, DeleteRestoreTestingPlanInput,
    GetRestoreTestingPlanInput, GetRestoreTestingPlanOutput, ListRestoreTestingPlansInput,
    ListRestoreTestingPlansOutput, RestoreTestingPlanForGet, RestoreTestingPlanForList,
    RestoreTestingRecoveryPointSelection, UpdateRestoreTestingPlanInput,
    UpdateRestoreTestingPlanOutput,
};

use crate::convert::{arn, map, needed, page, paging, time};

fn points(wire: RestoreTestingRecoveryPointSelection) -> PointSelectionDocument {
    PointSelectionDocument {
        algorithm: wire.algorithm.map(|algorithm| algorithm.as_str().to_owned()),
        include_vaults: wire.include_vaults,
        exclude_vaults: wire.exclude_vaults,
        types: wire
            .recovery_point_types
            .map(|types| types.iter().map(|kind| kind.as_str().to_owned()).collect()),
        window_days: wire.selection_window_days.map(i64::from),
    }
}

fn wire_points(points: &PointSelection) -> RestoreTestingRecoveryPointSelection {
    let algorithm = points.algorithm.as_str();
    let types =
        points.types.iter().map(|kind| RestoreTestingRecoveryPointType::from(kind.as_str()));
    RestoreTestingRecoveryPointSelection {
        algorithm: Some(RestoreTestingRecoveryPointSelectionAlgorithm::from(algorithm)),
        exclude_vaults: Some(points.exclude_vaults.clone()),
        include_vaults: Some(points.include_vaults.clone()),
        recovery_point_types: Some(types.collect()),
        selection_window_days: small(points.window_days),
    }
}

/// A small number, checked when it came in.
fn small(number: i64) -> Option<i32> {
    i32::try_from(number).ok()
}

pub(crate) async fn create(
    app: &App,
    caller: &Caller,
    input: CreateRestoreTestingPlanInput,
) -> Result<CreateRestoreTestingPlanOutput, AppError> {
    let plan = needed("RestoreTestingPlan", input.restore_testing_plan)?;
    let new = NewTestingPlan {
        name: needed("RestoreTestingPlan.RestoreTestingPlanName", plan.restore_testing_plan_name)?,
        document: TestingPlanDocument {
            schedule: plan.schedule_expression,
            timezone: plan.schedule_expression_timezone,
            start_window_hours: plan.start_window_hours.map(i64::from),
            points: points(needed(
                "RestoreTestingPlan.RecoveryPointSelection",
                plan.recovery_point_selection,
            )?),
        },
        tags: map(input.tags),
        creator_request_id: input.creator_request_id,
    };
    let plan = app.create_restore_testing_plan(caller, new).await?;
    Ok(CreateRestoreTestingPlanOutput {
        creation_time: time(plan.created_at),
        restore_testing_plan_arn: arn(&plan.arn),
        restore_testing_plan_name: Some(plan.name),
    })
}

pub(crate) async fn update(
    app: &App,
    caller: &Caller,
    input: UpdateRestoreTestingPlanInput,
) -> Result<UpdateRestoreTestingPlanOutput, AppError> {
    let name = needed("RestoreTestingPlanName", input.restore_testing_plan_name)?;
    let plan = needed("RestoreTestingPlan", input.restore_testing_plan)?;
    let document = TestingPlanDocument {
        schedule: plan.schedule_expression,
        timezone: plan.schedule_expression_timezone,
        start_window_hours: plan.start_window_hours.map(i64::from),
        points: plan.recovery_point_selection.map(points).unwrap_or_default(),
    };
    let plan = app.update_restore_testing_plan(caller, &name, &document).await?;
    Ok(UpdateRestoreTestingPlanOutput {
        creation_time: time(plan.created_at),
        restore_testing_plan_arn: arn(&plan.arn),
        restore_testing_plan_name: Some(plan.name),
        update_time: plan.updated_at.and_then(time),
    })
}

pub(crate) async fn get(
    app: &App,
    caller: &Caller,
    input: GetRestoreTestingPlanInput,
) -> Result<GetRestoreTestingPlanOutput, AppError> {
    let name = needed("RestoreTestingPlanName", input.restore_testing_plan_name)?;
    let plan = app.get_restore_testing_plan(caller, &name).await?;
    let plan = RestoreTestingPlanForGet {
        creation_time: time(plan.created_at),
        creator_request_id: plan.creator_request_id,
        last_execution_time: plan.last_execution_at.and_then(time),
        last_update_time: plan.updated_at.and_then(time),
        recovery_point_selection: Some(wire_points(&plan.points)),
        restore_testing_plan_arn: arn(&plan.arn),
        restore_testing_plan_name: Some(plan.name),
        schedule_expression: Some(plan.schedule.as_str().to_owned()),
        schedule_expression_timezone: Some(plan.timezone),
        start_window_hours: small(plan.start_window_hours),
    };
    Ok(GetRestoreTestingPlanOutput { restore_testing_plan: Some(plan) })
}

fn member(plan: RestoreTestingPlan) -> RestoreTestingPlanForList {
    RestoreTestingPlanForList {
        creation_time: time(plan.created_at),
        last_execution_time: plan.last_execution_at.and_then(time),
        last_update_time: plan.updated_at.and_then(time),
        restore_testing_plan_arn: arn(&plan.arn),
        restore_testing_plan_name: Some(plan.name),
        schedule_expression: Some(plan.schedule.as_str().to_owned()),
        schedule_expression_timezone: Some(plan.timezone),
        start_window_hours: small(plan.start_window_hours),
    }
}

pub(crate) async fn list(
    app: &App,
    caller: &Caller,
    input: ListRestoreTestingPlansInput,
) -> Result<ListRestoreTestingPlansOutput, AppError> {
    let paging = paging(input.max_results, input.next_token);
    let listing = app.list_restore_testing_plans(caller, &paging).await?;
    let (restore_testing_plans, next_token) = page(listing, member);
    Ok(ListRestoreTestingPlansOutput { next_token, restore_testing_plans })
}

pub(crate) async fn delete(
    app: &App,
    caller: &Caller,
    input: DeleteRestoreTestingPlanInput,
) -> Result<NoOutput, AppError> {
    let name = needed("RestoreTestingPlanName", input.restore_testing_plan_name)?;
    app.delete_restore_testing_plan(caller, &name).await?;
    Ok(NoOutput {})
}

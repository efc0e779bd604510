//! Backup plans.

use provault_app::{App, AppError, Caller, NewPlan, PlanDocument, PlanView, RuleDocument};
use provault_domain::BackupPlan;
use provault_domain::plan::BackupRule;
use provault_wire::enums::RuleExecutionType;
use provault_wire::types::{
    self, BackupPlanInput, BackupPlansListMember, BackupRuleInput, CreateBackupPlanInput,
    CreateBackupPlanOutput, DeleteBackupPlanInput, DeleteBackupPlanOutput, GetBackupPlanInput,
    GetBackupPlanOutput, ListBackupPlanVersionsInput, ListBackupPlanVersionsOutput,
    ListBackupPlansInput, ListBackupPlansOutput, ScheduledPlanExecutionMember,
    UpdateBackupPlanInput, UpdateBackupPlanOutput,
};

use crate::convert::{
    arn, filled, lifecycle, map, needed, page, paging, time, unsupported, wire_lifecycle,
};

/// The plan a caller wrote; what this server cannot honour is refused by name.
fn document(plan: BackupPlanInput) -> Result<PlanDocument, AppError> {
    unsupported(
        "BackupPlan.AdvancedBackupSettings",
        filled(plan.advanced_backup_settings.as_ref()),
    )?;
    unsupported("BackupPlan.ScanSettings", filled(plan.scan_settings.as_ref()))?;
    let rules = needed("BackupPlan.Rules", plan.rules)?.into_iter().enumerate();
    Ok(PlanDocument {
        name: needed("BackupPlan.BackupPlanName", plan.backup_plan_name)?,
        rules: rules.map(|(index, rule)| rule_document(index, rule)).collect::<Result<_, _>>()?,
    })
}

fn rule_document(index: usize, rule: BackupRuleInput) -> Result<RuleDocument, AppError> {
    let path = format!("BackupPlan.Rules[{index}]");
    for (member, given) in [
        ("CopyActions", filled(rule.copy_actions.as_ref())),
        ("EnableContinuousBackup", rule.enable_continuous_backup == Some(true)),
        ("IndexActions", filled(rule.index_actions.as_ref())),
        ("ScanActions", filled(rule.scan_actions.as_ref())),
        (
            "TargetLogicallyAirGappedBackupVaultArn",
            rule.target_logically_air_gapped_backup_vault_arn.is_some(),
        ),
    ] {
        unsupported(format!("{path}.{member}"), given)?;
    }
    Ok(RuleDocument {
        name: needed(&format!("{path}.RuleName"), rule.rule_name)?,
        target_vault: needed(
            &format!("{path}.TargetBackupVaultName"),
            rule.target_backup_vault_name,
        )?,
        schedule: rule.schedule_expression,
        timezone: rule.schedule_expression_timezone,
        start_window_minutes: rule.start_window_minutes,
        completion_window_minutes: rule.completion_window_minutes,
        lifecycle: lifecycle(&format!("{path}."), rule.lifecycle)?,
        recovery_point_tags: map(rule.recovery_point_tags),
    })
}

pub(crate) async fn create(
    app: &App,
    caller: &Caller,
    input: CreateBackupPlanInput,
) -> Result<CreateBackupPlanOutput, AppError> {
    let new = NewPlan {
        document: document(needed("BackupPlan", input.backup_plan)?)?,
        tags: map(input.backup_plan_tags),
        creator_request_id: input.creator_request_id,
    };
    let plan = app.create_backup_plan(caller, new).await?;
    Ok(CreateBackupPlanOutput {
        advanced_backup_settings: None,
        backup_plan_arn: arn(&plan.arn),
        backup_plan_id: Some(plan.id),
        creation_date: time(plan.created_at),
        version_id: Some(plan.version_id),
    })
}

pub(crate) async fn update(
    app: &App,
    caller: &Caller,
    input: UpdateBackupPlanInput,
) -> Result<UpdateBackupPlanOutput, AppError> {
    let id = needed("BackupPlanId", input.backup_plan_id)?;
    let document = document(needed("BackupPlan", input.backup_plan)?)?;
    let plan = app.update_backup_plan(caller, &id, &document).await?;
    Ok(UpdateBackupPlanOutput {
        backup_plan_arn: arn(&plan.arn),
        backup_plan_id: Some(plan.id),
        creation_date: time(plan.created_at),
        version_id: Some(plan.version_id),
        ..UpdateBackupPlanOutput::default()
    })
}

pub(crate) async fn get(
    app: &App,
    caller: &Caller,
    input: GetBackupPlanInput,
) -> Result<GetBackupPlanOutput, AppError> {
    let id = needed("BackupPlanId", input.backup_plan_id)?;
    let preview = input.max_scheduled_runs_preview.unwrap_or(0);
    let count = usize::try_from(preview).unwrap_or(0);
    let version = input.version_id.as_deref();
    let PlanView { plan, next_runs } = app.get_backup_plan(caller, &id, version, count).await?;
    let runs = next_runs.into_iter().map(|run| ScheduledPlanExecutionMember {
        execution_time: time(run.at),
        rule_execution_type: Some(RuleExecutionType::Snapshots),
        rule_id: Some(run.rule_id),
    });
    Ok(GetBackupPlanOutput {
        advanced_backup_settings: None,
        backup_plan: Some(types::BackupPlan {
            backup_plan_name: Some(plan.name.clone()),
            rules: Some(plan.rules.iter().map(wire_rule).collect()),
            ..types::BackupPlan::default()
        }),
        backup_plan_arn: arn(&plan.arn),
        creation_date: time(plan.created_at),
        deletion_date: plan.deleted_at.and_then(time),
        last_execution_date: plan.last_execution_at.and_then(time),
        scheduled_runs_preview: (count > 0).then(|| runs.collect()),
        creator_request_id: plan.creator_request_id,
        backup_plan_id: Some(plan.id),
        version_id: Some(plan.version_id),
    })
}

fn wire_rule(rule: &BackupRule) -> types::BackupRule {
    types::BackupRule {
        completion_window_minutes: Some(rule.completion_window_minutes),
        enable_continuous_backup: Some(false),
        lifecycle: wire_lifecycle(&rule.lifecycle),
        recovery_point_tags: (!rule.recovery_point_tags.is_empty())
            .then(|| rule.recovery_point_tags.clone()),
        rule_id: Some(rule.id.clone()),
        rule_name: Some(rule.name.clone()),
        schedule_expression: Some(rule.schedule.as_str().to_owned()),
        schedule_expression_timezone: Some(rule.timezone.clone()),
        start_window_minutes: Some(rule.start_window_minutes),
        target_backup_vault_name: Some(rule.target_vault.clone()),
        ..types::BackupRule::default()
    }
}

fn member(plan: BackupPlan) -> BackupPlansListMember {
    BackupPlansListMember {
        advanced_backup_settings: None,
        backup_plan_arn: arn(&plan.arn),
        backup_plan_id: Some(plan.id),
        backup_plan_name: Some(plan.name),
        creation_date: time(plan.created_at),
        creator_request_id: plan.creator_request_id,
        deletion_date: plan.deleted_at.and_then(time),
        last_execution_date: plan.last_execution_at.and_then(time),
        version_id: Some(plan.version_id),
    }
}

pub(crate) async fn list(
    app: &App,
    caller: &Caller,
    input: ListBackupPlansInput,
) -> Result<ListBackupPlansOutput, AppError> {
    let paging = paging(input.max_results, input.next_token);
    let deleted = input.include_deleted == Some(true);
    let listing = app.list_backup_plans(caller, deleted, &paging).await?;
    let (backup_plans_list, next_token) = page(listing, member);
    Ok(ListBackupPlansOutput { backup_plans_list, next_token })
}

pub(crate) async fn list_versions(
    app: &App,
    caller: &Caller,
    input: ListBackupPlanVersionsInput,
) -> Result<ListBackupPlanVersionsOutput, AppError> {
    let id = needed("BackupPlanId", input.backup_plan_id)?;
    let paging = paging(input.max_results, input.next_token);
    let listing = app.list_backup_plan_versions(caller, &id, &paging).await?;
    let (backup_plan_versions_list, next_token) = page(listing, member);
    Ok(ListBackupPlanVersionsOutput { backup_plan_versions_list, next_token })
}

pub(crate) async fn delete(
    app: &App,
    caller: &Caller,
    input: DeleteBackupPlanInput,
) -> Result<DeleteBackupPlanOutput, AppError> {
    let id = needed("BackupPlanId", input.backup_plan_id)?;
    let plan = app.delete_backup_plan(caller, &id).await?;
    Ok(DeleteBackupPlanOutput {
        backup_plan_arn: arn(&plan.arn),
        backup_plan_id: Some(plan.id),
        deletion_date: plan.deleted_at.and_then(time),
        version_id: Some(plan.version_id),
    })
}

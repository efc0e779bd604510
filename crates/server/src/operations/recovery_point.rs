//! Recovery points.

use provault_app::{App, AppError, Caller, PointByVaultFilter, PointView};
use provault_domain::RecoveryPoint;
use provault_wire::NoOutput;
use provault_wire::enums::{EncryptionKeyType, RecoveryPointStatus, StorageClass, VaultType};
use provault_wire::types::{
    CalculatedLifecycle, DeleteRecoveryPointInput, DescribeRecoveryPointInput,
    DescribeRecoveryPointOutput, GetRecoveryPointRestoreMetadataInput,
    GetRecoveryPointRestoreMetadataOutput, GetRestoreTestingInferredMetadataInput,
    GetRestoreTestingInferredMetadataOutput, ListRecoveryPointsByBackupVaultInput,
    ListRecoveryPointsByBackupVaultOutput, ListRecoveryPointsByResourceInput,
    ListRecoveryPointsByResourceOutput, RecoveryPointByBackupVault, RecoveryPointByResource,
};

use crate::convert::{arn, creator, moment, needed, page, paging, size, time, wire_lifecycle};

#[allow(clippy::unnecessary_wraps)] // members of an output are all optional
fn status(point: &RecoveryPoint) -> Option<RecoveryPointStatus> {
    Some(RecoveryPointStatus::from(point.shown_status().as_str()))
}

/// The members that two shapes of a recovery point share.
macro_rules! wire {
    ($shape:ident, $view:expr) => {{
        let PointView { point, delete_at } = $view;
        $shape {
            backup_size_in_bytes: size(point.backup_size_bytes),
            backup_vault_arn: arn(&point.vault_arn),
            calculated_lifecycle: delete_at.map(|at| CalculatedLifecycle {
                delete_at: time(at),
                move_to_cold_storage_at: None,
            }),
            completion_date: time(point.completed_at),
            created_by: creator(point.created_by.as_ref()),
            creation_date: time(point.created_at),
            encryption_key_arn: arn(&point.encryption_key_arn),
            encryption_key_type: Some(EncryptionKeyType::CustomerManagedKmsKey),
            iam_role_arn: arn(&point.role_arn),
            initiation_date: time(point.created_at),
            is_encrypted: Some(true),
            is_parent: Some(false),
            last_restore_time: point.last_restore_at.and_then(time),
            lifecycle: wire_lifecycle(&point.lifecycle),
            recovery_point_arn: arn(&point.arn),
            resource_arn: arn(&point.resource_arn),
            resource_type: Some(point.kind.resource_type().to_owned()),
            status: status(&point),
            status_message: point.shown_message(),
            vault_type: Some(VaultType::BackupVault),
            backup_vault_name: Some(point.vault_name),
            resource_name: Some(point.resource_name),
            ..$shape::default()
        }
    }};
}

pub(crate) async fn describe(
    app: &App,
    caller: &Caller,
    input: DescribeRecoveryPointInput,
) -> Result<DescribeRecoveryPointOutput, AppError> {
    let vault = needed("BackupVaultName", input.backup_vault_name)?;
    let point = needed("RecoveryPointArn", input.recovery_point_arn)?;
    let account = input.backup_vault_account_id.as_deref();
    let view = app.describe_recovery_point(caller, &vault, &point, account).await?;
    let output = wire!(DescribeRecoveryPointOutput, view);
    Ok(DescribeRecoveryPointOutput { storage_class: Some(StorageClass::Warm), ..output })
}

pub(crate) async fn restore_metadata(
    app: &App,
    caller: &Caller,
    input: GetRecoveryPointRestoreMetadataInput,
) -> Result<GetRecoveryPointRestoreMetadataOutput, AppError> {
    let vault = needed("BackupVaultName", input.backup_vault_name)?;
    let point = needed("RecoveryPointArn", input.recovery_point_arn)?;
    let account = input.backup_vault_account_id.as_deref();
    let (point, metadata) = app.restore_metadata(caller, &vault, &point, account).await?;
    Ok(GetRecoveryPointRestoreMetadataOutput {
        backup_vault_arn: arn(&point.vault_arn),
        recovery_point_arn: arn(&point.arn),
        resource_type: Some(point.kind.resource_type().to_owned()),
        restore_metadata: Some(metadata),
    })
}

pub(crate) async fn inferred_metadata(
    app: &App,
    caller: &Caller,
    input: GetRestoreTestingInferredMetadataInput,
) -> Result<GetRestoreTestingInferredMetadataOutput, AppError> {
    let vault = needed("BackupVaultName", input.backup_vault_name)?;
    let point = needed("RecoveryPointArn", input.recovery_point_arn)?;
    let account = input.backup_vault_account_id.as_deref();
    let metadata = app.restore_testing_inferred_metadata(caller, &vault, &point, account).await?;
    Ok(GetRestoreTestingInferredMetadataOutput { inferred_metadata: Some(metadata) })
}

pub(crate) async fn list_by_vault(
    app: &App,
    caller: &Caller,
    input: ListRecoveryPointsByBackupVaultInput,
) -> Result<ListRecoveryPointsByBackupVaultOutput, AppError> {
    let vault = needed("BackupVaultName", input.backup_vault_name)?;
    let filter = PointByVaultFilter {
        account: input.backup_vault_account_id,
        resource_arn: input.by_resource_arn,
        resource_type: input.by_resource_type,
        plan_id: input.by_backup_plan_id,
        created_after: moment("ByCreatedAfter", input.by_created_after)?,
        created_before: moment("ByCreatedBefore", input.by_created_before)?,
        parent_arn: input.by_parent_recovery_point_arn,
    };
    let paging = paging(input.max_results, input.next_token);
    let listing = app.list_recovery_points_by_vault(caller, &vault, &filter, &paging).await?;
    let (recovery_points, next_token) =
        page(listing, |view| wire!(RecoveryPointByBackupVault, view));
    Ok(ListRecoveryPointsByBackupVaultOutput { next_token, recovery_points })
}

pub(crate) async fn list_by_resource(
    app: &App,
    caller: &Caller,
    input: ListRecoveryPointsByResourceInput,
) -> Result<ListRecoveryPointsByResourceOutput, AppError> {
    let resource = needed("ResourceArn", input.resource_arn)?;
    let paging = paging(input.max_results, input.next_token);
    let listing = app.list_recovery_points_by_resource(caller, &resource, &paging).await?;
    let (recovery_points, next_token) = page(listing, |view| {
        let point = view.point;
        RecoveryPointByResource {
            backup_size_bytes: size(point.backup_size_bytes),
            creation_date: time(point.created_at),
            encryption_key_arn: arn(&point.encryption_key_arn),
            encryption_key_type: Some(EncryptionKeyType::CustomerManagedKmsKey),
            is_parent: Some(false),
            recovery_point_arn: arn(&point.arn),
            status: status(&point),
            status_message: point.shown_message(),
            vault_type: Some(VaultType::BackupVault),
            backup_vault_name: Some(point.vault_name),
            resource_name: Some(point.resource_name),
            ..RecoveryPointByResource::default()
        }
    });
    Ok(ListRecoveryPointsByResourceOutput { next_token, recovery_points })
}

pub(crate) async fn delete(
    app: &App,
    caller: &Caller,
    input: DeleteRecoveryPointInput,
) -> Result<NoOutput, AppError> {
    let vault = needed("BackupVaultName", input.backup_vault_name)?;
    let point = needed("RecoveryPointArn", input.recovery_point_arn)?;
    app.delete_recovery_point(caller, &vault, &point).await?;
    Ok(NoOutput {})
}

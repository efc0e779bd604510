//! Backup vaults.

use provault_app::{App, AppError, Caller, NewVault, VaultView};
use provault_wire::NoOutput;
use provault_wire::enums::{EncryptionKeyType, VaultState, VaultType};
use provault_wire::types::{
    BackupVaultListMember, CreateBackupVaultInput, CreateBackupVaultOutput, DeleteBackupVaultInput,
    DescribeBackupVaultInput, DescribeBackupVaultOutput, ListBackupVaultsInput,
    ListBackupVaultsOutput,
};

use crate::convert::{arn, map, needed, page, paging, size, time};

pub(crate) async fn create(
    app: &App,
    caller: &Caller,
    input: CreateBackupVaultInput,
) -> Result<CreateBackupVaultOutput, AppError> {
    let new = NewVault {
        name: needed("BackupVaultName", input.backup_vault_name)?,
        tags: map(input.backup_vault_tags),
        encryption_key_arn: input.encryption_key_arn,
        creator_request_id: input.creator_request_id,
    };
    let vault = app.create_backup_vault(caller, new).await?;
    Ok(CreateBackupVaultOutput {
        backup_vault_arn: arn(&vault.arn),
        backup_vault_name: Some(vault.name),
        creation_date: time(vault.created_at),
    })
}

pub(crate) async fn describe(
    app: &App,
    caller: &Caller,
    input: DescribeBackupVaultInput,
) -> Result<DescribeBackupVaultOutput, AppError> {
    let name = needed("BackupVaultName", input.backup_vault_name)?;
    caller.check_own_account("BackupVaultAccountId", input.backup_vault_account_id.as_deref())?;
    let VaultView { vault, recovery_points } = app.describe_backup_vault(caller, &name).await?;
    Ok(DescribeBackupVaultOutput {
        backup_vault_arn: arn(&vault.arn),
        backup_vault_name: Some(vault.name),
        creation_date: time(vault.created_at),
        creator_request_id: vault.creator_request_id,
        encryption_key_arn: arn(&vault.encryption_key_arn),
        encryption_key_type: Some(EncryptionKeyType::CustomerManagedKmsKey),
        locked: Some(false),
        number_of_recovery_points: size(recovery_points),
        vault_state: Some(VaultState::Available),
        vault_type: Some(VaultType::BackupVault),
        ..DescribeBackupVaultOutput::default()
    })
}

pub(crate) async fn list(
    app: &App,
    caller: &Caller,
    input: ListBackupVaultsInput,
) -> Result<ListBackupVaultsOutput, AppError> {
    let other_type = input.by_vault_type.is_some_and(|wanted| wanted != VaultType::BackupVault);
    let listing = if other_type || input.by_shared == Some(true) {
        app.list_no_vaults(caller)?
    } else {
        app.list_backup_vaults(caller, &paging(input.max_results, input.next_token)).await?
    };
    let (backup_vault_list, next_token) = page(listing, |view| BackupVaultListMember {
        backup_vault_arn: arn(&view.vault.arn),
        backup_vault_name: Some(view.vault.name),
        creation_date: time(view.vault.created_at),
        creator_request_id: view.vault.creator_request_id,
        encryption_key_arn: arn(&view.vault.encryption_key_arn),
        encryption_key_type: Some(EncryptionKeyType::CustomerManagedKmsKey),
        locked: Some(false),
        number_of_recovery_points: size(view.recovery_points),
        vault_state: Some(VaultState::Available),
        vault_type: Some(VaultType::BackupVault),
        ..BackupVaultListMember::default()
    });
    Ok(ListBackupVaultsOutput { backup_vault_list, next_token })
}

pub(crate) async fn delete(
    app: &App,
    caller: &Caller,
    input: DeleteBackupVaultInput,
) -> Result<NoOutput, AppError> {
    let name = needed("BackupVaultName", input.backup_vault_name)?;
    app.delete_backup_vault(caller, &name).await?;
    Ok(NoOutput {})
}

//! Where a vault's events go.

use provault_app::{App, AppError, Caller};
use provault_wire::NoOutput;
use provault_wire::enums::BackupVaultEvent;
use provault_wire::types::{
    DeleteBackupVaultNotificationsInput, GetBackupVaultNotificationsInput,
    GetBackupVaultNotificationsOutput, PutBackupVaultNotificationsInput,
};

use crate::convert::{arn, needed};

pub(crate) async fn put(
    app: &App,
    caller: &Caller,
    input: PutBackupVaultNotificationsInput,
) -> Result<NoOutput, AppError> {
    let name = needed("BackupVaultName", input.backup_vault_name)?;
    let topic = needed("SNSTopicArn", input.sns_topic_arn)?;
    let events = needed("BackupVaultEvents", input.backup_vault_events)?;
    let events = events.iter().map(|event| event.as_str().to_owned()).collect();
    app.put_backup_vault_notifications(caller, &name, &topic, events).await?;
    Ok(NoOutput {})
}

pub(crate) async fn get(
    app: &App,
    caller: &Caller,
    input: GetBackupVaultNotificationsInput,
) -> Result<GetBackupVaultNotificationsOutput, AppError> {
    let name = needed("BackupVaultName", input.backup_vault_name)?;
    let (vault, setting) = app.get_backup_vault_notifications(caller, &name).await?;
    let events = setting.events.iter().map(|event| BackupVaultEvent::from(event.as_str()));
    Ok(GetBackupVaultNotificationsOutput {
        backup_vault_arn: arn(&vault.arn),
        backup_vault_events: Some(events.collect()),
        backup_vault_name: Some(vault.name),
        sns_topic_arn: arn(&setting.topic_arn),
    })
}

pub(crate) async fn delete(
    app: &App,
    caller: &Caller,
    input: DeleteBackupVaultNotificationsInput,
) -> Result<NoOutput, AppError> {
    let name = needed("BackupVaultName", input.backup_vault_name)?;
    app.delete_backup_vault_notifications(caller, &name).await?;
    Ok(NoOutput {})
}

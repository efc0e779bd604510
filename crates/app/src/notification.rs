//! Where a vault's events go.

use provault_domain::Arn;
use provault_domain::vault::{BackupVault, VaultNotifications};

use crate::{App, AppError, Caller, Result};

/// AWS's `BackupVaultEvent`: every event a vault may ask for. Those of things that this server does
/// not have (copies, indexes, access points) are accepted and never come.
pub const BACKUP_VAULT_EVENTS: [&str; 32] = [
    "BACKUP_JOB_STARTED",
    "BACKUP_JOB_COMPLETED",
    "BACKUP_JOB_SUCCESSFUL",
    "BACKUP_JOB_FAILED",
    "BACKUP_JOB_EXPIRED",
    "RESTORE_JOB_STARTED",
    "RESTORE_JOB_COMPLETED",
    "RESTORE_JOB_SUCCESSFUL",
    "RESTORE_JOB_FAILED",
    "COPY_JOB_STARTED",
    "COPY_JOB_SUCCESSFUL",
    "COPY_JOB_FAILED",
    "RECOVERY_POINT_MODIFIED",
    "BACKUP_PLAN_CREATED",
    "BACKUP_PLAN_MODIFIED",
    "S3_BACKUP_OBJECT_FAILED",
    "S3_RESTORE_OBJECT_FAILED",
    "CONTINUOUS_BACKUP_INTERRUPTED",
    "RECOVERY_POINT_INDEX_COMPLETED",
    "RECOVERY_POINT_INDEX_DELETED",
    "RECOVERY_POINT_INDEXING_FAILED",
    "EKS_RESTORE_OBJECT_FAILED",
    "EKS_RESTORE_OBJECT_SKIPPED",
    "EKS_BACKUP_OBJECT_FAILED",
    "EKS_RESTORE_MODIFICATION_SUCCESS",
    "EKS_RESTORE_MODIFICATION_FAILED",
    "ACCESS_POINT_AVAILABLE",
    "ACCESS_POINT_CREATION_FAILED",
    "ACCESS_POINT_DELETED",
    "ACCESS_POINT_DELETION_FAILED",
    "ACCESS_POINT_EXPIRED",
    "ACCESS_POINT_DISASSOCIATED",
];

impl App {
    /// `PutBackupVaultNotifications`: replaces the vault's setting.
    pub async fn put_backup_vault_notifications(
        &self,
        caller: &Caller,
        name: &str,
        topic_arn: &str,
        events: Vec<String>,
    ) -> Result<()> {
        const ACTION: &str = "backup:PutBackupVaultNotifications";
        let arn = self.vault_arn(caller, name);
        self.audited(caller, ACTION, &arn, async {
            self.permit(caller, ACTION, &arn)?;
            self.vault_named(caller, name).await?;
            if events.is_empty() {
                return Err(AppError::invalid(
                    "BackupVaultEvents",
                    "name at least one event; to send none, delete the setting.",
                ));
            }
            for event in &events {
                if !BACKUP_VAULT_EVENTS.contains(&event.as_str()) {
                    return Err(AppError::invalid(
                        "BackupVaultEvents",
                        format!(
                            "'{event}' is not an event of a vault; such are BACKUP_JOB_COMPLETED \
                             and RESTORE_JOB_COMPLETED."
                        ),
                    ));
                }
            }
            let unknown = || {
                AppError::invalid(
                    "SNSTopicArn",
                    format!(
                        "'{topic_arn}' is not a topic of this server; make one with `provault topic \
                         add NAME`, which prints its ARN."
                    ),
                )
            };
            let topic: Arn = topic_arn.parse().map_err(|_| unknown())?;
            let topic = match self.catalog().topic(&topic).await? {
                Some(topic) if topic.account == *caller.account() => topic,
                _ => return Err(unknown()),
            };
            let setting = VaultNotifications { topic_arn: topic.arn, events };
            let catalog = self.catalog();
            Ok(catalog.set_vault_notifications(caller.account(), name, Some(setting)).await?)
        })
        .await
    }

    /// `GetBackupVaultNotifications`: the vault and its setting.
    pub async fn get_backup_vault_notifications(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<(BackupVault, VaultNotifications)> {
        let arn = self.vault_arn(caller, name);
        self.permit(caller, "backup:GetBackupVaultNotifications", &arn)?;
        let vault = self.vault_named(caller, name).await?;
        match vault.notifications.clone() {
            Some(setting) => Ok((vault, setting)),
            None => Err(AppError::not_found(format!(
                "Backup vault '{name}' has no notification setting; make one with \
                 put-backup-vault-notifications."
            ))),
        }
    }

    /// `DeleteBackupVaultNotifications`. Deleting what is not there is no error, as in AWS.
    pub async fn delete_backup_vault_notifications(
        &self,
        caller: &Caller,
        name: &str,
    ) -> Result<()> {
        const ACTION: &str = "backup:DeleteBackupVaultNotifications";
        let arn = self.vault_arn(caller, name);
        self.audited(caller, ACTION, &arn, async {
            self.permit(caller, ACTION, &arn)?;
            self.vault_named(caller, name).await?;
            Ok(self.catalog().set_vault_notifications(caller.account(), name, None).await?)
        })
        .await
    }
}

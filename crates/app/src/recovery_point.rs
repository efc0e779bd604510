//! Recovery points.

use std::collections::BTreeMap;

use jiff::Timestamp;
use provault_catalog::PointFilter;
use provault_domain::{Arn, Kind, RecoveryPoint, RecoveryPointStatus};

use crate::paging::List;
use crate::{App, AppError, Caller, Listing, Paging, Result};

/// Which recovery points of a vault are wanted; what is absent does not narrow.
#[derive(Debug, Clone, Default)]
pub struct PointByVaultFilter {
    /// The account of the vault; only the caller's own.
    pub account: Option<String>,
    /// Of this resource.
    pub resource_arn: Option<String>,
    /// Of resources of this AWS resource type.
    pub resource_type: Option<String>,
    /// Made by this plan.
    pub plan_id: Option<String>,
    /// Created after.
    pub created_after: Option<Timestamp>,
    /// Created before.
    pub created_before: Option<Timestamp>,
    /// Children of this recovery point; none here has any.
    pub parent_arn: Option<String>,
}

/// A recovery point and what follows from its retention.
#[derive(Debug, Clone)]
pub struct PointView {
    /// The point.
    pub point: RecoveryPoint,
    /// When it will be deleted, unless it is kept for ever.
    pub delete_at: Option<Timestamp>,
}

impl From<RecoveryPoint> for PointView {
    fn from(point: RecoveryPoint) -> Self {
        Self { delete_at: point.lifecycle.delete_at(point.created_at), point }
    }
}

fn unknown(arn: &str) -> AppError {
    AppError::not_found(format!(
        "There is no recovery point '{arn}'; see list-recovery-points-by-backup-vault for those \
         there are."
    ))
}

fn arn_of(member: &str, text: &str) -> Result<Arn> {
    text.parse::<Arn>()
        .map_err(|why| AppError::invalid(member, why.message.trim_start_matches("Arn: ")))
}

impl App {
    /// A recovery point that has to exist.
    pub(crate) async fn point(&self, caller: &Caller, arn: &str) -> Result<RecoveryPoint> {
        let parsed: Arn = arn.parse().map_err(|_| unknown(arn))?;
        let found = self.catalog().recovery_point(caller.account(), &parsed).await?;
        found.ok_or_else(|| unknown(arn))
    }

    /// A recovery point to which the caller may do `action`: to it and in its vault.
    pub(crate) async fn permitted_point(
        &self,
        caller: &Caller,
        action: &str,
        arn: &str,
    ) -> Result<RecoveryPoint> {
        let found = self.point(caller, arn).await;
        self.permit_found(caller, action, arn, found, |point| {
            vec![self.vault_arn(caller, &point.vault_name).to_string(), point.arn.to_string()]
        })
    }

    /// A recovery point that has to lie in the vault named, and the caller be allowed `action` on both.
    async fn point_in(
        &self,
        caller: &Caller,
        action: &str,
        vault: &str,
        arn: &str,
    ) -> Result<RecoveryPoint> {
        self.permit(caller, action, self.vault_arn(caller, vault))?;
        self.vault_named(caller, vault).await?;
        let point = self.point(caller, arn).await?;
        if point.vault_name == vault {
            self.permit(caller, action, &point.arn)?;
            return Ok(point);
        }
        Err(AppError::not_found(format!(
            "Recovery point '{arn}' is not in backup vault '{vault}'; it is in '{}'.",
            point.vault_name
        )))
    }

    /// `DescribeRecoveryPoint`.
    pub async fn describe_recovery_point(
        &self,
        caller: &Caller,
        vault: &str,
        arn: &str,
        account: Option<&str>,
    ) -> Result<PointView> {
        const ACTION: &str = "backup:DescribeRecoveryPoint";
        caller.check_own_account("BackupVaultAccountId", account)?;
        Ok(self.point_in(caller, ACTION, vault, arn).await?.into())
    }

    /// `GetRecoveryPointRestoreMetadata`: what goes back, edited, into `StartRestoreJob`.
    pub async fn restore_metadata(
        &self,
        caller: &Caller,
        vault: &str,
        arn: &str,
        account: Option<&str>,
    ) -> Result<(RecoveryPoint, BTreeMap<String, String>)> {
        const ACTION: &str = "backup:GetRecoveryPointRestoreMetadata";
        caller.check_own_account("BackupVaultAccountId", account)?;
        let point = self.point_in(caller, ACTION, vault, arn).await?;
        let metadata = point.restore_metadata.clone();
        Ok((point, metadata))
    }

    /// `ListRecoveryPointsByBackupVault`.
    pub async fn list_recovery_points_by_vault(
        &self,
        caller: &Caller,
        vault: &str,
        filter: &PointByVaultFilter,
        paging: &Paging,
    ) -> Result<Listing<PointView>> {
        const ACTION: &str = "backup:ListRecoveryPointsByBackupVault";
        self.permit(caller, ACTION, self.vault_arn(caller, vault))?;
        caller.check_own_account("BackupVaultAccountId", filter.account.as_deref())?;
        self.vault_named(caller, vault).await?;
        let list = List::new(caller, "ListRecoveryPointsByBackupVault", &(vault, filter));
        let page = self.page(&list, paging)?;
        let kind = match filter.resource_type.as_deref() {
            None => None,
            Some(wanted) => match Kind::ALL.into_iter().find(|k| k.resource_type() == wanted) {
                Some(kind) => Some(kind),
                None => return Ok(Listing::empty()),
            },
        };
        let resource_arn =
            filter.resource_arn.as_deref().map(|arn| arn_of("ByResourceArn", arn)).transpose()?;
        if filter.parent_arn.is_some() {
            return Ok(Listing::empty());
        }
        let wanted = PointFilter {
            account: Some(caller.account().clone()),
            vault_name: Some(vault.to_owned()),
            resource_arn,
            kind,
            created_after: filter.created_after,
            created_before: filter.created_before,
            plan_id: filter.plan_id.clone(),
            ..PointFilter::default()
        };
        let listed = self.catalog().list_recovery_points(&wanted, page).await?;
        Ok(self.listing(&list, listed)?.map(PointView::from))
    }

    /// `ListRecoveryPointsByResource`. Every point here is managed by this server, so
    /// `ManagedByAWSBackupOnly` changes nothing.
    pub async fn list_recovery_points_by_resource(
        &self,
        caller: &Caller,
        resource: &str,
        paging: &Paging,
    ) -> Result<Listing<PointView>> {
        let arn = arn_of("ResourceArn", resource)?;
        self.permit(caller, "backup:ListRecoveryPointsByResource", &arn)?;
        let list = List::new(caller, "ListRecoveryPointsByResource", &arn);
        let page = self.page(&list, paging)?;
        let wanted = PointFilter {
            account: Some(caller.account().clone()),
            resource_arn: Some(arn),
            ..PointFilter::default()
        };
        let listed = self.catalog().list_recovery_points(&wanted, page).await?;
        Ok(self.listing(&list, listed)?.map(PointView::from))
    }

    /// `GetRestoreTestingInferredMetadata`: what a restore test of this point begins with. Where the
    /// copy goes (`targetPath`) is the test's own and new each time.
    pub async fn restore_testing_inferred_metadata(
        &self,
        caller: &Caller,
        vault: &str,
        arn: &str,
        account: Option<&str>,
    ) -> Result<BTreeMap<String, String>> {
        const ACTION: &str = "backup:GetRestoreTestingInferredMetadata";
        caller.check_own_account("BackupVaultAccountId", account)?;
        Ok(self.point_in(caller, ACTION, vault, arn).await?.restore_metadata)
    }

    /// `DeleteRecoveryPoint`. Refused while a restore or a restore test uses it.
    pub async fn delete_recovery_point(
        &self,
        caller: &Caller,
        vault: &str,
        arn: &str,
    ) -> Result<()> {
        const ACTION: &str = "backup:DeleteRecoveryPoint";
        self.audited(caller, ACTION, arn, async {
            let point = self.point_in(caller, ACTION, vault, arn).await?;
            // Deleting twice is deleting once.
            if point.status == RecoveryPointStatus::Deleting {
                return Ok(());
            }
            Ok(self.engine().delete_recovery_point(caller.account(), &point.arn).await?)
        })
        .await
    }
}

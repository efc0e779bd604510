//! How recovery points are kept, beside the lifecycle of each.

use provault_domain::{RecoveryPoint, RetentionSettings};

use crate::{App, AppError, Caller, ResourceView, Result};

/// Settings to change; what is absent stays, and 0 switches something off.
#[derive(Debug, Clone, Copy, Default)]
pub struct RetentionUpdate {
    /// See [`RetentionSettings::shrink_alarm_percent`].
    pub shrink_alarm_percent: Option<u32>,
    /// See [`RetentionSettings::keep_at_most`].
    pub keep_at_most: Option<u32>,
}

impl RetentionUpdate {
    pub(crate) fn applied_to(self, mut settings: RetentionSettings) -> RetentionSettings {
        if let Some(percent) = self.shrink_alarm_percent {
            settings.shrink_alarm_percent = (percent > 0).then_some(percent);
        }
        if let Some(limit) = self.keep_at_most {
            settings.keep_at_most = (limit > 0).then_some(limit);
        }
        settings
    }
}

impl App {
    /// `provault:UpdateRetention`, of a resource by name or ARN.
    pub async fn update_retention(
        &self,
        caller: &Caller,
        name: &str,
        update: RetentionUpdate,
    ) -> Result<ResourceView> {
        const ACTION: &str = "provault:UpdateRetention";
        self.audited(caller, ACTION, name, async {
            let resource = self.permitted_resource(caller, ACTION, name).await?;
            let change = |settings| {
                let settings = update.applied_to(settings);
                settings.validate().map(|()| settings)
            };
            let resource = self.catalog().set_retention(&resource.arn, change).await??;
            self.resource_view(caller, resource).await
        })
        .await
    }

    /// `provault:DescribeRecoveryPoint`: what the point is worth to retention.
    pub async fn point_retention(&self, caller: &Caller, arn: &str) -> Result<RecoveryPoint> {
        self.permitted_point(caller, "provault:DescribeRecoveryPoint", arn).await
    }

    /// `provault:AcceptRecoveryPoint`: the caller says that a shrunk point is right so. It counts as
    /// good from now on, and later ones are compared with it.
    pub async fn accept_recovery_point(&self, caller: &Caller, arn: &str) -> Result<RecoveryPoint> {
        const ACTION: &str = "provault:AcceptRecoveryPoint";
        self.audited(caller, ACTION, arn, async {
            let point = self.permitted_point(caller, ACTION, arn).await?;
            if point.shrunk.is_none() {
                return Err(AppError::refused(format!(
                    "Recovery point {arn} is not marked as shrunk; there is nothing to accept."
                )));
            }
            Ok(self.catalog().accept_point(caller.account(), &point.arn, self.now()).await?)
        })
        .await
    }
}

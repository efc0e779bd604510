//! Restore tests.

use provault_catalog::{JobFilter, Page};
use provault_domain::{Arn, RestoreTest};

use crate::{App, AppError, Caller, Result};

/// What a restore test is to test.
#[derive(Debug, Clone)]
pub enum TestTarget {
    /// The newest recovery point of this resource (name or ARN).
    Resource(String),
    /// This recovery point.
    RecoveryPoint(String),
}

/// How many tests a list holds at most.
const LONGEST_LIST: usize = 1000;

impl App {
    /// `provault:StartRestoreTest`.
    pub async fn start_restore_test(
        &self,
        caller: &Caller,
        target: &TestTarget,
    ) -> Result<RestoreTest> {
        const ACTION: &str = "provault:StartRestoreTest";
        let (TestTarget::Resource(named) | TestTarget::RecoveryPoint(named)) = target;
        self.audited(caller, ACTION, named, async {
            let test = match target {
                TestTarget::Resource(name) => {
                    let resource = self.permitted_resource(caller, ACTION, name).await?;
                    let newest = self
                        .catalog()
                        .newest_recovery_point(caller.account(), &resource.arn, self.now())
                        .await?;
                    let Some(newest) = newest else {
                        return Err(AppError::refused(format!(
                            "Resource '{}' has no recovery point to test; back it up first.",
                            resource.name
                        )));
                    };
                    let test = self.engine().new_restore_test(&resource, None);
                    RestoreTest { vault_name: Some(newest.vault_name), ..test }
                }
                TestTarget::RecoveryPoint(arn) => {
                    let found = self.point(caller, arn).await;
                    let point = self.permit_found(caller, ACTION, arn, found, |point| {
                        vec![point.resource_arn.to_string()]
                    })?;
                    if !point.is_restorable() {
                        return Err(AppError::refused(format!(
                            "Recovery point {arn} is {} and can no longer be tested.",
                            point.status
                        )));
                    }
                    // The resource says how to start and ask the application.
                    let resource = self.registered(caller, point.resource_arn.as_str()).await?;
                    let test = self.engine().new_restore_test(&resource, Some(point.arn));
                    RestoreTest { vault_name: Some(point.vault_name), ..test }
                }
            };
            self.catalog().insert_job(&test).await?;
            self.engine().wake();
            Ok(test)
        })
        .await
    }

    async fn restore_test_of(&self, caller: &Caller, id: &str) -> Result<RestoreTest> {
        self.catalog().job::<RestoreTest>(caller.account(), id).await?.ok_or_else(|| {
            AppError::not_found(format!(
                "There is no restore test '{id}'; see `provault restore-test list`."
            ))
        })
    }

    /// `provault:DescribeRestoreTest`.
    pub async fn describe_restore_test(&self, caller: &Caller, id: &str) -> Result<RestoreTest> {
        self.permitted_test(caller, "provault:DescribeRestoreTest", id).await
    }

    /// A restore test of a resource to which the caller may do `action`.
    async fn permitted_test(&self, caller: &Caller, action: &str, id: &str) -> Result<RestoreTest> {
        let found = self.restore_test_of(caller, id).await;
        self.permit_found(caller, action, id, found, |test| vec![test.resource_arn.to_string()])
    }

    /// `provault:ListRestoreTests`, of one resource or of all, newest first, at most a thousand.
    pub async fn list_restore_tests(
        &self,
        caller: &Caller,
        resource_arn: Option<&str>,
    ) -> Result<Vec<RestoreTest>> {
        self.permit(caller, "provault:ListRestoreTests", "*")?;
        let resource_arn = resource_arn.map(str::parse::<Arn>).transpose()?;
        let filter = JobFilter {
            account: Some(caller.account().clone()),
            resource_arn,
            ..JobFilter::default()
        };
        let mut tests = self.catalog().list_jobs::<RestoreTest>(&filter, Page::all()).await?.items;
        tests.reverse();
        tests.truncate(LONGEST_LIST);
        Ok(tests)
    }

    /// `provault:StopRestoreTest`: what it made is removed, the verdict is INCONCLUSIVE.
    pub async fn stop_restore_test(&self, caller: &Caller, id: &str) -> Result<()> {
        const ACTION: &str = "provault:StopRestoreTest";
        self.audited(caller, ACTION, id, async {
            self.permitted_test(caller, ACTION, id).await?;
            let reason = format!("Stopped by {}.", caller.principal());
            Box::pin(self.engine().stop_restore_test(caller.account(), id, &reason)).await?;
            Ok(())
        })
        .await
    }
}

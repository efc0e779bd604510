//! What a resource, a selection or a plan says about restore tests after its backups.

use std::fmt;

use provault_domain::backup_testing::WHOLE_SHARE;
use provault_domain::plan::DEFAULT_TIMEZONE;
use provault_domain::{Arn, BackupTesting, DailyWindow};

use crate::{App, AppError, Caller, Result};

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestingOf<'a> {
    /// A resource, by name or ARN.
    Resource(&'a str),
    /// A plan, by id.
    Plan(&'a str),
    /// A selection, by the ids of its plan and itself.
    Selection {
        /// The plan.
        plan: &'a str,
        /// The selection.
        id: &'a str,
    },
}

impl fmt::Display for TestingOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource(name) => write!(f, "resource '{name}'"),
            Self::Plan(id) => write!(f, "backup plan '{id}'"),
            Self::Selection { plan, id } => write!(f, "selection '{id}' of backup plan '{plan}'"),
        }
    }
}

/// What is to be said.
#[derive(Debug, Clone, Default)]
pub struct TestingDocument {
    /// Whether a restore test follows.
    pub test_after_backup: bool,
    /// See [`BackupTesting::share_percent`]; all points when absent.
    pub share_percent: Option<u32>,
    /// See [`BackupTesting::window`].
    pub window: Option<WindowDocument>,
    /// See [`BackupTesting::at_once`].
    pub tests_at_once: Option<u32>,
}

/// A part of the day.
#[derive(Debug, Clone)]
pub struct WindowDocument {
    /// `HH:MM`.
    pub from: String,
    /// `HH:MM`.
    pub to: String,
    /// IANA name; UTC when absent.
    pub timezone: Option<String>,
}

/// The names of the actions, by whom they are about.
struct Actions {
    describe: &'static str,
    put: &'static str,
    delete: &'static str,
}

impl TestingOf<'_> {
    fn actions(self) -> Actions {
        match self {
            Self::Resource(_) => Actions {
                describe: "provault:DescribeResourceTesting",
                put: "provault:PutResourceTesting",
                delete: "provault:DeleteResourceTesting",
            },
            Self::Plan(_) => Actions {
                describe: "provault:DescribePlanTesting",
                put: "provault:PutPlanTesting",
                delete: "provault:DeletePlanTesting",
            },
            Self::Selection { .. } => Actions {
                describe: "provault:DescribeSelectionTesting",
                put: "provault:PutSelectionTesting",
                delete: "provault:DeleteSelectionTesting",
            },
        }
    }
}

impl App {
    /// `provault:Describe…Testing`: what is said, if anything is.
    pub async fn backup_testing(
        &self,
        caller: &Caller,
        of: TestingOf<'_>,
    ) -> Result<Option<BackupTesting>> {
        self.permit_testing(caller, of.actions().describe, of).await?;
        self.testing_said(caller, of).await
    }

    /// `provault:Put…Testing`: in place of what was said.
    pub async fn put_backup_testing(
        &self,
        caller: &Caller,
        of: TestingOf<'_>,
        document: TestingDocument,
    ) -> Result<BackupTesting> {
        let action = of.actions().put;
        self.audited(caller, action, &of.to_string(), async {
            self.permit_testing(caller, action, of).await?;
            let window = document.window.map(|window| {
                let zone = window.timezone.as_deref().unwrap_or(DEFAULT_TIMEZONE);
                DailyWindow::parse(&window.from, &window.to, zone)
            });
            let testing = BackupTesting {
                enabled: document.test_after_backup,
                share_percent: document.share_percent.unwrap_or(WHOLE_SHARE),
                window: window.transpose().map_err(|invalid| invalid.within("Window"))?,
                at_once: document.tests_at_once,
                set_at: self.now(),
            };
            testing.validate()?;
            self.say(caller, of, Some(&testing)).await?;
            Ok(testing)
        })
        .await
    }

    /// `provault:Delete…Testing`: nothing is said any more.
    pub async fn delete_backup_testing(&self, caller: &Caller, of: TestingOf<'_>) -> Result<()> {
        let action = of.actions().delete;
        self.audited(caller, action, &of.to_string(), async {
            self.permit_testing(caller, action, of).await?;
            if self.testing_said(caller, of).await?.is_none() {
                return Err(AppError::not_found(format!(
                    "The {of} says nothing about restore tests after backups; there is nothing to \
                     delete."
                )));
            }
            self.say(caller, of, None).await
        })
        .await
    }

    /// Decided on the resource, or on the plan, also for its selections.
    async fn permit_testing(&self, caller: &Caller, action: &str, of: TestingOf<'_>) -> Result<()> {
        match of {
            TestingOf::Resource(name) => {
                self.permitted_resource(caller, action, name).await.map(drop)
            }
            TestingOf::Plan(plan) | TestingOf::Selection { plan, .. } => {
                self.permit(caller, action, self.plan_arn(caller, plan))
            }
        }
    }

    async fn testing_said(
        &self,
        caller: &Caller,
        of: TestingOf<'_>,
    ) -> Result<Option<BackupTesting>> {
        let account = caller.account();
        Ok(match of {
            TestingOf::Resource(name) => self.resource_named(caller, name).await?.testing,
            TestingOf::Plan(id) => {
                let plan = self.live_plan(caller, id).await?;
                self.catalog().plan_testing(account, &plan.id).await?
            }
            TestingOf::Selection { plan, id } => {
                let selection = self.selection_of(caller, plan, id).await?;
                self.catalog().selection_testing(account, &selection.id).await?
            }
        })
    }

    async fn say(
        &self,
        caller: &Caller,
        of: TestingOf<'_>,
        testing: Option<&BackupTesting>,
    ) -> Result<()> {
        let account = caller.account();
        match of {
            TestingOf::Resource(name) => {
                let arn: Arn = self.resource_named(caller, name).await?.arn;
                let testing = testing.cloned();
                self.catalog().update_resource(&arn, |resource| resource.testing = testing).await?;
            }
            TestingOf::Plan(id) => {
                let plan = self.live_plan(caller, id).await?;
                self.catalog().set_plan_testing(account, &plan.id, testing).await?;
            }
            TestingOf::Selection { plan, id } => {
                let selection = self.selection_of(caller, plan, id).await?;
                self.catalog().set_selection_testing(account, plan, &selection.id, testing).await?;
            }
        }
        Ok(())
    }
}

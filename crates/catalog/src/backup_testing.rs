//! What plans and selections say about restore tests after their backups, and whose turn it is.

use std::collections::HashMap;

use jiff::Timestamp;
use provault_domain::backup_testing::take_turn;
use provault_domain::recovery_point::PointVerdict;
use provault_domain::{AccountId, BackupTesting, RestoreTest, RestoreTestEvent, restore_test};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::error::{CatalogError, Result};
use crate::page::{Select, from_body, to_body};
use crate::pool::{Catalog, transact};
use crate::{evidence, job_store, recovery_point};

/// What all plans and selections of an account say, by their ids; those that say nothing are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TestingSettings {
    /// Of plans.
    pub plans: HashMap<String, BackupTesting>,
    /// Of selections.
    pub selections: HashMap<String, BackupTesting>,
}

const PLAN: &str = "SELECT id, testing FROM plans";
const SELECTION: &str = "SELECT id, testing FROM selections";

impl Catalog {
    /// What a plan says; nothing where there is no such plan, or it is deleted.
    pub async fn plan_testing(
        &self,
        account: &AccountId,
        plan_id: &str,
    ) -> Result<Option<BackupTesting>> {
        let query = Select::new(PLAN).and("account =", account).and("id =", plan_id);
        said(query.row(&self.read).await?.as_ref())
    }

    /// What a selection says; nothing where there is no such selection.
    pub async fn selection_testing(
        &self,
        account: &AccountId,
        selection_id: &str,
    ) -> Result<Option<BackupTesting>> {
        let query = Select::new(SELECTION).and("account =", account).and("id =", selection_id);
        said(query.row(&self.read).await?.as_ref())
    }

    /// What all plans and selections of an account say.
    pub async fn testing_settings(&self, account: &AccountId) -> Result<TestingSettings> {
        let mut settings = TestingSettings::default();
        for (query, found) in [(PLAN, &mut settings.plans), (SELECTION, &mut settings.selections)] {
            let rows = Select::new(query)
                .and("account =", account)
                .only("testing IS NOT NULL")
                .rows(&self.read)
                .await?;
            for row in rows {
                if let Some(testing) = said(Some(&row))? {
                    found.insert(row.try_get("id")?, testing);
                }
            }
        }
        Ok(settings)
    }

    /// Sets what a plan that is not deleted says, or that it says nothing.
    pub async fn set_plan_testing(
        &self,
        account: &AccountId,
        plan_id: &str,
        testing: Option<&BackupTesting>,
    ) -> Result<()> {
        let text = testing.map(to_body).transpose()?;
        transact!(self, |tx| {
            let written = sqlx::query(
                "UPDATE plans SET testing = $1 \
                 WHERE id = $2 AND account = $3 AND deleted_at IS NULL",
            )
            .bind(text.clone())
            .bind(plan_id.to_owned())
            .bind(account.to_string())
            .execute(&mut *tx)
            .await?;
            match written.rows_affected() {
                0 => Err(CatalogError::not_found(format!("backup plan {plan_id}"))),
                _ => Ok(()),
            }
        })
    }

    /// Sets what a selection says, or that it says nothing.
    pub async fn set_selection_testing(
        &self,
        account: &AccountId,
        plan_id: &str,
        selection_id: &str,
        testing: Option<&BackupTesting>,
    ) -> Result<()> {
        let text = testing.map(to_body).transpose()?;
        transact!(self, |tx| {
            let written = sqlx::query(
                "UPDATE selections SET testing = $1 WHERE id = $2 AND plan_id = $3 AND account = $4",
            )
            .bind(text.clone())
            .bind(selection_id.to_owned())
            .bind(plan_id.to_owned())
            .bind(account.to_string())
            .execute(&mut *tx)
            .await?;
            match written.rows_affected() {
                0 => Err(CatalogError::not_found(format!("backup selection {selection_id}"))),
                _ => Ok(()),
            }
        })
    }
}

fn said(row: Option<&AnyRow>) -> Result<Option<BackupTesting>> {
    let Some(row) = row else { return Ok(None) };
    row.try_get::<Option<String>, _>("testing")?.as_deref().map(from_body).transpose()
}

/// Adds the test that follows a backup when it is the point's turn by the share of its budget. Else it is
/// added all the same, as one that was passed over: with evidence, and a mark on the point. Nothing is added
/// of a resource that is no longer registered.
pub(crate) async fn follow_backup(
    tx: &mut AnyConnection,
    test: &RestoreTest,
    now: Timestamp,
) -> Result<()> {
    let query = Select::new("SELECT test_credit FROM resources").and("arn =", &test.resource_arn);
    let Some(row) = query.row(&mut *tx).await? else { return Ok(()) };
    let credit: Option<i64> = row.try_get("test_credit")?;
    let share = test.budget.as_ref().map_or(100, |budget| budget.share_percent);
    let (turn, credit) = take_turn(credit.and_then(|credit| u32::try_from(credit).ok()), share);
    sqlx::query("UPDATE resources SET test_credit = $1 WHERE arn = $2")
        .bind(i64::from(credit))
        .bind(test.resource_arn.to_string())
        .execute(&mut *tx)
        .await?;
    if turn {
        return job_store::insert(tx, test).await;
    }
    let said_by = test.budget.as_ref().map_or("", |budget| budget.said_by.as_str());
    let reason = format!(
        "left out: {share} % of the recovery points are tested (set by {said_by}), and this is none of \
         them."
    );
    let (passed_over, _) = restore_test::step(test, RestoreTestEvent::PassedOver { reason }, now)?;
    job_store::insert(tx, &passed_over).await?;
    record_passed_over(tx, &passed_over, false, now).await
}

/// The evidence of a test that was passed over, and the mark on its point, unless the point has a verdict
/// by another test. The mark tells whether the test was overtaken by that of a newer point.
pub(crate) async fn record_passed_over(
    tx: &mut AnyConnection,
    test: &RestoreTest,
    overtaken: bool,
    now: Timestamp,
) -> Result<()> {
    if let (Some(arn), Some(verdict)) = (&test.requested_point, test.verdict) {
        let mark = PointVerdict { overtaken, ..PointVerdict::of(verdict, &test.id, now) };
        recovery_point::alter(tx, arn, |point| {
            point.last_verdict.get_or_insert(mark);
        })
        .await?;
    }
    let body = from_body(&to_body(test)?)?;
    evidence::append(tx, &test.account, &body, now).await
}

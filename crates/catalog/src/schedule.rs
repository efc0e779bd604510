//! Schedules: each due moment of a rule makes its jobs exactly once.

use jiff::Timestamp;
use provault_domain::BackupJob;
use sqlx::{AnyConnection, Row};

use crate::error::{CatalogError, Result};
use crate::job_store;
use crate::page::{Select, micros, moment};
use crate::pool::{Catalog, transact};

impl Catalog {
    /// Up to which moment the rule's schedule has been carried out; `None` when it never was.
    pub async fn schedule_mark(&self, plan_id: &str, rule_id: &str) -> Result<Option<Timestamp>> {
        let query = mark(plan_id, rule_id);
        let row = query.row(&self.read).await?;
        row.map(|row| moment(row.try_get("mark")?)).transpose()
    }

    /// Moves a rule's mark from `from` to `to` and inserts the jobs that became due in between,
    /// together or not at all. `false` when nothing was done: the mark is no longer at `from`
    /// because another server was faster, or the plan was deleted. With jobs, the plan's last
    /// execution becomes `to`.
    pub async fn advance_schedule(
        &self,
        plan_id: &str,
        rule_id: &str,
        from: Option<Timestamp>,
        to: Timestamp,
        jobs: &[BackupJob],
    ) -> Result<bool> {
        transact!(self, |tx| {
            let plan = Select::new("SELECT deleted_at FROM plans").and("id =", plan_id);
            let Some(plan) = plan.row(&mut *tx).await? else {
                return Err(CatalogError::not_found(format!("backup plan {plan_id}")));
            };
            if plan.try_get::<Option<i64>, _>("deleted_at")?.is_some() {
                return Ok(false);
            }
            if !swap_mark(tx, plan_id, rule_id, from, to).await? {
                return Ok(false);
            }
            for job in jobs {
                job_store::insert(tx, job).await?;
            }
            if !jobs.is_empty() {
                sqlx::query("UPDATE plans SET last_execution_at = $1 WHERE id = $2")
                    .bind(micros(to))
                    .bind(plan_id.to_owned())
                    .execute(&mut *tx)
                    .await?;
            }
            Ok(true)
        })
    }
}

fn mark(plan_id: &str, rule_id: &str) -> Select {
    Select::new("SELECT mark FROM schedule_marks")
        .and("plan_id =", plan_id)
        .and("rule_id =", rule_id)
}

async fn swap_mark(
    tx: &mut AnyConnection,
    plan_id: &str,
    rule_id: &str,
    from: Option<Timestamp>,
    to: Timestamp,
) -> Result<bool> {
    let Some(from) = from else {
        if mark(plan_id, rule_id).row(&mut *tx).await?.is_some() {
            return Ok(false);
        }
        sqlx::query("INSERT INTO schedule_marks (plan_id, rule_id, mark) VALUES ($1, $2, $3)")
            .bind(plan_id.to_owned())
            .bind(rule_id.to_owned())
            .bind(micros(to))
            .execute(tx)
            .await?;
        return Ok(true);
    };
    let moved = sqlx::query(
        "UPDATE schedule_marks SET mark = $1 WHERE plan_id = $2 AND rule_id = $3 AND mark = $4",
    )
    .bind(micros(to))
    .bind(plan_id.to_owned())
    .bind(rule_id.to_owned())
    .bind(micros(from))
    .execute(tx)
    .await?;
    Ok(moved.rows_affected() == 1)
}

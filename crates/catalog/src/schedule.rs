//! Schedules: each due moment of a rule makes its jobs exactly once.

use jiff::Timestamp;
use provault_domain::{BackupJob, BackupJobEvent, BackupPlan};
use sqlx::{AnyConnection, Row};

use crate::error::{CatalogError, Result};
use crate::page::{Select, body, micros, moment};
use crate::pool::{Catalog, transact};
use crate::{change, job_store};

/// A job that became due, and what happens to it at once: one whose time is over already must not
/// wait for a worker.
pub type DueJob = (BackupJob, Option<BackupJobEvent>);

impl Catalog {
    /// Up to which moment the rule's schedule has been carried out; `None` when it never was.
    pub async fn schedule_mark(&self, plan_id: &str, rule_id: &str) -> Result<Option<Timestamp>> {
        let query = mark(plan_id, rule_id);
        let row = query.row(&self.read).await?;
        row.map(|row| moment(row.try_get("mark")?)).transpose()
    }

    /// Moves a rule's mark from `from` to `to` and inserts the jobs that became due in between, with
    /// what happens to them at once, together or not at all. `false` when nothing was done: the mark
    /// is no longer at `from` because another server was faster, `plan` is no longer its newest
    /// version, or the plan was deleted. With jobs, the plan's last execution becomes `to`.
    pub async fn advance_schedule(
        &self,
        plan: &BackupPlan,
        rule_id: &str,
        from: Option<Timestamp>,
        to: Timestamp,
        jobs: &[DueJob],
    ) -> Result<bool> {
        let plan_id = &plan.id;
        let stepped: Option<Vec<BackupJob>> = transact!(self, |tx| {
            let row = Select::new("SELECT deleted_at, body FROM plans").and("id =", plan_id);
            let Some(row) = row.row(&mut *tx).await? else {
                return Err(CatalogError::not_found(format!("backup plan {plan_id}")));
            };
            // What an old version says is carried out before a new one takes its place.
            let newest: BackupPlan = body(&row)?;
            if row.try_get::<Option<i64>, _>("deleted_at")?.is_some()
                || newest.version_id != plan.version_id
                || !swap_mark(tx, plan_id, rule_id, from, to).await?
            {
                return Ok(None);
            }
            let mut stepped = Vec::new();
            for (job, event) in jobs {
                job_store::insert(tx, job).await?;
                if let Some(event) = event {
                    let (account, id) = (&job.account, job.id.as_str());
                    stepped.push(change::step(tx, account, id, None, event.clone(), to).await?);
                }
            }
            if !jobs.is_empty() {
                sqlx::query("UPDATE plans SET last_execution_at = $1 WHERE id = $2")
                    .bind(micros(to))
                    .bind(plan_id.clone())
                    .execute(&mut *tx)
                    .await?;
            }
            Ok(Some(stepped))
        })?;
        let Some(stepped) = stepped else { return Ok(false) };
        for (job, event) in stepped.iter().zip(jobs.iter().filter_map(|(_, event)| event.as_ref()))
        {
            change::log_end(job, event);
        }
        Ok(true)
    }
}

/// The schedules of a version that is new begin with it, whatever the rules said before. A rule whose
/// mark is further ahead keeps it: it has been carried out up to there.
pub(crate) async fn begin(tx: &mut AnyConnection, plan: &BackupPlan) -> Result<()> {
    for rule in &plan.rules {
        sqlx::query(
            "INSERT INTO schedule_marks (plan_id, rule_id, mark) VALUES ($1, $2, $3) \
             ON CONFLICT (plan_id, rule_id) DO UPDATE SET mark = CASE \
             WHEN schedule_marks.mark > excluded.mark THEN schedule_marks.mark \
             ELSE excluded.mark END",
        )
        .bind(plan.id.clone())
        .bind(rule.id.clone())
        .bind(micros(plan.created_at))
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
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

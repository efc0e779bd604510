//! The log of a job: every change of state and every timed step, in order.

use jiff::{SignedDuration, Timestamp};
use provault_domain::{AccountId, StepRecord};
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::error::{CatalogError, Result};
use crate::lease::{self, Claim};
use crate::page::{Select, from_body, micros, moment, to_body};
use crate::pool::{Catalog, transact};

/// One line of a job's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEvent {
    /// 1, 2, 3, … in the job.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// The state the job was in afterwards; `None` for a step that changed nothing.
    pub state: Option<String>,
    /// The timed step, if the line is about one.
    pub step: Option<StepRecord>,
    /// What happened, for people.
    pub message: String,
}

impl Catalog {
    /// Adds a step to a job's log without changing the job. With a claim, it must still hold.
    pub async fn log_step(
        &self,
        job_id: &str,
        claim: Option<&Claim>,
        step: &StepRecord,
    ) -> Result<()> {
        transact!(self, |tx| {
            lease::check(claim, job_id, lease::generation(tx, job_id).await?)?;
            let row =
                sqlx::query("UPDATE jobs SET events = events + 1 WHERE id = $1 RETURNING events")
                    .bind(job_id.to_owned())
                    .fetch_optional(&mut *tx)
                    .await?
                    .ok_or_else(|| CatalogError::not_found(format!("job {job_id}")))?;
            let millis = i64::try_from(step.millis).unwrap_or(i64::MAX);
            let ended = step.started_at.checked_add(SignedDuration::from_millis(millis));
            let event = JobEvent {
                seq: row.try_get("events")?,
                at: ended.unwrap_or(step.started_at),
                state: None,
                step: Some(step.clone()),
                message: format!("{}: {}", step.name, step.detail),
            };
            insert(tx, job_id, &event).await
        })
    }

    /// The log of an account's job; empty when there is no such job.
    pub async fn job_log(&self, account: &AccountId, job_id: &str) -> Result<Vec<JobEvent>> {
        let job = Select::new("SELECT id FROM jobs").and("id =", job_id).and("account =", account);
        if job.row(&self.read).await?.is_none() {
            return Ok(Vec::new());
        }
        let rows = Select::new("SELECT seq, at, state, message, step FROM job_events")
            .and("job_id =", job_id)
            .then("ORDER BY seq")
            .rows(&self.read)
            .await?;
        rows.iter().map(event).collect()
    }
}

fn event(row: &AnyRow) -> Result<JobEvent> {
    let step: Option<String> = row.try_get("step")?;
    Ok(JobEvent {
        seq: row.try_get("seq")?,
        at: moment(row.try_get("at")?)?,
        state: row.try_get("state")?,
        step: step.as_deref().map(from_body).transpose()?,
        message: row.try_get("message")?,
    })
}

pub(crate) async fn insert(tx: &mut AnyConnection, job_id: &str, event: &JobEvent) -> Result<()> {
    sqlx::query(
        "INSERT INTO job_events (job_id, seq, at, state, message, step) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(job_id.to_owned())
    .bind(event.seq)
    .bind(micros(event.at))
    .bind(event.state.clone())
    // PostgreSQL's text cannot hold NUL; a driver's message might.
    .bind(event.message.replace('\0', "\u{fffd}"))
    .bind(event.step.as_ref().map(to_body).transpose()?)
    .execute(tx)
    .await?;
    Ok(())
}

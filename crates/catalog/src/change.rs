//! The one way a job changes: a step of its state machine, and everything that belongs to it, in
//! one transaction.

use jiff::Timestamp;
use provault_domain::care::VaultAlarm;
use provault_domain::recovery_point::{PointCondition, PointVerdict};
use provault_domain::verdict::MutantResult;
use provault_domain::{
    AccountId, Arn, Effect, Exemption, RecoveryPoint, Resource, RestoreJob, RestoreJobEvent,
    RestoreTest, Tags, Verdict,
};
use sqlx::{AnyConnection, Row};

use crate::error::{CatalogError, Result};
use crate::job::Job;
use crate::job_event::JobEvent;
use crate::lease::{self, Claim};
use crate::page::{Select, body, micros, to_body};
use crate::pool::{Catalog, any, transact};
use crate::{
    absence, backup_testing, care, delivery, evidence, job_event, job_store, mutant,
    recovery_point, resource, retention,
};

/// Something that is written together with a step of a job, or not at all.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A new recovery point with its tags. Its vault must exist. It is marked, and told of, when it
    /// holds much less than the newest good one before it.
    InsertRecoveryPoint(Box<RecoveryPoint>, Tags),
    /// A new restore job.
    InsertRestoreJob(Box<RestoreJob>),
    /// The restore test that follows a backup, if it is its recovery point's turn by the share of points
    /// that are tested; else the record that the point was left out.
    TestAfterBackup(Box<RestoreTest>),
    /// What belongs to a test that the step passed over for that of a newer point: its evidence, and the mark
    /// on its point.
    PassedOver(Box<RestoreTest>),
    /// A new resource and its driver's name for it.
    InsertResource(Box<Resource>, String),
    /// Exempts a resource, in place of an exemption it has. The resource must exist, or come before
    /// this.
    Exempt(Box<Exemption>),
    /// The newest verdict on a recovery point. A point that is gone by now is passed over: the
    /// verdict stands in the evidence, and the test must be able to end.
    PointVerdict(Arn, PointVerdict),
    /// A recovery point was restored at this moment; passed over when the point is gone by now.
    PointRestored(Arn, Timestamp),
    /// What is wrong with a recovery point, or that nothing is any more; passed over when the
    /// point is gone by now.
    PointCondition(Arn, Option<PointCondition>),
    /// An alarm about a vault that stands from now on, or no longer where there is no message. Who
    /// is told is the step's to say.
    VaultAlarm(Arn, VaultAlarm, Option<String>),
    /// A step of a restore job of the same account, with its own log line and notifications.
    StepRestoreJob(String, RestoreJobEvent),
    /// A record at the end of the account's chain of evidence, recorded at the step's `now`.
    AppendEvidence(AccountId, serde_json::Value),
    /// What negative controls answered, for the next test with the same probes.
    PutMutants {
        /// The resource.
        resource_arn: Arn,
        /// Names the probes and the driver's mutants they were tried on.
        probe_version: String,
        /// The answers.
        results: Vec<MutantResult>,
    },
}

impl Catalog {
    /// Lets `event` happen to a job: reads it, asks the domain for the new job and its effects,
    /// and writes job, log line, outbox rows and `changes` in one transaction. Nothing of it
    /// remains when any part fails.
    ///
    /// With a claim the job's generation must still be the claim's, else
    /// [`CatalogError::Fenced`]; without one (a request from outside, a reconciler that holds
    /// none) only the state decides. Ending the job ends its lease, and so does an event after which it
    /// waits again, or for somebody outside: whoever comes first may take it.
    pub async fn step_job<J: Job>(
        &self,
        account: &AccountId,
        id: &str,
        claim: Option<&Claim>,
        event: J::Event,
        now: Timestamp,
        changes: Vec<Change>,
    ) -> Result<J> {
        let job: J = transact!(self, |tx| {
            let job: J = step(tx, account, id, claim, event.clone(), now).await?;
            for change in &changes {
                make(tx, account, change, now).await?;
            }
            Ok(job)
        })?;
        log_end(&job, &event);
        Ok(job)
    }
}

/// Tells the server's log of a job that this event has ended, and how. To be called when it is
/// committed.
pub(crate) fn log_end<J: Job>(job: &J, event: &J::Event) {
    let Some(note) = J::note(event).filter(|_| job.is_final()) else { return };
    let (id, state, resource, vault) =
        (job.id(), job.state_name(), job.resource_arn(), job.vault_name());
    let (name, how, verdict) = (J::NAME, note.message, job.verdict().map(Verdict::as_str));
    let bad = |verdict| !matches!(verdict, "PASSED" | "NOT_TESTED");
    if matches!(state, "FAILED" | "PARTIAL" | "EXPIRED") || verdict.is_some_and(bad) {
        tracing::warn!(id, state, verdict, %resource, vault, "{name} {how}");
    } else {
        tracing::info!(id, state, verdict, %resource, vault, "{name} {how}");
    }
}

pub(crate) async fn step<J: Job>(
    tx: &mut AnyConnection,
    account: &AccountId,
    id: &str,
    claim: Option<&Claim>,
    event: J::Event,
    now: Timestamp,
) -> Result<J> {
    let row = Select::new("SELECT body, version, generation, events, slot FROM jobs")
        .and("id =", id)
        .and("type =", J::TYPE)
        .and("account =", account)
        .row(&mut *tx)
        .await?
        .ok_or_else(|| CatalogError::not_found(format!("{} {id}", J::NAME)))?;
    let generation: i64 = row.try_get("generation")?;
    lease::check(claim, id, generation)?;
    let old: J = body(&row)?;
    let note = J::note(&event);
    let (job, effects) = old.apply(event, now)?;

    let mut events: i64 = row.try_get("events")?;
    if let Some(note) = note {
        events += 1;
        let line = JobEvent {
            seq: events,
            at: now,
            state: (job.state_name() != old.state_name()).then(|| job.state_name().to_owned()),
            step: note.step,
            message: note.message,
        };
        job_event::insert(tx, id, &line).await?;
    }
    // A claimed job that still waits has taken its slot with the claim.
    let given_back = job.state_name() == J::WAITING && old.state_name() != J::WAITING;
    let slot = match row.try_get::<Option<String>, _>("slot")? {
        Some(held) if !job.is_final() && !given_back => Some(held),
        _ => job_store::slot(&job),
    };
    if let Some(resource) = &slot {
        let taken = "SELECT 1 FROM jobs WHERE slot = $1 AND id <> $2";
        if any(tx, taken, &[resource, id]).await? {
            let detail = "another job of the same type is working on it.";
            return Err(CatalogError::in_use(format!("resource {resource}"), detail));
        }
    }
    let done = i64::from(job.is_final());
    let free = i64::from(job.is_final() || given_back || job.is_on_hold());
    let written = sqlx::query(
        "UPDATE jobs SET body = $1, state = $2, done = $3, completed_at = $4, vault_name = $5, \
         recovery_point_arn = $6, slot = $7, events = $8, version = version + 1, \
         owner = CASE WHEN $9 = 1 THEN NULL ELSE owner END, \
         lease_until = CASE WHEN $10 = 1 THEN 0 ELSE lease_until END \
         WHERE id = $11 AND version = $12 AND generation = $13",
    )
    .bind(to_body(&job)?)
    .bind(job.state_name())
    .bind(done)
    .bind(job.completed_at().map(micros))
    .bind(job.vault_name().map(str::to_owned))
    .bind(job.recovery_point_arn().map(Arn::to_string))
    .bind(slot)
    .bind(events)
    .bind(free)
    .bind(free)
    .bind(id.to_owned())
    .bind(row.try_get::<i64, _>("version")?)
    .bind(generation)
    .execute(&mut *tx)
    .await?;
    if written.rows_affected() == 0 {
        return Err(CatalogError::conflict(format!("{} {id}", J::NAME)));
    }
    for effect in effects {
        match effect {
            Effect::Notify(notification) => delivery::enqueue(tx, &notification, now).await?,
        }
    }
    Ok(job)
}

async fn make(
    tx: &mut AnyConnection,
    account: &AccountId,
    change: &Change,
    now: Timestamp,
) -> Result<()> {
    match change {
        Change::InsertRecoveryPoint(point, tags) => {
            retention::insert_judged(tx, point, tags, now).await
        }
        Change::InsertRestoreJob(job) => job_store::insert(tx, &**job).await,
        Change::TestAfterBackup(test) => backup_testing::follow_backup(tx, test, now).await,
        Change::PassedOver(test) => backup_testing::record_passed_over(tx, test, true, now).await,
        Change::InsertResource(new, identity) => resource::insert(tx, new, identity).await,
        Change::Exempt(exemption) => absence::exempt(tx, exemption).await,
        Change::PointVerdict(arn, verdict) => {
            recovery_point::alter(tx, arn, |point| point.last_verdict = Some(verdict.clone()))
                .await?;
            Ok(())
        }
        Change::PointRestored(arn, at) => {
            recovery_point::alter(tx, arn, |point| point.last_restore_at = Some(*at)).await?;
            Ok(())
        }
        Change::PointCondition(arn, condition) => {
            recovery_point::alter(tx, arn, |point| point.condition.clone_from(condition)).await?;
            Ok(())
        }
        Change::VaultAlarm(vault, alarm, message) => {
            care::set_alarm(tx, vault, *alarm, message.as_deref(), now).await
        }
        Change::StepRestoreJob(id, event) => {
            step::<RestoreJob>(tx, account, id, None, event.clone(), now).await?;
            Ok(())
        }
        Change::AppendEvidence(account, record) => evidence::append(tx, account, record, now).await,
        Change::PutMutants { resource_arn, probe_version, results } => {
            mutant::put(tx, resource_arn, probe_version, results).await
        }
    }
}

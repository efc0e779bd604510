//! Leases: which worker carries out which job, and how long that is believed.
//!
//! A claim gives a job to one worker until a moment, under a number (the generation) that only
//! ever grows. A worker that is late (suspended, cut off, slow) finds at its next write that the
//! number has moved on, and is refused. Leases are about who may write; whether a late worker
//! still touches other things is for the effects themselves to bear.

use jiff::Timestamp;
use provault_domain::AccountId;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row};

use crate::change;
use crate::error::{CatalogError, Result};
use crate::job::Job;
use crate::page::{Select, body, micros, readable};
use crate::pool::{Catalog, transact};

/// A worker's right to carry out a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The job.
    pub job_id: String,
    /// The worker.
    pub owner: String,
    /// The fencing number of this claim.
    pub generation: i64,
}

/// A job and the right to carry it out.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed<J> {
    /// The job as of the claim.
    pub job: J,
    /// The right.
    pub claim: Claim,
}

/// Gives the row to an owner. A backup job takes the resource's slot with it.
const TAKE: &str = "UPDATE jobs SET owner = $1, lease_until = $2, generation = generation + 1, \
     slot = CASE WHEN type = 'BACKUP' THEN resource_arn ELSE slot END ";

/// Nobody else backs the same resource up. Other types have no slot.
const SLOT_FREE: &str = "NOT EXISTS (SELECT 1 FROM jobs other \
     WHERE j.type = 'BACKUP' AND other.slot = j.resource_arn AND other.id <> j.id)";

impl Catalog {
    /// Claims the oldest waiting job of the type without a live lease; of backup jobs, the oldest
    /// whose resource no other one is working on. Restores that a restore test drives are left to
    /// it. One that cannot be read is passed over and told of: it must not hold up the others. The
    /// state does not change: the worker reports `Started` itself.
    pub async fn claim_job<J: Job>(
        &self,
        owner: &str,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<Claimed<J>>> {
        let next = format!(
            "SELECT j.id, j.created_at, j.body FROM jobs j WHERE j.type = $1 AND j.state = $2 \
             AND j.done = 0 AND j.test_owned = 0 AND j.lease_until <= $3 AND {SLOT_FREE} \
             AND (j.created_at > $4 OR (j.created_at = $4 AND j.id > $5)) \
             ORDER BY j.created_at, j.id LIMIT 1"
        );
        // What was found is true until the commit, so that the row needs no second look.
        let take = format!("{TAKE} WHERE id = $3 RETURNING id, generation, body");
        transact!(self, |tx| {
            let mut passed = (i64::MIN, String::new());
            loop {
                let found = sqlx::query(sqlx::AssertSqlSafe(next.clone()))
                    .bind(J::TYPE)
                    .bind(J::WAITING)
                    .bind(micros(now))
                    .bind(passed.0)
                    .bind(passed.1)
                    .fetch_optional(&mut *tx)
                    .await?;
                let Some(row) = found else { break Ok(None) };
                let id: String = row.try_get("id")?;
                if let Err(error) = body::<J>(&row) {
                    self.told.once::<J>(&id, &error);
                    passed = (row.try_get("created_at")?, id);
                    continue;
                }
                let row = sqlx::query(sqlx::AssertSqlSafe(take.clone()))
                    .bind(owner.to_owned())
                    .bind(micros(lease_until))
                    .bind(id)
                    .fetch_one(&mut *tx)
                    .await?;
                break claimed(&row, owner).map(Some);
            }
        })
    }

    /// Claims a certain job, in whatever unfinished state, unless somebody holds a live lease on
    /// it or another backup of the same resource is being made.
    pub async fn claim_job_by_id<J: Job>(
        &self,
        id: &str,
        owner: &str,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Option<Claimed<J>>> {
        let sql = format!(
            "{TAKE} WHERE id = (SELECT j.id FROM jobs j WHERE j.id = $3 AND j.type = $4 \
             AND j.done = 0 AND j.lease_until <= $5 AND {SLOT_FREE}) \
             RETURNING id, generation, body"
        );
        transact!(self, |tx| {
            let row = sqlx::query(sqlx::AssertSqlSafe(sql.clone()))
                .bind(owner.to_owned())
                .bind(micros(lease_until))
                .bind(id.to_owned())
                .bind(J::TYPE)
                .bind(micros(now))
                .fetch_optional(&mut *tx)
                .await?;
            row.map(|row| claimed(&row, owner)).transpose()
        })
    }

    /// Prolongs a lease, also one that has run out while nobody else took the job. Refuses with
    /// [`CatalogError::Fenced`] once somebody did, or once the job has ended. `now` must lie
    /// before `lease_until`.
    pub async fn renew_lease(
        &self,
        claim: &Claim,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<()> {
        if lease_until <= now {
            return Err(CatalogError::conflict(format!(
                "the lease on job {} (until {lease_until}, and it is {now})",
                claim.job_id
            )));
        }
        transact!(self, |tx| {
            let renewed = sqlx::query(
                "UPDATE jobs SET lease_until = $1 \
                 WHERE id = $2 AND owner = $3 AND generation = $4 AND done = 0",
            )
            .bind(micros(lease_until))
            .bind(claim.job_id.clone())
            .bind(claim.owner.clone())
            .bind(claim.generation)
            .execute(&mut *tx)
            .await?;
            if renewed.rows_affected() == 0 {
                return Err(CatalogError::Fenced { job_id: claim.job_id.clone() });
            }
            Ok(())
        })
    }

    /// Lets `event` happen to a job that waits and gives it back: nobody may claim it before `until`.
    /// Its resource is free for other jobs meanwhile.
    pub async fn put_off<J: Job>(
        &self,
        account: &AccountId,
        claim: &Claim,
        event: J::Event,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<J> {
        transact!(self, |tx| {
            let id = claim.job_id.as_str();
            let job: J = change::step(tx, account, id, Some(claim), event.clone(), now).await?;
            sqlx::query(
                "UPDATE jobs SET owner = NULL, slot = NULL, lease_until = $1, \
                 generation = generation + 1 WHERE id = $2 AND done = 0",
            )
            .bind(micros(until))
            .bind(id.to_owned())
            .execute(&mut *tx)
            .await?;
            Ok(job)
        })
    }

    /// Ends the pause of a job that was put off: it may be claimed at once. One that somebody holds, or that is
    /// not there, stays as it is.
    pub async fn call_back(&self, id: &str) -> Result<()> {
        transact!(self, |tx| {
            sqlx::query(
                "UPDATE jobs SET lease_until = 0 WHERE id = $1 AND owner IS NULL AND done = 0",
            )
            .bind(id.to_owned())
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
    }

    /// Voids every lease that is not `owner`'s, on jobs and deliveries, and fences their holders.
    /// For the start of the only server of a catalog: whoever held them is a process that is
    /// gone. Answers with the number of jobs set free.
    pub async fn release_leases_of_others(&self, owner: &str) -> Result<u64> {
        transact!(self, |tx| {
            let released = sqlx::query(
                "UPDATE jobs SET owner = NULL, lease_until = 0, generation = generation + 1 \
                 WHERE done = 0 AND owner IS NOT NULL AND owner <> $1",
            )
            .bind(owner.to_owned())
            .execute(&mut *tx)
            .await?;
            sqlx::query(
                "UPDATE deliveries SET owner = NULL, lease_until = 0 \
                 WHERE state = 'WAITING' AND owner IS NOT NULL AND owner <> $1",
            )
            .bind(owner.to_owned())
            .execute(&mut *tx)
            .await?;
            Ok(released.rows_affected())
        })
    }

    /// Jobs that were begun and have no live lease: their worker is gone, a reconciler must end
    /// or go on with them. One that cannot be read is told of, and does not keep it from the others.
    pub async fn abandoned_jobs<J: Job>(&self, now: Timestamp) -> Result<Vec<J>> {
        let rows = Select::new("SELECT body FROM jobs")
            .and("type =", J::TYPE)
            .only("done = 0")
            .and("state <>", J::WAITING)
            .and("lease_until <=", now)
            .then("ORDER BY created_at, id")
            .rows(&self.read)
            .await?;
        Ok(readable(&rows, J::NAME, body))
    }
}

fn claimed<J: Job>(row: &AnyRow, owner: &str) -> Result<Claimed<J>> {
    let claim = Claim {
        job_id: row.try_get("id")?,
        owner: owner.to_owned(),
        generation: row.try_get("generation")?,
    };
    Ok(Claimed { job: body(row)?, claim })
}

/// Refuses a worker whose claim has been overtaken.
pub(crate) fn check(claim: Option<&Claim>, job_id: &str, generation: i64) -> Result<()> {
    match claim {
        Some(claim) if claim.job_id != job_id || claim.generation != generation => {
            Err(CatalogError::Fenced { job_id: job_id.to_owned() })
        }
        _ => Ok(()),
    }
}

/// The generation of a job, in a transaction.
pub(crate) async fn generation(tx: &mut AnyConnection, job_id: &str) -> Result<i64> {
    let query = Select::new("SELECT generation FROM jobs").and("id =", job_id);
    match query.row(tx).await? {
        Some(row) => Ok(row.try_get("generation")?),
        None => Err(CatalogError::not_found(format!("job {job_id}"))),
    }
}

//! Stopping an operator's restore.

use provault_domain::{AccountId, RestoreJob, RestoreJobEvent};

use crate::{Engine, EngineError, Result, restore};

impl Engine {
    /// Asks an operator's restore job to stop: ABORTED, and what was written and is not in place is
    /// removed. The wish is written down first: whatever becomes of this server, the restore ends and
    /// is not gone on with. Where it runs nobody works on it, it ends at once.
    pub async fn stop_restore_job(
        &self,
        account: &AccountId,
        id: &str,
        reason: &str,
    ) -> Result<RestoreJob> {
        let shared = &self.shared;
        let job = self.find::<RestoreJob>(account, id, "restore job").await?;
        if job.test_token.is_some() {
            return Err(EngineError::Refused(format!(
                "restore job {id} belongs to a restore test; stop the test instead."
            )));
        }
        if job.state.is_final() {
            return Err(EngineError::Refused(format!(
                "restore job {id} is {} already.",
                job.state
            )));
        }
        let event = RestoreJobEvent::StopRequested { reason: reason.to_owned() };
        let job = shared
            .catalog
            .step_job::<RestoreJob>(account, id, None, event, self.now(), Vec::new())
            .await?;
        if job.state.is_final() || shared.cancel(id, reason) {
            return Ok(job);
        }
        // One that waits for its vault need not wait to be stopped.
        shared.catalog.call_back(id).await?;
        let claimed = shared
            .catalog
            .claim_job_by_id::<RestoreJob>(id, &shared.owner, self.now(), shared.lease_until())
            .await?;
        match claimed {
            Some(claimed) => restore::run(shared, claimed).await,
            // It was taken in this very moment, or another server works on it and reads the row.
            None => drop(shared.cancel(id, reason)),
        }
        self.find::<RestoreJob>(account, id, "restore job").await
    }
}

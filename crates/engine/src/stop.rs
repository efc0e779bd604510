//! Stops of restores and restore tests that somebody asks for.

use provault_domain::{
    AccountId, RestoreJob, RestoreJobEvent, RestoreJobState, RestoreTest, RestoreTestState,
};

use crate::{Engine, EngineError, Result, restore_test};

impl Engine {
    /// Asks an operator's restore job to stop: ABORTED, and what was written is removed.
    pub async fn stop_restore_job(
        &self,
        account: &AccountId,
        id: &str,
        reason: &str,
    ) -> Result<RestoreJob> {
        let job = self.find::<RestoreJob>(account, id, "restore job").await?;
        if job.test_token.is_some() {
            return Err(EngineError::Refused(format!(
                "restore job {id} belongs to a restore test; stop the test instead."
            )));
        }
        if job.state == RestoreJobState::Pending {
            let event = RestoreJobEvent::Aborted { message: reason.to_owned() };
            let step = self.shared.catalog.step_job::<RestoreJob>(
                account,
                id,
                None,
                event,
                self.now(),
                Vec::new(),
            );
            return Ok(step.await?);
        }
        if job.state.is_final() || !self.shared.cancel(id, reason) {
            return Err(EngineError::Refused(format!(
                "restore job {id} is {} already.",
                job.state
            )));
        }
        Ok(job)
    }

    /// Asks a restore test to stop: what it made is reaped, the verdict is INCONCLUSIVE.
    pub async fn stop_restore_test(
        &self,
        account: &AccountId,
        id: &str,
        reason: &str,
    ) -> Result<RestoreTest> {
        let test = self.find::<RestoreTest>(account, id, "restore test").await?;
        if test.state == RestoreTestState::Finished {
            return Err(EngineError::Refused(format!("restore test {id} is finished already.")));
        }
        if !self.shared.cancel(id, reason) {
            let claimed = self
                .shared
                .catalog
                .claim_job_by_id::<RestoreTest>(
                    id,
                    &self.shared.owner,
                    self.now(),
                    self.shared.lease_until(),
                )
                .await?;
            match claimed {
                Some(claimed) => restore_test::end_stopped(&self.shared, claimed, reason).await?,
                // It was taken in this very moment.
                None => drop(self.shared.cancel(id, reason)),
            }
        }
        self.find::<RestoreTest>(account, id, "restore test").await
    }
}

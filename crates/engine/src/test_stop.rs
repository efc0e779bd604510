//! The stop of a restore test that somebody asks for.

use provault_domain::{AccountId, RestoreTest, RestoreTestState};

use crate::{Engine, EngineError, Result, restore_test};

impl Engine {
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

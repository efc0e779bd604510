//! What a restore would do, without doing it.

use std::collections::BTreeMap;

use provault_domain::RecoveryPoint;
use provault_driver::{CancelFlag, RestorePreview, RestoreRequest, WorkContext};

use crate::engine::Engine;
use crate::restore::{Failed, find_point, open_point};
use crate::shared::blocking;
use crate::{EngineError, Result};

/// Raises its flag when nobody waits for the answer any more.
struct Abandoned(CancelFlag);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.raise();
    }
}

impl Engine {
    /// Asks the driver what a restore with this metadata, which it has checked, would do now. The
    /// target may have to be read through for that; nothing is written.
    pub async fn preview_restore(
        &self,
        point: &RecoveryPoint,
        metadata: BTreeMap<String, String>,
    ) -> Result<RestorePreview> {
        let shared = &self.shared;
        let cancel = CancelFlag::new();
        let _abandoned = Abandoned(cancel.clone());
        let (point, vault) = find_point(shared, &point.account, &point.arn).await?;
        let source = open_point(shared, &point, &vault, &cancel).await.map_err(refused)?;
        let driver = shared.driver(point.kind)?;
        // The default target's name depends on the job's id, and no job has this one yet.
        let id = uuid::Uuid::new_v4().to_string();
        blocking(move || {
            let context = WorkContext { cancel: &cancel, progress: &|_, _| {} };
            let request = RestoreRequest::new(&id, &metadata);
            driver.preview(&request, &source, &context)
        })
        .await?
        .map_err(|error| match error {
            provault_driver::DriverError::Invalid(invalid) => invalid.into(),
            error => EngineError::Refused(error.to_string()),
        })
    }
}

fn refused(failed: Failed) -> EngineError {
    match failed {
        Failed::Engine(error) => error,
        failed => EngineError::Refused(failed.to_string()),
    }
}

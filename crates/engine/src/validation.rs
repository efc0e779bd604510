//! Copies of restore tests that are kept for somebody outside to look at.
//!
//! A restore testing selection may say so (`ValidationWindowHours`). When the test has asked its own
//! probes and has not FAILED, the copy is made once more: the application has written into the first one,
//! and the negative controls have broken it. Then the test waits in VALIDATING, without worker and lease,
//! until somebody reports, or until its time is over; then the copy goes and the verdict is given. Like
//! everything else this survives the server: the row says who waits, and a copy goes only with its test.

use std::sync::Arc;

use provault_catalog::{CatalogError, Change, JobFilter, Page};
use provault_domain::restore_job::{DeletionStatus, ValidationStatus};
use provault_domain::restore_test::{interrupted, step};
use provault_domain::verdict::{Failure, Fault, Findings, Validation, decide};
use provault_domain::{RestoreJobEvent, RestoreTest, RestoreTestEvent, RestoreTestState};
use provault_proof::TestArea;

use crate::restore_test::{Run, Step};
use crate::shared::{Shared, blocking};
use crate::trial::Trial;
use crate::{Engine, EngineError, Result, restore_test};

/// The step that makes the copy that is kept.
pub(crate) const KEEP: &str = "keep copy";

impl Run {
    /// Makes the copy that somebody outside looks at, where a plan wants that and there is anything left
    /// to ask, and notes it among the findings. What belongs to that is for the same transaction.
    pub(crate) async fn keep_copy(
        &mut self,
        trial: &Trial,
        area: &TestArea,
        findings: &mut Findings,
    ) -> Step<Option<Change>> {
        let shared = Arc::clone(&self.shared);
        let place = area.copy_dir().to_string_lossy().into_owned();
        if self.test.validation(findings, place.clone(), shared.now()).is_none() {
            return Ok(None);
        }
        let began = shared.begin();
        let (ok, detail, failure) = match trial.copy_anew(area).await {
            Ok(detail) => (true, detail, None),
            Err(failure) => (false, failure.message.clone(), Some(failure)),
        };
        self.record(shared.step_record(KEEP, began, ok, detail)).await?;
        if let Some(failure) = failure {
            self.unless_stopped(&failure)?;
            findings.failures.push(failure);
            return Ok(None);
        }
        // The time counts from when there is something to look at.
        let Some(asked) = self.test.validation(findings, place, shared.now()) else {
            return Ok(None);
        };
        let message = message(&asked);
        findings.validation = Some(asked);
        let id = self.test.restore_job_id.clone();
        Ok(id.map(|id| Change::StepRestoreJob(id, RestoreJobEvent::ValidationAsked { message })))
    }

    /// Leaves the test to whoever is asked, unless it was stopped in this very moment.
    pub(crate) async fn leave(&mut self) -> Step<()> {
        let shared = Arc::clone(&self.shared);
        if shared.interruption(&self.test.id).is_some() {
            return Ok(());
        }
        let Some(reason) = shared.stop_reason(&self.test.id) else { return Ok(()) };
        let failure = interrupted(self.test.state, &reason);
        self.event(RestoreTestEvent::Broken(failure), Vec::new()).await?;
        self.end().await
    }
}

impl Trial {
    /// Restores the point once more in place of the copy under test, and compares it.
    async fn copy_anew(&self, area: &TestArea) -> std::result::Result<String, Failure> {
        let failed = |fault, message: String| Failure { fault, step: KEEP.to_owned(), message };
        let used = area.clone();
        blocking(move || used.discard(&used.copy_dir()))
            .await
            .map_err(|error| failed(Fault::Host, error.to_string()))?
            .map_err(|error| failed(Fault::Host, error.to_string()))?;
        let copy = area.copy_dir();
        self.fresh_copy(&self.point, &copy)
            .await
            .map_err(|failure| failed(failure.fault, failure.message))?;
        let answer =
            self.compare(&copy).await.map_err(|failure| failed(failure.fault, failure.message))?;
        if answer.passed { Ok(answer.detail) } else { Err(failed(Fault::Data, answer.detail)) }
    }
}

/// Where the copy lies and how long, with the last word from outside.
fn message(asked: &Validation) -> String {
    let word = asked.message.as_ref().map(|word| format!(" The last word: {word}"));
    format!(
        "The copy lies in {} and is kept until {}. Look at it and report by \
         PutRestoreValidationResult.{}",
        asked.copy,
        asked.until,
        word.unwrap_or_default()
    )
}

impl Engine {
    /// What somebody outside found out about the copy of a test that waits for that, or a word on the
    /// way ([`ValidationStatus::Validating`]). A result ends the window: the copy is deleted next, and then the
    /// verdict is given.
    pub async fn report_validation(
        &self,
        test: &RestoreTest,
        status: ValidationStatus,
        message: Option<String>,
    ) -> Result<()> {
        let event = RestoreTestEvent::ValidationReported { status, message };
        go_on(&self.shared, test, event).await
    }
}

/// Gives up waiting for those whose time is over.
pub(crate) async fn close_windows(shared: &Arc<Shared>) -> Result<()> {
    let now = shared.now();
    let filter = JobFilter {
        states: vec![RestoreTestState::Validating.as_str().to_owned()],
        unfinished_only: true,
        ..JobFilter::default()
    };
    let kept = shared.catalog.list_jobs::<RestoreTest>(&filter, Page::all()).await?.items;
    for test in kept.into_iter().filter(|test| test.is_unheard(now)) {
        match go_on(shared, &test, RestoreTestEvent::ValidationClosed).await {
            // Illegal: somebody reported in this very moment.
            Ok(()) | Err(EngineError::Catalog(CatalogError::Illegal(_))) => {}
            Err(error) => {
                tracing::error!(test = test.id, %error, "a validation window could not be closed");
            }
        }
    }
    Ok(())
}

/// Lets `event` happen to a test that waits. What it says of the verdict is told of the restore job at once.
async fn go_on(shared: &Arc<Shared>, test: &RestoreTest, event: RestoreTestEvent) -> Result<()> {
    let now = shared.now();
    let (after, _) = step(test, event.clone(), now).map_err(CatalogError::Illegal)?;
    let over = after.state == RestoreTestState::Reaping;
    let mut told = Vec::new();
    if over {
        let (verdict, message) = decide(&after.findings);
        let status = verdict.validation_status();
        told.push(RestoreJobEvent::Validated { status, message });
        let status = DeletionStatus::Deleting;
        told.push(RestoreJobEvent::Deletion { status, message: None });
    } else if let Some(asked) = &after.findings.validation {
        told.push(RestoreJobEvent::ValidationAsked { message: message(asked) });
    }
    let mut changes = Vec::new();
    if let Some(id) = &after.restore_job_id {
        changes.extend(told.into_iter().map(|told| Change::StepRestoreJob(id.clone(), told)));
    }
    let (account, id) = (&test.account, test.id.as_str());
    shared.catalog.step_job::<RestoreTest>(account, id, None, event, now, changes).await?;
    if over {
        let (shared, id) = (Arc::clone(shared), test.id.clone());
        // Whoever reported does not wait until a large copy is gone.
        tokio::spawn(async move {
            if let Err(error) = finish(&shared, &id).await {
                tracing::error!(test = id, %error, "a validated restore test could not be ended; the reconciler will end it");
            }
            shared.bell.notify_waiters();
        });
    }
    Ok(())
}

/// Deletes the copy and gives the verdict; the reconciler does, where this is cut short.
async fn finish(shared: &Arc<Shared>, id: &str) -> Result<()> {
    // Entered first: a stop of the server waits for what runs here.
    let _entered = shared.enter(id);
    let (owner, until) = (&shared.owner, shared.lease_until());
    let claimed =
        shared.catalog.claim_job_by_id::<RestoreTest>(id, owner, shared.now(), until).await?;
    match claimed {
        Some(claimed) => Box::pin(restore_test::give_back_abandoned(shared, claimed)).await,
        None => Ok(()),
    }
}

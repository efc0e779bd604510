//! Running a restore test: choose → restore → test → negative control → reap → verdict. Between the last
//! two it may be kept for somebody outside ([`crate::validation`]).
//!
//! Every step is entered in the catalog before the next begins, and everything the test creates
//! lies in a directory that bears its token before anything else is in it. When the server ends while
//! it runs, what bears the token is reaped, by the runner or after a crash by the reconciler, and the
//! test waits to be begun anew; after too many attempts the verdict is INCONCLUSIVE.

use std::collections::BTreeMap;
use std::sync::Arc;

use provault_catalog::{Change, Claim, Claimed};
use provault_domain::restore_job::{DeletionStatus, ValidationStatus};
use provault_domain::restore_test::{interrupted, step};
use provault_domain::verdict::{Failure, Fault};
use provault_domain::{
    Arn, BackupJob, PlannedTest, RecoveryPoint, RecoveryPointStatus, Resource, RestoreJob,
    RestoreJobEvent, RestoreJobState, RestoreTest, RestoreTestEvent, RestoreTestState, StepRecord,
};
use provault_driver::CancelFlag;
use provault_proof::TestArea;

use crate::clock::millis_since;
use crate::heartbeat::{Heartbeat, Progress};
use crate::pause::pause;
use crate::shared::{Began, DIED, Entered, Shared, blocking};
use crate::test_result::closing;
use crate::trial::{Trial, room_for};
use crate::{Result, restore};

/// A point that is younger than now by no more than this was made by a clock that is kept right.
const CLOCK_SLACK_SECONDS: i64 = -60;

/// A test that runs here.
pub(crate) struct Run {
    pub(crate) shared: Arc<Shared>,
    pub(crate) test: RestoreTest,
    pub(crate) claim: Claim,
    pub(crate) cancel: CancelFlag,
}

/// Why a test goes straight to its end.
pub(crate) enum Broken {
    /// A failure that decides the verdict.
    Failure(Failure),
    /// The catalog does not take the test's steps any more: nothing more can be recorded here.
    Lost(crate::EngineError),
}

impl From<provault_catalog::CatalogError> for Broken {
    fn from(error: provault_catalog::CatalogError) -> Self {
        Self::Lost(error.into())
    }
}

impl From<crate::EngineError> for Broken {
    fn from(error: crate::EngineError) -> Self {
        Self::Lost(error)
    }
}

pub(crate) type Step<T> = std::result::Result<T, Broken>;

/// Runs a claimed test to its verdict.
pub(crate) async fn run(shared: &Arc<Shared>, claimed: Claimed<RestoreTest>, entered: &Entered) {
    if claimed.job.is_late(shared.now()) {
        let id = claimed.job.id.clone();
        if let Err(error) = end_late(shared, claimed).await {
            tracing::error!(test = id, %error, "a restore test that is too late could not be ended");
        }
        return;
    }
    let Claimed { job: test, claim } = claimed;
    let cancel = entered.cancel.clone();
    let progress = Arc::new(Progress::default());
    let _beat = Heartbeat::start::<RestoreTest>(shared, &test.account, &claim, &cancel, &progress);
    let mut run = Run { shared: Arc::clone(shared), test, claim, cancel };
    let outcome = run.steps().await;
    let ended = match outcome {
        // Somebody outside is asked: no worker waits for that.
        Ok(()) if run.test.state == RestoreTestState::Validating => run.leave().await,
        Ok(()) => run.end().await,
        // What failed while everything was going down is tried again before it is believed; that the
        // data is damaged stays found.
        Err(Broken::Failure(failure))
            if failure.fault == Fault::Host && shared.interruption(&run.test.id).is_some() =>
        {
            let reason = shared.interruption(&run.test.id).unwrap_or_default();
            run.give_back(reason, false).await
        }
        Err(Broken::Failure(mut failure)) => {
            // Damage that was found before the stop stays found.
            if failure.fault == Fault::Host
                && let Some(reason) = shared.stop_reason(&run.test.id)
            {
                failure = interrupted(run.test.state, &reason);
            }
            match run.event(RestoreTestEvent::Broken(failure), Vec::new()).await {
                Ok(()) => run.end().await,
                Err(error) => Err(error),
            }
        }
        Err(lost) => Err(lost),
    };
    if let Err(Broken::Lost(error)) = ended {
        tracing::error!(test = run.test.id, %error, "the restore test cannot go on; the reconciler will end it");
    }
    shared.bell.notify_waiters();
}

impl Run {
    /// Of a test that is brought to an end and not carried out.
    fn alone(shared: &Arc<Shared>, claimed: Claimed<RestoreTest>) -> Self {
        let Claimed { job: test, claim } = claimed;
        Self { shared: Arc::clone(shared), test, claim, cancel: CancelFlag::new() }
    }

    async fn steps(&mut self) -> Step<()> {
        self.event(RestoreTestEvent::Started, Vec::new()).await?;
        self.pause("test:started").await?;

        let choosing = self.shared.begin();
        let (point, resource) = self.choose(choosing).await?;
        self.pause("test:chosen").await?;
        let (area, created_resource_arn) = self.restore(&point).await?;
        // What a recovery takes: to find the point, to write it back, to get an answer.
        let mut recovery = millis_since(self.shared.clock.as_ref(), choosing.monotonic);
        self.event(RestoreTestEvent::Restored { created_resource_arn }, Vec::new()).await?;
        self.pause("test:restored").await?;

        let trial = Trial {
            shared: Arc::clone(&self.shared),
            cancel: self.cancel.clone(),
            token: self.test.token.clone(),
            point,
            resource,
        };
        let mut findings = self.test.findings.clone();
        let mut real = trial.real_copy(&area, &mut findings).await;
        for step in std::mem::take(&mut real.steps) {
            self.record(step).await?;
        }
        recovery += real.recovery_millis;
        findings.recovery_millis = Some(recovery);
        if let Some(failure) = real.failure.take() {
            self.unless_stopped(&failure)?;
            findings.failures.push(failure);
        }
        let passed = findings.failures.is_empty() && findings.probes.iter().all(|p| p.passed);
        self.event(RestoreTestEvent::Tested(Box::new(findings.clone())), Vec::new()).await?;
        self.pause("test:tested").await?;

        let mut changes = Vec::new();
        // A copy that failed needs no proof that the probes can fail.
        if passed {
            let controls = trial.controls(&area, &real, &mut findings).await?;
            for step in controls.steps {
                self.record(step).await?;
            }
            if let Some(failure) = controls.failure {
                self.unless_stopped(&failure)?;
                findings.failures.push(failure);
            }
            changes.extend(controls.cache);
            changes.extend(Box::pin(self.keep_copy(&trial, &area, &mut findings)).await?);
        }
        self.event(RestoreTestEvent::Controlled(Box::new(findings)), changes).await?;
        self.pause("test:controlled").await
    }

    /// A failure that comes of a raised flag is told as what it is: whoever raised it gave the
    /// reason. What is wrong with the data stays wrong.
    pub(crate) fn unless_stopped(&self, failure: &Failure) -> Step<()> {
        if failure.fault == Fault::Host && self.cancel.is_raised() {
            return Err(Broken::Failure(interrupted(self.test.state, "it was stopped.")));
        }
        Ok(())
    }

    /// Chooses the point and enters the restore job that will make the copy.
    async fn choose(&mut self, began: Began) -> Step<(RecoveryPoint, Resource)> {
        let shared = Arc::clone(&self.shared);
        let broken = |fault, message: String| {
            Broken::Failure(Failure { fault, step: "choose".to_owned(), message })
        };
        let test = &self.test;
        let resource = shared.catalog.resource(&test.resource_arn).await?.ok_or_else(|| {
            broken(
                Fault::Host,
                format!("the resource {} is no longer registered.", test.resource_arn),
            )
        })?;
        let point = match (&test.requested_point, &test.planned) {
            (Some(arn), _) => shared.catalog.recovery_point(&test.account, arn).await?,
            (None, Some(planned)) => {
                let message = format!(
                    "restore testing plan {} found no recovery point in its selection window and \
                     its vaults.",
                    planned.plan_name
                );
                return Err(broken(Fault::Data, message));
            }
            (None, None) => {
                shared
                    .catalog
                    .newest_recovery_point(&test.account, &test.resource_arn, shared.now())
                    .await?
            }
        };
        let point = point.filter(RecoveryPoint::is_restorable).ok_or_else(|| {
            broken(Fault::Data, "there is no recovery point that could be restored.".to_owned())
        })?;
        let now = shared.now();
        let area = shared.restore_tests_root();
        let copy = TestArea::copy_path(&area, &test.token);
        let mut metadata: BTreeMap<String, String> = point.restore_metadata.clone();
        let planned = test.planned.as_ref();
        if let Some(planned) = planned {
            metadata.extend(planned.metadata_overrides.clone());
        }
        // The test compares everything by itself.
        shared.driver(point.kind)?.direct_to_copy(&mut metadata, &copy);
        let job = RestoreJob {
            id: uuid::Uuid::new_v4().to_string(),
            account: test.account.clone(),
            region: test.region.clone(),
            recovery_point_arn: point.arn.clone(),
            vault_name: point.vault_name.clone(),
            source_resource_arn: point.resource_arn.clone(),
            kind: point.kind,
            role_arn: planned.map_or(&point.role_arn, |planned| &planned.role_arn).clone(),
            metadata,
            idempotency_token: None,
            test_token: Some(test.token.clone()),
            testing_plan_arn: planned.map(|planned| planned.plan_arn.clone()),
            created_at: now,
            started_at: None,
            completed_at: None,
            state: RestoreJobState::Pending,
            status_message: None,
            stop_requested: None,
            attempts: 0,
            backup_size_bytes: point.backup_size_bytes,
            bytes_restored: 0,
            created_resource_arn: None,
            validation: Some(ValidationStatus::Validating),
            validation_message: None,
            deletion: None,
            deletion_message: None,
        };
        let incomplete = self.incomplete(&point).await?;
        // A clock that was ahead at the backup makes a point from the future. Some seconds of that
        // are an adjusted clock; more, and nobody knows how old it is.
        let age = match now.duration_since(point.captured_at).as_secs() {
            CLOCK_SLACK_SECONDS..0 => 0,
            seconds => seconds,
        };
        let event = RestoreTestEvent::PointChosen {
            recovery_point_arn: point.arn.clone(),
            vault_name: point.vault_name.clone(),
            restore_job_id: job.id.clone(),
            incomplete,
            point_age_seconds: u64::try_from(age).ok(),
            rpo_seconds: resource.rpo_seconds,
            rto_seconds: resource.rto_seconds,
        };
        self.event(event, vec![Change::InsertRestoreJob(Box::new(job))]).await?;
        let detail = format!("{}, captured {}", point.arn, point.captured_at);
        self.record(shared.step_record("choose", began, true, detail)).await?;
        Ok((point, resource))
    }

    /// What a point lacks: one that is known to be hurt, or a PARTIAL one, whose backup job has the
    /// list.
    async fn incomplete(&self, point: &RecoveryPoint) -> Step<Option<String>> {
        // What a restore test could not read this one will try to read again.
        let known = point.condition.as_ref().filter(|known| known.restore_test_id.is_none());
        if let Some(condition) = known {
            return Ok(Some(condition.message.clone()));
        }
        if point.status != RecoveryPointStatus::Partial {
            return Ok(None);
        }
        let job =
            self.shared.catalog.job::<BackupJob>(&point.account, &point.backup_job_id).await?;
        let skipped = job.map(|job| job.skipped).unwrap_or_default();
        let first = skipped.first().map_or_else(
            || "its backup was PARTIAL.".to_owned(),
            |path| {
                let n = skipped.len();
                format!(
                    "{n} path{} of the source could not be read, the first: {} ({}).",
                    if n == 1 { "" } else { "s" },
                    path.path,
                    path.reason
                )
            },
        );
        Ok(Some(first))
    }

    /// Makes the marked place, and in it the copy, by an ordinary restore job.
    async fn restore(&mut self, point: &RecoveryPoint) -> Step<(TestArea, Arn)> {
        let shared = Arc::clone(&self.shared);
        let began = shared.begin();
        room_for(&shared, point, "restore").await.map_err(Broken::Failure)?;
        let area = {
            let (root, token) = (shared.restore_tests_root(), self.test.token.clone());
            blocking(move || TestArea::create(&root, &token)).await?
        };
        let area = area.map_err(|error| {
            let message = error.to_string();
            Broken::Failure(Failure { fault: Fault::Host, step: "restore".to_owned(), message })
        })?;
        self.pause("test:copying").await?;
        let id = self.test.restore_job_id.clone().unwrap_or_default();
        let claimed = shared
            .catalog
            .claim_job_by_id::<RestoreJob>(&id, &shared.owner, shared.now(), shared.lease_until())
            .await?;
        let Some(Claimed { job, claim }) = claimed else {
            return Err(Broken::Failure(interrupted(
                self.test.state,
                "its restore job was taken away.",
            )));
        };
        let outcome = restore::perform(&shared, &job, &claim, &self.cancel).await;
        let (event, changes, failed) = match &outcome {
            Ok(outcome) => (
                RestoreJobEvent::Completed {
                    created_resource_arn: Some(restore::new_resource_arn(&job)),
                    bytes_restored: outcome.bytes,
                    message: (!outcome.notes.is_empty()).then(|| outcome.notes.join(" ")),
                },
                vec![Change::PointRestored(point.arn.clone(), shared.now())],
                None,
            ),
            Err(failed) => {
                let event = match shared.interruption(&self.test.id) {
                    Some(reason) => RestoreJobEvent::Aborted { message: reason },
                    None => RestoreJobEvent::Failed { message: failed.to_string() },
                };
                (event, Vec::new(), Some(failed.failure("restore")))
            }
        };
        shared
            .catalog
            .step_job::<RestoreJob>(
                &job.account,
                &job.id,
                Some(&claim),
                event,
                shared.now(),
                changes,
            )
            .await?;
        let detail = match &outcome {
            Ok(outcome) => {
                format!("{} files, {} bytes into isolation", outcome.files, outcome.bytes)
            }
            Err(failed) => failed.to_string(),
        };
        self.record(shared.step_record("restore", began, failed.is_none(), detail)).await?;
        match failed {
            Some(failure) => Err(Broken::Failure(failure)),
            None => Ok((area, restore::new_resource_arn(&job))),
        }
    }

    /// Removes everything that bears the token, and gives the verdict.
    pub(crate) async fn end(&mut self) -> Step<()> {
        let shared = Arc::clone(&self.shared);
        let began = shared.begin();
        if let Some(id) = self.test.restore_job_id.clone() {
            let message = "The restore test it belongs to was broken off.".to_owned();
            self.end_restore_job(&id, RestoreJobEvent::Failed { message }).await?;
        }
        let reaped = {
            let (root, token) = (shared.restore_tests_root(), self.test.token.clone());
            blocking(move || provault_proof::reap(&root, &token)).await?
        };
        self.pause("test:reaped").await?;
        let trouble = reaped.err().map(|error| error.to_string());
        let detail = trouble.clone().unwrap_or_else(|| "the copy is gone".to_owned());
        self.record(shared.step_record("reap", began, trouble.is_none(), detail)).await?;

        let now = shared.now();
        let event = RestoreTestEvent::Reaped { cleaned_up: trouble.is_none() };
        // The evidence is the test as it will stand after this very step.
        let (finished, _) = step(&self.test, event.clone(), now).map_err(|illegal| {
            Broken::Lost(provault_catalog::CatalogError::Illegal(illegal).into())
        })?;
        let mut changes = closing(&finished, trouble, now)?;
        changes.extend(self.condition(&finished, now).await?);
        self.event(event, changes).await
    }

    /// Removes everything that bears the token, and has the test begun anew when a server runs again;
    /// or ends it, where that is not to be.
    async fn give_back(&mut self, reason: String, died: bool) -> Step<()> {
        if matches!(self.test.state, RestoreTestState::Pending | RestoreTestState::Validating) {
            // It had not begun, or waits for somebody outside and not for a worker.
            return Ok(());
        }
        if !self.test.is_interruptible() {
            if self.test.state != RestoreTestState::Reaping {
                let failure = interrupted(self.test.state, &reason);
                self.event(RestoreTestEvent::Broken(failure), Vec::new()).await?;
            }
            return self.end().await;
        }
        if let Some(id) = self.test.restore_job_id.clone() {
            let message = reason.clone();
            self.end_restore_job(&id, RestoreJobEvent::Aborted { message }).await?;
        }
        let reaped = {
            let (root, token) = (self.shared.restore_tests_root(), self.test.token.clone());
            blocking(move || provault_proof::reap(&root, &token)).await?
        };
        if let Err(error) = reaped {
            // A test that leaves something behind is not begun on top of it.
            let why = format!("{reason} {error}");
            let failure = interrupted(self.test.state, &why);
            self.event(RestoreTestEvent::Broken(failure), Vec::new()).await?;
            return self.end().await;
        }
        let mut changes = Vec::new();
        if let Some(id) = &self.test.restore_job_id {
            let status = ValidationStatus::TimedOut;
            let message = format!("{reason} The restore test is begun anew with another copy.");
            let validated = RestoreJobEvent::Validated { status, message };
            changes.push(Change::StepRestoreJob(id.clone(), validated));
            let status = DeletionStatus::Successful;
            let deletion = RestoreJobEvent::Deletion { status, message: None };
            changes.push(Change::StepRestoreJob(id.clone(), deletion));
        }
        let event = if died {
            RestoreTestEvent::Interrupted { reason }
        } else {
            RestoreTestEvent::Suspended { reason }
        };
        self.event(event, changes).await?;
        // After the last attempt it is broken off instead.
        if self.test.state == RestoreTestState::Reaping { self.end().await } else { Ok(()) }
    }

    /// A restore job that the test could not bring to its end has none but this.
    async fn end_restore_job(&self, id: &str, event: RestoreJobEvent) -> Step<()> {
        let shared = &self.shared;
        let job = shared.catalog.job::<RestoreJob>(&self.test.account, id).await?;
        if job.is_some_and(|job| !job.state.is_final()) {
            shared
                .catalog
                .step_job::<RestoreJob>(
                    &self.test.account,
                    id,
                    None,
                    event,
                    shared.now(),
                    Vec::new(),
                )
                .await?;
        }
        Ok(())
    }

    pub(crate) async fn event(
        &mut self,
        event: RestoreTestEvent,
        changes: Vec<Change>,
    ) -> Step<()> {
        self.test = self
            .shared
            .catalog
            .step_job::<RestoreTest>(
                &self.test.account,
                &self.test.id,
                Some(&self.claim),
                event,
                self.shared.now(),
                changes,
            )
            .await?;
        Ok(())
    }

    pub(crate) async fn record(&mut self, step: StepRecord) -> Step<()> {
        self.event(RestoreTestEvent::StepDone(step), Vec::new()).await
    }

    async fn pause(&self, place: &'static str) -> Step<()> {
        Ok(blocking(move || pause(place)).await?)
    }
}

/// Gives back a test whose worker is gone, its copy reaped; or ends one that knows its findings.
pub(crate) async fn give_back_abandoned(
    shared: &Arc<Shared>,
    claimed: Claimed<RestoreTest>,
) -> Result<()> {
    let mut run = Run::alone(shared, claimed);
    outcome(run.give_back(DIED.to_owned(), true).await)
}

/// Ends a test of a restore testing plan whose turn did not come within the plan's start window:
/// nothing to reap, INCONCLUSIVE, with evidence and notification.
pub(crate) async fn end_late(shared: &Arc<Shared>, claimed: Claimed<RestoreTest>) -> Result<()> {
    let planned = claimed.job.planned.as_ref();
    let why = planned.map_or_else(String::new, PlannedTest::late_message);
    let obstacle = claimed.job.waiting.as_ref().map(|waiting| format!(" {}", waiting.reason));
    let why = why + &obstacle.unwrap_or_default();
    end_stopped(shared, claimed, &why).await
}

/// Ends a test that waits for its turn: nothing to reap, INCONCLUSIVE.
pub(crate) async fn end_stopped(
    shared: &Arc<Shared>,
    claimed: Claimed<RestoreTest>,
    why: &str,
) -> Result<()> {
    let mut run = Run::alone(shared, claimed);
    // One that died between its last step and its verdict keeps what it had found out.
    let reaping = run.test.state == RestoreTestState::Reaping;
    let ended = async {
        if !reaping {
            let failure = interrupted(run.test.state, why);
            run.event(RestoreTestEvent::Broken(failure), Vec::new()).await?;
        }
        run.end().await
    };
    outcome(ended.await)
}

/// Of what does nothing that could be a test's own failure.
fn outcome(step: Step<()>) -> Result<()> {
    match step {
        Ok(()) => Ok(()),
        Err(Broken::Lost(error)) => Err(error),
        Err(Broken::Failure(failure)) => Err(crate::EngineError::Internal(failure.message)),
    }
}

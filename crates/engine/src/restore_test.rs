//! Running a restore test: choose → restore → test → negative control → reap → verdict.
//!
//! Every step is entered in the catalog before the next begins, and everything the test creates
//! lies in a directory that bears its token before anything else is in it. After a crash the
//! reconciler finds the test without a lease, reaps by the token and gives the verdict
//! INCONCLUSIVE.

use std::collections::BTreeMap;
use std::sync::Arc;

use provault_catalog::{Change, Claim, Claimed};
use provault_domain::recovery_point::PointVerdict;
use provault_domain::restore_job::{DeletionStatus, ValidationStatus};
use provault_domain::restore_test::{interrupted, step};
use provault_domain::verdict::{Failure, Fault, Findings};
use provault_domain::{
    RecoveryPoint, Resource, RestoreJob, RestoreJobEvent, RestoreJobState, RestoreTest,
    RestoreTestEvent, RestoreTestState, StepRecord, Verdict,
};
use provault_driver::CancelFlag;
use provault_proof::TestArea;

use crate::heartbeat::{Heartbeat, Progress};
use crate::pause::pause;
use crate::shared::{Began, Shared, blocking};
use crate::{Result, restore, trial};

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

type Step<T> = std::result::Result<T, Broken>;

/// Runs a claimed test to its verdict.
pub(crate) async fn run(shared: &Arc<Shared>, claimed: Claimed<RestoreTest>) {
    let Claimed { job: test, claim } = claimed;
    let cancel = shared.enter(&test.id);
    let progress = Arc::new(Progress::default());
    let _beat = Heartbeat::start::<RestoreTest>(shared, &test.account, &claim, &cancel, &progress);
    let mut run = Run { shared: Arc::clone(shared), test, claim, cancel };
    let outcome = run.steps().await;
    let reason = shared.leave(&run.test.id);
    let ended = match outcome {
        Ok(()) => run.end().await,
        Err(Broken::Failure(mut failure)) => {
            if let Some(reason) = reason {
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
    async fn steps(&mut self) -> Step<()> {
        self.event(RestoreTestEvent::Started, Vec::new()).await?;
        self.pause("test:started").await?;

        let choosing = self.shared.begin();
        let (point, resource) = self.choose(choosing).await?;
        self.pause("test:chosen").await?;

        let restoring = self.shared.begin();
        let area = self.restore(&point, restoring).await?;
        // What a recovery takes: to find the point, to write it back, to get an answer.
        let mut recovery = self.shared.begin_to_now(choosing);
        self.event(RestoreTestEvent::Restored, Vec::new()).await?;
        self.pause("test:restored").await?;

        let mut findings = self.test.findings.clone();
        let trial = trial::Trial { run: self, point: &point, resource: &resource, area: &area };
        let answered = trial.real_copy(&mut findings).await?;
        recovery += answered;
        findings.recovery_millis = Some(recovery);
        self.drain_steps(&mut findings);
        self.event(RestoreTestEvent::Tested(Box::new(findings.clone())), Vec::new()).await?;
        self.pause("test:tested").await?;

        let mut changes = Vec::new();
        // A copy that failed needs no proof that the probes can fail.
        if findings.failures.is_empty() && findings.probes.iter().all(|probe| probe.passed) {
            let trial = trial::Trial { run: self, point: &point, resource: &resource, area: &area };
            changes = trial.controls(&mut findings).await?;
        }
        self.event(RestoreTestEvent::Controlled(Box::new(findings)), changes).await?;
        self.pause("test:controlled").await?;
        Ok(())
    }
}

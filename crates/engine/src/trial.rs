//! The questions of a restore test: to the real copy, and to deliberately broken ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use provault_catalog::Change;
use provault_domain::verdict::{
    Failure, Fault, Findings, IsolationLevel, MutantResult, ProbeResult,
};
use provault_domain::{Probe, RecoveryPoint, Resource, ServiceSpec, StepRecord};
use provault_driver::{CancelFlag, RestoreRequest, WorkContext};
use provault_proof::probe::{only_out_of_time, ran_out_of_time};
use provault_proof::{IsolationReport, IsolationRequest, Mutant, ProofError, TestArea};

use crate::older_state;
use crate::restore::{find_point, open_point};
use crate::restore_test::Broken;
use crate::shared::{Shared, blocking};

/// A fresh copy for each of the negative controls that are only a score costs a restore each; of
/// larger points they are left out, and the evidence says so.
pub(crate) const LARGEST_SCORED_BYTES: u64 = 256 << 20;
/// What a broken copy gets to answer at first: some times what the real one took, and at least this. One
/// that has not answered by then gets all the time that the real one had.
const LEAST_PATIENCE_SECONDS: u64 = 5;

/// Everything the questions need.
pub(crate) struct Trial {
    pub(crate) shared: Arc<Shared>,
    pub(crate) cancel: CancelFlag,
    pub(crate) token: String,
    pub(crate) point: RecoveryPoint,
    pub(crate) resource: Resource,
}

/// What is asked of a copy in isolation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Questions {
    /// The application, where there is one.
    pub(crate) service: Option<ServiceSpec>,
    /// Those of the resource's probes that are asked there; none where only files are compared.
    pub(crate) probes: Vec<Probe>,
}

impl Questions {
    fn of(resource: &Resource) -> Self {
        let probes = resource.probes.iter().filter(|probe| probe.needs_isolation());
        Self { service: resource.service.clone(), probes: probes.cloned().collect() }
    }

    /// The same with no more patience than `seconds`, neither for the start of the application nor
    /// for a command.
    fn within(mut self, seconds: u64) -> Self {
        if let Some(service) = &mut self.service {
            service.start_timeout_seconds = service.start_timeout_seconds.min(seconds);
        }
        for probe in &mut self.probes {
            if let Probe::Command { timeout_seconds, .. } = probe {
                *timeout_seconds = (*timeout_seconds).min(seconds);
            }
        }
        self
    }
}

/// What became of the real copy.
#[derive(Default)]
pub(crate) struct Real {
    pub(crate) steps: Vec<StepRecord>,
    pub(crate) failure: Option<Failure>,
    /// Milliseconds from the start of the application to its last answer.
    pub(crate) recovery_millis: u64,
    /// The same, for the patience with broken copies.
    pub(crate) answered_after_millis: u64,
    /// What the answers of broken copies depend on, taken before the application could change it.
    pub(crate) probe_version: String,
}

/// What became of the broken ones.
#[derive(Default)]
pub(crate) struct Controls {
    pub(crate) steps: Vec<StepRecord>,
    pub(crate) failure: Option<Failure>,
    /// Remembers the answers for the next test with the same probes.
    pub(crate) cache: Option<Change>,
}

impl Trial {
    /// Compares every file with the manifest, then starts the application and asks it.
    pub(crate) async fn real_copy(&self, area: &TestArea, findings: &mut Findings) -> Real {
        let mut real = Real::default();
        let began = self.shared.begin();
        findings.isolation = Some(IsolationLevel::FilesOnly);
        match self.compare(&area.copy_dir()).await {
            Ok(answer) => {
                let step = self.shared.step_record(
                    "compare files",
                    began,
                    answer.passed,
                    answer.detail.clone(),
                );
                real.steps.push(step);
                let whole = answer.passed;
                findings.probes.push(answer);
                // An application over a copy that is not what was captured proves nothing.
                if !whole {
                    return real;
                }
            }
            Err(failure) => {
                real.steps.push(self.shared.step_record(
                    "compare files",
                    began,
                    false,
                    failure.message.clone(),
                ));
                real.failure = Some(failure);
                return real;
            }
        }
        match self.probe_version(area.copy_dir()).await {
            Ok(version) => real.probe_version = version,
            Err(failure) => {
                real.failure = Some(failure);
                return real;
            }
        }
        let questions = Questions::of(&self.resource);
        if questions.probes.is_empty() {
            return real;
        }
        let began = self.shared.begin();
        match self.ask(area.copy_dir(), &questions).await {
            Ok(report) => {
                findings.isolation = report.level;
                real.recovery_millis = report.probes.iter().map(|p| p.millis).max().unwrap_or(0);
                real.answered_after_millis = real.recovery_millis;
                let passed = report.probes.iter().filter(|p| p.passed).count();
                let ok = passed == report.probes.len();
                let mut detail = format!("{passed} of {} probes passed", report.probes.len());
                if let Some(bad) = report.probes.iter().find(|p| !p.passed) {
                    detail = format!("{detail}; {}: {}", bad.label, bad.detail);
                }
                real.steps.push(self.shared.step_record("start and probe", began, ok, detail));
                findings.probes.extend(report.probes);
            }
            Err(failure) => {
                real.steps.push(self.shared.step_record(
                    "start and probe",
                    began,
                    false,
                    failure.message.clone(),
                ));
                real.failure = Some(failure);
            }
        }
        real
    }

    /// Asks the same questions of broken copies, or takes the answers of an earlier test that
    /// asked the same. The copy under test is broken in place at last: it is of no more use.
    pub(crate) async fn controls(
        &self,
        area: &TestArea,
        real: &Real,
        findings: &mut Findings,
    ) -> Result<Controls, Broken> {
        let mut controls = Controls::default();
        let began = self.shared.begin();
        let patience = (real.answered_after_millis / 1000 * 3).max(LEAST_PATIENCE_SECONDS);
        let questions = Questions::of(&self.resource).within(patience);
        let known = self.shared.catalog.mutants(&self.resource.arn, &real.probe_version).await?;
        if let Some(known) = known {
            findings.mutants = known;
            findings.mutants_cached = true;
            // The first test of a resource has no older point to try; a later one makes up for it.
            let untried = |m: &MutantResult| m.name == older_state::NAME && m.killed.is_none();
            if findings.mutants.iter().any(untried) && self.older_point().await?.is_some() {
                let result = self.older_state(area, &questions).await;
                controls.steps.push(self.shared.step_record(
                    "negative control",
                    began,
                    true,
                    format!("{}: {}", result.name, result.detail),
                ));
                findings.mutants.retain(|m| m.name != older_state::NAME);
                findings.mutants.push(result);
                controls.cache = Some(self.remembered(real, findings));
            }
            return Ok(controls);
        }
        findings.mutants.push(self.older_state(area, &questions).await);
        // The required ones come last: they need no fresh copy, and nothing survives them.
        let mut broken_in_place = 0;
        for mutant in Mutant::ALL {
            if self.cancel.is_raised() {
                controls.failure = Some(host("negative control", "it was stopped on request."));
                return Ok(controls);
            }
            let result = self.control(area, mutant, &questions, &mut broken_in_place).await;
            findings.mutants.push(result);
        }
        let killed = findings.mutants.iter().filter(|m| m.killed == Some(true)).count();
        let tried = findings.mutants.iter().filter(|m| m.killed.is_some()).count();
        let detail = format!("{killed} of {tried} broken copies were noticed");
        let sound = findings.mutants.iter().all(|m| !m.required || m.killed == Some(true));
        controls.steps.push(self.shared.step_record("negative control", began, sound, detail));
        // Only a complete proof that the probes can fail is worth remembering, and one that a slow
        // host gave is none.
        let slow = |m: &MutantResult| m.killed == Some(true) && ran_out_of_time(&m.detail);
        if sound && !findings.mutants.iter().any(slow) {
            controls.cache = Some(self.remembered(real, findings));
        }
        Ok(controls)
    }

    fn remembered(&self, real: &Real, findings: &Findings) -> Change {
        Change::PutMutants {
            resource_arn: self.resource.arn.clone(),
            probe_version: real.probe_version.clone(),
            results: findings.mutants.clone(),
        }
    }

    /// Removes a copy that was only there for one question.
    pub(crate) async fn discard(&self, area: &TestArea, copy: PathBuf) {
        let area = area.clone();
        if let Ok(Err(error)) = blocking(move || area.discard(&copy)).await {
            tracing::warn!(%error, "a broken copy stays until the test is reaped");
        }
    }

    async fn control(
        &self,
        area: &TestArea,
        mutant: Mutant,
        questions: &Questions,
        broken_in_place: &mut u64,
    ) -> MutantResult {
        let result = |killed, detail: String| MutantResult {
            name: mutant.name().to_owned(),
            required: mutant.required(),
            killed,
            detail,
        };
        let copy = if mutant.required() {
            area.copy_dir()
        } else if self.point.backup_size_bytes > LARGEST_SCORED_BYTES {
            return result(None, "left out: the recovery point is large".to_owned());
        } else {
            let copy = area.mutant_dir(mutant);
            match self.fresh_copy(&self.point, &copy).await {
                Ok(()) => copy,
                Err(failure) => return result(None, failure.message),
            }
        };
        let (broken, seed) = (copy.clone(), self.seed());
        let mut change = match blocking(move || mutant.apply(&broken, seed)).await {
            Ok(Ok(change)) => change,
            Ok(Err(error)) => return result(None, error.to_string()),
            Err(error) => return result(None, error.to_string()),
        };
        if mutant.required() {
            // Each breaks the copy further that the one before it broke already.
            *broken_in_place += change.changed;
            change.changed = *broken_in_place;
        }
        // Probes have to notice by themselves: that files differ from the manifest is known of any
        // broken copy and says nothing of the probes.
        let answers = if questions.probes.is_empty() {
            self.compare(&copy).await.map(|answer| vec![answer])
        } else {
            self.ask_broken(&copy, questions).await
        };
        if !mutant.required() {
            self.discard(area, copy).await;
        }
        match answers {
            Ok(answers) => mutant.result(change, Ok(&answers)),
            Err(failure) => result(None, failure.message),
        }
    }

    /// Restores a point once more, beside the copy under test.
    pub(crate) async fn fresh_copy(
        &self,
        point: &RecoveryPoint,
        target: &Path,
    ) -> Result<(), Failure> {
        room_for(&self.shared, point, "negative control").await?;
        let broken = |error: String| host("negative control", &error);
        let (point, vault) = find_point(&self.shared, &point.account, &point.arn)
            .await
            .map_err(|error| broken(error.to_string()))?;
        let source = open_point(&self.shared, &point, &vault, &self.cancel)
            .await
            .map_err(|failed| failed.failure("negative control"))?;
        let driver = self.shared.driver(point.kind).map_err(|error| broken(error.to_string()))?;
        let mut metadata = point.restore_metadata.clone();
        driver.direct_to_copy(&mut metadata, target);
        let (token, cancel) = (self.token.clone(), self.cancel.clone());
        let restored = blocking(move || {
            let context = WorkContext { cancel: &cancel, progress: &|_, _| {} };
            let request = RestoreRequest::new(&token, &metadata);
            driver.restore(&request, &source, &context)
        })
        .await
        .map_err(|error| broken(error.to_string()))?;
        match restored {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure {
                fault: error.fault(),
                step: "negative control".to_owned(),
                message: error.to_string(),
            }),
        }
    }

    async fn probe_version(&self, copy: PathBuf) -> Result<String, Failure> {
        let (service, probes) = (self.resource.service.clone(), self.resource.probes.clone());
        blocking(move || provault_proof::probe_version(service.as_ref(), &probes, &copy))
            .await
            .map_err(|error| host("compare files", &error.to_string()))?
            .map_err(|error| failed("compare files", &error))
    }

    /// The copy against what was captured: every file, or every block of a volume.
    pub(crate) async fn compare(&self, copy: &Path) -> Result<ProbeResult, Failure> {
        let broken = |error: String| host("compare files", &error);
        let (point, vault) = find_point(&self.shared, &self.point.account, &self.point.arn)
            .await
            .map_err(|error| broken(error.to_string()))?;
        let source = open_point(&self.shared, &point, &vault, &self.cancel)
            .await
            .map_err(|failed| failed.failure("compare files"))?;
        let (copy, cancel) = (copy.to_owned(), self.cancel.clone());
        let began = self.shared.begin();
        let driver =
            self.shared.driver(self.point.kind).map_err(|error| broken(error.to_string()))?;
        let compared = blocking(move || {
            let context = WorkContext { cancel: &cancel, progress: &|_, _| {} };
            match driver.check_copy(&copy, &source, &context) {
                Ok(Some(answer)) => Ok(answer),
                Ok(None) => provault_proof::compare(&copy, &source, &cancel, &|_, _| {})
                    .map(|report| report.probe_result(0))
                    .map_err(|error| failed("compare files", &error)),
                Err(error) => Err(Failure {
                    fault: error.fault(),
                    step: "compare files".to_owned(),
                    message: error.to_string(),
                }),
            }
        })
        .await
        .map_err(|error| broken(error.to_string()))?;
        let millis = crate::clock::millis_since(self.shared.clock.as_ref(), began.monotonic);
        compared.map(|answer| ProbeResult { millis, ..answer })
    }

    /// Starts the application, if there is one, in isolation over `copy` and asks.
    pub(crate) async fn ask(
        &self,
        copy: PathBuf,
        questions: &Questions,
    ) -> Result<IsolationReport, Failure> {
        let driver = self
            .shared
            .driver(self.resource.kind)
            .map_err(|error| host("isolate", &error.to_string()))?;
        let request = IsolationRequest {
            captured_until: self.point.completed_at,
            hidden: vec![
                PathBuf::from(driver.identity(&self.resource.config)),
                self.shared.data_dir.clone(),
            ],
            ..IsolationRequest::new(
                copy,
                questions.service.clone(),
                questions.probes.clone(),
                self.point.captured_at,
                self.token.clone(),
            )
        };
        let (helper, cancel) = (self.shared.helper.clone(), self.cancel.clone());
        blocking(move || provault_proof::run_isolated(&helper, &request, &cancel))
            .await
            .map_err(|error| host("isolate", &error.to_string()))?
            .map_err(|error| failed("isolate", &error))
    }

    /// The answers of a broken copy. Silence counts only when it lasts as long as the real copy may have
    /// taken: on a host that is busy for a moment any copy is slow.
    pub(crate) async fn ask_broken(
        &self,
        copy: &Path,
        questions: &Questions,
    ) -> Result<Vec<ProbeResult>, Failure> {
        let answers = self.ask(copy.to_owned(), questions).await?.probes;
        let patient = Questions::of(&self.resource);
        if *questions != patient && only_out_of_time(&answers) {
            return Ok(self.ask(copy.to_owned(), &patient).await?.probes);
        }
        Ok(answers)
    }

    /// Chosen without looking at the probes: the token is random.
    fn seed(&self) -> u64 {
        self.token.bytes().fold(0, |seed, byte| seed.rotate_left(8) ^ u64::from(byte))
    }
}

/// Whether the disk has room for a copy of the point beside what has to stay free.
pub(crate) async fn room_for(
    shared: &Shared,
    point: &RecoveryPoint,
    step: &str,
) -> Result<(), Failure> {
    let place = shared.restore_tests_root();
    let room = blocking(move || provault_proof::room(&place))
        .await
        .map_err(|error| host(step, &error.to_string()))?
        .map_err(|error| failed(step, &error))?;
    let (size, reserve) = (point.backup_size_bytes, shared.tests.reserve.of(room.total));
    if room.free >= size.saturating_add(reserve) {
        return Ok(());
    }
    let message = format!(
        "there is no room for a copy: it needs {size} bytes, {reserve} are to stay free, and {} has {} \
         free. Make room there, or lower --test-disk-reserve.",
        shared.data_dir.display(),
        room.free
    );
    Err(host(step, &message))
}

fn host(step: &str, message: &str) -> Failure {
    Failure { fault: Fault::Host, step: step.to_owned(), message: message.to_owned() }
}

fn failed(step: &str, error: &ProofError) -> Failure {
    Failure { fault: error.fault(), step: step.to_owned(), message: error.to_string() }
}

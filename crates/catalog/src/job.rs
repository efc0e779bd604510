//! What backup jobs, restore jobs, restore tests and care runs have in common, so that one table and
//! one set of operations serve all of them.

use std::fmt::Debug;

use jiff::Timestamp;
use provault_domain::restore_job::ValidationStatus;
use provault_domain::{
    AccountId, Arn, BackupJob, BackupJobEvent, CareEvent, CareRun, Effect, IllegalTransition,
    RestoreJob, RestoreJobEvent, RestoreTest, RestoreTestEvent, RestoreTestState, StepRecord,
    Verdict, backup_job, care, restore_job, restore_test,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Something with a state machine that workers claim and carry out.
pub trait Job: Clone + Serialize + DeserializeOwned + Send + Sync + Unpin + 'static {
    /// What can happen to it.
    type Event: Clone + Debug + Send + Sync;
    /// Its name in the table.
    const TYPE: &'static str;
    /// Its name for people.
    const NAME: &'static str;
    /// The state in which it waits for a worker.
    const WAITING: &'static str;
    /// Whether only one of the type may be worked on for a resource at any time.
    const ONE_PER_RESOURCE: bool;

    /// UUID.
    fn id(&self) -> &str;
    /// Tenant.
    fn account(&self) -> &AccountId;
    /// When it was asked for.
    fn created_at(&self) -> Timestamp;
    /// When it ended.
    fn completed_at(&self) -> Option<Timestamp>;
    /// Its state's name in the API.
    fn state_name(&self) -> &'static str;
    /// Whether nothing more will happen to it.
    fn is_final(&self) -> bool;
    /// The protected resource it is about.
    fn resource_arn(&self) -> &Arn;
    /// The vault it writes to or reads from, once known.
    fn vault_name(&self) -> Option<&str>;
    /// The recovery point it makes or reads, once known.
    fn recovery_point_arn(&self) -> Option<&Arn>;
    /// The role it works under.
    fn role_arn(&self) -> Option<&Arn>;
    /// The restore testing plan it was made for.
    fn testing_plan_arn(&self) -> Option<&Arn> {
        None
    }
    /// What it found, where it is there to find something.
    fn verdict(&self) -> Option<Verdict> {
        None
    }
    /// The caller's idempotency token.
    fn idempotency_token(&self) -> Option<&str>;
    /// Whether a restore test drives it, so that no other worker may take it from the queue.
    fn driven_by_test(&self) -> bool {
        false
    }
    /// Whether it waits for somebody outside: no worker holds it, and none has left it behind.
    fn is_on_hold(&self) -> bool {
        false
    }
    /// The domain's `step`.
    fn apply(
        &self,
        event: Self::Event,
        now: Timestamp,
    ) -> Result<(Self, Vec<Effect>), IllegalTransition>;
    /// What the job's log says about the event; `None` for mere progress, which the job itself
    /// shows and which would drown everything else in a log.
    fn note(event: &Self::Event) -> Option<EventNote>;
}

/// An event as a job's log tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventNote {
    /// What happened, for people.
    pub message: String,
    /// The timed step, when the event reports one.
    pub step: Option<StepRecord>,
}

impl EventNote {
    fn text(message: impl Into<String>) -> Self {
        Self { message: message.into(), step: None }
    }
}

/// What somebody outside said.
fn reported(status: ValidationStatus, message: Option<&str>) -> EventNote {
    EventNote::text(match message {
        Some(message) => format!("validation {status} reported: {message}"),
        None => format!("validation {status} reported"),
    })
}

/// The methods that give fields which every job has under the same name.
macro_rules! what_every_job_has {
    () => {
        fn id(&self) -> &str {
            &self.id
        }
        fn account(&self) -> &AccountId {
            &self.account
        }
        fn created_at(&self) -> Timestamp {
            self.created_at
        }
        fn completed_at(&self) -> Option<Timestamp> {
            self.completed_at
        }
        fn state_name(&self) -> &'static str {
            self.state.as_str()
        }
    };
}

impl Job for BackupJob {
    type Event = BackupJobEvent;
    const TYPE: &'static str = "BACKUP";
    const NAME: &'static str = "backup job";
    const WAITING: &'static str = "CREATED";
    const ONE_PER_RESOURCE: bool = true;

    what_every_job_has!();
    fn is_final(&self) -> bool {
        self.state.is_final()
    }
    fn resource_arn(&self) -> &Arn {
        &self.resource_arn
    }
    fn vault_name(&self) -> Option<&str> {
        Some(&self.vault_name)
    }
    fn recovery_point_arn(&self) -> Option<&Arn> {
        self.recovery_point_arn.as_ref()
    }
    fn role_arn(&self) -> Option<&Arn> {
        Some(&self.role_arn)
    }
    fn idempotency_token(&self) -> Option<&str> {
        self.idempotency_token.as_deref()
    }
    fn apply(
        &self,
        event: BackupJobEvent,
        now: Timestamp,
    ) -> Result<(Self, Vec<Effect>), IllegalTransition> {
        backup_job::step(self, event, now)
    }
    fn note(event: &BackupJobEvent) -> Option<EventNote> {
        use BackupJobEvent as E;
        Some(match event {
            E::Started => EventNote::text("started"),
            E::Progressed { .. } => return None,
            E::StopRequested { reason } => EventNote::text(format!("stop requested: {reason}")),
            E::Stopped => EventNote::text("stopped"),
            E::Completed(result) => EventNote::text(format!(
                "completed: {} read, {} stored, {} skipped",
                result.bytes_transferred,
                result.bytes_stored,
                result.skipped.len()
            )),
            E::Failed { message } => EventNote::text(format!("failed: {message}")),
            E::Interrupted { reason } => EventNote::text(format!("interrupted: {reason}")),
            E::Suspended { reason } => EventNote::text(format!("suspended: {reason}")),
            E::PutOff { reason } => EventNote::text(format!("not started yet: {reason}")),
            E::StartWindowClosed => EventNote::text("start window closed"),
            E::Missed { occurrences, first, last } => EventNote::text(format!(
                "missed: {occurrences} scheduled backups, from {first} to {last}"
            )),
        })
    }
}

impl Job for RestoreJob {
    type Event = RestoreJobEvent;
    const TYPE: &'static str = "RESTORE";
    const NAME: &'static str = "restore job";
    const WAITING: &'static str = "PENDING";
    const ONE_PER_RESOURCE: bool = false;

    what_every_job_has!();
    fn is_final(&self) -> bool {
        self.state.is_final()
    }
    fn resource_arn(&self) -> &Arn {
        &self.source_resource_arn
    }
    fn vault_name(&self) -> Option<&str> {
        Some(&self.vault_name)
    }
    fn recovery_point_arn(&self) -> Option<&Arn> {
        Some(&self.recovery_point_arn)
    }
    fn role_arn(&self) -> Option<&Arn> {
        Some(&self.role_arn)
    }
    fn idempotency_token(&self) -> Option<&str> {
        self.idempotency_token.as_deref()
    }
    fn driven_by_test(&self) -> bool {
        self.test_token.is_some()
    }
    fn testing_plan_arn(&self) -> Option<&Arn> {
        self.testing_plan_arn.as_ref()
    }
    fn apply(
        &self,
        event: RestoreJobEvent,
        now: Timestamp,
    ) -> Result<(Self, Vec<Effect>), IllegalTransition> {
        restore_job::step(self, event, now)
    }
    fn note(event: &RestoreJobEvent) -> Option<EventNote> {
        use RestoreJobEvent as E;
        Some(match event {
            E::Started => EventNote::text("started"),
            E::Resumed => EventNote::text("taken up again"),
            E::PutOff { reason } => EventNote::text(format!("put off: {reason}")),
            E::Suspended { reason } => EventNote::text(format!("suspended: {reason}")),
            E::StopRequested { reason } => EventNote::text(format!("stop requested: {reason}")),
            E::Progressed { .. } => return None,
            E::Completed { bytes_restored, message, .. } => EventNote::text(match message {
                Some(message) => format!("completed: {bytes_restored} written. {message}"),
                None => format!("completed: {bytes_restored} written"),
            }),
            E::Failed { message } => EventNote::text(format!("failed: {message}")),
            E::Aborted { message } => EventNote::text(format!("aborted: {message}")),
            E::Validated { status, message } => {
                EventNote::text(format!("validation {status}: {message}"))
            }
            E::ValidationAsked { message } => EventNote::text(format!("validation: {message}")),
            E::ValidationReported { status, message } => reported(*status, message.as_deref()),
            E::Deletion { status, message } => EventNote::text(match message {
                Some(message) => format!("deletion {status}: {message}"),
                None => format!("deletion {status}"),
            }),
        })
    }
}

impl Job for RestoreTest {
    type Event = RestoreTestEvent;
    const TYPE: &'static str = "RESTORE_TEST";
    const NAME: &'static str = "restore test";
    const WAITING: &'static str = "PENDING";
    const ONE_PER_RESOURCE: bool = false;

    what_every_job_has!();
    fn is_final(&self) -> bool {
        self.state == RestoreTestState::Finished
    }
    fn resource_arn(&self) -> &Arn {
        &self.resource_arn
    }
    fn vault_name(&self) -> Option<&str> {
        self.vault_name.as_deref()
    }
    fn recovery_point_arn(&self) -> Option<&Arn> {
        self.recovery_point_arn.as_ref().or(self.requested_point.as_ref())
    }
    fn role_arn(&self) -> Option<&Arn> {
        self.planned.as_ref().map(|planned| &planned.role_arn)
    }
    fn testing_plan_arn(&self) -> Option<&Arn> {
        self.planned.as_ref().map(|planned| &planned.plan_arn)
    }
    fn verdict(&self) -> Option<Verdict> {
        self.verdict
    }
    fn idempotency_token(&self) -> Option<&str> {
        None
    }
    fn is_on_hold(&self) -> bool {
        self.state == RestoreTestState::Validating
    }
    fn apply(
        &self,
        event: RestoreTestEvent,
        now: Timestamp,
    ) -> Result<(Self, Vec<Effect>), IllegalTransition> {
        restore_test::step(self, event, now)
    }
    fn note(event: &RestoreTestEvent) -> Option<EventNote> {
        use RestoreTestEvent as E;
        Some(match event {
            E::Waits { reason, .. } => EventNote::text(format!("waits: {reason}")),
            E::PassedOver { reason } => EventNote::text(format!("passed over: {reason}")),
            E::Started => EventNote::text("started"),
            E::PointChosen { recovery_point_arn, .. } => {
                EventNote::text(format!("recovery point chosen: {recovery_point_arn}"))
            }
            E::Restored { .. } => EventNote::text("restored"),
            E::Tested(findings) => {
                let passed = findings.probes.iter().filter(|p| p.passed).count();
                let asked = findings.probes.len();
                EventNote::text(format!("tested: {passed} of {asked} probes passed"))
            }
            E::Controlled(findings) => {
                let killed = findings.mutants.iter().filter(|m| m.killed == Some(true)).count();
                let made = findings.mutants.len();
                EventNote::text(format!("negative control: {killed} of {made} broken copies found"))
            }
            E::ValidationReported { status, message } => reported(*status, message.as_deref()),
            E::ValidationClosed => EventNote::text("validation window closed"),
            E::StepDone(record) => EventNote {
                message: format!("{}: {}", record.name, record.detail),
                step: Some(record.clone()),
            },
            E::Broken(failure) => {
                EventNote::text(format!("broken off in {}: {}", failure.step, failure.message))
            }
            E::Interrupted { reason } => EventNote::text(format!("interrupted: {reason}")),
            E::Suspended { reason } => EventNote::text(format!("suspended: {reason}")),
            E::Reaped { cleaned_up: true } => EventNote::text("reaped: everything is gone"),
            E::Reaped { cleaned_up: false } => EventNote::text("reaped: something is left"),
        })
    }
}

impl Job for CareRun {
    type Event = CareEvent;
    const TYPE: &'static str = "CARE";
    const NAME: &'static str = "care run";
    const WAITING: &'static str = "PENDING";
    const ONE_PER_RESOURCE: bool = false;

    what_every_job_has!();
    fn is_final(&self) -> bool {
        self.state.is_final()
    }
    fn resource_arn(&self) -> &Arn {
        &self.vault_arn
    }
    fn vault_name(&self) -> Option<&str> {
        Some(&self.vault_name)
    }
    fn recovery_point_arn(&self) -> Option<&Arn> {
        None
    }
    fn role_arn(&self) -> Option<&Arn> {
        None
    }
    fn idempotency_token(&self) -> Option<&str> {
        None
    }
    fn apply(
        &self,
        event: CareEvent,
        now: Timestamp,
    ) -> Result<(Self, Vec<Effect>), IllegalTransition> {
        care::step(self, event, now)
    }
    fn note(event: &CareEvent) -> Option<EventNote> {
        use CareEvent as E;
        Some(match event {
            E::Started => EventNote::text("started"),
            E::Progressed { .. } => return None,
            E::StopRequested { reason } => EventNote::text(format!("stop requested: {reason}")),
            E::Completed(report) => EventNote::text(format!("completed: {}", report.summary)),
            E::Failed { message } => EventNote::text(format!("failed: {message}")),
            E::Stopped { message } => EventNote::text(format!("stopped: {message}")),
            E::Interrupted { reason } => EventNote::text(format!("interrupted: {reason}")),
            E::Suspended { reason } => EventNote::text(format!("suspended: {reason}")),
        })
    }
}

//! Restore jobs and their state machine.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::step::state_names;
use crate::{
    AccountId, Arn, Effect, IllegalTransition, Kind, Notification, NotificationEvent, Region,
};

/// One restore, from request to end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreJob {
    /// UUID.
    pub id: String,
    /// Tenant.
    pub account: AccountId,
    /// Site.
    pub region: Region,
    /// What is restored.
    pub recovery_point_arn: Arn,
    /// The vault that holds it.
    pub vault_name: String,
    /// The resource it is a state of.
    pub source_resource_arn: Arn,
    /// Kind of that resource.
    pub kind: Kind,
    /// Under which role.
    pub role_arn: Arn,
    /// What the caller asked for; the driver has checked it.
    pub metadata: BTreeMap<String, String>,
    /// The caller's idempotency token.
    pub idempotency_token: Option<String>,
    /// The mark of the restore test this restore belongs to; `None` for an operator's own. Only
    /// what bears a token is ever reaped.
    pub test_token: Option<String>,
    /// The restore testing plan behind that test, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub testing_plan_arn: Option<Arn>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it first began to run; to be taken up again does not change it.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Where it stands.
    pub state: RestoreJobState,
    /// Why, for people.
    pub status_message: Option<String>,
    /// Who asked it to stop while it ran, for people. It ends, and is never gone on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_requested: Option<String>,
    /// How often it was begun without coming to an orderly end: a server that is told to stop sets it
    /// back, one that dies does not.
    #[serde(default)]
    pub attempts: u32,
    /// Bytes of the recovery point.
    pub backup_size_bytes: u64,
    /// Bytes written so far.
    pub bytes_restored: u64,
    /// What it created.
    pub created_resource_arn: Option<Arn>,
    /// What the test said of its copy, or somebody outside of an operator's own restore.
    pub validation: Option<ValidationStatus>,
    /// Why, for people.
    pub validation_message: Option<String>,
    /// Whether the test's copy is gone; `None` for an operator's own.
    pub deletion: Option<DeletionStatus>,
    /// Why, for people.
    pub deletion_message: Option<String>,
}

/// A restore that was begun so often, and each time its server died, is not begun again: it may be what
/// they die of.
pub const MAX_RESTORE_ATTEMPTS: u32 = 5;

/// AWS's states of a restore job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RestoreJobState {
    /// Waiting.
    Pending,
    /// Writing.
    Running,
    /// Everything asked for is there.
    Completed,
    /// Stopped; what was written and not in place is gone again.
    Aborted,
    /// Could not be done; what was written and not in place is gone again.
    Failed,
}
state_names!(RestoreJobState {
    Pending = "PENDING",
    Running = "RUNNING",
    Completed = "COMPLETED",
    Aborted = "ABORTED",
    Failed = "FAILED",
});

/// AWS's validation states of a restore test's restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValidationStatus {
    /// The test is not over.
    Validating,
    /// PASSED.
    Successful,
    /// FAILED.
    Failed,
    /// INCONCLUSIVE.
    TimedOut,
}
state_names!(ValidationStatus {
    Validating = "VALIDATING",
    Successful = "SUCCESSFUL",
    Failed = "FAILED",
    TimedOut = "TIMED_OUT",
});

/// AWS's deletion states of a restore test's restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeletionStatus {
    /// Being deleted.
    Deleting,
    /// Gone.
    Successful,
    /// Still there; the message says where.
    Failed,
}
state_names!(DeletionStatus {
    Deleting = "DELETING",
    Successful = "SUCCESSFUL",
    Failed = "FAILED",
});

impl RestoreJobState {
    /// Whether nothing more will happen to the restore itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Aborted | Self::Failed)
    }
}

/// What can happen to a restore job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RestoreJobEvent {
    /// A runner took it and begins to write.
    Started,
    /// A runner took it up after another one ended before it.
    Resumed,
    /// Its server stops; the next start takes it up.
    Suspended {
        /// Why, for people.
        reason: String,
    },
    /// It cannot go on yet, and another try may help.
    PutOff {
        /// Why.
        reason: String,
    },
    /// Somebody wants it to stop: its worker, or the next to find it, ends it.
    StopRequested {
        /// Who.
        reason: String,
    },
    /// So much is written.
    Progressed {
        /// Bytes written in all.
        bytes_restored: u64,
    },
    /// Everything asked for is in place.
    Completed {
        /// What was created.
        created_resource_arn: Option<Arn>,
        /// Bytes written.
        bytes_restored: u64,
        /// Remarks, such as ownership that could not be set.
        message: Option<String>,
    },
    /// It could not be done.
    Failed {
        /// Why and what to do.
        message: String,
    },
    /// Somebody stopped it.
    Aborted {
        /// Why.
        message: String,
    },
    /// The restore test it belongs to gave its verdict.
    Validated {
        /// The verdict in AWS's words.
        status: ValidationStatus,
        /// The reason.
        message: String,
    },
    /// The restore test it belongs to keeps the copy for somebody outside to look at.
    ValidationAsked {
        /// Where it lies and how long.
        message: String,
    },
    /// Somebody outside looked at what an operator restored, and reports.
    ValidationReported {
        /// What was found, or that it is still being looked at.
        status: ValidationStatus,
        /// In the reporter's words.
        message: Option<String>,
    },
    /// The restore test deletes the copy, or has tried to.
    Deletion {
        /// How far.
        status: DeletionStatus,
        /// What went wrong, if anything.
        message: Option<String>,
    },
}

impl RestoreJob {
    /// Whether it has been begun as often as it may be.
    pub fn is_worn_out(&self) -> bool {
        self.attempts >= MAX_RESTORE_ATTEMPTS
    }

    /// Part done, 0 to 100.
    pub fn percent_done(&self) -> f64 {
        match self.state {
            RestoreJobState::Completed => 100.0,
            _ if self.backup_size_bytes == 0 => 0.0,
            #[allow(clippy::cast_precision_loss)] // a percentage needs no 53 bits
            _ => (self.bytes_restored as f64 * 100.0 / self.backup_size_bytes as f64).min(99.0),
        }
    }

    fn notify(&self, event: NotificationEvent, now: Timestamp) -> Vec<Effect> {
        vec![Effect::Notify(Box::new(Notification {
            event,
            account: self.account.clone(),
            region: self.region.clone(),
            vault_name: self.vault_name.clone(),
            at: now,
            job_id: self.id.clone(),
            started_at: self.started_at.unwrap_or(self.created_at),
            resource_arn: Some(self.source_resource_arn.clone()),
            recovery_point_arn: Some(self.recovery_point_arn.clone()),
            created_resource_arn: self.created_resource_arn.clone(),
            reason: self.status_message.clone(),
        }))]
    }

    fn end(mut self, state: RestoreJobState, message: Option<String>, now: Timestamp) -> Stepped {
        self.state = state;
        self.completed_at = Some(now);
        self.status_message = message;
        let effects = self.notify(NotificationEvent::RestoreJobEnded(state), now);
        (self, effects)
    }
}

type Stepped = (RestoreJob, Vec<Effect>);

/// The one way a restore job changes: the new job and the effects that belong to the change.
pub fn step(
    job: &RestoreJob,
    event: RestoreJobEvent,
    now: Timestamp,
) -> Result<Stepped, IllegalTransition> {
    use RestoreJobEvent as E;
    use RestoreJobState as S;
    let mut job = job.clone();
    let refuse = |event| {
        Err(IllegalTransition {
            what: format!("restore job {}", job.id),
            state: job.state.to_string(),
            event,
        })
    };
    match (job.state, event) {
        (S::Pending, E::Started) => {
            job.state = S::Running;
            job.started_at = Some(now);
            job.attempts = 1;
            let effects = job.notify(NotificationEvent::RestoreJobStarted, now);
            Ok((job, effects))
        }
        (_, E::Started) => refuse("started"),
        (S::Running, E::Resumed) if job.stop_requested.is_none() => {
            job.attempts = job.attempts.saturating_add(1);
            job.status_message = None;
            Ok((job, Vec::new()))
        }
        (_, E::Resumed) => refuse("resumed"),
        (S::Running, E::Suspended { reason }) => {
            job.attempts = job.attempts.saturating_sub(1);
            job.status_message = Some(reason);
            Ok((job, Vec::new()))
        }
        (_, E::Suspended { .. }) => refuse("suspended"),
        (S::Running, E::PutOff { reason }) if job.stop_requested.is_none() => {
            job.status_message = Some(format!("It cannot go on yet, and is tried again: {reason}"));
            Ok((job, Vec::new()))
        }
        (_, E::PutOff { .. }) => refuse("put off"),
        (S::Pending, E::StopRequested { reason }) => Ok(job.end(S::Aborted, Some(reason), now)),
        (S::Running, E::StopRequested { reason }) => {
            job.stop_requested.get_or_insert(reason);
            Ok((job, Vec::new()))
        }
        (_, E::StopRequested { .. }) => refuse("stopped"),
        (S::Running, E::Progressed { bytes_restored }) => {
            job.bytes_restored = bytes_restored;
            Ok((job, Vec::new()))
        }
        (_, E::Progressed { .. }) => refuse("progressed"),
        (S::Running, E::Completed { created_resource_arn, bytes_restored, message }) => {
            job.created_resource_arn = created_resource_arn;
            job.bytes_restored = bytes_restored;
            Ok(job.end(S::Completed, message, now))
        }
        (_, E::Completed { .. }) => refuse("completed"),
        (S::Pending | S::Running, E::Failed { message }) => {
            Ok(job.end(S::Failed, Some(message), now))
        }
        (_, E::Failed { .. }) => refuse("failed"),
        (S::Pending | S::Running, E::Aborted { message }) => {
            Ok(job.end(S::Aborted, Some(message), now))
        }
        (_, E::Aborted { .. }) => refuse("aborted"),
        // An operator's own restore can never be validated or deleted by a test.
        (_, E::Validated { .. } | E::ValidationAsked { .. } | E::Deletion { .. })
            if job.test_token.is_none() =>
        {
            refuse("validated or deleted by a restore test: it does not belong to one")
        }
        (_, E::ValidationReported { .. }) if job.test_token.is_some() => {
            refuse("validated from outside")
        }
        (S::Completed, E::ValidationReported { status, message }) => match job.validation {
            Some(said) if said != ValidationStatus::Validating && said != status => {
                refuse("validated again with another result")
            }
            _ => {
                job.validation = Some(status);
                job.validation_message = message;
                Ok((job, Vec::new()))
            }
        },
        (_, E::ValidationReported { .. }) => refuse("validated"),
        (_, E::Validated { status, message }) => {
            job.validation = Some(status);
            job.validation_message = Some(message);
            Ok((job, Vec::new()))
        }
        (_, E::ValidationAsked { message }) => {
            job.validation = Some(ValidationStatus::Validating);
            job.validation_message = Some(message);
            Ok((job, Vec::new()))
        }
        (_, E::Deletion { status, message }) => {
            job.deletion = Some(status);
            job.deletion_message = message;
            Ok((job, Vec::new()))
        }
    }
}

//! Backup jobs and their state machine.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::plan::add_minutes;
use crate::step::{MOST_ATTEMPTS, is_zero, state_names};
use crate::{
    AccountId, Arn, Effect, IllegalTransition, Kind, Lifecycle, Notification, NotificationEvent,
    Region, Tags,
};

/// One run of a backup, from request to end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupJob {
    /// UUID.
    pub id: String,
    /// Tenant.
    pub account: AccountId,
    /// Site.
    pub region: Region,
    /// Where the recovery point goes.
    pub vault_name: String,
    /// ARN of that vault.
    pub vault_arn: Arn,
    /// What is backed up.
    pub resource_arn: Arn,
    /// Its name at the time.
    pub resource_name: String,
    /// Its kind.
    pub kind: Kind,
    /// Under which role.
    pub role_arn: Arn,
    /// Retention of the recovery point.
    pub lifecycle: Lifecycle,
    /// Tags of the recovery point.
    pub recovery_point_tags: Tags,
    /// The plan and rule that asked for it; `None` for an on-demand job.
    pub created_by: Option<CreatedBy>,
    /// The caller's idempotency token.
    pub idempotency_token: Option<String>,
    /// When it was asked for, or scheduled.
    pub created_at: Timestamp,
    /// The last moment it may start.
    pub start_by: Timestamp,
    /// Minutes it may take: from its start under a plan, from its creation on demand.
    pub completion_window_minutes: i64,
    /// When it first started to run; an interruption does not change it.
    pub started_at: Option<Timestamp>,
    /// How often it ran and was broken off by the death of its server; an orderly stop does not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interruptions: u32,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Where it stands.
    pub state: BackupJobState,
    /// Why, for people; always given when the end is not COMPLETED.
    pub status_message: Option<String>,
    /// Bytes read from the source so far.
    pub bytes_transferred: u64,
    /// Bytes the source holds as far as known; for the percentage.
    pub bytes_expected: Option<u64>,
    /// Bytes of the resource in the recovery point.
    pub backup_size_bytes: Option<u64>,
    /// Bytes added to the repository.
    pub bytes_stored: Option<u64>,
    /// What it made.
    pub recovery_point_arn: Option<Arn>,
    /// Paths that could not be read, with the reason; what makes the job PARTIAL.
    #[serde(default)]
    pub skipped: Vec<SkippedPath>,
}

/// A path that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedPath {
    /// Relative to the resource's root; bytes that are not UTF-8 as `\xNN`.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// Plan and rule behind a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedBy {
    /// The plan's id.
    pub plan_id: String,
    /// The plan's ARN.
    pub plan_arn: Arn,
    /// The plan's name.
    pub plan_name: String,
    /// The plan's version.
    pub plan_version: String,
    /// The rule's id.
    pub rule_id: String,
    /// The rule's name.
    pub rule_name: String,
    /// The rule's schedule.
    pub rule_cron: String,
    /// The rule's time zone.
    pub rule_timezone: String,
    /// The id of the selection that matched the resource; unknown of older jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection_id: Option<String>,
}

/// AWS's states of a backup job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BackupJobState {
    /// Waiting for its start, or to be begun again after an interruption.
    Created,
    /// Claimed, preparing.
    Pending,
    /// Reading and storing.
    Running,
    /// Asked to stop, still cleaning up.
    Aborting,
    /// Stopped on request or because its completion window closed.
    Aborted,
    /// The recovery point is whole.
    Completed,
    /// No recovery point was made.
    Failed,
    /// Never started inside its start window.
    Expired,
    /// A recovery point was made, some paths are missing from it.
    Partial,
}
state_names!(BackupJobState {
    Created = "CREATED",
    Pending = "PENDING",
    Running = "RUNNING",
    Aborting = "ABORTING",
    Aborted = "ABORTED",
    Completed = "COMPLETED",
    Failed = "FAILED",
    Expired = "EXPIRED",
    Partial = "PARTIAL",
});

impl BackupJobState {
    /// Whether nothing more will happen to the job.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Aborted | Self::Completed | Self::Failed | Self::Expired | Self::Partial
        )
    }
}

/// What can happen to a backup job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum BackupJobEvent {
    /// A runner took it and begins to read.
    Started,
    /// The runner read so much.
    Progressed {
        /// Bytes read in all.
        bytes_transferred: u64,
        /// Bytes there are, as far as known.
        bytes_expected: Option<u64>,
    },
    /// Somebody asked to stop it, or its completion window closed.
    StopRequested {
        /// Why, for people.
        reason: String,
    },
    /// The runner has stopped and cleaned up.
    Stopped,
    /// The server died while it ran: it waits for its next attempt, as long as there are not too many.
    Interrupted {
        /// What happened, for people.
        reason: String,
    },
    /// Its server stops in order: it waits to be gone on with, however often that happens.
    Suspended {
        /// Why, for people.
        reason: String,
    },
    /// The recovery point is committed in the repository.
    Completed(Box<BackupResult>),
    /// It could not be done.
    Failed {
        /// Why and what to do.
        message: String,
    },
    /// It could not begin yet, and another try may help.
    PutOff {
        /// Why.
        reason: String,
    },
    /// It was not started in time.
    StartWindowClosed,
    /// It stands for scheduled backups that nobody was there to start, too many to make up for.
    Missed {
        /// How many.
        occurrences: u64,
        /// When the first of them was due.
        first: Timestamp,
        /// When the last of them was due.
        last: Timestamp,
    },
}

/// What a finished backup made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackupResult {
    /// The new recovery point.
    pub recovery_point_arn: Arn,
    /// Bytes of the resource in it.
    pub backup_size_bytes: u64,
    /// Bytes read from the source.
    pub bytes_transferred: u64,
    /// Bytes added to the repository.
    pub bytes_stored: u64,
    /// Paths that could not be read; any makes the job PARTIAL.
    pub skipped: Vec<SkippedPath>,
    /// Remarks of the driver.
    pub message: Option<String>,
}

impl BackupJob {
    /// Whether it waits for its next attempt after an interruption. It has started, so its start
    /// window concerns it no more.
    pub fn is_interrupted(&self) -> bool {
        self.state == BackupJobState::Created && self.started_at.is_some()
    }

    /// When it must have ended.
    pub fn complete_by(&self) -> Timestamp {
        let from = match self.created_by {
            Some(_) => self.started_at.unwrap_or(self.start_by),
            None => self.created_at,
        };
        add_minutes(from, self.completion_window_minutes)
    }

    /// Part done, 0 to 100, as far as known.
    pub fn percent_done(&self) -> f64 {
        match (self.state, self.bytes_expected) {
            (BackupJobState::Completed | BackupJobState::Partial, _) => 100.0,
            #[allow(clippy::cast_precision_loss)] // a percentage needs no 53 bits
            (_, Some(total)) if total > 0 => {
                (self.bytes_transferred as f64 * 100.0 / total as f64).min(99.0)
            }
            _ => 0.0,
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
            resource_arn: Some(self.resource_arn.clone()),
            recovery_point_arn: self.recovery_point_arn.clone(),
            created_resource_arn: None,
            reason: self.status_message.clone(),
        }))]
    }

    fn wait_again(mut self, reason: &str) -> Self {
        self.state = BackupJobState::Created;
        self.status_message = Some(format!(
            "{reason} The job goes on as soon as a server runs, and does not store again what is \
             in the vault already."
        ));
        self
    }

    /// Broken off by the end of its server, which it may be itself that ends it.
    fn interrupted(mut self, reason: &str, now: Timestamp) -> Stepped {
        self.interruptions += 1;
        if self.interruptions >= MOST_ATTEMPTS {
            let message = format!(
                "{reason} That was attempt {MOST_ATTEMPTS}, and it is the last one; no recovery point \
                 was made. Find out why the server ends while it backs this resource up, then start \
                 the backup again."
            );
            return self.end(BackupJobState::Failed, Some(message), now);
        }
        (self.wait_again(reason), Vec::new())
    }

    fn completed(mut self, result: BackupResult, now: Timestamp) -> Stepped {
        let (state, message) = if result.skipped.is_empty() {
            (BackupJobState::Completed, result.message)
        } else {
            let n = result.skipped.len();
            let first = &result.skipped[0];
            let text = format!(
                "{n} path{} could not be read and {} missing from the recovery point, the first: {} \
                 ({}). The job's log lists them all.",
                if n == 1 { "" } else { "s" },
                if n == 1 { "is" } else { "are" },
                first.path,
                first.reason,
            );
            let message = result.message.map_or(text.clone(), |more| format!("{text} {more}"));
            (BackupJobState::Partial, Some(message))
        };
        self.status_message = None;
        self.recovery_point_arn = Some(result.recovery_point_arn);
        self.backup_size_bytes = Some(result.backup_size_bytes);
        self.bytes_transferred = result.bytes_transferred;
        self.bytes_stored = Some(result.bytes_stored);
        self.skipped = result.skipped;
        self.end(state, message, now)
    }

    fn end(mut self, state: BackupJobState, message: Option<String>, now: Timestamp) -> Stepped {
        self.state = state;
        self.completed_at = Some(now);
        if message.is_some() {
            self.status_message = message;
        }
        let effects = self.notify(NotificationEvent::BackupJobEnded(state), now);
        (self, effects)
    }
}

type Stepped = (BackupJob, Vec<Effect>);

/// How the message of a job begins that was put off.
const NOT_STARTED: &str = "Not started yet: ";

/// The one way a backup job changes: the new job and the effects that belong to the change.
pub fn step(
    job: &BackupJob,
    event: BackupJobEvent,
    now: Timestamp,
) -> Result<Stepped, IllegalTransition> {
    use BackupJobEvent as E;
    use BackupJobState as S;
    let mut job = job.clone();
    let refuse = |event| {
        Err(IllegalTransition {
            what: format!("backup job {}", job.id),
            state: job.state.to_string(),
            event,
        })
    };
    match (job.state, event) {
        (S::Created | S::Pending, E::Started)
            // One that goes on after an interruption started within its window.
            if now < job.start_by || job.started_at.is_some() =>
        {
            job.state = S::Running;
            if job.started_at.is_some() {
                // Another attempt of what was told of as started: it counts its bytes anew.
                job.status_message = None;
                job.bytes_transferred = 0;
                return Ok((job, Vec::new()));
            }
            job.started_at = Some(now);
            job.status_message = None;
            let effects = job.notify(NotificationEvent::BackupJobStarted, now);
            Ok((job, effects))
        }
        (_, E::Started) => refuse("started"),

        (S::Running | S::Aborting, E::Progressed { bytes_transferred, bytes_expected }) => {
            job.bytes_transferred = bytes_transferred;
            job.bytes_expected = bytes_expected.or(job.bytes_expected);
            Ok((job, Vec::new()))
        }
        (_, E::Progressed { .. }) => refuse("progressed"),

        // Nothing runs yet, so there is nothing to wait for.
        (S::Created | S::Pending, E::StopRequested { reason }) => {
            Ok(job.end(S::Aborted, Some(reason), now))
        }
        (S::Running, E::StopRequested { reason }) => {
            job.state = S::Aborting;
            job.status_message = Some(reason);
            Ok((job, Vec::new()))
        }
        // Stopping twice is the same as stopping once.
        (S::Aborting, E::StopRequested { .. }) => Ok((job, Vec::new())),
        (_, E::StopRequested { .. }) => refuse("stopped"),

        (S::Aborting, E::Stopped) => Ok(job.end(S::Aborted, None, now)),
        (_, E::Stopped) => refuse("ended as stopped"),

        (S::Running, E::Interrupted { reason }) => Ok(job.interrupted(&reason, now)),
        (S::Running, E::Suspended { reason }) => Ok((job.wait_again(&reason), Vec::new())),
        // It was to end anyway.
        (S::Aborting, E::Interrupted { .. } | E::Suspended { .. }) => {
            Ok(job.end(S::Aborted, None, now))
        }
        (_, E::Interrupted { .. } | E::Suspended { .. }) => refuse("interrupted"),

        // A stop that comes when the recovery point is already committed comes too late: the
        // point exists, and saying otherwise would be untrue.
        (S::Running | S::Aborting, E::Completed(result)) => Ok(job.completed(*result, now)),
        (_, E::Completed(_)) => refuse("completed"),

        (S::Aborting, E::Failed { message }) => {
            let asked = job.status_message.take().unwrap_or_default();
            Ok(job.end(S::Aborted, Some(format!("{asked} While stopping: {message}")), now))
        }
        (S::Created | S::Pending | S::Running, E::Failed { message }) => {
            Ok(job.end(S::Failed, Some(message), now))
        }
        (_, E::Failed { .. }) => refuse("failed"),

        (S::Created, E::PutOff { reason }) => {
            let waits = if job.started_at.is_some() { "It cannot go on yet: " } else { NOT_STARTED };
            job.status_message = Some(format!("{waits}{reason}"));
            Ok((job, Vec::new()))
        }
        (_, E::PutOff { .. }) => refuse("put off"),

        (S::Created | S::Pending, E::StartWindowClosed) if job.started_at.is_none() => {
            let why = job.status_message.as_deref().and_then(|told| told.strip_prefix(NOT_STARTED));
            let why = why.map(|why| format!(" It was tried, the last time in vain: {why}"));
            let message = format!(
                "The job did not start before its start window closed at {}.{}",
                job.start_by,
                why.unwrap_or_default()
            );
            Ok(job.end(S::Expired, Some(message), now))
        }
        (S::Created, E::Missed { occurrences, first, last }) if job.started_at.is_none() => {
            let message = format!(
                "{occurrences} scheduled backup{} of this rule, due from {first} to {last}, {} missed: \
                 no server was there to start {}, or its clock jumped ahead. Only the newest \
                 occurrences are made up for; back the resource up now if none of those succeeds.",
                if occurrences == 1 { "" } else { "s" },
                if occurrences == 1 { "was" } else { "were" },
                if occurrences == 1 { "it" } else { "them" },
            );
            Ok(job.end(S::Expired, Some(message), now))
        }
        (_, E::StartWindowClosed | E::Missed { .. }) => refuse("expired"),
    }
}

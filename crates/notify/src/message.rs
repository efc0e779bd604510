//! How events are worded.

use std::collections::BTreeMap;

use jiff::Timestamp;
use provault_domain::care::VaultAlarm;
use provault_domain::{
    BackupJobState, Notification, NotificationEvent, ResourceTrouble, RestoreJobState,
    Subscription, Verdict,
};
use serde::{Deserialize, Serialize};

/// The subject of AWS Backup's own SNS messages.
const SUBJECT: &str = "Notification from AWS Backup";
/// The subject of the end of a restore test.
const RESTORE_TEST_SUBJECT: &str = "Restore Test Status";
/// The subject of the question to somebody outside.
const VALIDATION_SUBJECT: &str = "Restore Test Validation";
/// The subject of an alarm about a recovery point.
const POINT_SUBJECT: &str = "Recovery Point Alarm";
const SHRUNK: &str = "A new recovery point holds much less than the one before it.";
const HELD: &str = "A recovery point is kept beyond its time, for nothing newer is as good.";
/// The subject of an alarm about a vault.
const VAULT_SUBJECT: &str = "Backup Vault Alarm";
/// The subject of an alarm about a resource.
const RESOURCE_SUBJECT: &str = "Protected Resource Alarm";
/// The subject of a test message.
const TEST_SUBJECT: &str = "Test of a subscription";
/// Characters of a reason that are sent; the rest stands in the job.
const LONGEST_REASON: usize = 2000;

/// A worded event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// One line.
    pub subject: String,
    /// One or more lines, parted by `\n`, without one at the end.
    pub text: String,
    /// SNS message attributes, all of type `String`: `EventType`, `State`, `AccountId`, `Id` and
    /// `StartTime`, as AWS Backup sets them.
    pub attributes: BTreeMap<String, String>,
}

/// Words `notification` as AWS Backup words its SNS messages (developer guide, page
/// `backup-notifications`).
///
/// The guide shows only the ends COMPLETED, FAILED and EXPIRED of backup jobs; the other events
/// follow their pattern. Their `State` is the job's state, RUNNING for a start. The end of a
/// restore test, of which AWS sends nothing, has `EventType` `RESTORE_TEST` and the verdict as its
/// `State`; the question whether somebody outside finds its copy well has `RESTORE_JOB` and
/// VALIDATING, and the `Id` to report about; an alarm about a vault has `BACKUP_VAULT` and what is wrong, one about a recovery point
/// `RECOVERY_POINT` and SHRUNK, or EXPIRED where it is kept beyond its time, one about a resource `RESOURCE`.
pub fn render(notification: &Notification) -> Message {
    let n = notification;
    let (subject, event_type, state, text) = match n.event {
        NotificationEvent::BackupJobStarted => {
            (SUBJECT, "BACKUP_JOB", BackupJobState::Running.as_str(), backup(n, "was started."))
        }
        NotificationEvent::BackupJobEnded(state) => {
            (SUBJECT, "BACKUP_JOB", state.as_str(), backup(n, backup_end(state)))
        }
        NotificationEvent::RestoreJobStarted => {
            (SUBJECT, "RESTORE_JOB", RestoreJobState::Running.as_str(), restore(n, "was started."))
        }
        NotificationEvent::RestoreJobEnded(state) => {
            (SUBJECT, "RESTORE_JOB", state.as_str(), restore(n, restore_end(state)))
        }
        NotificationEvent::RestoreTestEnded { verdict, cleaned_up } => (
            RESTORE_TEST_SUBJECT,
            "RESTORE_TEST",
            verdict.as_str(),
            restore_test(n, verdict, cleaned_up),
        ),
        NotificationEvent::ValidationAsked => {
            (VALIDATION_SUBJECT, "RESTORE_JOB", "VALIDATING", with_reason(validation(n), n))
        }
        NotificationEvent::ResourceAlarm(trouble) => {
            (RESOURCE_SUBJECT, "RESOURCE", trouble.as_str(), resource_alarm(n, trouble))
        }
        NotificationEvent::RecoveryPointShrunk => {
            (POINT_SUBJECT, "RECOVERY_POINT", "SHRUNK", recovery_point(n, SHRUNK))
        }
        NotificationEvent::RecoveryPointHeld => {
            (POINT_SUBJECT, "RECOVERY_POINT", "EXPIRED", recovery_point(n, HELD))
        }
        NotificationEvent::VaultAlarm(alarm) => {
            (VAULT_SUBJECT, "BACKUP_VAULT", alarm.as_str(), vault_alarm(n, alarm))
        }
    };
    let attributes = [
        ("EventType", event_type.to_owned()),
        ("State", state.to_owned()),
        ("AccountId", n.account.to_string()),
        ("Id", n.job_id.clone()),
        ("StartTime", iso_millis(n.started_at)),
    ];
    Message {
        subject: subject.to_owned(),
        text,
        attributes: attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
    }
}

/// A message that says it is a test: nothing happened and nothing is to be done. Its `EventType` and
/// its `State` are `TEST`, its `Id` is that of the delivery.
pub fn test_message(subscription: &Subscription, delivery_id: &str, now: Timestamp) -> Message {
    let attributes = [
        ("EventType", "TEST".to_owned()),
        ("State", "TEST".to_owned()),
        ("AccountId", subscription.account.to_string()),
        ("Id", delivery_id.to_owned()),
        ("StartTime", iso_millis(now)),
    ];
    Message {
        subject: TEST_SUBJECT.to_owned(),
        text: format!(
            "This is a test of subscription {} of topic {}. Nothing happened, and nothing is to be \
             done.",
            subscription.id, subscription.topic_arn
        ),
        attributes: attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
    }
}

fn backup_end(state: BackupJobState) -> &'static str {
    match state {
        BackupJobState::Completed => "was completed successfully.",
        // Must not read as success to whoever looks for AWS's sentence.
        BackupJobState::Partial => "was completed only in part: the recovery point is not whole.",
        BackupJobState::Failed => "failed.",
        BackupJobState::Expired => "failed to complete in time.",
        BackupJobState::Aborted => "was stopped.",
        BackupJobState::Aborting => "is being stopped.",
        BackupJobState::Created | BackupJobState::Pending => "has not started yet.",
        BackupJobState::Running => "is running.",
    }
}

fn restore_end(state: RestoreJobState) -> &'static str {
    match state {
        RestoreJobState::Completed => "was completed successfully.",
        RestoreJobState::Failed => "failed.",
        RestoreJobState::Aborted => "was stopped.",
        RestoreJobState::Pending => "has not started yet.",
        RestoreJobState::Running => "is running.",
    }
}

fn backup(n: &Notification, what: &str) -> String {
    let first = format!("An AWS Backup job {what} {}BackupJob ID : {}", arns(n), n.job_id);
    with_reason(first, n)
}

fn restore(n: &Notification, what: &str) -> String {
    let created = n
        .created_resource_arn
        .as_ref()
        .map_or(String::new(), |arn| format!("Created resource ARN : {arn}. "));
    let first = format!(
        "An AWS Backup restore job {what} {}{created}RestoreJob ID : {}",
        arns(n),
        n.job_id
    );
    with_reason(first, n)
}

fn restore_test(n: &Notification, verdict: Verdict, cleaned_up: bool) -> String {
    let point = n.recovery_point_arn.as_ref().map_or("a recovery point", |arn| arn.as_str());
    let reason = reason(n);
    let mut said: Vec<String> = match verdict {
        Verdict::Passed => {
            let how = match &reason {
                // The verdict's own words for an application that answered.
                Some(r) if r.starts_with("HTTP ") => format!(" with {r}"),
                Some(r) => format!(": {r}"),
                None => ".".to_owned(),
            };
            vec![
                format!("Restore from {point} was successful."),
                format!("Data recovery validation succeeded{how}"),
            ]
        }
        Verdict::Failed => vec![
            format!("Restore test of {point}:"),
            "Data Validation FAILED.".to_owned(),
            reason.map_or("No reason was recorded.".to_owned(), |r| format!("Reason: {r}")),
        ],
        Verdict::Inconclusive => vec![
            format!("Restore test of {point} was INCONCLUSIVE:"),
            "it shows neither that the data can be recovered nor that it cannot.".to_owned(),
            reason.map_or("No reason was recorded.".to_owned(), |r| format!("Reason: {r}")),
        ],
        Verdict::NotTested | Verdict::Overdue => vec![
            format!("Restore test of {point} ended without a result ({verdict})."),
            reason.map_or("No reason was recorded.".to_owned(), |r| format!("Reason: {r}")),
        ],
    };
    said.push(match (&n.created_resource_arn, cleaned_up) {
        (Some(arn), true) => format!("The newly created resource {arn} has been cleaned up."),
        (Some(arn), false) => format!("New resource {arn} has NOT been cleaned up."),
        // A test that broke early created nothing: then all of nothing is gone, too.
        (None, true) => "Everything the test created has been cleaned up.".to_owned(),
        (None, false) => "What the test created has NOT been cleaned up.".to_owned(),
    });
    format!("{}\n{}RestoreTest ID : {}", said.join(" "), arns(n), n.job_id)
}

fn validation(n: &Notification) -> String {
    let created = n
        .created_resource_arn
        .as_ref()
        .map_or(String::new(), |arn| format!("Created resource ARN : {arn}. "));
    format!(
        "A restore test keeps its copy for validation: look at it and report by \
         PutRestoreValidationResult. {}{created}RestoreJob ID : {}",
        arns(n),
        n.job_id
    )
}

fn resource_alarm(n: &Notification, trouble: ResourceTrouble) -> String {
    let what = match trouble {
        ResourceTrouble::Overdue => "has no recovery point as new as it should have.",
        ResourceTrouble::NotTested => "has a newest recovery point that was not tested in time.",
        ResourceTrouble::Unprotected => "is protected by nothing.",
        ResourceTrouble::TestFailed => {
            "has a newest recovery point whose restore test did not pass."
        }
        ResourceTrouble::NotGood => "has a newest recovery point that is not to be relied on.",
        ResourceTrouble::Damaged => "has a newest recovery point that is not whole.",
        ResourceTrouble::ClockWrong => "was made or backed up at a time that is yet to come.",
    };
    with_reason(format!("Resource {} {what} {}", n.job_id, arns(n)).trim_end().to_owned(), n)
}

fn recovery_point(n: &Notification, what: &str) -> String {
    with_reason(format!("{what} {}BackupJob ID : {}", arns(n), n.job_id), n)
}

fn vault_alarm(n: &Notification, alarm: VaultAlarm) -> String {
    let what = match alarm {
        VaultAlarm::Damaged => "holds damaged data.",
        VaultAlarm::PointsMissing => "has lost snapshots of recovery points.",
        VaultAlarm::VerificationBehind => "is not verified as often as it should be.",
        VaultAlarm::Unreachable => "cannot be read.",
        VaultAlarm::CareFailed => "could not be looked after.",
    };
    with_reason(format!("Backup vault {} {what} ID : {}", n.vault_name, n.job_id), n)
}

/// The ARNs with AWS's own spaces and colons; what is not known is left out.
fn arns(n: &Notification) -> String {
    let known = [
        n.recovery_point_arn.as_ref().map(|arn| format!("Recovery point ARN: {arn}. ")),
        n.resource_arn.as_ref().map(|arn| format!("Resource ARN : {arn}. ")),
    ];
    known.into_iter().flatten().collect()
}

fn with_reason(first: String, n: &Notification) -> String {
    // A job that went well may carry a remark of its driver; it explains no failure.
    let well = matches!(
        n.event,
        NotificationEvent::BackupJobStarted
            | NotificationEvent::RestoreJobStarted
            | NotificationEvent::ValidationAsked
            | NotificationEvent::BackupJobEnded(BackupJobState::Completed)
            | NotificationEvent::RestoreJobEnded(RestoreJobState::Completed)
    );
    let label = if well { "Remark" } else { "Reason" };
    match reason(n) {
        Some(reason) => format!("{first}\n{label}: {reason}"),
        None => first,
    }
}

/// The reason on one line, as a sentence.
fn reason(n: &Notification) -> Option<String> {
    let text = n.reason.as_deref()?.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.replace(char::is_control, " ");
    if text.is_empty() {
        return None;
    }
    if text.chars().count() > LONGEST_REASON {
        let start: String = text.chars().take(LONGEST_REASON).collect();
        return Some(format!("{start}… (shortened; the job has all of it)."));
    }
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    Some(text + end)
}

/// `2026-08-02T18:46:02.788Z`, as in SNS envelopes.
pub(crate) fn iso_millis(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

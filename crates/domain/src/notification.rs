//! Notifications: what happened, before anybody words it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::care::VaultAlarm;
use crate::{AccountId, Arn, BackupJobState, Region, ResourceTrouble, RestoreJobState, Verdict};

/// The names of all events that this server sends: AWS's, then ours
/// ([`NotificationEvent::own_name`]).
pub const SUBSCRIPTION_EVENTS: [&str; 16] = [
    "BACKUP_JOB_STARTED",
    "BACKUP_JOB_COMPLETED",
    "BACKUP_JOB_SUCCESSFUL",
    "BACKUP_JOB_FAILED",
    "BACKUP_JOB_EXPIRED",
    "RESTORE_JOB_STARTED",
    "RESTORE_JOB_COMPLETED",
    "RESTORE_JOB_SUCCESSFUL",
    "RESTORE_JOB_FAILED",
    "RECOVERY_POINT_MODIFIED",
    "RESTORE_TEST_PASSED",
    "RESTORE_TEST_NOT_PASSED",
    "RESTORE_TEST_VALIDATION",
    "BACKUP_VAULT_ALARM",
    "PROTECTED_RESOURCE_ALARM",
    "RECOVERY_POINT_ALARM",
];

/// Something a vault's topic may be told about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// What happened.
    pub event: NotificationEvent,
    /// Tenant.
    pub account: AccountId,
    /// Site.
    pub region: Region,
    /// The vault whose setting decides whether and where this is sent.
    pub vault_name: String,
    /// When it happened.
    pub at: Timestamp,
    /// Id of the backup job, restore job, restore test (its restore job's where somebody outside is
    /// asked about that) or care run; the vault's name where no job
    /// was at work.
    pub job_id: String,
    /// When that began.
    pub started_at: Timestamp,
    /// The protected resource.
    pub resource_arn: Option<Arn>,
    /// The recovery point made, restored or tested.
    pub recovery_point_arn: Option<Arn>,
    /// What a restore created.
    pub created_resource_arn: Option<Arn>,
    /// Why, when it did not go well; the verdict's reason for restore tests.
    pub reason: Option<String>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value")]
pub enum NotificationEvent {
    /// A backup job left CREATED.
    BackupJobStarted,
    /// A backup job reached this final state.
    BackupJobEnded(BackupJobState),
    /// A restore job began to run.
    RestoreJobStarted,
    /// A restore job reached this final state.
    RestoreJobEnded(RestoreJobState),
    /// A restore test gave its verdict.
    RestoreTestEnded {
        /// The verdict.
        verdict: Verdict,
        /// Whether what the test created is gone again.
        cleaned_up: bool,
    },
    /// A restore test keeps its copy for somebody outside to look at and report.
    ValidationAsked,
    /// Something about a resource should have happened and has not.
    ResourceAlarm(ResourceTrouble),
    /// A new recovery point holds much less than the newest good one before it.
    RecoveryPointShrunk,
    /// A recovery point is kept although it is to go, because nothing newer is as good.
    RecoveryPointHeld,
    /// Something is wrong with the vault itself.
    VaultAlarm(VaultAlarm),
}

impl NotificationEvent {
    /// Names of AWS's `BackupVaultEvent` under which a vault may ask for this event.
    ///
    /// `…_COMPLETED` is told of every end of a job, as AWS documents it; `…_SUCCESSFUL`,
    /// `…_FAILED` and `…_EXPIRED` are the older names for one end each. AWS has no event for the
    /// end of a restore test: whoever asked for the end of restore jobs is told. Nor has it one
    /// for a vault that is damaged, or for a recovery point that is shrunk or kept: whoever asked for
    /// any failure in the vault, or of backups, is told.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::BackupJobStarted => &["BACKUP_JOB_STARTED"],
            Self::BackupJobEnded(state) => match state {
                BackupJobState::Completed => &["BACKUP_JOB_COMPLETED", "BACKUP_JOB_SUCCESSFUL"],
                BackupJobState::Expired => &["BACKUP_JOB_COMPLETED", "BACKUP_JOB_EXPIRED"],
                _ => &["BACKUP_JOB_COMPLETED", "BACKUP_JOB_FAILED"],
            },
            Self::RestoreJobStarted => &["RESTORE_JOB_STARTED"],
            Self::RestoreJobEnded(RestoreJobState::Completed)
            | Self::RestoreTestEnded { verdict: Verdict::Passed, .. } => {
                &["RESTORE_JOB_COMPLETED", "RESTORE_JOB_SUCCESSFUL"]
            }
            // AWS tells validators by the end of the restore, for it has no probes that come first.
            Self::ValidationAsked => &["RESTORE_JOB_COMPLETED"],
            // A test that did not come is told to whoever asked for tests, a backup to whoever asked
            // for backups.
            Self::RestoreJobEnded(_)
            | Self::RestoreTestEnded { .. }
            | Self::ResourceAlarm(ResourceTrouble::NotTested) => {
                &["RESTORE_JOB_COMPLETED", "RESTORE_JOB_FAILED"]
            }
            Self::ResourceAlarm(_) => {
                &["BACKUP_JOB_COMPLETED", "BACKUP_JOB_FAILED", "BACKUP_JOB_EXPIRED"]
            }
            // As far as AWS Backup can tell all is well, and yet good backups fail to come.
            Self::RecoveryPointShrunk | Self::RecoveryPointHeld => {
                &["RECOVERY_POINT_MODIFIED", "BACKUP_JOB_COMPLETED", "BACKUP_JOB_FAILED"]
            }
            Self::VaultAlarm(_) => &[
                "RECOVERY_POINT_MODIFIED",
                "BACKUP_JOB_COMPLETED",
                "BACKUP_JOB_FAILED",
                "RESTORE_JOB_COMPLETED",
                "RESTORE_JOB_FAILED",
            ],
        }
    }

    /// Our own name for what AWS has none for. A vault's setting knows AWS's names alone; a
    /// subscription may choose by this one, too.
    pub fn own_name(self) -> Option<&'static str> {
        match self {
            Self::RestoreTestEnded { verdict: Verdict::Passed, .. } => Some("RESTORE_TEST_PASSED"),
            Self::RestoreTestEnded { .. } => Some("RESTORE_TEST_NOT_PASSED"),
            Self::ValidationAsked => Some("RESTORE_TEST_VALIDATION"),
            Self::VaultAlarm(_) => Some("BACKUP_VAULT_ALARM"),
            Self::ResourceAlarm(_) => Some("PROTECTED_RESOURCE_ALARM"),
            Self::RecoveryPointShrunk | Self::RecoveryPointHeld => Some("RECOVERY_POINT_ALARM"),
            _ => None,
        }
    }

    /// Whether a vault or a subscription that asked for `subscribed` wants this event.
    pub fn wanted_by(self, subscribed: &[String]) -> bool {
        let mut names = self.names().iter().copied().chain(self.own_name());
        names.any(|name| subscribed.iter().any(|s| s == name))
    }
}

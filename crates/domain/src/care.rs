//! Care of a vault: checks, prunes, repairs, verifications and the like, as durable jobs.
//!
//! A care run is about a vault as a whole, not about one resource. It ends COMPLETED when it did
//! what it is for; whether the vault is well is another question, and its report answers it: a
//! check that found damage is COMPLETED and its report is not clean.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::step::{MOST_ATTEMPTS, is_zero, state_names};
use crate::{
    AccountId, Arn, BackupVault, Effect, IllegalTransition, Invalid, Notification,
    NotificationEvent, Region,
};

/// What a care run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CareOperation {
    /// Looks whether all that the snapshots need is there, and names who suffers where it is not.
    Check,
    /// Frees the space of what no snapshot needs.
    Prune,
    /// Replaces what is damaged or missing, as far as it can be had.
    Repair,
    /// Reads packs, those verified longest ago first, until all were verified within the period.
    Verify,
    /// Enters the snapshots of the vault that the catalog does not know.
    Import,
    /// Stores a copy of the catalog in the vault.
    CatalogBackup,
}
state_names!(CareOperation {
    Check = "CHECK",
    Prune = "PRUNE",
    Repair = "REPAIR",
    Verify = "VERIFY",
    Import = "IMPORT",
    CatalogBackup = "CATALOG_BACKUP",
});

impl CareOperation {
    /// Whether the two cannot be at work on one vault at a time. A repair takes packs out of the
    /// index, and a prune would delete them.
    pub fn excludes(self, other: Self) -> bool {
        let shrinks = |operation| matches!(operation, Self::Prune | Self::Repair);
        self == other || (shrinks(self) && shrinks(other))
    }
}

/// Where a care run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CareState {
    /// Waiting.
    Pending,
    /// At work.
    Running,
    /// Did what it is for; the report says what it found.
    Completed,
    /// Could not be done.
    Failed,
    /// Stopped.
    Aborted,
}
state_names!(CareState {
    Pending = "PENDING",
    Running = "RUNNING",
    Completed = "COMPLETED",
    Failed = "FAILED",
    Aborted = "ABORTED",
});

impl CareState {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Aborted)
    }
}

/// Why a care run exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CareTrigger {
    /// Somebody asked for it.
    Operator,
    /// The vault's settings did.
    Schedule,
    /// Rotating verification found something.
    Verification,
}
state_names!(CareTrigger {
    Operator = "OPERATOR",
    Schedule = "SCHEDULE",
    Verification = "VERIFICATION",
});

/// How an operation is to be carried out; what does not concern it is left at its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CareOptions {
    /// CHECK and REPAIR: every pack is read to the last byte.
    pub read_data: bool,
    /// PRUNE: only tell what would be done.
    pub dry_run: bool,
    /// REPAIR: take what is missing from this vault.
    pub from_vault: Option<String>,
    /// IMPORT: the snapshots are this server's own, from before its catalog was lost, so that
    /// their resources can be backed up on.
    pub own: bool,
}

impl CareOptions {
    /// Refuses a setting that the operation does not have: it would be forgotten.
    pub fn validate(&self, operation: CareOperation) -> Result<(), Invalid> {
        use CareOperation as O;
        let alien = [
            ("ReadData", self.read_data, matches!(operation, O::Check | O::Repair)),
            ("DryRun", self.dry_run, operation == O::Prune),
            ("FromVault", self.from_vault.is_some(), operation == O::Repair),
            ("Own", self.own, operation == O::Import),
        ];
        match alien.into_iter().find(|(_, given, known)| *given && !known) {
            None => Ok(()),
            Some((member, ..)) => {
                Err(Invalid::new(member, format!("{operation} has no such setting; leave it out.")))
            }
        }
    }
}

/// How a vault is looked after without being asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CareSettings {
    /// Days between two prunes; `None` for never by itself.
    pub prune_every_days: Option<u32>,
    /// Days between two checks of the structure; `None` for never by itself.
    pub check_every_days: Option<u32>,
    /// Every pack is read and verified at least once in so many days; `None` for no verification.
    pub verify_within_days: Option<u32>,
    /// What verification may read at most, on average, in bytes a second.
    pub verify_max_bytes_per_second: u64,
    /// Days between two copies of the catalog in the vault; `None` for none.
    pub catalog_backup_every_days: Option<u32>,
}

impl Default for CareSettings {
    fn default() -> Self {
        Self {
            prune_every_days: Some(7),
            check_every_days: Some(7),
            verify_within_days: Some(30),
            verify_max_bytes_per_second: 50_000_000,
            catalog_backup_every_days: Some(1),
        }
    }
}

/// The longest period of a setting: ten years.
const LONGEST_DAYS: u32 = 3650;

impl CareSettings {
    /// Refuses periods that are none.
    pub fn validate(&self) -> Result<(), Invalid> {
        for (member, days) in [
            ("PruneEveryDays", self.prune_every_days),
            ("CheckEveryDays", self.check_every_days),
            ("VerifyWithinDays", self.verify_within_days),
            ("CatalogBackupEveryDays", self.catalog_backup_every_days),
        ] {
            if days.is_some_and(|days| !(1..=LONGEST_DAYS).contains(&days)) {
                return Err(Invalid::new(
                    member,
                    format!("use 1 to {LONGEST_DAYS} days, or 0 to switch it off."),
                ));
            }
        }
        if self.verify_max_bytes_per_second == 0 {
            return Err(Invalid::new(
                "VerifyMaxBytesPerSecond",
                "nothing could be verified at that rate; use 1 or more, or switch verification off \
                 with VerifyWithinDays 0.",
            ));
        }
        Ok(())
    }

    /// Days between two runs of an operation, where it runs by itself.
    pub fn every_days(&self, operation: CareOperation) -> Option<u32> {
        match operation {
            CareOperation::Check => self.check_every_days,
            CareOperation::Prune => self.prune_every_days,
            CareOperation::CatalogBackup => self.catalog_backup_every_days,
            // Rotating verification is no run: it never ends.
            CareOperation::Verify | CareOperation::Repair | CareOperation::Import => None,
        }
    }
}

/// What is known of the care of a vault, beside its runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VaultCare {
    /// When each operation was last scheduled.
    pub last_scheduled: BTreeMap<CareOperation, Timestamp>,
    /// Before this moment verification reads no further pack: what it read lately has used up its
    /// rate until then.
    pub verify_next_at: Option<Timestamp>,
    /// What is wrong, if anything is; stays until it is put right.
    pub alarms: BTreeMap<VaultAlarm, AlarmNote>,
}

/// Something about a vault that somebody has to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VaultAlarm {
    /// Stored data is damaged.
    Damaged,
    /// Snapshots of recovery points are gone from the vault.
    PointsMissing,
    /// Verification does not reach every pack in time.
    VerificationBehind,
    /// The vault cannot be read at all.
    Unreachable,
    /// A care run could not be done.
    CareFailed,
}
state_names!(VaultAlarm {
    Damaged = "DAMAGED",
    PointsMissing = "RECOVERY_POINTS_MISSING",
    VerificationBehind = "VERIFICATION_BEHIND",
    Unreachable = "UNREACHABLE",
    CareFailed = "CARE_FAILED",
});

/// An alarm that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmNote {
    /// Since when.
    pub since: Timestamp,
    /// What is wrong and what to do.
    pub message: String,
}

/// When an operation is due, after it was last scheduled, or after the vault was made. `None` when
/// it does not run by itself.
pub fn due_at(
    settings: &CareSettings,
    operation: CareOperation,
    last: Option<Timestamp>,
    vault_created_at: Timestamp,
    now: Timestamp,
) -> Option<Timestamp> {
    let days = settings.every_days(operation)?;
    // A mark in the future was made by a clock that was ahead: it would hold for ever.
    let from = last.filter(|last| *last <= now).unwrap_or(vault_created_at.min(now));
    from.checked_add(SignedDuration::from_hours(i64::from(days) * 24)).ok()
}

/// One run of care.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CareRun {
    /// UUID.
    pub id: String,
    /// Tenant.
    pub account: AccountId,
    /// Site.
    pub region: Region,
    /// The vault.
    pub vault_name: String,
    /// Its ARN.
    pub vault_arn: Arn,
    /// What is done.
    pub operation: CareOperation,
    /// How.
    pub options: CareOptions,
    /// Why it exists.
    pub trigger: CareTrigger,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it first began; an interruption does not change it.
    pub started_at: Option<Timestamp>,
    /// How often it ran and was broken off by the death of its server; an orderly stop does not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interruptions: u32,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Where it stands.
    pub state: CareState,
    /// Why it is to stop, once somebody asked.
    pub stop_requested: Option<String>,
    /// What came of it, or why not, for people.
    pub status_message: Option<String>,
    /// Bytes gone through; packs where a repair is told of.
    pub bytes_done: u64,
    /// Bytes there are, where known.
    pub bytes_total: Option<u64>,
    /// What it found and did, at the end.
    pub report: Option<CareReport>,
}

/// What a care run found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CareReport {
    /// Whether nothing is wrong with what was looked at.
    pub clean: bool,
    /// One sentence or two.
    pub summary: String,
    /// Counts by name, such as `packs` or `bytesRead`; bytes where the name says so.
    pub figures: BTreeMap<String, u64>,
    /// What is wrong, the first hundred.
    pub problems: Vec<String>,
    /// How many problems there are.
    pub problems_total: u64,
    /// Who suffers.
    pub hurt: Vec<HurtPoint>,
}

impl CareReport {
    /// What its findings amount to, if anything is wrong.
    pub fn alarm(&self) -> Option<VaultAlarm> {
        if self.clean {
            return None;
        }
        let only_missing = self.problems_total == 0 && self.hurt.iter().all(|hurt| hurt.gone);
        Some(if only_missing { VaultAlarm::PointsMissing } else { VaultAlarm::Damaged })
    }
}

/// A snapshot that cannot be restored whole, and the recovery point that it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HurtPoint {
    /// The recovery point; `None` for a snapshot that the catalog does not know.
    pub recovery_point_arn: Option<Arn>,
    /// The snapshot.
    pub snapshot_id: String,
    /// Whether the snapshot itself is gone or unreadable.
    pub gone: bool,
    /// Files that are hurt, the first twenty.
    pub files: Vec<String>,
    /// How many there are at least.
    pub files_total: u64,
}

/// What can happen to a care run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CareEvent {
    /// A runner took it.
    Started,
    /// So much is done.
    Progressed {
        /// Bytes gone through.
        done: u64,
        /// Bytes there are, where known.
        total: Option<u64>,
    },
    /// Somebody wants it to stop.
    StopRequested {
        /// Who and why.
        reason: String,
    },
    /// It did what it is for.
    Completed(Box<CareReport>),
    /// It could not be done.
    Failed {
        /// Why and what to do.
        message: String,
    },
    /// It stopped.
    Stopped {
        /// Why.
        message: String,
    },
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
}

impl CareRun {
    /// A run that waits for its turn.
    pub fn new(
        id: String,
        vault: &BackupVault,
        operation: CareOperation,
        options: CareOptions,
        trigger: CareTrigger,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            account: vault.account.clone(),
            region: vault.region.clone(),
            vault_name: vault.name.clone(),
            vault_arn: vault.arn.clone(),
            operation,
            options,
            trigger,
            created_at: now,
            started_at: None,
            interruptions: 0,
            completed_at: None,
            state: CareState::Pending,
            stop_requested: None,
            status_message: None,
            bytes_done: 0,
            bytes_total: None,
            report: None,
        }
    }

    /// Part done, 0 to 100; `None` where the whole is not known.
    pub fn percent_done(&self) -> Option<f64> {
        match (self.state, self.bytes_total) {
            (CareState::Completed, _) => Some(100.0),
            #[allow(clippy::cast_precision_loss)] // a percentage needs no 53 bits
            (_, Some(total)) if total > 0 => {
                Some((self.bytes_done as f64 * 100.0 / total as f64).min(99.0))
            }
            _ => None,
        }
    }

    /// Told is what somebody has to look at, not every run that went as it should.
    fn notify(&self, alarm: VaultAlarm, now: Timestamp) -> Vec<Effect> {
        vec![Effect::Notify(Box::new(Notification {
            event: NotificationEvent::VaultAlarm(alarm),
            account: self.account.clone(),
            region: self.region.clone(),
            vault_name: self.vault_name.clone(),
            at: now,
            job_id: self.id.clone(),
            started_at: self.started_at.unwrap_or(self.created_at),
            resource_arn: Some(self.vault_arn.clone()),
            recovery_point_arn: None,
            created_resource_arn: None,
            reason: self.status_message.clone(),
        }))]
    }

    fn end(mut self, state: CareState, message: String, now: Timestamp) -> Self {
        self.state = state;
        self.completed_at = Some(now);
        self.status_message = Some(message);
        self
    }
}

/// The one way a care run changes: the new run and the effects that belong to the change.
pub fn step(
    run: &CareRun,
    event: CareEvent,
    now: Timestamp,
) -> Result<(CareRun, Vec<Effect>), IllegalTransition> {
    use CareEvent as E;
    use CareState as S;
    let mut run = run.clone();
    let refuse = |event| {
        Err(IllegalTransition {
            what: format!("care run {}", run.id),
            state: run.state.to_string(),
            event,
        })
    };
    let died = matches!(event, E::Interrupted { .. });
    match (run.state, event) {
        (S::Pending, E::Started) => {
            run.state = S::Running;
            run.started_at.get_or_insert(now);
            run.status_message = None;
            run.bytes_done = 0;
            Ok((run, Vec::new()))
        }
        (_, E::Started) => refuse("started"),
        (S::Running, E::Progressed { done, total }) => {
            run.bytes_done = done;
            run.bytes_total = total.or(run.bytes_total);
            Ok((run, Vec::new()))
        }
        (_, E::Progressed { .. }) => refuse("progressed"),
        (S::Pending, E::StopRequested { reason }) => {
            Ok((run.end(S::Aborted, reason, now), Vec::new()))
        }
        (S::Running, E::StopRequested { reason }) => {
            run.stop_requested.get_or_insert(reason);
            Ok((run, Vec::new()))
        }
        (S::Running, E::Completed(report)) => {
            let mut run = run.end(S::Completed, report.summary.clone(), now);
            let alarm = report.alarm();
            run.report = Some(*report);
            let effects = alarm.map_or_else(Vec::new, |alarm| run.notify(alarm, now));
            Ok((run, effects))
        }
        (_, E::Completed(_)) => refuse("completed"),
        (S::Pending | S::Running, E::Failed { message }) => {
            let run = run.end(S::Failed, message, now);
            let effects = run.notify(VaultAlarm::CareFailed, now);
            Ok((run, effects))
        }
        (_, E::Failed { .. }) => refuse("failed"),
        (S::Pending | S::Running, E::Stopped { message }) => {
            Ok((run.end(S::Aborted, message, now), Vec::new()))
        }
        (_, E::StopRequested { .. } | E::Stopped { .. }) => refuse("stopped"),
        (S::Running, E::Interrupted { reason } | E::Suspended { reason }) => {
            // It was to end anyway.
            if let Some(asked) = run.stop_requested.clone() {
                return Ok((run.end(S::Aborted, asked, now), Vec::new()));
            }
            run.interruptions += u32::from(died);
            if died && run.interruptions >= MOST_ATTEMPTS {
                let message = format!(
                    "{reason} That was attempt {MOST_ATTEMPTS}, and it is the last one. What it did is \
                     done, and nothing is left that hurts; find out why the server ends while this runs."
                );
                let run = run.end(S::Failed, message, now);
                let effects = run.notify(VaultAlarm::CareFailed, now);
                return Ok((run, effects));
            }
            run.state = S::Pending;
            run.status_message =
                Some(format!("{reason} It is done again as soon as a server runs."));
            Ok((run, Vec::new()))
        }
        (_, E::Interrupted { .. } | E::Suspended { .. }) => refuse("interrupted"),
    }
}

//! Care of vaults: runs, settings, alarms.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::EpochSeconds;

message! {
    /// Asks for a care run. What does not concern the operation must be left out.
    StartCareRunInput {
        /// `CHECK`, `PRUNE`, `REPAIR`, `VERIFY`, `IMPORT` or `CATALOG_BACKUP`.
        operation: String,
        /// `CHECK` and `REPAIR`: read every pack to the last byte.
        #[serde(default)]
        read_data: bool,
        /// `PRUNE`: only tell what would be done.
        #[serde(default)]
        dry_run: bool,
        /// `REPAIR`: take what is missing from this vault.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from_vault: Option<String>,
    }
}

message! {
    /// A care run.
    CareRun {
        /// UUID.
        care_run_id: String,
        /// The vault.
        backup_vault_name: String,
        /// What is done.
        operation: String,
        /// `OPERATOR`, `SCHEDULE` or `VERIFICATION`.
        trigger: String,
        /// `PENDING`, `RUNNING`, `COMPLETED`, `FAILED` or `ABORTED`.
        state: String,
        /// What came of it, or why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status_message: Option<String>,
        /// Whether somebody asked it to stop.
        stop_requested: bool,
        /// Whether every byte is read.
        read_data: bool,
        /// Whether it only tells what would be done.
        dry_run: bool,
        /// Where missing data is taken from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from_vault: Option<String>,
        /// 0 to 100, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        percent_done: Option<f64>,
        /// What it found and did, at the end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<CareReport>,
        /// When it was asked for.
        creation_date: EpochSeconds,
        /// When it began.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start_date: Option<EpochSeconds>,
        /// When it ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        completion_date: Option<EpochSeconds>,
    }
}

message! {
    /// What a care run found and did.
    CareReport {
        /// Whether nothing is wrong with what was looked at.
        clean: bool,
        /// In a sentence or two.
        summary: String,
        /// Counts by name; bytes where the name says so.
        figures: BTreeMap<String, u64>,
        /// What is wrong, the first hundred.
        problems: Vec<String>,
        /// How many problems there are.
        problems_total: u64,
        /// Which recovery points suffer.
        hurt: Vec<HurtPoint>,
    }
}

message! {
    /// A snapshot that cannot be restored whole.
    HurtPoint {
        /// Its recovery point; absent when the catalog does not know the snapshot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovery_point_arn: Option<String>,
        /// The snapshot.
        snapshot_id: String,
        /// Whether the snapshot itself is gone or unreadable.
        gone: bool,
        /// Hurt files, the first twenty.
        files: Vec<String>,
        /// How many there are at least.
        files_total: u64,
    }
}

message! {
    /// Care runs, newest first.
    CareRunList {
        /// At most a thousand.
        care_runs: Vec<CareRun>,
    }
}

message! {
    /// Changes how a vault is looked after; what is absent stays. 0 days switch something off.
    UpdateVaultCareInput {
        /// Days between two prunes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prune_every_days: Option<u32>,
        /// Days between two checks of the structure.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        check_every_days: Option<u32>,
        /// Every pack is verified once in so many days.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verify_within_days: Option<u32>,
        /// What verification may read on average.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verify_max_bytes_per_second: Option<u64>,
        /// Days between two copies of the catalog in the vault.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        catalog_backup_every_days: Option<u32>,
    }
}

message! {
    /// How a vault is looked after, and how well it is. 0 days are never.
    VaultCare {
        /// The vault.
        backup_vault_name: String,
        /// Days between two prunes.
        prune_every_days: u32,
        /// Days between two checks of the structure.
        check_every_days: u32,
        /// Every pack is verified once in so many days.
        verify_within_days: u32,
        /// What verification may read on average.
        verify_max_bytes_per_second: u64,
        /// Days between two copies of the catalog in the vault.
        catalog_backup_every_days: u32,
        /// What verification has reached.
        verification: Verification,
        /// What is wrong, if anything is.
        alarms: Vec<Alarm>,
        /// Whether the vault's repository was there before the vault.
        imported: bool,
    }
}

message! {
    /// What verification has reached; for a period of 30 days where it is switched off.
    Verification {
        /// Packs there are.
        packs: u64,
        /// Their bytes.
        bytes: u64,
        /// Packs read and found whole within the period.
        verified_packs: u64,
        /// Their bytes.
        verified_bytes: u64,
        /// Packs never read since they were first seen.
        never_verified_packs: u64,
        /// Packs that should have been read by now.
        overdue_packs: u64,
        /// Packs that were damaged when they were last read.
        damaged_packs: u64,
        /// Seconds since the pack that waits longest was read, or first seen.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        oldest_age_seconds: Option<u64>,
        /// What is read on average.
        bytes_per_second: u64,
        /// What would have to be read to keep the promise.
        needed_bytes_per_second: u64,
        /// Whether the promise is kept and can be; absent where nothing is promised.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<bool>,
    }
}

message! {
    /// Something that somebody has to look at.
    Alarm {
        /// `DAMAGED`, `RECOVERY_POINTS_MISSING`, `VERIFICATION_BEHIND`, `UNREACHABLE` or
        /// `CARE_FAILED`.
        alarm: String,
        /// Since when.
        since: EpochSeconds,
        /// What is wrong and what to do.
        message: String,
    }
}

message! {
    /// Adopts a restic repository that exists already as a vault, or looks for new snapshots in
    /// one that was adopted before.
    ImportVaultInput {
        /// Where it lies, as the server sees it: an absolute path or a URL.
        location: String,
        /// The repository's password.
        password: String,
        /// The key that is to seal the password; the default key when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        encryption_key_arn: Option<String>,
    }
}

message! {
    /// Asks for a recovery kit.
    ExportRecoveryKitInput {
        /// What the kit is sealed with: a recovery code, or a passphrase of 12 characters at least.
        passphrase: String,
    }
}

message! {
    /// A recovery kit.
    RecoveryKit {
        /// The kit's text, to be kept away from the server.
        kit: String,
    }
}

//! What a server says of itself, by a client that the server may die under.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Api, encode};

/// Everything that a server can be at work with.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Backup jobs.
    pub backups: Vec<Value>,
    /// Restore jobs.
    pub restores: Vec<Value>,
    /// Restore tests.
    pub tests: Vec<Value>,
    /// Care runs.
    pub care: Vec<Value>,
    /// Deliveries.
    pub deliveries: Vec<Value>,
    /// Recovery points of all vaults.
    pub points: Vec<Point>,
    /// Names of the vaults.
    pub vaults: Vec<String>,
}

/// A recovery point.
#[derive(Debug, Clone)]
pub struct Point {
    /// Its vault.
    pub vault: String,
    /// Its ARN.
    pub arn: String,
    /// As the vault lists it.
    pub status: String,
}

const BACKUP_ENDS: [&str; 5] = ["COMPLETED", "PARTIAL", "FAILED", "ABORTED", "EXPIRED"];
const ENDS: [&str; 3] = ["COMPLETED", "FAILED", "ABORTED"];

impl Seen {
    /// Asks a server; nothing when it did not answer everything.
    pub fn of(api: &Api) -> Option<Self> {
        let list = |path: &str, member: &str| {
            let answer = api.send("GET", path, None).ok().filter(|answer| answer.status == 200)?;
            answer.json()[member].as_array().cloned()
        };
        let named = list("/backup-vaults/", "BackupVaultList")?;
        let vaults: Vec<String> =
            named.iter().map(|vault| text(vault, "BackupVaultName").to_owned()).collect();
        let mut points = Vec::new();
        for vault in &vaults {
            let path = format!("/backup-vaults/{}/recovery-points/", encode(vault));
            points.extend(list(&path, "RecoveryPoints")?.iter().map(|point| Point {
                vault: vault.clone(),
                arn: text(point, "RecoveryPointArn").to_owned(),
                status: text(point, "Status").to_owned(),
            }));
        }
        Some(Self {
            backups: list("/backup-jobs/", "BackupJobs")?,
            restores: list("/restore-jobs/", "RestoreJobs")?,
            tests: list("/provault/v1/restore-tests", "RestoreTests")?,
            care: list("/provault/v1/care-runs", "CareRuns")?,
            deliveries: list("/provault/v1/deliveries", "Deliveries")?,
            points,
            vaults,
        })
    }

    /// Whether nothing is being done, nor waits.
    pub fn is_quiet(&self) -> bool {
        let all = |jobs: &[Value], state: &str, ends: &[&str]| {
            jobs.iter().all(|job| ends.iter().any(|end| job[state] == *end))
        };
        all(&self.backups, "State", &BACKUP_ENDS)
            && all(&self.restores, "Status", &ENDS)
            // One that somebody outside is asked about goes on when there is an answer.
            && all(&self.tests, "State", &["FINISHED", "VALIDATING"])
            && all(&self.care, "State", &ENDS)
            && self.deliveries.iter().all(|delivery| delivery["State"] != "WAITING")
            && self.points.iter().all(|point| point.status != "DELETING")
    }

    /// The ids of all jobs, tests and runs that have ended.
    pub fn ended(&self) -> BTreeSet<String> {
        let ended = |jobs: &[Value], id: &str, state: &str, ends: &[&str]| {
            let over = jobs.iter().filter(|job| ends.iter().any(|end| job[state] == *end));
            over.map(|job| text(job, id).to_owned()).collect::<Vec<_>>()
        };
        let mut all = ended(&self.backups, "BackupJobId", "State", &BACKUP_ENDS);
        all.extend(ended(&self.restores, "RestoreJobId", "Status", &ENDS));
        all.extend(ended(&self.tests, "RestoreTestId", "State", &["FINISHED"]));
        all.extend(ended(&self.care, "CareRunId", "State", &ENDS));
        all.into_iter().collect()
    }

    /// Points of one vault.
    pub fn points_of(&self, vault: &str) -> Vec<&Point> {
        self.points.iter().filter(|point| point.vault == vault).collect()
    }
}

/// A member that has to be there.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

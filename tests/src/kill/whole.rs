//! What has to hold after every kill, whatever was killed and where.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use provault_repository::{
    CancelFlag, CheckLevel, ObjectStorage, Options, Password, Repository, Storage,
};
use serde_json::{Value, json};

use super::Stage;
use super::seen::{Point, Seen, text};
use crate::{DEFAULT_ROLE, Manifest, TestServer, VAULT, encode, processes, until};

/// Bears the copies of the catalog that a vault keeps.
const CATALOG_COPY: &str = "provault-catalog";

impl Stage {
    /// Nothing is lost, nothing is claimed that is not so, and nothing is left over.
    pub(super) fn is_whole(&self, server: &TestServer, seen: &Seen) {
        self.ends_are_true(seen);
        self.everybody_was_told(seen);
        evidence_holds(server, seen);
        for vault in &seen.vaults {
            vault_is_whole(server, vault, seen.points_of(vault).len());
        }
        for point in &seen.points {
            self.gives_back(server, point);
        }
        self.nothing_is_left(server);
    }

    /// A server that dies ends no work: all that was begun goes on to its end after the next start, as long
    /// as it has not died of the same work too often, which no case here does.
    fn ends_are_true(&self, seen: &Seen) {
        let points: BTreeSet<&str> = seen.points.iter().map(|point| point.arn.as_str()).collect();
        for job in self.begun(&seen.backups, "BackupJobId") {
            if job["State"] == "ABORTED" {
                // Somebody stopped it, who has been answered or not.
                assert!(text(job, "StatusMessage").contains("StopBackupJob"), "{job:#}");
                assert_eq!(job["RecoveryPointArn"], Value::Null, "{job:#}");
                continue;
            }
            assert_eq!(job["State"], "COMPLETED", "{job:#}");
            let point = text(job, "RecoveryPointArn");
            assert!(points.contains(point), "no point of a job that made one: {job:#}");
        }
        for job in self.begun(&seen.restores, "RestoreJobId") {
            // A restore test begins anew with another copy, by another restore.
            let anew = job["ValidationStatusMessage"].as_str().unwrap_or_default();
            let replaced = job["Status"] == "ABORTED" && anew.contains("begun anew");
            assert!(job["Status"] == "COMPLETED" || replaced, "{job:#}");
        }
        for run in self.begun(&seen.care, "CareRunId") {
            assert_eq!(run["State"], "COMPLETED", "{run:#}");
        }
        for test in self.begun(&seen.tests, "RestoreTestId") {
            assert_eq!(test["Verdict"], "PASSED", "{test:#}");
            assert_eq!(test["CleanedUp"], true, "{test:#}");
        }
        // A restore of a test ends with it.
        for job in self.begun(&seen.restores, "RestoreJobId") {
            if job["ValidationStatus"] != Value::Null {
                assert_ne!(job["ValidationStatus"], "VALIDATING", "{job:#}");
                assert_eq!(job["DeletionStatus"], "SUCCESSFUL", "{job:#}");
            }
        }
    }

    /// What had not ended in the template.
    fn begun<'a>(&'a self, jobs: &'a [Value], id: &'a str) -> impl Iterator<Item = &'a Value> {
        jobs.iter().filter(move |job| !self.ended.contains(text(job, id)))
    }

    /// Each end was told, once, and nothing that was to be told was lost. It may have been sent
    /// more often, under the same id.
    fn everybody_was_told(&self, seen: &Seen) {
        if !self.tells {
            return;
        }
        let received = self.receiver.all();
        let arrived: BTreeSet<&str> = received.iter().map(|m| text(m, "MessageId")).collect();
        for delivery in &seen.deliveries {
            let id = text(delivery, "DeliveryId");
            let due = delivery["State"] == "DELIVERED";
            assert!(!due || arrived.contains(id), "never sent: {delivery:#}");
        }
        let told = |id: &str| {
            let ends = received.iter().filter(|message| {
                let attributes = &message["MessageAttributes"];
                attributes["Id"]["Value"] == id && attributes["State"]["Value"] != "RUNNING"
            });
            ends.map(|message| text(message, "MessageId")).collect::<BTreeSet<_>>().len()
        };
        let jobs = self.begun(&seen.backups, "BackupJobId").map(|job| text(job, "BackupJobId"));
        let restores = self.begun(&seen.restores, "RestoreJobId").map(|j| text(j, "RestoreJobId"));
        let tests = self.begun(&seen.tests, "RestoreTestId");
        // One that died before it had chosen a point has no vault, and so nobody to tell.
        let tests = tests.filter(|test| test["RecoveryPointArn"] != Value::Null);
        let tests = tests.map(|test| text(test, "RestoreTestId"));
        for id in jobs.chain(restores).chain(tests) {
            assert_eq!(told(id), 1, "ends of {id} that were told: {received:#?}");
        }
    }

    /// A recovery point that is offered gives back what was there, byte for byte.
    fn gives_back(&self, server: &TestServer, point: &Point) {
        let target = self.sandbox.path("restored");
        let _ = fs::remove_dir_all(&target);
        restore(server, point, &target);
        let of = if self.points.contains(&point.arn) { &self.before } else { &self.now };
        of.assert_same(&Manifest::of(&target), "the restored copy");
    }

    fn nothing_is_left(&self, server: &TestServer) {
        let names = |directory: &Path| -> Vec<String> {
            let entries = fs::read_dir(directory).into_iter().flatten();
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let copies = names(&server.data_dir().join("restore-tests"));
        assert!(copies.is_empty(), "copies under test that were left: {copies:?}");
        let staged: Vec<_> =
            names(self.sandbox.root()).into_iter().filter(|name| name.starts_with('.')).collect();
        assert!(staged.is_empty(), "what a restore had begun was left: {staged:?}");
        until("the end of every helper", || {
            processes::below(server.pid()).is_empty().then_some(())
        });
    }
}

/// Restores a point, which must succeed.
fn restore(server: &TestServer, point: &Point, target: &Path) {
    let path = format!(
        "/backup-vaults/{}/recovery-points/{}/restore-metadata",
        encode(&point.vault),
        encode(&point.arn)
    );
    let mut metadata = server.api().get(&path)["RestoreMetadata"].take();
    metadata["targetPath"] = json!(target);
    let asked = json!({
        "RecoveryPointArn": point.arn, "Metadata": metadata, "IamRoleArn": DEFAULT_ROLE,
    });
    let started = server.api().put("/restore-jobs", &asked);
    let job = server.ended_restore(text(&started, "RestoreJobId"));
    assert_eq!(job["Status"], "COMPLETED", "{job:#}");
}

/// All data of a vault is read and found whole, and it holds a snapshot for each point and no other.
fn vault_is_whole(server: &TestServer, vault: &str, points: usize) {
    let path = format!("/provault/v1/vaults/{}", encode(vault));
    let place = server.api().get(&format!("{path}/repository"));
    let exported = server.api().post(&format!("{path}/export-password"), &json!({}));
    let storage = ObjectStorage::local(Path::new(text(&place, "Location"))).unwrap();
    let storage: Arc<dyn Storage> = Arc::new(storage);
    let password = Password::from_text(text(&exported, "Password"));
    let repository = Repository::open(storage, &password, Options::default()).unwrap();
    let report = repository.check(CheckLevel::ReadData, &CancelFlag::new()).unwrap();
    assert!(report.is_clean(), "vault {vault}: {:?}", report.problems);
    let listed = repository.snapshots().unwrap();
    assert!(listed.damaged.is_empty(), "vault {vault}: {:?}", listed.damaged);
    let own = listed.snapshots.iter().filter(|snapshot| !snapshot.has_tag(CATALOG_COPY));
    if vault == VAULT {
        assert_eq!(own.count(), points, "snapshots and recovery points of vault {vault}");
    } else {
        // An import that was broken off has not entered them all.
        assert!(own.count() >= points, "{points} recovery points of vault {vault}");
    }
}

/// The chain holds, with one record for each test that has ended.
fn evidence_holds(server: &TestServer, seen: &Seen) {
    let evidence = server.api().get("/provault/v1/evidence");
    let records = evidence["Records"].as_array().unwrap();
    assert_eq!(records.len(), seen.tests.len(), "{evidence:#}");
    assert_eq!(text(&evidence, "Chain"), "VERIFIED", "{evidence:#}");
}

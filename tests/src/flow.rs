//! What most tests do with a server: register, back up, restore, test.

use std::path::Path;

use serde_json::{Value, json};

use crate::{Receiver, TestServer, encode, until};

/// The account of a server that was started without one.
pub const ACCOUNT: &str = "123456789012";
/// The region of a server that was started without one.
pub const REGION: &str = "us-east-1";
/// The role that every account has.
pub const DEFAULT_ROLE: &str =
    "arn:aws:iam::123456789012:role/service-role/AWSBackupDefaultServiceRole";
/// The vault that every account has.
pub const VAULT: &str = "Default";

const BACKUP_ENDS: [&str; 5] = ["COMPLETED", "PARTIAL", "FAILED", "ABORTED", "EXPIRED"];
const CARE_ENDS: [&str; 3] = ["COMPLETED", "FAILED", "ABORTED"];
const RESTORE_ENDS: [&str; 3] = ["COMPLETED", "FAILED", "ABORTED"];

impl TestServer {
    /// Registers a resource; gives its ARN.
    pub fn add(&self, resource: &Value) -> String {
        let added = self.api().post("/provault/v1/resources", resource);
        added["ResourceArn"].as_str().unwrap().to_owned()
    }

    /// Registers a directory without an application.
    pub fn add_directory(&self, name: &str, path: &Path) -> String {
        self.add(&json!({ "Kind": "filesystem", "Name": name, "Config": { "path": path } }))
    }

    /// Sends every notification of the vault `Default` to a receiver.
    pub fn notify(&self, receiver: &Receiver) {
        let topic = self.api().post("/provault/v1/topics", &json!({ "Name": "events" }));
        let webhook = json!({ "Webhook": receiver.url() });
        self.api().post("/provault/v1/topics/events/subscriptions", &webhook);
        self.api().put(
            "/backup-vaults/Default/notification-configuration",
            &json!({
                "SNSTopicArn": topic["Arn"],
                "BackupVaultEvents": [
                    "BACKUP_JOB_STARTED", "BACKUP_JOB_COMPLETED",
                    "RESTORE_JOB_STARTED", "RESTORE_JOB_COMPLETED",
                ],
            }),
        );
    }

    /// Asks for a backup into the vault `Default`; gives the job's id.
    pub fn start_backup(&self, resource_arn: &str) -> String {
        let started = self.api().put(
            "/backup-jobs",
            &json!({
                "BackupVaultName": VAULT,
                "ResourceArn": resource_arn,
                "IamRoleArn": DEFAULT_ROLE,
                "Lifecycle": { "DeleteAfterDays": 1 },
            }),
        );
        started["BackupJobId"].as_str().unwrap().to_owned()
    }

    /// Waits for the end of a backup job.
    pub fn ended_backup(&self, id: &str) -> Value {
        until(&format!("the end of backup job {id}"), || {
            let job = self.api().get(&format!("/backup-jobs/{id}"));
            BACKUP_ENDS.iter().any(|end| job["State"] == *end).then_some(job)
        })
    }

    /// Backs up, which must succeed; gives the recovery point's ARN.
    pub fn back_up(&self, resource_arn: &str) -> String {
        let job = self.ended_backup(&self.start_backup(resource_arn));
        assert_eq!(job["State"], "COMPLETED", "{job}");
        job["RecoveryPointArn"].as_str().unwrap().to_owned()
    }

    /// Asks for a restore to `target`, as a client does: the recovery point's own metadata, edited.
    pub fn start_restore(&self, point_arn: &str, target: &Path) -> String {
        let point = format!("/backup-vaults/{VAULT}/recovery-points/{}", encode(point_arn));
        let mut metadata =
            self.api().get(&format!("{point}/restore-metadata"))["RestoreMetadata"].take();
        metadata["targetPath"] = json!(target);
        let started = self.api().put(
            "/restore-jobs",
            &json!({ "RecoveryPointArn": point_arn, "Metadata": metadata, "IamRoleArn": DEFAULT_ROLE }),
        );
        started["RestoreJobId"].as_str().unwrap().to_owned()
    }

    /// Waits for the end of a restore job.
    pub fn ended_restore(&self, id: &str) -> Value {
        until(&format!("the end of restore job {id}"), || {
            let job = self.api().get(&format!("/restore-jobs/{id}"));
            RESTORE_ENDS.iter().any(|end| job["Status"] == *end).then_some(job)
        })
    }

    /// Restores, which must succeed.
    pub fn restore(&self, point_arn: &str, target: &Path) -> Value {
        let job = self.ended_restore(&self.start_restore(point_arn, target));
        assert_eq!(job["Status"], "COMPLETED", "{job}");
        job
    }

    /// Asks for a care run of the vault `Default`; gives its id.
    pub fn start_care(&self, asked: &Value) -> String {
        let started = self.api().post(&format!("/provault/v1/vaults/{VAULT}/care-runs"), asked);
        started["CareRunId"].as_str().unwrap().to_owned()
    }

    /// A care run as it stands.
    pub fn care_now(&self, id: &str) -> Value {
        self.api().get(&format!("/provault/v1/care-runs/{id}"))
    }

    /// Waits for the end of a care run.
    pub fn ended_care(&self, id: &str) -> Value {
        until(&format!("the end of care run {id}"), || {
            Some(self.care_now(id)).filter(|run| CARE_ENDS.iter().any(|end| run["State"] == *end))
        })
    }

    /// Deletes a recovery point of the vault `Default`.
    pub fn delete_point(&self, arn: &str) {
        let path = format!("/backup-vaults/{VAULT}/recovery-points/{}", encode(arn));
        let answer = self.api().call("DELETE", &path, None);
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// Asks for a restore test of a resource's newest recovery point; gives its id.
    pub fn start_test(&self, resource: &str) -> String {
        let asked = json!({ "Resource": resource });
        let started = self.api().post("/provault/v1/restore-tests", &asked);
        started["RestoreTestId"].as_str().unwrap().to_owned()
    }

    /// A restore test as it stands.
    pub fn test_now(&self, id: &str) -> Value {
        self.api().get(&format!("/provault/v1/restore-tests/{id}"))
    }

    /// Waits for the verdict of a restore test.
    pub fn ended_test(&self, id: &str) -> Value {
        until(&format!("the verdict of restore test {id}"), || {
            Some(self.test_now(id)).filter(|test| test["State"] == "FINISHED")
        })
    }

    /// Tests a resource's newest recovery point; gives the finished test.
    pub fn test(&self, resource: &str) -> Value {
        self.ended_test(&self.start_test(resource))
    }

    /// ARNs of the recovery points that the vault `Default` offers.
    pub fn points(&self) -> Vec<String> {
        let listed = self.api().get(&format!("/backup-vaults/{VAULT}/recovery-points/"));
        let points = listed["RecoveryPoints"].as_array().unwrap();
        points.iter().map(|p| p["RecoveryPointArn"].as_str().unwrap().to_owned()).collect()
    }
}

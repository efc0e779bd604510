//! Our own operations, under `/provault/v1/`: what AWS Backup has no words for.
//!
//! They are signed like any other request, their actions are named `provault:…`, their errors are
//! AWS Backup's shapes. Members are in Pascal case, times are epoch seconds. Unlike AWS's inputs,
//! an unknown member is refused by name: a setting with a typing error must not be forgotten in
//! silence.
//!
//! `docs/openapi.json` is made of this table and of the types below:
//! a test holds it to them, and writes it when `PROVAULT_WRITE_OPENAPI` is set.
//!
//! An operation is called as the action it needs is, unless the table says otherwise.
//!
//! | method and path | action | input → output |
//! |---|---|---|
//! | `GET /server` | `provault:DescribeServer` | → [`ServerInfo`] |
//! | `POST /server/reload` | `provault:ReloadSettings` | → [`ReloadedSettings`] |
//! | `GET /status` | `provault:DescribeStatus` | → [`Status`] |
//! | `GET /doctor` | `provault:DescribeHealth` | → [`Health`] |
//! | `GET /discoveries?seconds=` | `provault:DiscoverResources` | → [`Discovery`] |
//! | `POST /resources` | `provault:AddResource` | [`AddResourceInput`] → [`Resource`] |
//! | `GET /resources?maxResults=&nextToken=` | `provault:ListResources` | → [`ResourceList`] |
//! | `GET /resources/{name or ARN}` | `provault:DescribeResource` | → [`Resource`] |
//! | `POST /resources/{name or ARN}` | `provault:UpdateResource` | [`UpdateResourceInput`] → [`Resource`] |
//! | `POST /resources/{name or ARN}/tags` | `provault:TagResource` | [`ChangeTagsInput`] → [`Resource`] |
//! | `POST /resources/{name or ARN}/exemption` | `provault:ExemptResource` | [`ExemptResourceInput`] → [`Resource`] |
//! | `DELETE /resources/{name or ARN}/exemption` | `provault:EndExemption` | → [`Resource`] |
//! | `POST /resources/{name or ARN}/retention` | `provault:UpdateRetention` | [`UpdateRetentionInput`] → [`Resource`] |
//! | `GET /resources/{name or ARN}/testing` | `provault:DescribeResourceTesting` | → [`Testing`] |
//! | `PUT /resources/{name or ARN}/testing` | `provault:PutResourceTesting` | [`PutTestingInput`] → [`Testing`] |
//! | `DELETE /resources/{name or ARN}/testing` | `provault:DeleteResourceTesting` | |
//! | `GET /backup-plans/{id}/testing` | `provault:DescribePlanTesting` | → [`Testing`] |
//! | `PUT /backup-plans/{id}/testing` | `provault:PutPlanTesting` | [`PutTestingInput`] → [`Testing`] |
//! | `DELETE /backup-plans/{id}/testing` | `provault:DeletePlanTesting` | |
//! | `GET /backup-plans/{plan id}/selections/{selection id}/testing` | `provault:DescribeSelectionTesting` | → [`Testing`] |
//! | `PUT /backup-plans/{plan id}/selections/{selection id}/testing` | `provault:PutSelectionTesting` | [`PutTestingInput`] → [`Testing`] |
//! | `DELETE /backup-plans/{plan id}/selections/{selection id}/testing` | `provault:DeleteSelectionTesting` | |
//! | `DELETE /resources/{name or ARN}` | `provault:RemoveResource` | |
//! | `GET /recovery-points/{ARN}` | `provault:DescribeRecoveryPoint` | → [`PointRetention`] |
//! | `POST /recovery-points/{ARN}/accept` | `provault:AcceptRecoveryPoint` | → [`PointRetention`] |
//! | `POST /roles` | `provault:AddRole` | [`AddNameInput`] → [`Named`] |
//! | `GET /roles` | `provault:ListRoles` | → [`NamedList`] |
//! | `DELETE /roles/{name or ARN}` | `provault:RemoveRole` | |
//! | `POST /users` | `provault:AddUser` | [`AddUserInput`] → [`User`] |
//! | `GET /users` | `provault:ListUsers` | → [`UserList`] |
//! | `POST /users/{name}` | `provault:UpdateUser` | [`UpdateUserInput`] → [`User`] |
//! | `DELETE /users/{name}` | `provault:RemoveUser` | |
//! | `POST /users/{name or root}/access-keys` | `provault:CreateAccessKey` | → [`CreatedAccessKey`] |
//! | `POST /access-keys/{id}` | `provault:UpdateAccessKey` | [`UpdateAccessKeyInput`] → [`AccessKey`] |
//! | `DELETE /access-keys/{id}` | `provault:DeleteAccessKey` | |
//! | `GET /audit?since=&limit=` | `provault:ListAuditRecords` | → [`AuditRecordList`] |
//! | `POST /keys` | `provault:AddKey` | [`AddNameInput`] → [`Named`] |
//! | `GET /keys` | `provault:ListKeys` | → [`NamedList`] |
//! | `DELETE /keys/{name or ARN}` | `provault:RemoveKey` | |
//! | `POST /topics` | `provault:AddTopic` | [`AddNameInput`] → [`Named`] |
//! | `GET /topics` | `provault:ListTopics` | → [`NamedList`] |
//! | `DELETE /topics/{name or ARN}` | `provault:RemoveTopic` | |
//! | `POST /topics/{name or ARN}/subscriptions` | `provault:Subscribe` | [`SubscribeInput`] → [`Subscription`] |
//! | `GET /topics/{name or ARN}/subscriptions` | `provault:ListSubscriptions` | → [`SubscriptionList`] |
//! | `POST /subscriptions/{id}/test` | `provault:TestSubscription` | → [`SubscriptionTest`] |
//! | `DELETE /subscriptions/{id}` | `provault:Unsubscribe` | |
//! | `GET /deliveries?jobId=&state=&maxResults=&nextToken=` | `provault:ListDeliveries` | → [`DeliveryList`] |
//! | `GET /deliveries/{id}` | `provault:DescribeDelivery` | → [`Delivery`] |
//! | `POST /deliveries/{id}/send-again` | `provault:SendDeliveryAgain` | → [`Delivery`] |
//! | `DELETE /deliveries/{id}` | `provault:ForgetDelivery` | |
//! | `GET /jobs/{id}/log` | `provault:GetJobLog` | → [`JobLog`] |
//! | `POST /restore-previews` | `provault:PreviewRestore` | [`PreviewRestoreInput`] → [`RestorePreview`] |
//! | `POST /restore-jobs/{id}/stop` | `provault:StopRestoreJob` | |
//! | `POST /restore-tests` | `provault:StartRestoreTest` | [`StartRestoreTestInput`] → [`RestoreTest`] |
//! | `GET /restore-tests?resourceArn=` | `provault:ListRestoreTests` | → [`RestoreTestList`] |
//! | `GET /restore-tests/{id}` | `provault:DescribeRestoreTest` | → [`RestoreTest`] |
//! | `POST /restore-tests/{id}/stop` | `provault:StopRestoreTest` | |
//! | `GET /evidence?resourceArn=` | `provault:ListEvidence` | → [`EvidenceList`] |
//! | `GET /evidence/records?after=` | `provault:ListEvidence` as `ListEvidenceRecords` | → [`EvidencePage`] |
//! | `GET /vaults/{name}/repository` | `provault:DescribeRepository` | → [`Repository`] |
//! | `POST /vaults/{name}/export-password` | `provault:ExportPassword` | → [`ExportedPassword`] |
//! | `POST /vaults/{name}/import` | `provault:ImportVault` | [`ImportVaultInput`] → [`CareRun`] |
//! | `POST /recovery-kit` | `provault:ExportRecoveryKit` | [`ExportRecoveryKitInput`] → [`RecoveryKit`] |
//! | `POST /vaults/{name}/care-runs` | `provault:StartCareRun` | [`StartCareRunInput`] → [`CareRun`] |
//! | `GET /care-runs?vaultName=` | `provault:ListCareRuns` | → [`CareRunList`] |
//! | `GET /care-runs/{id}` | `provault:DescribeCareRun` | → [`CareRun`] |
//! | `POST /care-runs/{id}/stop` | `provault:StopCareRun` | |
//! | `GET /vaults/{name}/care` | `provault:DescribeVaultCare` | → [`VaultCare`] |
//! | `POST /vaults/{name}/care` | `provault:UpdateVaultCare` | [`UpdateVaultCareInput`] → [`VaultCare`] |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where our operations live.
pub const PREFIX: &str = "/provault/v1";

/// Seconds since the epoch, as every time of the API.
pub type EpochSeconds = f64;

macro_rules! message {
    ($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[cfg_attr(test, derive(schemars::JsonSchema))]
        #[serde(rename_all = "PascalCase", deny_unknown_fields)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty),* }
    };
}

mod care;
mod discovery;
mod evidence;
#[cfg(test)]
mod openapi;
mod resource_update;
mod restore;
mod retention;
mod status;
mod testing;
mod topic;
mod user;

pub use care::*;
pub use discovery::*;
pub use evidence::*;
pub use resource_update::*;
pub use restore::*;
pub use retention::*;
pub use status::*;
pub use testing::*;
pub use topic::*;
pub use user::*;

message! {
    /// What the server is.
    ServerInfo {
        /// The account it serves.
        account_id: String,
        /// Its region.
        region: String,
        /// Version of the program.
        version: String,
        /// Whether restored applications can be isolated here; else why not.
        isolation: String,
    }
}

message! {
    /// What came of settings that were read again.
    ReloadedSettings {
        /// Settings that changed and hold from now on.
        changed: Vec<String>,
        /// Settings that changed and hold after the next start.
        needs_restart: Vec<String>,
    }
}

message! {
    /// Registers a resource.
    AddResourceInput {
        /// `filesystem`.
        kind: String,
        /// A name for people, unique in the account.
        name: String,
        /// Settings of the kind: for a file system `path`, `include`, `exclude`, ….
        config: serde_json::Value,
        /// Tags that selections look at.
        #[serde(default)]
        tags: BTreeMap<String, String>,
        /// How to start the application of a restored copy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<Service>,
        /// Questions a restore test asks.
        #[serde(default)]
        probes: Vec<Probe>,
        /// Recovery point objective, seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rpo_seconds: Option<u64>,
        /// Recovery time objective, seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rto_seconds: Option<u64>,
        /// Whether a restore test follows every completed backup; what the selection and the plan say
        /// when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        test_after_backup: Option<bool>,
        /// A new recovery point with less than this share of the bytes or files of the newest good
        /// one is marked, in percent; 0 for no such alarm, 50 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shrink_alarm_percent: Option<u32>,
        /// Recovery points that are kept at most, in all vaults together; 0 or absent for no limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep_at_most: Option<u32>,
    }
}

message! {
    /// How to start an application.
    Service {
        /// Program and arguments.
        command: Vec<String>,
        /// Added to a clean environment.
        #[serde(default)]
        environment: BTreeMap<String, String>,
        /// Seconds until the first probe must have answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        start_timeout_seconds: Option<u64>,
    }
}

message! {
    /// A probe; which members it has depends on its type.
    #[derive(Default)]
    Probe {
        /// `Http`, `Tcp`, `Command` or `Files`.
        #[serde(rename = "Type")]
        kind: String,
        /// For `Http` and `Tcp`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        /// For `Http`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// For `Tcp`: text to send once the connection stands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        send: Option<String>,
        /// For `Tcp`, instead of `Send`: bytes in hexadecimal.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        send_hex: Option<String>,
        /// For `Command`: program and arguments.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command: Option<Vec<String>>,
        /// For `Tcp`: how long a connection is listened to, 10 when absent. For `Command`: after
        /// how long it is killed, 60 when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timeout_seconds: Option<u64>,
        /// For all but `Files`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        assertions: Vec<Assertion>,
    }
}

message! {
    /// An assertion; which members it has depends on its type.
    #[derive(Default)]
    Assertion {
        /// `Status` (of `Http`), `ExitCode` (of `Command`), `BodyContains`, `BodyMatches`,
        /// `JsonAtLeast` or `JsonNewerThan` (the last two not of `Tcp`).
        #[serde(rename = "Type")]
        kind: String,
        /// For `Status` and `ExitCode`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        equals: Option<u16>,
        /// For `BodyContains`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// For `BodyMatches`: a regular expression.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pattern: Option<String>,
        /// For `JsonAtLeast` and `JsonNewerThan`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pointer: Option<String>,
        /// For `JsonAtLeast`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        minimum: Option<i64>,
        /// For `JsonNewerThan`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_age_seconds: Option<u64>,
    }
}

message! {
    /// A registered resource and how well it is protected.
    Resource {
        /// Its name in every API.
        resource_arn: String,
        /// `filesystem`.
        kind: String,
        /// AWS's name of the kind.
        resource_type: String,
        /// Name for people.
        name: String,
        /// Settings of the kind.
        config: serde_json::Value,
        /// Tags.
        tags: BTreeMap<String, String>,
        /// Application of a copy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<Service>,
        /// Questions of a restore test.
        probes: Vec<Probe>,
        /// Target.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rpo_seconds: Option<u64>,
        /// Target.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rto_seconds: Option<u64>,
        /// Whether the resource itself says that a restore test follows every completed backup.
        test_after_backup: bool,
        /// All that it says about that; absent where it leaves it to the selection and the plan.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        testing: Option<Testing>,
        /// That its newest recovery point was left out of the tests on purpose, and which stands for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left_out: Option<String>,
        /// The share below which a new recovery point is marked as shrunk, in percent; absent where
        /// the alarm is off.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shrink_alarm_percent: Option<u32>,
        /// Recovery points that are kept at most; absent for no limit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        keep_at_most: Option<u32>,
        /// When it was registered.
        creation_date: EpochSeconds,
        /// Whether it is known from recovery points of an imported vault alone; never backed up from
        /// here.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        imported: bool,
        /// Capture time of its newest recovery point.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_backup_time: Option<EpochSeconds>,
        /// Verdict on its newest recovery point: `NOT_TESTED` where there is none, `OVERDUE` where there
        /// should be a newer point.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verdict: Option<String>,
        /// As in [`ResourceStatus`].
        #[serde(default)]
        protection: String,
        /// As in [`ResourceStatus`].
        #[serde(default)]
        troubles: Vec<Trouble>,
        /// As in [`ResourceStatus`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exemption: Option<Exemption>,
        /// What is wrong with the size of its newest recovery point, while nobody has accepted it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shrunk: Option<String>,
        /// Its newest recovery point that is whole, as far as is known, and not shrunk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_good_recovery_point_arn: Option<String>,
        /// Capture time of that point.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_good_backup_time: Option<EpochSeconds>,
    }
}

message! {
    /// A page of resources.
    ResourceList {
        /// In the order of registration.
        resources: Vec<Resource>,
        /// Where the next page begins.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_token: Option<String>,
    }
}

message! {
    /// Changes tags; first `Remove`, then `Set`.
    ChangeTagsInput {
        /// Tags to set.
        #[serde(default)]
        set: BTreeMap<String, String>,
        /// Keys to remove.
        #[serde(default)]
        remove: Vec<String>,
    }
}

message! {
    /// Makes something that has only a name: a role, a key, a topic.
    AddNameInput {
        /// The name, unique in the account.
        name: String,
    }
}

message! {
    /// A role, key or topic.
    Named {
        /// Its ARN.
        arn: String,
        /// Its name.
        name: String,
        /// When it was made.
        creation_date: EpochSeconds,
    }
}

message! {
    /// All roles, keys or topics.
    NamedList {
        /// In the order of creation.
        items: Vec<Named>,
    }
}

message! {
    /// One line of a job's log.
    JobLogEntry {
        /// 1, 2, 3, ….
        sequence: i64,
        /// When.
        time: EpochSeconds,
        /// The state the job entered, if it changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
        /// The step that ended, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<Step>,
        /// For people.
        message: String,
    }
}

message! {
    /// A timed step.
    Step {
        /// Such as `capture`.
        name: String,
        /// When it began.
        start_date: EpochSeconds,
        /// How long it took.
        seconds: f64,
        /// Whether it ended well.
        ok: bool,
        /// What happened.
        detail: String,
    }
}

message! {
    /// All a job went through.
    JobLog {
        /// The job.
        job_id: String,
        /// `BACKUP`, `RESTORE`, `RESTORE_TEST` or `CARE`.
        job_type: String,
        /// In order.
        entries: Vec<JobLogEntry>,
        /// Paths a backup could not read.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        skipped: Vec<SkippedPath>,
    }
}

message! {
    /// A path that could not be read.
    SkippedPath {
        /// Relative to the resource.
        path: String,
        /// Why.
        reason: String,
    }
}

message! {
    /// Asks for a restore test; exactly one member.
    StartRestoreTestInput {
        /// Test the newest recovery point of this resource (name or ARN).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<String>,
        /// Test this recovery point.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovery_point_arn: Option<String>,
    }
}

message! {
    /// A restore test.
    RestoreTest {
        /// UUID.
        restore_test_id: String,
        /// What is tested.
        resource_arn: String,
        /// Its name.
        resource_name: String,
        /// `PENDING` … `FINISHED`.
        state: String,
        /// `PASSED`, `FAILED` or `INCONCLUSIVE`, at the end; `NOT_TESTED` when it was passed over on
        /// purpose.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verdict: Option<String>,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Why it has not begun, while it has not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        waiting: Option<String>,
        /// The point tested, or to be tested where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovery_point_arn: Option<String>,
        /// The restore job that made the copy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        restore_job_id: Option<String>,
        /// The backup job it followed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backup_job_id: Option<String>,
        /// The measured recovery time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovery_seconds: Option<f64>,
        /// Age of the point when the test began.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovery_point_age_seconds: Option<u64>,
        /// Target.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rpo_seconds: Option<u64>,
        /// Target.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rto_seconds: Option<u64>,
        /// `full` or `filesonly`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        isolation: Option<String>,
        /// Answers of the copy.
        probes: Vec<ProbeResult>,
        /// Answers of broken copies.
        mutants: Vec<MutantResult>,
        /// Whether the latter come from an earlier test with the same probes.
        mutants_cached: bool,
        /// What somebody outside is asked, where the copy is kept for that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        validation: Option<TestValidation>,
        /// Every step.
        steps: Vec<Step>,
        /// Whether all the test created is gone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cleaned_up: Option<bool>,
        /// When it was asked for.
        creation_date: EpochSeconds,
        /// When it ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        completion_date: Option<EpochSeconds>,
    }
}

message! {
    /// The answer to a probe.
    ProbeResult {
        /// Which.
        label: String,
        /// Whether all it should hold held.
        passed: bool,
        /// What was seen.
        detail: String,
        /// Seconds from the start of the application.
        seconds: f64,
        /// The end of what a command wrote, or the beginning of what came over a connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<String>,
    }
}

message! {
    /// What became of a broken copy.
    MutantResult {
        /// How it was broken.
        name: String,
        /// Whether the verdict depends on it.
        required: bool,
        /// Whether the probes noticed; absent when it could not be tried.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        killed: Option<bool>,
        /// Which probe noticed, or why not tried.
        detail: String,
    }
}

message! {
    /// Restore tests, newest first.
    RestoreTestList {
        /// At most a thousand.
        restore_tests: Vec<RestoreTest>,
    }
}

message! {
    /// How to open a vault with other tools.
    Repository {
        /// `restic`.
        format: String,
        /// 2.
        version: u32,
        /// Path on the server.
        location: String,
        /// Hexadecimal id of the repository.
        repository_id: String,
    }
}

message! {
    /// A vault's password, in clear.
    ExportedPassword {
        /// The vault.
        backup_vault_name: String,
        /// What `restic` asks for.
        password: String,
    }
}

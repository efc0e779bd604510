//! Values to put into a catalog.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use provault_catalog::{Catalog, Delivery};
use provault_domain::backup_job::BackupResult;
use provault_domain::key::KeyWrapper;
use provault_domain::vault::VaultNotifications;
use provault_domain::verdict::Findings;
use provault_domain::{
    AccountId, Arn, BackupJob, BackupJobEvent, BackupJobState, BackupPlan, BackupRule,
    BackupSelection, BackupTesting, BackupVault, Key, Kind, Lifecycle, Payload, RecoveryPoint,
    RecoveryPointStatus, Region, Resource, RestoreJob, RestoreJobState, RestoreTest,
    RestoreTestState, Role, Subscription, SubscriptionTarget, Tags, Topic,
};

/// A catalog under test, and how to open it again as another server would.
pub struct World {
    pub url: String,
    pub catalog: Catalog,
}

impl World {
    pub async fn open(url: &str) -> Self {
        Self { url: url.to_owned(), catalog: Catalog::open(url).await.unwrap() }
    }

    /// Another server on the same catalog.
    pub async fn another(&self) -> Catalog {
        Catalog::open(&self.url).await.unwrap()
    }
}

/// Claims what is due, as a sender does: for one receiver after the other, up to `limit` in all.
pub async fn claim_due(
    c: &Catalog,
    owner: &str,
    now: Timestamp,
    lease_until: Timestamp,
    limit: u32,
) -> Vec<Delivery> {
    let mut claimed = Vec::new();
    for receiver in c.receivers_due(now).await.unwrap() {
        let room = limit - u32::try_from(claimed.len()).unwrap();
        claimed.extend(c.claim_deliveries(&receiver, owner, now, lease_until, room).await.unwrap());
    }
    claimed
}

/// Seconds after the beginning of the tests' time.
pub fn at(seconds: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(seconds)
}

pub fn uuid(n: u32) -> String {
    format!("{n:08x}-0000-4000-8000-000000000000")
}

pub fn account() -> AccountId {
    "111122223333".parse().unwrap()
}

pub fn other_account() -> AccountId {
    "999988887777".parse().unwrap()
}

pub fn region() -> Region {
    "us-east-1".parse().unwrap()
}

pub fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub fn role() -> Role {
    let name = "service-role/AWSBackupDefaultServiceRole".to_owned();
    Role { arn: Arn::role(&account(), &name), account: account(), name, created_at: at(0) }
}

pub fn key() -> Key {
    Key {
        arn: Arn::key(&region(), &account(), &uuid(1)),
        account: account(),
        name: "default".to_owned(),
        wrapper: KeyWrapper::LocalFile { file: "default.key".to_owned() },
        created_at: at(0),
    }
}

pub fn vault(name: &str, created: Timestamp) -> BackupVault {
    BackupVault {
        name: name.to_owned(),
        arn: Arn::backup_vault(&region(), &account(), name),
        account: account(),
        region: region(),
        encryption_key_arn: key().arn,
        creator_request_id: None,
        created_at: created,
        location: format!("vaults/{name}"),
        sealed_password: "c2VhbGVk".to_owned(),
        notifications: None,
        care: provault_domain::care::CareSettings::default(),
        imported: false,
    }
}

/// A catalog with a key and the vault `main`.
pub async fn with_vault(catalog: &Catalog) {
    catalog.insert_key(&key()).await.unwrap();
    catalog.insert_vault(&vault("main", at(0)), &Tags::new()).await.unwrap();
}

pub fn resource_arn(n: u32) -> Arn {
    Arn::resource_of(Kind::Filesystem, &region(), &account(), &format!("{n:017x}"))
}

pub fn resource(n: u32, name: &str) -> Resource {
    Resource {
        arn: resource_arn(n),
        account: account(),
        region: region(),
        kind: Kind::Filesystem,
        name: name.to_owned(),
        config: serde_json::json!({ "path": format!("/srv/{name}") }),
        tags: tags(&[("backup", "daily")]),
        service: None,
        probes: Vec::new(),
        rpo_seconds: Some(93_600),
        rto_seconds: None,
        testing: Some(BackupTesting::plain(true, at(0))),
        retention: provault_domain::RetentionSettings::default(),
        created_at: at(i64::from(n)),
        imported: false,
    }
}

pub fn plan(n: u32, version: &str) -> BackupPlan {
    BackupPlan {
        id: uuid(n),
        arn: Arn::backup_plan(&region(), &account(), &uuid(n)),
        account: account(),
        name: "daily".to_owned(),
        version_id: version.to_owned(),
        rules: vec![BackupRule {
            id: uuid(900 + n),
            name: "daily".to_owned(),
            target_vault: "main".to_owned(),
            schedule: "cron(0 5 ? * * *)".parse().unwrap(),
            timezone: "Etc/UTC".to_owned(),
            start_window_minutes: 480,
            completion_window_minutes: 10_080,
            lifecycle: Lifecycle::default(),
            recovery_point_tags: Tags::new(),
            since: None,
        }],
        creator_request_id: None,
        created_at: at(i64::from(n)),
        deleted_at: None,
        last_execution_at: None,
    }
}

pub fn selection(n: u32, plan: &BackupPlan, name: &str) -> BackupSelection {
    BackupSelection {
        id: uuid(n),
        account: account(),
        plan_id: plan.id.clone(),
        name: name.to_owned(),
        role_arn: role().arn,
        resources: vec!["*".to_owned()],
        not_resources: Vec::new(),
        list_of_tags: Vec::new(),
        conditions: provault_domain::selection::Conditions::default(),
        creator_request_id: None,
        created_at: at(i64::from(n)),
    }
}

pub fn backup_job(n: u32, of: u32, created: Timestamp) -> BackupJob {
    BackupJob {
        id: uuid(n),
        account: account(),
        region: region(),
        vault_name: "main".to_owned(),
        vault_arn: Arn::backup_vault(&region(), &account(), "main"),
        resource_arn: resource_arn(of),
        resource_name: format!("r{of}"),
        kind: Kind::Filesystem,
        role_arn: role().arn,
        lifecycle: Lifecycle { delete_after_days: Some(1), ..Lifecycle::default() },
        recovery_point_tags: Tags::new(),
        created_by: None,
        idempotency_token: None,
        created_at: created,
        start_by: created + SignedDuration::from_hours(8),
        completion_window_minutes: 10_080,
        started_at: None,
        interruptions: 0,
        completed_at: None,
        state: BackupJobState::Created,
        status_message: None,
        bytes_transferred: 0,
        bytes_expected: None,
        backup_size_bytes: None,
        bytes_stored: None,
        recovery_point_arn: None,
        skipped: Vec::new(),
    }
}

pub fn point_arn(n: u32) -> Arn {
    Arn::recovery_point(&region(), &account(), &uuid(n))
}

pub fn point(n: u32, of: u32, created: Timestamp) -> RecoveryPoint {
    RecoveryPoint {
        arn: point_arn(n),
        account: account(),
        region: region(),
        vault_name: "main".to_owned(),
        vault_arn: Arn::backup_vault(&region(), &account(), "main"),
        resource_arn: resource_arn(of),
        resource_name: format!("r{of}"),
        kind: Kind::Filesystem,
        backup_job_id: uuid(n),
        role_arn: role().arn,
        created_by: None,
        encryption_key_arn: key().arn,
        status: RecoveryPointStatus::Completed,
        status_message: None,
        captured_at: created,
        created_at: created,
        completed_at: created + SignedDuration::from_secs(5),
        backup_size_bytes: 1000,
        lifecycle: Lifecycle { delete_after_days: Some(1), ..Lifecycle::default() },
        payload: Payload::Stored {
            snapshot_id: format!("{n:064x}"),
            tree_path: "/srv".to_owned(),
            bytes_stored: 500,
            files: 3,
        },
        restore_metadata: BTreeMap::new(),
        last_restore_at: None,
        last_verdict: None,
        condition: None,
        shrunk: None,
        hold: None,
    }
}

pub fn completed(n: u32) -> BackupJobEvent {
    BackupJobEvent::Completed(Box::new(BackupResult {
        recovery_point_arn: point_arn(n),
        backup_size_bytes: 1000,
        bytes_transferred: 1000,
        bytes_stored: 500,
        skipped: Vec::new(),
        message: None,
    }))
}

pub fn restore_job(n: u32, token: Option<&str>) -> RestoreJob {
    RestoreJob {
        id: uuid(n),
        account: account(),
        region: region(),
        recovery_point_arn: point_arn(1),
        vault_name: "main".to_owned(),
        source_resource_arn: resource_arn(1),
        kind: Kind::Filesystem,
        role_arn: role().arn,
        metadata: BTreeMap::new(),
        idempotency_token: None,
        test_token: token.map(str::to_owned),
        testing_plan_arn: None,
        created_at: at(i64::from(n)),
        started_at: None,
        completed_at: None,
        state: RestoreJobState::Pending,
        status_message: None,
        stop_requested: None,
        attempts: 0,
        backup_size_bytes: 1000,
        bytes_restored: 0,
        created_resource_arn: None,
        validation: None,
        validation_message: None,
        deletion: None,
        deletion_message: None,
    }
}

pub fn restore_test(n: u32) -> RestoreTest {
    RestoreTest {
        id: uuid(n),
        account: account(),
        region: region(),
        token: format!("token-{n}"),
        resource_arn: resource_arn(1),
        resource_name: "r1".to_owned(),
        kind: Kind::Filesystem,
        requested_point: None,
        after_backup_job: None,
        planned: None,
        budget: None,
        waiting: None,
        created_at: at(i64::from(n)),
        started_at: None,
        interruptions: 0,
        completed_at: None,
        state: RestoreTestState::Pending,
        recovery_point_arn: None,
        vault_name: None,
        restore_job_id: None,
        created_resource_arn: None,
        findings: Findings::default(),
        steps: Vec::new(),
        verdict: None,
        reason: None,
        cleaned_up: None,
    }
}

pub fn topic(name: &str) -> Topic {
    Topic {
        arn: Arn::topic(&region(), &account(), name),
        account: account(),
        name: name.to_owned(),
        created_at: at(0),
    }
}

pub fn subscription(n: u32, topic: &Topic) -> Subscription {
    Subscription {
        id: uuid(n),
        account: account(),
        topic_arn: topic.arn.clone(),
        target: SubscriptionTarget::Webhook { url: format!("http://127.0.0.1:{n}/") },
        events: Vec::new(),
        digest_minutes: None,
        sealed_secret: None,
        created_at: at(i64::from(n)),
    }
}

#[allow(clippy::unnecessary_wraps)] // a vault's setting is an Option wherever it is used
pub fn notifications(topic: &Topic, events: &[&str]) -> Option<VaultNotifications> {
    Some(VaultNotifications {
        topic_arn: topic.arn.clone(),
        events: events.iter().map(|e| (*e).to_owned()).collect(),
    })
}

//! Every change is in the audit trail, and every denial of one, whichever action it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use provault_app::{Reload, Reloaded};
use provault_iam::ACTIONS;
use serde_json::{Value, json};

use crate::permissions::{Everything, eve, plan_document, set_policy, testing_plan};
use crate::subscriptions::receiver;
use crate::support::{ROLE, World, segment, text};

/// Whether an action changes something, or hands out a secret. What only looks is not recorded.
fn changes(action: &str) -> bool {
    let name = action.split_once(':').unwrap().1;
    !["Get", "List", "Describe", "Preview", "Discover"].iter().any(|word| name.starts_with(word))
}

/// Rights that a request for a restore needs beside its own: it is the request that is recorded.
fn recorded_as(action: &str) -> &str {
    match action {
        "provault:RestoreInPlace" | "provault:RestoreInPlaceElsewhere" => "backup:StartRestoreJob",
        own => own,
    }
}

/// Who, what, and what came of it.
type Entry = (String, String, String);

/// How often everything stands in the trail.
async fn trail(world: &World) -> BTreeMap<Entry, u64> {
    let audit = world.ok("GET", "/provault/v1/audit?limit=10000", Value::Null).await;
    let mut trail = BTreeMap::new();
    for record in audit["AuditRecords"].as_array().unwrap() {
        let entry = ["PrincipalArn", "Action", "Outcome"].map(|member| text(record, member));
        *trail.entry(entry.into()).or_default() += record["Count"].as_u64().unwrap_or(1);
    }
    trail
}

/// What somebody's request has added to the trail; what the server does by itself is not his.
fn added(before: &BTreeMap<Entry, u64>, after: &BTreeMap<Entry, u64>) -> Vec<(Entry, u64)> {
    let more = |(entry, count): (&Entry, &u64)| {
        let more = count - before.get(entry).copied().unwrap_or(0);
        (more > 0 && entry.0 != "provault").then(|| (entry.clone(), more))
    };
    after.iter().filter_map(more).collect()
}

fn once(who: &str, action: &str, outcome: &str) -> Vec<(Entry, u64)> {
    vec![((who.to_owned(), action.to_owned(), outcome.to_owned()), 1)]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_denial_of_a_change_is_recorded_once() {
    let mut world = World::new().await;
    let all = Everything::make(&world).await;
    let (root, eve) = (world.credentials.clone(), eve(&world).await);
    let mut tried = 0;
    for (action, _) in ACTIONS.iter().filter(|(action, _)| changes(action)) {
        let (method, target, body) =
            all.request(action).unwrap_or_else(|| panic!("no request for {action}"));
        let deny = json!({ "Effect": "Deny", "Action": action, "Resource": "*" });
        let allow = json!({ "Effect": "Allow", "Action": "*", "Resource": "*" });
        set_policy(&world, json!([allow, deny])).await;
        let before = trail(&world).await;
        world.credentials = eve.clone();
        let reply = world.call(method, &target, &body).await;
        world.credentials = root.clone();
        assert_eq!(reply.error(), "AccessDeniedException", "{action}: {reply:?}");
        let hers = "arn:aws:iam::123456789012:user/eve";
        let wanted = once(hers, recorded_as(action), "AccessDeniedException");
        assert_eq!(added(&before, &trail(&world).await), wanted, "{action}");
        tried += 1;
    }
    assert!(tried > 60, "only {tried} actions change something");
}

/// Settings that have not changed.
struct Unchanged;

impl Reload for Unchanged {
    fn reload(&self) -> Result<Reloaded, String> {
        Ok(Reloaded {
            changed: Vec::new(),
            needs_restart: Vec::new(),
            missing_vault_is_access_denied: true,
        })
    }
}

/// A world in which every change can be made once.
struct Stage {
    world: World,
    all: Everything,
    made: BTreeSet<String>,
}

impl Stage {
    /// A request of the root that has to be carried out and be in the trail once.
    async fn made(&mut self, action: &str, method: &str, target: &str, body: Value) -> Value {
        let before = trail(&self.world).await;
        let reply = self.world.call(method, target, &body).await;
        assert!((200..300).contains(&reply.status), "{action}: {reply:?}");
        let outcome = if action.starts_with("provault:Export") { "exported" } else { "done" };
        let wanted = once("arn:aws:iam::123456789012:root", action, outcome);
        assert_eq!(added(&before, &trail(&self.world).await), wanted, "{action}");
        assert!(self.made.insert(action.to_owned()), "{action} was made before");
        reply.body
    }

    async fn own(&mut self, action: &str, method: &str, rest: &str, body: Value) -> Value {
        let (action, target) = (format!("provault:{action}"), format!("/provault/v1/{rest}"));
        self.made(&action, method, &target, body).await
    }

    async fn aws(&mut self, action: &str, method: &str, target: &str, body: Value) -> Value {
        self.made(&format!("backup:{action}"), method, target, body).await
    }

    async fn plans(&mut self) {
        let none = || Value::Null;
        let mut document = plan_document();
        document["BackupPlan"]["BackupPlanName"] = json!("more");
        let plan = self.aws("CreateBackupPlan", "PUT", "/backup/plans/", document.clone()).await;
        let plan = text(&plan, "BackupPlanId");
        let at = format!("/backup/plans/{plan}");
        document["BackupPlan"]["Rules"][0]["RuleName"] = json!("nightly");
        self.aws("UpdateBackupPlan", "POST", &at, document).await;
        let all = json!({ "BackupSelection": { "SelectionName": "all", "IamRoleArn": ROLE,
            "Resources": ["*"] } });
        let chosen =
            self.aws("CreateBackupSelection", "PUT", &format!("{at}/selections/"), all).await;
        let chosen = text(&chosen, "SelectionId");
        let tested = json!({ "TestAfterBackup": true });
        let of_plan = format!("backup-plans/{plan}/testing");
        let of_selection = format!("backup-plans/{plan}/selections/{chosen}/testing");
        self.own("PutPlanTesting", "PUT", &of_plan, tested.clone()).await;
        self.own("DeletePlanTesting", "DELETE", &of_plan, none()).await;
        self.own("PutSelectionTesting", "PUT", &of_selection, tested).await;
        self.own("DeleteSelectionTesting", "DELETE", &of_selection, none()).await;
        let chosen = format!("{at}/selections/{chosen}");
        self.aws("DeleteBackupSelection", "DELETE", &chosen, none()).await;
        self.aws("DeleteBackupPlan", "DELETE", &at, none()).await;

        let at = "/restore-testing/plans";
        self.aws("CreateRestoreTestingPlan", "PUT", at, testing_plan("next")).await;
        let at = format!("{at}/next");
        let longer = json!({ "RestoreTestingPlan": { "StartWindowHours": 48 } });
        self.aws("UpdateRestoreTestingPlan", "PUT", &at, longer).await;
        let all = json!({ "RestoreTestingSelection": { "RestoreTestingSelectionName": "all",
            "ProtectedResourceType": "EFS", "IamRoleArn": ROLE,
            "ProtectedResourceArns": ["*"] } });
        let chosen = format!("{at}/selections");
        self.aws("CreateRestoreTestingSelection", "PUT", &chosen, all).await;
        let chosen = format!("{chosen}/all");
        let same = json!({ "RestoreTestingSelection": { "ValidationWindowHours": 2 } });
        self.aws("UpdateRestoreTestingSelection", "PUT", &chosen, same).await;
        self.aws("DeleteRestoreTestingSelection", "DELETE", &chosen, none()).await;
        self.aws("DeleteRestoreTestingPlan", "DELETE", &at, none()).await;
    }

    async fn names(&mut self) {
        let none = || Value::Null;
        for (add, remove, path) in [
            ("AddRole", "RemoveRole", "roles"),
            ("AddKey", "RemoveKey", "keys"),
            ("AddTopic", "", "topics"),
            ("AddUser", "", "users"),
        ] {
            self.own(add, "POST", path, json!({ "Name": "more" })).await;
            if !remove.is_empty() {
                self.own(remove, "DELETE", &format!("{path}/more"), none()).await;
            }
        }
        let hook = json!({ "Webhook": "http://127.0.0.1:9/more" });
        let hook = self.own("Subscribe", "POST", "topics/more/subscriptions", hook).await;
        let hook = format!("subscriptions/{}", text(&hook, "SubscriptionId"));
        self.own("TestSubscription", "POST", &format!("{hook}/test"), none()).await;
        self.own("Unsubscribe", "DELETE", &hook, none()).await;
        self.own("RemoveTopic", "DELETE", "topics/more", none()).await;
        let auditor = json!({ "ManagedPolicies": ["Auditor"] });
        self.own("UpdateUser", "POST", "users/more", auditor).await;
        let key = self.own("CreateAccessKey", "POST", "users/more/access-keys", none()).await;
        let key = format!("access-keys/{}", text(&key, "AccessKeyId"));
        self.own("UpdateAccessKey", "POST", &key, json!({ "Status": "Inactive" })).await;
        self.own("DeleteAccessKey", "DELETE", &key, none()).await;
        self.own("RemoveUser", "DELETE", "users/more", none()).await;

        let path = self.world.directory.path().join("more");
        std::fs::create_dir(&path).unwrap();
        let more = json!({ "Kind": "filesystem", "Name": "more", "Config": { "path": path } });
        self.own("AddResource", "POST", "resources", more).await;
        let tags = json!({ "Set": { "a": "b" } });
        self.own("TagResource", "POST", "resources/more/tags", tags).await;
        let why = json!({ "Reason": "because", "Owner": "me",
            "EndDate": jiff::Timestamp::now().as_second() + 86_400 });
        self.own("ExemptResource", "POST", "resources/more/exemption", why).await;
        self.own("EndExemption", "DELETE", "resources/more/exemption", none()).await;
        let objective = json!({ "RpoSeconds": 60 });
        self.own("UpdateResource", "POST", "resources/more", objective).await;
        let few = json!({ "KeepAtMost": 7 });
        self.own("UpdateRetention", "POST", "resources/more/retention", few).await;
        let tested = json!({ "TestAfterBackup": true });
        self.own("PutResourceTesting", "PUT", "resources/more/testing", tested).await;
        self.own("DeleteResourceTesting", "DELETE", "resources/more/testing", none()).await;
        self.own("RemoveResource", "DELETE", "resources/more", none()).await;
    }

    async fn jobs(&mut self, restored: &str) {
        let none = || Value::Null;
        let said = json!({ "ValidationStatus": "SUCCESSFUL" });
        let validations = format!("/restore-jobs/{restored}/validations");
        self.aws("PutRestoreValidationResult", "PUT", &validations, said).await;
        let what = json!({ "BackupVaultName": "lab", "ResourceArn": self.all.resource,
            "IamRoleArn": ROLE });
        let job = self.aws("StartBackupJob", "PUT", "/backup-jobs", what).await;
        let job = format!("/backup-jobs/{}", text(&job, "BackupJobId"));
        self.aws("StopBackupJob", "POST", &job, none()).await;
        let what = restore(&self.world, &self.all, "again");
        let job = self.aws("StartRestoreJob", "PUT", "/restore-jobs", what).await;
        let job = format!("restore-jobs/{}/stop", text(&job, "RestoreJobId"));
        self.own("StopRestoreJob", "POST", &job, none()).await;
        let what = json!({ "RecoveryPointArn": self.all.point });
        let test = self.own("StartRestoreTest", "POST", "restore-tests", what).await;
        let test = format!("restore-tests/{}/stop", text(&test, "RestoreTestId"));
        self.own("StopRestoreTest", "POST", &test, none()).await;
        let prune = json!({ "Operation": "PRUNE" });
        let run = self.own("StartCareRun", "POST", "vaults/lab/care-runs", prune).await;
        let run = format!("care-runs/{}/stop", text(&run, "CareRunId"));
        self.own("StopCareRun", "POST", &run, none()).await;
    }

    async fn vaults(&mut self) {
        let none = || Value::Null;
        self.aws("CreateBackupVault", "PUT", "/backup-vaults/more", json!({})).await;
        // A copy of a vault that the server has is refused; of this one only the copy will be left.
        let copy = self.world.directory.path().join("copy");
        copy_tree(&repository(&self.world, "more-"), &copy);
        let password = self.own("ExportPassword", "POST", "vaults/more/export-password", none());
        let password = text(&password.await, "Password");
        self.aws("DeleteBackupVault", "DELETE", "/backup-vaults/more", none()).await;
        let told = "/backup-vaults/lab/notification-configuration";
        let all = json!({ "SNSTopicArn": self.all.topic,
            "BackupVaultEvents": ["RESTORE_JOB_COMPLETED"] });
        self.aws("PutBackupVaultNotifications", "PUT", told, all).await;
        self.aws("DeleteBackupVaultNotifications", "DELETE", told, none()).await;
        let care = json!({ "PruneEveryDays": 9 });
        self.own("UpdateVaultCare", "POST", "vaults/lab/care", care).await;
        let kit = json!({ "Passphrase": "twelve at the least" });
        self.own("ExportRecoveryKit", "POST", "recovery-kit", kit).await;
        let what = json!({ "Location": copy, "Password": password });
        self.own("ImportVault", "POST", "vaults/copied/import", what).await;
        let point = segment(&self.all.point);
        let tags = json!({ "Tags": { "a": "b" } });
        self.aws("TagResource", "POST", &format!("/tags/{point}"), tags).await;
        let keys = json!({ "TagKeyList": ["a"] });
        self.aws("UntagResource", "POST", &format!("/untag/{point}"), keys).await;
        let point = format!("/backup-vaults/lab/recovery-points/{point}");
        self.aws("DeleteRecoveryPoint", "DELETE", &point, none()).await;
    }
}

/// A restore of the point of everything to a new place.
fn restore(world: &World, all: &Everything, name: &str) -> Value {
    let mut metadata = all.recorded.clone();
    metadata["newFileSystem"] = json!("true");
    metadata["targetPath"] = json!(world.directory.path().join(name));
    json!({ "RecoveryPointArn": all.point, "Metadata": metadata })
}

/// Where the vault lies whose directory's name begins so.
fn repository(world: &World, prefix: &str) -> std::path::PathBuf {
    let vaults = std::fs::read_dir(world.directory.path().join("vaults")).unwrap();
    let mut paths = vaults.map(|entry| entry.unwrap().path());
    let named =
        |path: &std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(prefix);
    paths.find(named).unwrap()
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let there = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &there);
        } else {
            std::fs::copy(entry.path(), there).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_that_is_made_is_recorded_once() {
    let world = World::new().await;
    let (all, running) = Everything::make_at_work(&world).await;
    // What has to have happened before some changes can be made: a restore, a point that has shrunk, and
    // messages that were given up.
    let (url, _requests) = receiver(&["404 Not Found", "404 Not Found"]);
    let hook = json!({ "Webhook": url, "Events": ["BACKUP_JOB_COMPLETED"] });
    world.ok("POST", "/provault/v1/topics/told/subscriptions", hook).await;
    let large = world.resource("large").await;
    let file = world.directory.path().join("sources/large/data.txt");
    std::fs::write(&file, "more than half of this goes").unwrap();
    world.backup(&large, "lab").await;
    std::fs::write(&file, "little").unwrap();
    let shrunk = world.backup(&large, "lab").await;
    let job = world.ok("PUT", "/restore-jobs", restore(&world, &all, "restored")).await;
    let restored = text(&job, "RestoreJobId");
    world.wait(&format!("/restore-jobs/{restored}"), "Status", "COMPLETED").await;
    let dead = loop {
        let found = world.ok("GET", "/provault/v1/deliveries?state=DEAD", Value::Null).await;
        let found = found["Deliveries"].as_array().unwrap().clone();
        if let [one, other, ..] = &found[..] {
            break [one, other].map(|delivery| text(delivery, "DeliveryId"));
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    running.stop("The test has what it needs").await;
    world.app.reload_with(Arc::new(Unchanged));

    let mut stage = Stage { world, all, made: BTreeSet::new() };
    let accept = format!("recovery-points/{}/accept", segment(&shrunk));
    stage.own("AcceptRecoveryPoint", "POST", &accept, Value::Null).await;
    let [one, other] = dead.map(|id| format!("deliveries/{id}"));
    stage.own("SendDeliveryAgain", "POST", &format!("{one}/send-again"), Value::Null).await;
    stage.own("ForgetDelivery", "DELETE", &other, Value::Null).await;
    stage.own("ReloadSettings", "POST", "server/reload", Value::Null).await;
    stage.plans().await;
    stage.names().await;
    stage.jobs(&restored).await;
    stage.vaults().await;
    // Not one was left out.
    let wanted = ACTIONS.iter().map(|(action, _)| recorded_as(action));
    let wanted: BTreeSet<String> =
        wanted.filter(|action| changes(action)).map(str::to_owned).collect();
    assert_eq!(stage.made, wanted);
}

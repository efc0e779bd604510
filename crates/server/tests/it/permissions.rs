//! Every action is decided on what the table of actions says.

use provault_engine::Running;
use provault_iam::{ACTIONS, Credentials, Scope, Secret};
use serde_json::{Value, json};

use crate::support::{ROLE, World, segment, text};

const NOBODYS: &str = "00000000-0000-0000-0000-000000000000";
const ACCOUNT: &str = "arn:aws:iam::123456789012";

/// One of everything, and requests that name it.
pub struct Everything {
    pub vault: String,
    pub point: String,
    pub plan: String,
    pub plan_id: String,
    pub testing_plan: String,
    pub resource: String,
    pub topic: String,
    pub subscription: String,
    pub delivery: String,
    pub key: String,
    pub test: String,
    pub run: String,
    pub bobs_key: String,
    /// The restore metadata of the point.
    pub recorded: Value,
}

impl Everything {
    /// What is at work stands still when it is there.
    pub async fn make(world: &World) -> Self {
        let (all, running) = Self::make_at_work(world).await;
        running.stop("The test has what it needs").await;
        all
    }

    /// The same, and the engine goes on.
    pub async fn make_at_work(world: &World) -> (Self, Running) {
        const OWN: &str = "/provault/v1";
        world.ok("PUT", "/backup-vaults/lab", json!({})).await;
        let topic = world.ok("POST", &format!("{OWN}/topics"), json!({ "Name": "told" })).await;
        let topic = text(&topic, "Arn");
        let hook = json!({ "Webhook": "http://127.0.0.1:9/hook" });
        let hook = world.ok("POST", &format!("{OWN}/topics/told/subscriptions"), hook).await;
        let events = json!({ "SNSTopicArn": topic, "BackupVaultEvents": ["BACKUP_JOB_COMPLETED"] });
        world.ok("PUT", "/backup-vaults/lab/notification-configuration", events).await;
        let resource = world.resource("data").await;
        let running = world.start().await;
        let point = world.backup(&resource, "lab").await;
        let test = json!({ "Resource": "data" });
        let test = world.ok("POST", &format!("{OWN}/restore-tests"), test).await;
        let run = json!({ "Operation": "CHECK" });
        let run = world.ok("POST", &format!("{OWN}/vaults/lab/care-runs"), run).await;
        let sent = world.ok("GET", &format!("{OWN}/deliveries"), Value::Null).await;
        let plan = world.ok("PUT", "/backup/plans/", plan_document()).await;
        let testing = world.call("PUT", "/restore-testing/plans", &testing_plan("weekly")).await;
        world.ok("POST", &format!("{OWN}/roles"), json!({ "Name": "ops" })).await;
        let key = world.ok("POST", &format!("{OWN}/keys"), json!({ "Name": "mine" })).await;
        world.ok("POST", &format!("{OWN}/users"), json!({ "Name": "bob" })).await;
        let bobs = world.ok("POST", &format!("{OWN}/users/bob/access-keys"), Value::Null).await;
        let recorded = format!("/backup-vaults/lab/recovery-points/{}", segment(&point));
        let recorded = world.ok("GET", &format!("{recorded}/restore-metadata"), Value::Null).await;
        let all = Self {
            recorded: recorded["RestoreMetadata"].clone(),
            vault: "arn:aws:backup:us-east-1:123456789012:backup-vault:lab".to_owned(),
            point,
            plan: text(&plan, "BackupPlanArn"),
            plan_id: text(&plan, "BackupPlanId"),
            testing_plan: text(&testing.body, "RestoreTestingPlanArn"),
            resource,
            topic,
            subscription: text(&hook, "SubscriptionId"),
            delivery: text(&sent["Deliveries"][0], "DeliveryId"),
            key: text(&key, "Arn"),
            test: text(&test, "RestoreTestId"),
            run: text(&run, "CareRunId"),
            bobs_key: text(&bobs, "AccessKeyId"),
        };
        (all, running)
    }

    /// The ARN of its one of a kind, for an action.
    fn arn(&self, action: &str, scope: Scope) -> String {
        match (action, scope) {
            // They get their ARN when they are made.
            ("backup:CreateBackupPlan", _) => "arn:aws:backup:*:*:backup-plan:*".to_owned(),
            ("backup:CreateRestoreTestingPlan", _) => {
                "arn:aws:backup:*:*:restore-testing-plan:next-*".to_owned()
            }
            (_, Scope::Vault) => self.vault.clone(),
            (_, Scope::Point | Scope::Named) => self.point.clone(),
            (_, Scope::Plan) => self.plan.clone(),
            (_, Scope::TestingPlan) => self.testing_plan.clone(),
            (_, Scope::Resource) => self.resource.clone(),
            (_, Scope::Role) => format!("{ACCOUNT}:role/ops"),
            (_, Scope::User) => format!("{ACCOUNT}:user/bob"),
            (_, Scope::Key) => self.key.clone(),
            (_, Scope::Topic) => self.topic.clone(),
            (_, Scope::Account) => "*".to_owned(),
        }
    }

    /// A request for an action, by what it names.
    #[allow(clippy::too_many_lines, reason = "one line an action")]
    pub fn request(&self, action: &str) -> Option<(&'static str, String, Value)> {
        let none = Value::Null;
        let point = segment(&self.point);
        let in_vault = format!("/backup-vaults/lab/recovery-points/{point}");
        let told = "/backup-vaults/lab/notification-configuration".to_owned();
        let plan = format!("/backup/plans/{}", self.plan_id);
        let chosen = format!("{plan}/selections/00000000-0000-0000-0000-000000000000");
        let testing = "/restore-testing/plans".to_owned();
        let weekly = format!("{testing}/weekly");
        let (chosen_tests, one) = (format!("{weekly}/selections"), "all");
        let resource = format!("/resources/{}", segment(&self.resource));
        let own = |rest: &str| format!("/provault/v1/{rest}");
        let (action, aws) = match action.strip_prefix("backup:") {
            Some(action) => (action, true),
            None => (action.strip_prefix("provault:")?, false),
        };
        let role = json!({ "Status": "Inactive" });
        let planned = format!("backup-plans/{}/testing", self.plan_id);
        let selected = format!(
            "backup-plans/{}/selections/00000000-0000-0000-0000-000000000000/testing",
            self.plan_id
        );
        let tested = json!({ "TestAfterBackup": true });
        let request = match (aws, action) {
            (true, "CreateBackupPlan") => ("PUT", "/backup/plans/".to_owned(), plan_document()),
            (true, "GetBackupPlan") => ("GET", plan, none),
            (true, "UpdateBackupPlan") => ("POST", plan, plan_document()),
            (true, "DeleteBackupPlan") => ("DELETE", plan, none),
            (true, "ListBackupPlanVersions") => ("GET", format!("{plan}/versions/"), none),
            (true, "CreateBackupSelection") => {
                let all = json!({ "BackupSelection": { "SelectionName": "all",
                    "IamRoleArn": ROLE, "Resources": ["*"] } });
                ("PUT", format!("{plan}/selections/"), all)
            }
            (true, "ListBackupSelections") => ("GET", format!("{plan}/selections/"), none),
            (true, "GetBackupSelection") => ("GET", chosen, none),
            (true, "DeleteBackupSelection") => ("DELETE", chosen, none),
            (true, "CreateBackupVault") => ("PUT", "/backup-vaults/lab".to_owned(), json!({})),
            (true, "DescribeBackupVault") => ("GET", "/backup-vaults/lab".to_owned(), none),
            (true, "DeleteBackupVault") => ("DELETE", "/backup-vaults/lab".to_owned(), none),
            (true, "GetBackupVaultNotifications") => ("GET", told, none),
            (true, "DeleteBackupVaultNotifications") => ("DELETE", told, none),
            (true, "PutBackupVaultNotifications") => {
                let all = json!({ "SNSTopicArn": self.topic, "BackupVaultEvents": [] });
                ("PUT", told, all)
            }
            (true, "ListRecoveryPointsByBackupVault") => {
                ("GET", "/backup-vaults/lab/recovery-points/".to_owned(), none)
            }
            (true, "DescribeRecoveryPoint") => ("GET", in_vault, none),
            (true, "DeleteRecoveryPoint") => ("DELETE", in_vault, none),
            (true, "GetRecoveryPointRestoreMetadata") => {
                ("GET", format!("{in_vault}/restore-metadata"), none)
            }
            (true, "GetRestoreTestingInferredMetadata") => {
                let query = format!("BackupVaultName=lab&RecoveryPointArn={point}");
                ("GET", format!("/restore-testing/inferred-metadata?{query}"), none)
            }
            (true, "CreateRestoreTestingPlan") => ("PUT", testing, testing_plan("next")),
            (true, "GetRestoreTestingPlan") => ("GET", weekly, none),
            (true, "UpdateRestoreTestingPlan") => {
                ("PUT", weekly, json!({ "RestoreTestingPlan": { "StartWindowHours": 48 } }))
            }
            (true, "DeleteRestoreTestingPlan") => ("DELETE", weekly, none),
            (true, "CreateRestoreTestingSelection") => {
                let all = json!({ "RestoreTestingSelection": {
                    "RestoreTestingSelectionName": "all", "ProtectedResourceType": "EFS",
                    "IamRoleArn": ROLE, "ProtectedResourceArns": ["*"] } });
                ("PUT", chosen_tests, all)
            }
            (true, "ListRestoreTestingSelections") => ("GET", chosen_tests, none),
            (true, "GetRestoreTestingSelection") => ("GET", format!("{chosen_tests}/{one}"), none),
            (true, "UpdateRestoreTestingSelection") => {
                let all = json!({ "RestoreTestingSelection": { "ProtectedResourceArns": ["*"] } });
                ("PUT", format!("{chosen_tests}/{one}"), all)
            }
            (true, "DeleteRestoreTestingSelection") => {
                ("DELETE", format!("{chosen_tests}/{one}"), none)
            }
            (true, "DescribeProtectedResource") => ("GET", resource, none),
            (true, "ListRecoveryPointsByResource") => {
                ("GET", format!("{resource}/recovery-points/"), none)
            }
            (true, "ListRestoreJobsByProtectedResource") => {
                ("GET", format!("{resource}/restore-jobs/"), none)
            }
            (true, "ListTags") => ("GET", format!("/tags/{point}/"), none),
            (true, "TagResource") => {
                ("POST", format!("/tags/{point}"), json!({ "Tags": { "a": "b" } }))
            }
            (true, "UntagResource") => {
                ("POST", format!("/untag/{point}"), json!({ "TagKeyList": ["a"] }))
            }
            (true, "StartBackupJob") => {
                let what = json!({ "BackupVaultName": "lab", "ResourceArn": self.resource,
                    "IamRoleArn": ROLE });
                ("PUT", "/backup-jobs".to_owned(), what)
            }
            (true, "StartRestoreJob") => {
                let what = json!({ "RecoveryPointArn": self.point, "Metadata": {} });
                ("PUT", "/restore-jobs".to_owned(), what)
            }
            (false, "AcceptRecoveryPoint") => {
                ("POST", own(&format!("recovery-points/{point}/accept")), none)
            }
            (false, "DescribeRecoveryPoint") => {
                ("GET", own(&format!("recovery-points/{point}")), none)
            }
            (false, "AddRole") => ("POST", own("roles"), json!({ "Name": "ops" })),
            (false, "RemoveRole") => ("DELETE", own("roles/ops"), none),
            (false, "AddTopic") => ("POST", own("topics"), json!({ "Name": "told" })),
            (false, "RemoveTopic") => ("DELETE", own("topics/told"), none),
            (false, "Subscribe") => {
                let hook = json!({ "Webhook": "http://127.0.0.1:9/more" });
                ("POST", own("topics/told/subscriptions"), hook)
            }
            (false, "ListSubscriptions") => ("GET", own("topics/told/subscriptions"), none),
            (false, "TestSubscription") => {
                ("POST", own(&format!("subscriptions/{}/test", self.subscription)), none)
            }
            (false, "Unsubscribe") => {
                ("DELETE", own(&format!("subscriptions/{}", self.subscription)), none)
            }
            (false, "DescribeDelivery") => {
                ("GET", own(&format!("deliveries/{}", self.delivery)), none)
            }
            (false, "SendDeliveryAgain") => {
                ("POST", own(&format!("deliveries/{}/send-again", self.delivery)), none)
            }
            (false, "ForgetDelivery") => {
                ("DELETE", own(&format!("deliveries/{}", self.delivery)), none)
            }
            (false, "AddUser") => ("POST", own("users"), json!({ "Name": "bob" })),
            (false, "UpdateUser") => ("POST", own("users/bob"), json!({})),
            (false, "RemoveUser") => ("DELETE", own("users/bob"), none),
            (false, "CreateAccessKey") => ("POST", own("users/bob/access-keys"), none),
            (false, "UpdateAccessKey") => {
                ("POST", own(&format!("access-keys/{}", self.bobs_key)), role)
            }
            (false, "DeleteAccessKey") => {
                ("DELETE", own(&format!("access-keys/{}", self.bobs_key)), none)
            }
            (false, "RemoveKey") => ("DELETE", own("keys/mine"), none),
            (false, "DescribeCareRun") => ("GET", own(&format!("care-runs/{}", self.run)), none),
            (false, "StopCareRun") => ("POST", own(&format!("care-runs/{}/stop", self.run)), none),
            (false, "StartCareRun") => {
                ("POST", own("vaults/lab/care-runs"), json!({ "Operation": "CHECK" }))
            }
            (false, "DescribeVaultCare") => ("GET", own("vaults/lab/care"), none),
            (false, "UpdateVaultCare") => ("POST", own("vaults/lab/care"), json!({})),
            (false, "DescribeRepository") => ("GET", own("vaults/lab/repository"), none),
            (false, "ExportPassword") => ("POST", own("vaults/lab/export-password"), none),
            (false, "ImportVault") => {
                let what = json!({ "Location": "/nowhere", "Password": "password" });
                ("POST", own("vaults/lab/import"), what)
            }
            (false, "DescribeResource") => ("GET", own("resources/data"), none),
            (false, "TagResource") => {
                ("POST", own("resources/data/tags"), json!({ "Set": { "a": "b" } }))
            }
            (false, "ExemptResource") => {
                let why =
                    json!({ "Reason": "because", "Owner": "me", "EndDate": 4_102_444_800_u64 });
                ("POST", own("resources/data/exemption"), why)
            }
            (false, "EndExemption") => ("DELETE", own("resources/data/exemption"), none),
            (false, "UpdateResource") => {
                ("POST", own("resources/data"), json!({ "RpoSeconds": 60 }))
            }
            (false, "UpdateRetention") => {
                ("POST", own("resources/data/retention"), json!({ "KeepAtMost": 1 }))
            }
            (false, "DescribeResourceTesting") => ("GET", own("resources/data/testing"), none),
            (false, "PutResourceTesting") => ("PUT", own("resources/data/testing"), tested),
            (false, "DeleteResourceTesting") => ("DELETE", own("resources/data/testing"), none),
            (false, "DescribePlanTesting") => ("GET", own(&planned), none),
            (false, "PutPlanTesting") => ("PUT", own(&planned), tested),
            (false, "DeletePlanTesting") => ("DELETE", own(&planned), none),
            (false, "DescribeSelectionTesting") => ("GET", own(&selected), none),
            (false, "PutSelectionTesting") => ("PUT", own(&selected), tested),
            (false, "DeleteSelectionTesting") => ("DELETE", own(&selected), none),
            (false, "PreviewRestore") => {
                let what = json!({ "RecoveryPointArn": self.point, "Metadata": {} });
                ("POST", own("restore-previews"), what)
            }
            (false, "RestoreInPlace") => {
                let mut into_source = self.recorded.clone();
                into_source["newFileSystem"] = json!("false");
                let what = json!({ "RecoveryPointArn": self.point, "Metadata": into_source });
                ("PUT", "/restore-jobs".to_owned(), what)
            }
            (false, "RemoveResource") => ("DELETE", own("resources/data"), none),
            (false, "StartRestoreTest") => {
                ("POST", own("restore-tests"), json!({ "Resource": "data" }))
            }
            (false, "DescribeRestoreTest") => {
                ("GET", own(&format!("restore-tests/{}", self.test)), none)
            }
            (false, "StopRestoreTest") => {
                ("POST", own(&format!("restore-tests/{}/stop", self.test)), none)
            }
            // Decided on the account: what they name need not be there.
            (true, "StopBackupJob") => ("POST", format!("/backup-jobs/{NOBODYS}"), none),
            (true, "PutRestoreValidationResult") => {
                let said = json!({ "ValidationStatus": "SUCCESSFUL" });
                ("PUT", format!("/restore-jobs/{NOBODYS}/validations"), said)
            }
            (false, "AddKey") => ("POST", own("keys"), json!({ "Name": "other" })),
            (false, "AddResource") => {
                let what = json!({ "Kind": "filesystem", "Name": "other",
                    "Config": { "path": "/srv/other" } });
                ("POST", own("resources"), what)
            }
            (false, "ExportRecoveryKit") => {
                ("POST", own("recovery-kit"), json!({ "Passphrase": "twelve at the least" }))
            }
            (false, "ReloadSettings") => ("POST", own("server/reload"), none),
            (false, "StopRestoreJob") => {
                ("POST", own(&format!("restore-jobs/{NOBODYS}/stop")), none)
            }
            (false, "RestoreInPlaceElsewhere") => {
                let mut elsewhere = self.recorded.clone();
                elsewhere["newFileSystem"] = json!("false");
                let source = std::path::PathBuf::from(text(&elsewhere, "sourcePath"));
                elsewhere["targetPath"] = json!(source.parent());
                let what = json!({ "RecoveryPointArn": self.point, "Metadata": elsewhere });
                ("PUT", "/restore-jobs".to_owned(), what)
            }
            _ => return None,
        };
        Some(request)
    }
}

pub fn plan_document() -> Value {
    json!({ "BackupPlan": { "BackupPlanName": "daily", "Rules": [{
        "RuleName": "daily", "TargetBackupVaultName": "Default",
        "ScheduleExpression": "cron(0 5 ? * * *)" }] } })
}

pub fn testing_plan(name: &str) -> Value {
    json!({ "RestoreTestingPlan": {
        "RestoreTestingPlanName": name, "ScheduleExpression": "cron(0 5 ? * SUN *)",
        "RecoveryPointSelection": { "Algorithm": "LATEST_WITHIN_WINDOW", "IncludeVaults": ["*"],
            "RecoveryPointTypes": ["SNAPSHOT"] } } })
}

/// Somebody who may do everything but what is set later; signs from now on, and the root before.
pub async fn eve(world: &World) -> Credentials {
    world.ok("POST", "/provault/v1/users", json!({ "Name": "eve" })).await;
    let made = world.ok("POST", "/provault/v1/users/eve/access-keys", Value::Null).await;
    Credentials {
        access_key_id: text(&made, "AccessKeyId"),
        secret_access_key: Secret::new(text(&made, "SecretAccessKey")),
        session_token: None,
    }
}

pub async fn set_policy(world: &World, statements: Value) {
    let document = json!({ "Statement": statements }).to_string();
    world.ok("POST", "/provault/v1/users/eve", json!({ "PolicyDocument": document })).await;
}

/// A Deny that names what an action is decided on holds, for each of several; an Allow that names just
/// these is enough.
#[tokio::test(flavor = "multi_thread")]
async fn every_action_is_decided_on_what_the_table_says() {
    let mut world = World::new().await;
    let all = Everything::make(&world).await;
    let (root, eve) = (world.credentials.clone(), eve(&world).await);
    for (action, scopes) in ACTIONS {
        if *scopes == [Scope::Account] {
            continue;
        }
        let (method, target, body) =
            all.request(action).unwrap_or_else(|| panic!("no request for {action}"));
        for scope in *scopes {
            let deny = json!({ "Effect": "Deny", "Action": action,
                "Resource": all.arn(action, *scope) });
            let allow = json!({ "Effect": "Allow", "Action": "*", "Resource": "*" });
            set_policy(&world, json!([allow, deny])).await;
            world.credentials = eve.clone();
            let reply = world.call(method, &target, &body).await;
            world.credentials = root.clone();
            assert_eq!(reply.error(), "AccessDeniedException", "{action} {scope:?}: {reply:?}");
            assert!(reply.message().contains("explicit deny"), "{action} {scope:?}: {reply:?}");
        }
    }
    // What only reads shows that nothing else is asked for.
    for (action, scopes) in ACTIONS {
        let reads = ["Get", "List", "Describe"].iter().any(|word| action.contains(word));
        if !reads || *scopes == [Scope::Account] {
            continue;
        }
        let (method, target, body) = all.request(action).unwrap();
        let arns: Vec<String> = scopes.iter().map(|scope| all.arn(action, *scope)).collect();
        let allow = json!({ "Effect": "Allow", "Action": action, "Resource": arns });
        set_policy(&world, json!(allow)).await;
        world.credentials = eve.clone();
        let reply = world.call(method, &target, &body).await;
        world.credentials = root.clone();
        assert_ne!(reply.status, 403, "{action}: {reply:?}");
    }
}

/// To write over what is there is decided once more, for the preview as for the restore, and by where
/// the resource is registered: not by what the request calls the source.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_place_needs_a_right_of_its_own() {
    let mut world = World::new().await;
    let resource = world.resource("data").await;
    let running = world.start().await;
    let point = world.backup(&resource, "Default").await;
    // What is not registered any more has no source here.
    let gone = world.resource("gone").await;
    let gone_point = world.backup(&gone, "Default").await;
    world.ok("DELETE", "/provault/v1/resources/gone", Value::Null).await;
    running.stop("The test has what it needs").await;
    let sources = world.directory.path().join("sources");
    let elsewhere = world.directory.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("precious"), "kept").unwrap();
    let file_system = resource.rsplit_once('/').unwrap().1;
    let ask = |more: Value| {
        let mut metadata = json!({ "file-system-id": file_system, "newFileSystem": "false",
            "overwrite": "always", "deleteExtra": "true", "sourcePath": sources.join("data") });
        metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "RecoveryPointArn": point, "Metadata": metadata })
    };
    let into_source = ask(json!({}));
    let mut into_gone = ask(json!({ "sourcePath": sources.join("gone"),
        "file-system-id": gone.rsplit_once('/').unwrap().1 }));
    into_gone["RecoveryPointArn"] = json!(gone_point);
    let into_others = [
        into_gone,
        ask(json!({ "targetPath": elsewhere })),
        ask(json!({ "sourcePath": elsewhere })),
        ask(json!({ "targetPath": sources })),
        ask(json!({ "targetPath": sources.join("data/below") })),
    ];
    let to_new = json!({ "RecoveryPointArn": point, "Metadata": { "file-system-id": file_system,
        "targetPath": world.directory.path().join("new") } });
    let both = [("PUT", "/restore-jobs"), ("POST", "/provault/v1/restore-previews")];
    let root = world.credentials.clone();
    for (policy, over_source) in [("RestoreOnly", 403), ("Operator", 200), ("Administrator", 200)] {
        world.sign_as(policy).await;
        for (method, target) in both {
            let reply = world.call(method, target, &to_new).await;
            assert_eq!(reply.status, 200, "{policy} {target}: {reply:?}");
            let reply = world.call(method, target, &into_source).await;
            assert_eq!(reply.status, over_source, "{policy} {target}: {reply:?}");
            for other in &into_others {
                let reply = world.call(method, target, other).await;
                if policy == "Administrator" {
                    assert_eq!(reply.status, 200, "{other}: {reply:?}");
                    continue;
                }
                assert_eq!(reply.error(), "AccessDeniedException", "{policy} {other}: {reply:?}");
                assert!(reply.message().contains("RestoreInPlaceElsewhere"), "{reply:?}");
            }
        }
        world.credentials = root.clone();
    }
}

/// Nobody learns from a denial what there is.
#[tokio::test]
async fn a_denial_does_not_tell_what_there_is() {
    let mut world = World::new().await;
    world.resource("data").await;
    let (root, eve) = (world.credentials.clone(), eve(&world).await);
    world.credentials = eve.clone();
    let mut told = Vec::new();
    for name in ["data", "none"] {
        let target = format!("/provault/v1/resources/{name}");
        let reply = world.call("GET", &target, &Value::Null).await;
        assert_eq!(reply.error(), "AccessDeniedException");
        told.push(reply.message().replace(name, "NAME"));
    }
    assert_eq!(told[0], told[1]);
    world.credentials = root;
}

#[tokio::test]
async fn a_user_may_be_allowed_to_rotate_its_own_keys_alone() {
    let mut world = World::new().await;
    world.ok("POST", "/provault/v1/users", json!({ "Name": "bob" })).await;
    let eve = eve(&world).await;
    set_policy(
        &world,
        json!([{ "Effect": "Allow", "Resource": format!("{ACCOUNT}:user/eve"), "Action":
            ["provault:CreateAccessKey", "provault:UpdateAccessKey", "provault:DeleteAccessKey"] }]),
    )
    .await;
    let bobs = world.ok("POST", "/provault/v1/users/bob/access-keys", Value::Null).await;
    let bobs = format!("/provault/v1/access-keys/{}", text(&bobs, "AccessKeyId"));
    let eves = format!("/provault/v1/access-keys/{}", eve.access_key_id);
    world.credentials = eve;
    world.ok("POST", "/provault/v1/users/eve/access-keys", Value::Null).await;
    world.denied("POST", "/provault/v1/users/bob/access-keys").await;
    world.denied("POST", "/provault/v1/users/root/access-keys").await;
    world.denied("DELETE", &bobs).await;
    world.ok("DELETE", &eves, Value::Null).await;
}

#[tokio::test]
async fn a_policy_without_effect_is_refused_and_changes_nothing() {
    let world = World::new().await;
    let document = json!({ "Statement": { "Effect": "Deny", "Action": "provault:ListUsers",
        "Resource": format!("{ACCOUNT}:user/bob") } });
    let body = json!({ "Name": "bob", "PolicyDocument": document.to_string() });
    let invalid = "InvalidParameterValueException";
    let reply = world.refused("POST", "/provault/v1/users", body, invalid).await;
    assert!(reply.message().contains("provault:ListUsers is decided on the account"), "{reply:?}");
}

//! Documents: what stands is written into one, and made of one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::commands::{Ran, refused, run, run_answering};
use super::server::{Reply, Request, Server, error, ok};
use crate::exit::Exit;

const EXAMPLE: &str = include_str!("../commands/declared/example.toml");
const ROLE: &str = "arn:aws:iam::1:role/service-role/AWSBackupDefaultServiceRole";
const KEY: &str = "arn:aws:kms:x:1:key/default";

/// What a small server keeps; the names are those of the API.
#[derive(Debug, Default)]
struct Kept {
    vaults: BTreeMap<String, Value>,
    topics: BTreeMap<String, Vec<Value>>,
    resources: BTreeMap<String, Value>,
    plans: BTreeMap<String, Value>,
    selections: BTreeMap<(String, String), Value>,
    testing: BTreeMap<String, Value>,
    testing_selections: BTreeMap<(String, String), Value>,
    tags: BTreeMap<String, Value>,
    next: u32,
    /// The request that is refused.
    refuses: Option<String>,
}

fn arn(kind: &str, name: &str) -> String {
    format!("arn:{kind}:{name}")
}

fn listed(kind: &str, names: impl Iterator<Item = String>) -> Reply {
    let item = |name: String| json!({ "Name": name, "Arn": arn(kind, &name), "CreationDate": 0 });
    ok(&json!({ "Items": names.map(item).collect::<Vec<_>>() }))
}

fn not_found() -> Reply {
    error(404, "ResourceNotFoundException", "there is none")
}

impl Kept {
    fn number(&mut self) -> String {
        self.next += 1;
        format!("id-{}", self.next)
    }

    #[allow(clippy::too_many_lines)] // One line or two for each operation.
    fn answer(&mut self, request: &Request) -> Reply {
        let path = request.path.replace("%3A", ":").replace("%2F", "/");
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if self.refuses.as_deref() == Some(&format!("{} /{}", request.method, parts.join("/"))) {
            return error(400, "InvalidParameterValueException", "the schedule is wrong");
        }
        let mut body: Value = serde_json::from_str(&request.body).unwrap_or_default();
        match (request.method.as_str(), &parts[..]) {
            ("GET", ["provault", "v1", "roles"]) => ok(&json!({ "Items": [
                { "Name": "service-role/AWSBackupDefaultServiceRole", "Arn": ROLE, "CreationDate": 0 }] })),
            ("GET", ["provault", "v1", "keys"]) => {
                ok(&json!({ "Items": [{ "Name": "default", "Arn": KEY, "CreationDate": 0 }] }))
            }
            ("GET", ["backup-vaults"]) => {
                let vault = |name: &String| {
                    json!({ "BackupVaultName": name, "BackupVaultArn": arn("vault", name),
                        "EncryptionKeyArn": KEY,
                        "NumberOfRecoveryPoints": i64::from(name == "full") })
                };
                ok(&json!({ "BackupVaultList": self.vaults.keys().map(vault).collect::<Vec<_>>() }))
            }
            ("PUT", ["backup-vaults", name]) => {
                self.vaults.insert((*name).to_owned(), json!({ "Care": {} }));
                self.tags.insert(arn("vault", name), body["BackupVaultTags"].take());
                ok(&json!({ "BackupVaultName": name, "BackupVaultArn": arn("vault", name) }))
            }
            ("DELETE", ["backup-vaults", name]) => {
                self.vaults.remove(*name);
                ok(&json!({}))
            }
            (method, ["provault", "v1", "vaults", name, "care"]) => {
                let mut care = super::vault_care();
                care["BackupVaultName"] = json!(name);
                let kept = &mut self.vaults.get_mut(*name).unwrap()["Care"];
                if method == "POST" {
                    for (key, value) in body.as_object().unwrap() {
                        kept[key] = value.clone();
                    }
                }
                for (key, value) in kept.as_object().unwrap() {
                    care[key] = value.clone();
                }
                ok(&care)
            }
            (method, ["backup-vaults", name, "notification-configuration"]) => {
                let vault = self.vaults.get_mut(*name).unwrap();
                match method {
                    "PUT" => vault["Notifications"] = body,
                    "DELETE" => vault["Notifications"] = Value::Null,
                    _ if vault["Notifications"].is_null() => return not_found(),
                    _ => return ok(&vault["Notifications"]),
                }
                ok(&json!({}))
            }
            ("GET", ["tags", arn]) => ok(&json!({ "Tags": self.tags.get(*arn) })),
            ("POST", ["tags", arn]) => {
                let tags = self.tags.entry((*arn).to_owned()).or_insert(json!({}));
                for (key, value) in body["Tags"].as_object().unwrap() {
                    tags[key] = value.clone();
                }
                ok(&json!({}))
            }
            ("POST", ["untag", arn]) => {
                for key in body["TagKeyList"].as_array().unwrap() {
                    let tags = self.tags.get_mut(*arn).unwrap().as_object_mut().unwrap();
                    tags.remove(key.as_str().unwrap());
                }
                ok(&json!({}))
            }
            ("GET", ["provault", "v1", "topics"]) => listed("topic", self.topics.keys().cloned()),
            ("POST", ["provault", "v1", "topics"]) => {
                let name = body["Name"].as_str().unwrap();
                self.topics.insert(name.to_owned(), Vec::new());
                ok(&json!({ "Name": name, "Arn": arn("topic", name), "CreationDate": 0 }))
            }
            (method, ["provault", "v1", "topics", topic, "subscriptions"]) => {
                let number = self.number();
                let topic = topic.trim_start_matches("arn:topic:");
                let list = self.topics.get_mut(topic).unwrap();
                if method == "GET" {
                    return ok(&json!({ "Subscriptions": list }));
                }
                body["SubscriptionId"] = number.into();
                body["TopicArn"] = arn("topic", topic).into();
                body["CreationDate"] = json!(0);
                let secret = body.as_object_mut().unwrap().remove("Secret");
                body["HasSecret"] = secret.is_some().into();
                list.push(body.clone());
                ok(&body)
            }
            ("DELETE", ["provault", "v1", "subscriptions", id]) => {
                for list in self.topics.values_mut() {
                    list.retain(|one| one["SubscriptionId"] != **id);
                }
                ok(&json!({}))
            }
            ("GET", ["provault", "v1", "resources"]) => {
                ok(&json!({ "Resources": self.resources.values().collect::<Vec<_>>() }))
            }
            ("POST", ["provault", "v1", "resources"]) => {
                let name = body["Name"].as_str().unwrap().to_owned();
                for (key, value) in [
                    ("ResourceArn", json!(arn("resource", &name))),
                    ("ResourceType", json!("EFS")),
                    ("CreationDate", json!(0)),
                ] {
                    body[key] = value;
                }
                for (key, value) in
                    [("Tags", json!({})), ("Probes", json!([])), ("TestAfterBackup", json!(false))]
                {
                    if body[key].is_null() {
                        body[key] = value;
                    }
                }
                self.resources.insert(name, body.clone());
                ok(&body)
            }
            ("POST", ["provault", "v1", "resources", name, "tags"]) => {
                self.resources.get_mut(*name).unwrap()["Tags"] = body["Set"].take();
                ok(&json!({}))
            }
            ("POST", ["provault", "v1", "resources", name, "exemption"]) => {
                body["CreationDate"] = json!(0);
                self.resources.get_mut(*name).unwrap()["Exemption"] = body;
                ok(&json!({}))
            }
            ("DELETE", ["provault", "v1", "resources", arn]) => {
                self.resources.retain(|_, resource| resource["ResourceArn"] != **arn);
                ok(&json!({}))
            }
            ("GET", ["backup", "plans"]) => {
                let plan = |(id, plan): (&String, &Value)| {
                    json!({ "BackupPlanId": id, "BackupPlanArn": arn("plan", id),
                        "BackupPlanName": plan["BackupPlanName"] })
                };
                ok(&json!({ "BackupPlansList": self.plans.iter().map(plan).collect::<Vec<_>>() }))
            }
            ("PUT", ["backup", "plans"]) => {
                let id = self.number();
                self.tags.insert(arn("plan", &id), body["BackupPlanTags"].take());
                self.plans.insert(id.clone(), body["BackupPlan"].take());
                ok(&json!({ "BackupPlanId": id }))
            }
            ("GET", ["backup", "plans", id]) => ok(&json!({ "BackupPlan": self.plans[*id],
                "BackupPlanId": id, "BackupPlanArn": arn("plan", id) })),
            ("POST", ["backup", "plans", id]) => {
                self.plans.insert((*id).to_owned(), body["BackupPlan"].take());
                ok(&json!({}))
            }
            ("DELETE", ["backup", "plans", id]) => {
                self.plans.remove(*id);
                ok(&json!({}))
            }
            ("GET", ["backup", "plans", plan, "selections"]) => {
                let of_plan = self.selections.iter().filter(|((of, _), _)| of == plan);
                let one = |((_, id), one): (&(String, String), &Value)| json!({ "SelectionId": id, "SelectionName": one["SelectionName"] });
                ok(&json!({ "BackupSelectionsList": of_plan.map(one).collect::<Vec<_>>() }))
            }
            ("PUT", ["backup", "plans", plan, "selections"]) => {
                let id = self.number();
                let selection = body["BackupSelection"].take();
                self.selections.insert(((*plan).to_owned(), id.clone()), selection);
                ok(&json!({ "SelectionId": id }))
            }
            (method, ["backup", "plans", plan, "selections", id]) => {
                let key = ((*plan).to_owned(), (*id).to_owned());
                if method == "DELETE" {
                    self.selections.remove(&key);
                    return ok(&json!({}));
                }
                ok(&json!({ "BackupSelection": self.selections[&key] }))
            }
            ("GET", ["restore-testing", "plans"]) => {
                ok(&json!({ "RestoreTestingPlans": self.testing.values().collect::<Vec<_>>() }))
            }
            ("PUT", ["restore-testing", "plans"]) => {
                let mut plan = body["RestoreTestingPlan"].take();
                let name = plan["RestoreTestingPlanName"].as_str().unwrap().to_owned();
                plan["RestoreTestingPlanArn"] = arn("testing", &name).into();
                self.testing.insert(name, plan);
                ok(&json!({}))
            }
            ("GET", ["restore-testing", "plans", name]) => {
                ok(&json!({ "RestoreTestingPlan": self.testing[*name] }))
            }
            ("GET", ["restore-testing", "plans", plan, "selections"]) => {
                let of_plan = self.testing_selections.iter().filter(|((of, _), _)| of == plan);
                let all: Vec<&Value> = of_plan.map(|(_, one)| one).collect();
                ok(&json!({ "RestoreTestingSelections": all }))
            }
            ("PUT", ["restore-testing", "plans", plan, "selections"]) => {
                let one = body["RestoreTestingSelection"].take();
                let name = one["RestoreTestingSelectionName"].as_str().unwrap().to_owned();
                self.testing_selections.insert(((*plan).to_owned(), name), one);
                ok(&json!({}))
            }
            ("GET", ["restore-testing", "plans", plan, "selections", name]) => {
                let key = ((*plan).to_owned(), (*name).to_owned());
                ok(&json!({ "RestoreTestingSelection": self.testing_selections[&key] }))
            }
            _ => error(404, "UnknownOperationException", &request.line()),
        }
    }
}

struct Scene {
    server: Server,
    kept: Arc<Mutex<Kept>>,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        kept.lock().unwrap().vaults.insert("Default".to_owned(), json!({ "Care": {} }));
        let of_server = Arc::clone(&kept);
        let server = Server::start(move |request| of_server.lock().unwrap().answer(request));
        Self { server, kept, directory: tempfile::tempdir().unwrap() }
    }

    fn write(&self, text: &str) -> PathBuf {
        let path = self.directory.path().join("all.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The example, with its secrets in files.
    fn example(&self) -> String {
        let secret = self.directory.path().join("secret");
        std::fs::write(&secret, "hush-hush-hush-hush\n").unwrap();
        let from_file = format!("{{ FromFile = \"{}\" }}", secret.display());
        EXAMPLE
            .replace("{ FromEnv = \"PROVAULT_OPS_SECRET\" }", &from_file)
            .replace("{ FromEnv = \"PROVAULT_SNS_SECRET\" }", &from_file)
            .replace("{ FromEnv = \"APP_TOKEN\" }", &from_file)
    }

    fn apply(&self, text: &str, options: &[&str]) -> Ran {
        let path = self.write(text);
        run(&self.server, &[&["apply", "-f", path.to_str().unwrap()], options].concat())
    }

    /// What was asked for that changes something.
    fn changes(&self) -> Vec<String> {
        let requests = self.server.requests();
        requests.iter().filter(|r| r.method != "GET").map(Request::line).collect()
    }
}

#[test]
fn a_document_is_made_once_in_its_order() {
    let scene = Scene::new();
    let ran = scene.apply(&scene.example(), &["--yes"]);
    assert_eq!(ran.exit, Exit::Done, "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("+ vault 'archive'") && ran.out.contains("13 changes made"),
        "{}",
        ran.out
    );
    let made = scene.changes();
    let at = |line: &str| {
        made.iter().position(|l| l.starts_with(line)).unwrap_or_else(|| panic!("{line}: {made:#?}"))
    };
    let order = [
        "PUT /backup-vaults/archive",
        "POST /provault/v1/topics",
        "POST /provault/v1/topics/ops/subscriptions",
        "PUT /backup-vaults/archive/notification-configuration",
        "POST /provault/v1/resources",
        "POST /provault/v1/resources/scratch/exemption",
        "PUT /backup/plans",
        "PUT /restore-testing/plans",
    ];
    assert!(order.map(at).is_sorted(), "{made:#?}");
    {
        let kept = scene.kept.lock().unwrap();
        let selection = kept.testing_selections.values().next().unwrap();
        assert_eq!(selection["ProtectedResourceArns"], json!([arn("resource", "app")]));
        assert_eq!(selection["IamRoleArn"], ROLE);
        let environment = &kept.resources["app"]["Service"]["Environment"];
        assert_eq!(environment["TOKEN"], "hush-hush-hush-hush");
        assert!(kept.vaults["archive"]["Notifications"]["SNSTopicArn"] == arn("topic", "ops"));
    }
    let ran = scene.apply(&scene.example(), &["--yes"]);
    assert_eq!(ran.exit, Exit::Done, "{}{}", ran.out, ran.err);
    assert_eq!(ran.out, "= 13 unchanged\nnothing to change\n");
    assert_eq!(scene.changes().len(), made.len(), "the second time changes nothing");
}

#[test]
fn what_is_exported_is_what_stands_and_holds_no_secret() {
    let scene = Scene::new();
    assert_eq!(scene.apply(&scene.example(), &["--yes"]).exit, Exit::Done);
    for options in [&[][..], &["--json"]] {
        let exported = run(&scene.server, &[&["export"], options].concat());
        assert_eq!(exported.exit, Exit::Done, "{}", exported.err);
        assert!(!exported.out.contains("hush"), "{}", exported.out);
        assert!(exported.out.contains("PROVAULT_APP_TOKEN"), "{}", exported.out);
        assert!(exported.out.contains("PROVAULT_OPS_3_SECRET"), "{}", exported.out);
        assert!(exported.out.contains("AKIDEXAMPLEEXAMPLE01"), "{}", exported.out);
        let ours = exported.out.replace("arn:aws:sns:eu-central-1", "");
        assert!(!ours.contains("arn:"), "names fit any server: {}", exported.out);
        let ran = scene.apply(&exported.out, &["--dry-run"]);
        assert_eq!(ran.exit, Exit::Done, "{}{}\n{}", ran.out, ran.err, exported.out);
        assert_eq!(run(&scene.server, &[&["export"], options].concat()).out, exported.out);
    }
    let open = run(&scene.server, &["export", "--with-environment"]);
    assert!(open.out.contains("hush-hush-hush-hush") && !open.out.contains("PROVAULT_APP_TOKEN"));
    let path = scene.directory.path().join("out.toml");
    let ran = run(&scene.server, &["export", "-o", path.to_str().unwrap()]);
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::Done, ""), "{}", ran.err);
    assert!(std::fs::read_to_string(path).unwrap().starts_with("# What a Provault server"));
}

#[test]
fn a_dry_run_and_a_no_change_nothing() {
    let scene = Scene::new();
    let ran = scene.apply(&scene.example(), &["--dry-run"]);
    assert_eq!(ran.exit, Exit::Differs, "{}", ran.err);
    assert!(ran.out.contains("    Rules[night].Lifecycle.DeleteAfterDays = 35"), "{}", ran.out);
    let ran = scene.apply(&scene.example(), &["--dry-run", "--json"]);
    assert_eq!((ran.exit, ran.json()["Changes"].as_array().unwrap().len()), (Exit::Differs, 13));
    let ran = scene.apply(&scene.example(), &[]);
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.err.contains("no terminal") && ran.err.contains("--yes"), "{}", ran.err);
    let path = scene.write(&scene.example());
    let line = ["apply", "-f", path.to_str().unwrap()];
    let ran = run_answering(&scene.server, &line, false);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("nothing was changed"), "{}", ran.err);
    assert_eq!(scene.changes(), [] as [String; 0]);
    assert_eq!(run_answering(&scene.server, &line, true).exit, Exit::Done);
    assert!(
        !refused(&["apply"]).is_empty()
            && !refused(&["apply", "-f", "x", "--dry-run", "--yes"]).is_empty()
    );
}

#[test]
fn what_is_missing_is_found_before_the_first_change() {
    let scene = Scene::new();
    let plan = "[[Plans]]\nBackupPlanName = \"p\"\nRules = [{ RuleName = \"r\", TargetBackupVaultName = \"none\" }]\n";
    let selection = |role: &str, resource: &str| {
        format!(
            "{}[[Plans.Selections]]\nSelectionName = \"s\"\nIamRoleArn = \"{role}\"\nResources = [\"{resource}\"]\n",
            plan.replace("none", "Default")
        )
    };
    for (text, word) in [
        (plan.to_owned(), "no vault 'none'"),
        (selection("ops", "*"), "no role 'ops'"),
        (selection("DEFAULT", "files"), "no resource 'files'"),
        (EXAMPLE.to_owned(), "PROVAULT_SNS_SECRET is not set"),
    ] {
        let ran = scene.apply(&text, &["--yes"]);
        assert_eq!(ran.exit, Exit::Usage, "{word}: {}", ran.err);
        assert!(ran.err.contains(word), "{word}: {}", ran.err);
    }
    assert_eq!(scene.changes(), [] as [String; 0]);
}

#[test]
fn a_failure_in_the_middle_says_what_was_done_and_goes_on_later() {
    let scene = Scene::new();
    scene.kept.lock().unwrap().refuses = Some("PUT /backup/plans".to_owned());
    let ran = scene.apply(&scene.example(), &["--yes", "--json"]);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("9 of 13 changes were made; + plan 'daily' failed"), "{}", ran.err);
    assert!(ran.err.contains("the schedule is wrong"), "{}", ran.err);
    let done: Vec<bool> = ran.json()["Changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["Done"].as_bool().unwrap())
        .collect();
    assert_eq!(done.iter().filter(|done| **done).count(), 9);
    scene.kept.lock().unwrap().refuses = None;
    let ran = scene.apply(&scene.example(), &["--yes"]);
    assert!(ran.out.contains("4 changes made"), "{}{}", ran.out, ran.err);
    let kept = scene.kept.lock().unwrap();
    assert_eq!((kept.plans.len(), kept.topics["ops"].len(), kept.resources.len()), (1, 3, 2));
}

#[test]
fn changes_are_made_in_place() {
    let scene = Scene::new();
    assert_eq!(scene.apply(&scene.example(), &["--yes"]).exit, Exit::Done);
    let before = scene.changes().len();
    let changed = scene
        .example()
        .replace("DeleteAfterDays = 35", "DeleteAfterDays = 30")
        .replace("tier = \"cold\"", "tier = \"warm\"")
        .replace("DigestMinutes = 60", "DigestMinutes = 30")
        .replace("ConditionValue = \"daily\"", "ConditionValue = \"nightly\"")
        .replace("Tags = { backup = \"daily\" }", "Tags = { backup = \"nightly\" }");
    let ran = scene.apply(&changed, &["--yes"]);
    assert_eq!(ran.exit, Exit::Done, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("Rules[night].Lifecycle.DeleteAfterDays: 35 -> 30"), "{}", ran.out);
    let made: Vec<String> = scene.changes().split_off(before);
    let verbs = |verb: &str| made.iter().filter(|line| line.starts_with(verb)).count();
    assert_eq!(
        (verbs("DELETE /provault/v1/subscriptions"), verbs("DELETE /backup/plans")),
        (1, 1),
        "{made:#?}"
    );
    {
        let kept = scene.kept.lock().unwrap();
        assert_eq!((kept.plans.len(), kept.selections.len(), kept.topics["ops"].len()), (1, 1, 3));
        assert_eq!(kept.tags[&arn("vault", "archive")], json!({ "tier": "warm" }));
    }
    assert!(scene.apply(&changed, &["--yes"]).out.contains("nothing to change"));

    let stuck = changed.replace("/srv/app\"", "/srv/elsewhere\"");
    let before = scene.changes().len();
    let ran = scene.apply(&stuck, &["--yes"]);
    assert_eq!(ran.exit, Exit::Failed);
    assert!(
        ran.out.contains("! resource 'app': Config.path cannot be changed in place"),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("nothing was changed"), "{}", ran.err);
    assert_eq!(scene.changes().len(), before);
}

#[test]
fn prune_removes_what_is_not_declared_but_no_vault_with_recovery_points() {
    let scene = Scene::new();
    let more =
        "\n[[Vaults]]\nBackupVaultName = \"full\"\n[[Vaults]]\nBackupVaultName = \"empty\"\n";
    assert_eq!(scene.apply(&(scene.example() + more), &["--yes"]).exit, Exit::Done);
    let little = "[[Topics]]\nName = \"ops\"\n";
    assert!(scene.apply(little, &["--yes"]).out.contains("nothing to change"));
    let ran = scene.apply(&scene.example(), &["--yes", "--prune"]);
    assert!(
        ran.out.contains("- vault 'empty'") && !ran.out.contains("- vault 'full'"),
        "{}",
        ran.out
    );
    assert!(ran.out.contains("vault 'full' is kept: it holds 1 recovery points"), "{}", ran.out);
    let kept = scene.kept.lock().unwrap();
    assert_eq!(kept.vaults.keys().collect::<Vec<_>>(), ["Default", "archive", "full"]);
    assert_eq!(kept.resources.len(), 2);
}

#[test]
fn two_plans_of_one_name_are_an_error() {
    let scene = Scene::new();
    let rule = json!([{ "RuleName": "r", "TargetBackupVaultName": "Default" }]);
    for id in ["one", "two"] {
        let plan = json!({ "BackupPlanName": "p", "Rules": rule });
        scene.kept.lock().unwrap().plans.insert(id.to_owned(), plan);
    }
    let plan = "[[Plans]]\nBackupPlanName = \"p\"\nRules = [{ RuleName = \"r\", TargetBackupVaultName = \"Default\" }]\n";
    for ran in [scene.apply(plan, &["--yes"]), run(&scene.server, &["export"])] {
        assert_eq!(ran.exit, Exit::Failed);
        assert!(ran.err.contains("more than one plan 'p': one and two"), "{}", ran.err);
    }
    // What does not concern them goes on.
    assert_eq!(scene.apply("[[Topics]]\nName = \"t\"\n", &["--yes"]).exit, Exit::Done);
}

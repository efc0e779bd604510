//! A server of the few operations that documents need.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::tests::server::{Reply, Request, error, ok};

pub(super) const ROLE: &str = "arn:aws:iam::1:role/service-role/AWSBackupDefaultServiceRole";
const KEY: &str = "arn:aws:kms:x:1:key/default";

/// What a small server keeps; the names are those of the API.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) vaults: BTreeMap<String, Value>,
    pub(super) topics: BTreeMap<String, Vec<Value>>,
    pub(super) resources: BTreeMap<String, Value>,
    pub(super) plans: BTreeMap<String, Value>,
    pub(super) selections: BTreeMap<(String, String), Value>,
    pub(super) testing: BTreeMap<String, Value>,
    pub(super) testing_selections: BTreeMap<(String, String), Value>,
    pub(super) tags: BTreeMap<String, Value>,
    pub(super) next: u32,
    /// The subscriptions of notifications that wait.
    pub(super) waiting: Vec<String>,
    /// The subscription of one that begins to wait when somebody subscribes.
    pub(super) waits_after_subscribe: Option<String>,
    /// What is said about restore tests, by the path of its setting.
    pub(super) said: BTreeMap<String, Value>,
    /// The request that is refused.
    pub(super) refuses: Option<String>,
    /// The same, but for once.
    pub(super) refuses_once: Option<String>,
}

pub(super) fn arn(kind: &str, name: &str) -> String {
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

    fn testing(&mut self, method: &str, of: &str, mut body: Value) -> Reply {
        match method {
            "PUT" => {
                if body["TestAfterBackup"] == true && body["SharePercent"].is_null() {
                    body["SharePercent"] = json!(100);
                }
                if body["Window"].is_object() && body["Window"]["Timezone"].is_null() {
                    body["Window"]["Timezone"] = json!("Etc/UTC");
                }
                body["ChangeDate"] = json!(1);
                body.as_object_mut().unwrap().retain(|_, value| !value.is_null());
                self.said.insert(of.to_owned(), body.clone());
                ok(&body)
            }
            "DELETE" if self.said.remove(of).is_none() => not_found(),
            "DELETE" => ok(&json!({})),
            _ => ok(self.said.get(of).unwrap_or(&json!({}))),
        }
    }

    #[allow(clippy::too_many_lines)] // One line or two for each operation.
    pub(super) fn answer(&mut self, request: &Request) -> Reply {
        let path = request.path.replace("%3A", ":").replace("%2F", "/");
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if self.refuses.as_deref() == Some(&format!("{} /{}", request.method, parts.join("/"))) {
            return error(400, "InvalidParameterValueException", "the schedule is wrong");
        }
        if self.refuses_once.as_deref() == Some(&format!("{} /{}", request.method, parts.join("/")))
        {
            self.refuses_once = None;
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
                let mut care = crate::tests::vault_care();
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
                if let Some(id) = self.waits_after_subscribe.take() {
                    self.waiting.push(id);
                }
                body["SubscriptionId"] = number.into();
                body["TopicArn"] = arn("topic", topic).into();
                body["CreationDate"] = json!(0);
                let secret = body.as_object_mut().unwrap().remove("Secret");
                body["HasSecret"] = secret.is_some().into();
                list.push(body.clone());
                ok(&body)
            }
            ("GET", ["provault", "v1", "deliveries"]) => {
                let one = |subscription: &String| {
                    json!({ "DeliveryId": "d", "SubscriptionId": subscription, "TopicArn": "t",
                        "Subject": "", "Message": "", "JobId": "j", "State": "WAITING", "Attempts": 1,
                        "CreationDate": 0 })
                };
                assert_eq!(request.query, "state=WAITING");
                ok(&json!({ "Deliveries": self.waiting.iter().map(one).collect::<Vec<_>>() }))
            }
            ("DELETE", ["provault", "v1", "subscriptions", id]) => {
                for list in self.topics.values_mut() {
                    list.retain(|one| one["SubscriptionId"] != **id);
                }
                ok(&json!({}))
            }
            (method, ["provault", "v1", of @ .., "testing"]) => {
                self.testing(method, &of.join("/"), body)
            }
            ("GET", ["provault", "v1", "resources"]) => {
                let shown = self.resources.iter().map(|(name, resource)| {
                    let mut shown = resource.clone();
                    if let Some(said) = self.said.get(&format!("resources/{name}")) {
                        shown["TestAfterBackup"] = said["TestAfterBackup"].clone();
                        shown["Testing"] = said.clone();
                    }
                    shown
                });
                ok(&json!({ "Resources": shown.collect::<Vec<_>>() }))
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
                for (key, value) in [("Tags", json!({})), ("Probes", json!([]))] {
                    if body[key].is_null() {
                        body[key] = value;
                    }
                }
                for probe in body["Probes"].as_array_mut().unwrap() {
                    let seconds = match probe["Type"].as_str() {
                        Some("Tcp") => 10,
                        Some("Command") => 60,
                        _ => continue,
                    };
                    probe["TimeoutSeconds"] =
                        json!(probe["TimeoutSeconds"].as_u64().unwrap_or(seconds));
                }
                let on = std::mem::replace(&mut body["TestAfterBackup"], json!(false));
                if on.is_boolean() {
                    let said = json!({ "TestAfterBackup": on });
                    self.testing("PUT", &format!("resources/{name}"), said);
                }
                self.resources.insert(name, body.clone());
                ok(&body)
            }
            ("POST", ["provault", "v1", "resources", name]) => {
                let resource = self.resources.get_mut(*name).unwrap();
                for (key, value) in body.as_object().unwrap() {
                    match key.as_str() {
                        "RemoveService" => resource["Service"] = Value::Null,
                        "RpoSeconds" | "RtoSeconds" if *value == 0 => resource[key] = Value::Null,
                        _ => resource[key] = value.clone(),
                    }
                }
                ok(resource)
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
                    self.said.remove(&format!("backup-plans/{plan}/selections/{id}"));
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

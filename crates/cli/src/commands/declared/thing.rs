//! What is declared, one thing at a time, in a form in which a file and a server compare.
//!
//! The form is the API's, with names where the API has ARNs of this account, so that a document fits
//! another server as well; lists whose order means nothing are sorted, what is at its default is
//! written out or left out, on both sides alike.

use provault_wire::{Operation, Shape, Structure};
use serde_json::{Map, Value, json};

/// Kinds of things, in the order in which they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Noun {
    Vault,
    Topic,
    Subscription,
    Notifications,
    Resource,
    Exemption,
    Plan,
    Selection,
    TestingPlan,
    TestingSelection,
}

/// Where in the API an AWS document is defined.
#[derive(Debug, Clone, Copy)]
pub(super) struct Document {
    operation: Operation,
    member: &'static str,
}

impl Noun {
    /// In words for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Topic => "topic",
            Self::Subscription => "subscription",
            Self::Notifications => "notifications of vault",
            Self::Resource => "resource",
            Self::Exemption => "exemption of resource",
            Self::Plan => "plan",
            Self::Selection => "selection",
            Self::TestingPlan => "restore testing plan",
            Self::TestingSelection => "restore testing selection",
        }
    }

    /// The member that holds its name.
    pub fn name_member(self) -> &'static str {
        match self {
            Self::Vault => "BackupVaultName",
            Self::Plan => "BackupPlanName",
            Self::Selection => "SelectionName",
            Self::TestingPlan => "RestoreTestingPlanName",
            Self::TestingSelection => "RestoreTestingSelectionName",
            Self::Topic
            | Self::Subscription
            | Self::Notifications
            | Self::Resource
            | Self::Exemption => "Name",
        }
    }

    /// AWS's document, where it is one.
    pub fn document(self) -> Option<Document> {
        let (operation, member) = match self {
            Self::Plan => (Operation::CreateBackupPlan, "BackupPlan"),
            Self::Selection => (Operation::CreateBackupSelection, "BackupSelection"),
            Self::TestingPlan => (Operation::CreateRestoreTestingPlan, "RestoreTestingPlan"),
            Self::TestingSelection => {
                (Operation::CreateRestoreTestingSelection, "RestoreTestingSelection")
            }
            _ => return None,
        };
        Some(Document { operation, member })
    }

    /// Members, by their paths, that are lists whose order means nothing.
    fn sets(self) -> &'static [&'static str] {
        match self {
            Self::Notifications => &["BackupVaultEvents"],
            Self::Subscription => &["Events"],
            Self::Plan => &["Rules"],
            Self::Selection => &[
                "Resources",
                "NotResources",
                "ListOfTags",
                "Conditions.StringEquals",
                "Conditions.StringNotEquals",
                "Conditions.StringLike",
                "Conditions.StringNotLike",
            ],
            Self::TestingPlan => &[
                "RecoveryPointSelection.IncludeVaults",
                "RecoveryPointSelection.ExcludeVaults",
                "RecoveryPointSelection.RecoveryPointTypes",
            ],
            Self::TestingSelection => &[
                "ProtectedResourceArns",
                "ProtectedResourceConditions.StringEquals",
                "ProtectedResourceConditions.StringNotEquals",
            ],
            _ => &[],
        }
    }
}

impl Document {
    /// Its members. Every operation named above has its document.
    pub fn structure(self) -> Option<&'static Structure> {
        let found = self.operation.input().members.iter().find(|one| one.name == self.member)?;
        match found.shape {
            Shape::Structure(structure) => Some(structure),
            _ => None,
        }
    }
}

/// What tells one thing from another.
pub(super) type Key = (Noun, String, String);

/// One thing, as it is wanted or as it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Thing {
    pub noun: Noun,
    /// The plan, topic or testing plan that it belongs to; empty where it stands alone.
    pub within: String,
    pub name: String,
    /// Its settings, in the form that compares.
    pub body: Map<String, Value>,
    /// Its ARN or id on the server; of a wanted thing nothing.
    pub id: String,
    /// Where it is declared; of a standing thing nothing.
    pub at: String,
}

impl Thing {
    pub fn new(noun: Noun, within: &str, name: &str, body: Map<String, Value>) -> Self {
        let (within, name) = (within.to_owned(), name.to_owned());
        Self { noun, within, name, body, id: String::new(), at: String::new() }
    }

    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    pub fn key(&self) -> Key {
        (self.noun, self.within.clone(), self.name.clone())
    }

    /// As in `selection 'files' of plan 'daily'`.
    pub fn title(&self) -> String {
        title(&self.key())
    }

    /// Brings the settings into the form that compares.
    pub fn settle(&mut self) {
        defaults(self.noun, &mut self.body);
        tidy(&mut self.body);
        for path in self.noun.sets() {
            if let Some(Value::Array(items)) = member(&mut self.body, path) {
                items.sort_by_key(sort_key);
                items.dedup();
            }
        }
    }
}

pub(super) fn title((noun, within, name): &Key) -> String {
    let word = noun.word();
    match noun {
        Noun::Subscription => format!("{word} {name} of topic '{within}'"),
        Noun::Selection => format!("{word} '{name}' of plan '{within}'"),
        Noun::TestingSelection => format!("{word} '{name}' of restore testing plan '{within}'"),
        _ => format!("{word} '{name}'"),
    }
}

fn sort_key(value: &Value) -> String {
    match value.get("RuleName") {
        Some(name) => name.to_string(),
        None => value.to_string(),
    }
}

/// A member by its path.
pub(super) fn member<'m>(body: &'m mut Map<String, Value>, path: &str) -> Option<&'m mut Value> {
    let mut parts = path.split('.');
    let mut value = body.get_mut(parts.next()?)?;
    for part in parts {
        value = value.get_mut(part)?;
    }
    Some(value)
}

/// AWS's defaults and ours, as the server fills them in.
fn defaults(noun: Noun, body: &mut Map<String, Value>) {
    let mut fill = |pairs: &[(&str, Value)]| {
        for (key, value) in pairs {
            let entry = body.entry(*key).or_insert(Value::Null);
            if entry.is_null() {
                *entry = value.clone();
            }
        }
    };
    match noun {
        Noun::Plan => {
            for rule in list(body, "Rules") {
                rule.remove("RuleId");
                for (key, value) in [
                    ("ScheduleExpression", json!("cron(0 5 ? * * *)")),
                    ("ScheduleExpressionTimezone", json!("Etc/UTC")),
                    ("StartWindowMinutes", json!(480)),
                    ("CompletionWindowMinutes", json!(10_080)),
                ] {
                    rule.entry(key).or_insert(value);
                }
                leave_out(rule, "EnableContinuousBackup", &json!(false));
            }
        }
        Noun::Selection => {
            for tag in list(body, "ListOfTags") {
                tag.entry("ConditionType").or_insert(json!("STRINGEQUALS"));
            }
        }
        Noun::TestingPlan => {
            fill(&[
                ("ScheduleExpressionTimezone", json!("Etc/UTC")),
                ("StartWindowHours", json!(24)),
            ]);
            if let Some(Value::Object(points)) = body.get_mut("RecoveryPointSelection") {
                points.entry("SelectionWindowDays").or_insert(json!(30));
            }
        }
        Noun::TestingSelection => {
            leave_out(body, "ValidationWindowHours", &json!(0));
            let without = body.get("ProtectedResourceArns").is_none_or(Value::is_null);
            if without && body.contains_key("ProtectedResourceConditions") {
                body.insert("ProtectedResourceArns".to_owned(), json!(["*"]));
            }
        }
        Noun::Resource => {
            fill(&[("ShrinkAlarmPercent", json!(50)), ("Kind", json!("filesystem"))]);
            leave_out(body, "KeepAtMost", &json!(0));
            // The short form of what a resource says about restore tests.
            if let Some(on) = body.remove("TestAfterBackup") {
                body.entry("Testing").or_insert(json!({ "TestAfterBackup": on }));
            }
            if let Some(Value::Object(service)) = body.get_mut("Service") {
                service.entry("StartTimeoutSeconds").or_insert(json!(60));
            }
            list(body, "Probes").for_each(probe);
            let is_volume = body.get("Kind") == Some(&json!("volume"));
            if let (Some(Value::Object(config)), true) = (body.get_mut("Config"), is_volume) {
                let path = config.get("path").and_then(Value::as_str).unwrap_or_default();
                let qcow2 = std::path::Path::new(path).extension().is_some_and(|e| e == "qcow2");
                leave_out(config, "format", &json!(if qcow2 { "qcow2" } else { "raw" }));
                leave_out(config, "changedBlocks", &json!("hash"));
                leave_out(config, "whileInUse", &json!("refuse"));
                leave_out(config, "hookSeconds", &json!(60));
                leave_out(config, "heldSeconds", &json!(3600));
            }
            let is_filesystem = body.get("Kind") == Some(&json!("filesystem"));
            if let (Some(Value::Object(config)), true) = (body.get_mut("Config"), is_filesystem) {
                // The others are off or empty, and so left out.
                leave_out(config, "oneFileSystem", &json!(true));
                leave_out(config, "allowEmpty", &json!(false));
                leave_out(config, "requireMount", &json!(false));
            }
        }
        Noun::Vault | Noun::Topic | Noun::Subscription | Noun::Notifications | Noun::Exemption => {}
    }
    if let Some(Value::Object(testing)) = body.get_mut("Testing") {
        // Nobody's wish: it says since when the others hold.
        testing.remove("ChangeDate");
        leave_out(testing, "SharePercent", &json!(100));
        if let Some(Value::Object(window)) = testing.get_mut("Window") {
            leave_out(window, "Timezone", &json!("Etc/UTC"));
        }
    }
}

/// A probe as the server shows it, which has no other form for what can be written in several.
fn probe(probe: &mut Map<String, Value>) {
    let timeout = match probe.get("Type").and_then(Value::as_str) {
        Some("Tcp") => 10,
        Some("Command") => 60,
        _ => return,
    };
    let seconds = probe.entry("TimeoutSeconds").or_insert(Value::Null);
    if seconds.is_null() {
        *seconds = json!(timeout);
    }
    let sent = probe.get("SendHex").and_then(Value::as_str).and_then(bytes);
    if let (Some(sent), false) = (sent, probe.get("Send").is_some_and(Value::is_string)) {
        match String::from_utf8(sent) {
            Ok(text) => {
                probe.remove("SendHex");
                probe.insert("Send".to_owned(), text.into());
            }
            Err(_) => {
                if let Some(Value::String(digits)) = probe.get_mut("SendHex") {
                    digits.make_ascii_lowercase();
                }
            }
        }
    }
    leave_out(probe, "Send", &json!(""));
}

/// What pairs of hexadecimal digits stand for; the server refuses what is none.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? * 16 + digit(*pair.get(1)?)?)).collect()
}

fn leave_out(body: &mut Map<String, Value>, key: &str, value: &Value) {
    if body.get(key) == Some(value) {
        body.remove(key);
    }
}

fn list<'m>(
    body: &'m mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'m mut Map<String, Value>> {
    let items = body.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten();
    items.filter_map(Value::as_object_mut)
}

/// Leaves out what is null or empty, at every depth.
fn tidy(body: &mut Map<String, Value>) {
    body.retain(|_, value| {
        tidy_value(value);
        match value {
            Value::Null => false,
            Value::Array(items) => !items.is_empty(),
            Value::Object(members) => !members.is_empty(),
            _ => true,
        }
    });
}

fn tidy_value(value: &mut Value) {
    match value {
        Value::Object(members) => tidy(members),
        Value::Array(items) => items.iter_mut().for_each(tidy_value),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(noun: Noun, body: &Value) -> Value {
        let mut thing = Thing::new(noun, "", "x", body.as_object().unwrap().clone());
        thing.settle();
        let once = thing.clone();
        thing.settle();
        assert_eq!(thing, once, "once is enough");
        Value::Object(thing.body)
    }

    #[test]
    fn what_a_server_fills_in_makes_no_difference() {
        let short = json!({ "Rules": [{ "RuleName": "b", "TargetBackupVaultName": "v" },
            { "RuleName": "a", "TargetBackupVaultName": "v" }] });
        let full = |name: &str| {
            json!({ "RuleName": name, "TargetBackupVaultName": "v", "RuleId": name,
                "ScheduleExpression": "cron(0 5 ? * * *)", "StartWindowMinutes": 480,
                "ScheduleExpressionTimezone": "Etc/UTC", "CompletionWindowMinutes": 10_080,
                "EnableContinuousBackup": false, "Lifecycle": null, "CopyActions": [] })
        };
        let full = json!({ "Rules": [full("a"), full("b")] });
        assert_eq!(settled(Noun::Plan, &short), settled(Noun::Plan, &full));

        let short = json!({ "Kind": "filesystem", "Config": { "path": "/srv" },
            "Service": { "Command": ["x"] } });
        let full = json!({ "Kind": "filesystem", "Config": { "path": "/srv", "include": [],
            "exclude": [], "oneFileSystem": true, "allowEmpty": false, "requireMount": false },
            "Service": { "Command": ["x"], "Environment": {}, "StartTimeoutSeconds": 60 },
            "Tags": {}, "Probes": [], "Testing": {}, "ShrinkAlarmPercent": 50 });
        assert_eq!(settled(Noun::Resource, &short), settled(Noun::Resource, &full));

        let one = json!({ "Resources": ["b", "a", "b"], "Conditions": { "StringLike": [] } });
        assert_eq!(settled(Noun::Selection, &one), json!({ "Resources": ["a", "b"] }));
    }

    #[test]
    fn off_is_not_the_same_as_nothing_said() {
        let off = settled(Noun::Resource, &json!({ "TestAfterBackup": false }));
        assert_eq!(off["Testing"], json!({ "TestAfterBackup": false }));
        assert_eq!(settled(Noun::Resource, &json!({})).get("Testing"), None);

        let window = json!({ "From": "01:00", "To": "05:00" });
        let short = json!({ "Testing": { "TestAfterBackup": true, "Window": window } });
        let mut full = short.clone();
        full["Testing"]["SharePercent"] = json!(100);
        full["Testing"]["ChangeDate"] = json!(7);
        full["Testing"]["Window"]["Timezone"] = json!("Etc/UTC");
        for noun in [Noun::Resource, Noun::Plan, Noun::Selection] {
            assert_eq!(settled(noun, &full), settled(noun, &short));
            full["Testing"]["SharePercent"] = json!(25);
            assert_ne!(settled(noun, &full), settled(noun, &short));
            full["Testing"]["SharePercent"] = json!(100);
        }
    }

    #[test]
    fn a_probe_compares_however_it_is_written() {
        let settled = |probe: Value| {
            settled(Noun::Resource, &json!({ "Probes": [probe] }))["Probes"][0].clone()
        };
        for (short, shown) in [
            (
                json!({ "Type": "Tcp", "Port": 25, "Send": "", "Assertions": [] }),
                json!({ "Type": "Tcp", "Port": 25, "TimeoutSeconds": 10 }),
            ),
            (
                json!({ "Type": "Tcp", "Port": 25, "SendHex": "50494E470d0a", "TimeoutSeconds": 3 }),
                json!({ "Type": "Tcp", "Port": 25, "Send": "PING\r\n", "TimeoutSeconds": 3 }),
            ),
            (
                json!({ "Type": "Tcp", "Port": 25, "SendHex": "00FF" }),
                json!({ "Type": "Tcp", "Port": 25, "SendHex": "00ff", "TimeoutSeconds": 10 }),
            ),
            (
                json!({ "Type": "Command", "Command": ["./check", ""] }),
                json!({ "Type": "Command", "Command": ["./check", ""], "TimeoutSeconds": 60 }),
            ),
        ] {
            assert_eq!(settled(short), shown);
            assert_eq!(settled(shown.clone()), shown);
        }
        // Wrong ones are the server's to refuse.
        for wrong in [
            json!({ "Type": "Tcp", "SendHex": "0", "TimeoutSeconds": 10 }),
            json!({ "Type": "Tcp", "SendHex": "30", "Send": "0", "TimeoutSeconds": 10 }),
            json!({ "Type": "Http", "SendHex": "FF" }),
        ] {
            assert_eq!(settled(wrong.clone()), wrong);
        }
    }

    #[test]
    fn the_order_of_commands_and_probes_is_kept() {
        let body = json!({ "Probes": [{ "Type": "Http" }, { "Type": "Files" }],
            "Service": { "Command": ["z", "a"] } });
        let settled = settled(Noun::Resource, &body);
        assert_eq!(settled["Probes"], body["Probes"]);
        assert_eq!(settled["Service"]["Command"], body["Service"]["Command"]);
    }
}

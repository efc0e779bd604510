//! What has to be done so that what stands becomes what is wanted.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::secret::HIDDEN;
use super::stand::Stand;
use super::thing::{Key, Noun, Thing, member};

/// What is wanted against what stands.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// In the order in which they are to be made.
    pub changes: Vec<Change>,
    /// How many things are as they are wanted.
    pub same: usize,
    /// What is not declared and stays all the same, and why.
    pub kept: Vec<String>,
    /// What cannot be changed where it stands, and what to do.
    pub stuck: Vec<String>,
}

/// One thing to be made, changed or removed.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub wanted: Option<Thing>,
    pub standing: Option<Thing>,
    pub fields: Vec<Field>,
}

/// A setting that differs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub path: String,
    pub old: Option<Value>,
    pub new: Option<Value>,
}

impl Change {
    /// `+`, `~` or `-`.
    pub fn sign(&self) -> char {
        match (&self.wanted, &self.standing) {
            (Some(_), None) => '+',
            (Some(_), Some(_)) => '~',
            _ => '-',
        }
    }

    pub fn title(&self) -> String {
        self.wanted.as_ref().or(self.standing.as_ref()).map(Thing::title).unwrap_or_default()
    }

    /// Whether a setting at the top differs.
    pub fn touches(&self, top: &str) -> bool {
        self.fields.iter().any(|field| field.top() == top)
    }

    /// Whether a setting at the top differs that is none of these.
    pub fn touches_other_than(&self, tops: &[&str]) -> bool {
        self.fields.iter().any(|field| !tops.contains(&field.top()))
    }

    pub fn to_json(&self, done: Option<bool>) -> Value {
        let action = match self.sign() {
            '+' => "CREATE",
            '~' => "CHANGE",
            _ => "REMOVE",
        };
        let fields: Vec<Value> = self
            .fields
            .iter()
            .map(|field| json!({ "Path": field.path, "Old": field.old, "New": field.new }))
            .collect();
        let mut json = json!({ "Action": action, "Thing": self.title(), "Fields": fields });
        if let Some(done) = done {
            json["Done"] = done.into();
        }
        json
    }
}

impl Field {
    fn top(&self) -> &str {
        self.path.split(['.', '[']).next().unwrap_or_default()
    }
}

impl Difference {
    pub fn is_nothing(&self) -> bool {
        self.changes.is_empty() && self.stuck.is_empty()
    }

    /// For people: a line for every thing, and one for every setting of it.
    pub fn to_text(&self) -> String {
        let mut lines = Vec::new();
        for change in &self.changes {
            lines.push(format!("{} {}", change.sign(), change.title()));
            for field in &change.fields {
                let shown = |value: &Option<Value>| {
                    value.as_ref().map_or_else(|| "(not set)".to_owned(), Value::to_string)
                };
                lines.push(match change.sign() {
                    '+' => format!("    {} = {}", field.path, shown(&field.new)),
                    _ => format!(
                        "    {}: {} -> {}",
                        field.path,
                        shown(&field.old),
                        shown(&field.new)
                    ),
                });
            }
        }
        lines.extend(self.stuck.iter().map(|text| format!("! {text}")));
        lines.extend(self.kept.iter().map(|text| format!("  {text}")));
        lines.push(format!("= {} unchanged", self.same));
        lines.join("\n")
    }
}

/// Compares. With `prune`, what is not wanted is to go.
pub(super) fn compare(wanted: &[Thing], stand: &Stand, prune: bool) -> Difference {
    let mut difference = Difference::default();
    for thing in wanted {
        match stand.things.iter().find(|standing| standing.key() == thing.key()) {
            None => {
                difference.stuck.extend(second_of_a_place(thing, stand));
                let fields = fields(&Map::new(), &bare(thing));
                let (wanted, standing) = (Some(thing.clone()), None);
                difference.changes.push(Change { wanted, standing, fields });
            }
            Some(standing) => {
                let fields = fields(&standing.body, &against(thing, standing));
                if fields.is_empty() {
                    difference.same += 1;
                    continue;
                }
                difference.stuck.extend(stuck(thing, &fields));
                let (wanted, standing) = (Some(thing.clone()), Some(standing.clone()));
                difference.changes.push(Change { wanted, standing, fields });
            }
        }
    }
    if prune {
        let keys: BTreeSet<Key> = wanted.iter().map(Thing::key).collect();
        // In the opposite order: what belongs to something goes before it.
        let extra = stand.things.iter().rev().filter(|standing| !keys.contains(&standing.key()));
        for standing in extra {
            match reason_to_keep(standing, &keys, stand) {
                Some(why) => difference.kept.push(format!("{} is kept: {why}", standing.title())),
                None => difference.changes.push(Change {
                    wanted: None,
                    standing: Some(standing.clone()),
                    fields: Vec::new(),
                }),
            }
        }
    }
    difference
}

/// Whether what bears this key stands and would stay though it is not declared.
pub(super) fn is_kept(key: &Key, declared: &BTreeSet<Key>, stand: &Stand) -> bool {
    let found = stand.things.iter().find(|thing| thing.key() == *key);
    found.is_some_and(|thing| reason_to_keep(thing, declared, stand).is_some())
}

/// Why something stays that is not declared: it holds what cannot be had again, or belongs to what does.
fn reason_to_keep(standing: &Thing, declared: &BTreeSet<Key>, stand: &Stand) -> Option<String> {
    // What belongs to something that is declared is declared with it, or meant to go.
    let kept = |noun: Noun, name: &str| {
        let key = (noun, String::new(), name.to_owned());
        !declared.contains(&key) && is_kept(&key, declared, stand)
    };
    match standing.noun {
        Noun::Vault if standing.name == "Default" => Some("every account has it".to_owned()),
        Noun::Vault => {
            let (_, points) = stand.points.iter().find(|(name, _)| *name == standing.name)?;
            Some(format!("it holds {points} recovery points"))
        }
        Noun::Notifications => {
            kept(Noun::Vault, &standing.name).then(|| "the vault is kept".to_owned())
        }
        Noun::Topic => {
            let sends = |thing: &&Thing| {
                thing.noun == Noun::Notifications
                    && thing.body.get("SNSTopicArn") == Some(&json!(standing.name))
                    && kept(Noun::Notifications, &thing.name)
            };
            let vault = &stand.things.iter().find(sends)?.name;
            Some(format!("vault '{vault}', which is kept, sends its notifications there"))
        }
        Noun::Subscription => {
            kept(Noun::Topic, &standing.within).then(|| "its topic is kept".to_owned())
        }
        _ => None,
    }
}

/// The settings without what does not compare.
fn bare(thing: &Thing) -> Map<String, Value> {
    let mut body = thing.body.clone();
    if thing.noun == Noun::Subscription {
        body.remove("Secret");
    }
    body
}

/// The settings that are wanted of something that stands: what a document may leave to the server is
/// as it stands. `Testing` is none of that: where it is absent nothing is said about restore tests, and what
/// stands is taken back.
fn against(thing: &Thing, standing: &Thing) -> Map<String, Value> {
    let mut body = bare(thing);
    let leave = |body: &mut Map<String, Value>, top: &str, without: &[&str]| {
        let Some(stands) = standing.body.get(top) else { return };
        match (body.get_mut(top), stands) {
            (Some(Value::Object(members)), Value::Object(stands)) => {
                for (key, value) in stands {
                    if !without.contains(&key.as_str()) {
                        members.entry(key.clone()).or_insert_with(|| value.clone());
                    }
                }
            }
            (None, _) => {
                body.insert(top.to_owned(), stands.clone());
            }
            _ => {}
        }
    };
    match thing.noun {
        Noun::Vault => {
            leave(&mut body, "EncryptionKeyArn", &[]);
            leave(&mut body, "Care", &[]);
        }
        // The others of its settings have no default that is known here.
        Noun::Resource if body.get("Kind") == Some(&json!("filesystem")) => {
            let known =
                ["path", "include", "exclude", "oneFileSystem", "allowEmpty", "requireMount"];
            leave(&mut body, "Config", &known);
        }
        Noun::Resource if body.get("Kind") == Some(&json!("volume")) => {
            let known = [
                "path",
                "format",
                "changedBlocks",
                "whileInUse",
                "hooks",
                "hookSeconds",
                "heldSeconds",
            ];
            leave(&mut body, "Config", &known);
        }
        Noun::Resource => leave(&mut body, "Config", &[]),
        Noun::Subscription if body.contains_key("Smtp") => leave(&mut body, "Smtp", &[]),
        _ => {}
    }
    if thing.noun == Noun::Resource {
        let stands = standing.body.get("Service").and_then(|service| service.get("Environment"));
        if let Some(Value::Object(environment)) = member(&mut body, "Service.Environment") {
            for (name, value) in environment {
                // Taken from elsewhere, or hidden: whether it is the same is not looked at.
                if let Some(stands) = stands.and_then(|environment| environment.get(name))
                    && (value.is_object() || stands == HIDDEN)
                {
                    *value = stands.clone();
                }
            }
        }
    }
    body
}

/// What cannot be changed where it stands.
fn stuck(thing: &Thing, fields: &[Field]) -> Vec<String> {
    let (fixed, remedy): (fn(&str) -> bool, &str) = match thing.noun {
        Noun::Vault => (
            |top| top == "EncryptionKeyArn",
            "make another vault, or write the key that it has into the document",
        ),
        Noun::Resource => (
            |top| ["Kind", "Config"].contains(&top),
            "remove the resource (its recovery points stay) and apply again, which registers it under \
             a new ARN; or write what stands into the document",
        ),
        Noun::TestingSelection => {
            (|top| top == "ProtectedResourceType", "declare another selection, and remove this one")
        }
        _ => return Vec::new(),
    };
    fields
        .iter()
        .filter(|field| fixed(field.top()))
        .map(|field| {
            format!("{}: {} cannot be changed in place; {remedy}", thing.title(), field.path)
        })
        .collect()
}

/// A resource that is registered already, under another name.
fn second_of_a_place(thing: &Thing, stand: &Stand) -> Option<String> {
    if thing.noun != Noun::Resource {
        return None;
    }
    let place = |thing: &Thing| {
        let path = thing.body.get("Config").and_then(|config| config.get("path")).cloned();
        path.map(|path| (thing.body.get("Kind").cloned(), path))
    };
    let wanted = place(thing)?;
    let other = stand.things.iter().find(|standing| {
        standing.noun == Noun::Resource && place(standing).as_ref() == Some(&wanted)
    })?;
    Some(format!(
        "{}: {} is registered as '{}' already, and a resource has one name; use that one, or give \
         it the other with `provault resource update {} --name {}` and apply again",
        thing.title(),
        wanted.1,
        other.name,
        other.name,
        thing.name
    ))
}

fn fields(old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<Field> {
    let mut fields = Vec::new();
    objects(&mut fields, "", old, new);
    for field in &mut fields {
        // A variable of an application may be a secret.
        if field.path.starts_with("Service.Environment") {
            for value in [&mut field.old, &mut field.new].into_iter().flatten() {
                if !value.is_object() {
                    *value = json!("(not shown)");
                }
            }
        }
    }
    fields
}

fn objects(fields: &mut Vec<Field>, at: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        values(fields, &path, old.get(key), new.get(key));
    }
}

fn values(fields: &mut Vec<Field>, path: &str, old: Option<&Value>, new: Option<&Value>) {
    let none = Map::new();
    match (old, new) {
        (Some(old), Some(new)) if old == new => {}
        // What bears names of its own is told apart by them; a source of a secret is one thing.
        (Some(Value::Object(old)), Some(Value::Object(new))) => objects(fields, path, old, new),
        (None, Some(Value::Object(new))) if !is_source(new) => {
            objects(fields, path, &none, new);
        }
        (Some(Value::Object(old)), None) => objects(fields, path, old, &none),
        _ => match (rules(old), rules(new)) {
            (Some(old), Some(new)) => {
                let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
                for name in names {
                    values(fields, &format!("{path}[{name}]"), old.get(name), new.get(name));
                }
            }
            _ => fields.push(Field { path: path.to_owned(), old: old.cloned(), new: new.cloned() }),
        },
    }
}

/// Where a secret is taken from, in place of a text.
fn is_source(members: &Map<String, Value>) -> bool {
    members.contains_key("FromEnv") || members.contains_key("FromFile")
}

/// A list of rules by their names; nothing else is one, and no list is an empty one.
fn rules(list: Option<&Value>) -> Option<Map<String, Value>> {
    let Some(list) = list else { return Some(Map::new()) };
    let items = list.as_array()?;
    let name = |item: &Value| item["RuleName"].as_str().map(|name| (name.to_owned(), item.clone()));
    let named: Option<Map<String, Value>> = items.iter().map(name).collect();
    named.filter(|named| named.len() == items.len() && !named.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(noun: Noun, name: &str, body: &Value) -> Thing {
        let mut thing = Thing::new(noun, "", name, body.as_object().unwrap().clone());
        thing.settle();
        thing
    }

    fn standing(things: Vec<Thing>) -> Stand {
        Stand { things, ..Stand::default() }
    }

    fn resource(name: &str, path: &str, more: &Value) -> Thing {
        let mut body = json!({ "Kind": "filesystem", "Config": { "path": path } });
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        thing(Noun::Resource, name, &body)
    }

    #[test]
    fn settings_are_told_one_by_one() {
        let rule = |name: &str, days: u32| json!({ "RuleName": name, "TargetBackupVaultName": "v", "Lifecycle": { "DeleteAfterDays": days } });
        let old = thing(
            Noun::Plan,
            "p",
            &json!({ "Rules": [rule("a", 1), rule("b", 2)], "Tags": { "k": "old" } }),
        );
        let new = thing(
            Noun::Plan,
            "p",
            &json!({ "Rules": [rule("b", 3), rule("a", 1)], "Tags": { "n": "x" } }),
        );
        let difference = compare(&[new], &standing(vec![old]), false);
        let paths: Vec<&str> =
            difference.changes[0].fields.iter().map(|field| field.path.as_str()).collect();
        assert_eq!(paths, ["Rules[b].Lifecycle.DeleteAfterDays", "Tags.k", "Tags.n"]);
        let text = difference.to_text();
        assert!(
            text.contains("~ plan 'p'\n    Rules[b].Lifecycle.DeleteAfterDays: 2 -> 3\n"),
            "{text}"
        );
        assert!(text.contains("Tags.k: \"old\" -> (not set)") && text.ends_with("= 0 unchanged"));
    }

    #[test]
    fn what_a_document_leaves_out_is_the_servers_to_say() {
        let stands = json!({ "EncryptionKeyArn": "k", "Care": { "PruneEveryDays": 7, "CheckEveryDays": 3 } });
        let stands = standing(vec![thing(Noun::Vault, "v", &stands)]);
        for (wanted, paths) in [
            (json!({}), &[][..]),
            (json!({ "Care": { "PruneEveryDays": 7 } }), &[]),
            (json!({ "Care": { "PruneEveryDays": 1 } }), &["Care.PruneEveryDays"]),
            (json!({ "Tags": { "a": "b" } }), &["Tags.a"]),
        ] {
            let difference = compare(&[thing(Noun::Vault, "v", &wanted)], &stands, false);
            let fields = difference.changes.iter().flat_map(|change| &change.fields);
            let found: Vec<&str> = fields.map(|field| field.path.as_str()).collect();
            assert_eq!(found, paths, "{wanted}");
        }
    }

    #[test]
    fn what_cannot_be_changed_in_place_is_said() {
        let stands =
            standing(vec![resource("r", "/a", &json!({ "RpoSeconds": 5, "Tags": { "a": "b" } }))]);
        let moved = compare(&[resource("r", "/b", &json!({ "RpoSeconds": 5 }))], &stands, false);
        assert_eq!(moved.stuck.len(), 1, "tags are no trouble: {:?}", moved.stuck);
        assert!(
            moved.stuck[0].contains("Config.path") && moved.stuck[0].contains("remove"),
            "{:?}",
            moved.stuck
        );
        let renamed = compare(&[resource("other", "/a", &json!({}))], &stands, false);
        assert!(renamed.stuck[0].contains("registered as 'r' already"), "{:?}", renamed.stuck);
        let tagged = compare(&[resource("r", "/a", &json!({ "RpoSeconds": 5 }))], &stands, false);
        assert!(tagged.stuck.is_empty() && tagged.changes[0].touches("Tags"));
        let probed = json!({
            "RtoSeconds": 9,
            "Service": { "Command": ["app"] },
            "Probes": [{ "Http": { "Port": 1 } }],
        });
        let probed = compare(&[resource("r", "/a", &probed)], &stands, false);
        assert!(probed.stuck.is_empty(), "{:?}", probed.stuck);
        for top in ["RpoSeconds", "RtoSeconds", "Service", "Probes"] {
            assert!(probed.changes[0].touches(top), "{top}");
        }
    }

    #[test]
    fn what_is_said_about_tests_can_be_changed_and_taken_back() {
        let share = |percent: u32| json!({ "Testing": { "TestAfterBackup": true, "SharePercent": percent } });
        let stands = standing(vec![resource("r", "/a", &share(25))]);
        for (wanted, paths) in [
            (share(25), &[][..]),
            (share(50), &["Testing.SharePercent"]),
            (json!({ "TestAfterBackup": true }), &["Testing.SharePercent"]),
            (
                json!({ "TestAfterBackup": false }),
                &["Testing.SharePercent", "Testing.TestAfterBackup"],
            ),
            (json!({}), &["Testing.SharePercent", "Testing.TestAfterBackup"]),
        ] {
            let difference = compare(&[resource("r", "/a", &wanted)], &stands, false);
            let fields = difference.changes.iter().flat_map(|change| &change.fields);
            let found: Vec<&str> = fields.map(|field| field.path.as_str()).collect();
            assert_eq!(found, paths, "{wanted}");
            assert_eq!(difference.stuck, [] as [String; 0], "{wanted}");
        }
    }

    #[test]
    fn only_prune_removes_and_no_vault_with_recovery_points() {
        let mut stands = standing(vec![
            thing(Noun::Vault, "Default", &json!({})),
            thing(Noun::Vault, "empty", &json!({})),
            thing(Noun::Vault, "full", &json!({})),
            thing(Noun::Plan, "p", &json!({})),
        ]);
        stands.points = vec![("full".to_owned(), 3)];
        assert!(compare(&[], &stands, false).is_nothing());
        let difference = compare(&[], &stands, true);
        let titles: Vec<String> = difference.changes.iter().map(Change::title).collect();
        assert_eq!(titles, ["plan 'p'", "vault 'empty'"], "what belongs to others goes first");
        assert_eq!(difference.kept.len(), 2);
        assert!(difference.to_text().contains("vault 'full' is kept: it holds 3 recovery points"));
    }

    #[test]
    fn a_vault_that_is_kept_keeps_whom_it_notifies() {
        let notifies = |vault: &str, topic: &str| {
            let body = json!({ "SNSTopicArn": topic, "BackupVaultEvents": ["BACKUP_JOB_FAILED"] });
            thing(Noun::Notifications, vault, &body)
        };
        let subscription = |topic: &str| {
            let mut one = thing(Noun::Subscription, "webhook w", &json!({ "Webhook": "w" }));
            one.within = topic.to_owned();
            one
        };
        let mut stands = standing(vec![
            thing(Noun::Vault, "empty", &json!({})),
            thing(Noun::Vault, "full", &json!({})),
            thing(Noun::Topic, "ops", &json!({})),
            thing(Noun::Topic, "other", &json!({})),
            subscription("ops"),
            subscription("other"),
            notifies("empty", "other"),
            notifies("full", "ops"),
        ]);
        stands.points = vec![("full".to_owned(), 3)];
        let removed = |wanted: &[Thing]| -> Vec<String> {
            let difference = compare(wanted, &stands, true);
            difference.changes.iter().map(Change::title).collect()
        };
        let others = [
            "notifications of vault 'empty'",
            "subscription webhook w of topic 'other'",
            "topic 'other'",
            "vault 'empty'",
        ];
        assert_eq!(removed(&[]), others);
        let kept = compare(&[], &stands, true).kept.join("\n");
        assert!(kept.contains("topic 'ops' is kept: vault 'full', which is kept, sends"), "{kept}");
        // What is declared without notifications is to have none.
        let declared = removed(&[thing(Noun::Vault, "full", &json!({}))]);
        assert_eq!(declared.len(), 7, "{declared:?}");
        assert!(declared.contains(&"notifications of vault 'full'".to_owned()), "{declared:?}");
        let topic = removed(&[thing(Noun::Topic, "ops", &json!({}))]);
        assert!(topic.contains(&"subscription webhook w of topic 'ops'".to_owned()), "{topic:?}");
    }

    #[test]
    fn variables_of_an_application_are_not_shown() {
        let service = |value: &Value| json!({ "Service": { "Command": ["x"], "Environment": { "TOKEN": value } } });
        let source = json!({ "FromEnv": "T" });
        let stands = standing(vec![resource("r", "/a", &service(&json!("hush")))]);
        let same = compare(&[resource("r", "/a", &service(&source))], &stands, false);
        assert!(same.is_nothing(), "{}", same.to_text());
        let text =
            compare(&[resource("r", "/a", &service(&json!("other")))], &stands, false).to_text();
        assert!(
            text.contains("(not shown)") && !text.contains("hush") && !text.contains("other"),
            "{text}"
        );
        let text = compare(&[resource("n", "/n", &service(&source))], &stands, false).to_text();
        assert!(text.contains("Service.Environment.TOKEN = {\"FromEnv\":\"T\"}"), "{text}");
    }
}

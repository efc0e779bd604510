//! Reads a document: what is wanted.

use std::path::{Path, PathBuf};

use provault_wire::provault::{
    AddResourceInput, MailFile, PutTestingInput, Smtp, Sns, UpdateVaultCareInput,
};
use provault_wire::types::{
    CreateBackupPlanInput, CreateBackupSelectionInput, CreateRestoreTestingPlanInput,
    CreateRestoreTestingSelectionInput,
};
use provault_wire::{Shape, Structure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::secret::{Source, placeholder};
use super::stand::{checked, number_subscriptions, object, receiver};
use super::thing::{Key, Noun, Thing, title};
use super::tree::{Content, Node, parse};
use crate::error::CliError;

#[cfg(test)]
mod tests;

/// The name of an entry, its members that are things apart, and the rest of it.
type Entry<'n, const N: usize> = (String, [Option<&'n Node>; N], Map<String, Value>);

/// The lists at the top of a document.
const TOP: [&str; 5] = ["Vaults", "Topics", "Resources", "Plans", "RestoreTestingPlans"];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[allow(dead_code, reason = "read to be checked; the JSON goes on")]
struct Vault {
    encryption_key_arn: Option<String>,
    tags: Option<std::collections::BTreeMap<String, String>>,
    care: Option<UpdateVaultCareInput>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[allow(dead_code, reason = "read to be checked; the JSON goes on")]
struct Notifications {
    #[serde(rename = "SNSTopicArn")]
    sns_topic_arn: String,
    backup_vault_events: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Topic {}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[allow(dead_code, reason = "read to be checked; the JSON goes on")]
struct Subscription {
    webhook: Option<String>,
    mail_file: Option<MailFile>,
    smtp: Option<Smtp>,
    sns: Option<Sns>,
    command: Option<Vec<String>>,
    #[serde(default)]
    events: Vec<String>,
    digest_minutes: Option<u32>,
    secret: Option<Source>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
#[allow(dead_code, reason = "read to be checked; the JSON goes on")]
struct Exemption {
    reason: String,
    owner: String,
    until: String,
}

/// What the files declare, in the order of their keys, each thing once.
pub(super) fn load(paths: &[PathBuf]) -> Result<Vec<Thing>, CliError> {
    let mut things = Vec::new();
    for path in paths {
        let text = crate::input_file::text(path)?;
        Reader { path, things: &mut things }.document(&parse(path, &text)?)?;
    }
    for thing in &mut things {
        thing.settle();
    }
    number_subscriptions(&mut things);
    things.sort_by_key(Thing::key);
    for pair in things.windows(2) {
        if pair[0].key() == pair[1].key() {
            let (title, first, second) = (pair[0].title(), &pair[0].at, &pair[1].at);
            return Err(CliError::usage(format!(
                "{title} is declared twice: {first} and {second}"
            )));
        }
    }
    Ok(things)
}

struct Reader<'a> {
    path: &'a Path,
    things: &'a mut Vec<Thing>,
}

impl Reader<'_> {
    /// As in `provault.toml, line 3`.
    fn at(&self, line: Option<usize>) -> String {
        match line {
            Some(line) if line > 0 => format!("{}, line {line}", self.path.display()),
            _ => self.path.display().to_string(),
        }
    }

    fn wrong(&self, line: Option<usize>, why: &str) -> CliError {
        CliError::usage(format!("{}: {why}", self.at(line)))
    }

    fn document(&mut self, document: &Node) -> Result<(), CliError> {
        let Content::Map(members) = &document.content else {
            return Err(self.wrong(None, "it must be a table"));
        };
        for (key, line, node) in members {
            if !TOP.contains(&key.as_str()) {
                return Err(self.unknown(Some(*line), key, "", &TOP));
            }
            for entry in self.list(key, *line, node)? {
                match key.as_str() {
                    "Vaults" => self.vault(entry)?,
                    "Topics" => self.topic(entry)?,
                    "Resources" => self.resource(entry)?,
                    "Plans" => self.plan(entry, Noun::Plan, Noun::Selection)?,
                    _ => self.plan(entry, Noun::TestingPlan, Noun::TestingSelection)?,
                }
            }
        }
        Ok(())
    }

    fn list<'n>(&self, key: &str, line: usize, node: &'n Node) -> Result<&'n [Node], CliError> {
        match &node.content {
            Content::List(items) => match items.iter().find(|item| !item.is_map()) {
                None => Ok(items),
                Some(item) => {
                    Err(self.wrong(Some(item.line), &format!("{key} must be a list of tables")))
                }
            },
            _ => Err(self.wrong(Some(line), &format!("{key} must be a list: write [[{key}]]"))),
        }
    }

    /// Takes an entry apart: its name, the members in `apart`, and the rest.
    fn entry<'n, const N: usize>(
        &self,
        entry: &'n Node,
        noun: Noun,
        apart: [&str; N],
    ) -> Result<Entry<'n, N>, CliError> {
        let member = noun.name_member();
        let mut body = object(entry.to_value());
        let name = match body.remove(member) {
            Some(Value::String(name)) if !name.is_empty() => name,
            Some(_) => {
                return Err(self.wrong(entry.line_of(member), &format!("{member} must be a text")));
            }
            None => {
                let first = entry.first_line();
                return Err(self.wrong(first, &format!("this {} has no {member}", noun.word())));
            }
        };
        let parts = apart.map(|key| {
            body.remove(key);
            entry.get(key)
        });
        Ok((name, parts, body))
    }

    fn push(
        &mut self,
        entry: &Node,
        noun: Noun,
        within: &str,
        name: &str,
        body: Map<String, Value>,
    ) -> Result<(), CliError> {
        let mut thing = Thing::new(noun, within, name, body);
        thing.at = self.at(entry.first_line());
        if let Some(member) = placeholder(&thing) {
            let why = format!(
                "{member} has what a server shows in place of a value that it hides; write the value"
            );
            return Err(self.wrong(entry.line_of(member), &why));
        }
        self.things.push(thing);
        Ok(())
    }

    fn vault(&mut self, entry: &Node) -> Result<(), CliError> {
        let (name, [notifications], body) = self.entry(entry, Noun::Vault, ["Notifications"])?;
        self.typed::<Vault>(
            entry,
            &(Noun::Vault, String::new(), name.clone()),
            &body,
            &["BackupVaultName", "Notifications"],
        )?;
        self.push(entry, Noun::Vault, "", &name, body)?;
        if let Some(node) = notifications {
            let body = object(node.to_value());
            self.typed::<Notifications>(
                node,
                &(Noun::Notifications, String::new(), name.clone()),
                &body,
                &[],
            )?;
            self.push(node, Noun::Notifications, "", &name, body)?;
        }
        Ok(())
    }

    fn topic(&mut self, entry: &Node) -> Result<(), CliError> {
        let (name, [subscriptions], body) = self.entry(entry, Noun::Topic, ["Subscriptions"])?;
        self.typed::<Topic>(
            entry,
            &(Noun::Topic, String::new(), name.clone()),
            &body,
            &["Name", "Subscriptions"],
        )?;
        self.push(entry, Noun::Topic, "", &name, body)?;
        let Some(node) = subscriptions else { return Ok(()) };
        for one in self.list("Subscriptions", node.line, node)? {
            let mut body = object(one.to_value());
            if body.get("Secret").is_some_and(Value::is_string) {
                // Without serde, which would say the secret in its refusal.
                let why = "a secret is not written into a document: write { FromEnv = \"VARIABLE\" } \
                           or { FromFile = \"PATH\" }";
                return Err(self.wrong(one.line_of("Secret"), why));
            }
            let receiver = receiver(&body);
            let key = (Noun::Subscription, name.clone(), receiver.clone());
            let typed: Subscription = self.typed(one, &key, &body, &[])?;
            let kinds = [
                typed.webhook.is_some(),
                typed.mail_file.is_some(),
                typed.smtp.is_some(),
                typed.sns.is_some(),
                typed.command.is_some(),
            ];
            if kinds.iter().filter(|given| **given).count() != 1 {
                let why =
                    "a subscription has exactly one of Webhook, MailFile, Smtp, Sns and Command";
                return Err(self.wrong(one.first_line(), why));
            }
            if typed.sns.is_some() && typed.secret.is_none() {
                let why = "an SNS topic needs the secret of its access key: write \
                           Secret = { FromEnv = \"VARIABLE\" } or { FromFile = \"PATH\" }";
                return Err(self.wrong(one.first_line(), why));
            }
            if let Some(Err(why)) = body.get("Secret").and_then(Source::of) {
                return Err(self.wrong(one.line_of("Secret"), &format!("Secret: {why}")));
            }
            body.insert("HasSecret".to_owned(), typed.secret.is_some().into());
            self.push(one, Noun::Subscription, &name, &receiver, body)?;
        }
        Ok(())
    }

    fn resource(&mut self, entry: &Node) -> Result<(), CliError> {
        let (name, [exemption, testing], mut body) =
            self.entry(entry, Noun::Resource, ["Exemption", "Testing"])?;
        let key = (Noun::Resource, String::new(), name.clone());
        let mut whole = body.clone();
        whole.insert("Name".to_owned(), name.clone().into());
        whole.entry("Kind").or_insert(json!("filesystem"));
        super::secret::blank(&mut whole)
            .map_err(|why| self.wrong(entry.line_of("Environment"), &why))?;
        self.typed::<AddResourceInput>(entry, &key, &whole, &["Exemption", "Testing"])?;
        if let (Some(node), true) = (testing, body.contains_key("TestAfterBackup")) {
            let why = "TestAfterBackup is the short form of Testing; leave one of the two out";
            return Err(self.wrong(node.first_line(), why));
        }
        self.testing(testing, &key, &mut body)?;
        self.push(entry, Noun::Resource, "", &name, body)?;
        if let Some(node) = exemption {
            let mut body = object(node.to_value());
            let key = (Noun::Exemption, String::new(), name.clone());
            let typed: Exemption = self.typed(node, &key, &body, &[])?;
            let until: jiff::Timestamp = typed.until.parse().map_err(|_| {
                let why = "Until must be a moment, such as \"2027-01-31T00:00:00Z\"";
                self.wrong(node.line_of("Until"), why)
            })?;
            #[allow(clippy::cast_precision_loss)] // Seconds of some thousand years.
            let seconds = until.as_second() as f64;
            body.insert("Until".to_owned(), crate::output::epoch(seconds).into());
            self.push(node, Noun::Exemption, "", &name, body)?;
        }
        Ok(())
    }

    /// What a thing says about restore tests after backups goes into its body.
    fn testing(
        &self,
        node: Option<&Node>,
        key: &Key,
        body: &mut Map<String, Value>,
    ) -> Result<(), CliError> {
        let Some(node) = node else { return Ok(()) };
        let wrong = |member: &str, why: &str| {
            Err(self.wrong(node.line_of(member).or(node.first_line()), &format!("Testing: {why}")))
        };
        let testing = object(node.to_value());
        let said: PutTestingInput = self.typed(node, key, &testing, &[])?;
        if said.share_percent.is_some_and(|percent| !(1..=100).contains(&percent)) {
            return wrong("SharePercent", "SharePercent must be 1 to 100");
        }
        if said.tests_at_once.is_some_and(|limit| !(1..=64).contains(&limit)) {
            return wrong("TestsAtOnce", "TestsAtOnce must be 1 to 64");
        }
        let budgets = said.window.is_some()
            || said.tests_at_once.is_some()
            || said.share_percent.is_some_and(|percent| percent != 100);
        if budgets && !said.test_after_backup {
            let why =
                "where TestAfterBackup is false no test follows, and there is nothing to budget";
            return wrong("TestAfterBackup", why);
        }
        body.insert("Testing".to_owned(), Value::Object(testing));
        Ok(())
    }

    /// A plan of either kind, with its selections.
    fn plan(&mut self, entry: &Node, plan: Noun, selection: Noun) -> Result<(), CliError> {
        let (name, [tags, testing, selections], mut body) =
            self.entry(entry, plan, ["Tags", "Testing", "Selections"])?;
        // Restore testing plans are tests themselves.
        let tested = plan == Noun::Plan;
        let ours = ["Tags", "Selections", "Testing"];
        self.aws(entry, (plan, "", &name), &body, if tested { &ours } else { &ours[..2] })?;
        self.testing(testing, &(plan, String::new(), name.clone()), &mut body)?;
        if let Some(tags) = tags {
            let tags = tags.to_value();
            let texts = tags.as_object().is_some_and(|tags| tags.values().all(Value::is_string));
            if !texts {
                return Err(self.wrong(entry.line_of("Tags"), "Tags must be a table of texts"));
            }
            body.insert("Tags".to_owned(), tags);
        }
        self.push(entry, plan, "", &name, body)?;
        let Some(node) = selections else { return Ok(()) };
        for one in self.list("Selections", node.line, node)? {
            let (selected, [testing], mut body) = self.entry(one, selection, ["Testing"])?;
            let ours = if tested { &["Testing"][..] } else { &[] };
            self.aws(one, (selection, &name, &selected), &body, ours)?;
            self.testing(testing, &(selection, name.clone(), selected.clone()), &mut body)?;
            self.push(one, selection, &name, &selected, body)?;
        }
        Ok(())
    }

    /// Refuses a member that AWS's document does not have, and what its rules refuse.
    fn aws(
        &self,
        entry: &Node,
        (noun, within, name): (Noun, &str, &str),
        body: &Map<String, Value>,
        ours: &[&str],
    ) -> Result<(), CliError> {
        if let Some(structure) = noun.document().and_then(super::thing::Document::structure) {
            self.known(entry, structure, "", ours)?;
        }
        let mut thing = Thing::new(noun, within, name, body.clone());
        thing.settle();
        let title = thing.title();
        let mut document = thing.body;
        document.insert(noun.name_member().to_owned(), name.into());
        let document = Value::Object(document);
        let checked = match noun {
            Noun::Plan => {
                checked::<CreateBackupPlanInput>(json!({ "BackupPlan": document })).map(drop)
            }
            Noun::Selection => checked::<CreateBackupSelectionInput>(
                json!({ "BackupPlanId": "p", "BackupSelection": document }),
            )
            .map(drop),
            Noun::TestingPlan => {
                checked::<CreateRestoreTestingPlanInput>(json!({ "RestoreTestingPlan": document }))
                    .map(drop)
            }
            _ => checked::<CreateRestoreTestingSelectionInput>(
                json!({ "RestoreTestingPlanName": "p", "RestoreTestingSelection": document }),
            )
            .map(drop),
        };
        checked.map_err(|why| self.wrong(entry.first_line(), &format!("{title}: {why}")))
    }

    /// Looks for members that a structure of the model does not have.
    fn known(
        &self,
        node: &Node,
        structure: &Structure,
        path: &str,
        ours: &[&str],
    ) -> Result<(), CliError> {
        let Content::Map(members) = &node.content else { return Ok(()) };
        for (key, line, value) in members {
            if ours.contains(&key.as_str()) {
                continue;
            }
            let Some(member) = structure.members.iter().find(|one| one.name == key) else {
                let names = structure.members.iter().map(|one| one.name);
                let names: Vec<&str> = names.chain(ours.iter().copied()).collect();
                return Err(self.unknown(Some(*line), key, path, &names));
            };
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match (member.shape, &value.content) {
                (Shape::Structure(inner), _) => self.known(value, inner, &path, &[])?,
                (Shape::List { member: Shape::Structure(inner), .. }, Content::List(items)) => {
                    for item in items {
                        self.known(item, inner, &path, &[])?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads a body as what it must be; a mistake is told with its line.
    fn typed<T: DeserializeOwned>(
        &self,
        entry: &Node,
        key: &Key,
        body: &Map<String, Value>,
        ours: &[&str],
    ) -> Result<T, CliError> {
        serde_json::from_value(Value::Object(body.clone())).map_err(|error| {
            let text = error.to_string();
            // serde's words: unknown field `x`, expected one of `a`, `b`.
            let mut quoted = text.split('`').skip(1).step_by(2);
            match quoted.next() {
                Some(field) if text.starts_with("unknown field") => {
                    let names: Vec<&str> = quoted.chain(ours.iter().copied()).collect();
                    self.unknown(entry.line_of(field), field, "", &names)
                }
                _ => self.wrong(entry.first_line(), &format!("{}: {text}", title(key))),
            }
        })
    }

    fn unknown(&self, line: Option<usize>, key: &str, path: &str, names: &[&str]) -> CliError {
        let within = if path.is_empty() { String::new() } else { format!(" in {path}") };
        let known = match nearest(key, names) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there are {}", names.join(", ")),
        };
        self.wrong(line, &format!("there is no member {key}{within}; {known}"))
    }
}

impl Node {
    fn is_map(&self) -> bool {
        matches!(self.content, Content::Map(_))
    }

    /// The line of the first member.
    fn first_line(&self) -> Option<usize> {
        match &self.content {
            Content::Map(members) => members.iter().map(|(_, line, _)| *line).min(),
            _ => None,
        }
        .or(Some(self.line))
        .filter(|line| *line > 0)
    }
}

/// The name that was probably meant: at most a third of it written otherwise.
fn nearest<'n>(key: &str, names: &[&'n str]) -> Option<&'n str> {
    let lower = key.to_lowercase();
    let distance = |name: &&&str| distance(&lower, &name.to_lowercase());
    let near = names.iter().min_by_key(distance)?;
    (distance(&near) <= near.len().div_ceil(3)).then_some(*near)
}

/// How many letters have to be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, one) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let change = before + usize::from(one != *other);
            before = row[j + 1];
            row[j + 1] = change.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

//! What stands on a server.

use provault_wire::OperationInput;
use provault_wire::provault::{Resource, ResourceList, SubscriptionList, Testing};
use provault_wire::types::{
    GetBackupPlanInput, GetBackupSelectionInput, GetBackupVaultNotificationsInput,
    GetRestoreTestingPlanInput, GetRestoreTestingSelectionInput, ListBackupPlansInput,
    ListBackupSelectionsInput, ListBackupVaultsInput, ListRestoreTestingPlansInput,
    ListRestoreTestingSelectionsInput, ListTagsInput,
};
use serde_json::{Map, Value, json};

use super::refs::{Kind, Refs};
use super::secret::placeholder;
use super::thing::{Noun, Thing};
use crate::client::{Answer, Client, segment};
use crate::commands::resource::body;
use crate::error::CliError;
use crate::output::epoch;

/// Everything on a server that can be declared.
#[derive(Debug, Default)]
pub(super) struct Stand {
    /// In the order of their keys; names that several have stand several times.
    pub things: Vec<Thing>,
    pub refs: Refs,
    /// Vaults that hold recovery points, and how many.
    pub points: Vec<(String, i64)>,
}

/// Members of a resource that declare it.
const RESOURCE: [&str; 10] = [
    "Kind",
    "Config",
    "Tags",
    "Service",
    "Probes",
    "RpoSeconds",
    "RtoSeconds",
    "Testing",
    "ShrinkAlarmPercent",
    "KeepAtMost",
];
/// Members of a subscription that declare it.
const SUBSCRIPTION: [&str; 7] =
    ["Webhook", "MailFile", "Smtp", "Sns", "Command", "Events", "DigestMinutes"];
/// Members of a vault's care that declare it.
const CARE: [&str; 5] = [
    "PruneEveryDays",
    "CheckEveryDays",
    "VerifyWithinDays",
    "VerifyMaxBytesPerSecond",
    "CatalogBackupEveryDays",
];

impl Stand {
    pub fn read(client: &Client) -> Result<Self, CliError> {
        let mut stand = Self { refs: Refs::read(client)?, ..Self::default() };
        stand.vaults(client)?;
        stand.topics(client)?;
        stand.resources(client)?;
        stand.plans(client)?;
        stand.testing_plans(client)?;
        for thing in &mut stand.things {
            stand.refs.to_names(thing.noun, &mut thing.body);
            thing.settle();
        }
        number_subscriptions(&mut stand.things);
        stand.things.sort_by_key(Thing::key);
        Ok(stand)
    }

    /// Refuses names that several things have: a document could not tell them apart.
    pub fn refuse_doubles(&self, concerns: &dyn Fn(&Thing) -> bool) -> Result<(), CliError> {
        for pair in self.things.windows(2) {
            if pair[0].key() == pair[1].key() && concerns(&pair[0]) {
                return Err(CliError::Name(format!(
                    "the server has more than one {}: {} and {}. Rename or delete one: here a name \
                     stands for one thing",
                    pair[0].title(),
                    pair[0].id,
                    pair[1].id
                )));
            }
        }
        Ok(())
    }

    /// Refuses what the server hides from whoever asks: a placeholder is not what stands.
    pub fn refuse_hidden(&self, concerns: &dyn Fn(&Thing) -> bool) -> Result<(), CliError> {
        for thing in self.things.iter().filter(|thing| concerns(thing)) {
            let Some(member) = placeholder(thing) else { continue };
            let remedy = match thing.noun {
                Noun::Resource => {
                    "leave --with-environment out, or use a key that may provault:AddResource"
                }
                _ => "use a key that may provault:Subscribe",
            };
            return Err(CliError::Name(format!(
                "{}: the server hides its {member} from this key, and what it shows instead is not what \
                 stands; {remedy}",
                thing.title()
            )));
        }
        Ok(())
    }

    fn vaults(&mut self, client: &Client) -> Result<(), CliError> {
        for vault in
            items(&client.ask_all(&ListBackupVaultsInput::default())?.json, "BackupVaultList")
        {
            let (name, arn) = (text(&vault, "BackupVaultName"), text(&vault, "BackupVaultArn"));
            self.refs.add(Kind::Vault, &name, &arn);
            let points = vault["NumberOfRecoveryPoints"].as_i64().unwrap_or_default();
            if points > 0 {
                self.points.push((name.clone(), points));
            }
            let path = format!("/vaults/{}/care", segment(&name));
            let care: Answer<Value> = client.own("GET", &path, &[], None)?;
            let members = json!({
                "EncryptionKeyArn": vault["EncryptionKeyArn"],
                "Tags": tags(client, &arn)?,
                "Care": picked(&care.json, &CARE),
            });
            self.things.push(Thing::new(Noun::Vault, "", &name, object(members)).with_id(&arn));
            let input = GetBackupVaultNotificationsInput { backup_vault_name: Some(name.clone()) };
            let found = match client.ask(&input) {
                Ok(found) => found.json,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error),
            };
            let members = picked(&found, &["SNSTopicArn", "BackupVaultEvents"]);
            self.things.push(Thing::new(Noun::Notifications, "", &name, members));
        }
        Ok(())
    }

    fn topics(&mut self, client: &Client) -> Result<(), CliError> {
        let topics: Vec<(String, String)> = self
            .refs
            .names(Kind::Topic)
            .map(|(name, arn)| (name.to_owned(), arn.to_owned()))
            .collect();
        for (name, arn) in topics {
            self.things.push(Thing::new(Noun::Topic, "", &name, Map::new()).with_id(&arn));
            let path = format!("/topics/{}/subscriptions", segment(&arn));
            let list: Answer<SubscriptionList> = client.own("GET", &path, &[], None)?;
            for one in list.typed.subscriptions {
                let json = body(&one)?;
                let mut members = picked(&json, &SUBSCRIPTION);
                members.insert("HasSecret".to_owned(), one.has_secret.into());
                let receiver = receiver(&members);
                self.things.push(
                    Thing::new(Noun::Subscription, &name, &receiver, members)
                        .with_id(one.subscription_id),
                );
            }
        }
        Ok(())
    }

    fn resources(&mut self, client: &Client) -> Result<(), CliError> {
        let list: Answer<ResourceList> = client.own_all("/resources", &[], "Resources")?;
        for resource in list.typed.resources {
            // What is known from an imported vault alone is nobody's declaration.
            if resource.imported {
                continue;
            }
            let Resource { name, resource_arn, exemption, .. } = resource.clone();
            self.refs.add(Kind::Resource, &name, &resource_arn);
            let mut members = picked(&body(&resource)?, &RESOURCE);
            // Absent is off here, and on in a declaration.
            members.entry("ShrinkAlarmPercent").or_insert(json!(0));
            self.things.push(Thing::new(Noun::Resource, "", &name, members).with_id(&resource_arn));
            if let Some(exemption) = exemption {
                let members = json!({
                    "Reason": exemption.reason,
                    "Owner": exemption.owner,
                    "Until": epoch(exemption.end_date),
                });
                self.things.push(Thing::new(Noun::Exemption, "", &name, object(members)));
            }
        }
        Ok(())
    }

    fn plans(&mut self, client: &Client) -> Result<(), CliError> {
        for plan in
            items(&client.ask_all(&ListBackupPlansInput::default())?.json, "BackupPlansList")
        {
            let id = text(&plan, "BackupPlanId");
            let input = GetBackupPlanInput {
                backup_plan_id: Some(id.clone()),
                ..GetBackupPlanInput::default()
            };
            let mut members = object(client.ask(&input)?.json["BackupPlan"].take());
            let name = take(&mut members, "BackupPlanName");
            let arn = text(&plan, "BackupPlanArn");
            members.insert("Tags".to_owned(), tags(client, &arn)?);
            let own = format!("/backup-plans/{}", segment(&id));
            members.insert("Testing".to_owned(), testing(client, &own)?);
            self.things.push(Thing::new(Noun::Plan, "", &name, members).with_id(&id));
            let input = ListBackupSelectionsInput {
                backup_plan_id: Some(id.clone()),
                ..ListBackupSelectionsInput::default()
            };
            for one in items(&client.ask_all(&input)?.json, "BackupSelectionsList") {
                let selection_id = text(&one, "SelectionId");
                let input = GetBackupSelectionInput {
                    backup_plan_id: Some(id.clone()),
                    selection_id: Some(selection_id.clone()),
                };
                let mut members = object(client.ask(&input)?.json["BackupSelection"].take());
                let selection = take(&mut members, "SelectionName");
                let own = format!("{own}/selections/{}", segment(&selection_id));
                members.insert("Testing".to_owned(), testing(client, &own)?);
                self.things.push(
                    Thing::new(Noun::Selection, &name, &selection, members).with_id(selection_id),
                );
            }
        }
        Ok(())
    }

    fn testing_plans(&mut self, client: &Client) -> Result<(), CliError> {
        let list = client.ask_all(&ListRestoreTestingPlansInput::default())?.json;
        for plan in items(&list, "RestoreTestingPlans") {
            let name = text(&plan, "RestoreTestingPlanName");
            let input =
                GetRestoreTestingPlanInput { restore_testing_plan_name: Some(name.clone()) };
            let found = client.ask(&input)?.json["RestoreTestingPlan"].take();
            let mut members = declared(Noun::TestingPlan, &found);
            let arn = text(&found, "RestoreTestingPlanArn");
            members.insert("Tags".to_owned(), tags(client, &arn)?);
            self.things.push(Thing::new(Noun::TestingPlan, "", &name, members).with_id(&arn));
            let input = ListRestoreTestingSelectionsInput {
                restore_testing_plan_name: Some(name.clone()),
                ..ListRestoreTestingSelectionsInput::default()
            };
            for one in items(&client.ask_all(&input)?.json, "RestoreTestingSelections") {
                let selection = text(&one, "RestoreTestingSelectionName");
                let input = GetRestoreTestingSelectionInput {
                    restore_testing_plan_name: Some(name.clone()),
                    restore_testing_selection_name: Some(selection.clone()),
                };
                let found = client.ask(&input)?.json["RestoreTestingSelection"].take();
                let members = declared(Noun::TestingSelection, &found);
                self.things.push(Thing::new(Noun::TestingSelection, &name, &selection, members));
            }
        }
        Ok(())
    }
}

/// What of an answer a document may have, without the name.
fn declared(noun: Noun, found: &Value) -> Map<String, Value> {
    let members = noun.document().and_then(super::thing::Document::structure);
    let members = members.map_or(&[][..], |structure| structure.members);
    let names = members.iter().map(|one| one.name).filter(|name| *name != noun.name_member());
    picked(found, &names.collect::<Vec<_>>())
}

/// Where a subscription sends: what it is known by.
pub(super) fn receiver(members: &Map<String, Value>) -> String {
    let part = |outer: &str, inner: &str| {
        members.get(outer).and_then(|one| one.get(inner)).and_then(Value::as_str).unwrap_or("?")
    };
    if let Some(url) = members.get("Webhook").and_then(Value::as_str) {
        return format!("webhook {url}");
    }
    if members.contains_key("MailFile") {
        return format!("mail to {} in {}", part("MailFile", "To"), part("MailFile", "Directory"));
    }
    if members.contains_key("Smtp") {
        return format!("mail to {} through {}", part("Smtp", "To"), part("Smtp", "Server"));
    }
    if let Some(sns) = members.get("Sns") {
        let through = sns.get("Endpoint").and_then(Value::as_str);
        let through = through.map_or_else(String::new, |endpoint| format!(" through {endpoint}"));
        return format!("SNS topic {}{through}", part("Sns", "TopicArn"));
    }
    if let Some(words) = members.get("Command").and_then(Value::as_array) {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        return format!("command {}", words.join(" "));
    }
    // A document with this is refused.
    "nothing".to_owned()
}

/// Several subscriptions of a topic may have one receiver, for different events: they are told apart
/// by a number, in the order of their settings.
pub(super) fn number_subscriptions(things: &mut [Thing]) {
    let mut subscriptions: Vec<&mut Thing> =
        things.iter_mut().filter(|thing| thing.noun == Noun::Subscription).collect();
    subscriptions.sort_by_key(|thing| {
        let mut body = thing.body.clone();
        body.remove("Secret");
        (thing.key(), Value::Object(body).to_string())
    });
    let mut last = (String::new(), String::new(), 1);
    for thing in subscriptions {
        if (&last.0, &last.1) == (&thing.within, &thing.name) {
            last.2 += 1;
            thing.name = format!("{} ({})", thing.name, last.2);
        } else {
            last = (thing.within.clone(), thing.name.clone(), 1);
        }
    }
}

fn tags(client: &Client, arn: &str) -> Result<Value, CliError> {
    let input = ListTagsInput { resource_arn: Some(arn.to_owned()), ..ListTagsInput::default() };
    let mut tags = Map::new();
    // A map has no pages that could be put together: they are asked for one by one.
    let mut token = None;
    loop {
        let input = ListTagsInput { next_token: token, ..input.clone() };
        let answer = client.ask(&input)?.typed;
        for (key, value) in answer.tags.unwrap_or_default() {
            tags.insert(key, value.into());
        }
        token = answer.next_token;
        if token.is_none() {
            return Ok(Value::Object(tags));
        }
    }
}

/// What is said about restore tests after backups; an empty object where nothing is.
fn testing(client: &Client, of: &str) -> Result<Value, CliError> {
    Ok(client.own::<Testing>("GET", &format!("{of}/testing"), &[], None)?.json)
}

fn items(answer: &Value, key: &str) -> Vec<Value> {
    answer[key].as_array().cloned().unwrap_or_default()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn take(members: &mut Map<String, Value>, key: &str) -> String {
    match members.remove(key) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn picked(value: &Value, keys: &[&str]) -> Map<String, Value> {
    let pick = |key: &&str| value.get(*key).map(|found| ((*key).to_owned(), found.clone()));
    keys.iter().filter_map(pick).collect()
}

/// A document of the API as its input, checked by the rules of the model.
pub(super) fn checked<I: OperationInput>(members: Value) -> Result<I, String> {
    let input: I = serde_json::from_value(members).map_err(|error| error.to_string())?;
    input.validate().map_err(|error| error.to_string())?;
    Ok(input)
}

//! Makes changes, one at a time.

use provault_wire::provault::{ExemptResourceInput, Named, Resource, Subscription};
use provault_wire::types::{
    CreateBackupPlanInput, CreateBackupSelectionInput, CreateBackupVaultInput,
    CreateRestoreTestingPlanInput, CreateRestoreTestingSelectionInput, DeleteBackupPlanInput,
    DeleteBackupSelectionInput, DeleteBackupVaultInput, DeleteBackupVaultNotificationsInput,
    DeleteRestoreTestingPlanInput, DeleteRestoreTestingSelectionInput,
    PutBackupVaultNotificationsInput, TagResourceInput, UntagResourceInput, UpdateBackupPlanInput,
    UpdateRestoreTestingPlanInput, UpdateRestoreTestingSelectionInput,
};
use provault_wire::{EncodeError, OperationInput};
use serde_json::{Map, Value, json};

use super::diff::Change;
use super::refs::{Kind, Refs};
use super::secret::{Source, fill};
use super::stand::Stand;
use super::thing::{Noun, Thing};
use super::waiting::{waiting, why_not};
use crate::client::{Answer, Client, segment};
use crate::commands::resource::body;
use crate::error::CliError;

/// Makes changes on a server, and knows the ids of what it made.
pub(super) struct Actor<'a> {
    client: &'a Client,
    refs: Refs,
    /// Plans by name and id.
    plans: Vec<(String, String)>,
}

/// Reads every secret that the changes need, so that none is missing in the middle.
pub(super) fn look_for_secrets(changes: &[Change]) -> Result<(), CliError> {
    for thing in changes.iter().filter_map(|change| change.wanted.as_ref()) {
        let about = |error: CliError| CliError::usage(format!("{}: {error}", thing.title()));
        match thing.noun {
            Noun::Subscription => secret(thing).map(drop).map_err(about)?,
            Noun::Resource => fill(&mut thing.body.clone()).map_err(about)?,
            _ => {}
        }
    }
    Ok(())
}

/// How a resource is tested and by what it is measured, where that changes: what the document does not have
/// is taken away.
fn asked(wanted: &Thing, change: &Change) -> Option<Map<String, Value>> {
    let mut body = Map::new();
    for (key, none) in [("Probes", json!([])), ("RpoSeconds", json!(0)), ("RtoSeconds", json!(0))] {
        if change.touches(key) {
            body.insert(key.to_owned(), wanted.body.get(key).cloned().unwrap_or(none));
        }
    }
    if change.touches("Service") {
        match wanted.body.get("Service") {
            Some(service) => body.insert("Service".to_owned(), service.clone()),
            None => body.insert("RemoveService".to_owned(), json!(true)),
        };
    }
    (!body.is_empty()).then_some(body)
}

fn secret(thing: &Thing) -> Result<Option<String>, CliError> {
    let Some(source) = thing.body.get("Secret").and_then(Source::of) else { return Ok(None) };
    source.map_err(CliError::usage)?.read().map(Some)
}

impl<'a> Actor<'a> {
    pub fn new(client: &'a Client, stand: &Stand) -> Self {
        let plans = stand.things.iter().filter(|thing| thing.noun == Noun::Plan);
        let plans = plans.map(|plan| (plan.name.clone(), plan.id.clone())).collect();
        Self { client, refs: stand.refs.clone(), plans }
    }

    pub fn make(&mut self, change: &Change) -> Result<(), CliError> {
        match (&change.wanted, &change.standing) {
            (Some(wanted), None) => self.create(wanted),
            (Some(wanted), Some(standing)) => self.change(wanted, standing, change),
            (None, Some(standing)) => self.remove(standing),
            (None, None) => Ok(()),
        }
    }

    /// The settings as the server wants them, with the name.
    fn document(&self, thing: &Thing) -> Result<Map<String, Value>, CliError> {
        let mut document = thing.body.clone();
        self.refs.to_arns(thing.noun, &mut document)?;
        document.insert(thing.noun.name_member().to_owned(), thing.name.clone().into());
        Ok(document)
    }

    fn ask<I: OperationInput>(&self, members: Value) -> Result<Value, CliError> {
        let input: I = serde_json::from_value(members).map_err(EncodeError::from)?;
        Ok(self.client.ask(&input)?.json)
    }

    fn create(&mut self, thing: &Thing) -> Result<(), CliError> {
        let mut document = self.document(thing)?;
        let (name, within) = (thing.name.as_str(), thing.within.as_str());
        let token = uuid::Uuid::new_v4().to_string();
        match thing.noun {
            Noun::Vault => {
                let made = self.ask::<CreateBackupVaultInput>(json!({
                    "BackupVaultName": name,
                    "BackupVaultTags": document.get("Tags"),
                    "EncryptionKeyArn": document.get("EncryptionKeyArn"),
                    "CreatorRequestId": token,
                }))?;
                self.learn(Kind::Vault, name, &made["BackupVaultArn"]);
                self.care(thing)?;
            }
            Noun::Topic => {
                let made: Answer<Named> =
                    self.client.own("POST", "/topics", &[], Some(&json!({ "Name": name })))?;
                self.refs.add(Kind::Topic, name, &made.typed.arn);
            }
            Noun::Subscription => drop(self.subscribe(thing)?),
            Noun::Notifications => {
                self.ask::<PutBackupVaultNotificationsInput>(json!({
                    "BackupVaultName": name,
                    "SNSTopicArn": document.get("SNSTopicArn"),
                    "BackupVaultEvents": document.get("BackupVaultEvents"),
                }))?;
            }
            Noun::Resource => {
                fill(&mut document)?;
                let testing = document.remove("Testing").unwrap_or_default();
                // On or off from its first moment on, so that no plan decides in between.
                if let Some(on) = testing.get("TestAfterBackup") {
                    document.insert("TestAfterBackup".to_owned(), on.clone());
                }
                let body = Value::Object(document);
                let made: Answer<Resource> =
                    self.client.own("POST", "/resources", &[], Some(&body))?;
                self.refs.add(Kind::Resource, name, &made.typed.resource_arn);
                if testing.as_object().is_some_and(|said| said.len() > 1) {
                    self.say(thing, "")?;
                }
            }
            Noun::Exemption => self.exempt(thing)?,
            Noun::Plan => {
                let tags = document.remove("Tags");
                let testing = document.remove("Testing");
                let made = self.ask::<CreateBackupPlanInput>(json!({
                    "BackupPlan": document, "BackupPlanTags": tags, "CreatorRequestId": token,
                }))?;
                let id = made["BackupPlanId"].as_str().unwrap_or_default();
                self.plans.push((name.to_owned(), id.to_owned()));
                if testing.is_some() {
                    self.say(thing, id)?;
                }
            }
            Noun::Selection => self.select_and_say(thing)?,
            Noun::TestingPlan => {
                let tags = document.remove("Tags");
                self.ask::<CreateRestoreTestingPlanInput>(json!({
                    "RestoreTestingPlan": document, "Tags": tags, "CreatorRequestId": token,
                }))?;
            }
            Noun::TestingSelection => {
                self.ask::<CreateRestoreTestingSelectionInput>(json!({
                    "RestoreTestingPlanName": within,
                    "RestoreTestingSelection": document,
                    "CreatorRequestId": token,
                }))?;
            }
        }
        Ok(())
    }

    fn change(
        &mut self,
        wanted: &Thing,
        standing: &Thing,
        change: &Change,
    ) -> Result<(), CliError> {
        let mut document = self.document(wanted)?;
        let (name, within) = (wanted.name.as_str(), wanted.within.as_str());
        match wanted.noun {
            Noun::Vault => {
                self.tag(&standing.id, wanted, standing)?;
                if change.touches("Care") {
                    self.care(wanted)?;
                }
            }
            // It has only a name.
            Noun::Topic => {}
            Noun::Subscription => {
                // The new one first: an event in between is told twice rather than never.
                let made = self.subscribe(wanted)?;
                // What came since it was looked at waits for both; of the old one nothing is given up.
                if let Some(why) = why_not(standing, &waiting(self.client)?) {
                    self.unsubscribe(&made)?;
                    return Err(CliError::Name(why));
                }
                self.remove(standing)?;
            }
            Noun::Notifications | Noun::Exemption => self.create(wanted)?,
            Noun::Resource => {
                let path = format!("/resources/{}", segment(name));
                if let Some(mut body) = asked(wanted, change) {
                    fill(&mut body)?;
                    let body = Value::Object(body);
                    self.client.own::<Value>("POST", &path, &[], Some(&body))?;
                }
                if change.touches("Tags") {
                    let (set, gone) = tags(wanted, standing);
                    let body = json!({ "Set": set, "Remove": gone });
                    let path = format!("{path}/tags");
                    self.client.own::<Value>("POST", &path, &[], Some(&body))?;
                }
                if change.touches("ShrinkAlarmPercent") || change.touches("KeepAtMost") {
                    let or_off = |key: &str| wanted.body.get(key).cloned().unwrap_or(json!(0));
                    let body = json!({
                        "ShrinkAlarmPercent": or_off("ShrinkAlarmPercent"),
                        "KeepAtMost": or_off("KeepAtMost"),
                    });
                    let path = format!("{path}/retention");
                    self.client.own::<Value>("POST", &path, &[], Some(&body))?;
                }
                if change.touches("Testing") {
                    self.say(wanted, "")?;
                }
            }
            Noun::Plan => {
                document.remove("Tags");
                document.remove("Testing");
                // Both are no part of a version.
                if change.touches_other_than(&["Tags", "Testing"]) {
                    self.ask::<UpdateBackupPlanInput>(
                        json!({ "BackupPlanId": standing.id, "BackupPlan": document }),
                    )?;
                }
                if change.touches("Tags") {
                    self.tag(&self.plan_arn(&standing.id)?, wanted, standing)?;
                }
                if change.touches("Testing") {
                    self.say(wanted, &standing.id)?;
                }
            }
            Noun::Selection => {
                if change.touches("Testing") {
                    // Also where the selection goes: what is refused here changes nothing.
                    self.say(wanted, &standing.id)?;
                }
                if change.touches_other_than(&["Testing"]) {
                    self.select_instead(wanted, standing)?;
                }
            }
            Noun::TestingPlan => {
                document.remove("Tags");
                document.remove("RestoreTestingPlanName");
                // What is absent would stay as it was.
                if let Some(Value::Object(points)) = document.get_mut("RecoveryPointSelection") {
                    points.entry("ExcludeVaults").or_insert(json!([]));
                }
                if change.touches_other_than(&["Tags"]) {
                    self.ask::<UpdateRestoreTestingPlanInput>(
                        json!({ "RestoreTestingPlanName": name, "RestoreTestingPlan": document }),
                    )?;
                }
                if change.touches("Tags") {
                    self.tag(&standing.id, wanted, standing)?;
                }
            }
            Noun::TestingSelection => {
                document.remove("RestoreTestingSelectionName");
                document.remove("ProtectedResourceType");
                document.entry("RestoreMetadataOverrides").or_insert(json!({}));
                document
                    .entry("ProtectedResourceConditions")
                    .or_insert(json!({ "StringEquals": [], "StringNotEquals": [] }));
                self.ask::<UpdateRestoreTestingSelectionInput>(json!({
                    "RestoreTestingPlanName": within,
                    "RestoreTestingSelectionName": name,
                    "RestoreTestingSelection": document,
                }))?;
            }
        }
        Ok(())
    }

    fn remove(&self, thing: &Thing) -> Result<(), CliError> {
        let (name, within) = (thing.name.as_str(), thing.within.as_str());
        let own = |path: String| self.client.own::<Value>("DELETE", &path, &[], None).map(drop);
        match thing.noun {
            Noun::Vault => {
                self.ask::<DeleteBackupVaultInput>(json!({ "BackupVaultName": name }))?;
            }
            Noun::Topic => own(format!("/topics/{}", segment(&thing.id)))?,
            Noun::Subscription => self.unsubscribe(&thing.id)?,
            Noun::Notifications => {
                self.ask::<DeleteBackupVaultNotificationsInput>(
                    json!({ "BackupVaultName": name }),
                )?;
            }
            Noun::Resource => own(format!("/resources/{}", segment(&thing.id)))?,
            Noun::Exemption => own(format!("/resources/{}/exemption", segment(name)))?,
            Noun::Plan => {
                self.ask::<DeleteBackupPlanInput>(json!({ "BackupPlanId": thing.id }))?;
            }
            Noun::Selection => {
                self.ask::<DeleteBackupSelectionInput>(
                    json!({ "BackupPlanId": self.plan(within)?, "SelectionId": thing.id }),
                )?;
            }
            Noun::TestingPlan => {
                self.ask::<DeleteRestoreTestingPlanInput>(
                    json!({ "RestoreTestingPlanName": name }),
                )?;
            }
            Noun::TestingSelection => {
                self.ask::<DeleteRestoreTestingSelectionInput>(json!({
                    "RestoreTestingPlanName": within, "RestoreTestingSelectionName": name,
                }))?;
            }
        }
        Ok(())
    }

    fn learn(&mut self, kind: Kind, name: &str, arn: &Value) {
        self.refs.add(kind, name, arn.as_str().unwrap_or_default());
    }

    /// The id of a plan that stands or was made just now.
    fn plan(&self, name: &str) -> Result<&str, CliError> {
        let found = self.plans.iter().find(|(known, _)| known == name);
        found
            .map(|(_, id)| id.as_str())
            .ok_or_else(|| CliError::Name(format!("there is no plan '{name}'")))
    }

    fn plan_arn(&self, id: &str) -> Result<String, CliError> {
        let input = provault_wire::types::GetBackupPlanInput {
            backup_plan_id: Some(id.to_owned()),
            ..Default::default()
        };
        Ok(self.client.ask(&input)?.typed.backup_plan_arn.unwrap_or_default())
    }

    /// Makes a selection, and gives its id.
    fn select(&self, thing: &Thing) -> Result<String, CliError> {
        let mut document = self.document(thing)?;
        document.remove("Testing");
        let made = self.ask::<CreateBackupSelectionInput>(json!({
            "BackupPlanId": self.plan(&thing.within)?,
            "BackupSelection": document,
            "CreatorRequestId": uuid::Uuid::new_v4().to_string(),
        }))?;
        Ok(made["SelectionId"].as_str().unwrap_or_default().to_owned())
    }

    /// Makes a selection, which says about restore tests what it is to say.
    fn select_and_say(&self, thing: &Thing) -> Result<(), CliError> {
        let id = self.select(thing)?;
        if thing.body.contains_key("Testing") { self.say(thing, &id) } else { Ok(()) }
    }

    /// Makes a selection in place of one: it is never changed, and its name is taken as long as it is
    /// there.
    fn select_instead(&self, wanted: &Thing, standing: &Thing) -> Result<(), CliError> {
        self.remove(standing)?;
        match self.select(wanted) {
            Ok(id) if wanted.body.contains_key("Testing") => self.say(wanted, &id),
            Ok(_) => Ok(()),
            // What it selected must not be without a plan for want of a better selection.
            Err(error) => Err(match self.select_and_say(standing) {
                Ok(()) => error,
                Err(second) => CliError::Name(format!(
                    "{error}\nThe selection as it was could not be put back either: {second}\nWhat it \
                     selected is in no plan by it, or not tested as it was, until this is applied again"
                )),
            }),
        }
    }

    /// Says what `thing` is to say about restore tests after backups, or takes back what is said where
    /// that is nothing. `id` is that of the plan or selection; a resource has its name.
    fn say(&self, thing: &Thing, id: &str) -> Result<(), CliError> {
        let of = match thing.noun {
            Noun::Resource => format!("/resources/{}", segment(&thing.name)),
            Noun::Selection => {
                let plan = segment(self.plan(&thing.within)?);
                format!("/backup-plans/{plan}/selections/{}", segment(id))
            }
            _ => format!("/backup-plans/{}", segment(id)),
        };
        let testing = thing.body.get("Testing");
        let method = if testing.is_some() { "PUT" } else { "DELETE" };
        self.client.own::<Value>(method, &format!("{of}/testing"), &[], testing)?;
        Ok(())
    }

    /// Makes a subscription, and gives its id.
    fn subscribe(&self, thing: &Thing) -> Result<String, CliError> {
        let mut input = thing.body.clone();
        input.remove("HasSecret");
        input.remove("Secret");
        if let Some(secret) = secret(thing)? {
            input.insert("Secret".to_owned(), secret.into());
        }
        let path = format!("/topics/{}/subscriptions", segment(&thing.within));
        let made: Answer<Subscription> =
            self.client.own("POST", &path, &[], Some(&Value::Object(input)))?;
        Ok(made.typed.subscription_id)
    }

    fn unsubscribe(&self, id: &str) -> Result<(), CliError> {
        let path = format!("/subscriptions/{}", segment(id));
        self.client.own::<Value>("DELETE", &path, &[], None).map(drop)
    }

    fn care(&self, thing: &Thing) -> Result<(), CliError> {
        let Some(care) = thing.body.get("Care") else { return Ok(()) };
        let path = format!("/vaults/{}/care", segment(&thing.name));
        self.client.own::<Value>("POST", &path, &[], Some(care))?;
        Ok(())
    }

    fn exempt(&self, thing: &Thing) -> Result<(), CliError> {
        let text =
            |key: &str| thing.body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let until: jiff::Timestamp = text("Until")
            .parse()
            .map_err(|_| CliError::usage(format!("{}: Until is no moment", thing.title())))?;
        #[allow(clippy::cast_precision_loss)] // Milliseconds of some thousand years.
        let end_date = until.as_millisecond() as f64 / 1000.0;
        let input = ExemptResourceInput { reason: text("Reason"), owner: text("Owner"), end_date };
        let path = format!("/resources/{}/exemption", segment(&thing.name));
        self.client.own::<Value>("POST", &path, &[], Some(&body(&input)?))?;
        Ok(())
    }

    /// Brings the tags of `arn` to what is wanted.
    fn tag(&self, arn: &str, wanted: &Thing, standing: &Thing) -> Result<(), CliError> {
        let (set, gone) = tags(wanted, standing);
        if !gone.is_empty() {
            self.ask::<UntagResourceInput>(json!({ "ResourceArn": arn, "TagKeyList": gone }))?;
        }
        if !set.is_empty() {
            self.ask::<TagResourceInput>(json!({ "ResourceArn": arn, "Tags": set }))?;
        }
        Ok(())
    }
}

/// Tags to set, and keys of those to remove.
fn tags(wanted: &Thing, standing: &Thing) -> (Map<String, Value>, Vec<String>) {
    let of = |thing: &Thing| {
        thing.body.get("Tags").and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let (wanted, standing) = (of(wanted), of(standing));
    let gone = standing.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
    let set = wanted.into_iter().filter(|(key, value)| standing.get(key) != Some(value)).collect();
    (set, gone)
}

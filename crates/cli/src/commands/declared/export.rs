//! What stands on a server, as a document.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::secret::{environment, from_env};
use super::stand::Stand;
use super::thing::{Noun, Thing};

/// The document. Variables of applications are named and, unless `with_environment`, not told; ended
/// exemptions are nobody's wish any more.
pub(super) fn document(
    stand: &Stand,
    with_environment: bool,
    now: Timestamp,
) -> Map<String, Value> {
    let mut document = Map::new();
    let mut put = |key: &str, list: Vec<Value>| {
        if !list.is_empty() {
            document.insert(key.to_owned(), Value::Array(list));
        }
    };
    put(
        "Vaults",
        stand
            .of(Noun::Vault)
            .map(|vault| {
                with(vault, |entry| {
                    if let Some(notifications) = stand.one(Noun::Notifications, &vault.name) {
                        entry.insert(
                            "Notifications".to_owned(),
                            Value::Object(notifications.body.clone()),
                        );
                    }
                })
            })
            .collect(),
    );
    put(
        "Topics",
        stand
            .of(Noun::Topic)
            .map(|topic| {
                with(topic, |entry| {
                    let subscriptions: Vec<Value> = stand
                        .of(Noun::Subscription)
                        .filter(|one| one.within == topic.name)
                        .enumerate()
                        .map(|(index, one)| subscription(one, index + 1))
                        .collect();
                    entry.insert("Subscriptions".to_owned(), subscriptions.into());
                })
            })
            .collect(),
    );
    put(
        "Resources",
        stand
            .of(Noun::Resource)
            .map(|resource| {
                with(resource, |entry| {
                    if !with_environment {
                        for (name, value) in environment(entry).into_iter().flatten() {
                            *value = from_env(&[&resource.name, name]);
                        }
                    }
                    let exemption = stand.one(Noun::Exemption, &resource.name);
                    if let Some(exemption) = exemption.filter(|exemption| holds(exemption, now)) {
                        entry.insert("Exemption".to_owned(), Value::Object(exemption.body.clone()));
                    }
                })
            })
            .collect(),
    );
    for (key, plan, selection) in [
        ("Plans", Noun::Plan, Noun::Selection),
        ("RestoreTestingPlans", Noun::TestingPlan, Noun::TestingSelection),
    ] {
        put(
            key,
            stand
                .of(plan)
                .map(|plan| {
                    with(plan, |entry| {
                        let selections = stand.of(selection).filter(|one| one.within == plan.name);
                        let selections: Vec<Value> =
                            selections.map(|one| with(one, |_| {})).collect();
                        entry.insert("Selections".to_owned(), selections.into());
                    })
                })
                .collect(),
        );
    }
    document
}

impl Stand {
    fn of(&self, noun: Noun) -> impl Iterator<Item = &Thing> {
        self.things.iter().filter(move |thing| thing.noun == noun)
    }

    fn one(&self, noun: Noun, name: &str) -> Option<&Thing> {
        self.of(noun).find(|thing| thing.name == name)
    }
}

/// A thing as an entry of the document.
fn with(thing: &Thing, more: impl FnOnce(&mut Map<String, Value>)) -> Value {
    let mut entry = thing.body.clone();
    entry.insert(thing.noun.name_member().to_owned(), thing.name.clone().into());
    more(&mut entry);
    entry.retain(|_, value| value != &json!([]));
    Value::Object(entry)
}

fn subscription(thing: &Thing, number: usize) -> Value {
    let mut entry = thing.body.clone();
    if entry.remove("HasSecret") == Some(json!(true)) {
        let parts = [thing.within.as_str(), &number.to_string(), "secret"];
        entry.insert("Secret".to_owned(), from_env(&parts));
    }
    Value::Object(entry)
}

fn holds(exemption: &Thing, now: Timestamp) -> bool {
    let until = exemption.body.get("Until").and_then(Value::as_str);
    until.and_then(|text| text.parse::<Timestamp>().ok()).is_some_and(|until| until > now)
}

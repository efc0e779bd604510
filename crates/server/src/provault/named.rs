//! Roles, keys and topics: what has only a name.

use jiff::Timestamp;
use provault_domain::{Arn, Key, Role, Topic};
use provault_wire::provault as wire;

use super::{Answered, Call};
use crate::answer::Answer;
use crate::convert::epoch;

fn named(arn: &Arn, name: String, created_at: Timestamp) -> wire::Named {
    wire::Named { arn: arn.to_string(), name, creation_date: epoch(created_at) }
}

fn role(role: Role) -> wire::Named {
    named(&role.arn, role.name, role.created_at)
}

fn key(key: Key) -> wire::Named {
    named(&key.arn, key.name, key.created_at)
}

fn topic(topic: Topic) -> wire::Named {
    named(&topic.arn, topic.name, topic.created_at)
}

fn list<T>(items: Vec<T>, each: impl Fn(T) -> wire::Named) -> Answered {
    Answer::json(&wire::NamedList { items: items.into_iter().map(each).collect() })
}

pub(super) async fn add_role(call: &Call<'_>) -> Answered {
    let input: wire::AddNameInput = call.input()?;
    Answer::json(&role(Call::done(call.app.add_role(call.caller, &input.name).await)?))
}

pub(super) async fn list_roles(call: &Call<'_>) -> Answered {
    list(Call::done(call.app.list_roles(call.caller).await)?, role)
}

pub(super) async fn remove_role(call: &Call<'_>, name: &str) -> Answered {
    Call::nothing(call.app.remove_role(call.caller, name).await)
}

pub(super) async fn add_key(call: &Call<'_>) -> Answered {
    let input: wire::AddNameInput = call.input()?;
    Answer::json(&key(Call::done(call.app.add_key(call.caller, &input.name).await)?))
}

pub(super) async fn list_keys(call: &Call<'_>) -> Answered {
    list(Call::done(call.app.list_keys(call.caller).await)?, key)
}

pub(super) async fn remove_key(call: &Call<'_>, name: &str) -> Answered {
    Call::nothing(call.app.remove_key(call.caller, name).await)
}

pub(super) async fn add_topic(call: &Call<'_>) -> Answered {
    let input: wire::AddNameInput = call.input()?;
    Answer::json(&topic(Call::done(call.app.add_topic(call.caller, &input.name).await)?))
}

pub(super) async fn list_topics(call: &Call<'_>) -> Answered {
    list(Call::done(call.app.list_topics(call.caller).await)?, topic)
}

pub(super) async fn remove_topic(call: &Call<'_>, name: &str) -> Answered {
    Call::nothing(call.app.remove_topic(call.caller, name).await)
}

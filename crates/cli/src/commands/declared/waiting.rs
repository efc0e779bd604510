//! Notifications that wait for a subscription, and would be given up with it.

use std::collections::BTreeMap;

use provault_wire::provault::DeliveryList;

use super::diff::Difference;
use super::thing::{Noun, Thing};
use crate::client::{Answer, Client};
use crate::error::CliError;

/// Holds back changes of subscriptions for which notifications wait. There is no operation that changes
/// one: another is made in its place, and what waits for the one that goes is given up.
pub(super) fn hold_back(client: &Client, difference: &mut Difference) -> Result<(), CliError> {
    let changed = difference.changes.iter().filter_map(|change| {
        let standing = change.standing.as_ref().filter(|_| change.wanted.is_some())?;
        (standing.noun == Noun::Subscription).then(|| standing.clone())
    });
    let changed: Vec<Thing> = changed.collect();
    if changed.is_empty() {
        return Ok(());
    }
    let waiting = waiting(client)?;
    difference.stuck.extend(changed.iter().filter_map(|standing| why_not(standing, &waiting)));
    Ok(())
}

/// How many notifications wait, by the ids of their subscriptions.
pub(super) fn waiting(client: &Client) -> Result<BTreeMap<String, usize>, CliError> {
    let query = [("state", "WAITING")];
    let list: Answer<DeliveryList> = client.own_all("/deliveries", &query, "Deliveries")?;
    let mut waiting = BTreeMap::new();
    for delivery in list.typed.deliveries {
        *waiting.entry(delivery.subscription_id).or_default() += 1;
    }
    Ok(waiting)
}

/// Why a subscription is not changed now, and what to do; nothing where none waits for it.
pub(super) fn why_not(standing: &Thing, waiting: &BTreeMap<String, usize>) -> Option<String> {
    let count = waiting.get(&standing.id)?;
    let wait = if *count == 1 { "notification waits" } else { "notifications wait" };
    Some(format!(
        "{}: {count} {wait} for it and would be given up, as a changed subscription is another one; apply \
         again when `provault delivery list` shows none that waits, or give them up with `provault topic \
         unsubscribe {}` and apply then",
        standing.title(),
        standing.id
    ))
}

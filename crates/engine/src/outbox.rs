//! Sending what the outbox holds.
//!
//! A delivery is leased, sent, and marked; a crash between sending and marking sends it again with
//! the same message id, so that a receiver can tell.
//!
//! A receiver that is down for a day fails some hundred times. The log warns when a subscription
//! begins to fail and tells when it recovers; what comes between stands in the deliveries.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use provault_catalog::{CatalogError, Delivery};
use provault_domain::Subscription;
use provault_notify::{DeliveryError, DigestPart, Receipt};

use crate::Result;
use crate::shared::Shared;
use crate::subscription::carry;

const AT_ONCE: u32 = 16;
/// Notifications that one digest holds at most; more go into the next.
const LARGEST_DIGEST: u32 = 500;

/// Sends what is due; whether there was anything.
pub(crate) async fn tick(shared: &Arc<Shared>) -> Result<bool> {
    let due = shared
        .catalog
        .claim_deliveries(&shared.owner, shared.now(), shared.lease_until(), AT_ONCE)
        .await?;
    let any = !due.is_empty();
    let mut receivers: BTreeMap<String, Vec<Delivery>> = BTreeMap::new();
    for delivery in due {
        receivers.entry(delivery.subscription_id.clone()).or_default().push(delivery);
    }
    let mut sending = tokio::task::JoinSet::new();
    for (id, due) in receivers {
        let receiver = shared.catalog.subscription(&id).await;
        if let Ok(Some(subscription)) = &receiver
            && subscription.digest_minutes.is_some()
        {
            sending.spawn(send_together(Arc::clone(shared), subscription.clone(), due));
            continue;
        }
        for delivery in due {
            sending.spawn(send_alone(Arc::clone(shared), receiver.clone(), delivery));
        }
    }
    while sending.join_next().await.is_some() {}
    Ok(any)
}

type Found = std::result::Result<Option<Subscription>, CatalogError>;

async fn send_alone(shared: Arc<Shared>, receiver: Found, delivery: Delivery) {
    let (id, subscription) = (delivery.id.clone(), delivery.subscription_id.clone());
    let attempts = delivery.attempts + 1;
    let sent = send(&shared, receiver, delivery).await;
    let now = shared.now();
    let marked = match sent {
        Ok(_) => {
            recovered(&shared, &subscription);
            shared.catalog.delivery_succeeded(&id, now).await
        }
        Err(error) => {
            let next = error.retryable.then(|| provault_notify::retry_at(attempts, now)).flatten();
            failed(&shared, &subscription, &id, &error);
            shared.catalog.delivery_failed(&id, now, next, &error.message).await
        }
    };
    if let Err(error) = marked {
        not_marked(&id, &error);
    }
}

async fn send(
    shared: &Arc<Shared>,
    receiver: Found,
    delivery: Delivery,
) -> std::result::Result<Receipt, DeliveryError> {
    let mut subscription = match receiver {
        Ok(Some(subscription)) => subscription,
        Ok(None) => {
            let message = "the subscription was deleted".to_owned();
            return Err(DeliveryError { retryable: false, message });
        }
        Err(error) => {
            return Err(DeliveryError { retryable: true, message: error.to_string() });
        }
    };
    subscription.target = delivery.target;
    let message = provault_notify::render(&delivery.notification);
    carry(shared, subscription, delivery.id, delivery.notification.at, message).await
}

/// Sends a digest of `due` and whatever else is due for the receiver.
async fn send_together(shared: Arc<Shared>, receiver: Subscription, mut due: Vec<Delivery>) {
    let subscription = receiver.id.clone();
    let (now, lease_until) = (shared.now(), shared.lease_until());
    let rest = shared
        .catalog
        .claim_deliveries_of(&subscription, &shared.owner, now, lease_until, LARGEST_DIGEST)
        .await;
    match rest {
        Ok(rest) => due.extend(rest),
        Err(error) => tracing::error!(%error, "a digest goes out without all that is due"),
    }
    if due.len() == 1
        && let Some(delivery) = due.pop()
    {
        return send_alone(shared, Ok(Some(receiver)), delivery).await;
    }
    due.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    let part = |delivery: &Delivery| DigestPart {
        delivery_id: delivery.id.clone(),
        at: delivery.notification.at,
        message: provault_notify::render(&delivery.notification),
    };
    let parts: Vec<DigestPart> = due.iter().map(part).collect();
    let (id, message) = provault_notify::digest(&receiver, &parts);
    let at = parts.iter().map(|part| part.at).max().unwrap_or(now);
    let sent = carry(&shared, receiver, id.clone(), at, message).await;
    let now = shared.now();
    let marked = match sent {
        Ok(_) => {
            recovered(&shared, &subscription);
            let ids: Vec<String> = due.into_iter().map(|delivery| delivery.id).collect();
            shared.catalog.deliveries_succeeded(&ids, now).await
        }
        Err(error) => {
            failed(&shared, &subscription, &id, &error);
            not_together(&shared, due, &error).await
        }
    };
    if let Err(error) = marked {
        not_marked(&id, &error);
    }
}

/// What did not arrive together is tried again together: when it is the turn of the one that was
/// tried most often.
async fn not_together(
    shared: &Shared,
    due: Vec<Delivery>,
    error: &DeliveryError,
) -> std::result::Result<(), CatalogError> {
    let now = shared.now();
    let turn = |attempts| provault_notify::retry_at(attempts, now);
    let together =
        due.iter().filter_map(|d| error.retryable.then(|| turn(d.attempts + 1)).flatten()).max();
    for delivery in due {
        let next = turn(delivery.attempts + 1).and(together);
        shared.catalog.delivery_failed(&delivery.id, now, next, &error.message).await?;
    }
    Ok(())
}

fn not_marked(delivery: &str, error: &CatalogError) {
    tracing::error!(delivery, %error, "a delivery was not marked and will be sent again");
}

fn failed(shared: &Shared, subscription: &str, delivery: &str, error: &DeliveryError) {
    let mut failing = shared.failing.lock().unwrap_or_else(PoisonError::into_inner);
    if failing.insert(subscription.to_owned()) {
        tracing::warn!(
            subscription,
            delivery,
            %error,
            "a subscription fails; see its deliveries for what comes next"
        );
    } else {
        tracing::debug!(subscription, delivery, %error, "not delivered");
    }
}

fn recovered(shared: &Shared, subscription: &str) {
    let mut failing = shared.failing.lock().unwrap_or_else(PoisonError::into_inner);
    if failing.remove(subscription) {
        tracing::info!(subscription, "a subscription that failed receives again");
    }
}

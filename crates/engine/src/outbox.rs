//! Sending what the outbox holds.
//!
//! A delivery is leased, sent, and marked; a crash between sending and marking sends it again with
//! the same message id, so that a receiver can tell. Of a digest it is written down before what it holds, since
//! its id is made of that.
//!
//! **Receivers do not wait for each other.** There are no rounds: whatever is due is sent as soon as
//! its receiver has room, and each has room of its own. One that lets its senders hang keeps only
//! them; one that fails is tried by a single sender at a time, until it receives again.
//!
//! A receiver that is down for a day fails some hundred times. The log warns when a subscription
//! begins to fail and tells when it recovers; what comes between stands in the deliveries.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use provault_catalog::{CatalogError, Delivery};
use provault_domain::Subscription;
use provault_notify::{DeliveryError, DigestPart, Receipt};
use tokio::task::{Id, JoinError, JoinSet};

use crate::Result;
use crate::shared::Shared;
use crate::subscription::carry;

/// Senders at a time, each of which may hold a thread for as long as its receiver hangs.
const AT_ONCE: usize = 64;
/// As many of them as may be with receivers whose last delivery failed; the others are for those
/// that receive.
const FAILING_AT_ONCE: usize = 32;
/// Senders at a time to one receiver.
const TO_ONE: usize = 4;
/// Notifications that one digest holds at most; more go into the next.
const LARGEST_DIGEST: u32 = 500;

/// The senders at work.
pub(crate) struct Outbox {
    shared: Arc<Shared>,
    sending: JoinSet<()>,
    /// The subscription that each of them sends to.
    receivers: HashMap<Id, String>,
}

impl Outbox {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let shared = Arc::clone(shared);
        Self { shared, sending: JoinSet::new(), receivers: HashMap::new() }
    }

    /// Begins to send what is due, to every receiver that has room.
    pub(crate) async fn send_due(&mut self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        for id in shared.catalog.receivers_due(shared.now()).await? {
            let room = self.room(&id);
            if room == 0 {
                continue;
            }
            let receiver = shared.catalog.subscription(&id).await;
            let digest =
                matches!(&receiver, Ok(Some(receiver)) if receiver.digest_minutes.is_some());
            if digest && self.receivers.values().any(|busy| *busy == id) {
                // What is due meanwhile goes out together, too.
                continue;
            }
            let limit = if digest { LARGEST_DIGEST } else { u32::try_from(room).unwrap_or(1) };
            let (now, lease_until) = (shared.now(), shared.lease_until());
            let (catalog, owner) = (&shared.catalog, &shared.owner);
            let due = if digest {
                catalog.claim_digest(&id, owner, now, lease_until, limit).await?
            } else {
                catalog.claim_deliveries(&id, owner, now, lease_until, limit).await?
            };
            if due.is_empty() {
                // Another server was faster.
                continue;
            }
            match receiver {
                Ok(Some(receiver)) if digest => {
                    self.begin(id, send_together(Arc::clone(&shared), receiver, due));
                }
                receiver => {
                    for delivery in due {
                        let sender = send_alone(Arc::clone(&shared), receiver.clone(), delivery);
                        self.begin(id.clone(), sender);
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, receiver: String, sender: impl Future<Output = ()> + Send + 'static) {
        let task = self.sending.spawn(sender);
        self.receivers.insert(task.id(), receiver);
    }

    fn room(&self, receiver: &str) -> usize {
        let failing = self.shared.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let busy: Vec<&str> = self.receivers.values().map(String::as_str).collect();
        room(receiver, &busy, &failing)
    }

    /// Waits until a sender is done, which may be for ever: then its receiver has room again.
    pub(crate) async fn sender_done(&mut self) {
        let Some(ended) = self.sending.join_next_with_id().await else {
            return std::future::pending().await;
        };
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => broke_down(&error),
        };
        self.receivers.remove(&id);
    }
}

/// Senders that may begin to send to a receiver now, where `busy` has the receiver of each that is
/// at work.
fn room(receiver: &str, busy: &[&str], failing: &HashSet<String>) -> usize {
    let own = busy.iter().filter(|busy| **busy == receiver).count();
    let free = AT_ONCE.saturating_sub(busy.len());
    if !failing.contains(receiver) {
        return free.min(TO_ONE.saturating_sub(own));
    }
    let with_failing = busy.iter().filter(|busy| failing.contains(**busy)).count();
    let free = free.min(FAILING_AT_ONCE.saturating_sub(with_failing));
    free.min(1_usize.saturating_sub(own))
}

/// What a sender had leased is sent again when the lease is over.
fn broke_down(error: &JoinError) -> Id {
    tracing::error!(%error, "a sender of notifications broke down");
    error.id()
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

/// Sends a digest of all that is due for a receiver.
async fn send_together(shared: Arc<Shared>, receiver: Subscription, mut due: Vec<Delivery>) {
    let subscription = receiver.id.clone();
    if due.len() == 1
        && let Some(delivery) = due.pop()
    {
        return send_alone(shared, Ok(Some(receiver)), delivery).await;
    }
    let part = |delivery: &Delivery| DigestPart {
        delivery_id: delivery.id.clone(),
        at: delivery.notification.at,
        message: provault_notify::render(&delivery.notification),
    };
    let parts: Vec<DigestPart> = due.iter().map(part).collect();
    let (id, message) = provault_notify::digest(&receiver, &parts);
    let at = parts.iter().map(|part| part.at).max().unwrap_or_else(|| shared.now());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_receiver_has_room_of_its_own() {
        let nobody = HashSet::new();
        assert_eq!(room("a", &[], &nobody), TO_ONE);
        assert_eq!(room("a", &["a", "b", "a", "b"], &nobody), TO_ONE - 2);
        assert_eq!(room("a", &["a"; TO_ONE], &nobody), 0);
        assert_eq!(room("b", &["a"; TO_ONE], &nobody), TO_ONE);
    }

    #[test]
    fn those_that_fail_leave_room_for_those_that_receive() {
        let names: Vec<String> = (0..AT_ONCE).map(|n| format!("dead-{n}")).collect();
        let failing: HashSet<String> = names.iter().cloned().collect();
        let busy: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(room("dead-0", &[], &failing), 1);
        assert_eq!(room("dead-0", &["dead-0"], &failing), 0);
        // What hung before it was known to fail still counts.
        assert_eq!(room("dead-0", &["dead-0"; TO_ONE], &failing), 0);
        let crowd = &busy[..FAILING_AT_ONCE];
        assert_eq!(room(&names[FAILING_AT_ONCE], crowd, &failing), 0);
        assert_eq!(room("alive", crowd, &failing), TO_ONE);
        assert_eq!(room("alive", &busy, &failing), 0, "there is an end to it");
    }
}

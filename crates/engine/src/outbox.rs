//! Sending what the outbox holds.
//!
//! A delivery is leased, sent, and marked; a crash between sending and marking sends it again with
//! the same message id, so that a receiver can tell.

use std::sync::Arc;

use provault_notify::DeliveryContext;

use crate::Result;
use crate::pause::pause;
use crate::shared::{Shared, blocking};

const AT_ONCE: u32 = 16;

/// Sends what is due; whether there was anything.
pub(crate) async fn tick(shared: &Arc<Shared>) -> Result<bool> {
    let due = shared
        .catalog
        .claim_deliveries(&shared.owner, shared.now(), shared.lease_until(), AT_ONCE)
        .await?;
    let any = !due.is_empty();
    let mut sending = tokio::task::JoinSet::new();
    for delivery in due {
        let shared = Arc::clone(shared);
        sending.spawn(async move {
            let id = delivery.id.clone();
            let attempts = delivery.attempts + 1;
            let sent = blocking(move || {
                let context = DeliveryContext {
                    delivery_id: delivery.id.clone(),
                    topic_arn: delivery.topic_arn.clone(),
                    subscription_id: delivery.subscription_id.clone(),
                    account: delivery.account.clone(),
                    at: delivery.notification.at,
                    time_limit: provault_notify::DEFAULT_TIME_LIMIT,
                };
                let message = provault_notify::render(&delivery.notification);
                let sent = provault_notify::deliver(&delivery.target, &message, &context);
                if sent.is_ok() {
                    pause("delivery:sent");
                }
                sent
            })
            .await;
            let now = shared.now();
            let marked = match sent {
                Ok(Ok(_)) => shared.catalog.delivery_succeeded(&id, now).await,
                Ok(Err(error)) => {
                    let next = error.retryable.then(|| provault_notify::retry_at(attempts, now)).flatten();
                    tracing::warn!(delivery = id, attempts, %error, retry = ?next, "not delivered");
                    shared.catalog.delivery_failed(&id, now, next, &error.to_string()).await
                }
                Err(error) => {
                    let next = provault_notify::retry_at(attempts, now);
                    shared.catalog.delivery_failed(&id, now, next, &error.to_string()).await
                }
            };
            if let Err(error) = marked {
                tracing::error!(delivery = id, %error, "a delivery was not marked and will be sent again");
            }
        });
    }
    while sending.join_next().await.is_some() {}
    Ok(any)
}

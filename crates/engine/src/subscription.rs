//! Subscriptions: their secrets, and carrying one message to one of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use provault_domain::{Subscription, SubscriptionTarget};
use provault_notify::{DeliveryContext, DeliveryError, Message, Receipt};

use crate::Result;
use crate::engine::Engine;
use crate::keyring::SERVER_KEY;
use crate::pause::pause;
use crate::shared::{Shared, blocking};

/// What became of a test message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionTest {
    /// Whether the receiver has it.
    pub delivered: bool,
    /// What the receiver said, or why it could not be told.
    pub detail: String,
}

impl Engine {
    /// Whether subscriptions may run commands on this machine.
    pub fn runs_commands(&self) -> bool {
        self.shared.command_subscriptions.load(Ordering::Relaxed)
    }

    /// Lets subscriptions run commands from now on, or no longer; what waits for that is tried again by itself.
    pub fn let_commands_run(&self, allowed: bool) {
        self.shared.command_subscriptions.store(allowed, Ordering::Relaxed);
        self.wake();
    }

    /// Seals the secret, if there is one, and enters the subscription.
    pub async fn subscribe(
        &self,
        mut subscription: Subscription,
        secret: Option<String>,
    ) -> Result<Subscription> {
        if let Some(secret) = secret {
            let (shared, context) = (Arc::clone(&self.shared), context_of(&subscription.id));
            let seal = move || shared.keyring.seal(SERVER_KEY, &context, secret.as_bytes());
            subscription.sealed_secret = Some(blocking(seal).await??);
        }
        self.shared.catalog.insert_subscription(&subscription).await?;
        Ok(subscription)
    }

    /// Sends a message that says it is a test, at once and once. It is no delivery: nothing is
    /// entered, and nothing tried again.
    pub async fn test_subscription(&self, subscription: Subscription) -> SubscriptionTest {
        let (id, now) = (uuid::Uuid::new_v4().to_string(), self.now());
        let message = provault_notify::test_message(&subscription, &id, now);
        match carry(&self.shared, subscription, id, now, message).await {
            Ok(receipt) => SubscriptionTest { delivered: true, detail: receipt.detail },
            Err(error) => SubscriptionTest { delivered: false, detail: error.message },
        }
    }
}

/// What a secret is sealed for: put into another subscription's row it does not open.
fn context_of(subscription: &str) -> String {
    format!("subscription {subscription}")
}

/// Carries a message about what happened at `at` to a receiver, once.
pub(crate) async fn carry(
    shared: &Arc<Shared>,
    subscription: Subscription,
    delivery_id: String,
    at: Timestamp,
    message: Message,
) -> std::result::Result<Receipt, DeliveryError> {
    let is_command = matches!(subscription.target, SubscriptionTarget::Command { .. });
    if is_command && !shared.command_subscriptions.load(Ordering::Relaxed) {
        return Err(later(
            "this server runs no commands: start it with --allow-command-subscriptions. The \
             delivery is tried again.",
        ));
    }
    let shared = Arc::clone(shared);
    let sent = blocking(move || {
        let secret = match &subscription.sealed_secret {
            None => None,
            Some(sealed) => {
                let opened =
                    shared.keyring.unseal(SERVER_KEY, &context_of(&subscription.id), sealed);
                Some(opened.map_err(|error| later(error.to_string()))?)
            }
        };
        let context = DeliveryContext {
            delivery_id,
            time_limit: provault_notify::time_limit(&subscription.target),
            topic_arn: subscription.topic_arn,
            subscription_id: subscription.id,
            account: subscription.account,
            at,
            now: shared.now(),
        };
        let sent =
            provault_notify::deliver(&subscription.target, secret.as_deref(), &message, &context);
        if sent.is_ok() {
            pause("delivery:sent");
        }
        sent
    });
    sent.await.unwrap_or_else(|error| Err(later(error.to_string())))
}

fn later(message: impl Into<String>) -> DeliveryError {
    DeliveryError { retryable: true, message: message.into() }
}

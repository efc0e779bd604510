//! Subscriptions: who receives what comes to a topic.

use provault_domain::topic::{validate_digest, validate_events};
use provault_domain::{Subscription, SubscriptionTarget};
use provault_engine::SubscriptionTest;
use provault_iam::PrincipalKind;

use crate::{App, AppError, Caller, Result, new_id};

/// A receiver to add to a topic. Without `Debug`, since it holds a secret.
pub struct NewSubscription {
    /// How and where it receives.
    pub target: SubscriptionTarget,
    /// The events it wants; empty: all that come to the topic.
    pub events: Vec<String>,
    /// How many minutes events are collected before they go out as one message.
    pub digest_minutes: Option<u32>,
    /// What signs a webhook's messages, or the password of a mail server's user.
    pub secret: Option<String>,
}

impl App {
    /// `provault:Subscribe`. A command is for the root identity alone, on a server that was started
    /// to allow it: it does on this machine whatever it likes.
    pub async fn subscribe(
        &self,
        caller: &Caller,
        topic: &str,
        new: NewSubscription,
    ) -> Result<Subscription> {
        const ACTION: &str = "provault:Subscribe";
        self.audited(caller, ACTION, topic, async {
            self.permit(caller, ACTION, "*")?;
            if matches!(new.target, SubscriptionTarget::Command { .. }) {
                self.permit_commands(caller)?;
            }
            let topic = self.topic_named(caller, topic).await?;
            new.target.validate()?;
            new.target.validate_secret(new.secret.as_deref())?;
            validate_events(&new.events)?;
            validate_digest(new.digest_minutes)?;
            let subscription = Subscription {
                id: new_id(),
                account: caller.account().clone(),
                topic_arn: topic.arn,
                target: new.target,
                events: new.events,
                digest_minutes: new.digest_minutes,
                sealed_secret: None,
                created_at: self.now(),
            };
            Ok(self.engine().subscribe(subscription, new.secret).await?)
        })
        .await
    }

    fn permit_commands(&self, caller: &Caller) -> Result<()> {
        if caller.principal().kind() != PrincipalKind::Root {
            return Err(AppError::access_denied(
                "Only the root identity may subscribe a command: it runs on the server.",
            ));
        }
        if !self.engine().runs_commands() {
            return Err(AppError::refused(
                "This server runs no commands; start it with --allow-command-subscriptions.",
            ));
        }
        Ok(())
    }

    /// `provault:ListSubscriptions`.
    pub async fn list_subscriptions(
        &self,
        caller: &Caller,
        topic: &str,
    ) -> Result<Vec<Subscription>> {
        self.permit(caller, "provault:ListSubscriptions", "*")?;
        let topic = self.topic_named(caller, topic).await?;
        Ok(self.catalog().list_subscriptions(&topic.arn).await?)
    }

    /// `provault:TestSubscription`: sends a message that says it is a test, at once, and tells what
    /// the receiver said. That it did not arrive is an answer, not an error.
    pub async fn test_subscription(&self, caller: &Caller, id: &str) -> Result<SubscriptionTest> {
        const ACTION: &str = "provault:TestSubscription";
        self.audited(caller, ACTION, id, async {
            self.permit(caller, ACTION, "*")?;
            let found = self.catalog().subscription(id).await?;
            let Some(subscription) = found.filter(|found| found.account == *caller.account())
            else {
                return Err(AppError::not_found(format!(
                    "There is no subscription '{id}'; see `provault topic subscriptions TOPIC` for \
                     those there are."
                )));
            };
            Ok(self.engine().test_subscription(subscription).await)
        })
        .await
    }

    /// `provault:Unsubscribe`.
    pub async fn unsubscribe(&self, caller: &Caller, id: &str) -> Result<()> {
        const ACTION: &str = "provault:Unsubscribe";
        self.audited(caller, ACTION, id, async {
            self.permit(caller, ACTION, "*")?;
            Ok(self.catalog().delete_subscription(caller.account(), id).await?)
        })
        .await
    }
}

//! Subscriptions: who receives what comes to a topic.

use provault_domain::topic::{validate_digest, validate_events};
use provault_domain::{Subscription, SubscriptionTarget};
use provault_engine::SubscriptionTest;
use provault_iam::PrincipalKind;

use crate::{App, AppError, Caller, Result, new_id};

/// Who may take everything away may also read what a receiver answers: for all others the server would be
/// a way to look around in its network.
pub(crate) const TRUSTED: &str = "provault:ExportRecoveryKit";

/// A receiver's error without what the receiver said.
pub(crate) fn without_quotes(text: &str) -> String {
    let (Some(begin), Some(end)) = (text.find(" (\""), text.rfind("\")")) else {
        return text.to_owned();
    };
    if end < begin {
        return text.to_owned();
    }
    format!("{}{}", &text[..begin], &text[end + 2..])
}

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
            let topic = self.permitted_topic(caller, ACTION, topic).await?;
            if matches!(new.target, SubscriptionTarget::Command { .. }) {
                self.permit_commands(caller)?;
            }
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

    /// `provault:ListSubscriptions`. The parts of a receiver's address that let anybody send to it are for
    /// those alone who may subscribe.
    pub async fn list_subscriptions(
        &self,
        caller: &Caller,
        topic: &str,
    ) -> Result<Vec<Subscription>> {
        let topic = self.permitted_topic(caller, "provault:ListSubscriptions", topic).await?;
        let mut all = self.catalog().list_subscriptions(&topic.arn).await?;
        if !self.may(caller, "provault:Subscribe", topic.arn.as_str()) {
            for subscription in &mut all {
                subscription.target = subscription.target.without_secrets();
            }
        }
        Ok(all)
    }

    /// A subscription of a topic to which the caller may do `action`.
    async fn permitted_subscription(
        &self,
        caller: &Caller,
        action: &str,
        id: &str,
    ) -> Result<Subscription> {
        let found = self.catalog().subscription(id).await?;
        let own = found.filter(|found| found.account == *caller.account());
        let found = own.ok_or_else(|| {
            AppError::not_found(format!(
                "There is no subscription '{id}'; see `provault topic subscriptions TOPIC` for \
                 those there are."
            ))
        });
        self.permit_found(caller, action, id, found, |found| vec![found.topic_arn.to_string()])
    }

    /// `provault:TestSubscription`: sends a message that says it is a test, at once, and tells what
    /// the receiver said. That it did not arrive is an answer, not an error.
    pub async fn test_subscription(&self, caller: &Caller, id: &str) -> Result<SubscriptionTest> {
        const ACTION: &str = "provault:TestSubscription";
        self.audited(caller, ACTION, id, async {
            let subscription = self.permitted_subscription(caller, ACTION, id).await?;
            let mut test = self.engine().test_subscription(subscription).await;
            if !self.may(caller, TRUSTED, "*") {
                test.detail = without_quotes(&test.detail);
            }
            Ok(test)
        })
        .await
    }

    /// `provault:Unsubscribe`.
    pub async fn unsubscribe(&self, caller: &Caller, id: &str) -> Result<()> {
        const ACTION: &str = "provault:Unsubscribe";
        self.audited(caller, ACTION, id, async {
            self.permitted_subscription(caller, ACTION, id).await?;
            Ok(self.catalog().delete_subscription(caller.account(), id).await?)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_receiver_said_is_left_out() {
        let said = "http://h answers HTTP 500 (\"a (\"b\") c\"). The delivery is tried again.";
        let kept = "http://h answers HTTP 500. The delivery is tried again.";
        assert_eq!(without_quotes(said), kept);
        for same in [kept, "", "\") (\"", " (\"open"] {
            assert_eq!(without_quotes(same), same);
        }
    }
}

//! Topics, their subscriptions, and what became of notifications.

use provault_catalog::Delivery;
use provault_domain::resource::validate_name;
use provault_domain::{Arn, Subscription, SubscriptionTarget, Topic};

use crate::role::name_or_arn;
use crate::{App, AppError, Caller, Result, new_id};

/// A notification on its way to one receiver, in words.
#[derive(Debug, Clone)]
pub struct DeliveryView {
    /// The delivery.
    pub delivery: Delivery,
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub message: String,
}

impl App {
    async fn topic_named(&self, caller: &Caller, name: &str) -> Result<Topic> {
        let unknown = || {
            AppError::not_found(format!(
                "There is no topic '{name}'; see `provault topic list` for those there are."
            ))
        };
        let arn = name_or_arn(name, |name| Arn::topic(self.region(), caller.account(), name))
            .map_err(|_| unknown())?;
        let topic = self.catalog().topic(&arn).await?;
        topic.filter(|topic| topic.account == *caller.account()).ok_or_else(unknown)
    }

    /// `provault:AddTopic`.
    pub async fn add_topic(&self, caller: &Caller, name: &str) -> Result<Topic> {
        const ACTION: &str = "provault:AddTopic";
        self.audited(caller, ACTION, name, async {
            self.permit(caller, ACTION, "*")?;
            validate_name("Name", name)?;
            let arn = Arn::topic(self.region(), caller.account(), name);
            if self.catalog().topic(&arn).await?.is_some() {
                return Err(AppError::exists(
                    format!("A topic '{name}' exists already: {arn}."),
                    Some(arn),
                ));
            }
            let topic = Topic {
                arn,
                account: caller.account().clone(),
                name: name.to_owned(),
                created_at: self.now(),
            };
            self.catalog().insert_topic(&topic).await?;
            Ok(topic)
        })
        .await
    }

    /// `provault:ListTopics`.
    pub async fn list_topics(&self, caller: &Caller) -> Result<Vec<Topic>> {
        self.permit(caller, "provault:ListTopics", "*")?;
        Ok(self.catalog().list_topics(caller.account()).await?)
    }

    /// `provault:RemoveTopic`, by name or ARN, with its subscriptions. Refused while a vault sends
    /// to it.
    pub async fn remove_topic(&self, caller: &Caller, name: &str) -> Result<()> {
        const ACTION: &str = "provault:RemoveTopic";
        self.audited(caller, ACTION, name, async {
            self.permit(caller, ACTION, "*")?;
            let topic = self.topic_named(caller, name).await?;
            Ok(self.catalog().delete_topic(&topic.arn).await?)
        })
        .await
    }

    /// `provault:Subscribe`.
    pub async fn subscribe(
        &self,
        caller: &Caller,
        topic: &str,
        target: SubscriptionTarget,
    ) -> Result<Subscription> {
        const ACTION: &str = "provault:Subscribe";
        self.audited(caller, ACTION, topic, async {
            self.permit(caller, ACTION, "*")?;
            let topic = self.topic_named(caller, topic).await?;
            target.validate()?;
            let subscription = Subscription {
                id: new_id(),
                account: caller.account().clone(),
                topic_arn: topic.arn,
                target,
                created_at: self.now(),
            };
            self.catalog().insert_subscription(&subscription).await?;
            Ok(subscription)
        })
        .await
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

    /// `provault:Unsubscribe`.
    pub async fn unsubscribe(&self, caller: &Caller, id: &str) -> Result<()> {
        const ACTION: &str = "provault:Unsubscribe";
        self.audited(caller, ACTION, id, async {
            self.permit(caller, ACTION, "*")?;
            Ok(self.catalog().delete_subscription(caller.account(), id).await?)
        })
        .await
    }

    /// `provault:ListDeliveries`, of one job or of all.
    pub async fn list_deliveries(
        &self,
        caller: &Caller,
        job_id: Option<&str>,
    ) -> Result<Vec<DeliveryView>> {
        self.permit(caller, "provault:ListDeliveries", "*")?;
        let deliveries = self.catalog().list_deliveries(caller.account(), job_id).await?;
        let worded = deliveries.into_iter().map(|delivery| {
            let message = provault_engine::render(&delivery.notification);
            DeliveryView { delivery, subject: message.subject, message: message.text }
        });
        Ok(worded.collect())
    }
}

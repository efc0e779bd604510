//! Topics.

use provault_domain::resource::validate_name;
use provault_domain::{Arn, Topic};

use crate::role::name_or_arn;
use crate::{App, AppError, Caller, Result};

impl App {
    pub(crate) async fn topic_named(&self, caller: &Caller, name: &str) -> Result<Topic> {
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

    /// A topic by name or ARN to which the caller may do `action`.
    pub(crate) async fn permitted_topic(
        &self,
        caller: &Caller,
        action: &str,
        name: &str,
    ) -> Result<Topic> {
        let found = self.topic_named(caller, name).await;
        self.permit_found(caller, action, name, found, |topic| vec![topic.arn.to_string()])
    }

    /// `provault:AddTopic`.
    pub async fn add_topic(&self, caller: &Caller, name: &str) -> Result<Topic> {
        const ACTION: &str = "provault:AddTopic";
        self.audited(caller, ACTION, name, async {
            let arn = Arn::topic(self.region(), caller.account(), name);
            self.permit(caller, ACTION, &arn)?;
            validate_name("Name", name)?;
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
            let topic = self.permitted_topic(caller, ACTION, name).await?;
            Ok(self.catalog().delete_topic(&topic.arn).await?)
        })
        .await
    }
}

//! `topic`: where notifications go.

use std::path::PathBuf;

use provault_wire::provault::{
    Delivery, DeliveryList, MailFile, SubscribeInput, Subscription, SubscriptionList,
};
use serde_json::Value;

use super::resource::body;
use super::{Context, absolute, gone, named};
use crate::client::{Answer, segment};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, dash, epoch};

#[derive(Debug, clap::Subcommand)]
pub enum TopicCommand {
    /// Add a topic and print its ARN
    Add {
        /// Its name
        name: String,
    },
    /// List all topics
    List,
    /// Remove a topic and its subscriptions
    Remove {
        /// Name or ARN
        topic: String,
    },
    /// Send what a topic gets to a receiver, and print the subscription's id
    Subscribe {
        /// Name or ARN of the topic
        topic: String,
        /// Address, http:// or https://, that gets every notification by POST, in an SNS envelope
        #[arg(long, value_name = "URL", conflicts_with_all = ["mail_dir", "mail_to"],
              required_unless_present = "mail_dir")]
        webhook: Option<String>,
        /// Directory of the server into which every notification is written as an e-mail
        #[arg(long, value_name = "DIR", requires = "mail_to")]
        mail_dir: Option<PathBuf>,
        /// The e-mail's receiver
        #[arg(long, value_name = "ADDRESS", requires = "mail_dir")]
        mail_to: Option<String>,
    },
    /// List the subscriptions of a topic
    Subscriptions {
        /// Name or ARN of the topic
        topic: String,
    },
    /// Remove a subscription
    Unsubscribe {
        /// The subscription's id
        id: String,
    },
    /// List notifications and what became of them
    Deliveries {
        /// Only those about this job
        #[arg(long, value_name = "ID")]
        job: Option<String>,
    },
}

impl TopicCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let client = context.client;
        match self {
            Self::Add { name } => named::add(context, "topics", name),
            Self::List => named::list(context, "topics"),
            Self::Remove { topic } => named::remove(context, "topics", "topic", &topic),
            Self::Subscribe { topic, webhook, mail_dir, mail_to } => {
                let mail_file = match (mail_dir, mail_to) {
                    (Some(dir), Some(to)) => Some(MailFile { directory: absolute(&dir)?, to }),
                    // The command line allows both or neither.
                    _ => None,
                };
                let body = body(&SubscribeInput { webhook, mail_file })?;
                let path = format!("/topics/{}/subscriptions", segment(&topic));
                let made: Answer<Subscription> = client.own("POST", &path, &[], Some(&body))?;
                context.out.show_line(&made.json, &made.typed.subscription_id)?;
                Ok(Exit::Done)
            }
            Self::Subscriptions { topic } => {
                let path = format!("/topics/{}/subscriptions", segment(&topic));
                let list: Answer<SubscriptionList> = client.own("GET", &path, &[], None)?;
                context.out.show(&list.json, || vec![subscriptions(&list.typed.subscriptions)])?;
                Ok(Exit::Done)
            }
            Self::Unsubscribe { id } => {
                let path = format!("/subscriptions/{}", segment(&id));
                client.own::<Value>("DELETE", &path, &[], None)?;
                gone(context, &format!("removed subscription {id}"))
            }
            Self::Deliveries { job } => {
                let query: Vec<(&str, &str)> =
                    job.iter().map(|id| ("jobId", id.as_str())).collect();
                let list: Answer<DeliveryList> = client.own("GET", "/deliveries", &query, None)?;
                context.out.show(&list.json, || vec![deliveries(&list.typed.deliveries)])?;
                Ok(Exit::Done)
            }
        }
    }
}

fn subscriptions(list: &[Subscription]) -> View {
    View::table(&["ID", "RECEIVER", "CREATED"]).rows(list.iter().map(|s| {
        let mail = s.mail_file.as_ref().map(|m| format!("mail to {} in {}", m.to, m.directory));
        vec![s.subscription_id.clone(), dash(s.webhook.clone().or(mail)), epoch(s.creation_date)]
    }))
}

fn deliveries(list: &[Delivery]) -> View {
    View::table(&["CREATED", "STATE", "ATTEMPTS", "DELIVERED", "JOB ID", "SUBJECT", "LAST ERROR"])
        .rows(list.iter().map(|d| {
            vec![
                epoch(d.creation_date),
                d.state.clone(),
                d.attempts.to_string(),
                dash(d.delivery_date.map(epoch)),
                d.job_id.clone(),
                d.subject.clone(),
                dash(d.last_error.clone()),
            ]
        }))
}

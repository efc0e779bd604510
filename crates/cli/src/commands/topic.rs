//! `topic`: where notifications go.

use provault_wire::provault::{Subscription, SubscriptionList};
use serde_json::{Value, json};

use super::receiver::ReceiverArgs;
use super::resource::body;
use super::{Context, gone, named};
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
        #[command(flatten)]
        receiver: Box<ReceiverArgs>,
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
}

impl TopicCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let client = context.client;
        match self {
            Self::Add { name } => named::add(context, "topics", name),
            Self::List => named::list(context, "topics"),
            Self::Remove { topic } => named::remove(context, "topics", "topic", &topic),
            Self::Subscribe { topic, receiver } => subscribe(context, &topic, *receiver),
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
        }
    }
}

fn subscribe(context: &Context<'_>, topic: &str, receiver: ReceiverArgs) -> Result<Exit, CliError> {
    let new = receiver.has_new_secret();
    let input = receiver.input()?;
    let path = format!("/topics/{}/subscriptions", segment(topic));
    let mut made: Answer<Subscription> =
        context.client.own("POST", &path, &[], Some(&body(&input)?))?;
    let id = &made.typed.subscription_id;
    let Some(secret) = input.secret.filter(|_| new) else {
        context.out.show_line(&made.json, id)?;
        return Ok(Exit::Done);
    };
    context.out.note("the secret follows the subscription's id and is shown this once")?;
    made.json["Secret"] = json!(secret);
    context.out.show_line(&made.json, id)?;
    if !context.out.is_json() {
        context.out.show_line(&Value::Null, &secret)?;
    }
    Ok(Exit::Done)
}

fn subscriptions(list: &[Subscription]) -> View {
    let headers = ["ID", "RECEIVER", "EVENTS", "DIGEST", "SECRET", "CREATED"];
    View::table(&headers).rows(list.iter().map(|s| {
        let events = if s.events.is_empty() { "all".to_owned() } else { s.events.join(" ") };
        let secret = if s.has_secret { "yes" } else { "no" };
        vec![
            s.subscription_id.clone(),
            receiver(s),
            events,
            dash(s.digest_minutes.map(|minutes| format!("{minutes} min"))),
            secret.to_owned(),
            epoch(s.creation_date),
        ]
    }))
}

/// Where a subscription sends, in a few words.
fn receiver(s: &Subscription) -> String {
    if let Some(url) = &s.webhook {
        return url.clone();
    }
    if let Some(mail) = &s.mail_file {
        return format!("mail to {} in {}", mail.to, mail.directory);
    }
    if let Some(sns) = &s.sns {
        return format!("SNS topic {}", sns.topic_arn);
    }
    if let Some(smtp) = &s.smtp {
        let port = smtp.port.map_or_else(String::new, |port| format!(":{port}"));
        return format!("mail to {} through {}{port}", smtp.to, smtp.server);
    }
    match &s.command {
        Some(command) => format!("command {}", command.join(" ")),
        // A newer server's; its JSON tells more.
        None => "-".to_owned(),
    }
}

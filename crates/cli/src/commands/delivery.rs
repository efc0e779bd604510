//! `delivery`: what became of notifications.

use provault_wire::provault::{Delivery, DeliveryList};

use super::{Context, gone};
use crate::client::{Answer, segment};
use crate::error::CliError;
use crate::exit::Exit;
use crate::output::{View, dash, epoch};

#[derive(Debug, clap::Subcommand)]
pub enum DeliveryCommand {
    /// List notifications and what became of them
    List {
        /// Only those about this job
        #[arg(long, value_name = "ID")]
        job: Option<String>,
        /// Only those that were given up
        #[arg(long)]
        dead: bool,
    },
    /// Show one notification, with its text and why the last try failed
    Show {
        /// The delivery's id
        id: String,
    },
    /// Remove one that was given up, for good
    Forget {
        /// The delivery's id
        id: String,
    },
    /// Try one that was given up again, as often as a new one
    SendAgain {
        /// The delivery's id
        id: String,
    },
}

impl DeliveryCommand {
    pub(crate) fn run(self, context: &Context<'_>) -> Result<Exit, CliError> {
        let client = context.client;
        match self {
            Self::List { job, dead } => {
                let mut query: Vec<(&str, &str)> =
                    job.iter().map(|id| ("jobId", id.as_str())).collect();
                if dead {
                    query.push(("state", "DEAD"));
                }
                let list: Answer<DeliveryList> =
                    client.own_all("/deliveries", &query, "Deliveries")?;
                context.out.show(&list.json, || vec![table(&list.typed.deliveries)])?;
            }
            Self::Show { id } => {
                let path = format!("/deliveries/{}", segment(&id));
                let one: Answer<Delivery> = client.own("GET", &path, &[], None)?;
                context.out.show(&one.json, || vec![fields(&one.typed)])?;
            }
            Self::Forget { id } => {
                let path = format!("/deliveries/{}", segment(&id));
                client.own::<serde_json::Value>("DELETE", &path, &[], None)?;
                return gone(context, &format!("forgot delivery {id}"));
            }
            Self::SendAgain { id } => {
                let path = format!("/deliveries/{}/send-again", segment(&id));
                let one: Answer<Delivery> = client.own("POST", &path, &[], None)?;
                let line = format!("delivery {} is {}", one.typed.delivery_id, one.typed.state);
                context.out.show_line(&one.json, &line)?;
            }
        }
        Ok(Exit::Done)
    }
}

fn table(list: &[Delivery]) -> View {
    let headers =
        ["ID", "CREATED", "STATE", "ATTEMPTS", "DELIVERED", "JOB ID", "SUBJECT", "LAST ERROR"];
    View::table(&headers).rows(list.iter().map(|d| {
        vec![
            d.delivery_id.clone(),
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

fn fields(d: &Delivery) -> View {
    View::fields()
        .field("Delivery", d.delivery_id.clone())
        .field("Subscription", d.subscription_id.clone())
        .field("Topic", d.topic_arn.clone())
        .field("Job", d.job_id.clone())
        .field("State", d.state.clone())
        .field("Attempts", d.attempts.to_string())
        .field("Created", epoch(d.creation_date))
        .field("Next attempt", d.next_attempt_date.map(epoch))
        .field("Delivered", d.delivery_date.map(epoch))
        .field("Last error", d.last_error.clone())
        .field("Subject", d.subject.clone())
        .field("Message", d.message.clone())
}

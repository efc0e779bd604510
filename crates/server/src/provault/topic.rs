//! Subscriptions and deliveries.

use provault_app::{DeliveryState, DeliveryView};
use provault_domain::{Subscription, SubscriptionTarget};
use provault_wire::provault as wire;

use super::{Answered, Call, invalid};
use crate::answer::Answer;
use crate::convert::epoch;

pub(super) async fn subscribe(call: &Call<'_>, topic: &str) -> Answered {
    let input: wire::SubscribeInput = call.input()?;
    let target = match (input.webhook, input.mail_file) {
        (Some(url), None) => SubscriptionTarget::Webhook { url },
        (None, Some(mail)) => {
            SubscriptionTarget::MailFile { directory: mail.directory, to: mail.to }
        }
        _ => return Err(invalid("Give exactly one of Webhook and MailFile.")),
    };
    let made = Call::done(call.app.subscribe(call.caller, topic, target).await)?;
    Answer::json(&subscription(made))
}

pub(super) async fn subscriptions(call: &Call<'_>, topic: &str) -> Answered {
    let found = Call::done(call.app.list_subscriptions(call.caller, topic).await)?;
    Answer::json(&wire::SubscriptionList {
        subscriptions: found.into_iter().map(subscription).collect(),
    })
}

pub(super) async fn unsubscribe(call: &Call<'_>, id: &str) -> Answered {
    Call::nothing(call.app.unsubscribe(call.caller, id).await)
}

pub(super) async fn deliveries(call: &Call<'_>) -> Answered {
    let job_id = call.query.get("jobId");
    let found = Call::done(call.app.list_deliveries(call.caller, job_id).await)?;
    Answer::json(&wire::DeliveryList { deliveries: found.into_iter().map(delivery).collect() })
}

fn subscription(subscription: Subscription) -> wire::Subscription {
    let (webhook, mail_file) = match subscription.target {
        SubscriptionTarget::Webhook { url } => (Some(url), None),
        SubscriptionTarget::MailFile { directory, to } => {
            (None, Some(wire::MailFile { directory, to }))
        }
    };
    wire::Subscription {
        subscription_id: subscription.id,
        topic_arn: subscription.topic_arn.to_string(),
        webhook,
        mail_file,
        creation_date: epoch(subscription.created_at),
    }
}

fn delivery(view: DeliveryView) -> wire::Delivery {
    let delivery = view.delivery;
    let state = match delivery.state {
        DeliveryState::Waiting => "WAITING",
        DeliveryState::Delivered => "DELIVERED",
        DeliveryState::Dead => "DEAD",
    };
    wire::Delivery {
        delivery_id: delivery.id,
        subscription_id: delivery.subscription_id,
        topic_arn: delivery.topic_arn.to_string(),
        subject: view.subject,
        message: view.message,
        job_id: delivery.notification.job_id,
        state: state.to_owned(),
        attempts: delivery.attempts,
        last_error: delivery.last_error,
        creation_date: epoch(delivery.created_at),
        delivery_date: delivery.delivered_at.map(epoch),
    }
}

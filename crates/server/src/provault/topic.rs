//! Subscriptions and deliveries.

use provault_app::{DeliveryState, DeliveryView, NewSubscription};
use provault_domain::{SmtpTarget, SmtpTls, SnsTarget, Subscription, SubscriptionTarget};
use provault_wire::ServiceError;
use provault_wire::provault as wire;

use super::{Answered, Call, invalid};
use crate::answer::Answer;
use crate::convert::epoch;

pub(super) async fn subscribe(call: &Call<'_>, topic: &str) -> Answered {
    let input: wire::SubscribeInput = call.input()?;
    let mail_file = input
        .mail_file
        .map(|mail| SubscriptionTarget::MailFile { directory: mail.directory, to: mail.to });
    let smtp = input.smtp.map(mail_server).transpose()?;
    let sns = input.sns.map(|wire::Sns { topic_arn, access_key_id, endpoint }| {
        SubscriptionTarget::Sns(SnsTarget { topic_arn, access_key_id, endpoint })
    });
    let given = [
        input.webhook.map(|url| SubscriptionTarget::Webhook { url }),
        mail_file,
        smtp.map(|smtp| SubscriptionTarget::Smtp(Box::new(smtp))),
        sns,
        input.command.map(|command| SubscriptionTarget::Command { command }),
    ];
    let mut given = given.into_iter().flatten();
    let (Some(target), None) = (given.next(), given.next()) else {
        return Err(invalid("Give exactly one of Webhook, MailFile, Smtp, Sns and Command."));
    };
    let new = NewSubscription {
        target,
        events: input.events,
        digest_minutes: input.digest_minutes,
        secret: input.secret,
    };
    let made = Call::done(call.app.subscribe(call.caller, topic, new).await)?;
    Answer::json(&subscription(made))
}

fn mail_server(smtp: wire::Smtp) -> Result<SmtpTarget, ServiceError> {
    let tls = match smtp.tls {
        None => SmtpTls::default(),
        Some(name) => SmtpTls::named(&name).ok_or_else(|| {
            invalid(&format!("Smtp.Tls: '{name}' is none of starttls, implicit and none."))
        })?,
    };
    Ok(SmtpTarget {
        server: smtp.server,
        port: smtp.port.unwrap_or_else(|| tls.port()),
        tls,
        user: smtp.user,
        from: smtp.from,
        to: smtp.to,
        ca_file: smtp.ca_file,
    })
}

pub(super) async fn subscriptions(call: &Call<'_>, topic: &str) -> Answered {
    let found = Call::done(call.app.list_subscriptions(call.caller, topic).await)?;
    Answer::json(&wire::SubscriptionList {
        subscriptions: found.into_iter().map(subscription).collect(),
    })
}

pub(super) async fn test(call: &Call<'_>, id: &str) -> Answered {
    let test = Call::done(call.app.test_subscription(call.caller, id).await)?;
    Answer::json(&wire::SubscriptionTest { delivered: test.delivered, detail: test.detail })
}

pub(super) async fn unsubscribe(call: &Call<'_>, id: &str) -> Answered {
    Call::nothing(call.app.unsubscribe(call.caller, id).await)
}

pub(super) async fn deliveries(call: &Call<'_>) -> Answered {
    let (job_id, state) = (call.query.get("jobId"), call.query.get("state"));
    let paging = call.paging()?;
    let found = call.app.list_deliveries(call.caller, job_id, state, &paging).await;
    let found = Call::done(found)?.map(delivery);
    Answer::json(&wire::DeliveryList { deliveries: found.items, next_token: found.next_token })
}

pub(super) async fn forget(call: &Call<'_>, id: &str) -> Answered {
    Call::nothing(call.app.forget_delivery(call.caller, id).await)
}

pub(super) async fn describe_delivery(call: &Call<'_>, id: &str) -> Answered {
    Answer::json(&delivery(Call::done(call.app.describe_delivery(call.caller, id).await)?))
}

pub(super) async fn send_again(call: &Call<'_>, id: &str) -> Answered {
    Answer::json(&delivery(Call::done(call.app.send_delivery_again(call.caller, id).await)?))
}

fn subscription(subscription: Subscription) -> wire::Subscription {
    let mut shown = wire::Subscription {
        subscription_id: subscription.id,
        topic_arn: subscription.topic_arn.to_string(),
        webhook: None,
        mail_file: None,
        smtp: None,
        sns: None,
        command: None,
        events: subscription.events,
        digest_minutes: subscription.digest_minutes,
        has_secret: subscription.sealed_secret.is_some(),
        creation_date: epoch(subscription.created_at),
    };
    match subscription.target {
        SubscriptionTarget::Webhook { url } => shown.webhook = Some(url),
        SubscriptionTarget::MailFile { directory, to } => {
            shown.mail_file = Some(wire::MailFile { directory, to });
        }
        SubscriptionTarget::Smtp(smtp) => {
            shown.smtp = Some(wire::Smtp {
                server: smtp.server,
                port: Some(smtp.port),
                tls: Some(smtp.tls.as_str().to_owned()),
                user: smtp.user,
                from: smtp.from,
                to: smtp.to,
                ca_file: smtp.ca_file,
            });
        }
        SubscriptionTarget::Sns(SnsTarget { topic_arn, access_key_id, endpoint }) => {
            shown.sns = Some(wire::Sns { topic_arn, access_key_id, endpoint });
        }
        SubscriptionTarget::Command { command } => shown.command = Some(command),
    }
    shown
}

fn delivery(view: DeliveryView) -> wire::Delivery {
    let delivery = view.delivery;
    let waits = delivery.state == DeliveryState::Waiting;
    wire::Delivery {
        delivery_id: delivery.id,
        subscription_id: delivery.subscription_id,
        topic_arn: delivery.topic_arn.to_string(),
        subject: view.subject,
        message: view.message,
        job_id: delivery.notification.job_id,
        state: delivery.state.as_str().to_owned(),
        attempts: delivery.attempts,
        last_error: delivery.last_error,
        next_attempt_date: waits.then(|| epoch(delivery.next_attempt_at)),
        creation_date: epoch(delivery.created_at),
        delivery_date: delivery.delivered_at.map(epoch),
    }
}

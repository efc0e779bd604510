//! The JSON that SNS posts to HTTP subscriptions, without its signature.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::message::iso_millis;
use crate::{DeliveryContext, DeliveryError, Message};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope<'a> {
    r#type: &'static str,
    message_id: &'a str,
    topic_arn: &'a str,
    subject: &'a str,
    message: &'a str,
    timestamp: String,
    message_attributes: BTreeMap<&'a str, Attribute<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Attribute<'a> {
    r#type: &'static str,
    value: &'a str,
}

/// The envelope of `message`; the same text in every try.
pub(crate) fn json(message: &Message, context: &DeliveryContext) -> Result<String, DeliveryError> {
    let envelope = Envelope {
        r#type: "Notification",
        message_id: &context.delivery_id,
        topic_arn: context.topic_arn.as_str(),
        subject: &message.subject,
        message: &message.text,
        timestamp: iso_millis(context.at),
        message_attributes: message
            .attributes
            .iter()
            .map(|(name, value)| (name.as_str(), Attribute { r#type: "String", value }))
            .collect(),
    };
    serde_json::to_string(&envelope)
        .map_err(|e| DeliveryError::never(format!("the message cannot be written as JSON: {e}.")))
}

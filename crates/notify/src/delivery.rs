//! Carrying one message to one subscription.

use std::time::Duration;

use jiff::Timestamp;
use provault_domain::{AccountId, Arn, SubscriptionTarget};

use crate::{Message, command, mail_file, smtp, sns, webhook};

/// How long a delivery to a webhook may take in all, unless something else is wanted.
pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(10);
/// Mail servers let strangers wait on purpose, and a command has work to do.
const PATIENT_TIME_LIMIT: Duration = Duration::from_secs(30);

/// How long a delivery to `target` may take in all, unless something else is wanted: 10 seconds,
/// 30 for a mail server or a command.
pub fn time_limit(target: &SubscriptionTarget) -> Duration {
    match target {
        SubscriptionTarget::Webhook { .. }
        | SubscriptionTarget::MailFile { .. }
        | SubscriptionTarget::Sns(_) => DEFAULT_TIME_LIMIT,
        SubscriptionTarget::Smtp(_) | SubscriptionTarget::Command { .. } => PATIENT_TIME_LIMIT,
    }
}

/// What a delivery needs to know besides the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryContext {
    /// Names this delivery, the same for every try: 1 to 128 letters, digits, `-`, `_` or `.`,
    /// a letter or digit first. A UUID serves well.
    pub delivery_id: String,
    /// The topic the message was published to.
    pub topic_arn: Arn,
    /// When the event happened; the `Timestamp` of the envelope and the `Date` of the mail.
    pub at: Timestamp,
    /// When this try begins; what the signature of a webhook or for SNS is dated with.
    pub now: Timestamp,
    /// The subscription that receives it.
    pub subscription_id: String,
    /// Tenant.
    pub account: AccountId,
    /// How long a webhook, a mail server or a command may take in all, from the name lookup to
    /// the last byte read: [`time_limit`] unless there is a reason.
    pub time_limit: Duration,
}

/// The receiver has the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What was seen: `HTTP 204 from https://example.org`, a mail server's answer, the mail file's
    /// path, how a command ended.
    pub detail: String,
}

/// The receiver does not have the message, as far as known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DeliveryError {
    /// Whether the same delivery may succeed later without anybody changing the subscription.
    pub retryable: bool,
    /// What failed and what to do.
    pub message: String,
}

impl DeliveryError {
    pub(crate) fn later(message: impl Into<String>) -> Self {
        Self { retryable: true, message: message.into() }
    }

    pub(crate) fn never(message: impl Into<String>) -> Self {
        Self { retryable: false, message: message.into() }
    }
}

/// Delivers `message` to `target`, once. `secret` signs what a webhook gets, or is the password of
/// a mail server's user; it stands in no answer.
///
/// * A webhook has it when it answers 2xx. As with SNS, 5xx and 429 are worth a retry and other
///   4xx are not, except 408 and 425, which ask for one by their meaning. A redirect is not
///   followed: it would carry the message to an address nobody subscribed. A receiver that takes
///   longer than the time limit may have the message all the same; the retry bears the same id.
/// * A mail file is there completely or not at all, and written once for a delivery id.
/// * A mail server has it when it says so. It refuses it for good with 5xx, for now with 4xx.
/// * An SNS topic has it when it says so. What its access key may not do, and a topic that is not
///   there, are refusals for good; throttling and errors of the service are for now.
/// * A command has it when it ends with exit status 0; anything else is worth a retry.
pub fn deliver(
    target: &SubscriptionTarget,
    secret: Option<&str>,
    message: &Message,
    context: &DeliveryContext,
) -> Result<Receipt, DeliveryError> {
    let result = check_id(&context.delivery_id).and_then(|()| match target {
        SubscriptionTarget::Webhook { url } => webhook::deliver(url, secret, message, context),
        SubscriptionTarget::MailFile { directory, to } => {
            mail_file::deliver(directory, to, message, context)
        }
        SubscriptionTarget::Smtp(server) => smtp::deliver(server, secret, message, context),
        SubscriptionTarget::Sns(topic) => sns::deliver(topic, secret, message, context),
        SubscriptionTarget::Command { command } => command::deliver(command, message, context),
    });
    match &result {
        Ok(receipt) => tracing::debug!(
            delivery = context.delivery_id,
            subscription = context.subscription_id,
            account = %context.account,
            detail = receipt.detail,
            "notification delivered"
        ),
        Err(error) => tracing::debug!(
            delivery = context.delivery_id,
            subscription = context.subscription_id,
            account = %context.account,
            retryable = error.retryable,
            %error,
            "notification not delivered"
        ),
    }
    result
}

/// The id becomes a file name and a header: anything that could be more than a name is refused.
fn check_id(id: &str) -> Result<(), DeliveryError> {
    let good = (1..=128).contains(&id.len())
        && id.as_bytes()[0].is_ascii_alphanumeric()
        && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if good {
        return Ok(());
    }
    Err(DeliveryError::never(format!(
        "'{}' cannot be a delivery id: use 1 to 128 letters, digits, '-', '_' or '.'.",
        id.escape_debug()
    )))
}

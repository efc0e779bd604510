//! Webhooks: an SNS envelope by HTTP POST.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use ureq::Agent;
use ureq::http::{Response, StatusCode, Uri};

use crate::message::iso_millis;
use crate::{DeliveryContext, DeliveryError, Message, Receipt};

/// Bytes of an answer that are read; what a receiver has to say beyond that is of no use here.
const LONGEST_ANSWER: u64 = 64 * 1024;
/// Characters of a refusal that are repeated in the error.
const QUOTED: usize = 200;

/// The body SNS posts to HTTP subscriptions, without its signature.
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

pub(crate) fn deliver(
    url: &str,
    message: &Message,
    context: &DeliveryContext,
) -> Result<Receipt, DeliveryError> {
    let (origin, loopback) = origin(url)?;
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
    let body = serde_json::to_string(&envelope).map_err(|e| {
        DeliveryError::never(format!("the message cannot be written as JSON: {e}."))
    })?;

    let mut config = Agent::config_builder()
        .timeout_global(Some(context.time_limit))
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent("Provault notification agent");
    if loopback {
        // A proxy named by the environment has its own idea of what "this machine" is.
        config = config.proxy(None);
    }
    let agent: Agent = config.build().into();
    let answer = agent
        .post(url)
        .header("content-type", "text/plain; charset=UTF-8")
        .header("x-amz-sns-message-type", "Notification")
        .header("x-amz-sns-message-id", &context.delivery_id)
        .header("x-amz-sns-topic-arn", context.topic_arn.as_str())
        .header(
            "x-amz-sns-subscription-arn",
            format!("{}:{}", context.topic_arn, context.subscription_id),
        )
        .send(body);
    match answer {
        Ok(answer) => judge(answer, &origin),
        Err(error) => Err(unreached(&error, &origin, context)),
    }
}

/// What the receiver's status means.
fn judge(mut answer: Response<ureq::Body>, origin: &str) -> Result<Receipt, DeliveryError> {
    let status = answer.status();
    let location = answer
        .headers()
        .get("location")
        .and_then(|l| l.to_str().ok())
        .and_then(|l| self::origin(l).ok())
        .map_or("another address".to_owned(), |(origin, _)| origin);
    // The status decides; a body that is cut off, slow or too long changes nothing any more.
    let body = answer.body_mut().with_config().limit(LONGEST_ANSWER).read_to_vec();
    if status.is_success() {
        return Ok(Receipt { detail: format!("HTTP {} from {origin}", status.as_u16()) });
    }
    if status.is_redirection() {
        return Err(DeliveryError::never(format!(
            "{origin} answers HTTP {} and points to {location}. Redirects are not followed: \
             subscribe the address where messages are to go.",
            status.as_u16()
        )));
    }
    let said = body.map_or(String::new(), |bytes| quote(&bytes));
    let message = format!("{origin} answers HTTP {}{said}.", status.as_u16());
    let retryable = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    if retryable {
        Err(DeliveryError::later(format!("{message} The delivery is tried again.")))
    } else {
        Err(DeliveryError::never(format!(
            "{message} It refuses the message for good: check the subscription's address."
        )))
    }
}

fn unreached(error: &ureq::Error, origin: &str, context: &DeliveryContext) -> DeliveryError {
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => DeliveryError::never(format!(
            "the request to {origin} cannot be made: check the subscription's address."
        )),
        ureq::Error::Timeout(_) => DeliveryError::later(format!(
            "{origin} did not answer within {} ms; it may have the message all the same. The \
             delivery is tried again under the same MessageId.",
            context.time_limit.as_millis()
        )),
        // A certificate can be renewed and a host come back without the subscription changing.
        other => DeliveryError::later(format!(
            "{origin} cannot be reached: {other}. The delivery is tried again."
        )),
    }
}

/// Scheme, host and port of `url`, and whether that is this machine. The rest may be a secret.
fn origin(url: &str) -> Result<(String, bool), DeliveryError> {
    let bad = || {
        DeliveryError::never(
            "the subscription's webhook address is not one; use http://HOST/PATH or \
             https://HOST/PATH.",
        )
    };
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let scheme = uri.scheme_str().filter(|s| ["http", "https"].contains(s)).ok_or_else(bad)?;
    let host = uri.host().filter(|h| !h.is_empty()).ok_or_else(bad)?;
    let loopback = host.eq_ignore_ascii_case("localhost")
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    // `Uri` takes any text for a port and then knows of none.
    let written_port = uri.authority().is_some_and(|a| !a.as_str().ends_with(host));
    let port = match uri.port_u16() {
        Some(port) => format!(":{port}"),
        None if written_port => return Err(bad()),
        None => String::new(),
    };
    Ok((format!("{scheme}://{host}{port}"), loopback))
}

fn quote(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text: String = text.replace(char::is_control, " ").chars().take(QUOTED).collect();
    if text.is_empty() { text } else { format!(" (\"{text}\")") }
}

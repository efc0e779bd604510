//! Amazon SNS: a signed `Publish` to a topic there.
//!
//! The protocol is the query protocol of API version 2010-03-31: parameters as a form, answers in XML,
//! of which only one word at a time is wanted.

use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use provault_domain::SnsTarget;
use provault_iam::{Credentials, Secret, SignedRequest, sign_for};

use crate::quote::quote;
use crate::webhook::{LONGEST_ANSWER, agent, origin, unreached};
use crate::{DeliveryContext, DeliveryError, Message, Receipt};

/// Bytes of text that are sent: SNS takes 256 KiB in all, of which the attributes are a part.
const LONGEST_TEXT: usize = 240 * 1024;
/// Characters that a subject may have; it must be printable ASCII.
const LONGEST_SUBJECT: usize = 100;
/// Bytes of a code or an id: a UUID has 36.
const LONGEST_WORD: usize = 64;
/// Everything but what RFC 3986 leaves as it is.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// Codes with a status of the client's fault that pass by themselves: too much at once, and a clock
/// that was wrong.
const PASSING: [&str; 5] = [
    "Throttling",
    "ThrottledException",
    "KMSThrottlingException",
    "RequestExpired",
    "ExpiredToken",
];

pub(crate) fn deliver(
    topic: &SnsTarget,
    secret: Option<&str>,
    message: &Message,
    context: &DeliveryContext,
) -> Result<Receipt, DeliveryError> {
    let (Some((region, name)), Some(secret)) = (topic.region_and_name(), secret) else {
        return Err(DeliveryError::never(
            "the subscription lacks a topic's ARN or a secret access key; subscribe again.",
        ));
    };
    let url = topic.endpoint.clone().unwrap_or_else(|| {
        let china = if region.starts_with("cn-") { ".cn" } else { "" };
        format!("https://sns.{region}.amazonaws.com{china}")
    });
    let url = format!("{}/", url.trim_end_matches('/'));
    let (origin, loopback) = origin(&url)?;
    let body = form(topic, name, message, context);

    let host = origin.split_once("://").map_or(origin.as_str(), |(_, host)| host);
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(host);
    headers.insert(HOST, value.map_err(|_| unsigned("the endpoint is no host"))?);
    let form_type = "application/x-www-form-urlencoded; charset=utf-8";
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form_type));
    let request = SignedRequest {
        method: &Method::POST,
        raw_path: "/",
        raw_query: "",
        headers: &headers,
        body: body.as_bytes(),
    };
    let credentials = Credentials {
        access_key_id: topic.access_key_id.clone(),
        secret_access_key: Secret::new(secret.to_owned()),
        session_token: None,
    };
    let signed = sign_for("sns", &request, &credentials, region, context.now);
    headers.extend(signed.map_err(unsigned)?);

    let mut request = agent(loopback, context).post(&url);
    for (name, value) in &headers {
        request = request.header(name, value);
    }
    let mut answer = request.send(body).map_err(|error| unreached(&error, &origin, context))?;
    let status = answer.status();
    let said = answer.body_mut().with_config().limit(LONGEST_ANSWER).read_to_vec();
    let said = String::from_utf8_lossy(&said.unwrap_or_default()).into_owned();
    if status.is_success() {
        let id = word(&said, "MessageId").unwrap_or("unknown");
        return Ok(Receipt { detail: format!("SNS message {id} by {origin}") });
    }
    let code = word(&said, "Code").unwrap_or_default();
    let why = quote(element(&said, "Message").unwrap_or(&said).as_bytes());
    let answer = format!("HTTP {} {code}", status.as_u16());
    let message = format!("{origin} answers {}{why}.", answer.trim_end());
    if status.is_server_error() || status.as_u16() == 429 || PASSING.contains(&code) {
        return Err(DeliveryError::later(format!("{message} The delivery is tried again.")));
    }
    Err(DeliveryError::never(format!(
        "{message} It refuses the message for good: check the topic's ARN and its access key, which \
         needs sns:Publish."
    )))
}

/// The parameters of `Publish`, as a form.
fn form(topic: &SnsTarget, name: &str, message: &Message, context: &DeliveryContext) -> String {
    let mut form = String::from("Action=Publish&Version=2010-03-31");
    let mut add = |name: &str, value: &str| {
        form.push('&');
        form.push_str(name);
        form.push('=');
        form.extend(utf8_percent_encode(value, FORM));
    };
    add("TopicArn", &topic.topic_arn);
    let subject: String = message
        .subject
        .chars()
        .map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' })
        .take(LONGEST_SUBJECT)
        .collect();
    add("Subject", &subject);
    add("Message", &shortened(&message.text));
    if name.rsplit_once('.').is_some_and(|(_, kind)| kind == "fifo") {
        // One order for a topic of this server; a second try of a delivery is dropped there.
        add("MessageGroupId", &context.subscription_id);
        add("MessageDeduplicationId", &context.delivery_id);
    }
    // An empty value is not allowed.
    let attributes = message.attributes.iter().filter(|(_, value)| !value.is_empty());
    for (n, (name, value)) in (1..).zip(attributes) {
        let entry = format!("MessageAttributes.entry.{n}");
        add(&format!("{entry}.Name"), name);
        add(&format!("{entry}.Value.DataType"), "String");
        add(&format!("{entry}.Value.StringValue"), value);
    }
    form
}

fn shortened(text: &str) -> String {
    if text.len() <= LONGEST_TEXT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(LONGEST_TEXT);
    format!("{}\n(Shortened: SNS takes 256 KiB. The jobs tell the rest.)", &text[..end])
}

/// The text of the first element with this name when it is a name as the protocol has them. What else
/// stands there is the receiver's, and goes unquoted into no message.
fn word<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let plain = |text: &&str| {
        (1..=LONGEST_WORD).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
    };
    element(xml, name).filter(plain)
}

/// The text of the first element with this name, as it stands.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

fn unsigned(why: impl std::fmt::Display) -> DeliveryError {
    DeliveryError::never(format!("the request to SNS cannot be signed: {why}; subscribe again."))
}

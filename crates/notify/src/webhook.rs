//! Webhooks: an SNS envelope by HTTP POST.

use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use provault_domain::topic::is_link_local;
use sha2::Sha256;
use ureq::Agent;
use ureq::http::{Response, StatusCode, Uri};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::quote::quote;
use crate::{DeliveryContext, DeliveryError, Message, Receipt, envelope};

/// Bytes of an answer that are read; what a receiver has to say beyond that is of no use here.
pub(crate) const LONGEST_ANSWER: u64 = 64 * 1024;
/// Seconds since 1970 at which a signed request was made.
const TIMESTAMP_HEADER: &str = "x-provault-timestamp";
/// `sha256=` and the signature in hexadecimal.
const SIGNATURE_HEADER: &str = "x-provault-signature";

pub(crate) fn deliver(
    url: &str,
    secret: Option<&str>,
    message: &Message,
    context: &DeliveryContext,
) -> Result<Receipt, DeliveryError> {
    let (origin, loopback) = origin(url)?;
    let body = envelope::json(message, context)?;

    let mut request = agent(loopback, context)
        .post(url)
        .header("content-type", "text/plain; charset=UTF-8")
        .header("x-amz-sns-message-type", "Notification")
        .header("x-amz-sns-message-id", &context.delivery_id)
        .header("x-amz-sns-topic-arn", context.topic_arn.as_str())
        .header(
            "x-amz-sns-subscription-arn",
            format!("{}:{}", context.topic_arn, context.subscription_id),
        );
    if let Some(secret) = secret {
        // Of this try, not of the event: receivers refuse what is old, and a retry may be a day late.
        let timestamp = context.now.as_second().to_string();
        let signature = sign(secret, &timestamp, &body)?;
        request = request
            .header(TIMESTAMP_HEADER, timestamp)
            .header(SIGNATURE_HEADER, format!("sha256={signature}"));
    }
    match request.send(body) {
        Ok(answer) => judge(answer, &origin),
        Err(error) => Err(unreached(&error, &origin, context)),
    }
}

/// What makes one request, within the time limit and without following redirects.
pub(crate) fn agent(loopback: bool, context: &DeliveryContext) -> Agent {
    let mut config = Agent::config_builder()
        .timeout_global(Some(context.time_limit))
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent("Provault notification agent");
    if loopback {
        // A proxy named by the environment has its own idea of what "this machine" is.
        config = config.proxy(None);
    }
    Agent::with_parts(config.build(), DefaultConnector::default(), Guarded::default())
}

/// Finds addresses, but for those of the link alone: what answers there, such as the metadata service of
/// a cloud, trusts whoever is on the machine, and is no receiver.
#[derive(Debug, Default)]
struct Guarded(DefaultResolver);

impl Resolver for Guarded {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.0.resolve(uri, config, timeout)?;
        if found.iter().any(|address| is_link_local(address.ip())) {
            return Err(ureq::Error::Other(LINK_LOCAL.into()));
        }
        Ok(found)
    }
}

const LINK_LOCAL: &str =
    "its address is link-local (169.254.0.0/16, fe80::/10), where nothing is sent";

/// HMAC-SHA256 under the secret's bytes of the timestamp, a full stop and the body, in hexadecimal.
fn sign(secret: &str, timestamp: &str, body: &str) -> Result<String, DeliveryError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map_err(|_| DeliveryError::never("the subscription's secret cannot sign anything."))?;
    for part in [timestamp, ".", body] {
        mac.update(part.as_bytes());
    }
    Ok(hex::encode(mac.finalize().into_bytes()))
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

pub(crate) fn unreached(
    error: &ureq::Error,
    origin: &str,
    context: &DeliveryContext,
) -> DeliveryError {
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
pub(crate) fn origin(url: &str) -> Result<(String, bool), DeliveryError> {
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

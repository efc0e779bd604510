//! The client's side.

use hmac::Mac as _;
use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::canonical::{QueryForm, canonical_request};
use super::date;
use super::key::{self, Scope};
use super::{ALGORITHM, SERVICE, SignedRequest, X_AMZ_DATE, X_AMZ_SECURITY_TOKEN};
use crate::Credentials;

/// Headers that a client library or proxy may add or change after signing.
const NEVER_SIGNED: [&str; 7] = [
    "authorization",
    "connection",
    "content-length",
    "expect",
    "transfer-encoding",
    "user-agent",
    "x-amzn-trace-id",
];

/// Why a request could not be signed. Trying again does not help.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SignError {
    /// The server will look at it, so it must be known when signing.
    #[error("the request has no Host header; set it to the server's address (with its port) first")]
    MissingHost,
    /// A credential holds characters that no header may hold.
    #[error(
        "the {0} holds characters that cannot be sent in a header; check the credentials file for \
         stray characters"
    )]
    Unsendable(&'static str),
    /// The region would break the scope apart.
    #[error("the region is empty or holds a slash; set AWS_REGION to a region such as us-east-1")]
    Region,
}

/// Signs a request to a server of Provault: [`sign_for`] the service [`SERVICE`].
pub fn sign(
    request: &SignedRequest<'_>,
    credentials: &Credentials,
    region: &str,
    now: Timestamp,
) -> Result<HeaderMap, SignError> {
    sign_for(SERVICE, request, credentials, region, now)
}

/// Signs a request to `service`, such as `sns`, and returns the headers to set on it, replacing those of the same name:
/// `x-amz-date`, `authorization` and, for temporary credentials, `x-amz-security-token`.
///
/// Every header already in `request.headers` is signed (`host` must be there), except those that
/// are known to change on the way, such as `user-agent`. Send the path, the query and the body
/// exactly as given here.
pub fn sign_for(
    service: &str,
    request: &SignedRequest<'_>,
    credentials: &Credentials,
    region: &str,
    now: Timestamp,
) -> Result<HeaderMap, SignError> {
    if !request.headers.contains_key(HOST) {
        return Err(SignError::MissingHost);
    }
    if region.is_empty() || region.contains('/') {
        return Err(SignError::Region);
    }
    let amz_date = date::format(now);
    let mut added = HeaderMap::new();
    let date_value = HeaderValue::try_from(&amz_date).map_err(|_| SignError::Unsendable("date"))?;
    added.insert(HeaderName::from_static(X_AMZ_DATE), date_value);
    if let Some(token) = &credentials.session_token {
        let mut value = HeaderValue::try_from(token.expose_secret())
            .map_err(|_| SignError::Unsendable("session token"))?;
        value.set_sensitive(true);
        added.insert(HeaderName::from_static(X_AMZ_SECURITY_TOKEN), value);
    }

    let mut headers = request.headers.clone();
    for name in [X_AMZ_DATE, X_AMZ_SECURITY_TOKEN] {
        headers.remove(name);
    }
    headers.extend(added.clone());
    let mut signed: Vec<String> = headers
        .keys()
        .map(|name| name.as_str().to_owned())
        .filter(|name| !NEVER_SIGNED.contains(&name.as_str()))
        .collect();
    signed.sort_unstable();

    let payload_hash = hex::encode(Sha256::digest(request.body));
    let complete = SignedRequest { headers: &headers, ..*request };
    let canonical = canonical_request(&complete, &signed, &payload_hash, QueryForm::Encoded)
        // `signed` was taken from these very headers; `host` is the one a caller can forget.
        .map_err(|_| SignError::MissingHost)?;
    let scope = Scope { date: &amz_date[..8], region, service };
    let text = key::string_to_sign(&amz_date, &scope, &canonical);
    let mac = key::mac(&credentials.secret_access_key, &scope, &text);
    let signature = hex::encode(mac.finalize().into_bytes());
    let authorization = format!(
        "{ALGORITHM} Credential={}/{}, SignedHeaders={}, Signature={signature}",
        credentials.access_key_id,
        scope.text(),
        signed.join(";"),
    );
    let mut authorization =
        HeaderValue::try_from(authorization).map_err(|_| SignError::Unsendable("access key id"))?;
    authorization.set_sensitive(true);
    added.insert(AUTHORIZATION, authorization);
    Ok(added)
}

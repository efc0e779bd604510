//! The server's side.

use hmac::Mac as _;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::authorization::Claim;
use super::canonical::{QueryForm, canonical_request};
use super::error::{AuthError, Mismatch};
use super::key::{self, Scope};
use super::{SERVICE, SignedRequest, X_AMZ_CONTENT_SHA256};
use crate::{AccessKey, KeyStatus, Principal};

/// How far a request's date may lie from the server's clock, before or after it: AWS's 15 minutes.
pub const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(15);

/// The longest life a presigned request may give itself: AWS's 7 days.
pub const MAX_PRESIGNED_LIFETIME: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A caller whose signature was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The key that signed.
    pub access_key_id: String,
    /// Whom that key speaks for; names the account.
    pub principal: Principal,
    /// The region the client signed for. It is stated nowhere else, and not checked to exist.
    pub region: String,
    /// When the client says it signed.
    pub signed_at: Timestamp,
    /// Whether the signature came in the query (a presigned URL) instead of a header.
    pub presigned: bool,
}

/// Verifies a request's signature and says who made it.
///
/// `lookup` finds an access key by its id; `now` is the server's time.
///
/// Accepted are both forms AWS clients use, the `Authorization` header and the presigned query
/// (`X-Amz-Signature`). `host` must be signed, and so must the date header in use and a session
/// token. The payload's hash is computed here, whatever the client says about it.
///
/// # Replays
///
/// A signature binds a request to its time, not to one use. Who records a request can send the same
/// one again until [`MAX_CLOCK_SKEW`] after its date (presigned: until it expires), as with AWS
/// itself; after that it is refused. Transport encryption and idempotency tokens guard the time
/// between.
pub fn verify(
    request: &SignedRequest<'_>,
    lookup: impl Fn(&str) -> Option<AccessKey>,
    now: Timestamp,
) -> Result<Verified, AuthError> {
    let claim = Claim::read(request)?;
    check_time(&claim, now)?;
    let payload_hash = hash_payload(request)?;

    let key = lookup(&claim.access_key_id)
        .filter(|key| key.status == KeyStatus::Active)
        .ok_or(AuthError::UnrecognizedClient)?;
    check_signature(request, &claim, &key, &payload_hash)?;

    // After the signature, so that only the key's holder learns about its session.
    match (&key.session, &claim.session_token) {
        (None, None) => {}
        (Some(session), Some(presented)) if key::same_token(&session.token, presented) => {
            if now >= session.expires_at {
                return Err(AuthError::ExpiredToken { expired_at: session.expires_at });
            }
        }
        _ => return Err(AuthError::UnrecognizedClient),
    }
    Ok(Verified {
        access_key_id: claim.access_key_id,
        principal: key.principal,
        region: claim.region,
        signed_at: claim.signed_at,
        presigned: claim.presigned_for.is_some(),
    })
}

fn check_time(claim: &Claim, now: Timestamp) -> Result<(), AuthError> {
    let age = now.duration_since(claim.signed_at);
    if age < -MAX_CLOCK_SKEW || (claim.presigned_for.is_none() && age > MAX_CLOCK_SKEW) {
        return Err(AuthError::ClockSkew { request_time: claim.signed_at, server_time: now });
    }
    match claim.presigned_for {
        Some(life) if age > life => Err(AuthError::PresignedExpired {
            expired_at: claim.signed_at.saturating_add(life).unwrap_or(Timestamp::MAX),
            server_time: now,
        }),
        _ => Ok(()),
    }
}

fn hash_payload(request: &SignedRequest<'_>) -> Result<String, Mismatch> {
    let hash = hex::encode(Sha256::digest(request.body));
    for claimed in request.headers.get_all(X_AMZ_CONTENT_SHA256) {
        let claimed = claimed.as_bytes().trim_ascii();
        if claimed == b"UNSIGNED-PAYLOAD" || claimed.starts_with(b"STREAMING-") {
            return Err(Mismatch::PayloadMode);
        }
        if claimed != hash.as_bytes() {
            return Err(Mismatch::PayloadHash);
        }
    }
    Ok(hash)
}

fn check_signature(
    request: &SignedRequest<'_>,
    claim: &Claim,
    key: &AccessKey,
    payload_hash: &str,
) -> Result<(), AuthError> {
    let wrong = || Mismatch::Signature { signed_headers: claim.signed_headers.join(";") };
    // Lower case only: a signature has one spelling, as everywhere else in the scheme.
    if claim.signature.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(wrong().into());
    }
    let presented = hex::decode(&claim.signature).map_err(|_| wrong())?;
    let scope = Scope { date: &claim.scope_date, region: &claim.region, service: SERVICE };
    for form in [QueryForm::Encoded, QueryForm::AsSent] {
        let canonical = canonical_request(request, &claim.signed_headers, payload_hash, form)
            .map_err(|name| Mismatch::AbsentHeader { name: name.to_owned() })?;
        let text = key::string_to_sign(&claim.amz_date, &scope, &canonical);
        if key::mac(&key.secret, &scope, &text).verify_slice(&presented).is_ok() {
            return Ok(());
        }
    }
    Err(wrong().into())
}

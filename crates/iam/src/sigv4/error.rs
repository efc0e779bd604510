//! Why a request was not accepted.

use http::StatusCode;
use jiff::Timestamp;
use thiserror::Error;

use super::{MAX_CLOCK_SKEW, MAX_PRESIGNED_LIFETIME, SERVICE, TERMINATOR, date};

/// Why a request was not accepted. [`code`](Self::code) and [`status`](Self::status) are what AWS
/// clients act upon; the text is for people and holds no secret.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AuthError {
    /// The request carries no signature at all.
    #[error(
        "Missing Authentication Token: the request is not signed; sign it with AWS Signature \
         Version 4 for the service `{SERVICE}` (any AWS client that has credentials does so)"
    )]
    MissingAuthenticationToken,
    /// The signature cannot be read.
    #[error("{0}")]
    IncompleteSignature(#[from] Malformed),
    /// The signature can be read, but does not fit the request.
    #[error("{0}")]
    InvalidSignature(#[from] Mismatch),
    /// The access key, or the session token it came with, is unknown or inactive. One answer for
    /// all of these, so that key ids cannot be told apart by probing.
    #[error(
        "The security token included in the request is invalid: this server knows no active access \
         key of that id and session token; check which profile the client uses and that the key \
         belongs to this server"
    )]
    UnrecognizedClient,
    /// The access key is temporary and its time is over.
    #[error(
        "The security token included in the request is expired: it ended at {expired_at}; get new \
         temporary credentials"
    )]
    ExpiredToken {
        /// When the session ended.
        expired_at: Timestamp,
    },
    /// The request is dated too far from the server's clock.
    #[error(
        "Signature {}: the request is dated {}, the server's time is {}, and they may differ by {} \
         minutes at most; set the clock that is wrong, then try again",
        if .request_time < .server_time { "expired" } else { "not yet current" },
        date::format(*.request_time), date::format(*.server_time), MAX_CLOCK_SKEW.as_mins()
    )]
    ClockSkew {
        /// When the client says it signed.
        request_time: Timestamp,
        /// The server's time.
        server_time: Timestamp,
    },
    /// A presigned request outlived its own `X-Amz-Expires`.
    #[error(
        "Request has expired: it was presigned to be valid until {}, the server's time is {}; \
         presign it again",
        date::format(*.expired_at), date::format(*.server_time)
    )]
    PresignedExpired {
        /// When it ended.
        expired_at: Timestamp,
        /// The server's time.
        server_time: Timestamp,
    },
}

impl AuthError {
    /// The AWS error name, for `x-amzn-ErrorType` and the body's `Code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingAuthenticationToken => "MissingAuthenticationTokenException",
            Self::IncompleteSignature(_) => "IncompleteSignatureException",
            Self::InvalidSignature(_) => "InvalidSignatureException",
            Self::UnrecognizedClient => "UnrecognizedClientException",
            Self::ExpiredToken { .. } => "ExpiredTokenException",
            Self::ClockSkew { .. } | Self::PresignedExpired { .. } => "RequestExpired",
        }
    }

    /// The HTTP status: 400 for a signature that cannot be read, else 403.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::IncompleteSignature(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::FORBIDDEN,
        }
    }
}

/// What is wrong with the form of a signature.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// A part that the signature needs is absent.
    #[error("the signature has no '{0}' parameter")]
    MissingParameter(&'static str),
    /// A part stands there twice, so that it is unclear which one counts.
    #[error("the signature has more than one '{0}'; send one")]
    Repeated(&'static str),
    /// A piece of the Authorization header without an equals sign.
    #[error(
        "the Authorization header holds a piece that is not a key=value pair; expected \
         AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…"
    )]
    NotAPair,
    /// A key in the Authorization header that the scheme does not have.
    #[error(
        "the Authorization header holds an unknown parameter; only Credential, SignedHeaders and \
         Signature are allowed"
    )]
    UnknownParameter,
    /// Another scheme, such as `Basic`, or asymmetric signatures.
    #[error("unsupported signing algorithm: only AWS4-HMAC-SHA256 is accepted")]
    UnsupportedAlgorithm,
    /// Not `AK/date/region/service/aws4_request`.
    #[error(
        "the Credential must have exactly 5 elements separated by slashes: \
         ACCESS_KEY_ID/YYYYMMDD/REGION/{SERVICE}/{TERMINATOR}"
    )]
    Credential,
    /// A region name with characters that no region has.
    #[error("the Credential's region may hold only lower-case letters, digits and hyphens")]
    Region,
    /// A header name in the list is empty or no header name.
    #[error(
        "SignedHeaders must be a list of lower-case header names separated by semicolons, such as \
         host;x-amz-date"
    )]
    SignedHeaders,
    /// Neither `X-Amz-Date` nor `Date`.
    #[error("the request has no date: send an X-Amz-Date or a Date header")]
    MissingDate,
    /// A date that cannot be read.
    #[error("the request's date cannot be read: X-Amz-Date must have the form YYYYMMDDTHHMMSSZ")]
    Date,
    /// `X-Amz-Expires` is out of bounds.
    #[error(
        "X-Amz-Expires must be a number of seconds from 1 to {}",
        MAX_PRESIGNED_LIFETIME.as_secs()
    )]
    Expires,
    /// Both an Authorization header and a presigned query.
    #[error("the request is signed twice, in the Authorization header and in the query; send one")]
    SignedTwice,
    /// A header that must be text is not.
    #[error("the header '{0}' is not plain text")]
    NotText(&'static str),
}

/// Why a well-formed signature does not fit the request.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Mismatch {
    /// The signature itself is wrong.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check the \
         secret access key, and that no proxy between client and server changes the method, the \
         path, the query, the body or a signed header ({signed_headers})"
    )]
    Signature {
        /// The names of the headers that were signed.
        signed_headers: String,
    },
    /// The scope names another day than the request's date.
    #[error(
        "Date in Credential scope does not match the date of the request: {scope} is not the day \
         of {request}"
    )]
    ScopeDate {
        /// The scope's date.
        scope: String,
        /// The request's date and time.
        request: String,
    },
    /// The scope is for another service.
    #[error("Credential should be scoped to correct service: '{SERVICE}'")]
    Service,
    /// The scope does not end as version 4 does.
    #[error("Credential should be scoped with a valid terminator: '{TERMINATOR}'")]
    Terminator,
    /// A header that must be signed is not.
    #[error("'{0}' must be among the SignedHeaders, so that it cannot be changed on the way")]
    Unsigned(&'static str),
    /// A header in `SignedHeaders` did not arrive.
    #[error(
        "the signed header '{name}' is not in the request; a proxy may have removed it: let it \
         pass, or have the client not sign it"
    )]
    AbsentHeader {
        /// The header's name.
        name: String,
    },
    /// `x-amz-content-sha256` is not the body's hash.
    #[error(
        "x-amz-content-sha256 is not the SHA-256 of the body that arrived, as 64 lower-case hex \
         digits"
    )]
    PayloadHash,
    /// The payload is not signed, or signed in chunks.
    #[error(
        "this service wants the payload signed as a whole: unsigned, chunked and trailing payload \
         signatures are not accepted"
    )]
    PayloadMode,
}

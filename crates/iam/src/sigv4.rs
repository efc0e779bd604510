//! AWS Signature Version 4: both sides for the service `backup`, the client's side for any.
//!
//! One piece of code makes the canonical request, and both [`verify`] and [`sign`] use it; tests
//! hold it against botocore's signer and the Rust SDK's.
//!
//! Three points where servers commonly go wrong:
//!
//! * The path is signed **encoded twice**: the path on the wire, dot segments and double slashes
//!   removed, is URI-encoded once more, so `/tags/arn%3Aaws` signs as `/tags/arn%253Aaws`. Only S3
//!   does otherwise.
//! * The signature covers the *normalised* path ([`normalize_path`]). A server that routes on the
//!   raw path should refuse, or route by, what differs from its normal form.
//! * Clients disagree about a query that was not encoded strictly (`+`, a bare `/`): botocore signs
//!   the bytes as they are, the SDKs decode and encode again, a `+` being a space. Either form is
//!   accepted; both have the same meaning to a server that reads `+` as a space, as ours must.

mod authorization;
mod canonical;
mod date;
mod error;
mod key;
mod sign;
mod verify;

pub use canonical::normalize_path;
pub use error::{AuthError, Malformed, Mismatch};
pub use sign::{SignError, sign, sign_for};
pub use verify::{MAX_CLOCK_SKEW, MAX_PRESIGNED_LIFETIME, Verified, verify};

use http::{HeaderMap, Method};

/// The service name in the credential scope. Our own operations are signed with it too.
pub const SERVICE: &str = "backup";

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
const X_AMZ_DATE: &str = "x-amz-date";
const X_AMZ_SECURITY_TOKEN: &str = "x-amz-security-token";
const X_AMZ_CONTENT_SHA256: &str = "x-amz-content-sha256";

/// A request as it stands on the wire: what is signed, and what is verified.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// The HTTP method.
    pub method: &'a Method,
    /// The path as sent, still percent-encoded, without the query.
    pub raw_path: &'a str,
    /// The query as sent, still percent-encoded, without the `?`; empty when there is none.
    pub raw_query: &'a str,
    /// All headers as received, `host` included.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
}

//! Who is asking, and may they?
//!
//! Every request to Provault is signed with AWS Signature Version 4, the scheme all AWS clients
//! already speak. This room turns such a request into a [`Verified`] caller
//! ([`verify`]), signs requests for our own command line ([`sign`]), makes and
//! describes [`AccessKey`]s, reads and writes the AWS credentials file that clients take them from
//! ([`CredentialsFile`]), and answers whether a [`Principal`] may perform an action on a resource
//! ([`authorize_with`], on what [`ACTIONS`] says).
//!
//! Invariants:
//!
//! * **Pure.** Nothing here reads a clock, a socket or an environment variable: the time is a
//!   parameter, and so is the lookup of access keys. The exceptions are named so: access keys take
//!   randomness from the operating system, and the credentials file is a file.
//! * **Secrets stay secret.** A [`Secret`] prints as `Secret(…)`, is wiped from memory when
//!   dropped, and appears in no error message. Signatures are compared in constant time.
//! * **Deny by default.** What is not understood is refused with a typed error: an unknown member
//!   of a policy, a condition, a payload hash that is not the body's own.
//! * **AWS's words.** Errors carry the names and HTTP statuses that AWS clients act upon
//!   ([`AuthError::code`], [`Denied::code`]).

mod access_key;
mod action;
mod authorize;
mod credentials;
mod credentials_file;
mod ini;
mod managed;
mod policy;
mod principal;
mod secret;
mod sigv4;

pub use access_key::{AccessKey, KeyStatus, RandomError, Session};
pub use action::{ACTIONS, Scope, scopes};
pub use authorize::{Denied, DeniedBecause, authorize_with};
pub use credentials::Credentials;
pub use credentials_file::{CredentialsError, CredentialsFile};
pub use ini::{Ini, IniError};
pub use managed::ManagedPolicy;
pub use policy::{Decision, Policy, PolicyError};
pub use principal::{Principal, PrincipalError, PrincipalKind};
pub use secret::Secret;
pub use sigv4::{
    AuthError, MAX_CLOCK_SKEW, MAX_PRESIGNED_LIFETIME, Malformed, Mismatch, SERVICE, SignError,
    SignedRequest, Verified, normalize_path, sign, sign_for, verify,
};

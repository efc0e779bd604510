//! What a client signs with.

use crate::Secret;

/// The client's side of an access key: what stands in one profile of a credentials file.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The public part, such as `AKIA…`.
    pub access_key_id: String,
    /// The key's secret.
    pub secret_access_key: Secret,
    /// Present for temporary credentials only.
    pub session_token: Option<Secret>,
}

//! How a storage is reached, and how patiently.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{LiveBounds, StorageError, StorageErrorKind};

/// How a storage is used. The defaults suit production.
#[derive(Debug, Clone)]
pub struct StorageOptions {
    /// An operation that makes no progress for so long has failed; one that does not tell how it gets
    /// on has so long for all of it. One minute.
    pub timeout: Duration,
    /// The slowest connection that is put up with, in bytes per second: an operation may take
    /// [`timeout`](Self::timeout) and its bytes at this rate, then it has failed even if it still
    /// trickles. 64 KiB/s.
    pub slowest: NonZeroU64,
    /// What failed for a reason that passes is tried again until so much time has gone by since
    /// its first failure; zero for never. Two minutes.
    pub retry_for: Duration,
    /// The pause before the first retry, doubled each time and shortened by chance to as little as
    /// half. 250 ms.
    pub first_pause: Duration,
    /// No pause is longer. 15 seconds.
    pub longest_pause: Duration,
    /// What all jobs of a storage take together at most; may be changed while it is open.
    pub bounds: LiveBounds,
    /// For `s3://`.
    pub s3: S3Options,
}

/// 64 KiB per second.
const SLOWEST: NonZeroU64 = NonZeroU64::new(64 << 10).unwrap();

impl Default for StorageOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_mins(1),
            slowest: SLOWEST,
            retry_for: Duration::from_mins(2),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(15),
            bounds: LiveBounds::default(),
            s3: S3Options::default(),
        }
    }
}

impl StorageOptions {
    /// An operation that makes no progress for `timeout` has failed, and what passes is tried again
    /// for twice as long, as it is by default.
    pub fn with_timeout(timeout: Duration) -> Self {
        Self { timeout, retry_for: timeout.saturating_mul(2), ..Self::default() }
    }

    /// How long an operation that moves so many bytes may take.
    pub(super) fn deadline(&self, bytes: u64) -> Duration {
        self.timeout.saturating_add(Duration::from_secs(bytes / self.slowest))
    }
}

/// Where an S3-compatible store is and who we are there, by the names of AWS's own environment
/// variables.
#[derive(Clone, Default)]
pub struct S3Options {
    variables: BTreeMap<&'static str, Zeroizing<String>>,
}

impl S3Options {
    /// The variables that are understood.
    pub const VARIABLES: &[&str] = &[
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL_STS",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_CA_BUNDLE",
    ];

    /// What the environment of this process says.
    pub fn from_environment() -> Self {
        let set = |name: &&'static str| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
            Some((*name, Zeroizing::new(value)))
        };
        Self { variables: Self::VARIABLES.iter().filter_map(set).collect() }
    }

    /// The same with one of [`VARIABLES`](Self::VARIABLES) set to a value.
    pub fn with(mut self, variable: &str, value: &str) -> Result<Self, StorageError> {
        let known = Self::VARIABLES.iter().find(|name| **name == variable).ok_or_else(|| {
            let message = format!("there is no such setting; there are {:?}", Self::VARIABLES);
            StorageError::new("set", variable, StorageErrorKind::Invalid, message)
        })?;
        self.variables.insert(known, Zeroizing::new(value.to_owned()));
        Ok(self)
    }

    /// The URL of a store that is not AWS's, as far as it is set.
    pub fn endpoint(&self) -> Option<&str> {
        self.get("AWS_ENDPOINT_URL_S3").or_else(|| self.get("AWS_ENDPOINT_URL"))
    }

    pub(super) fn get(&self, variable: &str) -> Option<&str> {
        self.variables.get(variable).map(|value| value.as_str())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.variables.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

impl fmt::Debug for S3Options {
    /// The names alone: the values are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

//! Access keys: what the server knows of a signer.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rand::TryRng as _;
use rand::rngs::{SysError, SysRng};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::{Credentials, Principal, Secret};

/// AWS's alphabet for key ids: base 32, so that no two characters look alike. 32 divides 256, so
/// a byte picks a letter without bias.
const ID_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// An access key as the server stores it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccessKey {
    /// The public part: 20 characters, `AKIA…` for lasting keys.
    pub access_key_id: String,
    /// The secret both sides sign with.
    pub secret: Secret,
    /// Whom requests signed with this key speak for; its ARN names the account.
    pub principal: Principal,
    /// When the key was made.
    pub created_at: Timestamp,
    /// Whether the key may be used.
    pub status: KeyStatus,
    /// Present for temporary credentials: the token they must bring along, and their end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
}

/// Whether an access key may be used; the words are IAM's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyStatus {
    /// Requests are accepted.
    Active,
    /// Requests are refused as if the key were unknown; it can be made active again.
    Inactive,
}

/// What makes an access key temporary.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Must be sent, and signed, as `x-amz-security-token`.
    pub token: Secret,
    /// From this moment on the key is refused with `ExpiredTokenException`.
    pub expires_at: Timestamp,
}

/// The operating system gave no random bytes.
#[derive(Debug, Error)]
#[error(
    "the operating system gave no random bytes, so no access key was made ({0}); try again, and if \
     it persists check that the process may call getrandom(2)"
)]
pub struct RandomError(SysError);

impl AccessKey {
    /// Makes a lasting, active key for `principal` from the operating system's random bytes:
    /// `AKIA` and 16 letters (80 bits), and a secret of 240 bits as 40 base64 characters.
    pub fn generate(principal: Principal, now: Timestamp) -> Result<Self, RandomError> {
        let mut letters = [0_u8; 16];
        SysRng.try_fill_bytes(&mut letters).map_err(RandomError)?;
        let mut access_key_id = String::from("AKIA");
        access_key_id
            .extend(letters.iter().map(|byte| char::from(ID_ALPHABET[usize::from(byte % 32)])));
        let mut random = Zeroizing::new([0_u8; 30]);
        SysRng.try_fill_bytes(random.as_mut_slice()).map_err(RandomError)?;
        let secret = Secret::new(STANDARD.encode(random.as_slice()));
        Ok(Self {
            access_key_id,
            secret,
            principal,
            created_at: now,
            status: KeyStatus::Active,
            session: None,
        })
    }

    /// The account that the key belongs to, 12 digits.
    pub fn account_id(&self) -> &str {
        self.principal.account_id()
    }

    /// What a client needs in order to sign with this key.
    pub fn credentials(&self) -> Credentials {
        Credentials {
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret.clone(),
            session_token: self.session.as_ref().map(|session| session.token.clone()),
        }
    }
}

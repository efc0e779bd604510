//! Page tokens: opaque to clients, and worthless when made up or carried elsewhere.
//!
//! A token holds the place where a page ended and a digest of the list it belongs to (account,
//! operation and filter), and is authenticated by a secret of the server. A token of another list
//! or filter is refused: it would silently skip rows.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use provault_catalog::Cursor;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{AppError, Result};

const MAC_BYTES: usize = 32;
/// No token of ours comes near; longer ones are not decoded at all.
const LONGEST: usize = 4096;

/// The secret that tokens are authenticated by.
#[derive(Clone)]
pub(crate) struct TokenKey([u8; 32]);

#[derive(Serialize, Deserialize)]
struct Body {
    /// Digest of the list.
    list: String,
    after: Cursor,
}

impl TokenKey {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    fn mac(&self, body: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(body);
        Some(mac)
    }

    /// A token for the page behind `after` of `list`.
    pub(crate) fn issue(&self, list: &str, after: Cursor) -> Result<String> {
        let body = serde_json::to_vec(&Body { list: digest(list), after })
            .map_err(|error| AppError::fault(&error))?;
        let mac = self.mac(&body).ok_or_else(|| AppError::fault(&"no key for page tokens"))?;
        let mut token = mac.finalize().into_bytes().to_vec();
        token.extend(body);
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    /// The place a token of `list` names.
    pub(crate) fn read(&self, list: &str, token: &str) -> Result<Cursor> {
        let forged = || {
            AppError::invalid(
                "NextToken",
                "this server did not issue it; begin again without NextToken.",
            )
        };
        if token.len() > LONGEST {
            return Err(forged());
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| forged())?;
        let (presented, body) = bytes.split_at_checked(MAC_BYTES).ok_or_else(forged)?;
        let mac = self.mac(body).ok_or_else(forged)?;
        mac.verify_slice(presented).map_err(|_| forged())?;
        let body: Body = serde_json::from_slice(body).map_err(|_| forged())?;
        if body.list != digest(list) {
            return Err(AppError::invalid(
                "NextToken",
                "it belongs to another list, or to this one with other filters; repeat the request \
                 it came from, or begin again without NextToken.",
            ));
        }
        Ok(body.after)
    }
}

fn digest(list: &str) -> String {
    hex::encode(&Sha256::digest(list.as_bytes())[..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn cursor() -> Cursor {
        Cursor { created_at: "2024-05-31T13:00:00.123456Z".parse().unwrap(), id: "a/ü".to_owned() }
    }

    #[test]
    fn a_token_comes_back_as_the_place_it_was_made_for() {
        let key = TokenKey::new([7; 32]);
        let token = key.issue("ListBackupVaults", cursor()).unwrap();
        assert_eq!(key.read("ListBackupVaults", &token).unwrap(), cursor());
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{token}");
    }

    #[test]
    fn a_token_of_another_list_or_server_is_refused() {
        let key = TokenKey::new([7; 32]);
        let token = key.issue("ListBackupJobs state=RUNNING", cursor()).unwrap();
        let stale = key.read("ListBackupJobs state=FAILED", &token).unwrap_err();
        assert_eq!(stale.kind, ErrorKind::InvalidParameterValue);
        assert!(stale.message.starts_with("NextToken: it belongs to another list"), "{stale}");
        let elsewhere = TokenKey::new([8; 32]).read("ListBackupJobs state=RUNNING", &token);
        assert!(elsewhere.unwrap_err().message.contains("did not issue it"));
    }

    #[test]
    fn no_bit_of_a_token_can_be_changed() {
        let key = TokenKey::new([7; 32]);
        let token = key.issue("list", cursor()).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert!(key.read("list", &changed).is_err(), "byte {index}");
        }
        for wrong in ["", "x", "AAAA", "!!!!", &token[..token.len() - 2], &"A".repeat(1 << 20)] {
            let error = key.read("list", wrong).unwrap_err();
            assert_eq!(error.member.as_deref(), Some("NextToken"));
        }
    }
}

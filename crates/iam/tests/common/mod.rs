//! What the signature tests share.
#![allow(dead_code, reason = "every test file uses its own part")]

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jiff::Timestamp;
use provault_iam::{
    AccessKey, AuthError, KeyStatus, Principal, Secret, Session, SignedRequest, Verified, verify,
};

/// A whole request that owns its parts.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Request {
    pub fn as_signed(&self) -> SignedRequest<'_> {
        SignedRequest {
            method: &self.method,
            raw_path: &self.path,
            raw_query: &self.query,
            headers: &self.headers,
            body: &self.body,
        }
    }

    pub fn verify(&self, key: &AccessKey, now: Timestamp) -> Result<Verified, AuthError> {
        verify(&self.as_signed(), |id| (id == key.access_key_id).then(|| key.clone()), now)
    }

    pub fn set(&mut self, name: &str, value: &str) {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
}

pub fn key(id: &str, secret: &str, token: Option<&str>) -> AccessKey {
    AccessKey {
        access_key_id: id.to_owned(),
        secret: Secret::new(secret),
        principal: Principal::root("123456789012").unwrap(),
        created_at: Timestamp::UNIX_EPOCH,
        status: KeyStatus::Active,
        session: token
            .map(|token| Session { token: Secret::new(token), expires_at: Timestamp::MAX }),
    }
}

/// Reads `YYYYMMDDTHHMMSSZ` by other means than the crate's own.
pub fn time(text: &str) -> Timestamp {
    let iso = format!(
        "{}-{}-{}T{}:{}:{}Z",
        &text[..4],
        &text[4..6],
        &text[6..8],
        &text[9..11],
        &text[11..13],
        &text[13..15]
    );
    iso.parse().unwrap()
}

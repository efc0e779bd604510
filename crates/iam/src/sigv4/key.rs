//! Keyed hashing: from a secret to a signature.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{ALGORITHM, TERMINATOR};
use crate::Secret;

/// Where, when and for whom a signature holds: `DATE/REGION/SERVICE/aws4_request`.
pub(super) struct Scope<'a> {
    /// `YYYYMMDD`.
    pub date: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

impl Scope<'_> {
    pub(super) fn text(&self) -> String {
        format!("{}/{}/{}/{TERMINATOR}", self.date, self.region, self.service)
    }
}

/// The hash of a canonical request, bound to its time and scope.
pub(super) fn string_to_sign(amz_date: &str, scope: &Scope<'_>, canonical: &[u8]) -> String {
    let hash = hex::encode(Sha256::digest(canonical));
    format!("{ALGORITHM}\n{amz_date}\n{}\n{hash}", scope.text())
}

/// A MAC over `text` under the signing key that `scope` derives from `secret`.
pub(super) fn mac(secret: &Secret, scope: &Scope<'_>, text: &str) -> Hmac<Sha256> {
    let start = Zeroizing::new(format!("AWS4{}", secret.expose_secret()));
    let mut key = Zeroizing::new(digest(start.as_bytes(), scope.date));
    for part in [scope.region, scope.service, TERMINATOR] {
        key = Zeroizing::new(digest(key.as_slice(), part));
    }
    keyed(key.as_slice(), text.as_bytes())
}

/// Whether two tokens are equal, in a time that does not depend on where they differ.
pub(super) fn same_token(expected: &Secret, presented: &str) -> bool {
    let key = b"compare";
    keyed(key, expected.expose_secret().as_bytes())
        .verify_slice(&keyed(key, presented.as_bytes()).finalize().into_bytes())
        .is_ok()
}

fn digest(key: &[u8], text: &str) -> [u8; 32] {
    keyed(key, text.as_bytes()).finalize().into_bytes().into()
}

fn keyed(key: &[u8], text: &[u8]) -> Hmac<Sha256> {
    // HMAC is defined for keys of every length; the error exists for other constructions.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!());
    mac.update(text);
    mac
}

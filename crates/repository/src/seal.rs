//! Sealing small secrets under a local wrapping key: how a vault's password is kept at rest.
//!
//! A sealed secret is bound to a context (the vault's ARN): the sealing key is derived from the
//! wrapping key and the context, so what was sealed for one vault does not open for another.

use zeroize::{Zeroize, Zeroizing};

use crate::crypto::{AeadKey, hmac};
use crate::error::{Error, Result};

/// First byte of everything sealed here, so that the scheme can change one day.
const SCHEME: u8 = 1;

/// A 256-bit key that seals other keys. Redacted in debug output, wiped when dropped.
#[derive(Clone)]
pub struct WrappingKey([u8; 32]);

impl WrappingKey {
    /// A fresh random key.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// The key made of these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// How much a passphrase is stretched: the binary logarithm of scrypt's N. 128 MiB of memory.
    pub const STRETCH: u8 = 17;

    /// The key that scrypt (r 8, p 1) makes of a passphrase and a salt.
    pub fn from_passphrase(passphrase: &str, salt: &[u8], log_n: u8) -> Result<Self> {
        // What comes out of a file must not make us take all memory there is.
        if !(1..=20).contains(&log_n) {
            return Err(Error::Unsealable);
        }
        let params = scrypt::Params::new(log_n, 8, 1).map_err(|_| Error::Unsealable)?;
        let mut bytes = [0; 32];
        scrypt::scrypt(passphrase.as_bytes(), salt, &params, &mut bytes)
            .map_err(|error| Error::Internal(error.to_string()))?;
        Ok(Self(bytes))
    }

    /// The key's bytes, to be stored where only their owner reads them.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals `secret` for `context`. Sealing twice gives different bytes.
    pub fn seal(&self, context: &str, secret: &[u8]) -> Vec<u8> {
        let mut out = vec![SCHEME];
        self.key_for(context).seal_into(secret, &mut out);
        out
    }

    /// Opens what [`Self::seal`] sealed for the same context, or [`Error::Unsealable`].
    pub fn unseal(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        match sealed.split_first() {
            Some((&SCHEME, rest)) => {
                self.key_for(context).open(rest).map(Zeroizing::new).map_err(|_| Error::Unsealable)
            }
            _ => Err(Error::Unsealable),
        }
    }

    fn key_for(&self, context: &str) -> AeadKey {
        let part = |label: &[u8]| hmac(&self.0, &[b"provault seal 1 ", label, context.as_bytes()]);
        AeadKey::from_bytes(&part(b"encrypt "), &part(b"mac "))
    }
}

impl Drop for WrappingKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for WrappingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WrappingKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_with_the_same_key_and_context() {
        let key = WrappingKey::generate();
        let sealed = key.seal("vault-a", b"password");
        assert_eq!(key.unseal("vault-a", &sealed).unwrap().as_slice(), b"password");
        assert_ne!(sealed, key.seal("vault-a", b"password"));
        assert!(matches!(key.unseal("vault-b", &sealed), Err(Error::Unsealable)));
        assert!(WrappingKey::generate().unseal("vault-a", &sealed).is_err());
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 4;
            assert!(key.unseal("vault-a", &changed).is_err());
        }
        assert!(key.unseal("vault-a", b"").is_err());
    }
}

//! The format's cipher: AES-256 in counter mode, authenticated by Poly1305-AES.
//!
//! A sealed message is `IV (16) || ciphertext || MAC (16)`. The MAC covers the ciphertext, under
//! the one-time key `r || AES-128(k, IV)`; see Bernstein, "The Poly1305-AES message-authentication
//! code", and the chapter on keys of restic's design document.

use aes::cipher::{BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use aes::{Aes128, Aes256};
use hmac::{Hmac, Mac};
use poly1305::Poly1305;
use sha2::Sha256;
use zeroize::Zeroize;

/// Bytes that sealing adds: the IV and the MAC.
pub const OVERHEAD: usize = 32;
const IV: usize = 16;
const MAC: usize = 16;

type Ctr = ctr::Ctr128BE<Aes256>;

/// The message does not authenticate under this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it does not authenticate under the repository's key")]
pub struct Unauthentic;

/// A key pair of the format: one for encryption, one for authentication. Wiped when dropped.
#[derive(Clone)]
pub struct AeadKey {
    pub(crate) encrypt: [u8; 32],
    pub(crate) mac_k: [u8; 16],
    pub(crate) mac_r: [u8; 16],
}

impl AeadKey {
    /// A fresh random key.
    pub fn generate() -> Self {
        Self::from_bytes(&rand::random::<[u8; 32]>(), &rand::random::<[u8; 32]>())
    }

    /// The key made of an encryption key and an authentication key (`k` then `r`).
    pub fn from_bytes(encrypt: &[u8; 32], mac: &[u8; 32]) -> Self {
        let mut key = Self { encrypt: *encrypt, mac_k: [0; 16], mac_r: [0; 16] };
        key.mac_k.copy_from_slice(&mac[..16]);
        key.mac_r.copy_from_slice(&mac[16..]);
        key
    }

    /// Whether no part is all zeros; restic refuses such keys.
    pub fn is_valid(&self) -> bool {
        [&self.encrypt[..], &self.mac_k, &self.mac_r]
            .iter()
            .all(|part| part.iter().any(|byte| *byte != 0))
    }

    /// A secret for another purpose, named by `label`, from which this key cannot be found.
    pub fn derive(&self, label: &str) -> [u8; 32] {
        let mut secret = [self.encrypt.as_slice(), &self.mac_k, &self.mac_r].concat();
        let derived = hmac(&secret, &[label.as_bytes()]);
        secret.zeroize();
        derived
    }

    fn mac(&self, iv: &[u8], ciphertext: &[u8]) -> [u8; MAC] {
        let mut one_time = [0; 32];
        one_time[..16].copy_from_slice(&self.mac_r);
        let mut block = [0; 16];
        block.copy_from_slice(iv);
        let mut block = block.into();
        Aes128::new(&self.mac_k.into()).encrypt_block(&mut block);
        one_time[16..].copy_from_slice(&block);
        // Poly1305 masks `r` itself, as the format wants.
        let tag = Poly1305::new(&one_time.into()).compute_unpadded(ciphertext);
        one_time.zeroize();
        tag.into()
    }

    fn apply_keystream(&self, iv: &[u8], data: &mut [u8]) {
        let mut nonce = [0; IV];
        nonce.copy_from_slice(iv);
        Ctr::new(&self.encrypt.into(), &nonce.into()).apply_keystream(data);
    }

    /// Appends the sealed `plaintext` to `out` and returns how many bytes that took.
    pub fn seal_into(&self, plaintext: &[u8], out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.reserve(plaintext.len() + OVERHEAD);
        let iv = rand::random::<[u8; IV]>();
        out.extend_from_slice(&iv);
        out.extend_from_slice(plaintext);
        let body = start + IV;
        self.apply_keystream(&iv, &mut out[body..]);
        let mac = self.mac(&iv, &out[body..]);
        out.extend_from_slice(&mac);
        out.len() - start
    }

    /// The sealed `plaintext`.
    pub fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.seal_into(plaintext, &mut out);
        out
    }

    /// The plaintext of a sealed message, once it is seen to be authentic.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, Unauthentic> {
        let mut plaintext = Vec::new();
        self.open_into(sealed, &mut plaintext)?;
        Ok(plaintext)
    }

    /// The same in memory that was used before: `plaintext` is replaced.
    pub fn open_into(&self, sealed: &[u8], plaintext: &mut Vec<u8>) -> Result<(), Unauthentic> {
        plaintext.clear();
        if sealed.len() < OVERHEAD {
            return Err(Unauthentic);
        }
        let (iv, rest) = sealed.split_at(IV);
        let (ciphertext, mac) = rest.split_at(rest.len() - MAC);
        let expected = self.mac(iv, ciphertext);
        // Without an early exit, so that time tells nothing about where it differs.
        let difference = expected.iter().zip(mac).fold(0, |all, (a, b)| all | (a ^ b));
        if difference != 0 {
            return Err(Unauthentic);
        }
        plaintext.extend_from_slice(ciphertext);
        self.apply_keystream(iv, plaintext);
        Ok(())
    }
}

impl Drop for AeadKey {
    fn drop(&mut self) {
        self.encrypt.zeroize();
        self.mac_k.zeroize();
        self.mac_r.zeroize();
    }
}

impl std::fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AeadKey(…)")
    }
}

/// HMAC-SHA-256 over the concatenated parts.
pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC takes a key of any length, so the `Err` side cannot occur.
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(key) else { unreachable!() };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// 2 KiB that only a holder of `secret` can compute.
pub(crate) fn expand(secret: &[u8; 32]) -> [u8; 2048] {
    let mut bytes = [0; 2048];
    Ctr::new(&(*secret).into(), &[0; IV].into()).apply_keystream(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appendix B of the Poly1305-AES paper.
    #[test]
    fn poly1305_aes_agrees_with_the_paper() {
        let part = |text: &str| <[u8; 16]>::try_from(hex::decode(text).unwrap()).unwrap();
        let key = AeadKey {
            encrypt: [1; 32],
            mac_k: part("ec074c835580741701425b623235add6"),
            mac_r: part("851fc40c3467ac0be05cc20404f3f700"),
        };
        let mac = key.mac(&part("fb447350c4e868c52ac3275cf9d4327e"), &hex::decode("f3f6").unwrap());
        assert_eq!(hex::encode(mac), "f4c633c3044fc145f84f335cb81953de");
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let key = AeadKey::generate();
        let sealed = key.seal(b"attack at dawn, or perhaps later");
        assert_eq!(key.open(&sealed).unwrap(), b"attack at dawn, or perhaps later");
        for position in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[position / 8] ^= 1 << (position % 8);
            assert_eq!(key.open(&changed), Err(Unauthentic));
        }
        for length in 0..sealed.len() {
            assert_eq!(key.open(&sealed[..length]), Err(Unauthentic));
        }
    }
}

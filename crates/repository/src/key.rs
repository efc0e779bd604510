//! Passwords and key files: how the master key of a repository is kept.
//!
//! A key file under `keys/` holds the master key, sealed by a key that scrypt derives from a
//! password. A repository may have several, one a password.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::AeadKey;
use crate::error::{Error, Result};
use crate::go_json::Base64;
use crate::limits;

/// scrypt's cost for a password of 256 random bits, which no amount of guessing finds: stretching
/// adds nothing, and opening a repository stays cheap. Stock restic reads the parameters from the
/// key file.
const LOG_N_RANDOM: u8 = 10;
/// For a password that a person may have chosen: what restic arrives at on most machines. Its floor
/// is half of that.
const LOG_N_CHOSEN: u8 = 15;
const R: u32 = 8;
const P: u32 = 1;

/// More memory than this for one key derivation (`128 · N · r` bytes) is refused: restic never
/// asks for more than a fraction of it, so it is a damaged or hostile key file.
const MAX_SCRYPT_MEMORY: u64 = 1 << 30;

/// A repository's password. Redacted in debug output, wiped when dropped.
///
/// One that was [generated](Self::generate) is known to be random while it stays in this type; one
/// read as text may have been chosen by a person, and a key file for it is made hard to guess at.
#[derive(Clone)]
pub struct Password {
    text: String,
    random: bool,
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Password {}

impl Password {
    /// 256 random bits, as 64 hexadecimal digits.
    pub fn generate() -> Self {
        let mut bytes = rand::random::<[u8; 32]>();
        let text = hex::encode(bytes);
        bytes.zeroize();
        Self { text, random: true }
    }

    /// A password chosen elsewhere, such as that of an existing restic repository.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self { text: text.into(), random: false }
    }

    /// The password itself, for sealing it or for handing it to stock restic.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl Drop for Password {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

/// A key file, its parameters within bounds.
#[derive(Serialize, Deserialize)]
pub(crate) struct KeyFile {
    pub(crate) created: String,
    pub(crate) username: String,
    pub(crate) hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: Base64,
    data: Base64,
}

#[derive(Serialize, Deserialize)]
struct MasterKeyJson {
    mac: MacKeyJson,
    encrypt: String,
}

#[derive(Serialize, Deserialize)]
struct MacKeyJson {
    k: String,
    r: String,
}

fn user_key(password: &Password, log_n: u8, r: u32, p: u32, salt: &[u8]) -> Result<AeadKey> {
    let params = scrypt::Params::new(log_n, r, p)
        .map_err(|_| Error::damaged("key file", "impossible scrypt parameters"))?;
    let mut derived = Zeroizing::new([0; 64]);
    scrypt::scrypt(password.text.as_bytes(), salt, &params, derived.as_mut_slice())
        .map_err(|error| Error::Internal(error.to_string()))?;
    let (mut encrypt, mut mac) = ([0; 32], [0; 32]);
    encrypt.copy_from_slice(&derived[..32]);
    mac.copy_from_slice(&derived[32..]);
    let key = AeadKey::from_bytes(&encrypt, &mac);
    encrypt.zeroize();
    mac.zeroize();
    Ok(key)
}

/// Whether a key file was made by us for a random password. No other program makes one so cheap:
/// restic never goes below N = 16384. That tells a repository of ours that is older than the field
/// in its config that says so.
pub(crate) fn is_ours(content: &[u8]) -> bool {
    serde_json::from_slice::<KeyFile>(content).is_ok_and(|file| file.n == 1 << LOG_N_RANDOM)
}

/// Which passwords need not be stretched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stretch {
    /// Random ones.
    UnlessRandom,
    /// None: a cheap key file would make the repository look like one that we began.
    Always,
}

/// The JSON of a new key file that keeps `master` under `password`.
pub(crate) fn write(
    master: &AeadKey,
    password: &Password,
    stretch: Stretch,
    hostname: &str,
    username: &str,
) -> Result<Vec<u8>> {
    let salt = rand::random::<[u8; 64]>();
    let cheap = password.random && stretch == Stretch::UnlessRandom;
    let log_n = if cheap { LOG_N_RANDOM } else { LOG_N_CHOSEN };
    let plain = MasterKeyJson {
        mac: MacKeyJson { k: BASE64.encode(master.mac_k), r: BASE64.encode(master.mac_r) },
        encrypt: BASE64.encode(master.encrypt),
    };
    let plain = Zeroizing::new(json(&plain)?);
    let file = KeyFile {
        created: jiff::Timestamp::now().to_string(),
        username: username.to_owned(),
        hostname: hostname.to_owned(),
        kdf: "scrypt".to_owned(),
        n: 1 << log_n,
        r: R,
        p: P,
        salt: Base64(salt.to_vec()),
        data: Base64(user_key(password, log_n, R, P, &salt)?.seal(&plain)),
    };
    json(&file)
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Internal(error.to_string()))
}

impl KeyFile {
    /// Reads the key file `name`. Nothing costly is done.
    pub(crate) fn parse(name: &str, content: &[u8]) -> Result<Self> {
        let file: Self =
            serde_json::from_slice(content).map_err(|error| Error::damaged(name, error))?;
        if file.kdf != "scrypt" {
            return Err(Error::damaged(name, "its key derivation is not scrypt"));
        }
        let memory = file.n.checked_mul(u64::from(file.r)).and_then(|n| n.checked_mul(128));
        let work = memory.and_then(|memory| memory.checked_mul(u64::from(file.p)));
        if !file.n.is_power_of_two()
            || file.n < 2
            || file.r == 0
            || file.p == 0
            || memory.is_none_or(|memory| memory > MAX_SCRYPT_MEMORY)
            || work.is_none_or(|work| work > limits::KEY_WORK)
        {
            return Err(Error::damaged(name, "its scrypt parameters are out of bounds"));
        }
        Ok(file)
    }

    /// What it costs to try a password: `128 · N · r · p` bytes.
    pub(crate) fn work(&self) -> u64 {
        128 * self.n * u64::from(self.r) * u64::from(self.p)
    }

    /// The master key in the key file `name`, or `None` when it belongs to another password.
    pub(crate) fn open(&self, name: &str, password: &Password) -> Result<Option<AeadKey>> {
        let bad = |what: &str| Error::damaged(name, what);
        let log_n = u8::try_from(self.n.trailing_zeros()).unwrap_or(u8::MAX);
        let user = user_key(password, log_n, self.r, self.p, &self.salt.0)?;
        let Ok(plain) = user.open(&self.data.0).map(Zeroizing::new) else { return Ok(None) };
        let master: MasterKeyJson =
            serde_json::from_slice(&plain).map_err(|_| bad("it holds no master key"))?;
        let mut encrypt = part::<32>(&master.encrypt).ok_or_else(|| bad("bad encryption key"))?;
        let mut mac = [0; 32];
        mac[..16].copy_from_slice(&part::<16>(&master.mac.k).ok_or_else(|| bad("bad MAC key"))?);
        mac[16..].copy_from_slice(&part::<16>(&master.mac.r).ok_or_else(|| bad("bad MAC key"))?);
        let key = AeadKey::from_bytes(&encrypt, &mac);
        encrypt.zeroize();
        mac.zeroize();
        if key.is_valid() { Ok(Some(key)) } else { Err(bad("its master key is all zeros")) }
    }
}

fn part<const N: usize>(text: &str) -> Option<[u8; N]> {
    Zeroizing::new(BASE64.decode(text).ok()?).as_slice().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(name: &str, content: &[u8], password: &Password) -> Result<Option<AeadKey>> {
        KeyFile::parse(name, content)?.open(name, password)
    }

    #[test]
    fn a_key_file_opens_with_its_password_only() {
        let master = AeadKey::generate();
        let password = Password::generate();
        let file = write(&master, &password, Stretch::UnlessRandom, "host", "root").unwrap();
        let opened = open("k", &file, &password).unwrap().unwrap();
        assert_eq!(opened.encrypt, master.encrypt);
        assert_eq!((opened.mac_k, opened.mac_r), (master.mac_k, master.mac_r));
        assert!(open("k", &file, &Password::generate()).unwrap().is_none());
        assert!(!format!("{password:?}").contains(password.expose()));
    }

    #[test]
    fn a_password_that_may_be_guessed_is_stretched() {
        let write = |password: &Password, stretch| {
            write(&AeadKey::generate(), password, stretch, "host", "root").unwrap()
        };
        let cost = |password: &Password| {
            let file = write(password, Stretch::UnlessRandom);
            serde_json::from_slice::<KeyFile>(&file).unwrap().n
        };
        let random = Password::generate();
        assert_eq!(cost(&random), 1 << LOG_N_RANDOM);
        assert!(is_ours(&write(&random, Stretch::UnlessRandom)));
        assert!(!is_ours(&write(&random, Stretch::Always)));
        // The same text from outside: nobody knows any more where it comes from.
        assert_eq!(cost(&Password::from_text(random.expose())), 1 << LOG_N_CHOSEN);
        assert_eq!(cost(&Password::from_text("correct horse")), 1 << LOG_N_CHOSEN);
    }

    #[test]
    fn absurd_scrypt_parameters_are_refused_before_any_memory_is_taken() {
        for (n, r, p) in [
            (1u64 << 40, 8, 1),
            (1024, 1 << 30, 1),
            (1000, 8, 1),
            (0, 8, 1),
            (1, 8, 1),
            (1024, 8, 1 << 20),
            (1024, 0, 1),
            (1024, 8, 0),
            // Within the memory, but for minutes.
            (1 << 20, 8, 5),
        ] {
            let text = format!(
                r#"{{"created":"","username":"","hostname":"","kdf":"scrypt","N":{n},"r":{r},"p":{p},"salt":"","data":""}}"#
            );
            let result = open("k", text.as_bytes(), &Password::generate());
            assert!(matches!(result, Err(Error::DamagedFile { .. })), "{n} {r} {p}");
        }
    }
}

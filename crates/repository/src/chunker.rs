//! Cutting files into chunks where their content says so, so that an insertion moves the cuts near
//! it and no others.
//!
//! A repository that we began is cut by `FastCDC`; one that another program began goes on being cut
//! as restic does ([`rabin`](crate::rabin)), so that what it holds is found again. `FastCDC`'s gear
//! table is a secret of the repository: the lengths of stored chunks are visible to
//! whoever sees the storage, and with a public table they would tell which known file it is.

use fastcdc::v2020::{Normalization, cut_gear, select_masks};

use crate::config::Config;
use crate::crypto::{AeadKey, expand};
use crate::error::Result;
use crate::key;
use crate::rabin::Rabin;
use crate::repository::{FileKind, list};
use crate::storage::Storage;

/// The sizes that restic cuts to: at least, about, at most. In bytes.
pub(crate) const MIN: usize = 512 * 1024;
const AVERAGE: usize = 1024 * 1024;
pub(crate) const MAX: usize = 8 * 1024 * 1024;

/// How a repository cuts.
pub(crate) enum ChunkerParams {
    /// As one that we began.
    Gear(Box<Gear>),
    /// As restic.
    Rabin(Box<Rabin>),
}

/// The parameters of `FastCDC`.
pub(crate) struct Gear {
    table: Box<[u64]>,
    shifted: Box<[u64]>,
    mask_small: u64,
    mask_large: u64,
}

impl ChunkerParams {
    /// As whoever began the repository cuts. A wrong guess would cost space, and nothing else.
    pub(crate) fn of(storage: &dyn Storage, config: &Config, master: &AeadKey) -> Result<Self> {
        // restic would not work with such a polynomial, so it has not cut by it.
        let Some(polynomial) = config.polynomial() else { return Ok(Self::new(master)) };
        let mut ours = config.provault_chunker.is_some();
        if !ours {
            // Ours from before the config told has a key file that only we make.
            for (id, _) in list(storage, FileKind::Key)? {
                match storage.get(&FileKind::Key.name(&id)) {
                    Ok(content) => ours |= key::is_ours(&content),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(if ours { Self::new(master) } else { Self::rabin(polynomial) })
    }

    /// With the secret gear table of the repository.
    pub(crate) fn new(master: &AeadKey) -> Self {
        Self::Gear(Box::new(Gear::new(master)))
    }

    /// By restic's fingerprint with this polynomial.
    pub(crate) fn rabin(polynomial: u64) -> Self {
        Self::Rabin(Box::new(Rabin::new(polynomial)))
    }

    /// Length of the first chunk of `data`. All of `data`, if shorter than `MAX`, means that none ends
    /// in it: more data may tell, unless the file ends here.
    pub(crate) fn cut(&self, data: &[u8]) -> usize {
        match self {
            Self::Gear(gear) => gear.cut(data),
            Self::Rabin(rabin) => rabin.cut(data),
        }
    }
}

impl Gear {
    fn new(master: &AeadKey) -> Self {
        let bytes = expand(&master.derive("provault fastcdc gear table 1"));
        let table: Box<[u64]> =
            bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let shifted = table.iter().map(|value| value << 1).collect();
        let (mask_small, mask_large) = select_masks(AVERAGE, Normalization::Level1);
        Self { table, shifted, mask_small, mask_large }
    }

    fn cut(&self, data: &[u8]) -> usize {
        cut_gear(
            data,
            MIN,
            AVERAGE,
            MAX,
            self.mask_small,
            self.mask_large,
            self.mask_small << 1,
            self.mask_large << 1,
            &self.table,
            &self.shifted,
        )
        .1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts with `step` bytes in sight at first, and ever more while no chunk ends in them.
    fn chunks(params: &ChunkerParams, data: &[u8], step: usize) -> Vec<Vec<u8>> {
        let (mut rest, mut all) = (data, Vec::new());
        while !rest.is_empty() {
            let mut sight = step.min(rest.len());
            let length = loop {
                let length = params.cut(&rest[..sight]);
                if length < sight || length == MAX || sight == rest.len() {
                    break length;
                }
                sight = (sight + step).min(rest.len());
            };
            all.push(rest[..length].to_vec());
            rest = &rest[length..];
        }
        all
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1u64;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect()
    }

    #[test]
    fn cuts_depend_on_content_and_key_not_on_how_it_is_read() {
        let params = ChunkerParams::new(&AeadKey::from_bytes(&[7; 32], &[8; 32]));
        let data = noise(30 << 20);
        let whole = chunks(&params, &data, usize::MAX);
        assert_eq!(whole.concat(), data);
        assert!(whole.len() > 12, "{} chunks", whole.len());
        assert_eq!(chunks(&params, &data, 100_003), whole);
        let sizes: Vec<_> = whole.iter().map(Vec::len).collect();
        assert!(sizes[..sizes.len() - 1].iter().all(|size| (MIN..=MAX).contains(size)));

        let other = ChunkerParams::new(&AeadKey::from_bytes(&[9; 32], &[8; 32]));
        assert_ne!(chunks(&other, &data, usize::MAX)[0].len(), whole[0].len());
        let mut inserted = data.clone();
        inserted.splice(1000..1000, [1, 2, 3]);
        let after = chunks(&params, &inserted, usize::MAX);
        let kept = after.iter().filter(|chunk| whole.contains(chunk)).count();
        assert!(kept + 3 >= whole.len(), "{kept} of {} chunks kept", whole.len());
        assert!(chunks(&params, &[], 1).is_empty());
        assert_eq!(chunks(&params, &vec![0; 20 << 20], usize::MAX).len(), 3);
    }

    /// The config tells who began a repository; in one of ours that is older than that field, the
    /// key file does, whichever key opens it.
    #[test]
    fn a_repository_keeps_the_chunker_it_was_begun_with() {
        use std::sync::Arc;

        use crate::{ObjectStorage, Options, Password, Repository};

        let directory = tempfile::tempdir().unwrap();
        let storage: Arc<dyn Storage> = Arc::new(ObjectStorage::local(directory.path()).unwrap());
        let (random, chosen) = (Password::generate(), Password::from_text("chosen"));
        let is_gear = |password: &Password| {
            let opened = Repository::open(storage.clone(), password, Options::default()).unwrap();
            matches!(opened.inner.chunker, ChunkerParams::Gear(_))
        };
        let repository = Repository::init(storage.clone(), &random, Options::default()).unwrap();
        let cheap = repository.key_of(&random).unwrap();
        repository.add_key(&chosen).unwrap();
        assert!(is_gear(&random) && is_gear(&chosen));

        let mut config = repository.config().clone();
        config.provault_chunker = None;
        let json = serde_json::to_vec(&config).unwrap();
        assert!(!String::from_utf8_lossy(&json).contains("provault"));
        storage.delete("config").unwrap();
        storage.put("config", repository.inner.key.seal(&json).into()).unwrap();
        assert!(is_gear(&random) && is_gear(&chosen));
        repository.remove_key(&cheap, &chosen).unwrap();
        assert!(!is_gear(&chosen), "nothing tells it from restic's any more");
    }
}

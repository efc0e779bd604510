//! Cutting files into chunks where their content says so (`FastCDC`), so that an insertion moves
//! the cuts near it and no others.
//!
//! The gear table is a secret of the repository: the lengths of stored chunks are visible to
//! whoever sees the storage, and with a public table they would tell which known file it is.

use fastcdc::v2020::{Normalization, cut_gear, select_masks};

use crate::crypto::{AeadKey, expand};

/// The sizes that restic cuts to: at least, about, at most. In bytes.
pub(crate) const MIN: usize = 512 * 1024;
const AVERAGE: usize = 1024 * 1024;
pub(crate) const MAX: usize = 8 * 1024 * 1024;

/// How a repository cuts.
pub(crate) struct ChunkerParams {
    gear: Box<[u64]>,
    gear_shifted: Box<[u64]>,
    mask_small: u64,
    mask_large: u64,
}

impl ChunkerParams {
    pub(crate) fn new(master: &AeadKey) -> Self {
        let bytes = expand(&master.derive("provault fastcdc gear table 1"));
        let gear: Box<[u64]> =
            bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let gear_shifted = gear.iter().map(|value| value << 1).collect();
        let (mask_small, mask_large) = select_masks(AVERAGE, Normalization::Level1);
        Self { gear, gear_shifted, mask_small, mask_large }
    }

    /// Length of the first chunk of `data`. All of `data`, if shorter than `MAX`, means that none ends
    /// in it: more data may tell, unless the file ends here.
    pub(crate) fn cut(&self, data: &[u8]) -> usize {
        cut_gear(
            data,
            MIN,
            AVERAGE,
            MAX,
            self.mask_small,
            self.mask_large,
            self.mask_small << 1,
            self.mask_large << 1,
            &self.gear,
            &self.gear_shifted,
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
}

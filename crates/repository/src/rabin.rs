//! Cutting files as restic does: a Rabin fingerprint of the last 64 bytes, by the polynomial of the
//! repository's config.
//!
//! A chunk ends where the 20 lowest bits of the fingerprint are zero, but not before 512 KiB and at
//! 8 MiB at the latest. The fingerprint is the window's bytes, taken as a polynomial over GF(2),
//! modulo the config's; so whether a place is a cut depends on the 64 bytes before it alone. That
//! lets several places be looked at side by side, which hides the latency of the one chain of
//! operations that a single walk is.

use crate::chunker::{MAX, MIN};

const WINDOW: usize = 64;
/// 2^20 bytes on average, beyond the smallest length.
const MASK: u64 = (1 << 20) - 1;
/// So many places far apart are looked at side by side.
const LANES: usize = 4;
/// How far each goes before the next four are begun.
const STRIDE: usize = 8 << 10;

/// The tables of one polynomial.
pub(crate) struct Rabin {
    /// What a byte has become by the time it leaves the window.
    out: [u64; 256],
    /// What to add for the bits that a shift by one byte moves beyond the polynomial's degree:
    /// these bits themselves, and what they are modulo the polynomial.
    reduce: [u64; 256],
    /// Where the highest byte of a fingerprint begins.
    shift: u32,
}

impl Rabin {
    /// The tables of a polynomial of degree 53, as [`Config::polynomial`] gives it.
    ///
    /// [`Config::polynomial`]: crate::Config::polynomial
    pub(crate) fn new(polynomial: u64) -> Self {
        let degree = polynomial.ilog2();
        let mut tables = Self { out: [0; 256], reduce: [0; 256], shift: degree - 8 };
        for (byte, entry) in (0..).zip(&mut tables.reduce) {
            let above: u64 = byte << degree;
            let mut rest = above;
            for bit in (degree..degree + 8).rev() {
                if rest >> bit & 1 == 1 {
                    rest ^= polynomial << (bit - degree);
                }
            }
            *entry = rest | above;
        }
        for byte in 0..=u8::MAX {
            let mut digest = tables.push(0, byte);
            for _ in 1..WINDOW {
                digest = tables.push(digest, 0);
            }
            tables.out[usize::from(byte)] = digest;
        }
        tables
    }

    /// The fingerprint with one byte more behind it.
    #[inline]
    fn push(&self, digest: u64, byte: u8) -> u64 {
        #[allow(clippy::cast_possible_truncation)] // Below the degree, so that this is one byte.
        let index = (digest >> self.shift) as u8;
        (digest << 8 | u64::from(byte)) ^ self.reduce[usize::from(index)]
    }

    /// The fingerprint of the window one byte further on.
    #[inline]
    fn slide(&self, digest: u64, leaves: u8, enters: u8) -> u64 {
        self.push(digest ^ self.out[usize::from(leaves)], enters)
    }

    fn fingerprint(&self, window: &[u8]) -> u64 {
        window.iter().fold(0, |digest, byte| self.push(digest, *byte))
    }

    /// Length of the first chunk of `data`; see [`ChunkerParams::cut`].
    ///
    /// [`ChunkerParams::cut`]: crate::chunker::ChunkerParams::cut
    pub(crate) fn cut(&self, data: &[u8]) -> usize {
        let limit = data.len().min(MAX);
        if limit <= MIN {
            return limit;
        }
        let mut end = MIN;
        while end + LANES * STRIDE <= limit {
            if let Some(found) = self.search(data, end) {
                return found;
            }
            end += LANES * STRIDE;
        }
        let mut digest = self.fingerprint(&data[end - WINDOW..end]);
        while end < limit && digest & MASK != 0 {
            digest = self.slide(digest, data[end - WINDOW], data[end]);
            end += 1;
        }
        end
    }

    /// The first cut among the `LANES · STRIDE` places from `from` on.
    fn search(&self, data: &[u8], from: usize) -> Option<usize> {
        let lane = |number: usize| {
            let start = from + number * STRIDE;
            let window = &data[start - WINDOW..start];
            (self.fingerprint(window), &data[start - WINDOW..][..STRIDE], &data[start..][..STRIDE])
        };
        let lanes: [_; LANES] = std::array::from_fn(lane);
        let mut digests = lanes.map(|(digest, _, _)| digest);
        let mut found = [usize::MAX; LANES];
        for step in 0..STRIDE {
            for (number, (digest, (_, leaves, enters))) in
                digests.iter_mut().zip(&lanes).enumerate()
            {
                if *digest & MASK == 0 {
                    found[number] = found[number].min(step);
                }
                *digest = self.slide(*digest, leaves[step], enters[step]);
            }
            // Nothing can come before the first lane's first.
            if found[0] != usize::MAX {
                break;
            }
        }
        let first = found.iter().enumerate().find(|(_, step)| **step != usize::MAX)?;
        Some(from + first.0 * STRIDE + first.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of restic's own tests.
    const POLYNOMIAL: u64 = 0x003D_A335_8B4D_C173;

    /// The window's bits as one long polynomial, reduced bit by bit.
    fn slow_fingerprint(window: &[u8]) -> u64 {
        let mut digest = 0;
        for bit in window.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)) {
            digest = digest << 1 | u64::from(bit);
            if digest >> 53 & 1 == 1 {
                digest ^= POLYNOMIAL;
            }
        }
        digest
    }

    /// restic's loop, word for word, over the slow fingerprint.
    fn slow_cut(data: &[u8]) -> usize {
        for end in MIN..data.len().min(MAX) {
            if slow_fingerprint(&data[end - WINDOW..end]) & MASK == 0 {
                return end;
            }
        }
        data.len().min(MAX)
    }

    fn noise(mut state: u64, length: usize) -> Vec<u8> {
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect()
    }

    #[test]
    fn fingerprints_slide_as_they_are_defined() {
        let rabin = Rabin::new(POLYNOMIAL);
        let data = noise(3, 1000);
        let mut digest = rabin.fingerprint(&data[..WINDOW]);
        for end in WINDOW..data.len() {
            assert_eq!(digest, slow_fingerprint(&data[end - WINDOW..end]), "{end}");
            digest = rabin.slide(digest, data[end - WINDOW], data[end]);
        }
    }

    /// Lengths around each border between the lanes, the strides and the single walk, and cuts in
    /// each of them: an all-zero window is always a cut, so cuts are put where they are wanted.
    #[test]
    fn lanes_find_the_cut_that_a_slow_walk_finds() {
        let rabin = Rabin::new(POLYNOMIAL);
        let base = noise(5, MIN + 2 * LANES * STRIDE + 1000);
        for at in [0, 1, STRIDE - 1, STRIDE, 3 * STRIDE + 7, LANES * STRIDE - 1, LANES * STRIDE]
            .into_iter()
            .chain([2 * LANES * STRIDE + 500])
        {
            let mut data = base.clone();
            let end = MIN + at;
            data[end - WINDOW..end].fill(0);
            // A later one, in an earlier lane's next round or in a later lane, must not win.
            let later = (end + 2 * STRIDE).min(data.len());
            data[later - WINDOW..later].fill(0);
            assert_eq!(rabin.cut(&data), slow_cut(&data), "cut at {at}");
            assert_eq!(rabin.cut(&data), end, "cut at {at}");
        }
        for length in [0, 1, MIN - 1, MIN, MIN + 1, MIN + LANES * STRIDE - 1, MIN + LANES * STRIDE]
        {
            assert_eq!(rabin.cut(&base[..length]), slow_cut(&base[..length]), "length {length}");
        }
        assert_ne!(slow_fingerprint(&[1; WINDOW]) & MASK, 0);
        assert_eq!(rabin.cut(&vec![1; MAX + 10]), MAX);
    }
}

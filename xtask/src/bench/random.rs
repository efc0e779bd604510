//! Numbers that are the same on every machine and for ever: the corpora are made of them, so their
//! stream may not change with the version of a library.

/// `SplitMix64`: small, quick, and good enough to be incompressible.
#[derive(Debug, Clone)]
pub struct Random(u64);

/// Two of them make a word; text made of such words shrinks to about a half.
const SYLLABLES: [&str; 32] = [
    "ba", "cor", "del", "en", "fi", "gra", "hol", "in", "jo", "kel", "lu", "mar", "nor", "op",
    "per", "qua", "re", "sti", "tal", "un", "ver", "wi", "xe", "yon", "zu", "ack", "sto", "tri",
    "plan", "ger", "mo", "lay",
];

impl Random {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for everything that has a name.
    pub fn of(seed: u64, name: &str) -> Self {
        // FNV-1a, then one round, so that near names are far apart.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64 ^ seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(Self(hash).next())
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(end);
        u64::try_from(product >> 64).unwrap_or_default()
    }

    /// Bytes that no compressor shrinks.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// This many bytes of words and lines.
    pub fn text(&mut self, length: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(length + 16);
        while text.len() < length {
            let bits = self.next();
            for shift in [0, 5, 10] {
                let at = usize::try_from(bits >> shift & 31).unwrap_or_default();
                text.extend_from_slice(SYLLABLES[at].as_bytes());
            }
            text.push(if bits >> 60 == 0 { b'\n' } else { b' ' });
        }
        text.truncate(length);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_the_published_one() {
        // The reference values of SplitMix64 for seed 1234567.
        let mut random = Random::new(1_234_567);
        let wanted = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        for value in wanted {
            assert_eq!(random.next(), value);
        }
    }

    #[test]
    fn names_have_streams_of_their_own() {
        assert_ne!(Random::of(1, "a").next(), Random::of(1, "b").next());
        assert_ne!(Random::of(1, "a").next(), Random::of(2, "a").next());
        assert_eq!(Random::of(1, "a").next(), Random::of(1, "a").next());
        assert!((0..1000).all(|_| Random::new(7).below(10) < 10));
        assert_eq!(Random::new(3).text(100).len(), 100);
    }
}

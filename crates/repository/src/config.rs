//! The file `config`: format version, repository id, and the polynomial of restic's chunker.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::Id;

/// The content of `config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Format version: 2, or 1 in an older repository, where nothing is compressed.
    pub version: u32,
    /// Random name of the repository.
    pub id: Id,
    /// Irreducible polynomial over GF(2) of degree 53, in hexadecimal. Stock restic cuts files by
    /// it, and so do we in a repository that restic began.
    pub chunker_polynomial: String,
    /// How files are cut in a repository that we began: `fastcdc`. Absent where another program
    /// began it. restic passes over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provault_chunker: Option<String>,
}

impl Config {
    /// A fresh configuration of version 2.
    pub fn generate() -> Self {
        let chunker_polynomial = format!("{:x}", random_polynomial());
        let provault_chunker = Some(FASTCDC.to_owned());
        Self { version: 2, id: Id::random(), chunker_polynomial, provault_chunker }
    }

    /// The polynomial to cut by, if it is one that restic would accept.
    pub(crate) fn polynomial(&self) -> Option<u64> {
        let polynomial = u64::from_str_radix(&self.chunker_polynomial, 16).ok()?;
        (polynomial >> DEGREE == 1 && is_irreducible(polynomial)).then_some(polynomial)
    }

    pub(crate) fn parse(json: &[u8]) -> Result<Self> {
        let config: Self =
            serde_json::from_slice(json).map_err(|error| Error::damaged("config", error))?;
        match config.version {
            1 | 2 => Ok(config),
            version => Err(Error::UnsupportedVersion(version)),
        }
    }

    /// Whether blobs and files may be compressed.
    pub(crate) fn compresses(&self) -> bool {
        self.version >= 2
    }
}

/// The chunker of the repositories that we begin.
pub(crate) const FASTCDC: &str = "fastcdc";

const DEGREE: u32 = 53;

/// About one odd polynomial of degree 53 in 27 is irreducible, so this ends quickly.
fn random_polynomial() -> u64 {
    loop {
        let candidate = rand::random::<u64>() & ((1 << DEGREE) - 1) | (1 << DEGREE) | 1;
        if is_irreducible(candidate) {
            return candidate;
        }
    }
}

/// Rabin's test. As 53 is prime, `f` is irreducible exactly if it has no root in GF(2) and `x`
/// raised to `2^53` is `x` again modulo `f`.
fn is_irreducible(f: u64) -> bool {
    let no_root = f & 1 == 1 && f.count_ones() % 2 == 1;
    let mut power = 2;
    for _ in 0..DEGREE {
        power = multiply(power, power, f);
    }
    no_root && power == 2
}

/// `a · b mod f` over GF(2), for `a` and `b` of lower degree than `f`.
fn multiply(mut a: u64, mut b: u64, f: u64) -> u64 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        b >>= 1;
        a <<= 1;
        if a >> DEGREE & 1 == 1 {
            a ^= f;
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_polynomials_to_cut_by_are_taken() {
        let with = |text: &str| {
            let chunker_polynomial = text.to_owned();
            Config { chunker_polynomial, ..Config::generate() }.polynomial()
        };
        assert!(Config::generate().polynomial().is_some());
        assert_eq!(with("3da3358b4dc173"), Some(0x003D_A335_8B4D_C173));
        for bad in ["", "x", "0", "1", "3da3358b4dc177", "103da3358b4dc173", "b", "-1"] {
            assert_eq!(with(bad), None, "{bad}");
        }
    }

    #[test]
    fn known_polynomials() {
        // Used by restic's documentation and by its chunker's tests.
        assert!(is_irreducible(0x003D_A335_8B4D_C173));
        assert!(is_irreducible(0x0025_b468_838d_cb75));
        // One more term makes an even number of terms: x + 1 divides it.
        assert!(!is_irreducible(0x003D_A335_8B4D_C173 ^ 4));
        // (x^26 + x + 1) · (x^27 + x^2 + 1): no roots, and still reducible.
        let (a, b) = ((1u64 << 26) | 0b11, (1u64 << 27) | 0b101);
        let product = (0..27).filter(|bit| a >> bit & 1 == 1).fold(0, |all, bit| all ^ (b << bit));
        assert_eq!(product >> 53, 1);
        assert!(!is_irreducible(product));
    }

    /// About one odd polynomial in 26.5 is irreducible.
    #[test]
    fn the_share_of_irreducible_ones_is_right() {
        let found = (0..20_000u64)
            .filter(|n| {
                is_irreducible(
                    (1 << 53) | (n.wrapping_mul(0x9E37_79B9_7F4A) << 1) & ((1 << 53) - 1) | 1,
                )
            })
            .count();
        assert!((600..900).contains(&found), "{found} of 20000");
    }
}

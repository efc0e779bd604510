//! Which packs a check reads that is not to read all.

use rand::seq::SliceRandom as _;

use super::packs::Pack;

/// Some of the packs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PackSubset {
    /// The part `number` of `of` parts, by the first byte of a pack's name, as in restic: with the
    /// numbers from 1 to `of`, every pack is read once. Both are from 1 to 256.
    Part {
        /// Which one, from 1.
        number: u16,
        /// How many parts there are.
        of: u16,
    },
    /// Packs by chance, until they are this many percent of all bytes.
    Percent(f64),
    /// Packs by chance, until they are this many bytes.
    Bytes(u64),
}

impl PackSubset {
    /// Those of the packs that are to be read, in the order given. By chance it is one at least:
    /// reading none would verify nothing and look like success.
    pub(super) fn choose(self, packs: &[Pack]) -> Vec<Pack> {
        let all: u64 = packs.iter().map(|(_, size, _)| size).sum();
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of bytes need not be exact, and the cast keeps within the limits"
        )]
        let wanted = match self {
            Self::Part { number, of } => {
                let (number, of) = (u64::from(number), u64::from(of.max(1)));
                let is_in = |pack: &&Pack| u64::from(pack.0.0[0]) % of == number.saturating_sub(1);
                return packs.iter().filter(is_in).copied().collect();
            }
            Self::Percent(percent) => (all as f64 * percent / 100.0).ceil() as u64,
            Self::Bytes(bytes) => bytes,
        };
        let mut shuffled = packs.to_vec();
        shuffled.shuffle(&mut rand::rng());
        let mut taken = 0;
        let mut chosen: Vec<Pack> = shuffled
            .into_iter()
            .take_while(|(_, size, _)| {
                let goes_on = taken < wanted.max(1);
                taken += size;
                goes_on
            })
            .collect();
        chosen.sort_unstable();
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;

    fn packs(count: u16) -> Vec<Pack> {
        (0..count)
            .map(|number| (Id([number.to_le_bytes()[0]; 32]), 100 + u64::from(number), 1))
            .collect()
    }

    #[test]
    fn the_parts_together_are_all_and_each_is_in_one() {
        for of in [1, 2, 7, 256] {
            let mut seen: Vec<Pack> = (1..=of)
                .flat_map(|number| PackSubset::Part { number, of }.choose(&packs(200)))
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, packs(200), "{of}");
        }
    }

    #[test]
    fn by_chance_it_is_as_much_as_asked_for_and_never_nothing() {
        let all = packs(200);
        let total: u64 = all.iter().map(|pack| pack.1).sum();
        for (subset, wanted) in [
            (PackSubset::Percent(10.0), total / 10),
            (PackSubset::Bytes(5_000), 5_000),
            (PackSubset::Percent(0.0001), 1),
            (PackSubset::Bytes(1), 1),
        ] {
            let chosen = subset.choose(&all);
            let size: u64 = chosen.iter().map(|pack| pack.1).sum();
            assert!(size >= wanted && size < wanted + 400, "{subset:?}: {size}");
            assert!(chosen.is_sorted());
        }
        assert_eq!(PackSubset::Percent(100.0).choose(&all), all);
        assert_eq!(PackSubset::Bytes(u64::MAX).choose(&all), all);
        assert!(PackSubset::Percent(10.0).choose(&[]).is_empty());
    }
}

//! Ranges of bytes.

use crate::error::{Error, Result};

/// A range of a volume's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    /// Where it begins.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
}

impl ByteRange {
    /// The range from `start` up to `end`, which is not in it.
    pub(crate) fn between(start: u64, end: u64) -> Self {
        Self { offset: start, length: end.saturating_sub(start) }
    }

    /// The first byte behind it.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }

    /// What both ranges have in common, if anything.
    pub(crate) fn intersect(self, other: Self) -> Option<Self> {
        let (start, end) = (self.offset.max(other.offset), self.end().min(other.end()));
        (start < end).then(|| Self::between(start, end))
    }
}

/// Sorts the ranges, joins those that touch or overlap, and cuts off what lies beyond `size`: the
/// last granule of a bitmap may reach over the end.
pub(crate) fn normalise(mut ranges: Vec<ByteRange>, size: u64) -> Result<Vec<ByteRange>> {
    if let Some(bad) = ranges.iter().find(|range| range.offset.checked_add(range.length).is_none())
    {
        return Err(Error::InvalidVolume(format!(
            "a changed range of {} bytes from {} ends beyond all numbers",
            bad.length, bad.offset
        )));
    }
    ranges.retain(|range| range.length > 0 && range.offset < size);
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let joined = next.offset <= last.end();
        if joined {
            *last = ByteRange::between(last.offset, last.end().max(next.end()));
        }
        joined
    });
    if let Some(last) = ranges.last_mut() {
        *last = ByteRange::between(last.offset, last.end().min(size));
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn normalised_ranges_cover_the_same_bytes(
            ranges in prop::collection::vec((0u64..60, 0u64..20), 0..12), size in 0u64..70,
        ) {
            let ranges: Vec<_> =
                ranges.into_iter().map(|(offset, length)| ByteRange { offset, length }).collect();
            let covers = |ranges: &[ByteRange], at: u64| {
                ranges.iter().any(|range| range.offset <= at && at < range.end())
            };
            let normal = normalise(ranges.clone(), size).unwrap();
            for at in 0..100 {
                prop_assert_eq!(covers(&normal, at), covers(&ranges, at) && at < size);
            }
            prop_assert!(normal.windows(2).all(|pair| pair[0].end() < pair[1].offset));
            prop_assert!(normal.iter().all(|range| range.length > 0));
        }
    }

    #[test]
    fn a_range_beyond_all_numbers_is_refused() {
        let bad = ByteRange { offset: u64::MAX, length: 2 };
        assert!(matches!(normalise(vec![bad], 10), Err(Error::InvalidVolume(_))));
    }
}

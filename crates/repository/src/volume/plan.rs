//! Which parts of a volume a backup looks into.

use std::ops::Range;

use crate::error::Result;

use super::layout::{GROUP_SEGMENTS, Geometry, SEGMENT_SIZE};
use super::range::{ByteRange, normalise};

/// The ranges to read, handed out segment by segment in ascending order.
pub(crate) struct Plan {
    incremental: bool,
    /// Sorted, apart from each other, within the volume.
    ranges: Vec<ByteRange>,
}

/// How far the plan was handed out.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// The first range that reaches into a segment not handed out yet.
    range: usize,
    /// The first segment not handed out yet.
    segment: u64,
}

/// A segment to look into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) segment: u64,
    /// The ranges of the plan that reach into it.
    ranges: Range<usize>,
    /// Nothing more comes in its group.
    pub(crate) last_of_group: bool,
}

impl Plan {
    /// Everything.
    pub(crate) fn full(geometry: &Geometry) -> Self {
        let all = ByteRange { offset: 0, length: geometry.size };
        Self { incremental: false, ranges: if all.length == 0 { Vec::new() } else { vec![all] } }
    }

    /// What changed since a base, and what must be looked at because the size did.
    pub(crate) fn changed(
        geometry: &Geometry,
        base: &Geometry,
        mut ranges: Vec<ByteRange>,
    ) -> Result<Self> {
        let step = u64::from(geometry.block_size);
        if geometry.size > base.size {
            // The base's last block may be shorter than it is now.
            let start = base.size / step * step;
            ranges.push(ByteRange::between(start, geometry.size));
        } else if geometry.size < base.size && geometry.size > 0 {
            // The last block may be shorter, its segment and its group have fewer parts.
            let start = (geometry.size - 1) / step * step;
            ranges.push(ByteRange::between(start, geometry.size));
        }
        Ok(Self { incremental: true, ranges: normalise(ranges, geometry.size)? })
    }

    /// Whether what is not in the plan is taken over from a base.
    pub(crate) fn is_incremental(&self) -> bool {
        self.incremental
    }

    /// The next segment.
    pub(crate) fn next(&self, cursor: &mut Cursor) -> Option<Task> {
        let segment = self.peek(cursor)?;
        let first = cursor.range;
        let reaching =
            self.ranges[first..].iter().take_while(|range| range.offset / SEGMENT_SIZE <= segment);
        let ranges = first..first + reaching.count();
        let done = self.ranges[ranges.clone()]
            .iter()
            .take_while(|range| (range.end() - 1) / SEGMENT_SIZE <= segment);
        cursor.range += done.count();
        cursor.segment = segment + 1;
        let last_of_group =
            self.peek(cursor).is_none_or(|next| next / GROUP_SEGMENTS != segment / GROUP_SEGMENTS);
        Some(Task { segment, ranges, last_of_group })
    }

    fn peek(&self, cursor: &Cursor) -> Option<u64> {
        let range = self.ranges.get(cursor.range)?;
        Some(cursor.segment.max(range.offset / SEGMENT_SIZE))
    }

    /// The parts of `within`, the range of the task's segment, that are to be read.
    pub(crate) fn parts(&self, task: &Task, within: ByteRange) -> Vec<ByteRange> {
        self.ranges[task.ranges.clone()]
            .iter()
            .filter_map(|range| range.intersect(within))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment_range(geometry: &Geometry, segment: u64) -> ByteRange {
        ByteRange { offset: segment * SEGMENT_SIZE, length: geometry.segment_length(segment) }
    }

    proptest! {
        /// Every byte of every range is handed out once, in ascending segments, and the end of a
        /// group is told exactly once.
        #[test]
        fn hands_out_all_ranges(
            size in 1u64..300 * SEGMENT_SIZE,
            ranges in prop::collection::vec((0u64..300 * SEGMENT_SIZE, 1u64..5 * SEGMENT_SIZE), 0..20),
        ) {
            let geometry = Geometry::new(size, 256 << 10).unwrap();
            let ranges: Vec<_> =
                ranges.into_iter().map(|(offset, length)| ByteRange { offset, length }).collect();
            let plan = Plan::changed(&geometry, &geometry, ranges.clone()).unwrap();
            let expected = normalise(ranges, size).unwrap();
            let mut cursor = Cursor::default();
            let (mut parts, mut tasks) = (Vec::new(), Vec::new());
            while let Some(task) = plan.next(&mut cursor) {
                let found = plan.parts(&task, segment_range(&geometry, task.segment));
                prop_assert!(!found.is_empty());
                parts.extend(found);
                tasks.push(task);
            }
            prop_assert_eq!(normalise(parts, size).unwrap(), expected);
            prop_assert!(tasks.windows(2).all(|pair| pair[0].segment < pair[1].segment
                && pair[0].last_of_group
                    == (pair[0].segment / GROUP_SEGMENTS != pair[1].segment / GROUP_SEGMENTS)));
            prop_assert!(tasks.last().is_none_or(|task| task.last_of_group));
        }
    }

    #[test]
    fn a_changed_size_is_a_change() {
        let geometry = |size| Geometry::new(size, 64 << 10).unwrap();
        let parts = |now, before| {
            Plan::changed(&geometry(now), &geometry(before), Vec::new()).unwrap().ranges
        };
        assert_eq!(parts(100, 100), []);
        assert_eq!(parts(0, 100), []);
        assert_eq!(parts(100_000, 70_000), [ByteRange::between(65_536, 100_000)]);
        assert_eq!(parts(200_000, 65_536), [ByteRange::between(65_536, 200_000)]);
        assert_eq!(parts(70_000, 100_000), [ByteRange::between(65_536, 70_000)]);
        assert_eq!(parts(65_536, 100_000), [ByteRange::between(0, 65_536)]);
    }
}

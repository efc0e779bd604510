//! What differs between two recovery points of a volume.

use crate::error::Result;

use super::layout::{GROUP_SEGMENTS, SEGMENT_SIZE};
use super::range::{ByteRange, normalise};
use super::reader::VolumeReader;

impl VolumeReader {
    /// The ranges of this volume that differ from `older`, block by block, sorted and apart from
    /// each other. What lies beyond the end of `older` is among them; what `older` has beyond the
    /// end of this one is not. Equal groups and segments are passed over by their ids, and no data
    /// is read.
    ///
    /// Between volumes that are cut into blocks of different sizes, all is taken to differ.
    pub fn changes_since(&self, older: &Self) -> Result<Vec<ByteRange>> {
        let (now, then) = (self.geometry(), older.geometry());
        let all = ByteRange { offset: 0, length: now.size };
        if now.block_size != then.block_size {
            return normalise(vec![all], now.size);
        }
        let mut changed = Vec::new();
        for (group, id) in (0..).zip(self.group_ids()) {
            let before = usize::try_from(group).ok().and_then(|at| older.group_ids().get(at));
            // Equal trees of groups of different length do not occur: they list their segments.
            if before == Some(id) {
                continue;
            }
            let segments = self.group_segments(group)?;
            let old = match before {
                Some(_) => Some(older.group_segments(group)?),
                None => None,
            };
            for (place, id) in (0..).zip(segments.iter()) {
                let before = usize::try_from(place).ok().and_then(|at| old.as_ref()?.get(at));
                if before != Some(id) {
                    let segment = group * GROUP_SEGMENTS + place;
                    self.segment_changes(older, segment, before.is_some(), &mut changed)?;
                }
            }
        }
        normalise(changed, now.size)
    }

    fn segment_changes(
        &self,
        older: &Self,
        segment: u64,
        was_there: bool,
        changed: &mut Vec<ByteRange>,
    ) -> Result<()> {
        let start = segment * SEGMENT_SIZE;
        if !was_there {
            let length = self.geometry().segment_length(segment);
            changed.push(ByteRange { offset: start, length });
            return Ok(());
        }
        let (blocks, old) = (self.segment_blocks(segment)?, older.segment_blocks(segment)?);
        let step = u64::from(self.geometry().block_size);
        for (number, id) in (0..).zip(blocks.iter()) {
            let before = usize::try_from(number).ok().and_then(|at| old.get(at));
            if before != Some(id) {
                let offset = start + number * step;
                match changed.last_mut() {
                    Some(last) if last.end() == offset => last.length += step,
                    _ => changed.push(ByteRange { offset, length: step }),
                }
            }
        }
        Ok(())
    }
}

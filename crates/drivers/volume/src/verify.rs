//! A volume read back and compared with what the recovery point holds: block by block, by hash.

use provault_driver::{BlockRange, BlockSource, CancelFlag, DriverError, StoredVolume};
use sha2::{Digest, Sha256};

/// Where a copy differs first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    pub what: String,
}

/// Compares; `size` is what the copy is to have, and beyond the volume it has to be zeros. Nothing
/// when it is the same.
pub(crate) fn compare(
    copy: &dyn BlockSource,
    stored: &dyn StoredVolume,
    size: u64,
    cancel: &CancelFlag,
    read_error: impl Fn(std::io::Error) -> DriverError,
) -> Result<Option<Difference>, DriverError> {
    let found = copy.size();
    if found != size {
        let what = format!("has {found} bytes instead of {size}");
        return Ok(Some(Difference { what }));
    }
    let step = u64::from(stored.block_size());
    let block = usize::try_from(step).unwrap_or(usize::MAX);
    let (mut buffer, zeros) = (vec![0_u8; block], vec![0_u8; block]);
    let zero_hash: [u8; 32] = Sha256::digest(&zeros).into();
    let mut known_zeros = Vec::new().into_iter();
    let mut hole: Option<provault_driver::BlockExtent> = None;
    let mut at = 0;
    while at < size {
        if cancel.is_raised() {
            return Err(DriverError::Cancelled);
        }
        let inside = at < stored.size();
        let end = if inside { (at + step).min(stored.size()) } else { (at + step).min(size) };
        let range = BlockRange::between(at, end);
        while hole.is_none_or(|extent| extent.range.end() <= at) {
            if let Some(extent) = known_zeros.next() {
                hole = Some(extent);
                continue;
            }
            // A part at a time, however scattered the holes are.
            let part = BlockRange::between(at, size.min(at.saturating_add(1 << 30)));
            let extents = copy.extents(part).map_err(&read_error)?;
            known_zeros = extents.into_iter();
            hole = known_zeros.next();
            if hole.is_none_or(|extent| extent.range.length == 0) {
                hole = Some(provault_driver::BlockExtent { range: part, zero: false });
            }
        }
        let zero = hole.is_some_and(|extent| extent.zero && extent.range.end() >= end);
        let length = usize::try_from(range.length).unwrap_or(usize::MAX);
        let bytes = &mut buffer[..length];
        if !zero {
            copy.read_at(at, bytes).map_err(&read_error)?;
        }
        let same = if inside {
            let hash: [u8; 32] = match (zero, length == block) {
                (true, true) => zero_hash,
                (true, false) => Sha256::digest(&zeros[..length]).into(),
                (false, _) => Sha256::digest(&*bytes).into(),
            };
            hash == stored.block_hash(at / step)?
        } else {
            zero || bytes.iter().all(|byte| *byte == 0)
        };
        if !same {
            let what = format!("has other content between bytes {at} and {end}");
            return Ok(Some(Difference { what }));
        }
        at = end;
    }
    Ok(None)
}

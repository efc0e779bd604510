//! One pack, looked at to the last byte.

use crate::error::Result;
use crate::id::Id;
use crate::index::{Location, MemoryIndex};
use crate::limits;
use crate::opener::BlobOpener;
use crate::pack;
use crate::repository::Inner;

/// Looks at every byte of a pack that should have so many bytes and blobs: its size, or what is
/// wrong with it. An error is one of the storage, and says nothing of the pack.
pub(crate) fn read_pack(
    inner: &Inner,
    index: &MemoryIndex,
    id: &Id,
    size: u64,
    blobs: usize,
    opener: &mut BlobOpener,
) -> Result<std::result::Result<u64, String>> {
    match limits::get_pack(inner.storage.as_ref(), id, size) {
        Ok(file) => Ok(look(inner, index, id, blobs, &file, opener)),
        Err(error) if error.is_outage() => Err(error),
        Err(error) => Ok(Err(error.to_string())),
    }
}

fn look(
    inner: &Inner,
    index: &MemoryIndex,
    id: &Id,
    blobs: usize,
    file: &[u8],
    opener: &mut BlobOpener,
) -> std::result::Result<u64, String> {
    if Id::hash(file) != *id {
        return Err("its content does not match its name".to_owned());
    }
    let header = pack::parse(&inner.key, file)?;
    if header.len() != blobs {
        return Err(format!("its header lists {} blobs, the index {blobs}", header.len()));
    }
    for blob in header {
        let place = Location { pack: *id, blob };
        if !index.locations(blob.kind, &blob.id).contains(&place) {
            return Err(format!("blob {} is not in the index as in the header", blob.id));
        }
        let start = blob.offset as usize;
        let sealed = &file[start..start + blob.length as usize];
        opener.open(&inner.key, &place, sealed).map_err(|error| error.to_string())?;
    }
    Ok(file.len() as u64)
}

//! One pack, looked at to the last byte.

use crate::id::Id;
use crate::index::{Location, MemoryIndex};
use crate::limits;
use crate::opener::BlobOpener;
use crate::pack;
use crate::repository::{FileKind, Inner};

/// Looks at every byte of a pack that should hold so many blobs: its size, or what is wrong.
pub(crate) fn read_pack(
    inner: &Inner,
    index: &MemoryIndex,
    id: &Id,
    blobs: usize,
    opener: &mut BlobOpener,
) -> Result<u64, String> {
    let name = FileKind::Pack.name(id);
    let file = limits::get(inner.storage.as_ref(), &name, limits::file(FileKind::Pack))
        .map_err(|error| error.to_string())?;
    if Id::hash(&file) != *id {
        return Err("its content does not match its name".to_owned());
    }
    let header = pack::parse(&inner.key, &file)?;
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

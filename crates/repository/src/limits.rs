//! What a repository may ask of the machine that reads it.
//!
//! Whoever can write to the storage may be hostile, and damage knows no bounds either. So nothing
//! that a repository says about itself is believed before it is compared with what any program
//! writes: a number beyond that is an error, not memory or time. Everything here lies far above
//! what restic, rustic and we ever write, for a refusal would make a good backup unreadable.

use std::io::Read;

use bytes::Bytes;

use crate::crypto::OVERHEAD;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::Location;
use crate::pack::{BlobKind, PackedBlob};
use crate::repository::{FileKind, damaged};
use crate::storage::Storage;

/// The file `config`, in bytes: it holds three short values.
pub(crate) const CONFIG: u64 = 1 << 20;
/// Directories above one another. Paths of Linux end at 4096 bytes unless one climbs down by hand.
pub(crate) const DEPTH: usize = 16_384;
/// A path within a snapshot, in bytes.
pub(crate) const PATH: usize = 1 << 20;
/// JSON of the trees that a walk holds open at a time, in bytes: those of one way down.
pub(crate) const OPEN_TREES: usize = 1 << 30;

/// The header of a pack, in bytes: three million blobs.
pub(crate) const PACK_HEADER: u64 = 128 << 20;

/// Key derivations cost time and memory by the numbers in the key file. This many units of
/// `128 · N · r · p` bytes are spent on one key file at most; restic asks for 64 MiB or so, and
/// rustic for 128 MiB.
pub(crate) const KEY_WORK: u64 = 4 << 30;
/// The same, for all key files of a repository together.
pub(crate) const ALL_KEYS_WORK: u64 = 64 << 30;

/// Files of a kind, in bytes, sealed or plain. (Index files are kept below 8 MiB by all programs;
/// a snapshot names the backed-up paths, which may be many.)
pub(crate) fn file(kind: FileKind) -> u64 {
    match kind {
        FileKind::Index | FileKind::Mark => 128 << 20,
        FileKind::Snapshot => 32 << 20,
        FileKind::Key | FileKind::Lock => 1 << 20,
        // Offsets and lengths within a pack are numbers of 32 bits.
        FileKind::Pack => 4 << 30,
    }
}

/// Plaintext of a blob, in bytes. Chunks of files are 8 MiB at most in restic and here; the tree
/// of a directory with a million entries takes about 350 MB.
pub(crate) fn blob(kind: BlobKind) -> u32 {
    match kind {
        BlobKind::Data => 256 << 20,
        BlobKind::Tree => 1 << 30,
    }
}

/// A file that is never large, and is not read further than it may be long.
pub(crate) fn get(storage: &dyn Storage, name: &str, most: u64) -> Result<Bytes> {
    let content = storage.get_range(name, 0, most + 1)?;
    if content.len() as u64 > most {
        return Err(Error::damaged(name, "it is larger than any such file"));
    }
    Ok(content)
}

/// A pack, which is read no further than its index foretells. [`Error::DamagedFile`] if it has
/// another size.
pub(crate) fn get_pack(storage: &dyn Storage, id: &Id, size: u64) -> Result<Bytes> {
    let name = FileKind::Pack.name(id);
    let size = size.min(file(FileKind::Pack));
    let content = storage.get_range(&name, 0, size + 1)?;
    match content.len() as u64 {
        length if length == size => Ok(content),
        length if length > size => Err(Error::damaged(
            name,
            format!("the pack file has more than the {size} bytes that its index says"),
        )),
        length => Err(Error::damaged(
            name,
            format!("the pack file has {length} bytes, its index says {size}"),
        )),
    }
}

/// An error for a blob that is not worth reading.
pub(crate) fn refuse_absurd(place: &Location) -> Result<()> {
    let PackedBlob { kind, length, uncompressed, .. } = place.blob;
    refuses_blob(kind, length, uncompressed).map_or(Ok(()), |why| Err(damaged(place, why)))
}

/// Why a blob of these lengths (sealed, and plain where it is compressed) is refused unread.
pub(crate) fn refuses_blob(
    kind: BlobKind,
    sealed: u32,
    uncompressed: Option<u32>,
) -> Option<&'static str> {
    let most = blob(kind);
    if u64::from(sealed) > u64::from(most) + OVERHEAD as u64 || uncompressed > Some(most) {
        Some("it is absurdly large")
    } else if (sealed as usize) < OVERHEAD {
        Some("it is too short to be sealed")
    } else {
        None
    }
}

/// Nodes in a tree of `bytes` of JSON, at most. A node in memory is larger than the shortest JSON
/// that stands for one, so a small blob of nothing but `{}` could fill the memory. Programs that
/// write every field need 150 bytes a node and more; those that leave fields out, less, but none
/// does so for many nodes.
pub(crate) fn nodes(bytes: usize) -> usize {
    (bytes / 64).max(100_000)
}

/// The JSON document in the plaintext of an index, snapshot or lock file: as it is, or compressed.
pub(crate) fn decode_file(name: &str, kind: FileKind, plain: Vec<u8>) -> Result<Vec<u8>> {
    let most = file(kind);
    match plain.split_first() {
        Some((b'{' | b'[', _)) => Ok(plain),
        Some((2, compressed)) => {
            let mut json = Vec::new();
            zstd::stream::read::Decoder::new(compressed)
                .and_then(|decoder| decoder.take(most + 1).read_to_end(&mut json))
                .map_err(|error| Error::damaged(name, error))?;
            if json.len() as u64 > most {
                return Err(Error::damaged(name, "it is larger than any such file"));
            }
            Ok(json)
        }
        _ => Err(Error::damaged(name, "its encoding is unknown")),
    }
}

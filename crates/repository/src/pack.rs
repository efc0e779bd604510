//! Pack files: sealed blobs one after the other, then a sealed header that lists them, then the
//! header's length in four bytes (little endian, as all numbers here).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::crypto::{AeadKey, OVERHEAD};
use crate::error::{Error, Result};
use crate::id::Id;

/// What a blob holds. The two kinds never share a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobKind {
    /// A chunk of a file.
    Data,
    /// A directory: a list of nodes.
    Tree,
}

impl fmt::Display for BlobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data",
            Self::Tree => "tree",
        })
    }
}

/// One blob of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedBlob {
    /// SHA-256 of the plaintext.
    pub id: Id,
    /// Data or tree.
    pub kind: BlobKind,
    /// Where the sealed blob begins in the pack, in bytes.
    pub offset: u32,
    /// Length of the sealed blob, in bytes.
    pub length: u32,
    /// Length of the plaintext if it is compressed, else `None`.
    pub uncompressed: Option<u32>,
}

impl PackedBlob {
    /// Length of the plaintext, in bytes.
    pub fn plain_length(&self) -> u64 {
        u64::from(self.uncompressed.unwrap_or_else(|| self.length.saturating_sub(32)))
    }

    fn header_length(&self) -> u64 {
        if self.uncompressed.is_some() { 41 } else { 37 }
    }
}

/// The size of the pack file that holds exactly these blobs.
pub(crate) fn file_size(blobs: &[PackedBlob]) -> u64 {
    let bodies: u64 = blobs.iter().map(|blob| u64::from(blob.length)).sum();
    let header: u64 = blobs.iter().map(PackedBlob::header_length).sum();
    bodies + header + OVERHEAD as u64 + 4
}

/// A pack in the making, in memory.
#[derive(Default)]
pub(crate) struct PackBuilder {
    bytes: Vec<u8>,
    blobs: Vec<PackedBlob>,
}

impl PackBuilder {
    /// An empty pack that is built in `buffer`, whose content is dropped.
    pub(crate) fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { bytes: buffer, blobs: Vec::new() }
    }

    /// Adds a sealed blob.
    pub(crate) fn add(
        &mut self,
        kind: BlobKind,
        id: Id,
        sealed: &[u8],
        uncompressed: Option<u32>,
    ) -> Result<()> {
        let offset = u32_of(self.bytes.len())?;
        let length = u32_of(sealed.len())?;
        self.bytes.extend_from_slice(sealed);
        self.blobs.push(PackedBlob { id, kind, offset, length, uncompressed });
        Ok(())
    }

    /// Bytes of blobs so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn blobs(&self) -> &[PackedBlob] {
        &self.blobs
    }

    /// The finished file with its id, and what is in it.
    pub(crate) fn finish(self, key: &AeadKey) -> Result<(Id, Vec<u8>, Vec<PackedBlob>)> {
        let Self { mut bytes, blobs } = self;
        let mut header = Vec::with_capacity(blobs.len() * 41);
        for blob in &blobs {
            let tree = u8::from(blob.kind == BlobKind::Tree);
            header.push(tree | if blob.uncompressed.is_some() { 2 } else { 0 });
            header.extend_from_slice(&blob.length.to_le_bytes());
            if let Some(length) = blob.uncompressed {
                header.extend_from_slice(&length.to_le_bytes());
            }
            header.extend_from_slice(&blob.id.0);
        }
        let length = key.seal_into(&header, &mut bytes);
        bytes.extend_from_slice(&u32_of(length)?.to_le_bytes());
        Ok((Id::hash(&bytes), bytes, blobs))
    }
}

fn u32_of(length: usize) -> Result<u32> {
    u32::try_from(length).map_err(|_| Error::Limit("a pack holds at most 4 GiB".to_owned()))
}

/// The blobs of a whole pack file, by its own header.
pub(crate) fn parse(key: &AeadKey, file: &[u8]) -> std::result::Result<Vec<PackedBlob>, String> {
    parse_end(key, file, file.len() as u64)
}

/// The same, of the end of a pack file of `size` bytes that holds at least the header.
pub(crate) fn parse_end(
    key: &AeadKey,
    end: &[u8],
    size: u64,
) -> std::result::Result<Vec<PackedBlob>, String> {
    let (rest, length) = end.split_last_chunk::<4>().ok_or("shorter than a header length")?;
    let length = u32::from_le_bytes(*length) as usize;
    let start = rest.len().checked_sub(length).ok_or("header longer than the file")?;
    let before = size.saturating_sub(end.len() as u64) + start as u64;
    let header = key.open(&rest[start..]).map_err(|error| format!("header: {error}"))?;
    let mut header = header.as_slice();
    let mut blobs = Vec::new();
    let mut offset = 0u32;
    while !header.is_empty() {
        let (flags, length) = (take::<1>(&mut header)?[0], take::<4>(&mut header)?);
        let length = u32::from_le_bytes(length);
        let kind = if flags & 1 == 0 { BlobKind::Data } else { BlobKind::Tree };
        let uncompressed = match flags {
            0 | 1 => None,
            2 | 3 => Some(u32::from_le_bytes(take::<4>(&mut header)?)),
            other => return Err(format!("unknown blob type {other} in the header")),
        };
        let id = Id(take::<32>(&mut header)?);
        blobs.push(PackedBlob { id, kind, offset, length, uncompressed });
        offset = offset.checked_add(length).ok_or("blobs beyond 4 GiB")?;
    }
    if u64::from(offset) == before {
        Ok(blobs)
    } else {
        Err(format!("blobs of {offset} bytes before a header at {before}"))
    }
}

fn take<const N: usize>(header: &mut &[u8]) -> std::result::Result<[u8; N], String> {
    let (part, rest) = header.split_first_chunk::<N>().ok_or("header cut short")?;
    *header = rest;
    Ok(*part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells_what_was_added_and_the_size_is_foreseen() {
        let key = AeadKey::generate();
        let mut builder = PackBuilder::default();
        builder.add(BlobKind::Data, Id::hash(b"a"), &[1; 40], None).unwrap();
        builder.add(BlobKind::Data, Id::hash(b"b"), &[2; 50], Some(99)).unwrap();
        let (id, file, blobs) = builder.finish(&key).unwrap();
        assert_eq!(id, Id::hash(&file));
        assert_eq!(parse(&key, &file).unwrap(), blobs);
        assert_eq!(file.len() as u64, file_size(&blobs));
        assert_eq!(
            (blobs[1].offset, blobs[1].plain_length(), blobs[0].plain_length()),
            (40, 99, 8)
        );
        for length in 0..file.len() {
            assert!(parse(&key, &file[..length]).is_err());
        }
        assert!(parse(&AeadKey::generate(), &file).is_err());
    }
}

//! From sealed blobs to verified plaintext, in memory that is used again and again.

use crate::crypto::AeadKey;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::Location;
use crate::limits;
use crate::repository::damaged;

/// Memory is kept from blob to blob up to so many bytes.
const KEPT: usize = 16 << 20;

/// What one thread needs to open blobs.
pub(crate) struct BlobOpener {
    decompressor: zstd::bulk::Decompressor<'static>,
    decrypted: Vec<u8>,
    plain: Vec<u8>,
}

impl BlobOpener {
    pub(crate) fn new() -> Result<Self> {
        let decompressor =
            zstd::bulk::Decompressor::new().map_err(|error| Error::Internal(error.to_string()))?;
        Ok(Self { decompressor, decrypted: Vec::new(), plain: Vec::new() })
    }

    /// The plaintext of a sealed blob: authentic, of the right length, and with the right hash.
    pub(crate) fn open(&mut self, key: &AeadKey, place: &Location, sealed: &[u8]) -> Result<&[u8]> {
        let bad = |reason: &dyn std::fmt::Display| Err(damaged(place, reason));
        limits::refuse_absurd(place)?;
        if sealed.len() != place.blob.length as usize {
            return bad(&"the pack file is cut short");
        }
        self.plain.clear();
        self.plain.shrink_to(KEPT);
        self.decrypted.shrink_to(KEPT);
        if let Err(error) = key.open_into(sealed, &mut self.decrypted) {
            return bad(&error);
        }
        match place.blob.uncompressed {
            None => std::mem::swap(&mut self.plain, &mut self.decrypted),
            Some(length) => {
                // Not `reserve`, which ends the process when there is not enough.
                if self.plain.try_reserve(length as usize).is_err() {
                    return bad(&format!("there is no memory for its {length} bytes"));
                }
                let opened =
                    self.decompressor.decompress_to_buffer(&self.decrypted, &mut self.plain);
                if let Err(error) = opened {
                    return bad(&error);
                }
            }
        }
        let plain = self.plain.as_slice();
        if plain.len() as u64 != place.blob.plain_length() || Id::hash(plain) != place.blob.id {
            return bad(&"its content does not match its id");
        }
        Ok(plain)
    }

    /// The plaintext opened last.
    pub(crate) fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// The plaintext opened last, to keep.
    pub(crate) fn into_plain(self) -> Vec<u8> {
        self.plain
    }
}

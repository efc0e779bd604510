//! Looking around in snapshots: one directory at a time, and files at random.
//!
//! A walk ([`Reader::entries`]) is for restoring; this is for mounts and for people who look for a
//! file. What is read is kept in a bounded cache, which all files of a mount share.

use std::sync::Arc;

use crate::entries::{Entry, EntryKind};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::node::Metadata;
use crate::pack::BlobKind;
use crate::reader::Reader;
use crate::snapshot::Snapshot;
use crate::volume::Cache;

/// Chunks that were read lately.
pub struct ContentCache(Cache<Id, Vec<u8>>);

impl ContentCache {
    /// A cache of at most so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Cache::new(bytes))
    }
}

impl Reader {
    /// The root directory of a snapshot.
    pub fn root(snapshot: &Snapshot) -> Entry {
        let metadata = Metadata {
            mode: 0o755,
            mtime: snapshot.time.into(),
            atime: snapshot.time.into(),
            ctime: snapshot.time.into(),
            ..Metadata::default()
        };
        Entry::directory(Vec::new(), metadata, snapshot.tree)
    }

    /// What is in a directory, sorted by name; paths continue that of `directory`. Entries that
    /// are damaged, or must not be restored, are errors in their places.
    pub fn children(&self, directory: &Entry) -> Result<Vec<Result<Entry>>> {
        let id = directory.subtree.filter(|_| directory.kind == EntryKind::Directory);
        let id = id.ok_or_else(|| Error::NotADirectory(directory.path_text()))?;
        let tree = self.tree(&id).map_err(|error| error.at_path(&directory.path))?;
        let unsafe_names = tree.unsafe_names.into_iter();
        let unsafe_names = unsafe_names.map(|name| Err(Error::UnsafeName { tree: id, name }));
        let entries =
            tree.nodes.into_iter().map(|(name, node)| Entry::below(&directory.path, &name, node));
        Ok(entries.chain(unsafe_names).collect())
    }
}

/// One file that is open for reading at random. Many threads may use it at a time.
pub struct FileReader {
    reader: Arc<Reader>,
    entry: Entry,
    /// Where each chunk begins, and the end of the last.
    starts: Vec<u64>,
    cache: Arc<ContentCache>,
}

impl FileReader {
    /// Opens a regular file. An error tells of chunks that are in no index, or of a size that they
    /// do not add up to.
    pub fn open(reader: Arc<Reader>, entry: Entry, cache: Arc<ContentCache>) -> Result<Self> {
        let mut starts = vec![0];
        let mut at = 0;
        for blob in reader.blobs(&entry)? {
            at += blob.length;
            starts.push(at);
        }
        entry.check_size(at)?;
        Ok(Self { reader, entry, starts, cache })
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Fills `buffer` from `offset` on, and returns how many bytes there were: fewer than it has
    /// room for at the end of the file.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        // The last chunk that begins at or before the offset; chunks are never empty.
        let mut chunk = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        while done < buffer.len()
            && let Some(id) = self.entry.content.get(chunk)
        {
            let plain = self.chunk(id)?;
            let skip = usize::try_from((offset + done as u64).saturating_sub(self.starts[chunk]));
            let here = plain.get(skip.unwrap_or(usize::MAX)..).unwrap_or_default();
            let length = here.len().min(buffer.len() - done);
            buffer[done..done + length].copy_from_slice(&here[..length]);
            done += length;
            chunk += 1;
        }
        Ok(done)
    }

    fn chunk(&self, id: &Id) -> Result<Arc<Vec<u8>>> {
        if let Some(known) = self.cache.0.get(id) {
            return Ok(known);
        }
        let plain = self.reader.inner.read_blob(BlobKind::Data, id);
        let plain = Arc::new(plain.map_err(|error| error.at_path(&self.entry.path))?);
        self.cache.0.insert(*id, Arc::clone(&plain), plain.len() + 128);
        Ok(plain)
    }
}

//! A sink and source in memory, for the tests of drivers.
//!
//! [`MemorySink`] is strict: it refuses, as a vault would have to, every call that breaks the
//! port's promises (order of names, balance of directories, a reader that does not deliver the
//! size it announced, extents that hide data). [`MemorySource`] is unkind: it delivers files and
//! pieces out of order.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::entry::printable;
use crate::memory_volume::{MemoryVolume, Unfit};
use crate::{
    BlockRange, BlockSource, Chunk, ContentSink, DriverError, Entry, FileOutcome, Lineage,
    Metadata, NodeKind, Sink, SinkError, Source, SourceError, StoredVolume, VolumeOutcome,
};

/// Bytes in a chunk; the last one of a file may be shorter.
pub const CHUNK_SIZE: usize = 1 << 20;

/// Collects a capture.
#[derive(Debug, Default)]
pub struct MemorySink {
    tree: MemorySource,
    parent: Option<MemorySource>,
    open: Vec<Frame>,
    begun: bool,
    unchanged: u64,
    lineage: Lineage,
}

#[derive(Debug)]
struct Frame {
    path: Vec<u8>,
    last: Option<Vec<u8>>,
}

fn broken(promise: impl Into<String>) -> SinkError {
    SinkError::Store(format!("the driver broke the port's promise: {}", promise.into()).into())
}

impl MemorySink {
    /// A sink without a parent: every file is read.
    pub fn new() -> Self {
        Self::default()
    }

    /// A sink that takes a file from `parent` when size, times and inode are the same.
    pub fn with_parent(parent: MemorySource) -> Self {
        Self { parent: Some(parent), ..Self::default() }
    }

    /// The same sink, which tells its driver this.
    #[must_use]
    pub fn of(mut self, lineage: Lineage) -> Self {
        self.lineage = lineage;
        self
    }

    /// How many files, and blocks of volumes, are those of the parent.
    pub fn unchanged(&self) -> u64 {
        self.unchanged
    }

    /// Whether the root was begun and every directory ended.
    pub fn is_complete(&self) -> bool {
        self.begun && self.open.is_empty()
    }

    /// What was collected, as a source.
    pub fn into_source(self) -> MemorySource {
        self.tree
    }

    fn enter(&mut self, name: &[u8]) -> Result<Vec<u8>, SinkError> {
        let shown = printable(name);
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
            return Err(broken(format!("'{shown}' is not a name")));
        }
        let Some(frame) = self.open.last_mut() else {
            return Err(broken(format!("'{shown}' was added outside of every directory")));
        };
        if frame.last.as_deref().is_some_and(|last| last >= name) {
            return Err(broken(format!("'{shown}' came out of order")));
        }
        frame.last = Some(name.to_vec());
        let mut path = frame.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Ok(path)
    }

    /// What a later name is compared with when a file did not make it into the capture.
    fn leave_out(&mut self, before: Option<Vec<u8>>) {
        if let Some(frame) = self.open.last_mut() {
            frame.last = before;
        }
    }
}

impl Sink for MemorySink {
    fn begin_dir(&mut self, name: &[u8], metadata: &Metadata) -> Result<(), SinkError> {
        let path = if self.begun {
            self.enter(name)?
        } else if name.is_empty() {
            Vec::new()
        } else {
            return Err(broken("the first directory must be the root"));
        };
        self.begun = true;
        self.open.push(Frame { path: path.clone(), last: None });
        self.tree.push(path, NodeKind::Directory, metadata.clone(), &[]);
        Ok(())
    }

    fn end_dir(&mut self) -> Result<(), SinkError> {
        self.open.pop().map(drop).ok_or_else(|| broken("a directory ended that was not begun"))
    }

    fn add_node(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        kind: &NodeKind,
    ) -> Result<(), SinkError> {
        if matches!(kind, NodeKind::Directory | NodeKind::File) {
            return Err(broken("add_node takes neither directories nor files"));
        }
        let path = self.enter(name)?;
        self.tree.push(path, kind.clone(), metadata.clone(), &[]);
        Ok(())
    }

    fn add_file(
        &mut self,
        name: &[u8],
        metadata: &Metadata,
        open: &mut dyn FnMut() -> io::Result<Box<dyn Read + Send>>,
    ) -> Result<FileOutcome, SinkError> {
        let before = self.open.last().and_then(|frame| frame.last.clone());
        let path = self.enter(name)?;
        if let Some((entry, content)) = self.parent.as_ref().and_then(|p| p.find(&path)) {
            let (old, new) = (&entry.metadata, metadata);
            let same = entry.kind == NodeKind::File
                && (old.size, old.mtime, old.ctime, old.inode)
                    == (new.size, new.mtime, new.ctime, new.inode);
            if same {
                let content = Arc::clone(content);
                self.tree.push(path, NodeKind::File, metadata.clone(), &content);
                self.unchanged += 1;
                return Ok(FileOutcome::Unchanged);
            }
        }
        let mut content = Vec::new();
        let read =
            open().and_then(|reader| reader.take(metadata.size + 1).read_to_end(&mut content));
        if let Err(error) = read {
            self.leave_out(before);
            return Err(SinkError::Read(error));
        }
        if content.len() as u64 != metadata.size {
            return Err(broken(format!(
                "'{}' announced {} bytes and delivered {}",
                printable(&path),
                metadata.size,
                content.len()
            )));
        }
        if let Some(extents) = &metadata.data_extents {
            check_extents(&content, extents)
                .map_err(|e| broken(format!("'{}': {e}", printable(&path))))?;
        }
        self.tree.push(path, NodeKind::File, metadata.clone(), &content);
        Ok(FileOutcome::Stored { bytes: metadata.size })
    }

    fn lineage(&self) -> Lineage {
        self.lineage.clone()
    }

    fn add_volume(
        &mut self,
        name: &[u8],
        blocks: &dyn BlockSource,
        changed: Option<&[BlockRange]>,
    ) -> Result<VolumeOutcome, SinkError> {
        if self.open.len() != 1 {
            return Err(broken("a volume belongs into the root"));
        }
        self.enter(name)?;
        let base = self.parent.as_ref().and_then(|parent| parent.volumes.get(name));
        if changed.is_some() && self.lineage.base.is_none() {
            return Err(broken("changes were named that count from nothing"));
        }
        let (volume, outcome) = MemoryVolume::read(blocks, base, changed).map_err(|e| match e {
            Unfit::Read(error) => SinkError::Read(error),
            Unfit::Promise(promise) => broken(promise),
        })?;
        self.unchanged += base.map_or(0, |base| volume.shared_with(base));
        self.tree.volumes.insert(name.to_vec(), volume);
        Ok(outcome)
    }
}

fn check_extents(content: &[u8], extents: &[(u64, u64)]) -> Result<(), String> {
    let mut end = 0;
    let hole = |from: u64, to: u64| {
        let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
        range
            .and_then(|(from, to)| content.get(from..to))
            .is_some_and(|b| b.iter().all(|x| *x == 0))
    };
    for &(offset, length) in extents {
        if offset < end || length == 0 || !hole(end, offset) {
            return Err(format!("the extent at {offset} is out of order, empty or hides data"));
        }
        end = offset + length;
    }
    if hole(end, content.len() as u64) {
        Ok(())
    } else {
        Err("the extents hide data at the end, or pass it".to_owned())
    }
}

/// A tree in memory. [`Source::copy_contents`] delivers the last file first and every file from
/// its end.
#[derive(Debug, Clone, Default)]
pub struct MemorySource {
    entries: Vec<Entry>,
    contents: BTreeMap<Vec<u8>, Arc<Vec<u8>>>,
    pub(crate) volumes: BTreeMap<Vec<u8>, MemoryVolume>,
}

impl MemorySource {
    /// An empty one, to be filled with [`MemorySource::push`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry, whatever its path: also one that no honest capture could hold.
    pub fn push(&mut self, path: Vec<u8>, kind: NodeKind, metadata: Metadata, content: &[u8]) {
        let chunks = content
            .chunks(CHUNK_SIZE)
            .map(|piece| Chunk { sha256: Sha256::digest(piece).into(), length: piece.len() as u64 })
            .collect();
        if kind == NodeKind::File {
            self.contents.insert(path.clone(), Arc::new(content.to_vec()));
        }
        self.entries.push(Entry { path, kind, metadata, chunks });
    }

    /// The entries in order.
    pub fn list(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries, to be changed by a test.
    pub fn list_mut(&mut self) -> &mut Vec<Entry> {
        &mut self.entries
    }

    /// The entry of a path and its content (empty unless it is a regular file).
    pub fn get(&self, path: &[u8]) -> Option<(&Entry, &[u8])> {
        let entry = self.entries.iter().find(|e| e.path == path)?;
        Some((entry, self.contents.get(path).map_or(&[][..], |c| c.as_slice())))
    }

    /// Flips one bit in the content of a file, behind the back of its chunks.
    pub fn damage(&mut self, path: &[u8]) {
        if let Some(content) = self.contents.get_mut(path)
            && let Some(byte) = Arc::make_mut(content).first_mut()
        {
            *byte ^= 1;
        }
    }

    /// The names and sizes of the volumes.
    pub fn volumes(&self) -> Vec<(&[u8], u64)> {
        self.volumes.iter().map(|(name, v)| (name.as_slice(), v.content.len() as u64)).collect()
    }

    /// The bytes of a volume.
    pub fn volume_bytes(&self, name: &[u8]) -> Option<&[u8]> {
        self.volumes.get(name).map(|volume| volume.content.as_slice())
    }

    /// Flips one bit of a volume, behind the back of its hashes.
    pub fn damage_volume(&mut self, name: &[u8]) {
        if let Some(volume) = self.volumes.get_mut(name) {
            volume.damage();
        }
    }

    fn find(&self, path: &[u8]) -> Option<(&Entry, &Arc<Vec<u8>>)> {
        let entry = self.entries.iter().find(|e| e.path == path)?;
        Some((entry, self.contents.get(path)?))
    }
}

impl Source for MemorySource {
    fn entries(
        &self,
    ) -> Result<Box<dyn Iterator<Item = Result<Entry, SourceError>> + '_>, SourceError> {
        Ok(Box::new(self.entries.iter().cloned().map(Ok)))
    }

    fn copy_contents(&self, files: &[Entry], out: &dyn ContentSink) -> Result<(), DriverError> {
        for (index, file) in files.iter().enumerate().rev() {
            let damaged = |message: &str| SourceError::Damaged {
                path: printable(&file.path),
                message: message.to_owned(),
            };
            let content =
                self.contents.get(&file.path).ok_or_else(|| damaged("it has no content"))?;
            let mut pieces = Vec::new();
            let mut rest = content.as_slice();
            let mut offset = 0;
            for chunk in &file.chunks {
                let length = usize::try_from(chunk.length).unwrap_or(usize::MAX);
                let (piece, after) =
                    rest.split_at_checked(length).ok_or_else(|| damaged("a chunk is too long"))?;
                if <[u8; 32]>::from(Sha256::digest(piece)) != chunk.sha256 {
                    return Err(damaged("a chunk does not match its hash").into());
                }
                pieces.push((offset, piece));
                offset += chunk.length;
                rest = after;
            }
            for (offset, piece) in pieces.into_iter().rev() {
                let (head, tail) = piece.split_at(piece.len() / 3);
                out.write_at(index, offset + head.len() as u64, tail)?;
                if !head.is_empty() {
                    out.write_at(index, offset, head)?;
                }
            }
        }
        Ok(())
    }

    fn volume(&self, name: &[u8]) -> Result<Box<dyn StoredVolume + '_>, SourceError> {
        let volume = self.volumes.get(name).ok_or_else(|| SourceError::Damaged {
            path: printable(name),
            message: "there is no such volume".to_owned(),
        })?;
        Ok(Box::new(volume))
    }
}

//! A driver's source over a snapshot in a repository.

use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use provault_driver::entry::printable;
use provault_driver::{
    CancelFlag, Chunk, ContentSink, DriverError, Entry, Metadata, NodeKind, Source, SourceError,
    StoredVolume,
};
use provault_repository as repository;

use crate::volume::Stored;

/// One snapshot, open for reading. Holds the repository's shared lock while it lives.
pub(crate) struct SnapshotSource {
    reader: Arc<repository::Reader>,
    snapshot: repository::Snapshot,
    /// Where the resource's tree begins.
    root: Vec<u8>,
    cancel: CancelFlag,
}

impl SnapshotSource {
    pub(crate) fn open(
        repository: &repository::Repository,
        snapshot_id: &str,
        tree_path: &str,
        cancel: &CancelFlag,
    ) -> Result<Self, SourceError> {
        let id = snapshot_id.parse().map_err(|_| SourceError::Damaged {
            path: "the recovery point".to_owned(),
            message: format!("'{snapshot_id}' is not a snapshot id"),
        })?;
        let reader = Arc::new(repository.reader().map_err(refused)?);
        let snapshot = repository.snapshot(id).map_err(|error| match error {
            repository::Error::SnapshotNotFound(_) => SourceError::Damaged {
                path: "the recovery point".to_owned(),
                message: format!("its snapshot {snapshot_id} is gone from the vault"),
            },
            error => refused(error),
        })?;
        Ok(Self { reader, snapshot, root: tree_path.as_bytes().to_vec(), cancel: cancel.clone() })
    }

    fn entry(&self, stored: repository::Entry) -> Result<Entry, SourceError> {
        let chunks = match stored.kind {
            repository::EntryKind::File => self
                .reader
                .blobs(&stored)
                .map_err(refused)?
                .into_iter()
                .map(|blob| Chunk { sha256: blob.id.0, length: blob.length })
                .collect(),
            _ => Vec::new(),
        };
        let kind = match stored.kind {
            repository::EntryKind::Directory => NodeKind::Directory,
            repository::EntryKind::File => NodeKind::File,
            repository::EntryKind::Other(other) => match other {
                repository::NodeKind::Symlink { target } => NodeKind::Symlink { target },
                repository::NodeKind::BlockDevice { device } => {
                    NodeKind::BlockDevice { rdev: device }
                }
                repository::NodeKind::CharDevice { device } => {
                    NodeKind::CharDevice { rdev: device }
                }
                repository::NodeKind::Fifo => NodeKind::Fifo,
                repository::NodeKind::Socket => NodeKind::Socket,
            },
        };
        Ok(Entry { path: stored.path, kind, metadata: captured(stored.metadata), chunks })
    }
}

impl Source for SnapshotSource {
    fn entries(
        &self,
    ) -> Result<Box<dyn Iterator<Item = Result<Entry, SourceError>> + '_>, SourceError> {
        let mut root = self.reader.entry(&self.snapshot, &self.root).map_err(refused)?;
        root.path = Vec::new();
        let below = self.reader.entries(&self.snapshot, &self.root).map_err(refused)?;
        Ok(Box::new(std::iter::once(Ok(root)).chain(below).map(|entry| {
            if self.cancel.is_raised() {
                return Err(SourceError::Cancelled);
            }
            self.entry(entry.map_err(refused)?)
        })))
    }

    fn copy_contents(&self, files: &[Entry], out: &dyn ContentSink) -> Result<(), DriverError> {
        let wanted: Vec<repository::Entry> = files
            .iter()
            .map(|file| {
                let content =
                    file.chunks.iter().map(|chunk| repository::Id(chunk.sha256)).collect();
                repository::Entry::file(file.path.clone(), file.metadata.size, content)
            })
            .collect();
        let sink = Forward { out, failed: Mutex::new(None) };
        let outcome = self
            .reader
            .copy_contents(
                &wanted,
                &sink,
                &repository::CancelFlag::from_shared(self.cancel.as_shared()),
            )
            .map_err(refused)?;
        let trouble = sink.failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(error) = trouble {
            return Err(error);
        }
        match outcome.failed.into_iter().next() {
            None => Ok(()),
            Some(failed) if failed.error.is_damage() => Err(SourceError::Damaged {
                path: files.get(failed.file).map_or_else(String::new, |f| printable(&f.path)),
                message: failed.error.to_string(),
            }
            .into()),
            Some(failed) => Err(refused(failed.error).into()),
        }
    }

    fn volume(&self, name: &[u8]) -> Result<Box<dyn StoredVolume + '_>, SourceError> {
        let mut path = self.root.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path.extend_from_slice(repository::VOLUME_SUFFIX);
        let reader = Arc::clone(&self.reader);
        let opened = repository::VolumeReader::open(reader, &self.snapshot, &path);
        let volume = opened.map_err(|error| match error {
            repository::Error::NotAVolume { .. } => {
                SourceError::Damaged { path: printable(&path), message: error.to_string() }
            }
            error => refused(error),
        })?;
        Ok(Box::new(Stored { volume, cancel: self.cancel.clone() }))
    }
}

/// Hands bytes on and keeps the first refusal with its full meaning.
struct Forward<'a> {
    out: &'a dyn ContentSink,
    failed: Mutex<Option<DriverError>>,
}

impl repository::ContentSink for Forward<'_> {
    fn write(&self, file: usize, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.out.write_at(file, offset, bytes).map_err(|error| {
            let text = error.to_string();
            let mut failed = self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            failed.get_or_insert(error);
            std::io::Error::other(text)
        })
    }
}

pub(crate) fn refused(error: repository::Error) -> SourceError {
    match error {
        repository::Error::Cancelled => SourceError::Cancelled,
        error if error.is_damage() => SourceError::Damaged {
            path: "the recovery point".to_owned(),
            message: error.to_string(),
        },
        error => SourceError::Unavailable(error.to_string()),
    }
}

fn captured(stored: repository::Metadata) -> Metadata {
    let name = |text: String| Some(text).filter(|text| !text.is_empty());
    Metadata {
        mode: stored.mode,
        uid: stored.uid,
        gid: stored.gid,
        user: name(stored.user),
        group: name(stored.group),
        size: stored.size,
        mtime: time(stored.mtime),
        atime: time(stored.atime),
        ctime: time(stored.ctime),
        inode: stored.inode,
        device: stored.device_id,
        links: stored.links,
        xattrs: stored.extended_attributes.into_iter().map(|x| (x.name, x.value)).collect(),
        data_extents: stored.data_extents,
    }
}

/// The format holds years 0 to 9999, which a [`Timestamp`] holds as well; the epoch stands in for
/// what cannot occur.
fn time(stored: repository::FileTime) -> Timestamp {
    let nanoseconds = i32::try_from(stored.nanoseconds).unwrap_or(0);
    Timestamp::new(stored.seconds, nanoseconds).unwrap_or_default()
}

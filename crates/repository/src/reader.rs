//! Reading snapshots: their entries, and the content of files.
//!
//! Every blob is verified on its way out: by its MAC, its length and its hash.

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::backup::{RECORD_DIRECTORY, RECORD_FILE};
use crate::cancel::CancelFlag;
use crate::entries::{Entries, Entry};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::Location;
use crate::lock::{JobGuard, begin_reading_job};
use crate::opener::BlobOpener;
use crate::pack::BlobKind;
use crate::repository::{FileKind, Inner, Repository};
use crate::snapshot::Snapshot;
use crate::tree::Tree;

/// Blobs that lie together are read in one go up to this many bytes.
const RUN: u64 = 4 << 20;
/// Reading over a gap of this size is cheaper than asking twice.
const GAP: u64 = 64 << 10;

/// A chunk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRef {
    /// The blob's id: the hash of its content.
    pub id: Id,
    /// Its length in bytes.
    pub length: u64,
}

/// Where restored bytes go. Several threads may call it at a time, for different files or
/// different offsets of one; a chunk comes once for each place that it belongs to.
pub trait ContentSink: Sync {
    /// Takes `bytes` for the place `offset` of the file number `file` of the list that was asked
    /// for. After an error nothing more comes for that file.
    fn write(&self, file: usize, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// A file that could not be restored in full.
#[derive(Debug, Clone)]
pub struct FailedFile {
    /// Its number in the list that was asked for.
    pub file: usize,
    /// Why.
    pub error: Error,
}

/// How a copy went.
#[derive(Debug, Clone, Default)]
pub struct CopyOutcome {
    /// The files that are not whole, in ascending order. All others are.
    pub failed: Vec<FailedFile>,
    /// Bytes delivered.
    pub bytes: u64,
}

/// Reads snapshots while it holds the repository's shared lock. May be used by many threads.
pub struct Reader {
    pub(crate) inner: Arc<Inner>,
    job: JobGuard,
}

impl Repository {
    /// Takes the shared lock and brings the index up to date, for reading.
    pub fn reader(&self) -> Result<Reader> {
        let job = begin_reading_job(&self.inner)?;
        self.inner.refresh_index()?;
        Ok(Reader { inner: Arc::clone(&self.inner), job })
    }
}

impl Reader {
    /// The entry at `path` (components joined by `/`) of the snapshot.
    pub fn entry(&self, snapshot: &Snapshot, path: &[u8]) -> Result<Entry> {
        crate::entries::find(self, snapshot, path)
    }

    /// Everything below the directory `path`, each directory before what is in it and names in
    /// ascending order; paths are relative to `path`. An empty path is the snapshot's root. For
    /// anything but a directory, that one entry, under its name.
    ///
    /// A damaged directory yields an error in its place, and the iteration goes on behind it.
    pub fn entries(&self, snapshot: &Snapshot, path: &[u8]) -> Result<Entries<'_>> {
        Entries::below(self, snapshot, path)
    }

    /// The record that was stored with the snapshot, if one was.
    pub fn recovery_point_record(&self, snapshot: &Snapshot) -> Result<Option<Vec<u8>>> {
        let path = [RECORD_DIRECTORY, RECORD_FILE].join(&b'/');
        let entry = match self.entry(snapshot, &path) {
            Err(Error::PathNotFound(_)) => return Ok(None),
            other => other?,
        };
        let mut record = Vec::new();
        self.read_file(&entry, &mut |_, bytes| {
            record.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(Some(record))
    }

    /// The chunks of a file with their lengths, or [`Error::MissingBlob`].
    pub fn blobs(&self, entry: &Entry) -> Result<Vec<BlobRef>> {
        let content = entry.file_content()?;
        let mut blobs = Vec::with_capacity(content.len());
        for id in content {
            let length = self.locate(id, &entry.path)?.blob.plain_length();
            blobs.push(BlobRef { id: *id, length });
        }
        Ok(blobs)
    }

    /// Reads a file from beginning to end.
    pub fn read_file(
        &self,
        entry: &Entry,
        sink: &mut dyn FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> Result<()> {
        let content = entry.file_content()?;
        let mut opener = BlobOpener::new()?;
        let mut at = 0;
        let mut next = 0;
        while next < content.len() {
            self.job.check()?;
            let mut run = Run::new(self.locate(&content[next], &entry.path)?);
            let mut places = vec![run.first];
            while let Some(id) = content.get(next + places.len()) {
                let place = self.locate(id, &entry.path)?;
                if !run.extend(&place, 0) {
                    break;
                }
                places.push(place);
            }
            let bytes = self.fetch(&run);
            for place in &places {
                let plain = self
                    .open(place, &run, &bytes, &mut opener)
                    .map_err(|error| error.at_path(&entry.path))?;
                sink(at, &plain).map_err(|error| sink_error(entry, error))?;
                at += plain.len() as u64;
            }
            next += places.len();
        }
        entry.check_size(at)
    }

    /// `length` bytes of a file from `offset`; fewer where it ends earlier.
    pub fn read_range(&self, entry: &Entry, offset: u64, length: u64) -> Result<Vec<u8>> {
        let end = offset.saturating_add(length).min(entry.metadata.size);
        let mut out = Vec::new();
        let mut at = 0;
        for id in entry.file_content()? {
            if at >= end {
                break;
            }
            let next = at + self.locate(id, &entry.path)?.blob.plain_length();
            if next > offset {
                let plain = self
                    .inner
                    .read_blob(BlobKind::Data, id)
                    .map_err(|error| error.at_path(&entry.path))?;
                // Both within the blob, whose length was verified.
                let from = usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX);
                let to = usize::try_from(end.min(next) - at).unwrap_or(usize::MAX);
                out.extend_from_slice(plain.get(from..to).unwrap_or_default());
            }
            at = next;
        }
        Ok(out)
    }

    /// Delivers the content of many files in the order in which it lies in the packs, each chunk
    /// read once. A file with a damaged or missing chunk is reported, the others come whole.
    pub fn copy_contents(
        &self,
        entries: &[Entry],
        sink: &dyn ContentSink,
        cancel: &CancelFlag,
    ) -> Result<CopyOutcome> {
        let mut failures: Vec<Option<Error>> = vec![None; entries.len()];
        let mut wanted = Vec::new();
        for (file, entry) in entries.iter().enumerate() {
            let start = wanted.len();
            if let Err(error) = self.plan(file, entry, &mut wanted) {
                wanted.truncate(start);
                failures[file] = Some(error);
            }
        }
        wanted.sort_by_key(|want| (want.place.pack, want.place.blob.offset));
        let copy = Copy {
            reader: self,
            entries,
            sink,
            cancel,
            runs: Mutex::new(Runs { wanted: &wanted, next: 0 }),
            failures: Mutex::new(failures),
            bytes: AtomicU64::new(0),
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        // A few chunks are not worth a thread.
        let threads = threads.min(1 + wanted.len() / 16);
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| copy.work())).collect();
            let mut result = copy.work();
            for other in others {
                let died = || Err(Error::Internal("a thread that restores died".to_owned()));
                result = result.and(other.join().unwrap_or_else(|_| died()));
            }
            result
        })?;
        let failures = copy.failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        let failed = failures.into_iter().enumerate();
        Ok(CopyOutcome {
            failed: failed
                .filter_map(|(file, error)| error.map(|error| FailedFile { file, error }))
                .collect(),
            bytes: copy.bytes.into_inner(),
        })
    }

    fn plan(&self, file: usize, entry: &Entry, wanted: &mut Vec<Want>) -> Result<()> {
        let mut at = 0;
        for id in entry.file_content()? {
            let place = self.locate(id, &entry.path)?;
            wanted.push(Want { place, file, at });
            at += place.blob.plain_length();
        }
        entry.check_size(at)
    }

    /// The first place of a data blob. When it is in no index that we know, the index is read
    /// again: the snapshot may be newer than this reader.
    pub(crate) fn locate(&self, id: &Id, path: &[u8]) -> Result<Location> {
        let first = || self.inner.index().places(BlobKind::Data, id).first().copied();
        if let Some(place) = first() {
            return Ok(place);
        }
        self.inner.refresh_index()?;
        let missing = || Error::MissingBlob { kind: BlobKind::Data, blob: *id, path: None };
        first().ok_or_else(|| missing().at_path(path))
    }

    /// An error if the lock was lost, so that others may have deleted what is being read.
    pub(crate) fn check_lock(&self) -> Result<()> {
        self.job.check()
    }

    pub(crate) fn tree(&self, id: &Id) -> Result<Tree> {
        let json = match self.inner.read_blob(BlobKind::Tree, id) {
            Err(Error::MissingBlob { .. }) => {
                self.inner.refresh_index()?;
                self.inner.read_blob(BlobKind::Tree, id)?
            }
            other => other?,
        };
        Tree::parse(*id, &json)
    }

    /// The bytes of a run, or nothing: then each blob is asked for by itself, and tells why.
    fn fetch(&self, run: &Run) -> Bytes {
        let name = FileKind::Pack.name(&run.first.pack);
        self.inner.storage.get_range(&name, run.start(), run.end - run.start()).unwrap_or_default()
    }

    fn open<'a>(
        &self,
        place: &Location,
        run: &Run,
        bytes: &Bytes,
        opener: &'a mut BlobOpener,
    ) -> Result<Cow<'a, [u8]>> {
        let range = usize::try_from(u64::from(place.blob.offset) - run.start())
            .ok()
            .map(|start| start..start + place.blob.length as usize);
        let sealed = range.and_then(|range| bytes.get(range));
        if sealed.is_none_or(|sealed| opener.open(&self.inner.key, place, sealed).is_err()) {
            // By itself, and from another place if it lies in two.
            return self.inner.read_blob(BlobKind::Data, &place.blob.id).map(Cow::Owned);
        }
        Ok(Cow::Borrowed(opener.plain()))
    }
}

/// The wanted places, of which each thread takes a run at a time.
struct Runs<'a> {
    wanted: &'a [Want],
    next: usize,
}

impl<'a> Runs<'a> {
    fn take(&mut self) -> Option<(Run, &'a [Want])> {
        let start = self.next;
        let mut run = Run::new(self.wanted.get(start)?.place);
        let mut end = start + 1;
        while self.wanted.get(end).is_some_and(|want| run.extend(&want.place, GAP)) {
            end += 1;
        }
        self.next = end;
        Some((run, &self.wanted[start..end]))
    }
}

/// A copy that several threads work on.
struct Copy<'a> {
    reader: &'a Reader,
    entries: &'a [Entry],
    sink: &'a dyn ContentSink,
    cancel: &'a CancelFlag,
    runs: Mutex<Runs<'a>>,
    failures: Mutex<Vec<Option<Error>>>,
    bytes: AtomicU64,
}

impl Copy<'_> {
    fn work(&self) -> Result<()> {
        let mut opener = BlobOpener::new()?;
        loop {
            self.cancel.check()?;
            self.reader.job.check()?;
            let next = self.runs.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some((run, wanted)) = next else { return Ok(()) };
            let bytes = self.reader.fetch(&run);
            let same = |a: &Want, b: &Want| a.place.blob.offset == b.place.blob.offset;
            for wants in wanted.chunk_by(same) {
                self.deliver(wants, &run, &bytes, &mut opener);
            }
        }
    }

    /// One chunk to every place that it belongs to.
    fn deliver(&self, wants: &[Want], run: &Run, bytes: &Bytes, opener: &mut BlobOpener) {
        if wants.iter().all(|want| self.has_failed(want)) {
            return;
        }
        match self.reader.open(&wants[0].place, run, bytes, opener) {
            Ok(plain) => {
                for want in wants.iter().filter(|want| !self.has_failed(want)) {
                    match self.sink.write(want.file, want.at, &plain) {
                        Ok(()) => {
                            self.bytes.fetch_add(plain.len() as u64, Ordering::Relaxed);
                        }
                        Err(error) => self.fail(want, sink_error(&self.entries[want.file], error)),
                    }
                }
            }
            Err(error) => {
                for want in wants {
                    self.fail(want, error.clone().at_path(&self.entries[want.file].path));
                }
            }
        }
    }

    fn failures(&self) -> MutexGuard<'_, Vec<Option<Error>>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_failed(&self, want: &Want) -> bool {
        self.failures()[want.file].is_some()
    }

    fn fail(&self, want: &Want, error: Error) {
        self.failures()[want.file].get_or_insert(error);
    }
}

struct Want {
    place: Location,
    file: usize,
    at: u64,
}

/// Blobs of one pack that are read in one go.
struct Run {
    first: Location,
    end: u64,
}

impl Run {
    fn new(first: Location) -> Self {
        let end = u64::from(first.blob.offset) + u64::from(first.blob.length);
        Self { first, end }
    }

    fn start(&self) -> u64 {
        u64::from(self.first.blob.offset)
    }

    /// Takes in a blob that lies at the end, or up to `gap` behind it, or is the last one again.
    fn extend(&mut self, place: &Location, gap: u64) -> bool {
        let start = u64::from(place.blob.offset);
        let end = start + u64::from(place.blob.length);
        let again = gap > 0 && end == self.end;
        let fits = place.pack == self.first.pack
            && (again || start >= self.end && start - self.end <= gap)
            && end - self.start() <= RUN;
        if fits {
            self.end = end;
        }
        fits
    }
}

fn sink_error(entry: &Entry, error: io::Error) -> Error {
    Error::Sink { path: entry.path_text(), source: Arc::new(error) }
}

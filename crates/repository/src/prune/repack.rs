//! Copying what is needed out of packs: sealed as it is, but verified.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::{IndexFile, IndexPack, Location};
use crate::index_files::INDEX_FILE_BLOBS;
use crate::lock::JobGuard;
use crate::opener::BlobOpener;
use crate::pack::{BlobKind, PackBuilder, PackedBlob};
use crate::prune::PrunePhase;
use crate::prune::survey::{Survey, workers};
use crate::repository::{FileKind, Inner};

/// Blobs that lie together are read in one go up to this many bytes.
const RUN: u64 = 16 << 20;
/// Reading over a gap of this size is cheaper than asking twice.
const GAP: u64 = 256 << 10;
/// After so many new packs an index file is written, so that a crash does not cost all the work.
const PACKS_BETWEEN_INDEX_FILES: usize = 32;

/// What came of it.
#[derive(Default)]
pub(crate) struct Repacked {
    /// Packs that may go: all that was to be copied of them is durable and in the index.
    pub(crate) done: HashSet<u32>,
    pub(crate) bytes: u64,
    pub(crate) damaged: Vec<(Id, Error)>,
    pub(crate) out_of_space: bool,
}

type Source = (u32, Vec<PackedBlob>);
pub(crate) type Copied = Vec<(PackedBlob, Bytes)>;

/// Copies the blobs of these packs into new ones.
pub(crate) fn repack(survey: &mut Survey<'_>, sources: &[Source]) -> Result<Repacked> {
    let ids: HashMap<u32, Id> =
        sources.iter().map(|(pack, _)| (*pack, survey.ledger.packs[*pack as usize].id)).collect();
    let inner = Arc::clone(survey.inner);
    let mut result = Repacked::default();
    let mut copy = NewPacks::new(&inner, survey.job);
    copy.left = sources.iter().map(|(pack, blobs)| (*pack, blobs.len())).collect();
    let next = AtomicUsize::new(0);
    let copied = thread::scope(|scope| {
        let (done, results) = mpsc::sync_channel(1);
        for _ in 0..workers().min(sources.len()) {
            let (inner, ids, next, done) = (&inner, &ids, &next, done.clone());
            scope.spawn(move || {
                while let Some((pack, blobs)) = sources.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if done.send((*pack, read_sealed(inner, ids[pack], blobs))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        let mut seen = 0;
        for (pack, blobs) in results {
            survey.go_on()?;
            seen += 1;
            survey.options.report(PrunePhase::Repack, seen, sources.len() as u64);
            match blobs {
                Ok(blobs) => {
                    for (blob, sealed) in blobs {
                        copy.add(&blob, &sealed, Some(pack))?;
                    }
                }
                // It stays as it is; a check tells what it is about.
                Err(error) if error.is_damage() => result.damaged.push((ids[&pack], error)),
                Err(error) => return Err(error),
            }
        }
        copy.finish()
    });
    match copied {
        Err(error) if error.is_no_space() => result.out_of_space = true,
        other => other?,
    }
    (result.done, result.bytes) = (std::mem::take(&mut copy.done), copy.bytes);
    survey.take_in(IndexFile { packs: std::mem::take(&mut copy.listed) })?;
    Ok(result)
}

/// These blobs of a pack, in the order of their places: sealed, each verified.
pub(crate) fn read_sealed(inner: &Inner, pack: Id, blobs: &[PackedBlob]) -> Result<Copied> {
    let name = FileKind::Pack.name(&pack);
    let end = |blob: &PackedBlob| u64::from(blob.offset) + u64::from(blob.length);
    let mut opener = BlobOpener::new()?;
    let mut copied = Vec::with_capacity(blobs.len());
    let mut rest = blobs;
    while let Some(first) = rest.first() {
        let start = u64::from(first.offset);
        let fits = |pair: &[PackedBlob]| {
            u64::from(pair[1].offset) <= end(&pair[0]) + GAP && end(&pair[1]) - start <= RUN
        };
        let length = 1 + rest.windows(2).take_while(|pair| fits(pair)).count();
        let (run, behind) = rest.split_at(length);
        rest = behind;
        let bytes = match inner.storage.get_range(&name, start, end(&run[length - 1]) - start) {
            Err(error) if error.is_not_found() => {
                return Err(Error::damaged(&name, "the pack file is gone"));
            }
            // A bad sector between them does not keep any of them.
            Err(error) if error.is_unreadable() && run.len() > 1 => {
                for blob in run {
                    copied.extend(read_sealed(inner, pack, std::slice::from_ref(blob))?);
                }
                continue;
            }
            other => other?,
        };
        for blob in run {
            let from = usize::try_from(u64::from(blob.offset) - start).unwrap_or(usize::MAX);
            let to = from.saturating_add(blob.length as usize).min(bytes.len());
            let sealed = bytes.slice(from.min(to)..to);
            opener.open(&inner.key, &Location { pack, blob: *blob }, &sealed)?;
            copied.push((*blob, sealed));
        }
    }
    Ok(copied)
}

/// New packs, filled without asking what the index lists.
pub(crate) struct NewPacks<'a> {
    inner: &'a Inner,
    job: &'a JobGuard,
    builders: HashMap<BlobKind, (PackBuilder, Vec<Option<u32>>)>,
    /// New packs that are durable, with the packs that their blobs are of.
    unlisted: Vec<(IndexPack, Vec<Option<u32>>)>,
    /// New packs that are in the index.
    pub(crate) listed: Vec<IndexPack>,
    /// Blobs of each old pack that are in no new pack which is in the index.
    left: HashMap<u32, usize>,
    /// Old packs of which nothing is left.
    done: HashSet<u32>,
    bytes: u64,
}

impl<'a> NewPacks<'a> {
    pub(crate) fn new(inner: &'a Inner, job: &'a JobGuard) -> Self {
        Self {
            inner,
            job,
            builders: HashMap::new(),
            unlisted: Vec::new(),
            listed: Vec::new(),
            left: HashMap::new(),
            done: HashSet::new(),
            bytes: 0,
        }
    }

    /// Adds a sealed blob, perhaps of an old pack.
    pub(crate) fn add(
        &mut self,
        blob: &PackedBlob,
        sealed: &[u8],
        source: Option<u32>,
    ) -> Result<()> {
        let (builder, sources) = self.builders.entry(blob.kind).or_default();
        builder.add(blob.kind, blob.id, sealed, blob.uncompressed)?;
        sources.push(source);
        self.bytes += sealed.len() as u64;
        if builder.len() >= self.inner.options.pack_size {
            self.store(blob.kind)?;
        }
        let blobs: usize = self.unlisted.iter().map(|(pack, _)| pack.blobs.len()).sum();
        if self.unlisted.len() >= PACKS_BETWEEN_INDEX_FILES || blobs >= INDEX_FILE_BLOBS {
            self.list()?;
        }
        Ok(())
    }

    /// Stores what is begun, and lists everything.
    pub(crate) fn finish(&mut self) -> Result<()> {
        for kind in [BlobKind::Data, BlobKind::Tree] {
            self.store(kind)?;
        }
        self.list()
    }

    fn store(&mut self, kind: BlobKind) -> Result<()> {
        let Some((builder, sources)) = self.builders.remove(&kind) else { return Ok(()) };
        let (id, bytes, blobs) = builder.finish(&self.inner.key)?;
        self.inner.storage.put(&FileKind::Pack.name(&id), Bytes::from(bytes))?;
        self.unlisted.push((IndexPack::new(id, &blobs), sources));
        Ok(())
    }

    fn list(&mut self) -> Result<()> {
        let (packs, sources): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.unlisted).into_iter().unzip();
        self.inner.save_index(self.job, &packs.iter().collect::<Vec<_>>())?;
        self.listed.extend(packs);
        for source in sources.into_iter().flatten().flatten() {
            if let Some(left) = self.left.get_mut(&source) {
                *left -= 1;
                if *left == 0 {
                    self.done.insert(source);
                }
            }
        }
        Ok(())
    }
}

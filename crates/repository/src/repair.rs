//! Repair: what is damaged is taken out of the index, and what can be had of it is put back.
//!
//! - Packs that no index lists any more, for an index file is damaged or gone, are listed again by
//!   their own headers, as far as snapshots need them.
//! - The blobs of a damaged pack that are whole are copied to new packs.
//! - Blobs that are damaged or missing are taken from other repositories (a copy at another site,
//!   say), by their ids.
//! - The damaged packs leave the index. They are not deleted but marked, as a prune does it, and go
//!   with the next prune that finds nobody who may need them.
//!
//! What is still lost is in no index then. So the next backup of the same source takes it for
//! unknown, reads it again and stores it, which mends the snapshots that need it as well. What no
//! longer exists at the source stays lost, and is named: the snapshots, and the files in them.
//!
//! Everything that is whole can be restored all the while. A repair that broke off is begun anew.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::cancel::CancelFlag;
use crate::check::{CheckLevel, CheckReport};
use crate::error::{Error, Result};
use crate::id::{Id, SnapshotId};
use crate::index::{IndexFile, IndexPack, Location};
use crate::limits;
use crate::lock::{begin_job, begin_prune_job};
use crate::opener::BlobOpener;
use crate::pack::{self, BlobKind, PackedBlob, file_size};
use crate::pause::pause;
use crate::prune::repack::{NewPacks, repack};
use crate::prune::survey::{Survey, workers};
use crate::prune::{PruneOptions, execute};
use crate::refs::TreeRefs;
use crate::repository::{FileKind, Inner, Repository};
use crate::storage::StorageError;

/// Packs whose entries are collected at a time.
const BATCH: usize = 256;

/// Called with the number of packs looked at, and how many there are.
pub type RepairProgressFn = dyn Fn(u64, u64) + Send + Sync;

/// How to repair.
#[derive(Clone, Default)]
pub struct RepairOptions {
    /// Read every pack to the last byte to find what is damaged; else only packs that are gone or
    /// have the wrong size, and those of trees that do not open.
    pub read_data: bool,
    /// Packs that are read to the last byte in any case, such as those that a check found damaged.
    pub suspects: Vec<Id>,
    /// Only find out what could be mended, and with what. Other repositories are asked, and nothing
    /// is changed.
    pub dry_run: bool,
    /// Stops it.
    pub cancel: CancelFlag,
    /// Hears how it goes.
    pub progress: Option<Arc<RepairProgressFn>>,
}

/// Blobs that were lost and are not any more.
type Found = HashSet<(BlobKind, Id)>;

/// What a repair did, and what is left; in a dry run, what it would do and what would be left.
#[derive(Debug, Clone, Default)]
pub struct RepairReport {
    /// Damaged index files that were removed.
    pub index_files: u64,
    /// Packs that were in no index and are listed again.
    pub listed_packs: u64,
    /// Packs that are damaged or gone, and out of the index now, unless `postponed` names somebody or
    /// there was no room.
    pub damaged_packs: Vec<Id>,
    /// Who kept it from taking anything out of the index: other programs than this one. Repair again
    /// when they have ended.
    pub postponed: Vec<String>,
    /// Whether the storage was too full to copy what is whole in damaged packs, or to write the index
    /// anew. They stay in the index then; make room, and repair again.
    pub out_of_space: bool,
    /// Blobs of these that were whole and were copied.
    pub rescued_blobs: u64,
    /// Blobs that came from other repositories.
    pub fetched_blobs: u64,
    /// Blobs that some snapshot needs and nobody has. A backup of the same source stores them again
    /// if it still has them.
    pub lost_blobs: Vec<(BlobKind, Id)>,
    /// Snapshots whose own file is damaged: copy them from another repository, or forget them.
    pub damaged_snapshots: Vec<(SnapshotId, Error)>,
    /// A check of the structure afterwards: it names the snapshots and files that are hurt. In a dry
    /// run they are those that are hurt now.
    pub check: CheckReport,
}

impl Repository {
    /// Mends what can be mended, with what `others` have. Excludes prunes; backups and restores may
    /// go on.
    pub fn repair(&self, others: &[Self], options: &RepairOptions) -> Result<RepairReport> {
        let dry_run = options.dry_run;
        let job = if dry_run { begin_job(&self.inner)? } else { begin_prune_job(&self.inner)? };
        job.settled()?;
        let mut report = RepairReport {
            damaged_snapshots: self.snapshots()?.damaged,
            ..RepairReport::default()
        };
        let looking = PruneOptions { cancel: options.cancel.clone(), ..PruneOptions::default() };
        let mut survey = Survey::tolerant(&self.inner, &job, &looking)?;
        let damaged_files = damaged_index_files(&survey);
        report.index_files = damaged_files.len() as u64;

        let listed = survey.ledger.index_packs(&survey.unlisted);
        report.listed_packs = listed.len() as u64;
        if !dry_run {
            self.inner.save_index(&job, &listed.iter().collect::<Vec<_>>())?;
            pause("repair:listed");
        }

        let bad = find_bad(&mut survey, options)?;
        let mut retired: HashSet<u32> = bad.keys().copied().collect();
        let sources: Vec<_> = bad.into_iter().filter(|(_, blobs)| !blobs.is_empty()).collect();
        let mut found = Found::new();
        if dry_run {
            let rescued = sources.iter().flat_map(|(_, blobs)| blobs);
            found.extend(rescued.map(|blob| (blob.kind, blob.id)));
            report.rescued_blobs = found.len() as u64;
        } else if !sources.is_empty() {
            let before = survey.ledger.len();
            let copied = repack(&mut survey, &sources)?;
            report.rescued_blobs = (survey.ledger.len() - before) as u64;
            report.out_of_space = copied.out_of_space;
            // Only the index knows what is whole in the others.
            for (pack, _) in &sources {
                if !copied.done.contains(pack) {
                    retired.remove(pack);
                }
            }
            pause("repair:rescued");
        }
        if report.out_of_space {
            // What was copied is in the index twice; no more is done before there is room.
            report.check = self.check(CheckLevel::Structure, &options.cancel)?;
            return Ok(report);
        }
        report.damaged_packs =
            retired.iter().map(|pack| survey.ledger.packs[*pack as usize].id).collect();
        report.damaged_packs.sort_unstable();
        self.fetch(&mut survey, others, found, dry_run, &mut report)?;
        if !dry_run {
            pause("repair:fetched");
            if !retired.is_empty() {
                let done = execute::retire(&self.inner, &job, survey, &retired)?;
                report.postponed = done.postponed;
                report.out_of_space |= done.out_of_space;
            }
            pause("repair:retired");
            // What they listed is listed by others now, as far as anybody needs it.
            report.index_files = delete_lost(&self.inner, &damaged_files)?;
        }
        report.check = self.check(CheckLevel::Structure, &options.cancel)?;
        Ok(report)
    }

    /// Gets what is missing from packs that are not whole, and from other repositories.
    /// In a dry run it is only read; `found` is what would be there by then.
    fn fetch(
        &self,
        survey: &mut Survey<'_>,
        others: &[Self],
        mut found: Found,
        dry_run: bool,
        report: &mut RepairReport,
    ) -> Result<()> {
        let readers = others.iter().map(Self::reader).collect::<Result<Vec<_>>>()?;
        let mut leftover: BTreeMap<(BlobKind, Id), Location> = BTreeMap::new();
        for pack in std::mem::take(&mut survey.leftover) {
            let places = pack.packed().map(|blob| Location { pack: pack.id, blob });
            leftover.extend(places.map(|place| ((place.blob.kind, place.blob.id), place)));
        }
        let mut tried = found.clone();
        loop {
            let lost = survey.missing.iter().copied().chain(survey.ledger.lost());
            let wanted: Vec<_> = lost.filter(|blob| tried.insert(*blob)).collect();
            if wanted.is_empty() {
                break;
            }
            let (mut packs, mut trees) = (NewPacks::new(&self.inner, survey.job), Vec::new());
            for (kind, id) in wanted {
                survey.go_on()?;
                let own = leftover.get(&(kind, id)).map(|place| self.inner.load_from(place));
                let from = readers.iter().map(|reader| reader.inner.load_blob(kind, &id));
                let Some(plain) = own.into_iter().chain(from).find_map(Result::ok) else {
                    continue;
                };
                if !dry_run {
                    let (blob, sealed) = seal(&self.inner, kind, id, &plain)?;
                    packs.add(&blob, &sealed, None)?;
                }
                report.fetched_blobs += 1;
                found.insert((kind, id));
                survey.missing.remove(&(kind, id));
                if kind == BlobKind::Tree {
                    trees.push(TreeRefs::parse(&id, &plain)?);
                }
            }
            packs.finish()?;
            survey.take_in(IndexFile { packs: std::mem::take(&mut packs.listed) })?;
            for refs in &trees {
                survey.reach_refs(refs)?;
            }
        }
        let lost = survey.missing.iter().copied().chain(survey.ledger.lost());
        report.lost_blobs = lost.filter(|blob| !found.contains(blob)).collect();
        Ok(())
    }
}

fn damaged_index_files(survey: &Survey<'_>) -> Vec<Id> {
    let names = survey.problems.iter().filter_map(|problem| match problem {
        Error::DamagedFile { name, .. } | Error::Storage(StorageError { name, .. }) => {
            name.strip_prefix("index/")?.parse().ok()
        }
        _ => None,
    });
    names.collect()
}

/// Deletes index files that still cannot be read, and counts them. One that can by now tells the
/// truth, and stays.
fn delete_lost(inner: &Inner, files: &[Id]) -> Result<u64> {
    let mut deleted = 0;
    for id in files {
        match inner.load_index_file(id) {
            Err(error) if error.is_lost() => {
                inner.storage.delete(&FileKind::Index.name(id))?;
                deleted += 1;
            }
            Err(Error::Storage(error)) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(deleted)
}

/// A blob of this plaintext, compressed where that makes it smaller.
fn seal(inner: &Inner, kind: BlobKind, id: Id, plain: &[u8]) -> Result<(PackedBlob, Vec<u8>)> {
    let limit = |_| Error::Limit("a blob of more than 4 GiB".to_owned());
    let length = u32::try_from(plain.len()).map_err(limit)?;
    let compressed = if inner.config.compresses() {
        let compressed = zstd::bulk::compress(plain, inner.options.compression_level)
            .map_err(|error| Error::Internal(error.to_string()))?;
        Some(compressed).filter(|compressed| compressed.len() < plain.len())
    } else {
        None
    };
    let sealed = inner.key.seal(compressed.as_deref().unwrap_or(plain));
    let blob = PackedBlob {
        id,
        kind,
        offset: 0,
        length: u32::try_from(sealed.len()).map_err(limit)?,
        uncompressed: compressed.is_some().then_some(length),
    };
    Ok((blob, sealed))
}

/// The packs that are not whole, with those of their blobs that are and that lie nowhere else.
fn find_bad(
    survey: &mut Survey<'_>,
    options: &RepairOptions,
) -> Result<BTreeMap<u32, Vec<PackedBlob>>> {
    let mut suspects: HashSet<u32> = HashSet::new();
    for tree in &survey.unreadable {
        let slot = survey.ledger.find(BlobKind::Tree, tree);
        let places = slot.map(|slot| survey.ledger.places(slot)).unwrap_or_default();
        suspects.extend(places.iter().filter_map(|place| survey.ledger.pack(&place.pack)));
    }
    suspects.extend(options.suspects.iter().filter_map(|pack| survey.ledger.pack(pack)));
    let packs = (0u32..).zip(&survey.ledger.packs);
    suspects.extend(
        packs.filter(|(_, pack)| options.read_data || !pack.present).map(|(number, _)| number),
    );
    let mut suspects: Vec<u32> = suspects.into_iter().collect();
    suspects.sort_unstable();
    let (done, total) = (AtomicUsize::new(0), suspects.len() as u64);
    let mut bad: BTreeMap<u32, Vec<PackedBlob>> = BTreeMap::new();
    for batch in suspects.chunks(BATCH) {
        let listed = survey.ledger.index_packs(&batch.iter().copied().collect());
        let next = AtomicUsize::new(0);
        let survey = &*survey;
        let work = || -> Result<Vec<(Id, Vec<PackedBlob>)>> {
            let mut found = Vec::new();
            while let Some(pack) = listed.get(next.fetch_add(1, Ordering::Relaxed)) {
                survey.go_on()?;
                if let Some(whole) = look_into(survey.inner, pack)? {
                    found.push((pack.id, whole));
                }
                let done = done.fetch_add(1, Ordering::Relaxed) as u64 + 1;
                if let Some(progress) = &options.progress {
                    progress(done, total);
                }
            }
            Ok(found)
        };
        let results: Vec<Result<Vec<_>>> = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..workers().min(listed.len())).map(|_| scope.spawn(work)).collect();
            let died = || Error::Internal("a thread that reads packs died".to_owned());
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err(died())))
                .collect()
        });
        for result in results {
            let found = result?.into_iter();
            bad.extend(found.filter_map(|(id, whole)| Some((survey.ledger.pack(&id)?, whole))));
        }
    }
    for pack in bad.keys() {
        let pack = &mut survey.ledger.packs[*pack as usize];
        pack.present = false;
        survey.bad.insert(pack.id);
    }
    for blobs in bad.values_mut() {
        blobs.retain(|blob| {
            let slot = survey.ledger.find(blob.kind, &blob.id);
            slot.is_none_or(|slot| !survey.ledger.is_kept(slot))
        });
    }
    Ok(bad)
}

/// Nothing if the pack is whole to the last byte; else those of its blobs that are.
fn look_into(inner: &Inner, listed: &IndexPack) -> Result<Option<Vec<PackedBlob>>> {
    let blobs: Vec<PackedBlob> = listed.packed().collect();
    let storage = inner.storage.as_ref();
    let file = match limits::get_pack(storage, &listed.id, file_size(&blobs)) {
        Ok(file) => file,
        Err(Error::Storage(error)) if error.is_not_found() => return Ok(Some(Vec::new())),
        // Of another size, or with a sector that cannot be read.
        Err(error) if error.is_lost() => return one_by_one(inner, listed.id, &blobs).map(Some),
        Err(error) => return Err(error),
    };
    let mut opener = BlobOpener::new()?;
    let whole: Vec<PackedBlob> = blobs
        .iter()
        .filter(|blob| {
            let start = blob.offset as usize;
            let sealed = file.get(start..start.saturating_add(blob.length as usize));
            let place = Location { pack: listed.id, blob: **blob };
            sealed.is_some_and(|sealed| opener.open(&inner.key, &place, sealed).is_ok())
        })
        .copied()
        .collect();
    let good = whole.len() == blobs.len()
        && Id::hash(&file) == listed.id
        && pack::parse(&inner.key, &file).is_ok_and(|header| header == blobs);
    Ok(if good { None } else { Some(whole) })
}

/// The whole ones among the blobs of a pack that cannot be read in one piece.
fn one_by_one(inner: &Inner, pack: Id, blobs: &[PackedBlob]) -> Result<Vec<PackedBlob>> {
    let mut whole = Vec::new();
    for blob in blobs {
        match inner.load_from(&Location { pack, blob: *blob }) {
            Ok(_) => whole.push(*blob),
            Err(error) if error.is_lost() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(whole)
}

//! Volumes against the plainest of models: a map of pages.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use provault_repository::{
    BackupOptions, ByteRange, ChangedBlocks, CommittedSnapshot, Extent, RawTarget, Repository,
    Result, SnapshotId, VolumeOptions, VolumeReader, VolumeRestoreOptions, VolumeSource,
    VolumeStats,
};

use crate::support::{Sandbox, noise};

pub const PAGE: u64 = 4096;
/// Where a group ends.
const GROUP: u64 = 8 << 30;

/// A sparse volume in memory, which also counts what is read of it.
#[derive(Default)]
pub struct Model {
    pub size: u64,
    pub pages: BTreeMap<u64, Vec<u8>>,
    pub read: AtomicU64,
    /// If any, a read of anything else is a mistake.
    pub allowed: Option<Vec<ByteRange>>,
}

impl Clone for Model {
    fn clone(&self) -> Self {
        let (size, pages) = (self.size, self.pages.clone());
        Self { size, pages, read: AtomicU64::new(0), allowed: None }
    }
}

impl Model {
    pub fn of_size(size: u64) -> Self {
        Self { size, ..Self::default() }
    }

    /// Writes whole pages.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> ByteRange {
        assert_eq!(offset % PAGE, 0);
        for (number, page) in (offset / PAGE..).zip(bytes.chunks(4096)) {
            let mut page = page.to_vec();
            page.resize(4096, 0);
            self.pages.insert(number, page);
        }
        ByteRange { offset, length: bytes.len() as u64 }
    }

    pub fn expected(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let end = offset + length as u64;
        let pages = self.pages.range(offset / PAGE..end.div_ceil(PAGE));
        for (number, page) in pages {
            let start = number * PAGE;
            let (from, to) = (start.max(offset), (start + PAGE).min(end));
            let at = |place: u64, base: u64| usize::try_from(place - base).unwrap();
            bytes[at(from, offset)..at(to, offset)]
                .copy_from_slice(&page[at(from, start)..at(to, start)]);
        }
        bytes
    }

    fn set_size(&mut self, size: u64) {
        self.size = size;
        self.pages.retain(|number, _| number * PAGE < size);
        if let Some((number, page)) = self.pages.iter_mut().next_back() {
            let keep = usize::try_from((size - number * PAGE).min(PAGE)).unwrap();
            page[keep..].fill(0);
        }
    }
}

impl VolumeSource for Model {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset + buffer.len() as u64;
        assert!(end <= self.size);
        if let Some(allowed) = &self.allowed {
            let good = allowed.iter().any(|range| range.offset <= offset && end <= range.end());
            assert!(good, "read of {offset}..{end}, which did not change");
        }
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        buffer.copy_from_slice(&self.expected(offset, buffer.len()));
        Ok(())
    }

    fn extents(&self, range: ByteRange) -> io::Result<Vec<Extent>> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut push = |range: ByteRange, zero: bool| {
            if range.length > 0 {
                extents.push(Extent { range, zero });
            }
        };
        let mut at = range.offset;
        for number in self.pages.range(range.offset / PAGE..range.end().div_ceil(PAGE)) {
            let start = (number.0 * PAGE).max(range.offset);
            push(ByteRange { offset: at, length: start - at }, true);
            at = ((number.0 + 1) * PAGE).min(range.end());
            push(ByteRange { offset: start, length: at - start }, false);
        }
        push(ByteRange { offset: at, length: range.end() - at }, true);
        Ok(extents)
    }
}

pub fn options(parent: Option<SnapshotId>) -> BackupOptions {
    BackupOptions {
        parent,
        paths: vec!["/disk.volume".to_owned()],
        time: "2024-05-06T07:08:09Z".parse().unwrap(),
        tags: vec!["volume".to_owned()],
        ..BackupOptions::default()
    }
}

pub fn volume(changed: Option<ChangedBlocks>) -> VolumeOptions {
    VolumeOptions { name: b"disk".to_vec(), changed, threads: Some(2), ..VolumeOptions::default() }
}

pub fn back_up(
    repository: &Repository,
    parent: Option<SnapshotId>,
    changed: Option<ChangedBlocks>,
    source: &dyn VolumeSource,
) -> Result<(CommittedSnapshot, VolumeStats)> {
    repository.backup_volume(options(parent), volume(changed), source, Some(b"{}"))
}

pub fn open(repository: &Repository, id: SnapshotId) -> VolumeReader {
    let snapshot = repository.snapshot(id).unwrap();
    let reader = Arc::new(repository.reader().unwrap());
    VolumeReader::open(reader, &snapshot, b"disk.volume").unwrap()
}

/// The stored volume holds what the model holds: around every page that was ever written, and
/// nothing anywhere else, as its map says.
pub fn assert_equal(model: &Model, stored: &VolumeReader) {
    assert_eq!(stored.size(), model.size);
    let extents = stored.extents(ByteRange { offset: 0, length: model.size }).unwrap();
    let mut at = 0;
    for extent in &extents {
        assert_eq!(extent.range.offset, at);
        at = extent.range.end();
        let (mut offset, mut data) = (extent.range.offset, false);
        while offset < at {
            let length = usize::try_from(at - offset).unwrap().min(1 << 20);
            if extent.zero {
                let pages = model.pages.range(offset / PAGE..at.div_ceil(PAGE));
                for page in pages {
                    assert!(page.1.iter().all(|byte| *byte == 0), "lost page {}", page.0);
                }
                break;
            }
            let mut bytes = vec![1; length];
            stored.read_at(offset, &mut bytes).unwrap();
            assert!(bytes == model.expected(offset, length), "differs at {offset}");
            data |= bytes.iter().any(|byte| *byte != 0);
            offset += length as u64;
        }
        assert!(extent.zero || data, "zeros are stored as data at {}", extent.range.offset);
    }
    assert_eq!(at, model.size);
}

/// The file holds what the model holds, with holes where nothing was written.
pub fn assert_file_equals(model: &Model, path: &Path, block: u64) {
    let file = File::open(path).unwrap();
    let metadata = file.metadata().unwrap();
    assert_eq!(metadata.len(), model.size);
    let numbers: std::collections::BTreeSet<_> =
        model.pages.keys().map(|number| number * PAGE / block).collect();
    for number in &numbers {
        let offset = number * block;
        let length = usize::try_from(block.min(model.size - offset)).unwrap();
        let mut bytes = vec![1; length];
        file.read_exact_at(&mut bytes, offset).unwrap();
        assert!(bytes == model.expected(offset, length), "the file differs at {offset}");
    }
    assert!(
        metadata.blocks() * 512 <= numbers.len() as u64 * block + (1 << 20),
        "the file takes {} bytes for {} blocks: its holes are gone",
        metadata.blocks() * 512,
        numbers.len()
    );
}

/// A random number generator with a seed to print.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit.max(1)
    }
}

/// Writes at random, near the places where segments, groups and the volume end.
fn change(random: &mut Random, model: &mut Model) -> Vec<ByteRange> {
    let mut changed = Vec::new();
    for _ in 0..=random.below(6) {
        let near = [0, 64 << 20, 128 << 20, GROUP - (64 << 20), GROUP, model.size];
        let place = near[usize::try_from(random.below(6)).unwrap()] + random.below(3 << 20);
        let offset = place.saturating_sub(random.below(3 << 20)).min(model.size - 1) / PAGE * PAGE;
        let length = (random.below(500_000) + 1).div_ceil(PAGE) * PAGE;
        let length = usize::try_from(length.min(model.size - offset)).unwrap();
        let bytes = match random.below(3) {
            0 => vec![0; length],
            1 => noise(7, length),
            _ => noise(random.below(u64::MAX), length),
        };
        changed.push(model.write(offset, &bytes));
    }
    changed
}

/// What a bitmap of this granularity would tell.
fn granules(changed: &[ByteRange], granule: u64) -> Vec<ByteRange> {
    let grown = |range: &ByteRange| ByteRange {
        offset: range.offset / granule * granule,
        length: range.end().div_ceil(granule) * granule - range.offset / granule * granule,
    };
    changed.iter().map(grown).collect()
}

fn story(seed: u64) {
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let sandbox = Sandbox::new();
    let repository = sandbox.init();
    let sizes = [GROUP + (70 << 20), GROUP + 12345, (130 << 20) + 1, 64 << 20, 70_000];
    let mut model = Model::of_size(sizes[usize::try_from(random.below(3)).unwrap()]);
    change(&mut random, &mut model);
    let mut last = back_up(&repository, None, None, &model).unwrap().0.id;
    assert_equal(&model, &open(&repository, last));
    model = model.clone();
    for step in 0..8 {
        let before = model.clone();
        let old_size = model.size;
        let mut changed = Vec::new();
        if random.below(3) == 0 {
            model.set_size(sizes[usize::try_from(random.below(5)).unwrap()]);
        }
        if random.below(8) > 0 {
            changed.extend(change(&mut random, &mut model));
        }
        let granule = [512, PAGE, 65_536, 1 << 20][usize::try_from(random.below(4)).unwrap()];
        let listed = granules(&changed, granule);
        let with_list = random.below(3) > 0;
        let increment = with_list.then(|| ChangedBlocks { base: last, ranges: listed.clone() });
        if with_list {
            // Granules may touch, and then are read in one go.
            let mut allowed = listed.clone();
            allowed.sort();
            allowed.dedup_by(|next, last| {
                let joined = next.offset <= last.end();
                last.length =
                    if joined { last.end().max(next.end()) - last.offset } else { last.length };
                joined
            });
            // A block of which the end of the volume cuts off a part is looked at anew.
            let edge = old_size.min(model.size).saturating_sub(1 << 20);
            allowed.push(ByteRange { offset: edge, length: u64::MAX / 2 });
            model.allowed = Some(allowed).filter(|_| old_size == model.size || edge > 0);
        }
        let (committed, stats) = back_up(&repository, Some(last), increment, &model).unwrap();
        assert_eq!(stats.size, model.size);
        assert_eq!(stats.bytes_read, model.read.load(Ordering::Relaxed));
        if with_list && old_size == model.size {
            let asked: u64 = listed.iter().map(|range| range.length).sum();
            assert!(stats.bytes_read <= asked, "step {step}: {} of {asked}", stats.bytes_read);
        }
        let (now, then) = (open(&repository, committed.id), open(&repository, last));
        assert_equal(&model, &now);
        assert_equal(&before, &then);
        let difference = now.changes_since(&then).unwrap();
        let is_told = |at: u64| difference.iter().any(|r| r.offset <= at && at < r.end());
        for range in &changed {
            for page in (range.offset / PAGE)..(range.end().min(model.size)).div_ceil(PAGE) {
                let at = page * PAGE;
                let length = usize::try_from(PAGE.min(model.size - at)).unwrap();
                let differs =
                    at >= old_size || model.expected(at, length) != before.expected(at, length);
                assert!(!differs || is_told(at), "step {step}: the change at {at} is not told");
            }
        }
        last = committed.id;
        model = model.clone();
    }
    let (stored, path) = (open(&repository, last), sandbox.path("restored"));
    let target = RawTarget::create(&path, stored.size()).unwrap();
    let outcome = stored.restore(&target, &VolumeRestoreOptions::default()).unwrap();
    assert!(outcome.is_whole());
    assert_eq!(outcome.bytes_written + outcome.bytes_zero, model.size);
    assert_file_equals(&model, &path, u64::from(stored.block_size()));
    // Its lock would keep restic out.
    drop(stored);
    sandbox.assert_clean();
}

#[test]
fn increments_hold_what_a_plain_copy_holds() {
    let first = std::env::var("PROVAULT_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = first.unwrap_or_else(|| u64::from(std::process::id()));
    for seed in first..first + 3 {
        story(seed);
    }
}

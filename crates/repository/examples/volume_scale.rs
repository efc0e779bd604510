//! Measures volumes from 10 GiB to 1 TiB: what increments by a list of changed blocks cost, and
//! how long reads of 4 KiB take. Prints Markdown tables.
//!
//! `cargo run --release -p provault-repository --example volume_scale -- DIRECTORY`
//!
//! DIRECTORY needs about 4 GiB. The volumes are fully mapped: every segment has a list of blocks
//! of its own, as if all blocks were distinct. The blocks themselves repeat after 1 GiB, so that
//! the data fit on a small disk.

// Numbers for people, with few digits.
#![allow(clippy::cast_precision_loss)]

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use provault_repository::{
    BackupOptions, ByteRange, ChangedBlocks, ObjectStorage, Options, Password, Repository,
    SnapshotId, VolumeOptions, VolumeReader, VolumeSource,
};

const GIB: u64 = 1 << 30;
const SEGMENT: u64 = 64 << 20;
const PERIOD: u64 = GIB;
/// Changed granules of each increment.
const GRANULES: u64 = 4096;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A stream of numbers from a seed.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// 4 KiB of a volume: the first quarter is noise, the rest repeats it.
fn page(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let noise: Vec<u8> = (0..128).flat_map(|_| next(&mut state).to_le_bytes()).collect();
    noise.repeat(4)
}

/// Which of the distinct blocks stands at a place: another order in each segment.
fn pattern(block: u64, block_size: u64) -> u64 {
    let (per, period) = (SEGMENT / block_size, PERIOD / block_size);
    let (segment, place) = (block / per, block % per);
    (segment * 257 + place * (1 + 2 * (segment / period))) % period
}

/// A periodic volume in which some granules were overwritten.
struct Changed {
    size: u64,
    block_size: u64,
    granules: Vec<ByteRange>,
    version: u64,
    read: AtomicU64,
}

impl VolumeSource for Changed {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        for (number, place) in (offset / 4096..).zip(buffer.chunks_mut(4096)) {
            let at = number * 4096;
            let next = self.granules.partition_point(|range| range.end() <= at);
            let changed = self.granules.get(next).is_some_and(|range| range.offset <= at);
            let seed = if changed {
                self.version << 48 | number
            } else {
                let block = pattern(at / self.block_size, self.block_size);
                block * (self.block_size / 4096) + at % self.block_size / 4096
            };
            place.copy_from_slice(&page(seed)[..place.len()]);
        }
        Ok(())
    }
}

/// Sorted granules: in runs of `run`, at random places.
fn granules(size: u64, granule: u64, run: u64, seed: u64) -> Vec<ByteRange> {
    let mut state = seed;
    let mut ranges = Vec::new();
    for _ in 0..GRANULES / run {
        let offset = next(&mut state) % (size / granule / run) * granule * run;
        ranges.push(ByteRange { offset, length: granule * run });
    }
    ranges.sort();
    ranges.dedup();
    ranges
}

fn options(parent: Option<SnapshotId>) -> BackupOptions {
    BackupOptions { parent, time: jiff::Timestamp::now(), ..BackupOptions::default() }
}

/// Seconds of CPU time of this process so far, to a hundredth.
fn cpu() -> Outcome<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = behind.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

/// The peak of memory since the last call, in MB.
fn peak() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    let kib: u64 = line.split_whitespace().nth(1).unwrap_or("0").parse()?;
    std::fs::write("/proc/self/clear_refs", "5")?;
    Ok(kib / 1024)
}

fn directory_size(path: &Path) -> Outcome<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        total += if meta.is_dir() { directory_size(&entry.path())? } else { meta.len() };
    }
    Ok(total)
}

struct Base {
    repository: Repository,
    id: SnapshotId,
    path: PathBuf,
}

fn base(directory: &Path, size: u64, block_size: u64) -> Outcome<Base> {
    let path = directory.join(format!("{}-{}", size / GIB, block_size / 1024));
    let storage = Arc::new(ObjectStorage::local(&path)?);
    let repository = Repository::init(storage, &Password::generate(), Options::default())?;
    let pages = block_size / 4096;
    let block = |number: usize| -> Vec<u8> {
        let first = number as u64 * pages;
        (first..first + pages).flat_map(page).collect()
    };
    let count = usize::try_from(PERIOD / block_size)?;
    let mut writer = repository.backup(options(None))?;
    writer.add_periodic_volume(b"disk", size, (count, &block), &|block| {
        usize::try_from(pattern(block, block_size)).unwrap_or(0)
    })?;
    let id = writer.finish(None)?.id;
    Ok(Base { repository, id, path })
}

/// One increment; returns its snapshot.
fn increment(
    base: &Base,
    size: u64,
    block_size: u64,
    granule: u64,
    run: u64,
) -> Outcome<SnapshotId> {
    let granules = granules(size, granule, run, size ^ run);
    let asked: u64 = granules.iter().map(|range| range.length).sum();
    let source = Changed {
        size,
        block_size,
        granules: granules.clone(),
        version: run,
        read: AtomicU64::new(0),
    };
    let changed = ChangedBlocks { base: base.id, ranges: granules };
    let volume = VolumeOptions {
        name: b"disk".to_vec(),
        changed: Some(changed),
        ..VolumeOptions::default()
    };
    let before = directory_size(&base.path)?;
    peak()?;
    let (clock, work) = (Instant::now(), cpu()?);
    let (committed, stats) =
        base.repository.backup_volume(options(Some(base.id)), volume, &source, None)?;
    let (wall, work, memory) = (clock.elapsed().as_secs_f64(), cpu()? - work, peak()?);
    let stored = directory_size(&base.path)? - before;
    println!(
        "| {} GiB | {} KiB | {} × {} KiB{} | {:.3} | {:.2} | {:.1} MB | {} | {:.2} | {:.2} | {} MB |",
        size / GIB,
        block_size / 1024,
        asked / granule,
        granule / 1024,
        if run > 1 { format!(", runs of {run}") } else { ", scattered".to_owned() },
        source.read.load(Ordering::Relaxed) as f64 / asked as f64,
        stored as f64 / asked as f64,
        stats.list_bytes_stored as f64 / 1e6,
        stats.segments_visited,
        work,
        wall,
        memory,
    );
    Ok(committed.id)
}

fn reads(base: &Base, id: SnapshotId, size: u64, granule: u64, run: u64) -> Outcome<String> {
    let snapshot = base.repository.snapshot(id)?;
    let began = Instant::now();
    let volume =
        VolumeReader::open(Arc::new(base.repository.reader()?), &snapshot, b"disk.volume")?;
    let mut bytes = vec![0; 4096];
    volume.read_at(size / 3 / 4096 * 4096, &mut bytes)?;
    let first = began.elapsed();
    let source = Changed {
        size,
        block_size: u64::from(volume.block_size()),
        granules: granules(size, granule, run, size ^ run),
        version: run,
        read: AtomicU64::new(0),
    };
    let (mut state, mut times) = (size, Vec::new());
    let mut expected = vec![0; 4096];
    for _ in 0..5000 {
        let offset = next(&mut state) % (size / 4096) * 4096;
        let began = Instant::now();
        volume.read_at(offset, &mut bytes)?;
        times.push(began.elapsed());
        source.read_at(offset, &mut expected)?;
        if bytes != expected {
            return Err(format!("wrong bytes at {offset}").into());
        }
    }
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(format!(
        "| {} GiB | {:.1} ms | {:.2} ms | {:.2} ms | {:.2} ms | {} MB |",
        size / GIB,
        ms(first),
        ms(times[2500]),
        ms(times[4950]),
        ms(times[4999]),
        peak()?,
    ))
}

fn main() -> Outcome<()> {
    let directory = std::env::args().nth(1).ok_or("a directory to work in, please")?;
    let directory = Path::new(&directory);
    let head = "| volume | block | changed | read / changed | stored / changed | of it lists | segments | CPU s | wall s | peak |\n|---|---|---|---|---|---|---|---|---|---|";
    println!("{head}");
    let mut lines = Vec::new();
    for size in [10 * GIB, 100 * GIB, 1024 * GIB] {
        let base = base(directory, size, 256 << 10)?;
        for (granule, run) in [(65_536, 512), (65_536, 1), (4096, 1)] {
            let id = increment(&base, size, 256 << 10, granule, run)?;
            if granule == 4096 {
                peak()?;
                lines.push(reads(&base, id, size, granule, run)?);
            }
        }
        std::fs::remove_dir_all(&base.path)?;
    }
    println!("\n| volume | first | median | p99 | max | peak |\n|---|---|---|---|---|---|");
    println!("{}", lines.join("\n"));
    println!("\n{head}");
    for block_size in [64, 128, 256, 512, 1024].map(|kib| kib * 1024) {
        let base = base(directory, 10 * GIB, block_size)?;
        for granule in [4096, 65_536] {
            increment(&base, 10 * GIB, block_size, granule, 1)?;
        }
        std::fs::remove_dir_all(&base.path)?;
    }
    Ok(())
}

//! Changes to the blocks of one large file, in place, and the way back.
//!
//! Only blocks that hold data are changed, never holes. What is overwritten goes to the end of
//! `undo/blocks` first, as records of an offset and a block; the way back reads them from the last to the first.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::corpus::{Change, Step};
use super::edits::replaced;
use super::random::Random;

/// What is changed at a time: a block of most file systems.
const BLOCK: u64 = 4096;
/// A record of the undo log: the offset, then the block.
const RECORD: u64 = 8 + BLOCK;
/// Blocks of a run where changes come together: 4 MiB.
const CLUSTER: u64 = 1024;
/// Blocks of a run where a tenth of everything is replaced: 256 KiB.
const REPLACED_RUN: u64 = 64;
/// Single blocks that a scattered step changes: a hundred-thousandth of 4 GiB is 10 blocks, so
/// 1,024 blocks are 0.1 % of it, and hit a quarter of all its mebibytes.
const SCATTERED_OF_4_GIB: u64 = 1024;

/// An odd increment changes 1 % of the data in runs of 4 MiB, an even one 0.1 % (of 4 GiB: 1,024
/// blocks) as single blocks at random places.
pub fn change(path: &Path, undo: &Path, step: Step) -> Result<Change, String> {
    let failed = |e| format!("cannot change {}: {e}", path.display());
    let file = File::options().read(true).write(true).open(path).map_err(failed)?;
    keep_time(&file, undo)?;
    let data = data_blocks(&file)?;
    let count = data.len() as u64;
    let (seed, run, wanted) = match step {
        Step::Increment(n) if n % 2 == 1 => {
            (u64::from(n), CLUSTER.min(count / 100).max(1), count / 100)
        }
        Step::Increment(n) => {
            let length = file.metadata().map_err(failed)?.len();
            let all = SCATTERED_OF_4_GIB * length / (4 << 30);
            (u64::from(n), 1, all.max(1))
        }
        Step::ReplaceTenth => (999, REPLACED_RUN.min(count / 10).max(1), count / 10),
    };
    let mut random = Random::of(3, &seed.to_string());
    let mut chosen = BTreeSet::new();
    // The last run is cut short where there are enough.
    while (chosen.len() as u64) < wanted.min(count) {
        let start = random.below(count);
        for at in start..(start + run).min(count) {
            if (chosen.len() as u64) < wanted {
                chosen.insert(data[usize::try_from(at).unwrap_or_default()]);
            }
        }
    }
    let log = undo.join("blocks");
    let mut log = File::options().create(true).append(true).open(log).map_err(failed)?;
    let mut block = vec![0; usize::try_from(BLOCK).unwrap_or_default()];
    for &number in &chosen {
        let offset = number * BLOCK;
        file.read_exact_at(&mut block, offset).map_err(failed)?;
        log.write_all(&[&offset.to_le_bytes()[..], &block].concat()).map_err(failed)?;
        file.write_all_at(&replaced(&block, &mut random), offset).map_err(failed)?;
    }
    Ok(Change { files: 1, bytes: chosen.len() as u64 * BLOCK })
}

/// Gives the file the time of now.
pub fn touch(path: &Path, undo: &Path) -> Result<(), String> {
    let failed = |e| format!("cannot touch {}: {e}", path.display());
    let file = File::options().write(true).open(path).map_err(failed)?;
    keep_time(&file, undo)?;
    // xtask measures; the wall clock is what a device's time would be.
    file.set_modified(SystemTime::now()).map_err(failed)
}

/// Puts every block back, and the file's time.
pub fn reset(path: &Path, undo: &Path) -> Result<(), String> {
    if !undo.exists() {
        return Ok(());
    }
    let failed = |e| format!("cannot put {} back: {e}", path.display());
    let file = File::options().write(true).open(path).map_err(failed)?;
    if let Ok(mut log) = File::open(undo.join("blocks")) {
        // A record cut off at the end was not followed by its change.
        let records = log.metadata().map_err(failed)?.len() / RECORD;
        let mut record = vec![0; usize::try_from(RECORD).unwrap_or_default()];
        for number in (0..records).rev() {
            log.seek(SeekFrom::Start(number * RECORD)).map_err(failed)?;
            log.read_exact(&mut record).map_err(failed)?;
            let (offset, block) = record.split_at(8);
            let offset = u64::from_le_bytes(offset.try_into().unwrap_or_default());
            file.write_all_at(block, offset).map_err(failed)?;
        }
    }
    let time = fs::read_to_string(undo.join("time")).map_err(failed)?;
    let (seconds, nanoseconds) = time.split_once(' ').unwrap_or_default();
    let time = Duration::new(
        seconds.parse().map_err(|e| format!("{}: {e}", undo.display()))?,
        nanoseconds.parse().map_err(|e| format!("{}: {e}", undo.display()))?,
    );
    file.set_modified(SystemTime::UNIX_EPOCH + time).map_err(failed)?;
    super::corpus::discard(undo)
}

/// Remembers the time of modification, once.
fn keep_time(file: &File, undo: &Path) -> Result<(), String> {
    let failed = |e| format!("cannot write {}: {e}", undo.display());
    let kept = undo.join("time");
    if kept.exists() {
        return Ok(());
    }
    fs::create_dir_all(undo).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let seconds = u64::try_from(metadata.mtime()).unwrap_or_default();
    let text = format!("{seconds} {}", metadata.mtime_nsec());
    // Whole or absent: `reset` needs it.
    let fresh = undo.join("time.new");
    fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &kept)).map_err(failed)
}

/// The numbers of all whole blocks that hold data.
fn data_blocks(file: &File) -> Result<Vec<u64>, String> {
    let failed = |e: Errno| format!("cannot list the holes: {e}");
    let mut blocks = Vec::new();
    let mut at = 0;
    loop {
        let start = match lseek(file, at, Whence::SeekData) {
            Ok(start) => start,
            Err(Errno::ENXIO) => return Ok(blocks),
            Err(error) => return Err(failed(error)),
        };
        at = lseek(file, start, Whence::SeekHole).map_err(failed)?;
        let first = u64::try_from(start).unwrap_or_default().div_ceil(BLOCK);
        blocks.extend(first..u64::try_from(at).unwrap_or_default() / BLOCK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of 4 MiB: data, a hole, data.
    fn sample(directory: &Path) -> std::path::PathBuf {
        let path = directory.join("image");
        let file = File::create(&path).unwrap();
        let mut bytes = vec![0; 1 << 20];
        Random::new(9).fill(&mut bytes);
        file.write_all_at(&bytes, 0).unwrap();
        file.write_all_at(&bytes, 3 << 20).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 7)).unwrap();
        path
    }

    #[test]
    fn changed_blocks_come_back_and_holes_stay() {
        let directory = super::super::smoke::scratch("blocks");
        let (path, undo) = (sample(&directory), directory.join("undo"));
        let before = fs::read(&path).unwrap();
        let allocated = fs::metadata(&path).unwrap().blocks();
        touch(&path, &undo).unwrap();
        let mut state = before.clone();
        for step in [Step::Increment(1), Step::Increment(2), Step::ReplaceTenth] {
            let change = change(&path, &undo, step).unwrap();
            let now = fs::read(&path).unwrap();
            let blocks = |bytes: &[u8]| bytes.chunks(4096).map(<[u8]>::to_vec).collect::<Vec<_>>();
            let differ = blocks(&state).iter().zip(&blocks(&now)).filter(|(a, b)| a != b).count();
            assert_eq!(differ as u64 * BLOCK, change.bytes, "{step:?}");
            assert!(change.bytes > 0, "{step:?}");
            state = now;
        }
        assert_eq!(fs::metadata(&path).unwrap().blocks(), allocated);
        reset(&path, &undo).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_600_000_000, 7));
        assert!(!undo.exists());
        // The same step on the same state gives the same bytes.
        change(&path, &undo, Step::Increment(1)).unwrap();
        let first = fs::read(&path).unwrap();
        reset(&path, &undo).unwrap();
        change(&path, &undo, Step::Increment(1)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
        fs::remove_dir_all(&directory).unwrap();
    }
}

//! Changes to a tree of files, in place, and the way back.
//!
//! Before a file is overwritten, its bytes go into `undo/N` and a line into `undo/journal`; the way back reads
//! the journal and removes it last, so it can be gone any number of times.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::corpus::{Change, Step};
use super::random::Random;

/// A line of the journal: a file as it was at first.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// Relative to the tree.
    path: PathBuf,
    /// The name of the copy in `undo`.
    copy: u64,
    /// Its time of modification, seconds and nanoseconds since 1970.
    seconds: u64,
    nanoseconds: u32,
}

/// Edits one file in a hundred, or replaces one in ten. Which ones, and how, follows from their
/// paths and the step. New times are the clock's.
pub fn change(tree: &Path, undo: &Path, step: Step) -> Result<Change, String> {
    fs::create_dir_all(undo).map_err(|e| format!("cannot make {}: {e}", undo.display()))?;
    let journal = undo.join("journal");
    let known: Vec<Saved> = read(&journal)?;
    let mut next = known.len() as u64;
    let known: std::collections::BTreeSet<PathBuf> =
        known.into_iter().map(|saved| saved.path).collect();
    let mut out = File::options().create(true).append(true).open(&journal);
    let out = out.as_mut().map_err(|e| format!("cannot open {}: {e}", journal.display()))?;
    let (seed, share) = match step {
        Step::Increment(number) => (1000 + u64::from(number), 10),
        Step::ReplaceTenth => (999, 100),
    };
    let mut change = Change::default();
    for path in files(tree)? {
        let mut random = Random::of(seed, &path.to_string_lossy());
        if random.below(1000) >= share {
            continue;
        }
        let full = tree.join(&path);
        let failed = |e| format!("cannot edit {}: {e}", full.display());
        if !known.contains(&path) {
            save(tree, undo, &path, next, out)?;
            next += 1;
        }
        let old = fs::read(&full).map_err(failed)?;
        let new = match step {
            Step::Increment(_) => {
                let at = usize::try_from(random.below(old.len() as u64 + 1)).unwrap_or_default();
                let line = format!("/* {:016x}{:016x} */\n", random.next(), random.next());
                change.bytes += line.len() as u64;
                [&old[..at], line.as_bytes(), &old[at..]].concat()
            }
            Step::ReplaceTenth => {
                change.bytes += old.len() as u64;
                replaced(&old, &mut random)
            }
        };
        change.files += 1;
        // In place: the same inode, as an editor that writes through or a log has it.
        let mut file = File::options().write(true).truncate(true).open(&full).map_err(failed)?;
        file.write_all(&new).map_err(failed)?;
    }
    Ok(change)
}

/// Other bytes that shrink about as well: the old ones backwards, with a few random ones every
/// 4 KiB so that no two states are the same.
pub fn replaced(old: &[u8], random: &mut Random) -> Vec<u8> {
    let mut new: Vec<u8> = old.iter().rev().copied().collect();
    for block in new.chunks_mut(4096) {
        let mark = block.len().min(16);
        random.fill(&mut block[..mark]);
    }
    new
}

/// Puts every file back.
pub fn reset(tree: &Path, undo: &Path) -> Result<(), String> {
    let journal = undo.join("journal");
    for saved in read(&journal)? {
        let full = tree.join(&saved.path);
        let failed = |e| format!("cannot put {} back: {e}", full.display());
        let old = fs::read(undo.join(saved.copy.to_string())).map_err(failed)?;
        let mut file = File::options().write(true).truncate(true).open(&full).map_err(failed)?;
        file.write_all(&old).map_err(failed)?;
        let time = SystemTime::UNIX_EPOCH + Duration::new(saved.seconds, saved.nanoseconds);
        file.set_modified(time).map_err(failed)?;
    }
    super::corpus::discard(undo)
}

fn save(tree: &Path, undo: &Path, path: &Path, copy: u64, out: &mut File) -> Result<(), String> {
    let full = tree.join(path);
    let failed = |e| format!("cannot keep {}: {e}", full.display());
    let metadata = fs::metadata(&full).map_err(failed)?;
    fs::copy(&full, undo.join(copy.to_string())).map_err(failed)?;
    let saved = Saved {
        path: path.to_owned(),
        copy,
        seconds: u64::try_from(metadata.mtime()).unwrap_or_default(),
        nanoseconds: u32::try_from(metadata.mtime_nsec()).unwrap_or_default(),
    };
    let line = serde_json::to_string(&saved).map_err(|e| format!("{}: {e}", path.display()))?;
    writeln!(out, "{line}").map_err(failed)
}

fn read(journal: &Path) -> Result<Vec<Saved>, String> {
    let text = match fs::read_to_string(journal) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", journal.display())),
    };
    // A last line without an end was cut off before its file was touched.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| {
            serde_json::from_str(line).map_err(|e| format!("{} is damaged: {e}", journal.display()))
        })
        .collect()
}

/// The regular files of one name below a directory, relative to it, in order.
pub fn files(tree: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        let full = tree.join(&directory);
        let failed = |e| format!("cannot read {}: {e}", full.display());
        for entry in fs::read_dir(&full).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let metadata = entry.metadata().map_err(failed)?;
            let path = directory.join(entry.file_name());
            if metadata.is_dir() {
                open.push(path);
            } else if metadata.is_file() && metadata.nlink() == 1 {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

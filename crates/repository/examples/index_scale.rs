//! How large the index is in memory: run by `cargo xtask bench --corpus index`.
//!
//! `index_scale fill DIRECTORY BLOBS` makes a repository with so many blobs in its index (and nowhere else);
//! `index_scale open DIRECTORY ANSWER` opens it and writes what that took, as JSON.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use provault_repository::bench_support::{fill_index, ids, load_index, look_up};
use provault_repository::{ObjectStorage, Options, Password, Repository};

/// How many blobs are looked up, where there are so many.
const LOOKUPS: u32 = 1_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["fill", directory, blobs] => fill(Path::new(directory), blobs.parse()?),
        ["open", directory, answer] => open(Path::new(directory), Path::new(answer)),
        _ => Err("fill DIRECTORY BLOBS | open DIRECTORY ANSWER".into()),
    }
}

fn password() -> Password {
    Password::from_text("only for measuring")
}

fn fill(directory: &Path, blobs: u64) -> Result<(), Box<dyn Error>> {
    let storage = Arc::new(ObjectStorage::local(directory)?);
    let repository = Repository::init(storage, &password(), Options::default())?;
    Ok(fill_index(&repository, blobs)?)
}

fn open(directory: &Path, answer: &Path) -> Result<(), Box<dyn Error>> {
    let storage = Arc::new(ObjectStorage::local(directory)?);
    let repository = Repository::open(storage, &password(), Options::default())?;
    let before = resident()?;
    let began = Instant::now();
    let blobs = load_index(&repository)?;
    let load_seconds = began.elapsed().as_secs_f64();
    let after = resident()?;
    let lookups = u32::try_from(blobs).unwrap_or(u32::MAX).min(LOOKUPS);
    let rate = |first: u64, all_there: bool| {
        let wanted = ids(first, lookups.into());
        let began = Instant::now();
        let found = look_up(&repository, &wanted);
        let seconds = began.elapsed().as_secs_f64();
        let expected = if all_there { wanted.len() } else { 0 };
        if found == expected {
            Ok(f64::from(lookups) / seconds)
        } else {
            Err(format!("{found} of {lookups} blobs were found, not {expected}"))
        }
    };
    let hits = rate(blobs - u64::from(lookups), true)?;
    let misses = rate(blobs, false)?;
    let text = serde_json::json!({
        "blobs": blobs,
        "resident_before": before,
        "resident_after": after,
        "load_seconds": load_seconds,
        "hits_per_second": hits,
        "misses_per_second": misses,
    });
    Ok(std::fs::write(answer, text.to_string())?)
}

/// Bytes of this process in memory.
fn resident() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("no VmRSS in /proc/self/status")?.parse::<u64>()? * 1024)
}

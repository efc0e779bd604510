//! What lies in a local directory: which files are objects, and which are left of writes that were
//! interrupted.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use super::StoredObject;
use super::deadline::gets_on;

/// Begins the name of a file that is being written.
const NEW: &str = ".provault-new-";

/// A name for a file that is being written: it is never listed, and reaped if it stays.
pub(super) fn new_name() -> String {
    format!("{NEW}{:016x}", rand::random::<u64>())
}

/// Makes the client of a network file system forget what it believes to lie in a directory. It may
/// list from memory for a minute, but not after a change of its own. Where that is not possible, a
/// listing is as fresh as the client has it.
pub(super) fn freshen(directory: &Path) {
    let path = directory.join(new_name());
    gets_on();
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    match made {
        Ok(_) => {
            gets_on();
            // One that stays is reaped.
            let _ = std::fs::remove_file(path);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::debug!(%error, "a listing may be an old one"),
    }
}

/// Names that begin with a dot are nobody's objects, and neither are staged files.
fn is_listed(name: &str) -> bool {
    !name.starts_with('.') && !name.contains('#')
}

/// Whether a file is an interrupted write: ours, or one of an earlier version, which wrote
/// `NAME#1` beside its target.
fn is_leftover(name: &str) -> bool {
    if let Some(random) = name.strip_prefix(NEW) {
        return random.len() == 16 && random.bytes().all(|digit| digit.is_ascii_hexdigit());
    }
    name.split_once('#').is_some_and(|(target, number)| {
        (["config", "reserve"].contains(&target)
            || target.len() == 64 && target.bytes().all(|c| c.is_ascii_hexdigit()))
            && !number.is_empty()
            && number.bytes().all(|c| c.is_ascii_digit())
    })
}

/// Everything below a directory. What disappears meanwhile was not there.
pub(super) fn walk(
    directory: &Path,
    name: &str,
    seen: &mut HashSet<(u64, u64)>,
    found: &mut Vec<StoredObject>,
) -> io::Result<()> {
    let meta = directory.metadata()?;
    // A symbolic link to a directory above would lead round and round.
    if !seen.insert((meta.dev(), meta.ino())) {
        return Ok(());
    }
    for entry in directory.read_dir()? {
        gets_on();
        let entry = entry?;
        let file_name = entry.file_name();
        let Some(file_name) = file_name.to_str().filter(|name| is_listed(name)) else {
            continue;
        };
        let name = format!("{name}/{file_name}");
        // Follows links: a part of the repository may lie on another disk.
        let walked = match entry.path().metadata() {
            Ok(meta) if meta.is_dir() => walk(&entry.path(), &name, seen, found),
            Ok(meta) if meta.is_file() => {
                found.push(StoredObject { name, size: meta.len() });
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        match walked {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Removes the leftovers of interrupted writes that are older than a moment, and counts them.
pub(super) fn reap(
    directory: &Path,
    depth: u8,
    before: SystemTime,
    reaped: &mut u64,
) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        gets_on();
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && depth < 2 {
            reap(&entry.path(), depth + 1, before, reaped)?;
        } else if kind.is_file() && entry.file_name().to_str().is_some_and(is_leftover) {
            // A writer may finish meanwhile, then its file is gone: no error. Nothing is synced: a
            // leftover that comes back after a power cut is reaped again.
            let modified = entry.metadata().and_then(|meta| meta.modified());
            let old = modified.is_ok_and(|modified| modified <= before);
            if old && std::fs::remove_file(entry.path()).is_ok() {
                *reaped += 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_interrupted_writes_are_leftovers() {
        let id = "0f".repeat(32);
        for name in [".provault-new-0123456789abcdef", &format!("{id}#1"), "config#23"] {
            assert!(is_leftover(name) && !is_listed(name), "{name}");
        }
        for name in [".provault-new-", ".provault-new-0123456789abcdeX", "notes#1", "config#", &id]
        {
            assert!(!is_leftover(name), "{name}");
        }
    }
}

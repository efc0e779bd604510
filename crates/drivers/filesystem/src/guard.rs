//! What comes out of a repository is not trusted.
//!
//! Whoever can write to a repository, or forge one, must not be able to write outside of the
//! restore's target. So every entry is checked before anything is made of it: its names, that the
//! directory it lies in was listed before it, that it comes in order and once.

use provault_driver::entry::printable;
use provault_driver::{Entry, NodeKind, SourceError};

/// Checks entries in the order they come.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    open: Vec<Level>,
    begun: bool,
}

#[derive(Debug)]
struct Level {
    path: Vec<u8>,
    last: Vec<u8>,
}

fn damaged(entry: &Entry, message: &str) -> SourceError {
    SourceError::Damaged { path: printable(&entry.path), message: message.to_owned() }
}

/// Parent and name of a path; both empty for the root.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

impl Guard {
    /// Passes an entry or says what is wrong with it.
    pub fn check(&mut self, entry: &Entry) -> Result<(), SourceError> {
        let is_dir = entry.kind == NodeKind::Directory;
        if !self.begun {
            if !entry.path.is_empty() || !is_dir {
                return Err(damaged(entry, "the first entry is not the root directory"));
            }
            self.begun = true;
            self.open.push(Level { path: Vec::new(), last: Vec::new() });
            return Ok(());
        }
        let bad = |name: &[u8]| matches!(name, b"" | b"." | b"..") || name.contains(&0);
        if entry.path.split(|b| *b == b'/').any(bad) {
            return Err(damaged(entry, "it is not a path below the root"));
        }
        let (parent, name) = split(&entry.path);
        while self.open.last().is_some_and(|level| level.path != parent) {
            self.open.pop();
        }
        let Some(level) = self.open.last_mut() else {
            return Err(damaged(entry, "the directory it lies in was not listed before it"));
        };
        if level.last.as_slice() >= name {
            return Err(damaged(entry, "it is listed twice or out of order"));
        }
        level.last = name.to_vec();
        if is_dir {
            self.open.push(Level { path: entry.path.clone(), last: Vec::new() });
        }
        match &entry.kind {
            NodeKind::File => {
                let mut bytes = 0_u64;
                for chunk in &entry.chunks {
                    bytes = bytes.saturating_add(chunk.length);
                }
                if bytes != entry.metadata.size {
                    return Err(damaged(entry, "its chunks do not add up to its size"));
                }
            }
            NodeKind::Symlink { target } if target.is_empty() || target.contains(&0) => {
                return Err(damaged(entry, "it is a link to what cannot be a path"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether there was anything at all.
    pub fn finish(&self) -> Result<(), SourceError> {
        if self.begun {
            return Ok(());
        }
        Err(SourceError::Damaged {
            path: "the root directory".to_owned(),
            message: "it is missing".to_owned(),
        })
    }
}

//! What a restore sees of a snapshot: without the server's record, and, where the operator says so,
//! without what is excluded or damaged.

use std::collections::{BTreeSet, HashSet};

use provault_driver::entry::printable;
use provault_driver::{CancelFlag, ContentSink, DriverError, Entry, NodeKind, Source, SourceError};

use super::failure::Failure;
use super::patterns::{Patterns, upwards};
use super::usage;

/// So many files are looked at together.
const BATCH: usize = 256;
/// Each match of a pattern is moved into its place by itself, and kept in memory until then.
const MOST_MATCHES: usize = 100_000;

/// A source over a part of another.
pub(crate) struct Stored {
    source: Box<dyn Source>,
    /// Whether it is the whole snapshot, so that the record lies at its root.
    whole: bool,
    /// What is left out, with all that lies in it.
    exclude: Patterns,
    /// Files that cannot be restored. `None`: damage ends the restore.
    damaged: Option<HashSet<Vec<u8>>>,
}

/// Something that cannot be restored: what, and why.
pub(crate) type Lost = (String, String);

impl Stored {
    pub(crate) fn new(source: Box<dyn Source>, whole: bool, exclude: Patterns) -> Self {
        Self { source, whole, exclude, damaged: None }
    }

    /// What matches the patterns: the paths, without those that lie in another one.
    pub(crate) fn matching(
        &self,
        include: &Patterns,
        cancel: &CancelFlag,
    ) -> Result<BTreeSet<Vec<u8>>, Failure> {
        let mut found = BTreeSet::new();
        for entry in self.entries()? {
            if cancel.is_raised() {
                return Err(Failure::Interrupted);
            }
            let path = match entry {
                Ok(entry) => entry.path,
                // It is met again when it is restored, and told then.
                Err(SourceError::Damaged { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            if include.is_match(&path)
                && !upwards(&path).skip(1).any(|above| include.is_match(above))
            {
                found.insert(path);
                if found.len() > MOST_MATCHES {
                    return Err(usage(format!(
                        "more than {MOST_MATCHES} paths match --include; restore the directory \
                         that holds them, with --exclude for what is not wanted"
                    )));
                }
            }
        }
        Ok(found)
    }

    /// Reads everything once, and from now on leaves out what is damaged. Tells what that is. Only
    /// files that `wanted` lets through are read.
    pub(crate) fn leave_out_damaged(
        &mut self,
        wanted: &dyn Fn(&[u8]) -> bool,
        cancel: &CancelFlag,
    ) -> Result<Vec<Lost>, Failure> {
        let (mut damaged, mut lost) = (HashSet::new(), Vec::new());
        let mut batch = Vec::new();
        let mut look = |batch: &mut Vec<Entry>| -> Result<Vec<Lost>, Failure> {
            let mut found = Vec::new();
            if is_whole(self.source.as_ref(), batch)?.is_some() {
                for file in batch.iter() {
                    if let Some(reason) =
                        is_whole(self.source.as_ref(), std::slice::from_ref(file))?
                    {
                        damaged.insert(file.path.clone());
                        found.push((printable(&file.path), reason));
                    }
                }
            }
            batch.clear();
            Ok(found)
        };
        for entry in self.source.entries()? {
            if cancel.is_raised() {
                return Err(Failure::Interrupted);
            }
            match entry {
                Ok(entry)
                    if entry.kind == NodeKind::File
                        && wanted(&entry.path)
                        && !self.exclude.covers(&entry.path) =>
                {
                    batch.push(entry);
                    if batch.len() >= BATCH {
                        lost.extend(look(&mut batch)?);
                    }
                }
                Ok(_) => {}
                Err(SourceError::Damaged { path, message }) => lost.push((path, message)),
                Err(error) => return Err(error.into()),
            }
        }
        lost.extend(look(&mut batch)?);
        self.damaged = Some(damaged);
        Ok(lost)
    }
}

/// Why not all of these files can be read, if so.
fn is_whole(source: &dyn Source, files: &[Entry]) -> Result<Option<String>, Failure> {
    struct Nowhere;
    impl ContentSink for Nowhere {
        fn write_at(&self, _: usize, _: u64, _: &[u8]) -> Result<(), DriverError> {
            Ok(())
        }
    }
    match source.copy_contents(files, &Nowhere) {
        Ok(()) => Ok(None),
        Err(DriverError::Source(SourceError::Damaged { message, .. })) => Ok(Some(message)),
        Err(error) => Err(error.into()),
    }
}

impl Source for Stored {
    fn entries(
        &self,
    ) -> Result<Box<dyn Iterator<Item = Result<Entry, SourceError>> + '_>, SourceError> {
        let record = provault_repository::RECORD_DIRECTORY;
        let is_record = move |path: &[u8]| {
            path.strip_prefix(record).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        Ok(Box::new(self.source.entries()?.filter(move |entry| match (entry, &self.damaged) {
            (Ok(entry), damaged) => {
                !(self.whole && is_record(&entry.path) || self.exclude.covers(&entry.path))
                    && damaged.as_ref().is_none_or(|damaged| !damaged.contains(&entry.path))
            }
            (Err(SourceError::Damaged { .. }), Some(_)) => false,
            _ => true,
        })))
    }

    fn copy_contents(&self, files: &[Entry], out: &dyn ContentSink) -> Result<(), DriverError> {
        self.source.copy_contents(files, out)
    }
}

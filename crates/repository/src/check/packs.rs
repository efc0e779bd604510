//! What a check does with packs: are they there, are they whole, and which of their blobs are.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{Check, CheckLevel};
use crate::error::{Error, Result};
use crate::id::Id;
use crate::opener::BlobOpener;
use crate::pack_check::read_pack;
use crate::repository::FileKind;

/// A pack that is there: its name, its size, and how many blobs the index has in it.
pub(super) type Pack = (Id, u64, usize);

impl Check<'_> {
    pub(super) fn packs(&mut self, level: CheckLevel) -> Result<()> {
        let stored: HashMap<Id, u64> = self.inner.list(FileKind::Pack)?.into_iter().collect();
        let known = |id: &&Id| self.packs.contains_key(*id);
        self.report.unreferenced_packs =
            (stored.len() - stored.keys().filter(known).count()) as u64;
        let mut expected: Vec<_> =
            self.packs.iter().map(|(id, pack)| (*id, (pack.size, pack.blobs))).collect();
        expected.sort_unstable();
        self.report.pack_bytes = expected.iter().map(|(_, (size, _))| size).sum();
        let mut to_read: Vec<Pack> = Vec::new();
        for (id, (size, blobs)) in expected {
            // The listings of some storages lag behind; what is not in one is asked for by name.
            let found = match stored.get(&id) {
                Some(found) => Some(*found),
                None => match self.inner.storage.size(&FileKind::Pack.name(&id)) {
                    Ok(found) => Some(found),
                    Err(error) if error.is_not_found() => None,
                    Err(error) => return Err(error.into()),
                },
            };
            let wrong = match found {
                None => "the pack file is gone".to_owned(),
                Some(found) if found != size => {
                    format!("the pack file has {found} bytes, its index says {size}")
                }
                Some(_) => {
                    to_read.push((id, size, blobs));
                    continue;
                }
            };
            self.suspect(id, wrong);
        }
        match level {
            CheckLevel::Structure => to_read.clear(),
            CheckLevel::ReadData => {}
            CheckLevel::ReadSubset(subset) => to_read = subset.choose(&to_read),
        }
        for (id, wrong) in self.read_packs(&to_read)? {
            self.suspect(id, wrong);
        }
        Ok(())
    }

    fn suspect(&mut self, pack: Id, reason: String) {
        let name = FileKind::Pack.name(&pack);
        self.problem(&name, Error::damaged(&name, reason));
        self.suspects.insert(pack);
    }

    /// Reads packs to the last byte, on several threads: what is wrong with which, in their order.
    fn read_packs(&mut self, packs: &[Pack]) -> Result<Vec<(Id, String)>> {
        let (next, bytes_read) = (AtomicUsize::new(0), AtomicU64::new(0));
        let total = packs.iter().map(|(_, size, _)| size).sum();
        let this = &*self;
        let work = || -> Result<Vec<(usize, String)>> {
            let (mut opener, mut wrong) = (BlobOpener::new()?, Vec::new());
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((id, size, blobs)) = packs.get(number) else { return Ok(wrong) };
                this.go_on()?;
                match read_pack(this.inner, &this.index, id, *size, *blobs, &mut opener)? {
                    Ok(bytes) => {
                        let before = bytes_read.fetch_add(bytes, Ordering::Relaxed);
                        if let Some(progress) = this.progress {
                            progress(before + bytes, total);
                        }
                    }
                    Err(reason) => wrong.push((number, reason)),
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(packs.len().max(1));
        let mut wrong = std::thread::scope(|scope| -> Result<Vec<(usize, String)>> {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut wrong = work()?;
            for other in others {
                let died = |_| Error::Internal("a thread that checks died".to_owned());
                wrong.extend(other.join().map_err(died)??);
            }
            Ok(wrong)
        })?;
        self.report.bytes_read += bytes_read.into_inner();
        self.report.packs_read += packs.len() as u64;
        self.report.read.extend(packs.iter().map(|(id, ..)| *id));
        wrong.sort_unstable();
        Ok(wrong.into_iter().map(|(number, reason)| (packs[number].0, reason)).collect())
    }

    /// Tries each blob of the packs with something wrong: some may be whole, or lie elsewhere too.
    pub(super) fn suspects(&mut self) -> Result<()> {
        if self.suspects.is_empty() {
            return Ok(());
        }
        let blobs = self.index.blobs_in(&self.suspects);
        for (kind, id) in blobs {
            self.go_on()?;
            match self.load_blob(kind, &id) {
                Err(error) if error.is_outage() => return Err(error),
                Err(error) if self.unreadable.insert((kind, id)) => {
                    self.problem(format!("{kind} blob {id}"), error);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
